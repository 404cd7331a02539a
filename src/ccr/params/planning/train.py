"""Planning of stage train: CL teachers and students."""

import math
from pathlib import Path
from typing import Any

from ccr import registry
from ccr.artifacts.hashes import digest
from ccr.artifacts.jobs import Job
from ccr.params.entries import needs
from ccr.params.planning.captions import captions, parallel
from ccr.params.planning.context import Planning
from ccr.params.planning.features import features
from ccr.params.planning.translate import translation

COMPUTED = "networks.*.text.frozen_prefix: computed"


def teacher(planning: Planning, dataset: str, mt: str, langs: list[str], name: str, seed: int) -> Job:
    """A CL teacher's training job."""
    entry = planning.params.teachers[name]
    select_on, mt = ("parallel", "none") if entry.pairs == "parallel" else ("mt", mt)
    target = f"results/teachers/{planning.data(dataset)}/{mt}/{'+'.join(langs)}/{name}/seed{seed}"

    def make() -> Job:
        objectives = planning.objectives("teacher", name)
        streams = registry.streams_of(objectives) | {"target"} if select_on == "mt" else set()
        inputs = _texts(planning, dataset, mt, langs, streams, select_on)
        if entry.parallel:
            pairs = (parallel(planning, dataset, entry.parallel, lang) for lang in langs)
            inputs["parallel"] = [job.outputs["parallel"] for job in pairs]
        settings = {"langs": langs, "seed": seed, "select_on": select_on, **planning.training(dataset, "teacher", name)}
        return _training(planning, dataset, target, inputs, {"role": "teacher", "objectives": objectives, **settings})

    return planning.once(target, make)


def untrainable(planning: Planning, dataset: str, role: str, name: str) -> str:
    """Why a `student`'s method, or a `teacher`, cannot be trained on a data set; empty when it can."""
    section = {"student": "methods", "teacher": "teachers"}[role]
    entry, settings = getattr(planning.params, section)[name], planning.training(dataset, role, name)
    objectives, text = planning.objectives(role, name), settings["network"]["text"]
    if needs(objectives, "cross") and text["block"] is None:
        return (
            f"the cross-attention teacher of {section}.{name} needs an attention block in the text encoder; give "
            f"networks.*.text.block of the network that it trains on {dataset}"
        )
    if text["frozen_prefix"] == "cached":
        where = f"{section}.{name}" if entry.word_dropout is not None else f"datasets.{dataset}.train.{role}"
        hiding = [f"{where}.word_dropout"] if settings["word_dropout"] else []
        hiding += [f"{section}.{name}.objectives.{term}.masked" for term, t in objectives.items() if t.get("masked")]
        if hiding:
            return f"frozen_prefix: cached has seen all words, so none can be hidden; set {hiding[0]}: 0, or {COMPUTED}"
        kept = math.inf if text["frozen_layers"] == "all" else text["frozen_layers"]
        layers = {term: options.get("layer") for term, options in objectives.items()}
        low = [term for term, layer in layers.items() if isinstance(layer, int) and 0 <= layer < kept]
        if low:
            return (
                f"{section}.{name}.objectives.{low[0]}.layer lies below the frozen layers, whose states frozen_prefix: "
                f"cached does not keep; take a higher layer, or {COMPUTED}"
            )
    if role == "student" and (needs(objectives, "teacher") or entry.init):
        return untrainable(planning, dataset, "teacher", entry.teacher)
    return ""


def student(planning: Planning, dataset: str, mt: str, visual: str, lang: str, name: str, seed: int) -> Job:
    """A CM network's training job, for the method that trains it."""
    mt, langs = trained_on(planning, dataset, mt, lang, name)
    data = planning.data(dataset)
    target = f"results/runs/{data}/{mt}/{visual}/{'+'.join(langs)}/{name}/seed{seed}"
    return planning.once(target, lambda: _student(planning, dataset, mt, visual, langs, name, seed, target))


def trained_on(planning: Planning, dataset: str, mt: str, lang: str, name: str) -> tuple[str, list[str]]:
    """The translation variant and the languages that a method trains on; `none` if it sees no translations.

    A run without translations serves every variant and, if it has no teacher and is not selected on target captions,
    every language.
    """
    entry, settings = planning.params.methods[name], planning.training(dataset, "student", name)
    streams = registry.streams_of(planning.objectives("student", name))
    teacher_sees_mt = entry.teacher is not None and planning.params.teachers[entry.teacher].pairs == "all"
    if streams & {"target", "back"} or teacher_sees_mt or settings["select_on"] == "mt":
        return entry.mt or mt, entry.langs or [lang]
    if entry.teacher is not None or settings["select_on"] == "target":
        return "none", entry.langs or [lang]
    return "none", [planning.params.datasets[dataset].source_lang]


