"""Providers of what objectives need beside embeddings; the registry's `NEEDS` names them."""
