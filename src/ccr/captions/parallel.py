"""Sentence pairs without pictures, from line-aligned text files: additional text for a CL teacher.

Line k of one file has the same meaning as line k of the other. With `ids`, a line begins with an id and a space
(`video#enc#0 a man runs`, as in VisualSearch files). A pair must share neither an item nor a text with any split of the
data set; otherwise captions used for testing would reach training.
"""

import heapq
import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ccr.artifacts.hashes import digest
from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import CAPTIONS, LEFT_OUT_PAIRS
from ccr.errors import CcrError
from ccr.texts.cleaning import Changes, clean, letters
from ccr.texts.files import read_lines, short

log = logging.getLogger(__name__)

SIDES = ("source", "target")
TAG = re.compile(r"#[^#]*(#[^#]*)$")  # the language in `video#enc2zh#0`


@dataclass(frozen=True)
class Pair:
    """A pair as read: `item` (None without ids) and both texts, cleaned, source first; lines are numbered from 1."""

    line: int
    item: str | None
    texts: tuple[str, str]


def run(job: Job) -> None:
    """Write the pairs of one target language as captions: two rows per pair, origin parallel, split train.

    The item id of a pair is `parallel:{name}#{line}`, with ids `parallel:{name}#{item}`: never an item of the data
    set. `held_out` pairs form split val. Pairs left out are written to `rejected`. `CcrError` for files that do not
    match, for pairs that leak unless `on_leak` drops them, and when no pair is left to train on.
    """
    settings = job.settings
    pairs = read_pairs(job)
    reasons = _leaks(job, pairs)
    if reasons and settings["on_leak"] == "error":
        pair = next(pair for pair in pairs if pair.line in reasons)
        raise CcrError(
            f"{job.inputs['source']} and {job.inputs['target']}: {len(reasons):,} lines share an item or a text with "
            f"{settings['data']}; so a teacher could train on what models are tested on. The first is line {pair.line} "
            f"({' | '.join(pair.texts)}): {reasons[pair.line]}. Leave such lines out with "
            f"parallel.{settings['parallel']}.on_leak: drop in params.yaml."
        )
    reasons |= {pair.line: "no text" for pair in pairs if "" in pair.texts}
    kept = [pair for pair in pairs if pair.line not in reasons]
    if len(kept) <= settings["held_out"]:
        raise CcrError(
            f"{job.inputs['source']} and {job.inputs['target']}: of {len(pairs):,} lines {len(kept):,} pairs of "
            f"sentences are left, {settings['held_out']:,} of them held out; {len(reasons):,} are empty or share an "
            f"item or a text with {settings['data']}. Give other text."
        )
    metadata = {"data": settings["data"], "parallel": settings["parallel"]}
    write_parquet(_captions(kept, settings), job.outputs["parallel"], CAPTIONS, key=job.key, metadata=metadata)
    left_out = [pair for pair in pairs if pair.line in reasons]
    columns = {
        "line": [pair.line for pair in left_out],
        "source": [pair.texts[0] for pair in left_out],
        "target": [pair.texts[1] for pair in left_out],
        "reason": [reasons[pair.line] for pair in left_out],
    }
    write_parquet(columns, job.outputs["rejected"], LEFT_OUT_PAIRS, key=job.key, metadata=metadata)
    empty = Counter(reasons.values())["no text"]
    log.info(
        "%s: %s pairs; left out: %s that share an item or a text with %s, %s without text",
        job.target, f"{len(kept):,}", f"{len(reasons) - empty:,}", settings["data"], f"{empty:,}",
    )  # fmt: skip


