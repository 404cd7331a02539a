"""Features extracted and published by others, looked up by item id.

A folder under the root (option `path`; the plan fills in `FeatureData/{name}`) holds one of

- `feature.bin`, `id.txt`, `shape.txt` and, for videos, `video2frames.txt`: VisualSearch, see `visualsearch`;
- `features.npy`, (items, dim) or (items, frames, dim), and `ids.txt`, one id per line;
- one `{item_id}.npy` per item, (frames, dim) or (1, frames, dim): the official I3D dump of VATEX.
"""

from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ccr.artifacts.contents import content_hash
from ccr.errors import CcrError
from ccr.features import visualsearch
from ccr.features.items import Item
from ccr.store.arrays import read_array
from ccr.texts.files import read_ids


def read(
    items: list[Item], root: Path, options: dict[str, Any]
) -> tuple[dict[str, str], Iterator[tuple[str, np.ndarray]]]:
    """Metadata, and (item id, features) of these items; `CcrError` if the dump is absent, damaged or lacks items."""
    relative = options["path"]
    folder = root / relative
    ids = [item.item_id for item in items]
    if (folder / "feature.bin").exists() or (folder / "shape.txt").exists():
        have, features, source = visualsearch.open_dump(folder, ids)
    elif (folder / "features.npy").exists() or (folder / "ids.txt").exists():
        have, features, source = _matrix(folder)
    else:
        have, features, source = _files(folder)
    missing = [item for item in ids if item not in have]
    if missing:
        raise CcrError(
            f"{folder}: {len(missing)} of {len(ids)} items have no features: {', '.join(map(repr, missing[:5]))}"
            f"{', ...' if len(missing) > 5 else ''}. Add them to the dump, or take the items out of the data set."
        )
    metadata = {
        "extractor": "published",
        "weights": f"{relative}/{source}",
        "preprocess": "as published",
        "frame_sampling": "as published",
    }
    return metadata, ((item, features(item)) for item in ids)


def _load(path: Path, mmap: bool) -> np.ndarray:
    try:
        array = read_array(path)
    except FileNotFoundError as error:
        raise CcrError(f"{path}: no such file. A published dump is `features.npy` beside `ids.txt`.") from error
    array = array if mmap else np.array(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise CcrError(f"{path}: holds {array.dtype}, expected floating-point features.")
    return array


def _matrix(folder: Path) -> tuple[Container[str], Callable[[str], np.ndarray], str]:
    array = _load(folder / "features.npy", mmap=True)
    if not (folder / "ids.txt").is_file():
        raise CcrError(f"{folder / 'ids.txt'}: no such file. It names the rows of features.npy, one id per line.")
    ids = read_ids(folder / "ids.txt")
    if array.ndim not in (2, 3):
        raise CcrError(
            f"{folder / 'features.npy'}: shape {array.shape}, expected (items, dim) or (items, frames, dim)."
        )
    if len(ids) != len(array):
        raise CcrError(f"{folder}: ids.txt names {len(ids)} items, but features.npy has {len(array)} rows.")
    row = {item: index for index, item in enumerate(ids)}
    if len(row) != len(ids):
        twice = next(item for index, item in enumerate(ids) if row[item] != index)
        raise CcrError(f"{folder / 'ids.txt'}: id {twice!r} comes twice.")
    array = array.reshape(len(array), -1, array.shape[-1])
    return row, lambda item: array[row[item]], f"features.npy {content_hash(folder / 'features.npy')}"


def _files(folder: Path) -> tuple[Container[str], Callable[[str], np.ndarray], str]:
    have = {file.stem for file in folder.glob("*.npy")}
    if not have:
        raise CcrError(
            f"{folder}: no published features there. Expected `feature.bin`, `id.txt` and `shape.txt` (VisualSearch), "
            "`features.npy` (items x dim) and `ids.txt` (one id per line), or one `{item_id}.npy` per item; or choose "
            "another extractor, which computes them from the media."
        )

    def read_file(item: str) -> np.ndarray:
        array = _load(folder / f"{item}.npy", mmap=False)
        if array.ndim == 3 and len(array) == 1:
            array = array[0]
        if array.ndim != 2 or len(array) < 1:
            raise CcrError(f"{folder / item}.npy: shape {array.shape}, expected (frames, dim) or (1, frames, dim).")
        return array

    return have, read_file, "{item_id}.npy"
