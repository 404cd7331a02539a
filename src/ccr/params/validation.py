"""From the raw mapping to `Params`, or one `CcrError`: everything that can be checked without data."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ccr import languages, registry
from ccr.errors import CcrError
from ccr.pairs import services
from ccr.params.entries import (
    clean_variant,
    extractor_of,
    inherit,
    needs,
    network_of,
    objectives_of,
    options_of,
    variant_of,
)
from ccr.params.messages import FILE, explain, known, named, nearest, shown
from ccr.params.reading import read
from ccr.params.schema import TABLES, Alignments, Method, Params, Raw, Table, Teacher, Translations

# What a method with `uses` may set: the rest is for training.
EVALUATED = ("like", "uses", "mt", "langs", "queries", "compat", "fusion")


def load(path: str | Path = "params.yaml") -> Params:
    """Read and validate params.yaml (or another file of the same form)."""
    return validate(read(path), shown(path))


def validate(raw: Raw, file: str = FILE) -> Params:
    """Check everything that can be checked without data. Raises `CcrError`: one line per problem, with `file` in it."""
    with named(file):
        params = _validated(raw)
    params._file = file
    return params


def _validated(raw: Raw) -> Params:
    if not isinstance(raw, Mapping):
        raise CcrError("params.yaml: expected sections (datasets, translate, ...), found something else.")
    written, raw = raw, dict(raw)
    for section, model in (("datasets", None), ("methods", Method), ("teachers", Teacher)):
        entries = raw.get(section) or {}
        if not isinstance(entries, Mapping):
            raise CcrError(f"params.yaml: {section}: expected names, each with keys and values, found {entries!r}.")
        for name, entry in entries.items():  # first as written, so that a typo is reported where it is
            if not isinstance(entry, Mapping):
                raise CcrError(f"params.yaml: {section}.{name}: expected keys and values, found {entry!r}.")
            if model is None:  # a data set may be incomplete without what it inherits
                continue
            try:
                model.model_validate(dict(entry))
            except ValidationError as error:
                raise explain(error, model, f"{section}.{name}.") from error
        raw[section] = {name: inherit(entries, name, section) | {"like": entries[name].get("like")} for name in entries}
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise explain(error, Params) from error
    _check_networks(params)
    _check_datasets(params)
    _check_teachers(params)
    _check_methods(params, written["methods"])
    _check_names(params)
    _check_tables(params)
    _check_alignments(params)
    _check_translations(params)
    return params


def _check_networks(params: Params) -> None:
    for name, network in params.networks.items():
        kind = network_of(params, name)["text"]["kind"]
        if network.text.frozen_prefix == "cached":
            path = f"networks.{name}.text.frozen_prefix"
            if kind != "pretrained" or not network.text.frozen_layers:
                raise CcrError(f"params.yaml: {path}: cached needs a named encoder and frozen_layers of 1 or more.")
            if network.pooling == "padded_mean":
                raise CcrError(
                    f"params.yaml: {path}: with pooling: padded_mean, states depend on the batch; take computed."
                )
        scratch = network.text.encoder == "scratch"
        sizes = ("hidden", "layers", "heads", "feedforward", "vocabulary", "dropout")
        for key in sizes if kind in ("scratch", "pretrained") else ():
            path, value = f"networks.{name}.text.{key}", getattr(network.text, key)
            if scratch and value is None:
                raise CcrError(f"params.yaml: {path}: missing. encoder: scratch needs it.")
            if not scratch and key == "layers" and kind == "pretrained":  # the lower ones of the model's own
                if value == 0:
                    raise CcrError(f"params.yaml: {path}: 0, but a named encoder needs 1 or more.")
            elif not scratch and value is not None:
                raise CcrError(f"params.yaml: {path}: comes from {network.text.encoder!r}; leave it out.")
        blocks = (
            ("text", network.text, network.text.hidden),
            ("text.block", network.text.block, getattr(network.text.block, "hidden", None)),
            ("visual.block", network.visual.block, network.visual.hidden),
        )
        for part, block, hidden in blocks:
            for key, width in (("hidden", hidden), ("keys", getattr(block, "keys", None))):
                if block and width and width % block.heads:
                    raise CcrError(
                        f"params.yaml: networks.{name}.{part}.heads: {block.heads} heads do not divide {key} {width}."
                    )


def _check_datasets(params: Params) -> None:
    for variant in params.translate.variants:
        clean_variant(params, variant)
        _check_pivot(params, variant)
    for extractor in params.features.extractors:
        extractor_of(params, extractor)
    for name, dataset in params.datasets.items():
        path = f"datasets.{name}"
        known(dataset.importer, registry.IMPORTERS, f"{path}.importer", "importer")
        options_of(registry.IMPORTERS[dataset.importer], dataset.options, f"{path}.options")
        known(dataset.mt, params.translate.variants, f"{path}.mt", "translation variant")
        known(dataset.visual, params.features.extractors, f"{path}.visual", "extractor")
        if dataset.source_lang in dataset.target_langs:
            raise CcrError(f"params.yaml: {path}.target_langs: {dataset.source_lang!r} is the source language.")
        if dataset.trained_on:
            _check_trained_on(params, name)
        _check_services(params, name)
        reason = mismatch(params, dataset.trained_on or name, dataset.mt, dataset.visual)
        if reason:
            raise CcrError(f"params.yaml: {path}: {reason}")
        if dataset.source == "synthetic" and dataset.world is None:
            raise CcrError(f"params.yaml: {path}.world: missing; source: synthetic needs its size and seed.")
        langs = {dataset.source_lang, *dataset.target_langs}
        for lang in sorted(langs) if dataset.source == "synthetic" else ():
            known(lang, registry.WORLD_LANGUAGES, f"{path}.target_langs", "language of the mini-world")
        if dataset.source == "synthetic" and dataset.kind == "video" and langs - {"en", "zh"}:
            raise CcrError(
                f"params.yaml: {path}.target_langs: the layout of VATEX, in which the mini-world publishes videos, "
                f"holds en and zh only. Use kind: image for other languages."
            )
        for role in ("student", "teacher"):
            network = getattr(dataset.train, role).network
            if network is not None:
                known(network, params.networks, f"{path}.train.{role}.network", "network")


def _check_trained_on(params: Params, name: str) -> None:
    """Check that the runs of the data set that `trained_on` names can be evaluated on this one."""
    dataset, path = params.datasets[name], f"datasets.{name}.trained_on"
    known(dataset.trained_on, params.datasets, path, "data set")
    home = params.datasets[dataset.trained_on]
    if home.trained_on:
        raise CcrError(
            f"params.yaml: {path}: nothing is trained on {dataset.trained_on!r}, which has a trained_on of its own. "
            "Name the data set that has the runs."
        )
    if dataset.source == "synthetic":
        raise CcrError(f"params.yaml: {path}: the synthetic mini-world has a train split; take source: official.")
    for key, why in (
        ("visual", "a run sees the features that it was trained on"),
        ("source_lang", "a run is asked in the languages of its training"),
    ):
        own, other = getattr(dataset, key), getattr(home, key)
        if own != other:
            raise CcrError(
                f"params.yaml: datasets.{name}.{key}: {own!r}, but datasets.{dataset.trained_on}, which it is "
                f"trained_on, has {other!r}: {why}. Give both the same."
            )


def _check_pivot(params: Params, variant: str) -> None:
    pivot = variant_of(params, variant)["options"].get("pivot")
    try:
        languages.code(pivot or "en")
    except CcrError as error:
        raise CcrError(f"params.yaml: translate.variants.{variant}.pivot: {error}") from error


def _check_services(params: Params, name: str) -> None:
    """Check that the online service of a data set supports its languages, in both directions."""
    dataset, variant = params.datasets[name], variant_of(params, params.datasets[name].mt)
    for lang in dataset.target_langs if variant["engine"] == "deep_translator" else ():
        where = f"params.yaml: datasets.{name}.mt: {dataset.mt}"
        services.codes(variant["options"]["service"], dataset.source_lang, lang, where)


def mismatch(params: Params, dataset: str, mt: str, visual: str) -> str:
    """Why this data set cannot have these translations or features; empty when it can.

    The mini-world has its own engine, and published files belong to official data.
    """
    source, engine = params.datasets[dataset].source, variant_of(params, mt)["engine"]
    if source != "synthetic" and engine == "lexicon":
        return (
            f"translation variant {mt!r} (engine lexicon) knows only the synthetic mini-world. With source: official "
            "choose a variant of another engine, e.g. mt: google."
        )
    if source == "synthetic" and engine == "precomputed":
        return (
            f"there are no published translations ({mt!r}) of the synthetic mini-world. With source: synthetic use "
            "mt: lexicon."
        )
    if source == "synthetic" and extractor_of(params, visual)["extractor"] == "published":
        return (
            f"there are no published features ({visual!r}) of the synthetic mini-world. With source: synthetic use "
            "visual: descriptor."
        )
    return ""


def _check_teachers(params: Params) -> None:
    for role in ("student", "teacher"):
        known(getattr(params.train, role).network, params.networks, f"train.{role}.network", "network")
    for name, teacher in params.teachers.items():
        if teacher.parallel is not None:
            known(teacher.parallel, params.parallel, f"teachers.{name}.parallel", "parallel text")
        if teacher.pairs == "parallel" and not (teacher.parallel and params.parallel[teacher.parallel].held_out):
            raise CcrError(
                f"params.yaml: teachers.{name}.pairs: parallel needs `parallel` text with `held_out` pairs, on which "
                "the best epoch is chosen."
            )
        if teacher.network is not None:
            known(teacher.network, params.networks, f"teachers.{name}.network", "network")
        objectives = objectives_of(teacher.objectives, f"teachers.{name}.objectives")
        if not objectives:
            raise CcrError(f"params.yaml: teachers.{name}.objectives: at least one term with a weight is needed.")
        if "visual" in registry.streams_of(objectives):
            raise CcrError(f"params.yaml: teachers.{name}.objectives: a CL teacher trains on text alone; no 'visual'.")
        if teacher.parallel and "back" in registry.streams_of(objectives):
            raise CcrError(
                f"params.yaml: teachers.{name}.parallel: its pairs have no back-translations, which a term of this "
                "teacher compares. Remove one of the two."
            )


def _check_methods(params: Params, written: Mapping[str, Raw]) -> None:
    """Check the methods, which are `written` so, without what they inherit."""
    for name, method in params.methods.items():
        path = f"methods.{name}"
        for value, valid, key, what in (
            (method.uses, params.methods, "uses", "method"),
            (method.teacher, params.teachers, "teacher", "teacher"),
            (method.mt, params.translate.variants, "mt", "translation variant"),
            (method.network, params.networks, "network", "network"),
        ):
            if value is not None:
                known(value, valid, f"{path}.{key}", what)
        objectives = objectives_of(method.objectives, f"{path}.objectives", method.compat)
        if method.uses:
            _check_uses(params, path, method)
        if not method.uses and not objectives:
            raise CcrError(f"params.yaml: {path}: give it `objectives` to train on, or `uses` of a trained method.")
        if not method.uses and "visual" not in registry.streams_of(objectives):
            raise CcrError(f"params.yaml: {path}.objectives: no term has the stream 'visual'; nothing to retrieve.")
        if (needs(objectives, "teacher") or method.init) and not method.teacher:
            what = "its objectives need" if not method.init else "init: teacher needs"
            raise CcrError(f"params.yaml: {path}.teacher: {what} one; {nearest('', params.teachers)}")
        if written[name].get("teacher") and not (method.init or _is_taught(method)):
            raise CcrError(
                f"params.yaml: {path}.teacher: nothing is learnt from {method.teacher!r}: no term distils it, and the "
                "method does not start from it. Remove it, or add a term such as relation_distillation, or init: "
                "teacher."
            )
        _check_distilled(params, path, method.teacher, objectives)


def _check_uses(params: Params, path: str, method: Method) -> None:
    """Check that a method which is evaluated with another's run sets only what its evaluation reads."""
    if params.methods[method.uses].uses:
        raise CcrError(
            f"params.yaml: {path}.uses: {method.uses!r} trains nothing itself; name the method whose run it uses."
        )
    for key in Method.model_fields:
        if key not in EVALUATED and getattr(method, key) not in (None, {}):
            raise CcrError(
                f"params.yaml: {path}.{key}: would change nothing, since the method uses the run of {method.uses!r} "
                "and trains nothing itself. Remove it, or the `like` that brings it."
            )


