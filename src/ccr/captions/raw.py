"""What an importer hands over, and readers that name the file and the line when something is wrong."""

import gzip
import json
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ccr.errors import CcrError

LARGEST_TEXT = 1 << 28  # bytes of a packed file of captions; those of Multi30K have 2 MB

LISTED = pa.schema([("item_id", pa.string()), ("split", pa.string()), ("file", pa.string()), ("row", pa.int32())])
FOUND = pa.schema(
    [
        ("item_id", pa.string()),
        ("tag", pa.string()),
        ("n", pa.int32()),
        ("caption_id", pa.string()),
        ("split", pa.string()),
        ("lang", pa.string()),
        ("origin", pa.string()),
        ("engine", pa.string()),
        ("parent_id", pa.string()),
        ("text", pa.string()),
        ("file", pa.string()),
        ("row", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Raw:
    """A raw data set as found: unchecked, unsorted, each row with the file and row it comes from.

    `items` (schema LISTED) has one row per mention of an item in a split; `captions` (schema FOUND) one per
    caption, `split` null where the publisher's file says nothing about it; `notes` say what was left out.
    """

    items: pa.Table
    captions: pa.Table
    notes: list[str]

    @classmethod
    def collect(cls, items: list[pa.Table], captions: list[pa.Table], notes: list[str]) -> "Raw":
        """One `Raw` from the tables of single files."""
        return cls(
            pa.concat_tables([LISTED.empty_table(), *items]),
            pa.concat_tables([FOUND.empty_table(), *captions]),
            notes,
        )


def check_langs(settings: dict, name: str, known: Collection[str]) -> None:
    """`CcrError` when a language is asked for in which the data set `name` has no captions."""
    unknown = [lang for lang in settings["langs"] if lang not in known]
    if unknown:
        raise CcrError(
            f"{name} has captions in {', '.join(known)}, none in {unknown[0]!r}. "
            f"Take it out of datasets.{settings['data']}."
        )


def listed(file: Path, item_ids: Sequence[str], split: str | Sequence[str]) -> pa.Table:
    """Items in the order in which `file` lists them, with the split of all, or of each."""
    size = len(item_ids)
    splits = _same(split, size) if isinstance(split, str) else split
    columns = [item_ids, splits, _same(str(file), size), range(1, size + 1)]
    return pa.table([pa.array(column) for column in columns], names=LISTED.names).cast(LISTED)


def found(
    file: Path,
    *,
    item_id: Any,
    tag: str,
    n: Any,
    text: Any,
    row: Any,
    lang: str,
    split: str | None = None,
    origin: str = "human",
    engine: str | None = None,
    parent_tag: str | None = None,
    parent_engine: str | None = None,
    translated: Any = None,
) -> pa.Table:
    """The captions of one file: the arrays `item_id`, `n`, `text`, `row`, and what holds for all of them.

    A caption's id is `{item}#{tag}#{n}`, with `@{engine}` behind it for a machine translation (two engines'
    files carry the same ids); its parent, where `parent_tag` is given, has the same item and n. `translated`: for
    each caption whether it has one, where not all do.
    """
    item_id, n = pa.array(item_id, pa.string()), pa.array(n, pa.int32())
    size = len(item_id)
    parents = _ids(item_id, parent_tag, n, parent_engine) if parent_tag else _same(None, size)
    if translated is not None:
        parents = pc.if_else(pa.array(translated, pa.bool_()), parents, None)
    columns = {
        "item_id": item_id,
        "tag": _same(tag, size),
        "n": n,
        "caption_id": _ids(item_id, tag, n, engine),
        "split": _same(split, size),
        "lang": _same(lang, size),
        "origin": _same(origin, size),
        "engine": _same(engine, size),
        "parent_id": parents,
        "text": pa.array(text, pa.string()),
        "file": _same(str(file), size),
        "row": pa.array(row, pa.int32()),
    }
    return pa.table(columns, schema=FOUND)


def numbered(values: pa.Array) -> np.ndarray:
    """0, 1, 2, ... within the rows of each value, in their order: int64."""
    codes = values.dictionary_encode(null_encoding="encode").indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    first = np.r_[True, codes[order][1:] != codes[order][:-1]][: len(codes)]
    starts = np.maximum.accumulate(np.where(first, np.arange(len(codes)), 0))
    numbers = np.empty(len(codes), np.int64)
    numbers[order] = np.arange(len(codes)) - starts
    return numbers


def _same(value: str | None, size: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), size)


def _ids(item_id: pa.Array, tag: str, n: pa.Array, engine: str | None) -> pa.Array:
    ids = pc.binary_join_element_wise(item_id, tag, n.cast(pa.string()), "#")
    return ids if engine is None else pc.binary_join_element_wise(ids, engine, "@")


def read_text(path: Path) -> str:
    """A UTF-8 text file, unpacked when its name ends in `.gz`; `CcrError` when it is cut off or not UTF-8."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            with gzip.open(path) as file:
                data = file.read(LARGEST_TEXT + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise CcrError(
                f"{path}: not a whole gzip file, probably cut off when copied ({error}). Fetch it again."
            ) from error
        if len(data) > LARGEST_TEXT:
            raise CcrError(f"{path}: unpacks to more than {LARGEST_TEXT:,} bytes. Do not trust it; fetch it again.")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CcrError(
            f"{path}, line {line} (byte {error.start}): not UTF-8 ({error.reason}, byte "
            f"0x{data[error.start]:02x}). Fetch the file again, or convert it with `iconv -t UTF-8`."
        ) from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file. Only a line feed ends a line: captions may hold other separators."""
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def read_ids(path: Path) -> list[str]:
    """A file with one id per line."""
    ids = [line.strip() for line in read_lines(path)]
    if "" in ids:
        raise CcrError(f"{path}, line {ids.index('') + 1}: empty, an id was expected. Remove the line.")
    return ids


def read_json(path: Path) -> Any:
    """What a JSON file holds; `CcrError` when it is cut off."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise CcrError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg}), probably cut "
            "off when it was copied. Fetch the file again."
        ) from error


def read_records(path: Path, key: str | None = None) -> list[dict]:
    """A JSON file that holds a list of objects, or an object that has such a list under `key`."""
    held = read_json(path)
    records = held.get(key) if key and isinstance(held, dict) else held
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        what = f"an object with a list of objects under {key!r}" if key else "a JSON list of objects"
        raise CcrError(f"{path}: {what} was expected. Fetch the file again.")
    return records


def check_characters(where: str, texts: list[str]) -> None:
    """`CcrError` for half a UTF-16 pair: JSON can escape one, no text can hold it."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise CcrError(
            f"{where}: half of a UTF-16 pair ({error.object[error.start]!a}) is no character. Mend the caption."
        ) from error
