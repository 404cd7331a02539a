"""`ccr align`: the words of two sentences that belong together, in readable form."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from rich.cells import cell_len

from ccr.alignment import heatmap
from ccr.alignment.aligner import Aligner, Alignment
from ccr.artifacts.files import read_json
from ccr.artifacts.schemas import RUN_FILES
from ccr.errors import CcrError
from ccr.registry import OBJECTIVES, word_level
from ccr.texts.cleaning import clean_text

UNKNOWN = {"[UNK]", "<unk>"}


def align(source: str, target: str, run: str | PathLike, figure: str | PathLike) -> list[str]:
    """Align two sentences with the text encoder of a run directory, draw their plan and return lines to print.

    Raises `CcrError` for a folder that is not a run, a sentence none of whose words the run knows, and a figure of an
    unsupported format.
    """
    heatmap.check(figure)
    names = RUN_FILES.values()
    files = [Path(run) / name for name in names]
    for file in files:
        if not file.is_file():
            raise CcrError(f"{file}: no such file. --teacher names a trained run's folder: {', '.join(names)}.")
    settings = read_json(files[1]).get("settings")
    if settings is None:
        raise CcrError(f"{files[1]}: not of a run of `ccr train`: it has no `settings`.")
    objectives = settings.get("objectives", {})
    options = word_level(objectives)
    aligner = Aligner(*files, options)
    source, target = clean_text(source), clean_text(target)
    for text in (source, target):
        _check_words(aligner, text, run)
    (alignment,) = aligner.align([source], [target], batch=1)
    heatmap.draw(alignment, source, target, figure)
    solver = ", ".join(f"{name} {value}" for name, value in options.items())
    own = any("words" in OBJECTIVES[term["objective"]].needs for term in objectives.values())
    whose = "of its word-level term" if own else "the defaults: it was trained without a word-level term"
    return [*describe(alignment, source, target), f"plan: {solver} ({whose})", f"figure: {figure}"]


def _check_words(aligner: Aligner, text: str, run: str | PathLike) -> None:
    pieces = aligner.pieces(text)
    if not pieces:
        raise CcrError(f"{text!r}: no words. Give two sentences.")
    if set(pieces) <= UNKNOWN:
        raise CcrError(
            f"{text!r}: {run} knows none of its words; its tokenizer was made from other texts. Give a sentence in "
            "one of the languages that it was trained on."
        )


def describe(alignment: Alignment, source: str, target: str) -> list[str]:
    """A line per group of matched words: share of the source words' mass that goes to the target words, and both.

    Then the words without a partner.
    """
    groups = match(alignment)
    left = [_text(source, alignment.source[rows]) for rows, _ in groups]
    width = max(map(cell_len, left), default=0)
    lines = []
    for (rows, columns), words in zip(groups, left, strict=True):
        share = alignment.plan[np.ix_(rows, columns)].sum() / alignment.plan[rows].sum()
        gap = " " * (width - cell_len(words))  # terminal columns: a Chinese character takes two, a combining mark none
        lines.append(f"{share:.2f}  {words}{gap}  {_text(target, alignment.target[columns])}")
    for side, spans, text in ((0, alignment.source, source), (1, alignment.target, target)):
        matched = {word for group in groups for word in group[side]}
        alone = [text[start:end] for n, (start, end) in enumerate(spans) if n not in matched]
        lines += [f"unmatched in the {('first', 'second')[side]} sentence: {' '.join(alone)}"] if alone else []
    return lines


def match(alignment: Alignment) -> list[tuple[list[int], list[int]]]:
    """(source words, target words) that belong together, in the order of the source.

    Each group is two linked words and the unlinked words that send more than half of their mass to one of the two.
    """
    rows, columns = alignment.linked.nonzero()
    to_target, to_source = _favourites(alignment.plan), _favourites(alignment.plan.T)
    return [
        (
            sorted({row, *np.flatnonzero((to_target == column) & ~alignment.linked.any(1)).tolist()}),
            sorted({column, *np.flatnonzero((to_source == row) & ~alignment.linked.any(0)).tolist()}),
        )
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]


def _favourites(plan: np.ndarray) -> np.ndarray:
    """(R,) int: the column that has more than half of a row's mass, -1 if there is none."""
    return np.where(plan.max(1) > plan.sum(1) / 2, plan.argmax(1), -1)


def _text(text: str, spans: Sequence[Sequence[int]]) -> str:
    """The words at these spans; those that touch in the text are joined without a space."""
    parts = []
    for n, (start, end) in enumerate(spans):
        parts += [" "] if n and spans[n - 1][1] != start else []
        parts.append(text[start:end])
    return "".join(parts)
