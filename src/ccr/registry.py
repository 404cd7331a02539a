"""Importers, engines, extractors, encoders and objectives by name: a line each, nothing imported until it is used.

`ccr.params` checks the entries of params.yaml against these options and fills in the defaults, so the plan
shows every resolved setting without importing torch. Adding one takes a module and a line here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Literal


@dataclass(frozen=True)
class Option:
    """A setting that an entry takes: its type, its default and its bounds (inclusive unless `gt`).

    `nrccr`: what the published NRCCR code does instead, the default under `compat: nrccr`.
    """

    type: Any
    default: Any
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    nrccr: Any = None


class Entry:
    """Where an entry's code lives and which options it takes.

    `expects` lists the files that an importer reads, `needs` what an objective uses in addition to the embeddings of
    its pair: names in NEEDS, or `weights` for weights of its own module. For a need: the `streams` that it is made
    from, and what it `reads` of the text encoder's pass in addition to the last layer (`words`: which word each token
    belongs to, `layers`: the states of every layer). `remembered`: an expensive engine or extractor: the translation
    memory or the item cache keeps its work, and shards may share it. `neural`: its jobs run a network and request a
    GPU.
    """

    def __init__(
        self,
        module: str,
        expects: tuple[str, ...] = (),
        needs: tuple[str, ...] = (),
        streams: tuple[str, ...] = (),
        reads: tuple[str, ...] = (),
        remembered: bool = False,
        neural: bool = False,
        **options: Option,
    ):
        self.module = module
        self.expects = expects
        self.needs = needs
        self.streams = streams
        self.reads = reads
        self.remembered = remembered
        self.neural = neural
        self.options = options

    def load(self) -> ModuleType:
        """Import the entry's module."""
        return import_module(self.module)


def flag(default: bool, nrccr: bool | None = None) -> Option:
    """A boolean option."""
    return Option(bool, default, nrccr=nrccr)


def text(default: str) -> Option:
    """A free string option."""
    return Option(str, default)


def choice(*names: str | int, nrccr: str | None = None) -> Option:
    """One of these values, the first by default."""
    return Option(Literal[names], names[0], nrccr=nrccr)


def number(default: float, ge: float | None = None, gt: float | None = None, le: float = 1e6) -> Option:
    """A float option with bounds."""
    return Option(float, default, ge, gt, le)


def count(default: int, ge: int = 1, le: int = 100_000_000) -> Option:
    """An integer option with bounds."""
    return Option(int, default, ge, le=le)


def streams(*names: str) -> Option:
    """The two streams a pairwise objective compares (`visual`, `source`, `target`, `back`)."""
    return Option(tuple[Literal["visual", "source", "target", "back"], ...], names)


IMPORTERS = {
    "visualsearch": Entry(
        "ccr.captions.visualsearch",
        expects=("TextData/{collection}{train,val,test}[_{engine}]_{tag}.caption.txt", "FeatureData/{visual}/"),
        collection=text(""),
        translated=text(""),
    ),
    "vatex": Entry(
        "ccr.captions.vatex",
        expects=("vatex_training_v1.0.json", "vatex_validation_v1.0.json", "val_ids.txt", "test_ids.txt"),
    ),
    "multi30k": Entry(
        "ccr.captions.multi30k",
        expects=("task{1,2}/raw/{split}.{lang}.gz", "task{1,2}/image_splits/{split}.txt", "images/"),
        task=choice(1, 2),
        test=text(""),
        photos=text(""),
        held_out=count(0, ge=0),
    ),
    "mscoco": Entry(
        "ccr.captions.mscoco",
        expects=(
            "dataset_coco.json",
            "stair_captions_v1.2_{train,val}.json",
            "coco-cn-version1805v1.1/coco-cn_{train,val,test}.txt",
            "coco-cn-version1805v1.1/imageid.human-written-caption.txt",
            "images/",
        ),
        split=choice("by_language", "karpathy", "coco_cn"),
        leave_out=text(""),
    ),
    "xm3600": Entry("ccr.captions.xm3600", expects=("captions.jsonl", "images/")),
    "xtd10": Entry("ccr.captions.xtd10", expects=("test_image_names.txt", "test_1kcaptions_{lang}.txt", "images/")),
    "table": Entry("ccr.captions.table", expects=("{file}", "images/ or videos/"), file=text("captions.csv")),
}

ON_FAILURE = choice("error", "drop", "keep_source")

