"""The checks that every raw data set must pass, whichever importer read it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ccr.captions.raw import Raw
from ccr.errors import CcrError
from ccr.texts.cleaning import Changes, clean
from ccr.texts.files import short

LONGEST = 10_000  # characters of a caption
PLACE = {".json": "record", ".parquet": "row"}  # what a file's rows are called; otherwise lines


def checked(raw: Raw, entities: str = "decode") -> tuple[pa.Table, pa.Table, list[str]]:
    """Items with their split, captions with cleaned text and their item's split, and notes on what was corrected or
    left out.

    Args:
        entities: what to do with HTML entities in captions: `decode` or `keep`.
    Raises `CcrError` at the first item in two splits or listed twice, duplicate caption id, caption of an item in no
    split, caption that is empty or too long, translation without its original, or two by one engine of one caption.
    """
    notes = list(raw.notes)
    check_items(raw.items)
    captions = _with_split(raw.captions, raw.items)
    captions = _with_clean_text(captions, entities, notes)
    captions = _without_empty_translations(captions, notes)
    _check_texts(captions)
    _check_ids(captions)
    _check_parents(captions)
    items = with_captions(raw.items, captions)
    dropped = Counter(raw.items["split"].to_pylist()) - Counter(items["split"].to_pylist())
    notes += [f"{count:,} items of {split} dropped, they have no caption" for split, count in dropped.items()]
    return items, captions, notes


def with_captions(items: pa.Table, captions: pa.Table) -> pa.Table:
    """The items that have at least one caption."""
    return items.filter(pc.is_in(items["item_id"], captions["item_id"].combine_chunks()))


def _where(table: pa.Table, index: int) -> str:
    row = table.slice(index, 1).to_pylist()[0]
    return f"{row['file']}, {PLACE.get(PurePath(row['file']).suffix, 'line')} {row['row']}"


def _name(table: pa.Table, index: int) -> str:
    return short(table["item_id"][index].as_py())


def _caption(table: pa.Table, index: int) -> str:
    return short(table["caption_id"][index].as_py())


def _more(count: int) -> str:
    return f" ({count - 1:,} more like it)" if count > 1 else ""


def _first(mask: pa.ChunkedArray) -> tuple[int, int]:
    """Index of the first true value (-1: none) and their number."""
    return pc.index(mask, pa.scalar(True)).as_py(), pc.sum(mask).as_py() or 0


def _repeated(values: pa.ChunkedArray) -> tuple[int, int] | None:
    """The first two indices of the first value that occurs twice; None if all differ."""
    codes = values.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    twice = np.flatnonzero(codes[order][1:] == codes[order][:-1])
    if not len(twice):
        return None
    at = twice[np.argmin(order[twice + 1])]
    return int(order[at]), int(order[at + 1])


def check_items(items: pa.Table) -> None:
    """`CcrError` at the first item that is in two splits, or listed twice in one."""
    if (pair := _repeated(items["item_id"])) is None:
        return
    one, two = pair
    splits = [items["split"][i].as_py() for i in pair]
    if splits[0] == splits[1]:
        raise CcrError(
            f"{_where(items, two)}: item {_name(items, two)!r} is listed twice, first in "
            f"{_where(items, one)}. Remove one of the two."
        )
    raise CcrError(
        f"item {_name(items, two)!r} is in two splits: {splits[0]} ({_where(items, one)}) and {splits[1]} "
        f"({_where(items, two)}). An item belongs to one split, else test data reach training: remove one."
    )


def _with_split(captions: pa.Table, items: pa.Table) -> pa.Table:
    at = pc.index_in(captions["item_id"], items["item_id"].combine_chunks())
    bad, count = _first(pc.is_null(at))
    if bad >= 0:
        lists = ", ".join(pc.unique(items["file"]).to_pylist())
        raise CcrError(
            f"{_where(captions, bad)}: caption {_caption(captions, bad)} belongs to item "
            f"{_name(captions, bad)!r}, which is in no split{_more(count)}. Add the item to its split's list "
            f"or remove the caption; lists: {lists or 'none found'}."
        )
    split = items["split"].take(at)
    bad, count = _first(pc.fill_null(pc.not_equal(captions["split"], split), False))
    if bad >= 0:
        raise CcrError(
            f"item {_name(captions, bad)!r} is in two splits: {split[bad].as_py()} "
            f"({_where(items, at[bad].as_py())}), and {captions['split'][bad].as_py()} by its caption "
            f"{_caption(captions, bad)} ({_where(captions, bad)}){_more(count)}. Remove one of the two."
        )
    return captions.set_column(captions.schema.get_field_index("split"), "split", split)


def _with_clean_text(captions: pa.Table, entities: str, notes: list[str]) -> pa.Table:
    long, count = _first(pc.greater(pc.utf8_length(captions["text"]), LONGEST))
    if long >= 0:
        raise CcrError(
            f"{_where(captions, long)}: caption {_caption(captions, long)} has {len(captions['text'][long].as_py()):,} "
            f"characters{_more(count)}; a caption has at most {LONGEST:,}. Have lines run together (a quotation mark "
            "that is not closed)? Fix the file."
        )
    changes = Changes()
    texts = clean(captions["text"].combine_chunks(), entities, changes, captions["caption_id"])
    notes += changes.notes("captions")
    return captions.set_column(captions.schema.get_field_index("text"), "text", texts)


def _without_empty_translations(captions: pa.Table, notes: list[str]) -> pa.Table:
    """Drop machine translations without text, and translations of these."""
    made = pc.is_in(captions["origin"], pa.array(["mt", "back"]))
    out = pc.and_(made, pc.equal(captions["text"], ""))
    while pc.any(out).as_py():
        empty = captions["caption_id"].filter(out)
        notes.append(f"{len(empty):,} machine translations left out, they have no text: {listing(empty.to_pylist())}")
        captions = captions.filter(pc.invert(out))
        made = pc.is_in(captions["origin"], pa.array(["mt", "back"]))
        out = pc.and_(made, pc.is_in(captions["parent_id"], empty.combine_chunks()))
    return captions


def listing(names: Sequence) -> str:
    """The first few of these names, for messages."""
    return ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")


def _check_texts(captions: pa.Table) -> None:
    bad, count = _first(pc.equal(captions["text"], ""))
    if bad >= 0:
        raise CcrError(
            f"{_where(captions, bad)}: caption {_caption(captions, bad)} is empty{_more(count)}. "
            "Write the caption, or remove it and its translations."
        )


def _check_ids(captions: pa.Table) -> None:
    if (pair := _repeated(captions["caption_id"])) is not None:
        one, two = pair
        raise CcrError(
            f"{_where(captions, two)}: caption id {_caption(captions, two)} is given twice, first in "
            f"{_where(captions, one)}. Number the item's captions 0, 1, 2, ... or remove one."
        )


def _check_parents(captions: pa.Table) -> None:
    """`CcrError` at the first caption that cannot be the translation of its parent."""
    parents = captions["parent_id"]
    at = pc.index_in(parents, captions["caption_id"].combine_chunks())
    bad, count = _first(pc.and_(pc.is_valid(parents), pc.is_null(at)))
    if bad >= 0:
        raise CcrError(
            f"{_where(captions, bad)}: caption {_caption(captions, bad)} is a translation of "
            f"{short(parents[bad].as_py())}, which is not in the data set{_more(count)}. Add the original or remove "
            "the translation."
        )
    other_item = pc.not_equal(captions["item_id"], captions["item_id"].take(at))
    same_lang = pc.equal(captions["lang"], captions["lang"].take(at))
    bad, count = _first(pc.fill_null(pc.or_(other_item, same_lang), False))
    if bad >= 0:
        rows = (bad, at[bad].as_py())
        own, other = (f"item {_name(captions, row)!r} in {captions['lang'][row].as_py()!r}" for row in rows)
        raise CcrError(
            f"{_where(captions, bad)}: caption {_caption(captions, bad)} of {own} is a translation of "
            f"{short(parents[bad].as_py())}, of {other}{_more(count)}. A translation and its original are captions of "
            "one item in two languages: fix the parent_id."
        )
    _check_chains(captions, at)
    _check_engines(captions)


def _check_chains(captions: pa.Table, at: pa.ChunkedArray) -> None:
    """`CcrError` at the first caption whose parents lead to no original; `at`: the row of each caption's parent."""
    above = np.append(pc.fill_null(at, -1).to_numpy(), -1)  # the last stands for no caption
    for _ in range(len(captions).bit_length()):  # each round doubles the number of steps
        above = above[above]
    bad, count = _first(pa.chunked_array([pa.array(above >= 0)]))
    if bad >= 0:
        raise CcrError(
            f"{_where(captions, bad)}: caption {_caption(captions, bad)} is a translation of "
            f"{short(captions['parent_id'][bad].as_py())}, but no caption is the original: the parent_ids lead round "
            f"in a circle{_more(count)}. Leave that of the original empty."
        )


def _check_engines(captions: pa.Table) -> None:
    """`CcrError` at the second translation of one caption by one engine into one language: only one can be used."""
    made = captions.filter(pc.is_in(captions["origin"], pa.array(["mt", "back"])))
    keys = pc.binary_join_element_wise(made["parent_id"], made["engine"], made["lang"], "\n")
    if (pair := _repeated(keys)) is not None:
        one, two = pair
        engine, lang = (short(made[name][two].as_py()) for name in ("engine", "lang"))
        raise CcrError(
            f"{_where(made, two)}: caption {_caption(made, two)} is a second translation of "
            f"{short(made['parent_id'][two].as_py())} into {lang!r} by {engine!r}; the first is {_caption(made, one)} "
            f"({_where(made, one)}). Remove one, or write another engine."
        )
