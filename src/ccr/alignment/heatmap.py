"""A plan as a picture: source words down, target words across, linked pairs framed."""

import logging
import warnings
from os import PathLike
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.patches import Rectangle

from ccr.alignment.aligner import Alignment
from ccr.artifacts.files import atomic
from ccr.errors import CcrError

log = logging.getLogger(__name__)

FORMATS = (".svg", ".png", ".pdf")
# fonts that have Chinese and Japanese characters; a bare machine has none of them
EAST_ASIAN = ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "PingFang SC", "Microsoft YaHei")


def check(path: str | PathLike) -> None:
    """`CcrError` unless the file's name ends in a format that can be drawn."""
    if Path(path).suffix not in FORMATS:
        raise CcrError(f"{path}: no such format of figures; its name must end in {', '.join(FORMATS)}.")


def draw(alignment: Alignment, source: str, target: str, path: str | PathLike) -> None:
    """Write the heat map of the plan. An svg holds text as text, so the fonts are its reader's."""
    kind = Path(path).suffix[1:]
    families = ["DejaVu Sans", *(name for name in EAST_ASIAN if name in get_font_names()), "sans-serif"]
    settings = {"svg.fonttype": "none", "svg.hashsalt": "ccr", "font.family": families}
    with rc_context(settings), warnings.catch_warnings(record=True) as problems, atomic(path) as temporary:
        warnings.simplefilter("always")
        stamp = {"svg": "Date", "pdf": "CreationDate", "png": "Software"}[kind]
        _figure(alignment, source, target).savefig(temporary, format=kind, dpi=150, metadata={stamp: None})
    if kind != "svg" and any("Glyph" in str(problem.message) for problem in problems):
        log.warning("%s: no installed font has all its characters; an .svg shows them in its reader's fonts.", path)


def _figure(alignment: Alignment, source: str, target: str) -> Figure:
    height, width = alignment.plan.shape
    figure = Figure(figsize=(2.5 + 0.4 * width, 1.5 + 0.4 * height), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(alignment.plan, cmap="Blues", vmin=0)
    axes.set_yticks(range(height), [source[start:end] for start, end in alignment.source])
    words = [target[start:end] for start, end in alignment.target]
    axes.set_xticks(range(width), words, rotation=90 if any(len(word) > 2 for word in words) else 0)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for row, column in zip(*alignment.linked.nonzero(), strict=True):
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="tab:orange", linewidth=1.5))
    figure.colorbar(image, ax=axes, label="mass")
    return figure
