"""`results/figures/{table}/`: training curves, gradient shares and recall bars, with the same bytes every time.

Each figure is a .png for the screen, and a .pdf and an .svg for papers.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from ccr.artifacts.files import atomic
from ccr.errors import CcrError
from ccr.retrieval.metrics import DIRECTIONS, RECALLS
from ccr.tables import alignments, columns, translations
from ccr.tables.rows import Row

# Okabe and Ito's palette, safe for colour-blind readers; a method has the same colour in every figure
PALETTE = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B0A800")
METHODS = (
    "baseline",
    "nrccr",
    "cl2cm",
    "supervised",
    "translate_test",
    "pseudo_parallel",
    "nrccr_fusion",
    "source_only",
)
# for other labels: five hues of each colour map, then the same one shade lighter
OTHERS = [to_hex(colormaps[name](4 * hue + n)) for n in range(4) for name in ("tab20b", "tab20c") for hue in range(5)]
ERROR = "#808080"  # error bars, visible on black, too
DEAD = 1.0  # percent of the gradient below which a term has practically no effect
FORMATS = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}  # without dates
FLOOR = 0.005  # percent; smaller shares are drawn here


def training_curves(rows: Sequence[Row], path: str) -> None:
    """Validation SumR by epoch: a thin line per seed, a thick one for the mean as long as every seed still trains."""
    groups = columns.groups(rows)
    figure, panels = _panels(len(groups), width=8.0, height=4.0)
    for axes, group in zip(panels, groups, strict=True):
        for colour, label, row in zip(colours(columns.labels(group)), columns.labels(group), group, strict=True):
            _curve(axes, row, colour, label)
        axes.set(title=columns.title(group), xlabel="epoch", ylabel="validation SumR")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.lines:
            _legend(axes)
        else:
            axes.text(0.5, 0.5, "no method of this table is trained", ha="center", transform=axes.transAxes)
    _save(figure, path)


def gradient_shares(rows: Sequence[Row], path: str) -> None:
    """Each term's share of the gradient norm on the text encoder by epoch, mean over seeds: a panel per method.

    Rows with one term, rows evaluated with another method's weights, and histories without shares are left out.
    """
    measured = []
    for group in columns.groups(rows):
        for label, row in zip(columns.labels(group), group, strict=True):
            runs = [_read_history(history) for history in row.settings["history"]]
            names = [f"{term}_share" for term in row.terms]
            if runs and len(names) > 1 and all(name in run for name in names for run in runs):
                measured.append((f"{columns.title(group)}\n{label}", row.terms, runs))
    terms = list(dict.fromkeys(term for _, names, _ in measured for term in names))
    colours = dict(zip(terms, _colours(len(terms)), strict=True))  # the same in all panels
    figure, panels = _panels(max(len(measured), 1), width=8.0, height=3.6)
    for axes, (title, names, runs) in zip(panels, measured, strict=False):
        epochs = _shared_epochs(runs)
        for term in names:
            share = 100 * np.mean([run[f"{term}_share"][: len(epochs)] for run in runs], axis=0)
            axes.plot(epochs, np.maximum(share, FLOOR), color=colours[term], marker="o", markersize=3, label=term)
        axes.axhline(DEAD, color="black", linewidth=0.8, linestyle="--", label=f"{DEAD:g} %")
        axes.set(title=title, xlabel="epoch", ylabel="share of the gradient norm\non the text encoder")
        axes.set(yscale="log", ylim=(0.9 * FLOOR, 130))
        ticks = [0.01, 0.1, 1, 10, 100]
        axes.set_yticks([FLOOR, *ticks], [f"≤ {FLOOR:g} %", *(f"{tick:g} %" for tick in ticks)])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        _legend(axes)
    if not measured:
        panels[0].set_axis_off()
        panels[0].text(0.5, 0.5, "no method of this table is trained on several terms with shares logged", ha="center")
    _save(figure, path)


def recall(rows: Sequence[Row], path: str) -> None:
    """R@1, R@5, R@10 in both directions: a bar per method, with the deviation over seeds."""
    groups = columns.groups(rows)
    figure, panels = _panels(len(groups), width=11.0, height=4.0)
    metrics = [f"{direction}_r{k}" for direction in DIRECTIONS for k in RECALLS]
    places = np.arange(len(metrics))
    for axes, group in zip(panels, groups, strict=True):
        width = 0.8 / len(group)
        for n, (colour, label, row) in enumerate(
            zip(colours(columns.labels(group)), columns.labels(group), group, strict=True)
        ):
            spread = None if row.std is None else [row.std[metric] for metric in metrics]
            left = places + (n - (len(group) - 1) / 2) * width
            heights = [row.mean[metric] for metric in metrics]
            axes.bar(left, heights, width, yerr=spread, ecolor=ERROR, color=colour, label=label)
        axes.set(title=columns.title(group), ylabel="percent", ylim=(0, 100))
        axes.set_xticks(places, [metric.replace("_r", " R@") for metric in metrics])
        axes.grid(axis="y", alpha=0.3)
        _legend(axes)
    _save(figure, path)


def sumr(rows: Sequence[Row], path: str) -> None:
    """SumR with its deviation over seeds: a bar per row, or a curve per method if translations differ in noise."""
    groups = columns.groups(rows)
    figure, panels = _panels(len(groups), width=8.0, height=4.0)
    for axes, group in zip(panels, groups, strict=True):
        points = {(row.settings["method"], row.settings["noise_rate"]) for row in group}
        if len({rate for _, rate in points}) > 1 and len(points) == len(group):  # else rates do not tell rows apart
            _noise_curves(axes, group, "method", "sumr")
            axes.axhline(group[0].chance, color="black", linewidth=0.8, linestyle="--", label="chance")
            axes.set_ylabel("SumR")
        else:
            spread = [0.0 if row.std is None else row.std["sumr"] for row in group]
            values = [row.mean["sumr"] for row in group]
            axes.barh(columns.labels(group), values, xerr=spread, ecolor=ERROR, color=colours(columns.labels(group)))
            axes.invert_yaxis()
            axes.axvline(group[0].chance, color="black", linewidth=0.8, linestyle="--", label="chance")
            axes.set_xlabel("SumR")
            axes.grid(axis="x", alpha=0.3)
        _legend(axes)
        axes.set_title(columns.title(group))
    _save(figure, path)


def aer(rows: Sequence[alignments.Row], path: str) -> None:
    """Alignment error rate by noise rate, with its deviation over seeds: a curve per teacher."""
    groups = columns.groups(rows)
    figure, panels = _panels(len(groups), width=8.0, height=4.0)
    for axes, group in zip(panels, groups, strict=True):
        _noise_curves(axes, group, "teacher", "aer")
        axes.set(title=columns.title(group), ylabel="alignment error rate")
        _legend(axes)
    _save(figure, path)


def translation(rows: Sequence[translations.Row], path: str) -> None:
    """chrF of the round trip and against human translations, where measured: a pair of bars per row."""
    figure, (axes,) = _panels(1, width=10.0, height=1.2 + 0.6 * len(rows))
    places = np.arange(len(rows))
    labels = {"round_trip": "round trip", "forward": "against human\ntranslations"}
    for n, (colour, comparison) in enumerate(zip(_colours(2), labels, strict=True)):
        scores = [row.quality[comparison]["chrf"] if row.quality[comparison] else np.nan for row in rows]
        bars = axes.barh(places + 0.4 * (n - 0.5), scores, 0.4, color=colour, label=labels[comparison])
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
    axes.set_yticks(places, [f"{columns.title([row])}, {row.settings['mt']}" for row in rows])
    axes.invert_yaxis()
    axes.set(xlabel="chrF", xlim=(0, 100))
    axes.grid(axis="x", alpha=0.3)
    _legend(axes)
    _save(figure, path)


def _noise_curves(axes: Axes, group: Sequence[Row | alignments.Row], name: str, metric: str) -> None:
    """A metric by noise rate: a curve for each value of the setting `name`, or points where a rate occurs twice."""
    names = list(dict.fromkeys(row.settings[name] for row in group))
    for colour, label in zip(colours(names), names, strict=True):
        curve = sorted((row for row in group if row.settings[name] == label), key=_noise_rate)
        spread = None if curve[0].std is None else [row.std[metric] for row in curve]
        values = [row.mean[metric] for row in curve]
        rates = list(map(_noise_rate, curve))
        line = "-" if len(set(rates)) == len(rates) else ""
        axes.errorbar(rates, values, spread, color=colour, linestyle=line, marker="o", capsize=3, label=label)
    axes.set_xlabel("noise rate of the training translations")
    axes.grid(alpha=0.3)


def _noise_rate(row: Row | alignments.Row) -> float:
    return row.settings["noise_rate"]


def _panels(n: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(width, height * n))
    FigureCanvasAgg(figure)
    panels = figure.subplots(n, 1, squeeze=False)[:, 0]
    for axes in panels:
        axes.set_axisbelow(True)  # grid lines behind the bars
    return figure, panels


def _legend(axes: Axes) -> None:
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def colours(labels: Sequence[str]) -> list[str]:
    """A colour for each label: methods of the main tables have their own, the same in every figure.

    This does not hold for a method that occurs with several translations (see `columns.labels`).
    """
    names = list(labels)
    others = sorted({name for name in names if name not in METHODS})
    return [PALETTE[METHODS.index(n)] if n in METHODS else OTHERS[others.index(n) % len(OTHERS)] for n in names]


def _colours(n: int) -> list[str]:
    """Colours for things other than methods."""
    return [PALETTE[index % len(PALETTE)] for index in range(n)]


def _curve(axes: Axes, row: Row, colour: str, label: str) -> None:
    runs = [_read_history(path) for path in row.settings["history"]]
    if not runs:  # evaluated with another method's weights
        return
    if len(runs) > 1:
        for run in runs:
            axes.plot(run["epoch"], run["val_sumr"], color=colour, linewidth=0.6, alpha=0.5)
    epochs = _shared_epochs(runs)
    mean = np.mean([run["val_sumr"][: len(epochs)] for run in runs], axis=0)
    axes.plot(epochs, mean, color=colour, linewidth=1.8, marker="o", markersize=3, label=label)


def _shared_epochs(runs: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """The epochs in which every seed still trains."""
    return min((run["epoch"] for run in runs), key=len)


def _read_history(path: str | Path) -> dict[str, np.ndarray]:
    """The columns of a history.csv, a number per epoch; an empty cell is NaN."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        cells = {name: [line[name] for line in lines] for name in ("epoch", "val_sumr", *lines[0])}
        return {name: np.array([float("nan" if cell == "" else cell) for cell in cells[name]]) for name in cells}
    except FileNotFoundError as error:
        raise CcrError(f"{path}: no such file. Run the job that makes it (`ccr plan` lists the jobs).") from error
    except (LookupError, TypeError, ValueError) as error:
        raise CcrError(
            f"{path}: every line needs a number in every column, `epoch` and `val_sumr` among them ({error}). "
            "Delete it and train again."
        ) from error


def _save(figure: Figure, path: str) -> None:
    """Write a figure as .png (`path`), .pdf and .svg, fonts embedded or as text."""
    ConstrainedLayoutEngine().execute(figure)  # once: an engine of the figure's own would draw it twice in each format
    with rc_context({"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "ccr"}):
        for form, metadata in FORMATS.items():
            with atomic(Path(path).with_suffix(f".{form}")) as temporary:
                figure.savefig(temporary, format=form, dpi=120, metadata=metadata)
