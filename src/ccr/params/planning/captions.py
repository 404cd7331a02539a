"""Planning of stage captions: data sets, the mini-world that stands in for them, and parallel text."""

from itertools import product
from pathlib import Path
from typing import Any

from ccr import registry
from ccr.artifacts.jobs import Job
from ccr.params.entries import options_of
from ccr.params.planning.context import Planning


def every(planning: Planning) -> None:
    """The captions of all data sets, and all sentence pairs that are possible for them."""
    for dataset, settings in planning.params.datasets.items():
        captions(planning, dataset)
        for name, lang in product(planning.params.parallel, settings.target_langs):
            if not no_parallel(planning, dataset, name, [lang]):
                parallel(planning, dataset, name, lang)


def root(planning: Planning, dataset: str) -> str:
    """The folder of a data set's raw data. The mini-world is published into a separate one."""
    settings = planning.params.datasets[dataset]
    if settings.source == "official":
        return settings.root
    target = f"data/raw/{planning.data(dataset)}"
    task = settings.options.get("task", 2) if settings.importer == "multi30k" else 2
    langs = [settings.source_lang, *settings.target_langs]

    def make() -> Job:
        return Job(
            stage="world",
            target=target,
            inputs={},
            outputs={"root": target},
            settings={
                "layout": "vatex" if settings.kind == "video" else f"multi30k_task{task}",
                "kind": settings.kind,
                "langs": langs,
                **settings.world.model_dump(),
            },
            module="ccr.world.publish",
            entries=tuple(f"WORLD_LANGUAGES.{lang}" for lang in langs),
            threads=planning.params.features.threads,
        )

    return planning.once(target, make).target


def captions(planning: Planning, dataset: str) -> Job:
    """A data set's captions job, outputs `captions`, `items` and `report`."""
    settings = planning.params.datasets[dataset]
    folder = f"data/{planning.data(dataset)}"

    def make() -> Job:
        importer, options = _importer(planning, dataset)
        return Job(
            stage="captions",
            target=f"{folder}/captions.parquet",
            inputs={
                "root": root(planning, dataset),
                **{role: options[role] for role in ("photos", "leave_out") if options.get(role)},
            },
            outputs={
                "captions": f"{folder}/captions.parquet",
                "items": f"{folder}/items.parquet",
                "report": f"{folder}/captions.report.json",
            },
            settings={
                "importer": importer,
                "data": dataset,
                "kind": settings.kind,
                "source": settings.source,
                "langs": [settings.source_lang, *settings.target_langs],
                "options": options,
                "entities": settings.entities,
                "on_leak": settings.on_leak,
            },
            module="ccr.captions.dataset",
            entries=(f"IMPORTERS.{importer}",),
            threads=planning.params.features.threads,
        )

    return planning.once(f"{folder}/captions.parquet", make)


def _importer(planning: Planning, dataset: str) -> tuple[str, dict[str, Any]]:
    """The importer of a data set, or of the mini-world that replaces it, and the importer's options."""
    settings = planning.params.datasets[dataset]
    if settings.source == "official":
        importer, options = settings.importer, settings.options
    elif settings.kind == "video":
        importer, options = "vatex", {}
    else:
        importer, options = "multi30k", {"task": 1 if settings.options.get("task") == 1 else 2}
    return importer, options_of(registry.IMPORTERS[importer], options, f"datasets.{dataset}.options")


def parallel(planning: Planning, dataset: str, name: str, lang: str) -> Job:
    """Sentence pairs for teachers on a data set, in its source language and `lang`: output `parallel`."""
    settings, entry = planning.params.datasets[dataset], planning.params.parallel[name]
    stem = f"data/{planning.data(dataset)}/parallel/{name}/{lang}"

    def make() -> Job:
        raw = root(planning, dataset)
        source, target = (entry.files[code].replace("{root}", raw) for code in (settings.source_lang, lang))
        return Job(
            stage="captions",
            target=f"{stem}.parquet",
            inputs={
                "captions": captions(planning, dataset).outputs["captions"],
                "source": source,
                "target": target,
            },
            outputs={"parallel": f"{stem}.parquet", "rejected": f"{stem}.rejected.parquet"},
            settings={
                "data": dataset,
                "parallel": name,
                "source_lang": settings.source_lang,
                "target_lang": lang,
                "ids": entry.ids,
                "entities": entry.entities,
                "held_out": entry.held_out,
                "on_leak": entry.on_leak,
            },
            module="ccr.captions.parallel",
        )

    return planning.once(f"{stem}.parquet", make)


def no_parallel(planning: Planning, dataset: str, name: str, langs: list[str]) -> str:
    """Why a data set cannot have these sentence pairs; empty when it can."""
    settings, files = planning.params.datasets[dataset], planning.params.parallel[name].files
    for lang in (settings.source_lang, *langs):
        if lang not in files:
            return f"parallel.{name} has no sentences in {lang!r}"
        path = files[lang].replace("{root}", settings.root)
        if path != files[lang] and settings.source == "synthetic" and not settings.world.parallel:
            return f"datasets.{dataset}.world.parallel is 0"
        if path != files[lang] and settings.source == "official" and not Path(path).exists():
            return f"parallel.{name}: {path} does not exist"
    return ""
