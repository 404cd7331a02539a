"""ccr: a reproducible pipeline for cross-lingual cross-modal retrieval."""
