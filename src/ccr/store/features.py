"""Features of items: a Parquet file to store and share, a memory-mapped array to train from."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ccr.artifacts.contents import content_hash
from ccr.artifacts.files import atomic
from ccr.artifacts.hashes import bytes_hash
from ccr.artifacts.parquet import ContentHash, described, opened, read_parquet
from ccr.artifacts.room import room_for
from ccr.artifacts.schemas import FEATURES
from ccr.errors import CcrError
from ccr.store.arrays import start_float16

GROUP_VALUES = 8 << 20  # float16 values per row group (16 MiB): bounds the memory of writer and reader
READ_ROWS = 256
AGAIN = "Delete it and run its features job again."

log = logging.getLogger(__name__)


# --- writing -----------------------------------------------------------------------------------------------


def write_features(
    path: str | os.PathLike,
    rows: Iterable[tuple[str, np.ndarray]],
    *,
    metadata: Mapping[str, str],
    key: str = "",
) -> int:
    """Stream `rows` into a features file; returns how many were written.

    A row is (item_id, array (frames, dim) of any float type); rows come in ascending order of item_id. They are
    written as float16, row-major. `metadata` holds `extractor`, `weights`, `preprocess`, `frame_sampling`; `dim`, the
    key and the content hash (which does not depend on the key) are added. The same rows give the same bytes; atomic.

    Raises `CcrError` if there are no rows, or an item has no frames, another dim, NaN or values beyond float16, or is
    out of order.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        raise CcrError(f"{path}: no item has features, so there is nothing to write. Check items.parquet and the root.")
    metadata = {"dim": str(first[1].shape[-1]), **metadata}
    content, count = ContentHash(FEATURES), 0
    # No Arrow schema next to the Parquet one: it would hide metadata that is known only at the end.
    layout = {"compression": "zstd", "use_dictionary": False, "store_schema": False, "write_page_checksum": True}
    with atomic(path) as temporary, pq.ParquetWriter(temporary, FEATURES, **layout) as writer:
        for table in _groups(path, chain([first], rows), int(metadata["dim"])):
            content.update(table)
            writer.write_table(table)
            count += len(table)
        schema = described(FEATURES, content, key, metadata)
        writer.add_key_value_metadata(dict(sorted(schema.metadata.items())))
    return count


def _groups(path: str | os.PathLike, rows: Iterable[tuple[str, np.ndarray]], dim: int) -> Iterator[pa.Table]:
    """Tables of about GROUP_VALUES values each."""
    ids: list[str] = []
    blocks: list[np.ndarray] = []
    size, previous = 0, None
    for item, features in rows:
        if previous is not None and item <= previous:
            fault = "comes twice" if item == previous else f"comes after {previous!r}: rows must ascend by item_id"
            raise CcrError(f"{path}: item {item!r} {fault}.")
        ids.append(item)
        blocks.append(_checked(path, item, features, dim))
        size, previous = size + blocks[-1].size, item
        if size >= GROUP_VALUES:
            yield _table(ids, blocks)
            ids, blocks, size = [], [], 0
    if ids:
        yield _table(ids, blocks)


def _checked(path: str | os.PathLike, item: str, features: np.ndarray, dim: int) -> np.ndarray:
    if features.ndim != 2 or len(features) < 1 or features.shape[1] != dim:
        raise CcrError(
            f"{path}: features of item {item!r} have shape {features.shape}, expected (frames >= 1, {dim}) "
            "as for the first item."
        )
    with np.errstate(over="ignore"):
        features = features.astype(np.float16)
    if not np.isfinite(features).all():
        raise CcrError(
            f"{path}: features of item {item!r} hold NaN, infinity or values beyond float16 (65504). "
            "Fix its source or leave the item out."
        )
    return features


def _table(ids: list[str], blocks: list[np.ndarray]) -> pa.Table:
    offsets = np.cumsum([0, *(block.size for block in blocks)], dtype=np.int32)
    values = pa.array(np.concatenate([block.ravel() for block in blocks]))
    columns = {
        "item_id": ids,
        "frames": [len(block) for block in blocks],
        "features": pa.ListArray.from_arrays(pa.array(offsets), values),
    }
    return pa.table(columns, schema=FEATURES)


