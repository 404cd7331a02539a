"""A plan as a figure: source words down, target words across, linked pairs framed."""

import logging
import warnings
from os import PathLike
from pathlib import Path

import regex
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ccr.alignment import fonts
from ccr.alignment.aligner import Alignment
from ccr.artifacts.files import atomic
from ccr.errors import CcrError

log = logging.getLogger(__name__)

FORMATS = (".svg", ".png", ".pdf")
LETTER = regex.compile(r"\X")  # with its combining marks


def check(path: str | PathLike) -> None:
    """`CcrError` unless the file's name ends in a format that can be drawn."""
    if Path(path).suffix not in FORMATS:
        raise CcrError(f"{path}: no such format of figures; its name must end in {', '.join(FORMATS)}.")


def draw(alignment: Alignment, source: str, target: str, path: str | PathLike) -> None:
    """Write the heat map of the plan. An svg stores text as text, so its viewer chooses the fonts."""
    kind = Path(path).suffix[1:]
    families, missing = fonts.families(source + target)
    settings = {"svg.fonttype": "none", "svg.hashsalt": "ccr", "font.family": [*families, "sans-serif"]}
    with rc_context(settings), warnings.catch_warnings(), atomic(path) as temporary:
        warnings.filterwarnings("ignore", "Glyph")  # reported below, once
        stamp = {"svg": "Date", "pdf": "CreationDate", "png": "Software"}[kind]
        _figure(alignment, source, target).savefig(temporary, format=kind, dpi=150, metadata={stamp: None})
    if kind != "svg" and missing:
        log.warning(
            "%s: boxes for what no installed font has (%s). Install %s, or draw an .svg: its reader's fonts show it.",
            path, missing, fonts.PACKAGES,
        )  # fmt: skip


def _figure(alignment: Alignment, source: str, target: str) -> Figure:
    height, width = alignment.plan.shape
    figure = Figure(figsize=(2.5 + 0.4 * width, 1.5 + 0.4 * height), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(alignment.plan, cmap="Blues", vmin=0)
    axes.set_yticks(range(height), [source[start:end] for start, end in alignment.source])
    words = [target[start:end] for start, end in alignment.target]
    axes.set_xticks(range(width), words, rotation=90 if any(len(LETTER.findall(word)) > 2 for word in words) else 0)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for row, column in zip(*alignment.linked.nonzero(), strict=True):
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="tab:orange", linewidth=1.5))
    figure.colorbar(image, ax=axes, label="mass")
    return figure
