"""Planning of stage tables: the three kinds of tables and their rows."""

import csv
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from ccr import registry
from ccr.artifacts.jobs import Job
from ccr.params.entries import options_of
from ccr.params.planning.captions import captions, no_parallel
from ccr.params.planning.context import Planning
from ccr.params.planning.evaluate import alignment, evaluation, label
from ccr.params.planning.train import student
from ccr.params.planning.translate import quality
from ccr.params.schema import Alignments, Dataset, Table, Translations

TEST_SET = {"split": "by_language", "test": ""}  # importer options that say what is tested on, as the papers do

LeftOut = dict[str, None]  # a line each, once: what cannot be, and why


def every(planning: Planning) -> None:
    """All tables of all kinds."""
    for kind, plan in (("tables", retrieval), ("alignments", alignments), ("translations", translations)):
        for name in getattr(planning.params, kind):
            plan(planning, name)


def _data(
    planning: Planning, table: Table | Alignments | Translations, impossible: Callable[..., str], left_out: LeftOut
) -> Iterator[tuple[str, ...]]:
    """Data set and translation variant, and features where the table has some, of all that can be together.

    Args:
        impossible: why it cannot be; empty when it can.
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
    """A table's job. `roles`: of the files that rows are read from."""
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
    """Beside each .png a .pdf and an .svg, for papers."""
    pictures = {role: file.removesuffix(".png") for role, file in figures.items() if file.endswith(".png")}
    return figures | {f"{role}_{form}": f"{file}.{form}" for role, file in pictures.items() for form in ("pdf", "svg")}


def _identity(planning: Planning, dataset: str, mt: str, lang: str) -> dict[str, Any]:
    """What the rows of every kind of table say of their data."""
    settings = planning.params.datasets[dataset]
    noise = {} if mt == "none" else planning.variant(mt).get("noise", {})
    return {
        "data": settings.source,
        "dataset": dataset,
        "mt": mt,
        "noise_rate": noise.get("rate", 0.0),  # share of the training translations that are corrupted
        "source_lang": settings.source_lang,
        "target_lang": lang,
    }


# --- word alignment ----------------------------------------------------------------------------------------


def alignments(planning: Planning, name: str) -> Job:
    """A table of how well teachers align words."""
    table = planning.params.alignments[name]
    solver = options_of(registry.SOLVER, table.solver, f"alignments.{name}.solver")
    rows, left_out = [], {}

    def impossible(dataset: str, mt: str) -> str:
        reason = planning.mismatch(dataset, mt, planning.params.datasets[dataset].visual)
        if not reason and planning.variant(mt)["engine"] != "lexicon":
            reason = "the true word alignment of these translations is not known"
        return reason

    for dataset, mt in _data(planning, table, impossible, left_out):
        for lang, teacher in product(planning.params.datasets[dataset].target_langs, table.teachers):
            jobs = [alignment(planning, dataset, mt, lang, teacher, seed, solver) for seed in table.seeds]
            seeds, metrics = list(table.seeds), [job.outputs["metrics"] for job in jobs]
            row = {"teacher": teacher, "seeds": seeds, "metrics": metrics}
            rows.append(_identity(planning, dataset, mt, lang) | row)
    formats, figures = ("csv", "json", "md"), {"aer": "aer.png"}
    return _table(planning, name, "alignment", rows, left_out, formats, figures, solver=solver)


# --- translation quality -----------------------------------------------------------------------------------


def translations(planning: Planning, name: str) -> Job:
    """A table of how good translations are."""
    table = planning.params.translations[name]
    rows, left_out = [], {}

    def impossible(dataset: str, mt: str) -> str:
        settings = planning.params.datasets[dataset]
        if planning.variant(mt)["engine"] == "none":
            return f"{mt!r} is what people wrote: there is no translation to judge"
        if settings.source == "official" and not Path(settings.root).is_dir():
            return f"datasets.{dataset}.root: {settings.root} does not exist"
        return planning.mismatch(dataset, mt, settings.visual)

    for dataset, mt in _data(planning, table, impossible, left_out):
        for lang in planning.params.datasets[dataset].target_langs:
            metrics = [quality(planning, dataset, mt, lang).outputs["quality"]]
            rows.append(_identity(planning, dataset, mt, lang) | {"metrics": metrics})
    figures = {"page": "table.html", "translation": "translation.png"}
    return _table(planning, name, "translation", rows, left_out, ("csv", "json", "md"), figures)


# --- retrieval ---------------------------------------------------------------------------------------------


