"""The report's own figures, as SVG text."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ccr.report.breakdowns import Breakdown
from ccr.tables.figures import PALETTE, colours

MOST = 400  # points of each kind on a map


def breakdown(found: Breakdown) -> str:
    """A line per method over the bins."""

    def draw(axes: Axes) -> None:
        labels = list(found.recall)
        for label, colour in zip(labels, colours(labels), strict=True):
            values = found.recall[label]
            axes.plot(range(len(values)), values, color=colour, marker="o", markersize=4, label=label)
        names = [f"{name}\n{count:,} captions" for name, count in zip(found.bins, found.counts, strict=True)]
        axes.set_xticks(range(len(names)), names)
        axes.set(ylabel="t2v R@10, percent", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)

    return _svg(draw, 8.4, 3.4)


def common_space(items: np.ndarray, captions: np.ndarray, langs: Sequence[str]) -> str:
    """The first two principal components of items and captions, an equal share of each language."""
    draw_from = np.random.default_rng(0)
    kinds = {"items": items}
    for lang in sorted(set(langs)):
        kinds[f"captions, {lang}"] = captions[[n for n, found in enumerate(langs) if found == lang]]
    chosen = {k: v[np.sort(draw_from.permutation(len(v))[:MOST])] for k, v in kinds.items()}
    every = np.concatenate(list(chosen.values())).astype(np.float64)
    every -= every.mean(axis=0)
    _, scales, axes_of = np.linalg.svd(every, full_matrices=False)
    places = every @ axes_of[:2].T
    share = 100 * scales[:2] ** 2 / (scales**2).sum()

    def draw(axes: Axes) -> None:
        start = 0
        for n, (kind, rows) in enumerate(chosen.items()):
            part = places[start : start + len(rows)]
            start += len(rows)
            look = {"marker": "s" if kind == "items" else "o", "color": PALETTE[n % len(PALETTE)]}
            axes.scatter(part[:, 0], part[:, 1], s=9, alpha=0.55, label=kind, linewidths=0, **look)
        axes.set(xlabel=f"first component ({share[0]:.0f} % of the variance)", ylabel=f"second ({share[1]:.0f} %)")
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)

    return _svg(draw, 7.0, 4.6)


def _svg(draw: Callable[[Axes], None], width: float, height: float) -> str:
    with rc_context({"svg.hashsalt": "ccr", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.subplots())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()[out.getvalue().index("<svg") :]
