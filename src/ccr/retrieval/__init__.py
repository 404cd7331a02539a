"""From embeddings to numbers: ranks, metrics and fusion.

Used by train (validation), evaluate and tables. `ranks` and `fusion` need torch; `metrics` and `significance`
are numpy alone.
"""