def retrieval(planning: Planning, name: str) -> Job:
    """A table of retrieval."""
    table = planning.params.tables[name]
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    left_out: LeftOut = {}
    for dataset, mt, visual in _data(planning, table, planning.mismatch, left_out):
        for lang, method in product(planning.params.datasets[dataset].target_langs, table.methods):
            if reason := _impossible(planning, dataset, mt, visual, method, lang):
                left_out[f"{dataset}, {lang}, {method}: {reason}"] = None
                continue
            row = _row(planning, table, dataset, mt, visual, lang, method)
            found[dataset, row["mt"], visual, lang, method] = row
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
    formats, roles = ("csv", "json", "md", "tex"), ("metrics", "ranks", "history", "reports")
    return _table(planning, name, "retrieval", rows, left_out, formats, figures, roles)


def _group(row: dict[str, Any]) -> tuple[str, ...]:
    """What a row shares with those that it may be compared with."""
    return row["dataset"], row["visual"], row["target_lang"]


def _impossible(planning: Planning, dataset: str, mt: str, visual: str, name: str, lang: str) -> str:
    """Why a row cannot exist; empty when it can."""
    methods = planning.params.methods
    variant = methods[name].mt or mt
    if "translated" in methods[name].queries and planning.variant(variant)["engine"] == "none":
        return f"translation variant {variant!r} has no engine for the way back"
    for owner in dict.fromkeys((name, methods[name].uses or name)):  # the row's entry and the one that is trained
        entry = methods[owner]
        if entry.langs and lang not in entry.langs:
            return f"methods.{owner}.langs does not hold {lang!r}"
        if entry.langs and set(entry.langs) - set(planning.params.datasets[dataset].target_langs):
            return f"{dataset} does not have every language of methods.{owner}.langs"
        if entry.mt and (reason := planning.mismatch(dataset, entry.mt, visual)):
            return reason
        parallel = planning.params.teachers[entry.teacher].parallel if entry.teacher else None
        if parallel and (reason := no_parallel(planning, dataset, parallel, entry.langs or [lang])):
            return reason
        if reason := _misfit(planning, dataset, owner):
            return reason
    return ""


def _misfit(planning: Planning, dataset: str, name: str) -> str:
    """Why a method cannot regress its teacher's embeddings, or start with its weights; empty when it can."""
    entry, terms = planning.params.methods[name], planning.objectives("student", name).values()
    fitting = ["text", "dim", "norm"] if entry.init else []
    fitting += ["dim"] if any(term["objective"] == "embedding_distillation" for term in terms) else []
    if not fitting:
        return ""
    student = planning.training(dataset, "student", name)["network"]
    teacher = planning.training(dataset, "teacher", entry.teacher)["network"]
    differ = [key for key in fitting if student[key] != teacher[key]]
    return f"its network and that of teacher {entry.teacher!r} must have the same {differ[0]!r}" if differ else ""


def _reference(planning: Planning, table: Table, method: str, beside: Iterable[str]) -> str | None:
    """Name of the method that a row is compared with, one of those `beside` it."""
    parent = planning.params.methods[method].like
    if table.compare == "parent" and parent in beside:
        return parent
    return table.baseline if table.baseline in set(beside) - {method} else None


def _row(planning: Planning, table: Table, dataset: str, mt: str, visual: str, lang: str, name: str) -> dict[str, Any]:
    trained = planning.params.methods[name].uses or name
    training = planning.training(dataset, "student", trained)
    evaluations = [evaluation(planning, dataset, mt, visual, lang, name, seed).outputs for seed in table.seeds]
    runs = [] if trained != name else [student(planning, dataset, mt, visual, lang, name, s) for s in table.seeds]
    return {
        **_identity(planning, dataset, label(planning, dataset, mt, lang, name), lang),
        "visual": visual,
        "text_encoder": training["network"]["text"]["encoder"],
        "method": name,
        "select_on": training["select_on"],
        "seeds": list(table.seeds),
        "published": _published(planning.params.datasets[dataset], dataset, lang, name, visual),
        "metrics": [outputs["metrics"] for outputs in evaluations],
        "ranks": [outputs["ranks"] for outputs in evaluations],
        "history": [run.outputs["history"] for run in runs],
        "reports": [captions(planning, dataset).outputs["report"]],
    }


@cache
def _published_rows() -> list[dict[str, str]]:
    return list(csv.DictReader(files("ccr.params").joinpath("published.csv").read_text().splitlines()))


def _published(settings: Dataset, dataset: str, lang: str, method: str, visual: str) -> dict[str, Any] | None:
    """Published SumR of this row: only on official data, with the same test set and features."""
    other_test_set = any(settings.options.get(option, value) != value for option, value in TEST_SET.items())
    if settings.source != "official" or other_test_set:
        return None
    row = (dataset, settings.source_lang, lang, method)
    for line in _published_rows():
        same = (line["dataset"], line["source_lang"], line["target_lang"], line["method"]) == row
        if same and visual in line["visual"].split():  # the extractors that give these features
            return {"sumr": float(line["sumr"]), "source": line["source"]}
    return None
