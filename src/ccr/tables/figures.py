"""`results/figures/{table}/`: training curves and recall bars, one panel per group, the same bytes every time."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ccr.artifacts import atomic
from ccr.errors import CcrError
from ccr.retrieval.metrics import DIRECTIONS, RECALLS
from ccr.tables import columns
from ccr.tables.rows import Row


def training_curves(rows: Sequence[Row], path: str) -> None:
    """Validation SumR by epoch: a thin line per seed, a thick one for the mean while every seed still trains."""
    groups = columns.groups(rows)
    figure, panels = _panels(len(groups), width=8.0, height=4.0)
    for axes, group in zip(panels, groups, strict=True):
        for colour, label, row in zip(_colours(len(group)), columns.labels(group), group, strict=True):
            _curve(axes, row, colour, label)
        axes.set(title=columns.title(group), xlabel="epoch", ylabel="validation SumR")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.lines:
            _legend(axes)
        else:
            axes.text(0.5, 0.5, "no method of this table is trained", ha="center", transform=axes.transAxes)
    _save(figure, path)


def recall(rows: Sequence[Row], path: str) -> None:
    """R@1, R@5, R@10 of both directions: a bar per method, with the deviation over seeds."""
    groups = columns.groups(rows)
    figure, panels = _panels(len(groups), width=11.0, height=4.0)
    metrics = [f"{direction}_r{k}" for direction in DIRECTIONS for k in RECALLS]
    places = np.arange(len(metrics))
    for axes, group in zip(panels, groups, strict=True):
        width = 0.8 / len(group)
        for n, (colour, label, row) in enumerate(zip(_colours(len(group)), columns.labels(group), group, strict=True)):
            spread = None if row.std is None else [row.std[metric] for metric in metrics]
            left = places + (n - (len(group) - 1) / 2) * width
            axes.bar(left, [row.mean[metric] for metric in metrics], width, yerr=spread, color=colour, label=label)
        axes.set(title=columns.title(group), ylabel="percent", ylim=(0, 100))
        axes.set_xticks(places, [metric.replace("_r", " R@") for metric in metrics])
        axes.grid(axis="y", alpha=0.3)
        _legend(axes)
    _save(figure, path)


def _panels(n: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(width, height * max(n, 1)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(max(n, 1), 1, squeeze=False)[:n, 0]


def _legend(axes: Axes) -> None:
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _colours(n: int) -> list[tuple[float, ...]]:
    palette = colormaps["tab10" if n <= 10 else "tab20"]
    return [palette(index % palette.N) for index in range(n)]


def _curve(axes: Axes, row: Row, colour: tuple[float, ...], label: str) -> None:
    runs = [_read_history(path) for path in row.settings["history"]]
    if not runs:  # evaluated with another method's weights
        return
    if len(runs) > 1:
        for epochs, scores in runs:
            axes.plot(epochs, scores, color=colour, linewidth=0.6, alpha=0.5)
    shared = min(len(epochs) for epochs, _ in runs)
    mean = np.mean([scores[:shared] for _, scores in runs], axis=0)
    axes.plot(runs[0][0][:shared], mean, color=colour, linewidth=1.8, marker="o", markersize=3, label=label)


def _read_history(path: str | Path) -> tuple[list[int], list[float]]:
    """Epochs and validation SumR of a history.csv."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        return [int(line["epoch"]) for line in lines], [float(line["val_sumr"]) for line in lines]
    except FileNotFoundError as error:
        raise CcrError(f"{path}: no such file. Run the job that makes it (`ccr plan` lists the jobs).") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CcrError(
            f"{path}: every line needs a whole number `epoch` and a number `val_sumr` ({error}). "
            "Delete it and train again."
        ) from error


def _save(figure: Figure, path: str) -> None:
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
