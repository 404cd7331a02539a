"""Providers of what objectives need in addition to embeddings; the registry's `NEEDS` names them."""
