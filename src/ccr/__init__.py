"""ccr: a reproducible pipeline for cross-lingual cross-modal retrieval. In a notebook: `ccr.load(RUN).embed([...])`."""

from importlib import import_module


def __getattr__(name: str) -> object:
    """`load` and `Run`, imported on first use because they import torch."""
    if name in ("load", "Run"):
        return getattr(import_module("ccr.loading"), name)
    raise AttributeError(f"module 'ccr' has no attribute {name!r}")
