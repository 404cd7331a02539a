"""A raw data set in its publisher's format -> captions.parquet and items.parquet."""

import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePath
from unicodedata import normalize

import pyarrow as pa
import pyarrow.compute as pc

from ccr import languages
from ccr.artifacts.files import write_json
from ccr.artifacts.hashes import walk
from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import write_parquet
from ccr.artifacts.schemas import CAPTIONS, ITEMS, ORIGINS, SPLITS
from ccr.captions import leaks
from ccr.captions.checks import checked
from ccr.errors import CcrError
from ccr.registry import IMPORTERS

log = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Import, check, sort and write one data set, and a report of what was corrected, left out, or is in two splits.

    `CcrError` when all files are missing or one violates its format; if only some are missing, a warning names them.
    Nothing is dropped without a message in the log.
    """
    settings, root = job.settings, Path(job.inputs["root"])
    importer = IMPORTERS[settings["importer"]].load()
    files = importer.expected(settings)
    missing = absent(root, files)
    if len(missing) == len(files) and not importer.layouts(root):  # else they may be named by a variety of a language
        raise CcrError(_missing(root, files, missing, settings))
    taken = take_in(root, settings, job.threads)
    if not len(taken.captions):
        raise CcrError(_missing(root, files, missing, settings))
    if missing:
        log.warning("%s: imported without %s", root, ", ".join(missing))
    _check_coverage(root, taken.captions, settings)
    metadata = {"data": settings["data"], "source": settings["source"]}
    captions, items = _ordered(taken.captions, ["tag", "n", "engine"]), _ordered(taken.items, [])
    write_parquet(captions, job.outputs["captions"], CAPTIONS, key=job.key, metadata=metadata)
    write_parquet(items, job.outputs["items"], ITEMS, key=job.key, metadata=metadata)
    write_json({**metadata, "notes": taken.notes, "leaks": taken.leaks}, job.outputs["report"])
    log.info("%s", summary(settings, taken))


def absent(root: Path, files: list[str]) -> list[str]:
    """The files of an importer's `expected` that are not in `root`.

    Only `*` stands for other names: options name files, too, and `[v2]` is a name.
    """
    return [file for file in files if not any(root.glob(re.sub(r"[\[?]", r"[\g<0>]", file)))]


@dataclass(frozen=True)
class TakenIn:
    """A data set as imported.

    `items`: with path and kind of their file. `notes`: what was corrected, looks wrong, or was left out. `leaks`: what
    the splits share, and what was done about it.
    """

    items: pa.Table
    captions: pa.Table
    notes: list[str]
    leaks: list[str]


def take_in(root: Path, settings: dict, threads: int = 1) -> TakenIn:
    """Read, check and correct a data set, and compare its splits; media files are read by `threads` threads."""
    raw = IMPORTERS[settings["importer"]].load().read(root, settings)
    items, captions, notes = checked(raw, settings["entities"])
    items, unnamed = with_media(items, root, settings["kind"])
    notes += unnamed
    if settings["source"] == "synthetic":  # its splits are drawn from the same few scenes
        return TakenIn(items, captions, notes, [])
    found, unseen = leaks.find(root, items, captions, threads)
    said = leaks.described(found, items, captions)
    if found and settings["on_leak"] == "drop":
        items, captions, word = leaks.without(found, items, captions)
        said.append(f"{word} (on_leak: drop)")
    elif found:
        said.append("left in (on_leak: keep)")
    return TakenIn(items, captions, notes + unseen, said)


def _missing(root: Path, files: list[str], missing: list[str], settings: dict) -> str:
    """The error message for a data root that lacks files."""
    name = settings["data"]
    lines = [f"datasets.{name}: files of the {settings['importer']} layout are missing under {root}"]
    lines += [f"  {'missing' if file in missing else 'found  '}  {root / file}" for file in files]
    if settings["source"] == "synthetic":
        lines.append(f"These are made by the project: run `ccr world {root}`.")
    else:
        lines.append(f"Put them there, or point datasets.{name}.root in params.yaml to them. To run without them,")
        lines.append(f"set `datasets.{name}.source: synthetic` (with mt: lexicon, visual: descriptor).")
    return "\n".join(lines)


def _check_coverage(root: Path, captions: pa.Table, settings: dict) -> None:
    """Check that every requested language has captions, the source language human ones if there is a train split."""
    source, *targets = settings["langs"]
    human = captions.filter(pc.equal(captions["origin"], "human"))
    held = {source: set(human["lang"].unique().to_pylist())} | dict.fromkeys(
        targets, set(captions["lang"].unique().to_pylist())
    )
    if "train" not in captions["split"].unique().to_pylist():  # then nobody needs them
        del held[source]
    for lang, there in held.items():
        if lang not in there:
            raise CcrError(
                f"{root}: no captions in {lang!r} ({languages.name(lang)}); there are captions in "
                f"{', '.join(sorted(there | _langs(root, settings) - {lang}))}. Add its files, or take it out of "
                f"datasets.{settings['data']}."
            )


def _langs(root: Path, settings: dict) -> set[str]:
    """The languages of the files that these settings refer to, also those that the data set does not ask for."""
    importer = IMPORTERS[settings["importer"]].load()
    main = importer.expected(settings)[0]
    layouts = [(layout["langs"], settings | {"options": layout["options"]}) for layout in importer.layouts(root)]
    return {lang for langs, meant in layouts if importer.expected(meant)[0] == main for lang in langs}


def with_media(items: pa.Table, root: Path, kind: str) -> tuple[pa.Table, list[str]]:
    """Items with the path of their file in `images/` or `videos/` or a subfolder, null if there is none; and a note if
    files may be named wrongly.

    Names are compared in NFC: archives from a Mac have them in NFD.
    """
    names = [normalize("NFC", item) for item in items["item_id"].to_pylist()]
    wanted, others = set(names), []
    paths: dict[str, str] = {}
    for folder, folders, files in walk(root / f"{kind}s"):
        folders[:] = (name for name in folders if not name.startswith("."))
        for name in (name for name in files if not name.startswith(".")):
            stem, path = normalize("NFC", PurePath(name).stem), PurePath(folder, name).relative_to(root).as_posix()
            if stem not in wanted:  # such as Thumbs.db
                others.append(path)
            elif stem in paths:
                raise CcrError(f"{root}: {paths[stem]} and {path} are one item's files. Keep one.")
            else:
                paths[stem] = path
    found = [paths.get(name) for name in names]
    if odd := next((path for path in found if path and not _is_text(path)), None):
        raise CcrError(f"{root}: the name of {odd!a} is not UTF-8. Rename it, or the folder that it is in.")
    notes = []
    if others and None in found:
        name = others[0].encode(errors="backslashreplace").decode()
        notes.append(
            f"{found.count(None):,} items have no file, and {len(others):,} files in {kind}s/ belong to no item, such "
            f"as {name}; an item_id is the name of its file without the extension"
        )
    path = pa.array(found, pa.string())
    return items.append_column("path", path).append_column("kind", pa.repeat(pa.scalar(kind), len(items))), notes


def _is_text(path: str) -> bool:
    try:
        return bool(path.encode())
    except UnicodeEncodeError:
        return False


def _ordered(table: pa.Table, rest: list[str]) -> pa.Table:
    """Sorted by split (train, val, test), item, then language, origin (human first) and `rest`."""
    keys = {"split_order": pc.index_in(table["split"], pa.array(SPLITS)), "item_id": table["item_id"]}
    if "origin" in table.column_names:
        keys |= {"lang": table["lang"], "origin_order": pc.index_in(table["origin"], pa.array(ORIGINS))}
    keys |= {name: table[name] for name in rest}
    order = pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys])
    return table.take(order)


def summary(settings: dict, taken: TakenIn) -> str:
    """Human-readable counts per split, language and origin, what was corrected or left out, and what splits share."""
    items, captions = taken.items, taken.captions
    per_split = Counter(items["split"].to_pylist())
    sizes = ", ".join(f"{split} {per_split[split]:,}" for split in SPLITS)
    media = len(items) - items["path"].null_count
    name = f"{settings['data']} ({settings['source']})"
    lines = [f"{name}: {len(items):,} items ({sizes}), {media:,} with a file"]
    kinds = captions.group_by(["lang", "origin", "engine", "split"]).aggregate([([], "count_all")]).to_pylist()
    counts = Counter({(k["lang"], k["origin"], k["engine"] or "", k["split"]): k["count_all"] for k in kinds})
    for lang, origin, engine in sorted({kind[:3] for kind in counts}):
        sizes = ", ".join(f"{split} {counts[lang, origin, engine, split]:,}" for split in SPLITS)
        lines.append(f"  {lang} {origin}{f' ({engine})' if engine else ''}: {sizes}")
    lines += [f"  note: {note}" for note in taken.notes]
    return "\n".join([*lines, *(f"  in two splits: {leak}" for leak in taken.leaks)])
