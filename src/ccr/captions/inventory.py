"""What a folder of raw data contains, in which layouts, and which entries of params.yaml could run on it."""

from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from ccr.artifacts.files import read_json
from ccr.captions.dataset import absent, summary, take_in
from ccr.captions.rows import feature_folders
from ccr.errors import CcrError
from ccr.params.entries import clean_variant, extractor_of, options_of, variant_of
from ccr.params.planning.pairs import files
from ccr.params.schema import Dataset, Params
from ccr.params.validation import mismatch
from ccr.registry import IMPORTERS
from ccr.store.arrays import read_array
from ccr.texts.files import read_text

SHOWN = 60  # characters shown of a shape.txt


@dataclass(frozen=True)
class Layout:
    """What one importer reads in a folder: the settings of its job, and the entries of params.yaml that refer to it."""

    settings: dict[str, Any]
    entries: dict[str, Dataset] = field(default_factory=dict)


def inventory(root: Path, params: Params) -> list[str]:
    """Lines to print. `CcrError` if there is no such folder, or nothing in it that an importer reads."""
    if not root.is_dir():
        raise CcrError(f"{root}: no such folder.")
    layouts = _layouts(root, params)
    if not layouts:
        known = [f"  {name}: {', '.join(entry.expects)}" for name, entry in IMPORTERS.items()]
        raise CcrError("\n".join([f"{root}: nothing in it that an importer reads. They look for", *known]))
    features = _features(root)
    lines = [str(root), *(f"  features in {path}: {what}" for path, what in features.items())]
    for layout in layouts:
        lines += ["", *_described(root, layout, set(features), params)]
    return lines


def _layouts(root: Path, params: Params) -> list[Layout]:
    """The layouts that the importers find: one per distinct way in which entries read it, else the layout by itself."""
    layouts, source = [], _source(root)
    kind = "video" if (root / "videos").is_dir() else "image"
    for name, importer in IMPORTERS.items():
        for found in importer.load().layouts(root):
            langs = found["langs"] or ["en"]
            settings = {"importer": name, "source": source, "data": root.name, "kind": kind, **found, "langs": langs}
            settings |= {"entities": "decode", "on_leak": "keep"}
            entries = _entries(settings, params) if source == "official" else []
            layouts += entries or [Layout(settings)]
    return layouts


def _entries(settings: dict[str, Any], params: Params) -> list[Layout]:
    """The entries of params.yaml that refer to this layout: they expect the same first file."""
    importer, layouts = IMPORTERS[settings["importer"]], []
    for name, dataset in params.datasets.items():
        if dataset.importer == settings["importer"]:
            options = options_of(importer, dataset.options, f"datasets.{name}.options")
            meant = settings | {"data": name, "kind": dataset.kind, "options": options}
            meant |= {"entities": dataset.entities, "on_leak": dataset.on_leak}
            if importer.load().expected(meant)[0] == importer.load().expected(settings)[0]:
                layout = next((found for found in layouts if found.settings | {"data": name} == meant), None)
                if layout is None:
                    layouts.append(layout := Layout(meant))
                layout.entries[name] = dataset.model_copy(update={"source": "official"})
    return layouts


def _source(root: Path) -> str:
    manifest = root / "manifest.json"  # written by the mini-world
    return "synthetic" if manifest.exists() and read_json(manifest).get("synthetic") else "official"


def _described(root: Path, layout: Layout, features: set[str], params: Params) -> list[str]:
    settings, importer = layout.settings, IMPORTERS[layout.settings["importer"]].load()
    expected = importer.expected(settings)
    missing = absent(root, expected)
    there = f"{len(expected) - len(missing)} of {len(expected)} files"
    given = f"{{{', '.join(f'{name}: {value}' for name, value in settings['options'].items() if value)}}}"
    lines = [f"importer {settings['importer']}, options {given}: {there}"]
    lines += [f"  missing: {file}" for file in missing]
    try:
        taken = take_in(root, settings, params.features.threads)
    except CcrError as error:
        return [*lines, f"  cannot be imported: {error}"]
    items, captions = taken.items, taken.captions
    lines += [f"  {line}" for line in summary(settings, taken).splitlines()]
    if settings["source"] == "synthetic":
        return [*lines, "  made by `ccr world`: nothing to check"]
    if not layout.entries:
        other = "" if "train" in items["split"].unique().to_pylist() else "trained_on: ANOTHER, "
        entry = f"{{importer: {settings['importer']}, options: {given}, root: {root}, {other}...}}"
        return [*lines, f"  no data set in params.yaml reads this; that would be NAME: {entry}"]
    counts = captions.group_by(["lang", "origin", "engine", "split"]).aggregate([]).to_pylist()
    held = {(row["lang"], row["origin"], row["engine"], row["split"]) for row in counts}
    visuals = _visuals(params, settings["kind"], features, items["path"].null_count == 0)
    return lines + [line for entry in layout.entries.items() for line in _verdict(root, *entry, held, visuals, params)]


