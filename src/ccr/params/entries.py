"""Named entries: what they inherit (`like`) and the options that the registry defines for them."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError, create_model

from ccr import registry
from ccr.errors import CcrError
from ccr.params.messages import explain, known, nearest
from ccr.params.schema import Changes, Method, Params, Raw, Section, Teacher, Weight, number
from ccr.registry import Entry

# What the published NRCCR code does differently from this project, except in objectives, which the registry covers.
COMPAT = {"nrccr": {"norm": "batch_all_streams", "pooling": "padded_mean", "select_by": "t2v", "fusion": "min_max"}}

_WEIGHT = TypeAdapter(Weight)  # built once: a plan checks thousands of weights


@cache
def _options_model(entry: Entry, compat: str | None) -> type[BaseModel]:
    def field(option: registry.Option) -> tuple[Any, Any]:
        kind = option.type if option.type is bool else Annotated[option.type, BeforeValidator(number)]
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
    """An entry's own settings, and those of its `compat` for whatever it does not set itself."""
    given = entry.model_dump(exclude_none=True)
    return COMPAT.get(given.get("compat"), {}) | given


def inherit(entries: Mapping[str, Raw], name: str, path: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """An entry with what it inherits (`like`): mappings except `queries` merge, the rest is replaced; null removes."""
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
    """Terms with weight > 0, resolved: {term: {objective, weight, **options}}."""
    resolved, places = {}, {}
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
        pair = given.get("pair", entry.options["pair"].default)
        if not isinstance(pair, list | tuple) or len(pair) != 2 or pair[0] == pair[1]:
            raise CcrError(f"params.yaml: {path}.{term}.pair: expected two different streams, found {pair!r}.")
        options = options_of(entry, given, f"{path}.{term}", compat)
        if weight == 0:
            continue
        resolved[term] = {"objective": objective, "weight": weight, **options}
        apart = registry.APART.get(objective, ())
        first = places.setdefault((objective, *(str(options[option]) for option in apart)), term)
        if apart and first != term:
            raise CcrError(
                f"params.yaml: {path}.{term}: {first!r} is a term of {objective} with the same {' and '.join(apart)}, "
                f"and training could not tell the two apart. Give it another {' or '.join(apart)}, or remove it."
            )
    return resolved


def _weight(value: Any, path: str) -> float:
    try:
        return _WEIGHT.validate_python(value)
    except ValidationError as error:
        raise CcrError(f"params.yaml: {path}: expected a number from 0 to 1,000,000, found {value!r}.") from error


def needs(objectives: Mapping[str, Raw], what: str) -> bool:
    return any(what in registry.OBJECTIVES[term["objective"]].needs for term in objectives.values())


def _resolved(
    given: dict[str, Any], name: str, section: str, kind: str, registered: Mapping[str, Entry]
) -> dict[str, Any]:
    """{`kind`: a name in a registry, options} of an entry; the name is the entry's own unless it gives another."""
    chosen = given.pop(kind, name)
    known(chosen, registered, f"{section}.{name}.{kind}", kind)
    return {kind: chosen, "options": options_of(registered[chosen], given, f"{section}.{name}")}


def variant_of(params: Params, name: str) -> dict[str, Any]:
    """A resolved translation variant: {engine, options}, with {noise} and {filter} if it has them.

    Published translations are by default named after the variant at the root of its `like` chain.
    """
    variants, path = params.translate.variants, f"translate.variants.{name}"
    given = inherit(variants, name, "translate.variants")
    changes = {change: given.pop(change) for change in Changes.model_fields if change in given}
    variant = _resolved(given, name, "translate.variants", "engine", registry.ENGINES)
    if variant["engine"] == "precomputed" and not variant["options"]["published"]:
        root = name
        while parent := variants[root].get("like"):
            root = parent
        variant["options"]["published"] = root
    try:
        changes = Changes.model_validate(changes).model_dump(exclude_none=True)
    except ValidationError as error:
        raise explain(error, Changes, path + ".") from error
    if changes and variant["engine"] == "none":
        raise CcrError(
            f"params.yaml: {path}.{next(iter(changes))}: engine none brings captions that people wrote, and this is "
            "for machine translations. Remove it, or let the variant be `like` one of another engine."
        )
    return variant | changes


def base_variant(params: Params, name: str) -> str:
    """The variant whose translations this one modifies: the same without its filter, else without its noise.

    The variant itself if it has neither.
    """
    variant = variant_of(params, name)
    change = next((change for change in ("filter", "noise") if change in variant), None)
    if change is None:
        return name
    base = name
    while base is not None and change in variant_of(params, base):
        base = params.translate.variants[base].get("like")
    if base is None or variant_of(params, base) != {key: value for key, value in variant.items() if key != change}:
        raise CcrError(
            f"params.yaml: translate.variants.{name}: its {change} is put on the translations of a variant that is the "
            f"same but for its {change}, so that nothing is translated twice. Make that an entry of its own, and this "
            f"one `{{like: <that entry>, {change}: {{...}}}}`."
        )
    return base


def clean_variant(params: Params, name: str) -> str:
    """The variant with neither noise nor filter at the bottom of this one."""
    base = base_variant(params, name)
    return name if base == name else clean_variant(params, base)


def network_of(params: Params, name: str) -> dict[str, Any]:
    """A resolved network: its encoders' own options are checked and completed."""
    network = params.networks[name].model_dump()
    network["text"]["kind"] = registry.text_kind(network["text"])
    for part, registered in (("text", registry.TEXT_ENCODERS), ("visual", registry.VISUAL_ENCODERS)):
        encoder, path = network[part], f"networks.{name}.{part}"
        known(encoder["kind"], registered, f"{path}.kind", f"{part} encoder")
        encoder["options"] = options_of(registered[encoder["kind"]], encoder["options"], f"{path}.options")
    return network


def extractor_of(params: Params, name: str) -> dict[str, Any]:
    """A resolved extractor entry: {extractor, options}. A published dump is in FeatureData/{name} by default."""
    extractors = params.features.extractors
    given = inherit(extractors, name, "features.extractors")
    extractor = _resolved(given, name, "features.extractors", "extractor", registry.EXTRACTORS)
    if extractor["extractor"] == "published" and not extractor["options"]["path"]:
        extractor["options"]["path"] = f"FeatureData/{name}"
    return extractor
