"""Feature and embedding files: write, check, read, memory-map. Needs only numpy and pyarrow.

For example:

    write_features("data/vatex/features/i3d.parquet", rows, metadata=..., key=...)
    store = open_features("data/vatex/features/i3d.parquet")
    features, lengths = store.rows(store.index(["video3", "video7"]))
"""

from ccr.store.embeddings import read_embeddings, write_embeddings
from ccr.store.features import FeatureStore, damaged_arrays, open_features, uniform_positions, write_features

__all__ = [
    "FeatureStore",
    "damaged_arrays",
    "open_features",
    "read_embeddings",
    "uniform_positions",
    "write_embeddings",
    "write_features",
]
