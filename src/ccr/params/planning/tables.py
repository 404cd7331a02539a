"""Planning of stage tables: the three kinds of tables and their rows."""

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from ccr import registry
from ccr.artifacts.jobs import Job
from ccr.params.entries import options_of
from ccr.params.planning.context import Planning
from ccr.params.planning.evaluate import alignment, label
from ccr.params.planning.rows import no_row, row_of
from ccr.params.planning.train import untrainable
from ccr.params.planning.translate import quality
from ccr.params.schema import Alignments, Table, Translations

LeftOut = dict[str, None]  # unique lines: what is impossible, and why


def every(planning: Planning) -> None:
    """All tables of all kinds."""
    for kind, plan in (("tables", retrieval), ("alignments", alignments), ("translations", translations)):
        for name in getattr(planning.params, kind):
            plan(planning, name)


def _data(
    planning: Planning, table: Table | Alignments | Translations, impossible: Callable[..., str], left_out: LeftOut
) -> Iterator[tuple[str, ...]]:
    """All possible combinations of data set and translation variant, and of features if the table has them.

    Args:
        impossible: says why a combination is impossible; empty if it is not.
    """
    for dataset in table.data:
        settings = planning.params.datasets[dataset]
        choices = [table.mt or [settings.mt]]
        if isinstance(table, Table):
            choices.append(table.visual or [settings.visual])
        for chosen in product([dataset], *choices):
            if reason := impossible(*chosen):
                left_out[f"{', '.join(chosen)}: {reason}"] = None
            else:
                yield chosen


def _table(
    planning: Planning,
    name: str,
    kind: str,
    rows: list[dict[str, Any]],
    left_out: LeftOut,
    formats: tuple[str, ...],
    figures: dict[str, str],
    roles: tuple[str, ...] = ("metrics",),
    **settings: Any,
) -> Job:
    """A table's job. `roles`: those of the files that its rows are read from."""
    job = Job(
        stage="tables",
        target=f"results/{name}.csv",
        inputs={role: list(dict.fromkeys(path for row in rows for path in row[role])) for role in roles},
        outputs={
            **{form: f"results/{name}.{form}" for form in formats},
            **{role: f"results/figures/{name}/{file}" for role, file in _in_every_format(figures).items()},
        },
        settings={"table": name, **settings, "rows": rows, "left_out": list(left_out)},
        module=f"ccr.tables.{kind}_table",
    )
    return planning.once(job.target, lambda: job)


def _in_every_format(figures: dict[str, str]) -> dict[str, str]:
    """The figures, with a .pdf and an .svg for each .png, for papers."""
    pictures = {role: file.removesuffix(".png") for role, file in figures.items() if file.endswith(".png")}
    return figures | {f"{role}_{form}": f"{file}.{form}" for role, file in pictures.items() for form in ("pdf", "svg")}


def _identity(planning: Planning, dataset: str, mt: str, lang: str) -> dict[str, Any]:
    """What the rows of every kind of table say about their data."""
    settings = planning.params.datasets[dataset]
    noise = {} if mt == "none" else planning.variant(mt).get("noise", {})
    return {
        "data": planning.params.datasets[planning.home(dataset)].source,
        "dataset": dataset,
        "mt": mt,
        "noise_rate": noise.get("rate", 0.0),  # share of the training translations that are corrupted
        "source_lang": settings.source_lang,
        "target_lang": lang,
    }


def _untrained(planning: Planning, dataset: str) -> str:
    """Why a data set has no table of what training runs read: nothing is trained on it; empty otherwise."""
    home = planning.home(dataset)
    return "" if home == dataset else f"nothing is trained on it, it is trained_on {home!r}"


# --- word alignment ----------------------------------------------------------------------------------------