def _student(
    planning: Planning, dataset: str, mt: str, visual: str, langs: list[str], name: str, seed: int, target: str
) -> Job:
    entry, settings = planning.params.methods[name], planning.training(dataset, "student", name)
    objectives = planning.objectives("student", name)
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
    """Text inputs of a training job: captions, translations and back-translations in the order of `langs`."""
    imported = captions(planning, dataset).outputs
    inputs: dict[str, Any] = {role: imported[role] for role in ("captions", "items")}
    if {"target", "back"} & streams or select_on == "mt":
        made = [translation(planning, dataset, mt, lang, "forward").outputs for lang in langs]
        inputs["translations"] = [outputs["translations"] for outputs in made]
        if {"target", "back"} & streams and mt != "none" and planning.variant(mt).get("filter", {}).get("weight"):
            inputs["weights"] = [outputs["weights"] for outputs in made]
    if "back" in streams:
        made = [translation(planning, dataset, mt, lang, "back").outputs for lang in langs]
        inputs["back"] = [outputs["translations"] for outputs in made]
    return inputs


def _training(planning: Planning, dataset: str, target: str, inputs: dict[str, Any], settings: dict[str, Any]) -> Job:
    texts = [inputs["captions"], *(p for role in ("translations", "back", "parallel") for p in inputs.get(role, ()))]
    files = ["model.safetensors", "config.json", "tokenizer.json", "history.csv", "provenance.json"]
    if settings["role"] == "teacher":
        files.append("embeddings.parquet")
    train = planning.params.train
    padded = settings["network"]["pooling"] == "padded_mean"  # depends on the whole batch
    processes = 1 if padded else train.processes
    return Job(
        stage="train",
        target=target,
        inputs=inputs | encoder_folder(settings),
        outputs={file.split(".")[0]: f"{target}/{file}" for file in files},
        settings={
            **settings,
            "source_lang": planning.params.datasets[dataset].source_lang,
            "threads": train.threads,
            "processes": processes,
            "slices": 1 if padded else settings["slices"],
        },
        module="ccr.train",
        entries=_entries(settings),
        threads=train.threads * processes,
        gpus=processes,
        checkpoint_minutes=train.checkpoint_minutes,
        trackers=tuple(train.trackers),
        after=states(planning, dataset, settings, texts),
    )


def states(planning: Planning, dataset: str, settings: dict[str, Any], paths: list[str]) -> tuple[str, ...]:
    """Targets of the jobs that compute the states of these files' texts for a cached prefix, and must run first."""
    text = settings["network"]["text"]
    if text["frozen_prefix"] != "cached":
        return ()
    used = {
        key: text[key]
        for key in ("kind", "encoder", "options", "layers", "frozen_layers", "frozen_prefix", "max_tokens", "prompt")
    }
    data, threads = planning.data(dataset), planning.params.train.threads
    targets = []
    for path in paths:
        name = Path(path).relative_to(f"data/{data}")
        target = f"work/states/{data}/{digest(used)[:12]}/{name}"
        # human train captions in other languages are read as human translations, if at all
        source = planning.params.datasets[dataset].source_lang if name.name == "captions.parquet" else None
        job = Job(
            stage="train",
            target=target,
            inputs={"texts": path, **encoder_folder(settings)},
            outputs={"states": target},
            settings={"text": used, "train_lang": source, "threads": threads},
            module="ccr.states",
            entries=(f"TEXT_ENCODERS.{text['kind']}",),
            threads=threads,
            gpus=1,
        )
        targets.append(planning.once(target, lambda job=job: job).target)
    return tuple(targets)


def encoder_folder(settings: dict[str, Any]) -> dict[str, str]:
    """The input `encoder`: the folder of a training job's named text encoder; empty for one from the hub."""
    text = settings["network"]["text"]
    named = text["kind"] == "pretrained" and Path(text["encoder"]).expanduser().is_dir()
    return {"encoder": str(Path(text["encoder"]).expanduser())} if named else {}


def _entries(settings: dict[str, Any]) -> tuple[str, ...]:
    """The registry entries that a training job uses: its objectives, the providers of their needs, its encoders."""
    terms = settings["objectives"]
    named = sorted({f"OBJECTIVES.{term['objective']}" for term in terms.values()})
    return (*named, *(f"NEEDS.{need}" for need in registry.needs_of(terms)), *encoders(settings))


def encoders(settings: dict[str, Any]) -> list[str]:
    """The registry entries of a network's encoders, from the settings of its training; of an imported run too."""
    network = settings["network"]
    visual = network["visual"].get("kind", "frames")
    text = f"TEXT_ENCODERS.{registry.text_kind(network['text'])}"
    return [text] if settings.get("role") == "teacher" else [text, f"VISUAL_ENCODERS.{visual}"]
