"""Entries by name: what they inherit (`like`) and the options that the registry knows for them."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model

from ccr import registry
from ccr.errors import CcrError
from ccr.params.messages import explain, known, nearest
from ccr.params.schema import Float, Integer, Method, Noisy, Params, Raw, Section, Teacher, Weight
from ccr.registry import Entry

# What the published NRCCR code does where this project does otherwise, outside of objectives: the registry has theirs.
COMPAT = {"nrccr": {"norm": "batch", "pooling": "padded_mean", "select_by": "t2v", "fusion": "min_max"}}

_WEIGHT = TypeAdapter(Weight)  # made once: a plan checks thousands


@cache
def _options_model(entry: Entry, compat: str | None) -> type[BaseModel]:
    def field(option: registry.Option) -> tuple[Any, Any]:
        kind = {int: Integer, float: Float}.get(option.type, option.type)
        default = option.nrccr if compat == "nrccr" and option.nrccr is not None else option.default
        return kind, Field(default, ge=option.ge, gt=option.gt, le=option.le)

    return create_model("Options", __base__=Section, **{n: field(o) for n, o in entry.options.items()})


def options_of(entry: Entry, given: Raw, path: str, compat: str | None = None) -> dict[str, Any]:
    """`given`, checked against the registry entry's options and completed with its (or `compat`'s) defaults."""
    model = _options_model(entry, compat)
    try:
        return model.model_validate(dict(given)).model_dump(mode="json")
    except ValidationError as error:
        raise explain(error, model, path + ".") from error


def in_force(entry: Method | Teacher) -> dict[str, Any]:
    """What an entry gives, and what its `compat` gives where the entry itself is silent."""
    given = entry.model_dump(exclude_none=True)
    return COMPAT.get(given.get("compat"), {}) | given


def inherit(entries: Mapping[str, Raw], name: str, path: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """An entry with what it inherits by `like`: mappings are merged, the rest replaced; null removes a term."""
    entry = dict(entries[name])
    parent = entry.pop("like", None)
    if parent is None:
        return entry
    known(parent, entries, f"{path}.{name}.like", "entry")
    if parent in (*seen, name):
        raise CcrError(f"params.yaml: {path}.{name}.like: {parent!r} leads back to {name!r}; break the circle.")
    return _merge(inherit(entries, parent, path, (*seen, name)), entry)


def _merge(base: Raw, edits: Raw) -> dict[str, Any]:
    merged = dict(base)
    for key, value in edits.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both and key != "queries" else value
    return merged


def objectives_of(terms: Raw, path: str, compat: str | None = None) -> dict[str, dict[str, Any]]:
    """Terms with weight > 0, resolved: {term: {objective, weight, options}}."""
    resolved = {}
    for term, given in terms.items():
        if given is None:
            continue
        given = dict(given)
        objective = given.pop("objective", term)
        known(objective, registry.OBJECTIVES, f"{path}.{term}", "objective")
        weight = _weight(given.pop("weight", 1.0), f"{path}.{term}.weight")
        entry = registry.OBJECTIVES[objective]
        unknown = [k for k in given if k not in entry.options]
        if unknown:
            valid = [*entry.options, "objective", "weight"]
            raise CcrError(f"params.yaml: {path}.{term}.{unknown[0]}: unknown key; {nearest(unknown[0], valid)}")
        options = options_of(entry, given, f"{path}.{term}", compat)
        if len(options["pair"]) != 2 or options["pair"][0] == options["pair"][1]:
            raise CcrError(f"params.yaml: {path}.{term}.pair: expected two different streams, found {options['pair']}.")
        if weight > 0:
            resolved[term] = {"objective": objective, "weight": weight, **options}
    return resolved


def _weight(value: Any, path: str) -> float:
    try:
        return _WEIGHT.validate_python(value)
    except ValidationError as error:
        raise CcrError(f"params.yaml: {path}: expected a number >= 0, found {value!r}.") from error


def needs(objectives: Mapping[str, Raw], what: str) -> bool:
    return any(what in registry.OBJECTIVES[term["objective"]].needs for term in objectives.values())


def _resolved(
    given: dict[str, Any], name: str, section: str, kind: str, registered: Mapping[str, Entry]
) -> dict[str, Any]:
    """{kind, options} of an entry that names what it is (by default its own name) in a registry."""
    chosen = given.pop(kind, name)
    known(chosen, registered, f"{section}.{name}.{kind}", kind)
    return {kind: chosen, "options": options_of(registered[chosen], given, f"{section}.{name}")}


def variant_of(params: Params, name: str) -> dict[str, Any]:
    """A translation variant resolved: {engine, options}, with {noise} where it has some.

    Published translations are named after the variant.
    """
    variants, path = params.translate.variants, f"translate.variants.{name}"
    given = inherit(variants, name, "translate.variants")
    noise = given.pop("noise", None)
    variant = _resolved(given, name, "translate.variants", "engine", registry.ENGINES)
    if variant["engine"] == "precomputed" and not variant["options"]["published"]:
        root = name
        while "like" in variants[root]:
            root = variants[root]["like"]
        variant["options"]["published"] = root
    if noise is None:
        return variant
    if variant["engine"] == "none":
        raise CcrError(
            f"params.yaml: {path}.noise: engine none brings captions that people wrote, and noise is for machine "
            "translations. Remove it, or let the variant be `like` one of another engine."
        )
    try:
        return variant | Noisy.model_validate({"noise": noise}).model_dump()
    except ValidationError as error:
        raise explain(error, Noisy, path + ".") from error


def clean_variant(params: Params, name: str) -> str:
    """The variant whose translations a noisy one corrupts: the first without noise along `like`."""
    variants, clean, noisy = params.translate.variants, name, variant_of(params, name)
    while "noise" in variant_of(params, clean):
        clean = variants[clean].get("like")
        if clean is None:
            break
    if clean is None or variant_of(params, clean) != {key: noisy[key] for key in ("engine", "options")}:
        raise CcrError(
            f"params.yaml: translate.variants.{name}: noise is put on the translations of a variant that is the same "
            "but for its noise, so that nothing is translated twice. Make that an entry of its own, and this one "
            "`{like: <that entry>, noise: {...}}`."
        )
    return clean


def extractor_of(params: Params, name: str) -> dict[str, Any]:
    """An extractor entry resolved: {extractor, options}. A published dump lies in FeatureData/{name} by default."""
    extractors = params.features.extractors
    given = inherit(extractors, name, "features.extractors")
    extractor = _resolved(given, name, "features.extractors", "extractor", registry.EXTRACTORS)
    if extractor["extractor"] == "published" and not extractor["options"]["path"]:
        extractor["options"]["path"] = f"FeatureData/{name}"
    return extractor
