"""The schema of params.yaml: sections define entries, `tables` and `run` choose among them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from ccr import languages
from ccr.errors import CcrError

Raw = Mapping[str, Any]


def number(value: Any) -> Any:
    """YAML 1.1 reads `3e-4` as a string and pydantic reads `true` as 1: accept the first, refuse the second."""
    if isinstance(value, bool):
        raise ValueError("expected a number, not true/false")
    return value


def _different(values: list[Any]) -> list[Any]:
    repeated = next((value for value in values if values.count(value) > 1), None)
    if repeated is not None:
        raise ValueError(f"{repeated!r} stands there twice; name each once")
    return values


# Bounds that nobody needs to exceed: anything beyond them is a typo or fits on no machine.
MOST, LARGEST_SEED = 100_000_000, 2**32 - 1

Integer = Annotated[int, BeforeValidator(number)]
Count = Annotated[Integer, Field(ge=1, le=MOST)]
Natural = Annotated[Integer, Field(ge=0, le=MOST)]
Seed = Annotated[Integer, Field(ge=0, le=LARGEST_SEED)]
Width = Annotated[Integer, Field(ge=1, le=1 << 16)]
Epochs = Annotated[Integer, Field(ge=1, le=100_000)]
Float = Annotated[float, BeforeValidator(number), Field(allow_inf_nan=False)]
Weight = Annotated[Float, Field(ge=0, le=1e6)]
Positive = Annotated[Float, Field(gt=0, le=1e6)]
LearningRate = Annotated[Float, Field(gt=0, le=100)]
Rate = Annotated[Float, Field(ge=0, lt=1)]
Different = AfterValidator(_different)


def _language(tag: Any) -> str:
    """The code of a BCP 47 tag."""
    if tag is False:
        raise ValueError('YAML reads a bare no as false; write Norwegian as "no"')
    try:
        return languages.code(str(tag))
    except CcrError as error:
        raise ValueError(str(error)) from error


Language = Annotated[str, BeforeValidator(_language)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Section(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class World(Section):
    """Size and seed of a data set's synthetic stand-in; `size` in pixels, `frames` per clip.

    `parallel`: number of sentences in every language about scenes without a picture.
    """

    train: Count
    val: Count
    test: Count
    captions: Count
    frames: Count
    size: Width
    seed: Seed
    parallel: Natural = 0


class Attention(Section):
    """An attention block; `keys`: width of queries and keys over all heads (NRCCR: 512)."""

    heads: Width
    keys: Width


class TextBlock(Attention):
    """NRCCR's stack above the transformer: linear layer to `hidden`, then an attention block."""

    hidden: Width
    input_dropout: Rate
    dropout: Rate


class TextNetwork(Section):
    """`encoder`: `scratch` (a BERT of this size, with a tokenizer trained for it) or a model name or path.

    `kind`: a name in `registry.TEXT_ENCODERS` (by default `scratch` or `pretrained`, depending on `encoder`);
    `options`: its own. Any other kind uses the sizes that it needs, and `encoder` names its tokenizer. The sizes are
    given only for `scratch`; a named model has its own. Of a named model, only the lower `layers` are used if given.
    `frozen_layers`: the embeddings and this many lower layers (or `all`) are frozen and use no dropout; 0 freezes
    nothing. `frozen_prefix`: `cached` computes their output states once per text, `computed` in every step. `prompt`:
    prepended to each text. `block`: null averages the encoder's states.
    """

    kind: str | None = None
    options: dict[str, Any] = {}
    encoder: str
    max_tokens: Annotated[Integer, Field(ge=4, le=1 << 16)]
    frozen_layers: Natural | Literal["all"]
    frozen_prefix: Literal["computed", "cached"] = "computed"
    prompt: str = ""
    hidden: Width | None = None
    layers: Annotated[Integer, Field(ge=0, le=1000)] | None = None
    heads: Width | None = None
    feedforward: Width | None = None
    vocabulary: Count | None = None
    dropout: Rate | None = None
    block: TextBlock | None


class VisualNetwork(Section):
    """`kind`: a name in `registry.VISUAL_ENCODERS`; `options`: its own.

    `block`: an attention block over the frames before the mean (video); null for linear + ReLU only (image).

    `layer_norm`: applied to the features. `input_dropout`: share of the feature values dropped in training; frozen
    features of few items are quickly memorised.
    """

    kind: str = "frames"
    options: dict[str, Any] = {}
    hidden: Width
    layer_norm: bool
    block: Attention | None
    max_frames: Count
    input_dropout: Rate
    dropout: Rate


Entities = Literal["decode", "keep"]
Norm = Literal["layer", "batch", "batch_all_streams"]
Pooling = Literal["masked_mean", "padded_mean"]
Fusion = Literal["standardise", "min_max"]


class Network(Section):
    """A dual encoder: two encoders and a common space of `dim` dimensions.

    `norm`: of the heads; `batch_all_streams` is BatchNorm whose running statistics, used in evaluation, also include
    the teacher's and the back-translations' states, as in published NRCCR. `pooling`: `padded_mean` averages and
    attends over padding as well, as published NRCCR does.
    """

    text: TextNetwork
    visual: VisualNetwork
    dim: Width
    norm: Norm
    pooling: Pooling
    dropout: Rate


