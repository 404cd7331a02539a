"""Stage captions: a raw data set in its publisher's format -> captions.parquet and items.parquet.

`dataset` imports a data set through its importer, `parallel` imports sentence pairs without pictures.
"""