ENGINES = {
    "deep_translator": Entry(
        "ccr.translate.online",
        remembered=True,
        service=choice("google", "mymemory", "libretranslate", "deepl", "microsoft"),
        base_url=text(""),
        concurrency=count(4),
        requests_per_second=number(5.0, gt=0),
        attempts=count(8),
        timeout=number(30.0, gt=0),
        on_failure=ON_FAILURE,
    ),
    "transformers": Entry(
        "ccr.translate.neural",
        remembered=True,
        neural=True,
        model=text("Helsinki-NLP/opus-mt-{source}-{target}"),
        revision=text("main"),
        beams=count(4),
        max_length_ratio=number(2.0, gt=0),
        precision=choice("fp32", "bf16"),
        batch_tokens=count(4096),
        on_failure=ON_FAILURE,
    ),
    "apertium": Entry("ccr.translate.apertium", remembered=True, pivot=text(""), on_failure=ON_FAILURE),
    "dictionary": Entry("ccr.translate.dictionary", path=text("")),
    "precomputed": Entry("ccr.translate.precomputed", published=text(""), lacking=number(0.01, ge=0, le=1)),
    "lexicon": Entry(
        "ccr.translate.lexicon",
        error_rate=number(0.1, ge=0, le=1),
        wrong_sense=number(1.0, ge=0),
        drop=number(1.0, ge=0),
        repeat=number(0.5, ge=0),
        order=number(1.0, ge=0),
        untranslated=number(0.5, ge=0),
        seed=count(0, ge=0, le=2**32 - 1),
    ),
    "none": Entry("ccr.translate.human"),
}

_MODEL = {
    "model": text(""),
    "revision": text("main"),
    "frames": Option(int | None, None, ge=1, le=1_000_000),
    "fps": Option(float | None, None, gt=0, le=1e6),
    "max_frames": count(64),
    "precision": choice("fp32", "bf16"),
    "on_unreadable": choice("error", "drop"),
}

EXTRACTORS = {
    "published": Entry("ccr.features.published", path=text("")),
    "descriptor": Entry(
        "ccr.features.descriptor",
        remembered=True,
        frames=count(8),
        size=count(64, ge=16),
        grid=count(4),
        on_unreadable=choice("error", "drop"),
    ),
    "image_model": Entry("ccr.features.image_model", remembered=True, neural=True, batch=count(32), **_MODEL),
    "video_model": Entry("ccr.features.video_model", remembered=True, neural=True, batch=count(4), **_MODEL),
}

_TRIPLET = {
    "margin": number(0.2, ge=0),
    "negatives": choice("hardest", "all"),
    "scale": choice("mean", "sum", nrccr="sum"),
    "mask_same_item": flag(True, nrccr=False),
}

_TRANSPORT = {
    "layer": Option(int | Literal["block"], -1),
    "epsilon": number(0.1, gt=0),
    "iterations": count(10),
    "marginals": choice("uniform", "unbalanced"),
    "relaxation": number(1.0, gt=0),
}

SOLVER = Entry("ccr.objectives.transport", **_TRANSPORT)  # of word alignment, if no objective specifies one

_TEXT = Literal["source", "target", "back"]
_OF_TEXTS = Option(tuple[_TEXT, _TEXT], ("source", "target"))  # token or word states
_DISTILLED = Option(tuple[Literal["visual", "source"], _TEXT], ("visual", "target"))  # the first: source or its item

TEXT_ENCODERS = {"scratch": Entry("ccr.networks.scratch"), "pretrained": Entry("ccr.networks.pretrained")}
VISUAL_ENCODERS = {"frames": Entry("ccr.networks.frames")}

NEEDS = {  # in the order in which they are provided
    "teacher": Entry("ccr.train.needs.teacher"),  # embeddings of the captions by a CL teacher
    "words": Entry("ccr.train.needs.words", reads=("words", "layers")),  # states of the captions' words, pointers
    "cross": Entry("ccr.train.needs.cross", streams=("source", "target")),  # NRCCR's cross-attention teacher
    "discriminator": Entry("ccr.train.needs.discriminator"),  # logits
}

# Options in which two terms of an objective must differ: its need keeps what it fills under their values.
APART = {"adversarial": ("pair",), "pointer": ("pair", "layer")}

