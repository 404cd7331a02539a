"""Embeddings of captions, which a teacher writes for its students."""

import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import EMBEDDINGS
from ccr.errors import CcrError


def write_embeddings(
    path: str | os.PathLike,
    caption_ids: Sequence[str],
    embeddings: np.ndarray,
    *,
    key: str = "",
) -> None:
    """Write one embedding per caption: `embeddings` float32 (captions, dim), in the order of the ids.

    Raises `CcrError` if the numbers of rows and ids differ, ids repeat, or values are NaN or infinite.
    """
    embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
    if embeddings.ndim != 2 or len(embeddings) != len(caption_ids):
        raise CcrError(f"{path}: {len(caption_ids)} caption ids, but embeddings of shape {embeddings.shape}.")
    _check(path, caption_ids, embeddings)
    count, dim = embeddings.shape
    columns = {
        "caption_id": pa.array(caption_ids, pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(embeddings.ravel(), dim).cast(pa.list_(pa.float32())),
    }
    table = pa.table(columns, schema=EMBEDDINGS)
    write_parquet(table, path, EMBEDDINGS, key=key, metadata={"dim": str(dim)})


def read_embeddings(path: str | os.PathLike) -> tuple[list[str], np.ndarray]:
    """Read (caption ids, float32 (captions, dim)); `CcrError` if truncated, uneven, with repeated ids or not finite."""
    table = read_parquet(path, EMBEDDINGS)
    ids, column = table["caption_id"].to_pylist(), table["embedding"].combine_chunks()
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    uneven = np.flatnonzero(lengths != lengths[0]) if len(lengths) else lengths
    if len(uneven):
        raise CcrError(
            f"{path}: the embedding of caption {ids[uneven[0]]!r} has {lengths[uneven[0]]} values, the first has "
            f"{lengths[0]}. Delete it and run its job again."
        )
    embeddings = column.flatten().to_numpy(zero_copy_only=False).reshape(len(ids), lengths[0] if len(ids) else 0)
    _check(path, ids, embeddings)
    return ids, embeddings


def _check(path: str | os.PathLike, ids: Sequence[str], embeddings: np.ndarray) -> None:
    if len(set(ids)) != len(ids):
        raise CcrError(f"{path}: caption ids repeat; each caption has one embedding.")
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        raise CcrError(f"{path}: the embedding of caption {ids[bad[0]]!r} holds NaN or infinity ({len(bad)} such).")
