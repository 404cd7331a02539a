"""params.yaml: its schema, its error messages, and the plan that it means.

`validate` turns the raw mapping into `Params` or raises one `CcrError` that names the key path and the nearest
valid value. `plan` lists every job with its resolved settings: the only place that knows which run needs which
teacher, translation or feature file. Nothing here imports torch or a stage.
"""

import copy
import csv
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from ccr import registry
from ccr.artifacts import LANGUAGES, Job, atomic, job_key
from ccr.errors import CcrError
from ccr.registry import Entry

Raw = Mapping[str, Any]


def _number(value: Any) -> Any:
    """YAML 1.1 reads `3e-4` as a string and pydantic reads `true` as 1: take the first, refuse the second."""
    if isinstance(value, bool):
        raise ValueError("expected a number, not true/false")
    return value


Integer = Annotated[int, BeforeValidator(_number)]
Count = Annotated[Integer, Field(ge=1)]
Natural = Annotated[Integer, Field(ge=0)]
Float = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Weight = Annotated[Float, Field(ge=0)]
Positive = Annotated[Float, Field(gt=0)]
Rate = Annotated[Float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Section(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class World(Section):
    """Size and seed of a data set's synthetic stand-in; `size` in pixels, `frames` per clip."""

    train: Count
    val: Count
    test: Count
    captions: Count
    frames: Count
    size: Count
    seed: Natural


class TextNetwork(Section):
    """`encoder`: `scratch` (a BERT of this size, its tokenizer trained with it) or a model name or path.

    The sizes are given for `scratch` alone; a named model brings its own. `frozen_layers`: the embeddings and this
    many lower layers keep their weights; 0 freezes nothing.
    """

    encoder: str
    max_tokens: Annotated[Integer, Field(ge=4)]
    frozen_layers: Natural
    hidden: Count | None = None
    layers: Count | None = None
    heads: Count | None = None
    feedforward: Count | None = None
    vocabulary: Count | None = None
    dropout: Rate | None = None


class VisualNetwork(Section):
    """`block`: one attention block over the frames before the mean (video), else linear + ReLU (image).

    `input_dropout`: share of a feature's values that training hides; frozen features of few items are soon learnt by
    heart.
    """

    hidden: Count
    block: bool
    heads: Count
    max_frames: Count
    input_dropout: Rate
    dropout: Rate


class Network(Section):
    """A dual encoder: two encoders and a common space of `dim` dimensions."""

    text: TextNetwork
    visual: VisualNetwork
    dim: Count
    norm: Literal["layer", "batch"]
    dropout: Rate


class Training(Section):
    """How a network is trained; a data set or an entry may override any of it.

    `word_dropout`: share of the words that each step hides behind [MASK]. `patience`: epochs without a better one
    after which training ends. `warmup`: share of the steps in which lr rises; then it falls along half a cosine.
    `precision`: bf16 runs the networks under autocast, the objectives stay in float32; fast on GPUs and on CPUs with
    bf16 instructions, slow on others.
    """

    network: str
    lr: Positive
    weight_decay: Weight
    batch: Annotated[Integer, Field(ge=2)]
    epochs: Count
    warmup: Rate
    clip_norm: Positive
    word_dropout: Rate
    patience: Count
    precision: Literal["fp32", "bf16"]


class StudentTraining(Training):
    """`select_on`: the val captions that choose the best epoch: human `target`, their `mt`, or human `source` ones."""

    select_on: Literal["target", "mt", "source"]


def _overrides(model: type[BaseModel]) -> dict[str, Any]:
    return {name: (field.annotation | None, None) for name, field in model.model_fields.items()}


TeacherOverrides = create_model("TeacherOverrides", __base__=Section, **_overrides(Training))
StudentOverrides = create_model("StudentOverrides", __base__=Section, **_overrides(StudentTraining))


class Roles(Section):
    """Overrides of `train` for one data set."""

    student: StudentOverrides = StudentOverrides()
    teacher: TeacherOverrides = TeacherOverrides()


class Dataset(Section):
    """A data set: where it lies, in which layout, and what its tables use by default."""

    kind: Literal["video", "image"]
    importer: str
    options: dict[str, Any] = {}
    source: Literal["official", "synthetic"] = "official"
    root: str
    source_lang: str = "en"
    target_langs: Annotated[list[str], Field(min_length=1)]
    mt: str
    visual: str
    world: World | None = None
    train: Roles = Roles()


class Teacher(TeacherOverrides):
    """A CL teacher: text only, weighted objectives over source captions and their translations."""

    like: str | None = None
    objectives: dict[Name, dict[str, Any] | None] = {}


class Method(StudentOverrides):
    """A row of a table: trained (`objectives`) or evaluated with another's weights (`uses`)."""

    like: str | None = None
    uses: str | None = None
    teacher: str | None = None
    mt: str | None = None
    langs: list[str] | None = None
    queries: dict[Literal["target", "translated"], Positive] = {"target": 1.0}
    objectives: dict[Name, dict[str, Any] | None] = {}


class Table(Section):
    """Rows: every data set x mt x visual x target language x method."""

    data: Annotated[list[str], Field(min_length=1)]
    methods: Annotated[list[str], Field(min_length=1)]
    seeds: Annotated[list[Natural], Field(min_length=1)] = [0]
    mt: list[str] | None = None
    visual: list[str] | None = None
    baseline: str = "baseline"
    paper: bool = False


class Translate(Section):
    variants: dict[Name, dict[str, Any]]


class Features(Section):
    extractors: dict[Name, dict[str, Any]]


class Train(Section):
    student: StudentTraining
    teacher: Training
    threads: Count


class Evaluate(Section):
    """`batch`: captions or items embedded at a time; changes the memory used, not the result."""

    batch: Count


class Params(Section):
    """The whole of params.yaml."""

    preset: str
    datasets: dict[Name, Dataset]
    translate: Translate
    features: Features
    networks: dict[Name, Network]
    train: Train
    evaluate: Evaluate
    teachers: dict[Name, Teacher] = {}
    methods: dict[Name, Method]
    tables: dict[Name, Table]
    run: list[str]


# --- messages ----------------------------------------------------------------------------------------------


def _nearest(value: Any, valid: Iterable[str]) -> str:
    valid = sorted(valid)
    close = difflib.get_close_matches(str(value), valid, n=1, cutoff=0.5)
    return (f"did you mean {close[0]!r}? " if close else "") + f"Valid: {', '.join(valid) or 'none'}."


def _known(value: str, valid: Iterable[str], path: str, what: str) -> None:
    if value not in valid:
        raise CcrError(f"params.yaml: {path}: unknown {what} {value!r}; {_nearest(value, valid)}")


def _fields_at(model: Any, location: tuple) -> list[str]:
    """Names that may stand where pydantic found an unknown one."""
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[part].annotation
        else:  # the values of a mapping
            model = getattr(model, "__args__", (None,))[-1]
        if type(None) in getattr(model, "__args__", ()):
            model = next(argument for argument in model.__args__ if argument is not type(None))
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> CcrError:
    lines = []
    for problem in error.errors():
        location = [str(p) for p in problem["loc"]]
        path = prefix + ".".join(location)
        if problem["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key; {_nearest(location[-1], _fields_at(model, problem['loc'][:-1]))}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: missing. It must be given.")
        elif problem["type"] == "literal_error":
            valid = [v.strip().strip("'") for v in problem["ctx"]["expected"].replace(" or ", ", ").split(",")]
            lines.append(f"{path}: {problem['input']!r} is not allowed; {_nearest(problem['input'], valid)}")
        else:
            lines.append(f"{path}: {problem['msg']} (found {problem['input']!r})")
    return CcrError("\n".join(f"params.yaml: {line}" for line in lines))


# --- entries that are found in a registry ---------------------------------------------------------------------


@cache
def _options_model(entry: Entry) -> type[BaseModel]:
    def field(option: registry.Option) -> tuple[Any, Any]:
        kind = {int: Integer, float: Float}.get(option.type, option.type)
        return kind, Field(option.default, ge=option.ge, gt=option.gt, le=option.le)

    return create_model("Options", __base__=Section, **{n: field(o) for n, o in entry.options.items()})


def _options(entry: Entry, given: Raw, path: str) -> dict[str, Any]:
    """`given`, checked against the registry entry's options and completed with its defaults."""
    model = _options_model(entry)
    try:
        return model.model_validate(dict(given)).model_dump(mode="json")
    except ValidationError as error:
        raise _explain(error, model, path + ".") from error


def _like(entries: Mapping[str, Raw], name: str, path: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """An entry with what it inherits by `like`: mappings are merged, the rest replaced; null removes a term."""
    entry = dict(entries[name])
    parent = entry.pop("like", None)
    if parent is None:
        return entry
    _known(parent, entries, f"{path}.{name}.like", "entry")
    if parent in (*seen, name):
        raise CcrError(f"params.yaml: {path}.{name}.like: {parent!r} leads back to {name!r}; break the circle.")
    return _merge(_like(entries, parent, path, (*seen, name)), entry)


def _merge(base: Raw, edits: Raw) -> dict[str, Any]:
    merged = dict(base)
    for key, value in edits.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both and key != "queries" else value
    return merged


def _objectives(terms: Raw, path: str) -> dict[str, dict[str, Any]]:
    """Terms with weight > 0, resolved: {term: {objective, weight, options}}."""
    resolved = {}
    for term, given in terms.items():
        if given is None:
            continue
        given = dict(given)
        objective = given.pop("objective", term)
        _known(objective, registry.OBJECTIVES, f"{path}.{term}", "objective")
        weight = _weight(given.pop("weight", 1.0), f"{path}.{term}.weight")
        entry = registry.OBJECTIVES[objective]
        unknown = [k for k in given if k not in entry.options]
        if unknown:
            valid = [*entry.options, "objective", "weight"]
            raise CcrError(f"params.yaml: {path}.{term}.{unknown[0]}: unknown key; {_nearest(unknown[0], valid)}")
        options = _options(entry, given, f"{path}.{term}")
        if len(options["pair"]) != 2 or options["pair"][0] == options["pair"][1]:
            raise CcrError(f"params.yaml: {path}.{term}.pair: expected two different streams, found {options['pair']}.")
        if weight > 0:
            resolved[term] = {"objective": objective, "weight": weight, **options}
    return resolved


def _weight(value: Any, path: str) -> float:
    try:
        return TypeAdapter(Weight).validate_python(value)
    except ValidationError as error:
        raise CcrError(f"params.yaml: {path}: expected a number >= 0, found {value!r}.") from error


def _needs(objectives: Mapping[str, Raw], what: str) -> bool:
    return any(what in registry.OBJECTIVES[term["objective"]].needs for term in objectives.values())


def _streams(objectives: Mapping[str, Raw]) -> set[str]:
    return {stream for term in objectives.values() for stream in term["pair"]}


# --- validation ----------------------------------------------------------------------------------------------


def load(path: str | Path = "params.yaml") -> Params:
    """Read and validate params.yaml (or another file of its form)."""
    try:
        raw = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError as error:
        raise CcrError(f"{path}: no such file. Run ccr from the project's top folder.") from error
    except yaml.YAMLError as error:
        raise CcrError(f"{path}: not valid YAML: {error}") from error
    return validate(raw)


def validate(raw: Raw) -> Params:
    """Check everything that can be checked without data. Raises `CcrError`: one line per problem."""
    if not isinstance(raw, Mapping):
        raise CcrError("params.yaml: expected sections (datasets, translate, ...), found something else.")
    raw = dict(raw)
    for section, model in (("methods", Method), ("teachers", Teacher)):
        entries = raw.get(section) or {}
        for name, entry in entries.items():  # each as written first, so that a typo is reported where it stands
            if not isinstance(entry, Mapping):
                raise CcrError(f"params.yaml: {section}.{name}: expected keys and values, found {entry!r}.")
            try:
                model.model_validate(dict(entry))
            except ValidationError as error:
                raise _explain(error, model, f"{section}.{name}.") from error
        raw[section] = {name: _like(entries, name, section) for name in entries}
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise _explain(error, Params) from error
    _check_networks(params)
    _check_datasets(params)
    _check_methods(params)
    _check_tables(params)
    return params


def _check_networks(params: Params) -> None:
    for name, network in params.networks.items():
        scratch = network.text.encoder == "scratch"
        for key in ("hidden", "layers", "heads", "feedforward", "vocabulary", "dropout"):
            path = f"networks.{name}.text.{key}"
            if scratch and getattr(network.text, key) is None:
                raise CcrError(f"params.yaml: {path}: missing. encoder: scratch needs it.")
            if not scratch and getattr(network.text, key) is not None:
                raise CcrError(f"params.yaml: {path}: comes from {network.text.encoder!r}; leave it out.")
        for part, widths in (("text", network.text), ("visual", network.visual)):
            if widths.hidden and widths.hidden % widths.heads:
                raise CcrError(
                    f"params.yaml: networks.{name}.{part}.heads: {widths.heads} heads do not divide hidden "
                    f"{widths.hidden}."
                )


def _check_datasets(params: Params) -> None:
    for variant in params.translate.variants:
        _variant(params, variant)
    for extractor in params.features.extractors:
        _extractor(params, extractor)
    for name, dataset in params.datasets.items():
        path = f"datasets.{name}"
        _known(dataset.importer, registry.IMPORTERS, f"{path}.importer", "importer")
        _options(registry.IMPORTERS[dataset.importer], dataset.options, f"{path}.options")
        _known(dataset.mt, params.translate.variants, f"{path}.mt", "translation variant")
        _known(dataset.visual, params.features.extractors, f"{path}.visual", "extractor")
        for lang in (dataset.source_lang, *dataset.target_langs):
            _known(lang, LANGUAGES, f"{path}.target_langs", "language")
        if dataset.source_lang in dataset.target_langs:
            raise CcrError(f"params.yaml: {path}.target_langs: {dataset.source_lang!r} is the source language.")
        _check_pair(params, name, dataset.mt, dataset.visual)
        for role in ("student", "teacher"):
            network = getattr(dataset.train, role).network
            if network:
                _known(network, params.networks, f"{path}.train.{role}.network", "network")


def _check_pair(params: Params, name: str, mt: str, visual: str) -> None:
    """The mini-world has its own engine, and published dumps belong to official data."""
    dataset = params.datasets[name]
    engine = _variant(params, mt)["engine"]
    if engine == "lexicon" and dataset.source != "synthetic":
        raise CcrError(
            f"params.yaml: datasets.{name}: translation variant {mt!r} (engine lexicon) knows only the synthetic "
            f"mini-world. With source: official choose a variant of another engine, e.g. mt: google."
        )
    if dataset.source == "synthetic":
        if dataset.world is None:
            raise CcrError(f"params.yaml: datasets.{name}.world: missing; source: synthetic needs its size and seed.")
        if engine == "precomputed":
            raise CcrError(
                f"params.yaml: datasets.{name}: nobody published translations ({mt!r}) of the synthetic mini-world. "
                f"With source: synthetic use mt: lexicon."
            )
        if _extractor(params, visual)["extractor"] == "published":
            raise CcrError(
                f"params.yaml: datasets.{name}: nobody published features ({visual!r}) of the synthetic mini-world. "
                f"With source: synthetic use visual: descriptor."
            )
        if dataset.kind == "video" and set((dataset.source_lang, *dataset.target_langs)) - {"en", "zh"}:
            raise CcrError(
                f"params.yaml: datasets.{name}.target_langs: the layout of VATEX, in which the mini-world publishes "
                f"videos, holds en and zh only. Use kind: image for other languages."
            )


def _check_methods(params: Params) -> None:
    for role in ("student", "teacher"):
        _known(getattr(params.train, role).network, params.networks, f"train.{role}.network", "network")
    for name, teacher in params.teachers.items():
        if teacher.network:
            _known(teacher.network, params.networks, f"teachers.{name}.network", "network")
        objectives = _objectives(teacher.objectives, f"teachers.{name}.objectives")
        if not objectives:
            raise CcrError(f"params.yaml: teachers.{name}.objectives: at least one term with a weight is needed.")
        if "visual" in _streams(objectives):
            raise CcrError(f"params.yaml: teachers.{name}.objectives: a CL teacher trains on text alone; no 'visual'.")
    for name, method in params.methods.items():
        path = f"methods.{name}"
        for value, valid, key, what in (
            (method.uses, params.methods, "uses", "method"),
            (method.teacher, params.teachers, "teacher", "teacher"),
            (method.mt, params.translate.variants, "mt", "translation variant"),
            (method.network, params.networks, "network", "network"),
        ):
            if value is not None:
                _known(value, valid, f"{path}.{key}", what)
        for lang in method.langs or []:
            _known(lang, LANGUAGES, f"{path}.langs", "language")
        objectives = _objectives(method.objectives, f"{path}.objectives")
        if method.uses and (objectives or params.methods[method.uses].uses):
            raise CcrError(f"params.yaml: {path}.uses: a method that uses another's run trains nothing itself.")
        if not method.uses and not objectives:
            raise CcrError(f"params.yaml: {path}: give it `objectives` to train on, or `uses` of a trained method.")
        if not method.uses and "visual" not in _streams(objectives):
            raise CcrError(f"params.yaml: {path}.objectives: no term has the stream 'visual'; nothing to retrieve.")
        if _needs(objectives, "teacher") and not method.teacher:
            raise CcrError(f"params.yaml: {path}.teacher: its objectives need one; {_nearest('', params.teachers)}")


def _check_tables(params: Params) -> None:
    for name, table in params.tables.items():
        for value in table.data:
            _known(value, params.datasets, f"tables.{name}.data", "data set")
        for value in (*table.methods, table.baseline):
            _known(value, params.methods, f"tables.{name}.methods", "method")
        for value in table.mt or []:
            _known(value, params.translate.variants, f"tables.{name}.mt", "translation variant")
        for value in table.visual or []:
            _known(value, params.features.extractors, f"tables.{name}.visual", "extractor")
        for dataset in table.data:
            for mt in table.mt or []:
                for visual in table.visual or [params.datasets[dataset].visual]:
                    _check_pair(params, dataset, mt, visual)
    for value in params.run:
        _known(value, params.tables, "run", "table")


def _variant(params: Params, name: str) -> dict[str, Any]:
    """A translation variant resolved: {engine, options}. Published translations are named after the variant."""
    given = _like(params.translate.variants, name, "translate.variants")
    engine = given.pop("engine", name)
    path = f"translate.variants.{name}"
    _known(engine, registry.ENGINES, f"{path}.engine", "engine")
    options = _options(registry.ENGINES[engine], given, path)
    if engine == "precomputed" and not options["published"]:
        root = name
        while "like" in params.translate.variants[root]:
            root = params.translate.variants[root]["like"]
        options["published"] = root
    return {"engine": engine, "options": options}


def _extractor(params: Params, name: str) -> dict[str, Any]:
    """An extractor entry resolved: {extractor, options}. A published dump lies in FeatureData/{name} by default."""
    given = _like(params.features.extractors, name, "features.extractors")
    extractor = given.pop("extractor", name)
    path = f"features.extractors.{name}"
    _known(extractor, registry.EXTRACTORS, f"{path}.extractor", "extractor")
    options = _options(registry.EXTRACTORS[extractor], given, path)
    if extractor == "published" and not options["path"]:
        options["path"] = f"FeatureData/{name}"
    return {"extractor": extractor, "options": options}


# --- the plan --------------------------------------------------------------------------------------------------


class Plan:
    """Every job of every table, by target. Inputs name the targets' files, so the order follows from the plan."""

    def __init__(self, params: Params):
        self.params = params
        self.jobs: dict[str, Job] = {}
        for name in params.tables:
            _Planner(params, self.jobs).table(name)

    @property
    def run(self) -> list[str]:
        """Tables that plain `snakemake` makes."""
        return list(self.params.run)

    @property
    def papers(self) -> list[str]:
        """Tables of the papers."""
        return [name for name, table in self.params.tables.items() if table.paper]

    def job(self, target: str) -> Job:
        """The job that makes `target`; its settings are complete, its key is not yet known.

        Raises `CcrError` for an unplanned target and for a captions job whose raw data are not there.
        """
        target = target.rstrip("/")
        if target not in self.jobs:
            close = difflib.get_close_matches(target, self.jobs, n=3, cutoff=0.3)
            raise CcrError(f"{target}: params.yaml plans no such job. Nearest: {', '.join(close) or 'none'}.")
        job = self.jobs[target]
        if job.stage == "captions" and job.settings["source"] == "official":
            self._check_root(job)
        return job

    @staticmethod
    def _check_root(job: Job) -> None:
        root, data = job.inputs["root"], job.settings["data"]
        if not Path(root).is_dir():
            expects = "".join(f"\n  {root}/{name}" for name in registry.IMPORTERS[job.settings["importer"]].expects)
            raise CcrError(
                f"datasets.{data}.root: {root} does not exist. The importer {job.settings['importer']!r} expects"
                f"{expects}\nPut the data there, or point datasets.{data}.root in params.yaml to it. Without the data: "
                f"datasets.{data}.source: synthetic (with mt: lexicon, visual: descriptor) runs on the mini-world."
            )

    def keyed(self, target: str) -> Job:
        """The job with its key; every input must exist."""
        job = self.job(target)
        missing = [path for path in job.input_paths() if not Path(path).exists()]
        if missing:
            raise CcrError(f"{target}: its input {missing[0]} does not exist; make that first (`ccr plan {target}`).")
        return replace(job, key=job_key(job))

    def needs(self, target: str) -> list[Job]:
        """The jobs that `target` needs, in an order in which they can run, itself last."""
        makers = {path: job for job in self.jobs.values() for path in job.outputs.values()}
        ordered: dict[str, Job] = {}

        def visit(job: Job) -> None:
            if job.target not in ordered:
                for path in job.input_paths():
                    if path in makers:
                        visit(makers[path])
                ordered[job.target] = job

        visit(self.job(target))
        return list(ordered.values())


def plan(params: Params) -> Plan:
    """Every job that the tables of `params` need, with resolved settings."""
    return Plan(params)


class _Planner:
    """Adds the jobs of a table, from its rows back to the raw data."""

    def __init__(self, params: Params, jobs: dict[str, Job]):
        self.params = params
        self.jobs = jobs

    def _add(self, job: Job) -> Job:
        self.jobs[job.target] = job
        return job

    # data: names and paths

    def _data(self, dataset: str) -> str:
        return dataset + ("-synthetic" if self.params.datasets[dataset].source == "synthetic" else "")

    def _root(self, dataset: str) -> str:
        """Raw data. The mini-world is published into a folder of its own."""
        settings = self.params.datasets[dataset]
        if settings.source == "official":
            return settings.root
        root = f"data/raw/{self._data(dataset)}"
        task = settings.options.get("task", 2) if settings.importer == "multi30k" else 2
        self._add(
            Job(
                stage="world",
                target=root,
                inputs={},
                outputs={"manifest": f"{root}/manifest.json"},
                settings={
                    "layout": "vatex" if settings.kind == "video" else f"multi30k_task{task}",
                    "kind": settings.kind,
                    "langs": [settings.source_lang, *settings.target_langs],
                    **settings.world.model_dump(),
                },
            )
        )
        return root

    def _importer(self, dataset: str) -> tuple[str, dict[str, Any]]:
        settings = self.params.datasets[dataset]
        if settings.source == "official":
            importer, options = settings.importer, settings.options
        elif settings.kind == "video":
            importer, options = "vatex", {}
        else:
            importer, options = "multi30k", {"task": 1 if settings.options.get("task") == 1 else 2}
        return importer, _options(registry.IMPORTERS[importer], options, f"datasets.{dataset}.options")

    def captions(self, dataset: str) -> dict[str, str]:
        """Outputs {captions, items} of a data set's captions job."""
        settings = self.params.datasets[dataset]
        folder = f"data/{self._data(dataset)}"
        root = self._root(dataset)
        importer, options = self._importer(dataset)
        inputs = {"root": root}
        if settings.source == "synthetic":
            inputs["manifest"] = f"{root}/manifest.json"
        return self._add(
            Job(
                stage="captions",
                target=f"{folder}/captions.parquet",
                inputs=inputs,
                outputs={"captions": f"{folder}/captions.parquet", "items": f"{folder}/items.parquet"},
                settings={
                    "importer": importer,
                    "data": dataset,
                    "kind": settings.kind,
                    "source": settings.source,
                    "langs": [settings.source_lang, *settings.target_langs],
                    "options": options,
                },
            )
        ).outputs

    def translation(self, dataset: str, mt: str, lang: str, direction: str) -> str:
        """Path of one language's forward translations, back-translations or translated queries."""
        settings = self.params.datasets[dataset]
        folder = f"data/{self._data(dataset)}/translations/{mt}"
        suffix = {"forward": "", "back": ".back", "queries": ".queries"}[direction]
        target = f"{folder}/{lang}{suffix}.parquet"
        variant = _variant(self.params, mt)
        inputs = {"captions": self.captions(dataset)["captions"]}
        outputs = {"translations": target}
        if variant["engine"] == "lexicon":
            inputs["lexicon"] = f"{self._root(dataset)}/lexicon.json"
            if direction == "forward":
                outputs["alignment"] = f"{folder}/{lang}.alignment.parquet"
        if direction == "back":
            inputs["forward"] = self.translation(dataset, mt, lang, "forward")
        self._add(
            Job(
                stage="translate",
                target=target,
                inputs=inputs,
                outputs=outputs,
                settings={
                    "direction": direction,
                    "variant": mt,
                    "source_lang": settings.source_lang,
                    "target_lang": lang,
                    **variant,
                },
            )
        )
        return target

    def features(self, dataset: str, visual: str) -> str:
        """Path of a data set's features."""
        folder = f"data/{self._data(dataset)}/features"
        inputs = {"items": self.captions(dataset)["items"], "root": self._root(dataset)}
        return self._add(
            Job(
                stage="features",
                target=f"{folder}/{visual}.parquet",
                inputs=inputs,
                outputs={
                    "features": f"{folder}/{visual}.parquet",
                    "rejected": f"{folder}/{visual}.rejected.parquet",
                },
                settings={"kind": self.params.datasets[dataset].kind, **_extractor(self.params, visual)},
                threads=self.params.train.threads,
            )
        ).outputs["features"]

    # training

    def _training(self, dataset: str, role: str, entry: Teacher | Method) -> dict[str, Any]:
        """train.{role} <- datasets.{dataset}.train.{role} <- the entry, the network resolved."""
        settings = getattr(self.params.train, role).model_dump()
        for layer in (getattr(self.params.datasets[dataset].train, role), entry):
            given = {name: getattr(layer, name) for name in settings}
            settings |= {name: value for name, value in given.items() if value is not None}
        settings["network"] = self.params.networks[settings["network"]].model_dump()
        return settings

    def _texts(self, dataset: str, mt: str, langs: list[str], streams: set[str], select_on: str) -> dict[str, Any]:
        """Text inputs of a training: captions, translations and back-translations in the order of `langs`."""
        inputs: dict[str, Any] = {**self.captions(dataset)}
        if "target" in streams or select_on == "mt":
            inputs["translations"] = [self.translation(dataset, mt, lang, "forward") for lang in langs]
        if "back" in streams:
            inputs["back"] = [self.translation(dataset, mt, lang, "back") for lang in langs]
        return inputs

    def _train(self, target: str, dataset: str, inputs: dict[str, Any], settings: dict[str, Any]) -> Job:
        files = ["model.safetensors", "config.json", "tokenizer.json", "history.csv", "provenance.json"]
        if settings["role"] == "teacher":
            files.append("embeddings.parquet")
        return self._add(
            Job(
                stage="train",
                target=target,
                inputs=inputs,
                outputs={file.split(".")[0]: f"{target}/{file}" for file in files},
                settings={
                    **settings,
                    "source_lang": self.params.datasets[dataset].source_lang,
                    "threads": self.params.train.threads,
                },
                threads=self.params.train.threads,
            )
        )

    def teacher(self, dataset: str, mt: str, langs: list[str], name: str, seed: int) -> Job:
        """A CL teacher's training."""
        entry = self.params.teachers[name]
        objectives = _objectives(entry.objectives, f"teachers.{name}.objectives")
        settings = self._training(dataset, "teacher", entry)
        inputs = self._texts(dataset, mt, langs, _streams(objectives) | {"target"}, "mt")
        return self._train(
            f"results/teachers/{self._data(dataset)}/{mt}/{'+'.join(langs)}/{name}/seed{seed}",
            dataset,
            inputs,
            {"role": "teacher", "langs": langs, "objectives": objectives, "seed": seed, "select_on": "mt", **settings},
        )

    def student(self, dataset: str, mt: str, visual: str, lang: str, name: str, seed: int) -> Job:
        """A CM network's training, for the method that trains it."""
        entry = self.params.methods[name]
        settings = self._training(dataset, "student", entry)
        objectives = _objectives(entry.objectives, f"methods.{name}.objectives")
        streams = _streams(objectives)
        translated = bool(streams & {"target", "back"}) or entry.teacher is not None or settings["select_on"] == "mt"
        langs = entry.langs or [lang]
        mt = entry.mt or mt
        if not translated:  # one run serves every target language and translation
            mt = "none"
            langs = [lang] if settings["select_on"] == "target" else [self.params.datasets[dataset].source_lang]
        inputs = self._texts(dataset, mt, langs, streams, settings["select_on"])
        inputs["features"] = self.features(dataset, visual)
        if _needs(objectives, "teacher"):
            inputs["teacher"] = self.teacher(dataset, mt, langs, entry.teacher, seed).outputs["embeddings"]
        return self._train(
            f"results/runs/{self._data(dataset)}/{mt}/{visual}/{'+'.join(langs)}/{name}/seed{seed}",
            dataset,
            inputs,
            {"role": "student", "langs": langs, "objectives": objectives, "seed": seed, **settings},
        )

    # results

    def evaluation(self, dataset: str, mt: str, visual: str, lang: str, name: str, seed: int) -> Job:
        """A method's evaluation on the human test captions of one language."""
        method = self.params.methods[name]
        run = self.student(dataset, mt, visual, lang, method.uses or name, seed)
        translated = "translated" in method.queries
        mt_label = (method.mt or mt) if translated else run.target.split("/")[3]
        inputs = {
            **self.captions(dataset),
            "features": self.features(dataset, visual),
            **{role: run.outputs[role] for role in ("model", "config", "tokenizer")},
        }
        if translated:
            inputs["queries"] = self.translation(dataset, method.mt or mt, lang, "queries")
        folder = f"results/evaluations/{self._data(dataset)}/{mt_label}/{visual}/{lang}/{name}/seed{seed}"
        return self._add(
            Job(
                stage="evaluate",
                target=folder,
                inputs=inputs,
                outputs={"metrics": f"{folder}/metrics.json", "ranks": f"{folder}/ranks.parquet"},
                settings={
                    "lang": lang,
                    "queries": dict(method.queries),
                    "batch": self.params.evaluate.batch,
                    "threads": self.params.train.threads,
                },
                threads=self.params.train.threads,
            )
        )

    def table(self, name: str) -> None:
        """The table's own job and all it needs."""
        table = self.params.tables[name]
        rows: list[dict[str, Any]] = []
        left_out: list[dict[str, str]] = []
        for dataset in table.data:
            settings = self.params.datasets[dataset]
            for mt in table.mt or [settings.mt]:
                for visual in table.visual or [settings.visual]:
                    for lang in settings.target_langs:
                        for method in table.methods:
                            reason = self._impossible(dataset, mt, method, lang)
                            if reason:
                                left_out.append(
                                    {"dataset": dataset, "target_lang": lang, "method": method, "reason": reason}
                                )
                            else:
                                rows.append(self._row(table, dataset, mt, visual, lang, method))
        rows = list({(r["dataset"], r["mt"], r["visual"], r["target_lang"], r["method"]): r for r in rows}.values())
        figures = f"results/figures/{name}"
        self._add(
            Job(
                stage="tables",
                target=f"results/{name}.csv",
                inputs={role: [p for row in rows for p in row[role]] for role in ("metrics", "ranks", "history")},
                outputs={
                    **{kind: f"results/{name}.{kind}" for kind in ("csv", "json", "md", "tex")},
                    "page": f"{figures}/table.html",
                    "curves": f"{figures}/training_curves.png",
                    "recall": f"{figures}/recall.png",
                },
                settings={"table": name, "baseline": table.baseline, "rows": rows, "left_out": left_out},
            )
        )

    def _impossible(self, dataset: str, mt: str, name: str, lang: str) -> str:
        """Why a row cannot exist; empty when it can."""
        method = self.params.methods[name]
        mt = method.mt or mt
        if "translated" in method.queries and _variant(self.params, mt)["engine"] == "none":
            return f"translation variant {mt!r} has no engine for the way back"
        if method.langs and lang not in method.langs:
            return f"methods.{name}.langs does not hold {lang!r}"
        if method.langs and set(method.langs) - set(self.params.datasets[dataset].target_langs):
            return f"{dataset} does not have every language of methods.{name}.langs"
        return ""

    def _row(self, table: Table, dataset: str, mt: str, visual: str, lang: str, name: str) -> dict[str, Any]:
        method = self.params.methods[name]
        settings = self.params.datasets[dataset]
        trained = self.params.methods[method.uses] if method.uses else method
        training = self._training(dataset, "student", trained)
        evaluations = [self.evaluation(dataset, mt, visual, lang, name, seed) for seed in table.seeds]
        runs = [self.student(dataset, mt, visual, lang, method.uses or name, seed) for seed in table.seeds]
        objectives = runs[0].settings["objectives"]
        return {
            "data": settings.source,
            "dataset": dataset,
            "mt": evaluations[0].target.split("/")[3],
            "visual": visual,
            "text_encoder": training["network"]["text"]["encoder"],
            "source_lang": settings.source_lang,
            "target_lang": lang,
            "method": name,
            "terms": "+".join(objectives),
            "select_on": training["select_on"],
            "seeds": list(table.seeds),
            "reference": name == table.baseline,
            "published": _published(settings, dataset, lang, name, visual),
            "metrics": [e.outputs["metrics"] for e in evaluations],
            "ranks": [e.outputs["ranks"] for e in evaluations],
            "history": [] if method.uses else [r.outputs["history"] for r in runs],
        }


@cache
def _published_rows() -> list[dict[str, str]]:
    return list(csv.DictReader(files("ccr").joinpath("published.csv").read_text().splitlines()))


def _published(settings: Dataset, dataset: str, lang: str, method: str, visual: str) -> dict[str, Any] | None:
    """Published SumR of this row: only on official data, with the same features."""
    if settings.source != "official":
        return None
    row = (dataset, settings.source_lang, lang, method, visual)
    for line in _published_rows():
        if (line["dataset"], line["source_lang"], line["target_lang"], line["method"], line["visual"]) == row:
            return {"sumr": float(line["sumr"]), "source": line["source"]}
    return None


# --- presets -----------------------------------------------------------------------------------------------------


def _presets() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(files("ccr").joinpath("presets.yaml").read_text())


def _get(raw: Any, path: str) -> Any:
    for part in path.split("."):
        raw = raw.get(part) if isinstance(raw, Mapping) else None
    return raw


def _preset(name: str) -> dict[str, Any]:
    presets = _presets()
    _known(name, presets, "preset", "preset")
    return presets[name]


def differences(path: str | Path = "params.yaml") -> list[tuple[str, Any, Any]]:
    """(key path, value in the file, value of the file's preset) where the two differ."""
    raw = yaml.safe_load(Path(path).read_text())
    edits = _preset(raw["preset"])
    return [(key, _get(raw, key), value) for key, value in edits.items() if _get(raw, key) != value]


def use(name: str, path: str | Path = "params.yaml") -> list[tuple[str, Any, Any]]:
    """Write a preset's values into the file, comments kept, and return (key path, old, new) of what changed.

    Raises `CcrError` when the result would not be valid; the file is then left as it was.
    """
    from ruamel.yaml import YAML

    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 200
    document = editor.load(Path(path).read_text())
    changed = []
    for key, value in {"preset": name, **_preset(name)}.items():
        *parents, last = key.split(".")
        section = document
        for part in parents:
            section = section[part]
        old = copy.deepcopy(section.get(last))
        if old != value:
            changed.append((key, old, value))
            if isinstance(old, Mapping) and isinstance(value, Mapping):  # in place: comments stay
                for part in [p for p in old if p not in value]:
                    del section[last][part]
                section[last].update(value)
            else:
                section[last] = value
    validate(document)
    with atomic(path) as temporary, temporary.open("w") as file:
        editor.dump(document, file)
    return changed