def alignments(planning: Planning, name: str) -> Job:
    """A table of how well teachers align words."""
    table = planning.params.alignments[name]
    solver = options_of(registry.SOLVER, table.solver, f"alignments.{name}.solver")
    rows, left_out = [], {}

    def impossible(dataset: str, mt: str) -> str:
        reason = _untrained(planning, dataset)
        reason = reason or planning.mismatch(dataset, mt, planning.params.datasets[dataset].visual)
        if not reason and planning.variant(mt)["engine"] != "lexicon":
            reason = "the true word alignment of these translations is not known"
        return reason

    for dataset, mt in _data(planning, table, impossible, left_out):
        for lang, teacher in product(planning.params.datasets[dataset].target_langs, table.teachers):
            if reason := untrainable(planning, dataset, "teacher", teacher):
                left_out[f"{dataset}, {lang}, {teacher}: {reason}"] = None
                continue
            jobs = [alignment(planning, dataset, mt, lang, teacher, seed, solver) for seed in table.seeds]
            seeds, metrics = list(table.seeds), [job.outputs["metrics"] for job in jobs]
            row = {"teacher": teacher, "seeds": seeds, "metrics": metrics}
            rows.append(_identity(planning, dataset, mt, lang) | row)
    formats, figures = ("csv", "json", "md"), {"aer": "aer.png"}
    return _table(planning, name, "alignment", rows, left_out, formats, figures, solver=solver)


# --- translation quality -----------------------------------------------------------------------------------


def translations(planning: Planning, name: str) -> Job:
    """A table of translation quality."""
    table = planning.params.translations[name]
    rows, left_out = [], {}

    def impossible(dataset: str, mt: str) -> str:
        settings = planning.params.datasets[dataset]
        if planning.variant(mt)["engine"] == "none":
            return f"{mt!r} is what people wrote: there is no translation to judge"
        if settings.source == "official" and not Path(settings.root).is_dir():
            return f"datasets.{dataset}.root: {settings.root} does not exist"
        if reason := _untrained(planning, dataset):
            return reason
        return planning.mismatch(dataset, mt, settings.visual)

    for dataset, mt in _data(planning, table, impossible, left_out):
        for lang in planning.params.datasets[dataset].target_langs:
            metrics = [quality(planning, dataset, mt, lang).outputs["quality"]]
            rows.append(_identity(planning, dataset, mt, lang) | {"metrics": metrics})
    figures = {"page": "table.html", "translation": "translation.png"}
    return _table(planning, name, "translation", rows, left_out, ("csv", "json", "md"), figures)


# --- retrieval ---------------------------------------------------------------------------------------------


def retrieval(planning: Planning, name: str) -> Job:
    """A table of retrieval results."""
    table = planning.params.tables[name]
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    left_out: LeftOut = {}

    def impossible(dataset: str, mt: str, visual: str) -> str:
        return planning.mismatch(planning.home(dataset), mt, visual)

    for dataset, mt, visual in _data(planning, table, impossible, left_out):
        for lang, method in product(planning.params.datasets[dataset].target_langs, table.methods):
            if reason := no_row(planning, dataset, mt, visual, lang, method):
                left_out[f"{dataset}, {lang}, {method}: {reason}"] = None
                continue
            labelled = label(planning, dataset, mt, lang, method)
            about = row_of(planning, dataset, mt, visual, lang, method, table.seeds)
            found[dataset, labelled, visual, lang, method] = _identity(planning, dataset, labelled, lang) | about
    beside: dict[tuple[str, ...], set[str]] = {}
    for row in found.values():
        beside.setdefault(_group(row), set()).add(row["method"])
    rows = [
        row | {"reference": _reference(planning, table, row["method"], beside[_group(row)])} for row in found.values()
    ]
    figures = {
        "page": "table.html",
        "curves": "training_curves.png",
        "shares": "gradient_shares.png",
        "recall": "recall.png",
        "sumr": "sumr.png",
    }
    formats, roles = ("csv", "json", "md", "tex"), ("metrics", "ranks", "history", "reports", "translations")
    return _table(planning, name, "retrieval", rows, left_out, formats, figures, roles)


def _group(row: dict[str, Any]) -> tuple[str, ...]:
    """What a row shares with the rows that it may be compared with."""
    return row["dataset"], row["visual"], row["target_lang"]


def _reference(planning: Planning, table: Table, method: str, beside: Iterable[str]) -> str | None:
    """Name of the method that a row is compared with, one of those `beside` it; None if there is none."""
    parent = planning.params.methods[method].like
    if table.compare == "parent" and parent in beside:
        return parent
    return table.baseline if table.baseline in set(beside) - {method} else None
