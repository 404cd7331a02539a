"""Stage tables: the evaluations that a table names become `results/{table}.csv`, .json, .md, .tex and figures.

`retrieval_table`, `alignment_table` and `translation_table` are its three kinds. `columns` says what a table of
retrieval shows, `rows` reads its files, `comparison` is the paired test; each `as_*` module writes one format.
"""
