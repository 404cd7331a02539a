"""From embeddings to numbers: embed, ranks, metrics and fusion. Used by train (validation), evaluate and tables.

Only `metrics` needs no torch.
"""
