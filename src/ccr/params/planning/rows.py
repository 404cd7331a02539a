"""Planning of the rows of retrieval tables: which are possible, and what they are made from."""

import csv
from functools import cache
from importlib.resources import files
from typing import Any

from ccr import languages
from ccr.artifacts.jobs import Job
from ccr.params.planning.captions import captions, no_parallel
from ccr.params.planning.context import Planning
from ccr.params.planning.evaluate import evaluation, learnt, run_of
from ccr.params.planning.train import trained_on, untrainable
from ccr.params.schema import Dataset

TEST_SET = {"split": "by_language", "test": ""}  # importer options that set the test split, as in the papers


def no_row(planning: Planning, dataset: str, mt: str, visual: str, lang: str, name: str) -> str:
    """Why a row cannot exist; empty when it can."""
    methods, home, trained = planning.params.methods, planning.home(dataset), planning.params.methods[name].uses or name
    variant = methods[name].mt or mt
    if "translated" in methods[name].queries:
        if planning.variant(variant)["engine"] == "none":
            return f"translation variant {variant!r} has no engine for the way back"
        if reason := planning.mismatch(dataset, variant, visual):
            return reason
    targets, run_lang = planning.params.datasets[home].target_langs, learnt(planning, dataset, lang)
    if run_lang not in targets and trained_on(planning, home, mt, run_lang, trained)[1] == [run_lang]:
        return f"{home} has a run for each of {', '.join(targets)} alone; `langs` of a method train one for all"
    for owner in dict.fromkeys((name, trained)):  # the row's entry and the one that is trained
        entry = methods[owner]
        if entry.langs and lang not in entry.langs and home == dataset:
            return f"methods.{owner}.langs does not hold {lang!r}"
        if entry.langs and set(entry.langs) - set(targets):
            return f"{home} does not have every language of methods.{owner}.langs"
        if entry.mt and (reason := planning.mismatch(home, entry.mt, visual)):
            return reason
        parallel = planning.params.teachers[entry.teacher].parallel if entry.teacher else None
        if parallel and (reason := no_parallel(planning, home, parallel, entry.langs or [run_lang])):
            return reason
        if reason := _misfit(planning, home, owner):
            return reason
    return untrainable(planning, home, "student", trained)


def _misfit(planning: Planning, dataset: str, name: str) -> str:
    """Why a method cannot regress its teacher's embeddings, or start from its weights; empty when it can."""
    entry, terms = planning.params.methods[name], planning.objectives("student", name).values()
    fitting = ["text", "dim", "norm"] if entry.init else []
    fitting += ["dim"] if any(term["objective"] == "embedding_distillation" for term in terms) else []
    if not fitting:
        return ""
    student = planning.training(dataset, "student", name)["network"]
    teacher = planning.training(dataset, "teacher", entry.teacher)["network"]
    differ = [key for key in fitting if student[key] != teacher[key]]
    return f"its network and that of teacher {entry.teacher!r} must have the same {differ[0]!r}" if differ else ""


def row_of(
    planning: Planning, dataset: str, mt: str, visual: str, lang: str, name: str, seeds: list[int]
) -> dict[str, Any]:
    """What a row says about its method, and the files that it is read from."""
    trained, home = planning.params.methods[name].uses or name, planning.home(dataset)
    training = planning.training(home, "student", trained)
    evaluations = [evaluation(planning, dataset, mt, visual, lang, name, seed).outputs for seed in seeds]
    runs = [run_of(planning, dataset, mt, visual, lang, name, seed) for seed in seeds]
    return {
        "visual": visual,
        "text_encoder": training["network"]["text"]["encoder"],
        "method": name,
        "select_on": training["select_on"],
        "seeds": list(seeds),
        "published": _published(planning.params.datasets[dataset], dataset, lang, name, visual),
        "metrics": [outputs["metrics"] for outputs in evaluations],
        "ranks": [outputs["ranks"] for outputs in evaluations],
        "history": [run.outputs["history"] for run in runs] if trained == name else [],
        "reports": [captions(planning, dataset).outputs["report"]],
        "translations": list(dict.fromkeys(path for run in runs for path in run.inputs.get("translations", ()))),
        **(_trained(planning, home, runs[0], lang) if home != dataset else {}),
    }


def _trained(planning: Planning, home: str, run: Job, lang: str) -> dict[str, Any]:
    """What a row says about runs of another data set: its name, their languages, whether these lack the row's own."""
    langs = list(dict.fromkeys([planning.params.datasets[home].source_lang, *run.settings["langs"]]))
    zero_shot = languages.variety(lang, tuple(langs)) is None
    return {"trained_on": {"dataset": home, "langs": langs, "zero_shot": zero_shot}}


@cache
def _published_rows() -> list[dict[str, str]]:
    return list(csv.DictReader(files("ccr.params").joinpath("published.csv").read_text().splitlines()))


def _published(settings: Dataset, dataset: str, lang: str, method: str, visual: str) -> dict[str, Any] | None:
    """Published SumR of this row: only on official data, with the same test set and features."""
    other_test_set = any(settings.options.get(option, value) != value for option, value in TEST_SET.items())
    if settings.source != "official" or settings.trained_on or other_test_set:
        return None
    row = (dataset, settings.source_lang, lang, method)
    for line in _published_rows():
        same = (line["dataset"], line["source_lang"], line["target_lang"], line["method"]) == row
        if same and visual in line["visual"].split():  # the extractors that provide these features
            return {"sumr": float(line["sumr"]), "source": line["source"]}
    return None