class Training(Section):
    """How a network is trained; a data set or an entry may override any of it.

    `encoder_lr`: learning rate of the text encoder below its block and head; null: `lr`. `word_dropout`: share of the
    words that each step replaces by [MASK]. `patience`: epochs without improvement after which training ends.
    `warmup`: share of the steps over which lr rises; `schedule` then lowers it: `cosine` to 0, or `plateau`, x.99 per
    epoch and halved when validation does not improve (NRCCR). `select_by`: validation SumR, or its text-to-visual
    half. `gradient_every`: steps between measurements of the terms' shares of the gradient; 0: never.
    `precision`: bf16 runs the networks under autocast, while the objectives stay in float32; fast on GPUs and on CPUs
    with bf16 instructions, slow on others. tf32: float32 in which a GPU rounds the factors of products; fp32
    elsewhere. auto: bf16 on a GPU that supports it, else fp32. `slices`: of a batch, for a GPU with little memory: the
    text encoder's activations are kept for one slice at a time and recomputed for the gradient, which is that of the
    whole batch.
    """

    network: str
    lr: LearningRate
    encoder_lr: LearningRate | None = None
    weight_decay: Weight
    batch: Annotated[Integer, Field(ge=3, le=MOST)]
    epochs: Epochs
    warmup: Rate
    clip_norm: Positive
    word_dropout: Rate
    patience: Count
    schedule: Literal["cosine", "plateau"]
    select_by: Literal["sumr", "t2v"]
    gradient_every: Natural
    precision: Literal["auto", "fp32", "tf32", "bf16"]
    slices: Count = 1


class StudentTraining(Training):
    """`select_on`: the val captions that decide the best epoch: human `target`, machine (`mt`) or human `source` ones.

    `on_missing`: what to do with terms on back-translations if there are none.
    """

    select_on: Literal["target", "mt", "source"]
    on_missing: Literal["error", "drop_term"]


def _overrides(model: type[BaseModel]) -> dict[str, Any]:
    """The fields of a model with their bounds, all of them optional."""
    return {name: (field.rebuild_annotation() | None, None) for name, field in model.model_fields.items()}


TeacherOverrides = create_model("TeacherOverrides", __base__=Section, **_overrides(Training))
StudentOverrides = create_model("StudentOverrides", __base__=Section, **_overrides(StudentTraining))


class Roles(Section):
    """Overrides of `train` for one data set."""

    student: StudentOverrides = StudentOverrides()
    teacher: TeacherOverrides = TeacherOverrides()


class Dataset(Section):
    """A data set: its location, its layout and the defaults of its tables; the rest is inherited from another (`like`).

    `entities`: HTML entities in captions (`&#39;`). `on_leak`: what to do with train items and captions that val or
    test contain too, and with train items that look like theirs.
    `trained_on`: another data set, whose runs are evaluated on this one's test split; nothing is trained on this one.
    """

    like: str | None = None
    trained_on: str | None = None
    kind: Literal["video", "image"]
    importer: str
    options: dict[str, Any] = {}
    source: Literal["official", "synthetic"] = "official"
    root: Annotated[str, Field(min_length=1)]
    entities: Entities = "decode"
    on_leak: Literal["keep", "drop"] = "keep"
    source_lang: Language = "en"
    target_langs: Annotated[list[Language], Field(min_length=1), Different]
    mt: str
    visual: str
    world: World | None = None
    train: Roles = Roles()


class Parallel(Section):
    """Sentence pairs without pictures, for CL teachers: line-aligned text files (also .gz) by language.

    `{root}` in a path: the data set's raw data. `ids`: lines begin with an id and a space, `video#enc#0 a man runs`.
    `entities`: HTML entities in sentences. `on_leak`: what to do with pairs that share an item or a text with the data
    set. `held_out`: number of pairs held out of training, for teachers selected on them (`pairs: parallel`).
    """

    files: Annotated[dict[Language, str], Field(min_length=2)]
    ids: bool = False
    entities: Entities = "decode"
    on_leak: Literal["error", "drop"] = "error"
    held_out: Natural = 0


class Teacher(TeacherOverrides):
    """A CL teacher: text only, weighted objectives over source captions and their translations.

    `parallel`: additional sentence pairs to train on; with `pairs: parallel`, the only ones, without translations.
    """

    like: str | None = None
    parallel: str | None = None
    pairs: Literal["all", "parallel"] = "all"
    objectives: dict[Name, dict[str, Any] | None] = {}


