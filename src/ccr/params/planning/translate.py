"""Planning of stage translate: translations in three directions, and their quality."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ccr import registry
from ccr.artifacts.jobs import Job
from ccr.errors import CcrError
from ccr.params.planning import pairs
from ccr.params.planning.captions import captions, root
from ccr.params.planning.context import Planning

SUFFIX = {"forward": "", "back": ".back", "queries": ".queries"}  # of file names, by direction


def every(planning: Planning) -> None:
    """Every possible translation of every data set with every variant, and its quality."""
    for dataset, settings in planning.params.datasets.items():
        for mt in planning.params.translate.variants:
            if planning.mismatch(dataset, mt, settings.visual):
                continue
            for lang in settings.target_langs:
                for direction in SUFFIX:
                    translation(planning, dataset, mt, lang, direction)
                if planning.variant(mt)["engine"] != "none":
                    quality(planning, dataset, mt, lang)


def translation(planning: Planning, dataset: str, mt: str, lang: str, direction: str) -> Job:
    """One language's forward translations, back-translations or translated queries.

    Outputs: `translations`; forward also `alignment` if the engine knows it, `weights` for a variant with a filter.
    """
    base = planning.base(mt)
    if base != mt and direction == "queries":  # neither noise nor filters affect them
        return translation(planning, dataset, base, lang, "queries")
    target = f"data/{planning.data(dataset)}/translations/{mt}/{lang}{SUFFIX[direction]}.parquet"
    return planning.once(target, lambda: _translation(planning, dataset, mt, lang, direction, target))


def module_of(variant: Mapping[str, Any]) -> str:
    """The module that makes the translations of a resolved variant."""
    if variant["engine"] == "none":
        return "ccr.translate.human"
    if "filter" in variant:
        return "ccr.translate.filters"
    return "ccr.translate.noisy" if "noise" in variant else "ccr.translate.machine"


def _translation(planning: Planning, dataset: str, mt: str, lang: str, direction: str, target: str) -> Job:
    variant, original = planning.variant(mt), planning.base(mt) == mt
    langs = {"source_lang": planning.params.datasets[dataset].source_lang, "target_lang": lang}
    engine = registry.ENGINES[variant["engine"]]
    filtered = "filter" in variant
    job = Job(
        stage="translate",
        target=target,
        inputs=_inputs(planning, dataset, mt, lang, direction),
        outputs=_outputs(planning, dataset, mt, lang, direction, target),
        settings={"direction": direction, "variant": mt, **langs, **variant},
        module=module_of(variant),
        entries=() if filtered else (f"ENGINES.{variant['engine']}",),
    )
    if engine.neural and (original or (direction == "back" and not filtered)):  # the engine translates
        job = replace(job, threads=planning.params.translate.threads, gpus=1)
    if original and engine.remembered:
        folder = f"work/tm/shards/{planning.data(dataset)}/{mt}/{lang}{SUFFIX[direction]}"
        job = planning.scattered(job, folder, planning.params.translate.shards)
    return job


def _outputs(planning: Planning, dataset: str, mt: str, lang: str, direction: str, target: str) -> dict[str, str]:
    variant = planning.variant(mt)
    stem = f"data/{planning.data(dataset)}/translations/{mt}/{lang}"
    outputs = {"translations": target}
    if direction == "forward" and "filter" in variant:
        outputs["weights"] = f"{stem}.weights.parquet"
    elif direction == "forward" and variant["engine"] == "lexicon" and planning.base(mt) == mt:
        outputs["alignment"] = f"{stem}.alignment.parquet"
    return outputs


def _inputs(planning: Planning, dataset: str, mt: str, lang: str, direction: str) -> dict[str, Any]:
    base = planning.base(mt)

    def path(variant: str, direction: str) -> str:
        return translation(planning, dataset, variant, lang, direction).outputs["translations"]

    if base == mt:
        return _translated(planning, dataset, mt, lang, direction)
    if "filter" not in planning.variant(mt):
        inputs = {"clean": path(base, "forward")}
        if direction == "back":
            inputs["clean_back"] = path(base, "back")
            inputs |= _translated(planning, dataset, mt, lang, "back")
        return inputs
    if direction == "back":
        return {"forward": path(mt, "forward"), "whole_back": path(base, "back")}
    whole = {"whole": path(base, "forward"), "captions": captions(planning, dataset).outputs["captions"]}
    return whole | {"whole_back": path(base, "back")}


def _translated(planning: Planning, dataset: str, mt: str, lang: str, direction: str) -> dict[str, Any]:
    """What an engine reads; without its own files if it does not support the pair, which is reported for the job."""
    inputs: dict[str, Any] = {"captions": captions(planning, dataset).outputs["captions"]}
    source = planning.params.datasets[dataset].source_lang
    with suppress(CcrError):
        pair = (source, lang) if direction == "forward" else (lang, source)
        inputs |= pairs.files(planning.variant(mt), *pair, "")
    if planning.variant(mt)["engine"] == "lexicon":
        inputs["lexicon"] = f"{root(planning, dataset)}/lexicon.json"
    if direction == "back":
        inputs["forward"] = translation(planning, dataset, mt, lang, "forward").outputs["translations"]
    return inputs


def quality(planning: Planning, dataset: str, mt: str, lang: str) -> Job:
    """The job that measures the quality of one language's translations: output `quality`."""
    target = f"data/{planning.data(dataset)}/translations/{mt}/{lang}.quality.json"

    def make() -> Job:
        both = {
            role: translation(planning, dataset, mt, lang, role).outputs["translations"] for role in ("forward", "back")
        }
        return Job(
            stage="translate",
            target=target,
            inputs={"captions": captions(planning, dataset).outputs["captions"], **both},
            outputs={"quality": target},
            settings={
                "variant": mt,
                "source_lang": planning.params.datasets[dataset].source_lang,
                "target_lang": lang,
            },
            module="ccr.translate.quality",
        )

    return planning.once(target, make)
