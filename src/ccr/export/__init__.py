"""A student for other programs: `ccr export onnx`, `sentence-transformers` and `mteb` (docs/export.md).

`towers` are the two sides of a network as plain modules over padded batches; `onnx`, `sentence_transformers` and `mteb`
write the folders, `card` the model card; `ccr_student.py` is what sentence-transformers runs of it, `mteb_student` what
MTEB does.
"""