class Method(StudentOverrides):
    """A row of a table: trained (`objectives`) or evaluated with another method's weights (`uses`).

    `compat: nrccr` makes the behaviour of the published NRCCR code the default of every option that records it; the
    entry's own settings take precedence. `norm`, `pooling`: of its network. `fusion`: how similarities are scaled
    before they are added. `teacher`: the CL teacher that it learns from; `init: teacher` starts from the teacher's
    tokenizer and text encoder.
    """

    like: str | None = None
    uses: str | None = None
    teacher: str | None = None
    init: Literal["teacher"] | None = None
    mt: str | None = None
    langs: Annotated[list[Language], Field(min_length=1), Different] | None = None
    queries: dict[Literal["target", "translated"], Positive] = {"target": 1.0}
    compat: Literal["nrccr"] | None = None
    norm: Norm | None = None
    pooling: Pooling | None = None
    fusion: Fusion | None = None
    objectives: dict[Name, dict[str, Any] | None] = {}


class Table(Section):
    """Rows: every data set x mt x visual x target language x method.

    `compare`: each row is tested against `baseline`, or with `parent` against the method that it is `like`, if the
    table has a row of that one for the same data, else against `baseline`.
    """

    data: Annotated[list[str], Field(min_length=1), Different]
    methods: Annotated[list[str], Field(min_length=1), Different]
    seeds: Annotated[list[Seed], Field(min_length=1), Different] = [0]
    mt: Annotated[list[str], Field(min_length=1), Different] | None = None
    visual: Annotated[list[str], Field(min_length=1), Different] | None = None
    baseline: str = "baseline"
    compare: Literal["baseline", "parent"] = "baseline"
    paper: bool = False


class Alignments(Section):
    """A table of how well teachers align words: every data set x mt x target language x teacher.

    `solver`: layer and solver of the plans (see `registry.SOLVER`), the same for all teachers.
    """

    data: Annotated[list[str], Field(min_length=1), Different]
    teachers: Annotated[list[str], Field(min_length=1), Different]
    seeds: Annotated[list[Seed], Field(min_length=1), Different] = [0]
    mt: Annotated[list[str], Field(min_length=1), Different] | None = None
    solver: dict[str, Any] = {}


class Translations(Section):
    """A table of translation quality: every data set x mt x target language."""

    data: Annotated[list[str], Field(min_length=1), Different]
    mt: Annotated[list[str], Field(min_length=1), Different] | None = None


class Noise(Section):
    """How translations of the train split are corrupted; the kinds are explained in `ccr.translate.noise`."""

    kind: Literal["swap", "drop", "shuffle", "substitute"]
    rate: Annotated[Float, Field(ge=0, le=1)]
    seed: Seed = 0


class Filter(Section):
    """Training pairs whose back-translation has a chrF below `min_chrf` to the source caption get the weight `weight`;
    0 leaves them out.
    """

    min_chrf: Annotated[Float, Field(ge=0, le=100)]
    weight: Annotated[Float, Field(ge=0, le=1)] = 0.0


class Changes(Section):
    """The engine-independent part of a translation variant: what is done to the translations."""

    noise: Noise | None = None
    filter: Filter | None = None


class Translate(Section):
    """`threads`: batches that a neural engine translates at once on a CPU; `shards`: jobs that share the work of an
    expensive engine. Both affect the time, not the result.
    """

    threads: Count = 1
    shards: Count = 1
    variants: dict[Name, dict[str, Any]]


class Features(Section):
    """`threads`: to decode media files; `shards`: jobs that share the items of an extractor that computes its features.
    Both affect the time, not the result.
    """

    threads: Count = 1
    shards: Count = 1
    extractors: dict[Name, dict[str, Any]]


class Train(Section):
    """`threads`: of each process. `processes`, one GPU each, share the batches of a training run; the result is the
    same up to rounding. `checkpoint_minutes`: how often a run saves its state, to resume from it; `trackers`: where
    its history can be followed; neither changes the result.
    """

    student: StudentTraining
    teacher: Training
    threads: Count
    processes: Count = 1
    checkpoint_minutes: Positive = 10.0
    trackers: Annotated[list[Literal["tensorboard", "wandb", "mlflow"]], Different] = []


class Evaluate(Section):
    """`batch`: captions or items embedded at a time; changes the result only with `pooling: padded_mean`.
    `embeddings`: save those of the test set in `embeddings.safetensors`, to rank them again without the network.
    """

    batch: Count
    embeddings: bool


TABLES = ("tables", "alignments", "translations")  # the sections that define tables


class Params(Section):
    """The whole of params.yaml, or of another file of the same form."""

    _file: str = "params.yaml"  # in messages
    preset: Literal["laptop", "pretrained", "smoke", "paper"]
    datasets: dict[Name, Dataset]
    translate: Translate
    features: Features
    networks: dict[Name, Network]
    train: Train
    evaluate: Evaluate
    parallel: dict[Name, Parallel] = {}
    teachers: dict[Name, Teacher] = {}
    methods: dict[Name, Method]
    tables: dict[Name, Table]
    alignments: dict[Name, Alignments] = {}
    translations: dict[Name, Translations] = {}
    run: Annotated[list[str], Different]

    @property
    def file(self) -> str:
        """The name of the file in messages."""
        return self._file

    @property
    def sections(self) -> dict[str, str]:
        """The section of every table, by the table's name."""
        return {table: section for section in TABLES for table in getattr(self, section)}
