"""Planning of stage train: CL teachers and students."""

from typing import Any

from ccr import registry
from ccr.artifacts.jobs import Job
from ccr.errors import CcrError
from ccr.params.entries import needs
from ccr.params.planning.captions import captions, parallel
from ccr.params.planning.context import Planning
from ccr.params.planning.features import features
from ccr.params.planning.translate import translation


def teacher(planning: Planning, dataset: str, mt: str, langs: list[str], name: str, seed: int) -> Job:
    """A CL teacher's training."""
    target = f"results/teachers/{planning.data(dataset)}/{mt}/{'+'.join(langs)}/{name}/seed{seed}"

    def make() -> Job:
        entry, objectives = planning.params.teachers[name], planning.objectives("teacher", name)
        inputs = _texts(planning, dataset, mt, langs, registry.streams_of(objectives) | {"target"}, "mt")
        if entry.parallel:
            pairs = (parallel(planning, dataset, entry.parallel, lang) for lang in langs)
            inputs["parallel"] = [job.outputs["parallel"] for job in pairs]
        settings = {"langs": langs, "seed": seed, "select_on": "mt", **planning.training(dataset, "teacher", name)}
        return _training(planning, dataset, target, inputs, {"role": "teacher", "objectives": objectives, **settings})

    return planning.once(target, make)


def student(planning: Planning, dataset: str, mt: str, visual: str, lang: str, name: str, seed: int) -> Job:
    """A CM network's training, for the method that trains it."""
    mt, langs = trained_on(planning, dataset, mt, lang, name)
    data = planning.data(dataset)
    target = f"results/runs/{data}/{mt}/{visual}/{'+'.join(langs)}/{name}/seed{seed}"
    return planning.once(target, lambda: _student(planning, dataset, mt, visual, langs, name, seed, target))


def trained_on(planning: Planning, dataset: str, mt: str, lang: str, name: str) -> tuple[str, list[str]]:
    """The translation variant and the languages that a method trains on; `none` where it sees no translation.

    One run without translations serves every variant, and every language that it is not selected on.
    """
    entry, settings = planning.params.methods[name], planning.training(dataset, "student", name)
    streams = registry.streams_of(planning.objectives("student", name))
    if streams & {"target", "back"} or entry.teacher is not None or settings["select_on"] == "mt":
        return entry.mt or mt, entry.langs or [lang]
    return "none", [lang if settings["select_on"] == "target" else planning.params.datasets[dataset].source_lang]


def _student(
    planning: Planning, dataset: str, mt: str, visual: str, langs: list[str], name: str, seed: int, target: str
) -> Job:
    entry, settings = planning.params.methods[name], planning.training(dataset, "student", name)
    objectives = planning.objectives("student", name)
    if needs(objectives, "cross") and settings["network"]["text"]["block"] is None:
        raise CcrError(
            f"params.yaml: methods.{name}: its cross-attention teacher needs an attention block in the text "
            f"encoder; give networks.*.text.block of the network that it trains on {dataset}."
        )
    inputs = _texts(planning, dataset, mt, langs, registry.streams_of(objectives), settings["select_on"])
    inputs["features"] = features(planning, dataset, visual).outputs["features"]
    if needs(objectives, "teacher") or entry.init:
        outputs = teacher(planning, dataset, mt, langs, entry.teacher, seed).outputs
        if needs(objectives, "teacher"):
            inputs["teacher"] = outputs["embeddings"]
        if entry.init:
            inputs |= {f"init_{role}": outputs[role] for role in ("model", "tokenizer")}
    settings = {"role": "student", "langs": langs, "objectives": objectives, "seed": seed, **settings}
    return _training(planning, dataset, target, inputs, settings)


def _texts(
    planning: Planning, dataset: str, mt: str, langs: list[str], streams: set[str], select_on: str
) -> dict[str, Any]:
    """Text inputs of a training: captions, translations and back-translations in the order of `langs`."""
    inputs: dict[str, Any] = {**captions(planning, dataset).outputs}
    if "target" in streams or select_on == "mt":
        made = [translation(planning, dataset, mt, lang, "forward").outputs for lang in langs]
        inputs["translations"] = [outputs["translations"] for outputs in made]
        if mt != "none" and planning.variant(mt).get("filter", {}).get("weight"):
            inputs["weights"] = [outputs["weights"] for outputs in made]
    if "back" in streams:
        made = [translation(planning, dataset, mt, lang, "back").outputs for lang in langs]
        inputs["back"] = [outputs["translations"] for outputs in made]
    return inputs


def _training(planning: Planning, dataset: str, target: str, inputs: dict[str, Any], settings: dict[str, Any]) -> Job:
    files = ["model.safetensors", "config.json", "tokenizer.json", "history.csv", "provenance.json"]
    if settings["role"] == "teacher":
        files.append("embeddings.parquet")
    train = planning.params.train
    padded = settings["network"]["pooling"] == "padded_mean"  # depends on the whole batch
    processes = 1 if padded else train.processes
    return Job(
        stage="train",
        target=target,
        inputs=inputs,
        outputs={file.split(".")[0]: f"{target}/{file}" for file in files},
        settings={
            **settings,
            "source_lang": planning.params.datasets[dataset].source_lang,
            "threads": train.threads,
            "processes": processes,
        },
        module="ccr.train",
        entries=_entries(settings),
        threads=train.threads * processes,
        gpus=processes,
        checkpoint_minutes=train.checkpoint_minutes,
    )


def _entries(settings: dict[str, Any]) -> tuple[str, ...]:
    """What a training uses of the registry: its objectives, what provides their needs, its encoders."""
    terms = settings["objectives"]
    named = sorted({f"OBJECTIVES.{term['objective']}" for term in terms.values()})
    return (*named, *(f"NEEDS.{need}" for need in registry.needs_of(terms)), *encoders(settings))


def encoders(settings: dict[str, Any]) -> list[str]:
    """The registry's entries of the encoders of a network, from the settings of its training."""
    network = settings["network"]
    visual = [f"VISUAL_ENCODERS.{network['visual']['kind']}"] if settings["role"] == "student" else []
    return [f"TEXT_ENCODERS.{network['text']['kind']}", *visual]
