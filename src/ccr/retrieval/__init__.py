"""From embeddings to numbers: ranks, metrics, fusion and the paired test.

Used by train (validation), evaluate and tables. `ranks` and `fusion` need torch; `metrics` and `significance`
are numpy alone.
"""