def _is_taught(method: Method) -> bool:
    """Whether a term of a method, of whatever weight, needs a teacher."""
    terms = ((term, given) for term, given in method.objectives.items() if given is not None)
    return any("teacher" in registry.OBJECTIVES[given.get("objective", term)].needs for term, given in terms)


def _check_distilled(params: Params, path: str, name: str | None, objectives: Mapping[str, Any]) -> None:
    """Check that a method's teacher embeds the streams that the method distils."""
    distilled = registry.distilled(objectives)
    if not distilled:
        return
    teacher, embedded = params.teachers[name], {"source"}
    if teacher.pairs == "all":
        terms = objectives_of(teacher.objectives, f"teachers.{name}.objectives")
        embedded |= {"target"} | registry.streams_of(terms)
    if missing := sorted(distilled - embedded):
        raise CcrError(
            f"params.yaml: {path}.objectives: a term distils the stream {missing[0]!r}, which its teacher {name!r} "
            f"does not embed. Distil one of {', '.join(sorted(embedded))}, or give the method another teacher."
        )


def _check_names(params: Params) -> None:
    """All tables share one folder, and all data sets another, so no two may have the same name there."""
    for name, dataset in params.datasets.items():
        other = params.datasets.get(f"{name}-synthetic")
        if dataset.source == "synthetic" and other and other.source != "synthetic":
            raise CcrError(
                f"params.yaml: datasets.{name}-synthetic: data/{name}-synthetic is the folder of {name} on the "
                "mini-world (source: synthetic). Choose another name."
            )
    for first, second in combinations(TABLES, 2):
        for name in getattr(params, second):
            if name in getattr(params, first):
                raise CcrError(
                    f"params.yaml: {second}.{name}: {first}.{name} has this name already; choose another one."
                )


def _check_data(params: Params, table: Table | Alignments | Translations, path: str) -> None:
    """Check the data sets and translation variants of a table of any kind."""
    for value in table.data:
        known(value, params.datasets, f"{path}.data", "data set")
    for value in table.mt or []:
        known(value, params.translate.variants, f"{path}.mt", "translation variant")


def _check_tables(params: Params) -> None:
    for name, table in params.tables.items():
        _check_data(params, table, f"tables.{name}")
        for value in table.methods:
            known(value, params.methods, f"tables.{name}.methods", "method")
        known(table.baseline, params.methods, f"tables.{name}.baseline", "method")
        for value in table.visual or []:
            known(value, params.features.extractors, f"tables.{name}.visual", "extractor")
    for value in params.run:
        known(value, params.sections, "run", "table")


def _check_alignments(params: Params) -> None:
    for name, table in params.alignments.items():
        path = f"alignments.{name}"
        _check_data(params, table, path)
        for value in table.teachers:
            known(value, params.teachers, f"{path}.teachers", "teacher")
        options_of(registry.SOLVER, table.solver, f"{path}.solver")


def _check_translations(params: Params) -> None:
    for name, table in params.translations.items():
        _check_data(params, table, f"translations.{name}")
