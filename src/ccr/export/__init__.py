"""Export of a student to other programs: `ccr export onnx`, `sentence-transformers` and `mteb` (docs/export.md).

`towers` are the two sides of a network as plain modules over padded batches; `onnx`, `sentence_transformers` and `mteb`
write the folders, `card` the model card; sentence-transformers runs `ccr_student.py`, MTEB `mteb_student`.
"""
