"""Features in the VisualSearch layout, in which the authors of NRCCR publish theirs.

`feature.bin`: float32, row after row; `shape.txt`: rows and dim; `id.txt`: one id per row, separated by white space.
Rows are images, or frames of videos; in that case `video2frames.txt`, a Python dict, lists the frames of each video.

Such a dump has gigabytes, and millions of names. Features are memory-mapped; names are read piece by piece (the dict is
parsed by its grammar, never evaluated) and kept in Arrow arrays.
"""

import ast
import mmap
import re
from collections.abc import Callable, Container, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ccr.artifacts.contents import content_hash
from ccr.errors import CcrError
from ccr.texts.files import read_text

BLOCK, MANY = 1 << 24, 1 << 20  # bytes of id.txt, and names of frames, held as Python objects at a time
STRING = rb"""(?>'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+")"""
ENTRY = re.compile(rb"(%s)\s*+:\s*+\[\s*+((?:%s\s*+,?\s*+)*+)\]\s*+,?\s*+" % (STRING, STRING))
FIRST, NAME, LAST = re.compile(rb"\s*+\{\s*+"), re.compile(STRING), re.compile(rb"\}\s*+\Z")


def open_dump(folder: Path, items: list[str]) -> tuple[Container[str], Callable[[str], np.ndarray], str]:
    """The ids among `items` that have features, their features float32 (frames, dim), and the features' name and hash.

    Raises `CcrError` for files that are missing, damaged, or do not match.
    """
    matrix = _matrix(folder)
    ids = _ids(folder / "id.txt")
    if len(ids) != len(matrix):
        raise CcrError(f"{folder}: id.txt names {len(ids):,} rows, shape.txt {len(matrix):,}. Fetch the dump again.")
    rows = _rows(folder, items, ids)
    return rows, lambda item: matrix[rows[item]], f"feature.bin {content_hash(folder / 'feature.bin')}"


def _matrix(folder: Path) -> np.ndarray:
    """The features, memory-mapped: float32 (rows, dim)."""
    for name in ("feature.bin", "shape.txt", "id.txt"):
        if not (folder / name).is_file():
            raise CcrError(f"{folder / name}: no such file. VisualSearch has feature.bin, shape.txt and id.txt.")
    words = read_text(folder / "shape.txt").split()
    if len(words) != 2 or not all(word.isdecimal() and int(word) for word in words):
        raise CcrError(f"{folder / 'shape.txt'}: expected rows and dim, found {' '.join(words)[:50]!r}.")
    shape = (int(words[0]), int(words[1]))
    size, expected = (folder / "feature.bin").stat().st_size, 4 * shape[0] * shape[1]
    if size != expected:
        raise CcrError(
            f"{folder / 'feature.bin'}: {size:,} bytes, but {shape[0]:,} rows of {shape[1]:,} float32 values "
            f"(shape.txt) have {expected:,}. Fetch it again."
        )
    return np.memmap(folder / "feature.bin", "<f4", "r", shape=shape)


def _ids(path: Path) -> pa.ChunkedArray:
    """The rows' ids, binary; `CcrError` if one occurs twice."""
    chunks, rest = [], b""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            *words, rest = re.split(rb"\s+", rest + block)
            chunks.append(pa.array(filter(None, words), pa.binary()))
    ids = pa.chunked_array([*chunks, pa.array([rest] if rest else [], pa.binary())])
    if pc.count_distinct(ids).as_py() < len(ids):
        counts = pc.value_counts(ids)
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        raise CcrError(f"{path}: id {twice.decode(errors='replace')!r} comes twice.")
    return ids


def _rows(folder: Path, items: list[str], ids: pa.ChunkedArray) -> dict[str, np.ndarray]:
    """Rows of every item with features, int (frames,)."""
    if not (folder / "video2frames.txt").is_file():  # rows are images
        found = pc.index_in(pa.array([item.encode() for item in items], pa.binary()), value_set=ids)
        if found.null_count == len(items):
            raise CcrError(
                f"{folder}: id.txt names none of the items. If these are videos, video2frames.txt is missing: it lists "
                "their frames."
            )
        return {item: np.array([row]) for item, row in zip(items, found.to_pylist(), strict=True) if row is not None}
    names, ends = _frames(folder / "video2frames.txt", set(items))
    if not ends:
        return {}
    rows = pc.index_in(names, value_set=ids)
    if rows.null_count:
        at = pc.index(pc.is_null(rows), True).as_py()
        video = next(video for video, end in ends.items() if at < end)
        raise CcrError(
            f"{folder / 'id.txt'}: it lacks frame {_shown(names[at].as_py())}, which video2frames.txt gives to "
            f"{video!r} ({rows.null_count:,} such frames). The files do not belong together; fetch them again."
        )
    return dict(zip(ends, np.split(rows.to_numpy(), [*ends.values()][:-1]), strict=True))


def _frames(path: Path, wanted: set[str]) -> tuple[pa.ChunkedArray, dict[str, int]]:
    """Names of the frames of these videos, concatenated, binary; and the end position of each video."""
    chunks: list[pa.Array] = []
    names: list[bytes] = []
    ends: dict[str, int] = {}
    for video, frames in _entries(path):
        if video not in wanted:
            continue
        if not frames:
            raise CcrError(f"{path}: video {video!r} has no frames.")
        names += frames
        ends[video] = sum(map(len, chunks)) + len(names)
        if len(names) >= MANY:
            chunks.append(pa.array(names, pa.binary()))
            names = []
    return pa.chunked_array([*chunks, pa.array(names, pa.binary())]), ends


def _entries(path: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Keys and values of a Python dict of lists of strings; `CcrError` if the text is something else."""
    with path.open("rb") as file:
        text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
        entry = FIRST.match(text)
        at = entry.end() if entry else 0
        while entry and (entry := ENTRY.match(text, at)):
            try:
                found = _text(entry[1]).decode(), [_text(name) for name in NAME.findall(entry[2])]
            except (ValueError, SyntaxError) as error:  # not UTF-8, or an invalid escape
                raise CcrError(f"{path}: from byte {at:,} on it holds no names ({error}). Fetch it again.") from error
            at = entry.end()
            yield found
        if not LAST.match(text, at):
            found = text[at : at + 40].decode(errors="replace")
            raise CcrError(f"{path}: from byte {at:,} on it is no Python dict of lists of names: {found!r}.")


def _text(literal: bytes) -> bytes:
    return ast.literal_eval(literal.decode()).encode() if b"\\" in literal else literal[1:-1]


def _shown(name: bytes) -> str:
    return repr(name.decode(errors="replace"))