def _visuals(params: Params, kind: str, features: set[str], media: bool) -> list[str]:
    """Extractors that can run: published ones whose folder exists, others if every item has a file of their kind."""
    names = []
    for name in params.features.extractors:
        extractor = extractor_of(params, name)
        published, of_videos = (extractor["extractor"] == what for what in ("published", "video_model"))
        if extractor["options"]["path"] in features if published else media and (kind == "video" or not of_videos):
            names.append(name)
    return names


def _translations(params: Params, dataset: Dataset, held: set[tuple]) -> list[str]:
    """Variants without noise or filter that can translate: published ones that exist, engines with these languages.

    Which languages a hub model translates is unknown until its files are available.
    """
    names = []
    for name in params.translate.variants:
        variant = variant_of(params, name)
        engine = variant["options"].get("published")
        there = not engine or all((lang, "mt", engine, "train") in held for lang in dataset.target_langs)
        if clean_variant(params, name) == name and variant["engine"] != "none" and there and _has(variant, dataset):
            names.append(name)
    return names


def _has(variant: dict[str, Any], dataset: Dataset) -> bool:
    """Whether an engine supports a data set's languages, as far as the plan can tell."""
    try:
        for lang in dataset.target_langs:
            files(variant, dataset.source_lang, lang, "")
    except CcrError:
        return False
    return True


def _verdict(
    root: Path, name: str, dataset: Dataset, held: set[tuple], visuals: list[str], params: Params
) -> list[str]:
    """The tables that an entry could produce from these captions and features, and its settings; or what it lacks."""
    params = params.model_copy(update={"datasets": {**params.datasets, name: dataset}})
    tables = [table for table, entry in (params.tables | params.alignments).items() if name in entry.data]
    if home := dataset.trained_on:
        needed, translations = product(dataset.target_langs, ["test"]), [params.datasets[home].mt]
        visuals = [visual for visual in visuals if visual == params.datasets[home].visual]
    else:
        needed = [(dataset.source_lang, "train"), *product(dataset.target_langs, ("val", "test"))]
        translations = _translations(params, dataset, held)
    lacks = [f"{lang} captions in {split}" for lang, split in needed if (lang, "human", None, split) not in held]
    pairs = [pair for pair in product(translations, visuals) if not mismatch(params, home or name, *pair)]
    lacks += [] if visuals else ["features or a picture of every item"]
    lacks += [] if pairs or not visuals else ["translations"]
    if lacks:
        hint = "" if home or any(row[-1] == "train" for row in held) else "; or let it be trained_on another data set"
        return [f"  datasets.{name} cannot run on this; missing: {', '.join(lacks)}{hint}"]
    mt, visual = (" or ".join(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    trained = f"trained_on: {home}, " if home else ""
    given = f"{{source: official, root: {root}, {trained}mt: {mt}, visual: {visual}}}"
    return [f"  datasets.{name} can run on this, with {given}", f"    its tables: {', '.join(tables) or 'none'}"]


def _features(root: Path) -> dict[str, str]:
    """Folder -> its contents, for every folder of published features in `root` or its FeatureData."""
    return {folder.relative_to(root).as_posix(): _features_in(folder) for folder in feature_folders(root)}


def _features_in(folder: Path) -> str:
    if (folder / "feature.bin").exists():
        shape = folder / "shape.txt"
        try:
            size = " x ".join(read_text(shape).split())[:SHOWN] if shape.exists() else "without shape.txt"
            return f"feature.bin, {size}"
        except CcrError as error:
            return f"feature.bin; {error}"
    file = min(folder.glob("*.npy"))
    try:
        shape = " x ".join(map(str, read_array(file).shape))
    except CcrError as error:
        return f"{file.name} cannot be read: {error}"
    return f"{file.name}, {shape}" if file.name == "features.npy" else f"{len(list(folder.glob('*.npy'))):,} .npy files"
