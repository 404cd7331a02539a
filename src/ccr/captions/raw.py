"""What an importer returns: items and captions as found, each with the file and row that it comes from."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ccr.errors import CcrError

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
    """`CcrError` if the data set `name` has no captions in a requested language."""
    unknown = [lang for lang in settings["langs"] if lang not in known]
    if unknown:
        raise CcrError(
            f"{name} has captions in {', '.join(known)}, none in {unknown[0]!r}. "
            f"Take it out of datasets.{settings['data']}."
        )


def listed(file: Path, item_ids: Sequence[str], split: str | Sequence[str]) -> pa.Table:
    """Items in the order in which `file` lists them; `split` is one for all, or one per item."""
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
    """The captions of one file: the arrays `item_id`, `n`, `text`, `row`, and values shared by all of them.

    A caption's id is `{item}#{tag}#{n}`, followed by `@{engine}` for a machine translation (two engines' files carry
    the same ids); its parent, if `parent_tag` is given, has the same item and n. `translated`: for each caption
    whether it has a parent, if not all do.
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
    """Number the rows of each value 0, 1, 2, ... in order: int64."""
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
