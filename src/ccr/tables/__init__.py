"""Stage tables: the evaluations named by a table -> `results/{table}.csv`, .json, .md, .tex and figures.

`retrieval_table`, `alignment_table` and `translation_table` are its three kinds. `columns` defines what a retrieval
table shows, `rows` reads its files, `comparison` is the paired test; each `as_*` module writes one format.
"""
