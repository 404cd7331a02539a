"""A student for other programs: `ccr export onnx` and `ccr export sentence-transformers` (docs/export.md).

`towers` are the two sides of a network as plain modules over padded batches, `onnx` and `sentence_transformers` write
the folders, `card` the model card, `ccr_student.py` is what sentence-transformers runs of it.
"""
