"""Published features in a data set's root: where they are, and which of their rows are equal."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ccr.artifacts.hashes import bytes_hash
from ccr.errors import CcrError
from ccr.store.arrays import read_array
from ccr.texts.files import read_ids, read_text


def feature_folders(root: Path) -> list[Path]:
    """Folders in `root` or its FeatureData that hold published features."""
    folders = sorted(path for path in [*root.glob("*/"), *root.glob("FeatureData/*/")] if path.is_dir())
    return [path for path in folders if (path / "feature.bin").exists() or next(path.glob("*.npy"), None)]


def row_hashes(root: Path, items: Sequence[str]) -> Iterator[list[str | None]]:
    """For each folder of features the hash of every item's features; None where an item has none, or a constant row.

    Unreadable features are left to the stage that imports features, and so are VisualSearch videos, whose rows are
    frames.
    """
    for folder in feature_folders(root):
        try:
            yield _matrix(folder, items) or [_of_file(folder / f"{item}.npy") for item in items]
        except (OSError, ValueError, OverflowError, TypeError, CcrError):
            continue


def _matrix(folder: Path, items: Sequence[str]) -> list[str | None]:
    """Hashes of the rows of the file with the features of all items; empty if there is no such file."""
    if (folder / "feature.bin").exists():
        if (folder / "video2frames.txt").exists():
            return [None] * len(items)
        rows, dim = map(int, read_text(folder / "shape.txt").split())
        matrix = np.memmap(folder / "feature.bin", "<f4", "r", shape=(rows, dim))
        ids = read_text(folder / "id.txt").split()
    elif (folder / "features.npy").exists():
        matrix = read_array(folder / "features.npy")
        ids = read_ids(folder / "ids.txt")
    else:
        return []
    place = {item: row for row, item in enumerate(ids[: len(matrix)])}
    return [_of_row(matrix[place[item]]) if item in place else None for item in items]


def _of_row(row: np.ndarray) -> str | None:
    if row.min() == row.max():
        return None
    return hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest()


def _of_file(path: Path) -> str | None:
    return bytes_hash(path) if path.is_file() else None