# --- reading -----------------------------------------------------------------------------------------------


class FeatureStore:
    """Memory-mapped features of many items, as returned by `open_features`.

    item_ids: pa.StringArray, ascending; frames: int64 (items,); offsets: int64 (items + 1,), where an item's
    frames start in `array`: float16 (total frames, dim), read-only; metadata: dict of strings.
    """

    def __init__(self, path: Path, table: pa.Table, array: np.ndarray, metadata: dict[str, str]):
        self.path = path
        self.item_ids = table["item_id"].combine_chunks()
        self.frames = table["frames"].to_numpy().astype(np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(self.frames)])
        self.array = array
        self.metadata = metadata

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def dim(self) -> int:
        """Width of a frame's feature."""
        return self.array.shape[1]

    def index(self, item_ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Positions (int64) of these items in the store; `CcrError` names those that have no features."""
        if not isinstance(item_ids, pa.Array | pa.ChunkedArray):
            item_ids = pa.array(item_ids, pa.string())
        positions = pc.index_in(item_ids.cast(pa.string()), value_set=self.item_ids)
        if positions.null_count:
            missing = pc.unique(item_ids.filter(positions.is_null())).to_pylist()
            raise CcrError(
                f"{self.path}: {len(missing)} of the items asked for have no features: "
                f"{', '.join(map(repr, missing[:5]))}{', ...' if len(missing) > 5 else ''}. Extract them, "
                "or leave their captions out (rejected items are in the .rejected.parquet next to it)."
            )
        return positions.to_numpy(zero_copy_only=False).astype(np.int64)

    def rows(self, items: np.ndarray, max_frames: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Features of the items at these positions, one after the other, and how many frames each has.

        Returns (float16 (sum of lengths, dim), int64 (len(items),)). Items may repeat and come in any order.
        Of an item with more than `max_frames` frames, that many are taken, evenly spaced.
        """
        available = self.frames[items]
        lengths = available if max_frames is None else np.minimum(available, max_frames)
        starts = np.repeat(self.offsets[:-1][items], lengths)
        return self.array[starts + uniform_positions(available, lengths)], lengths


def uniform_positions(available: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Which frames to take: the middles of `taken` equal parts of `available` frames, for many items at once.

    Both int64 (items,), taken <= available; returns int64 (sum of taken,), each item's positions from 0 ascending.
    """
    ends = np.cumsum(taken)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - taken, taken)
    return (2 * within + 1) * np.repeat(available, taken) // (2 * np.repeat(taken, taken))


def open_features(path: str | os.PathLike, cache: str | os.PathLike = "work/arrays") -> FeatureStore:
    """Open a features file: decoded once into `cache`/{content hash}.npy, memory-mapped from then on.

    Safe if two processes do it at once: each writes its own temporary file and renames it. Raises `CcrError` if the
    file is missing or truncated, its ids are not ascending and unique, an item has no frame, its number of values is
    not frames x dim, or they are not finite.
    """
    path = Path(path)
    table = read_parquet(path, FEATURES, ["item_id", "frames"])
    held = table.schema.metadata or {}
    metadata = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in held.items()}
    dim = _dim(path, metadata)
    _check_items(path, table)
    content = content_hash(path)
    shape = (pc.sum(table["frames"]).as_py() or 0, dim)
    target = Path(cache) / f"{content}.npy"
    array = _mapped(target, shape)
    if array is None:
        _decode(path, target, table, shape)
        with atomic(_recorded(target)) as temporary:
            temporary.write_text(bytes_hash(target))
        array = _mapped(target, shape)
        if array is None:
            raise CcrError(f"{target}: cannot be read back. Is the disk full or failing?")
    return FeatureStore(path, table, array, metadata)


def _dim(path: Path, metadata: dict[str, str]) -> int:
    dim = metadata.get("dim", "")
    if not dim.isdecimal() or int(dim) < 1:
        raise CcrError(f"{path}: its metadata name no valid `dim` ({dim!r}), so it is no features file. {AGAIN}")
    return int(dim)


def _check_items(path: Path, table: pa.Table) -> None:
    ids, frames = table["item_id"].combine_chunks(), table["frames"].combine_chunks()
    if len(table) == 0:
        raise CcrError(f"{path}: no items. {AGAIN}")
    if ids.null_count or frames.null_count:
        raise CcrError(f"{path}: a row has no item_id or no frames. {AGAIN}")
    few = ids.filter(pc.less(frames, 1))
    if len(few):
        raise CcrError(f"{path}: item {few[0].as_py()!r} has fewer than one frame ({len(few)} such items). {AGAIN}")
    wrong = pc.less_equal(ids[1:], ids[:-1])
    if pc.any(wrong).as_py():
        at = pc.index(wrong, True).as_py()
        before, after = ids[at].as_py(), ids[at + 1].as_py()
        fault = "comes twice" if before == after else f"comes after {before!r}, but rows must ascend by item_id"
        raise CcrError(f"{path}: item {after!r} {fault}. {AGAIN}")


def _mapped(target: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The cached array, or None if there is no intact one."""
    try:
        if _recorded(target).read_text() != bytes_hash(target):
            log.warning("%s: is damaged, and decoded again", target)
            return None
        array = np.load(target, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent, or truncated by a power cut: decoded again
        return None
    return np.asarray(array) if array.shape == shape and array.dtype == np.float16 else None


def damaged_arrays(afresh: bool, cache: str | os.PathLike = "work/arrays") -> list[Path]:
    """Cached arrays that differ from what was decoded.

    Args:
        afresh: also read those that were read before and have not changed since.
    """
    arrays = [file for file in sorted(Path(cache).glob("*.npy")) if _recorded(file).exists()]
    return [file for file in arrays if _recorded(file).read_text() != bytes_hash(file, afresh)]


def _recorded(target: Path) -> Path:
    """The file with the hash of a cached array."""
    return target.with_suffix(".hash")


def _decode(path: Path, target: Path, table: pa.Table, shape: tuple[int, int]) -> None:
    """Stream the feature column into an .npy file, checking every value."""
    room_for(target.parent, 2 * shape[0] * shape[1], f"the array of {path}")
    ids, lengths = table["item_id"], table["frames"].to_numpy().astype(np.int64) * shape[1]
    with atomic(target) as temporary, temporary.open("wb") as file:
        start_float16(file, shape)
        row = 0
        for batch in _batches(path):
            here = slice(row, row + len(batch))
            found = batch.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
            wrong = np.flatnonzero(found != lengths[here])
            if len(wrong):
                at = row + int(wrong[0])
                raise CcrError(
                    f"{path}: item {ids[at].as_py()!r} has {found[wrong[0]]} values, expected "
                    f"{table['frames'][at].as_py()} frames x dim {shape[1]}. {AGAIN}"
                )
            values = batch.flatten().fill_null(np.float16("nan")).to_numpy(zero_copy_only=False)
            finite = np.isfinite(values)
            if not finite.all():
                at = row + int(np.searchsorted(np.cumsum(found), np.argmin(finite), side="right"))
                raise CcrError(f"{path}: features of item {ids[at].as_py()!r} hold NaN or infinity. {AGAIN}")
            file.write(values.astype("<f2", copy=False))
            row += len(batch)


def _batches(path: Path) -> Iterator[pa.ListArray]:
    with opened(path, pre_buffer=False) as file:  # with pre-buffering, the whole column would be in memory
        for batch in file.iter_batches(READ_ROWS, columns=["features"]):
            if batch.schema.field("features").type != pa.list_(pa.float16()):
                raise CcrError(f"{path}: features are {batch.column(0).type}, expected list<halffloat>. {AGAIN}")
            yield batch.column(0)