def read_pairs(job: Job) -> list[Pair]:
    """Every line of both files, cleaned. `CcrError` if the files do not match."""
    files = [Path(job.inputs[side]) for side in SIDES]
    lines = [read_lines(file) for file in files]
    if len(lines[0]) != len(lines[1]):
        raise CcrError(
            f"{files[0]} has {len(lines[0]):,} lines, {files[1]} has {len(lines[1]):,}: line k of the one translates "
            "line k of the other, so the numbers must be equal. Fetch both again."
        )
    items: list[str | None] = [None] * len(lines[0])
    if job.settings["ids"]:
        ids, lines = zip(*(_split(side) for side in lines), strict=True)
        items = [_item(files, number, *both) for number, both in enumerate(zip(*ids, strict=True), 1)]
    texts = zip(*(_clean(job, side, texts) for side, texts in zip(SIDES, lines, strict=True)), strict=True)
    return [Pair(number, item, both) for number, (item, both) in enumerate(zip(items, texts, strict=True), 1)]


def _clean(job: Job, side: str, lines: list[str]) -> list[str]:
    changes, entities = Changes(), job.settings["entities"]
    names = [f"line {number}" for number in range(1, len(lines) + 1)]
    texts = clean(pa.array(lines, pa.string()), entities, changes, names)
    for note in changes.notes("lines"):
        log.info("%s: %s", job.inputs[side], note)
    return texts.to_pylist()


def _split(lines: list[str]) -> tuple[list[str], list[str]]:
    """The ids and the texts of lines `{id} {text}`."""
    parts = [line.partition(" ") for line in lines]
    return [part[0] for part in parts], [part[2] for part in parts]


def _item(files: list[Path], number: int, source: str, target: str) -> str:
    """The item that both ids name; an empty line has none."""
    if source and target and TAG.sub(r"\1", source) != TAG.sub(r"\1", target):
        raise CcrError(
            f"line {number}: {files[0]} has the id {short(source)!r}, {files[1]} has {short(target)!r}: with ids: true "
            "the lines of the two must name the same caption, but for its language. Bring the files into one order."
        )
    return (source or target).partition("#")[0]


def _leaks(job: Job, pairs: list[Pair]) -> dict[int, str]:
    """Line -> reason, for every pair that shares its item or a text with the data set."""
    captions = read_parquet(job.inputs["captions"], columns=["caption_id", "item_id", "split", "origin", "text"])
    items = dict(zip(captions["item_id"].to_pylist(), captions["split"].to_pylist(), strict=True))
    human = captions.filter(pc.equal(captions["origin"], "human"))
    texts = zip(human["text"].to_pylist(), human["caption_id"].to_pylist(), human["split"].to_pylist(), strict=True)
    owners = {letters(text): f"caption {caption_id} of {split}" for text, caption_id, split in texts}
    owners.pop("", None)  # punctuation only is not text
    reasons = {}
    for pair in pairs:
        owner = next(filter(None, (owners.get(letters(text)) for text in pair.texts)), None)
        if pair.item in items:
            reasons[pair.line] = f"{pair.item!r} is an item of {items[pair.item]}"
        elif owner:
            reasons[pair.line] = f"it is the text of {owner}"
    return reasons


def _captions(pairs: list[Pair], settings: dict) -> dict[str, list]:
    """The columns of CAPTIONS: all source sentences, then all target sentences in the same order."""
    name, size = f"parallel:{settings['parallel']}", len(pairs)
    items = [f"{name}#{pair.line if pair.item is None else pair.item}" for pair in pairs]
    ids = [[f"{name}#{settings[f'{side}_lang']}#{pair.line}" for pair in pairs] for side in SIDES]
    return {
        "item_id": items * 2,
        "caption_id": ids[0] + ids[1],
        "split": _splits(pairs, settings["held_out"]) * 2,
        "lang": np.repeat([settings["source_lang"], settings["target_lang"]], size).tolist(),
        "origin": ["parallel"] * 2 * size,
        "engine": [None] * 2 * size,
        "parent_id": [None] * size + ids[0],
        "text": [pair.texts[0] for pair in pairs] + [pair.texts[1] for pair in pairs],
    }


def _splits(pairs: list[Pair], held_out: int) -> list[str]:
    """`val` for the pairs whose source texts have the lowest hashes, `train` for the others."""
    lowest = set(heapq.nsmallest(held_out, range(len(pairs)), key=lambda k: digest(pairs[k].texts[0])))
    return ["val" if number in lowest else "train" for number in range(len(pairs))]
