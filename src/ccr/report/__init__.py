"""The report of a table: one page, to be opened anywhere (`ccr report TABLE`, docs/tables.md).

`page` writes it; `examples` are what the runs retrieve, `breakdowns` recall by kinds of captions, `space` the common
space, `origin` where the numbers come from; `drawings` the figures that are the report's own.
"""