OBJECTIVES = {
    "triplet": Entry(
        "ccr.objectives.triplet",
        pair=streams("visual", "target"),
        **_TRIPLET,
    ),
    "soft_similarity": Entry(
        "ccr.objectives.soft_similarity",
        needs=("cross",),
        pair=streams("visual", "target"),
        tau=number(0.07, gt=0),
        cut_visual=flag(True, nrccr=False),
        cut_teacher=flag(True),
    ),
    "feature_regression": Entry(
        "ccr.objectives.feature_regression",
        needs=("cross",),
        pair=Option(tuple[Literal["source"], Literal["target"]], ("source", "target")),  # those of `cross`
        beta=number(4.0, gt=0),
        reduction=choice("sum", "mean", nrccr="mean"),
        cut_teacher=flag(True, nrccr=False),
    ),
    "back_translation": Entry(
        "ccr.objectives.triplet",
        pair=streams("source", "back"),
        **_TRIPLET,
    ),
    "adversarial": Entry(
        "ccr.objectives.adversarial",
        needs=("discriminator",),
        pair=_OF_TEXTS,
        discriminator=choice("mlp", "linear", "conv"),
        lr=number(1e-3, gt=0),
    ),
    "infonce": Entry(
        "ccr.objectives.infonce",
        pair=streams("visual", "target"),
        tau=Option(float | None, None, gt=0, le=1e6),
        mask_same_item=flag(True),
    ),
    "instance_alignment": Entry(
        "ccr.objectives.instance_alignment",
        pair=streams("source", "target"),
        loss=choice("infonce", "triplet"),
        tau=Option(float | None, None, gt=0, le=1e6),
        margin=number(0.2, ge=0),
        mask_same_item=flag(True),
    ),
    "transport_cost": Entry(
        "ccr.objectives.transport_cost",
        needs=("words",),
        pair=_OF_TEXTS,
        margin=number(0.2, ge=0),
        **_TRANSPORT,
    ),
    "pointer": Entry(
        "ccr.objectives.pointer",
        needs=("words",),
        pair=_OF_TEXTS,
        masked=number(0.15, ge=0, le=1),
        **_TRANSPORT,
    ),
    "relation_distillation": Entry(
        "ccr.objectives.relation_distillation",
        needs=("teacher",),
        pair=_DISTILLED,
        tau_teacher=number(0.07, gt=0),
        tau_student=Option(float | None, 0.07, gt=0, le=1e6),
        intra=flag(False),
    ),
    "embedding_distillation": Entry(
        "ccr.objectives.embedding_distillation",
        needs=("teacher",),
        pair=_DISTILLED,
    ),
}


WORLD_LANGUAGES = {
    code: Entry(f"ccr.world.languages.{code}") for code in ("en", "zh", "de", "fr", "cs", "ja", "ar", "th")
}


def text_kind(settings: Mapping[str, Any]) -> str:
    """The kind of text encoder that `networks.*.text` ask for: their `kind`, or else as `encoder` implies."""
    return settings.get("kind") or ("scratch" if settings["encoder"] == "scratch" else "pretrained")


def streams_of(objectives: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The streams that resolved terms use: those of their pairs, and those that their needs are made from."""
    used = {stream for term in objectives.values() for stream in term["pair"]}
    return used.union(*(NEEDS[need].streams for need in needs_of(objectives)))


def needs_of(objectives: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The needs of resolved terms, in the order of NEEDS."""
    named = {need for term in objectives.values() for need in OBJECTIVES[term["objective"]].needs}
    return [need for need in NEEDS if need in named]


def distilled(objectives: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The text streams that the CL teacher's embeddings are compared in, by resolved terms; empty without such terms.

    `source` is among them: an item's relations are those of its source caption.
    """
    pairs = [term["pair"] for term in objectives.values() if "teacher" in OBJECTIVES[term["objective"]].needs]
    return {"source"}.union(*pairs) - {"visual"} if pairs else set()


def reads_of(objectives: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """What the needs of resolved terms read of the text encoder's pass."""
    return {what for need in needs_of(objectives) for what in NEEDS[need].reads}


def providers_of(objectives: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[type, dict[str, Mapping[str, Any]]]]:
    """Name -> (class `Provider`, the terms that it serves): one for each need, and one for each term with weights."""
    terms_of = {
        need: {name: term for name, term in objectives.items() if need in OBJECTIVES[term["objective"]].needs}
        for need in (*needs_of(objectives), "weights")
    }
    own = terms_of.pop("weights")
    found = {need: (NEEDS[need].load().Provider, terms) for need, terms in terms_of.items()}
    return found | {name: (OBJECTIVES[term["objective"]].load().Provider, {name: term}) for name, term in own.items()}


def word_level(objectives: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Layer and solver of the first word-level term among resolved terms; the defaults if there is none."""
    for term in objectives.values():
        if "words" in OBJECTIVES[term["objective"]].needs:
            return {name: term[name] for name in SOLVER.options}
    return {name: option.default for name, option in SOLVER.options.items()}
