"""The report of a table: one self-contained page (`ccr report TABLE`, docs/tables.md).

`made` checks that the table is there, `page` writes the report; `examples` shows what the runs retrieve, `breakdowns`
recall by kinds of captions, `origin` where the numbers come from, `costs` what they took; `drawings` has the report's
own figures, the common space among them.
"""
