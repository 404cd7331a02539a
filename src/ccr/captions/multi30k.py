"""Multi30K, the official layout (Elliott et al., 2016; tasks 1 and 2 of the WMT multimodal shared tasks).

Task 1: `task1/raw/{split}.{lang}.gz`, one sentence per line, aligned with the image names in
`task1/image_splits/{split}.txt`; the German, French and Czech sentences are human translations of the English, as are
languages added by others: any language whose tag (`ccr.languages`) names its files is read. Task 2:
`task2/raw/{split}.{1..5}.{lang}.gz`, five independent descriptions per image in English and German, aligned with
`task2/image_splits/{split}_images.txt`; other languages are taken from task 1, for the same images. An item's id is
its file name without the extension.

Option `photos` names a file of ids, one per line, of another collection that shares photos with Multi30K: Flickr8k's
`1000268201_693b08cb0e` is Multi30K's `1000268201`. Only these photos are read, under the ids of that file, and split
anew, because few of them are in Multi30K's own val and test parts: sorted by the SHA-256 of their id, the first
`held_out` are test, the next `held_out` val, the rest train.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.compute as pc

from ccr import languages
from ccr.captions.raw import Raw, found, listed
from ccr.errors import CcrError
from ccr.texts.files import read_ids, read_lines

TEST = {1: "test_2016_flickr", 2: "test_2016"}
LIST = {1: "{}.txt", 2: "{}_images.txt"}
DESCRIPTIONS = 5
DESCRIBED = ("en", "de")  # the languages of task 2


def _parts(settings: dict) -> dict[str, str]:
    """Our split -> the publisher's name for it."""
    options = settings["options"]
    return {"train": "train", "val": "val", "test": options["test"] or TEST[options["task"]]}


def _source(settings: dict, tag: str, part: str) -> tuple[int, str]:
    """The task and part that hold the captions of a language."""
    task = settings["options"]["task"]
    if task == 1 or tag in DESCRIBED or settings["source"] == "synthetic":
        return task, part
    return 1, f"{part}_flickr" if part.startswith("test") else part


def _list(task: int, part: str) -> str:
    """The file that names the image of each line of a part's captions."""
    return f"task{task}/image_splits/{LIST[task].format(part)}"


def expected(settings: dict) -> list[str]:
    """The files that the pipeline needs, relative to the root."""
    paths = []
    for part in _parts(settings).values():
        paths.append(_list(settings["options"]["task"], part))
        for lang in settings["langs"]:
            task, there = _source(settings, lang, part)
            numbers = [f".{n}" for n in range(1, DESCRIPTIONS + 1)] if task == 2 else [""]
            if settings["source"] == "synthetic":
                numbers = numbers[:1]  # the mini-world chooses how many descriptions it publishes
            paths += [_list(task, there), *(f"task{task}/raw/{there}{number}.{lang}.gz" for number in numbers)]
    return list(dict.fromkeys(paths))


def layouts(root: Path) -> list[dict]:
    """Options and languages of every task in `root`."""
    held = {task: {code for tag in _tags(root, task) if (code := languages.known(tag))} for task in LIST}
    held[2] |= held[1] - set(DESCRIBED) if held[2] else set()  # see `_source`
    langs = {task: languages.ordered(there) for task, there in held.items()}
    return [
        {"options": {"task": task, "test": "", "photos": "", "held_out": 0}, "langs": there}
        for task, there in langs.items()
        if there
    ]


def read(root: Path, settings: dict) -> Raw:
    """The captions in `langs` of train, val and the chosen test part."""
    items, captions, photos = [], [], _photos(settings)
    tags = languages.varieties(sorted(_tags(root, 1) | _tags(root, 2)), settings["langs"])
    langs = [(lang, tag) for lang, own in tags.items() for tag in own]
    for split, part in _parts(settings).items():
        files = {}
        for lang, tag in langs:
            task, there = _source(settings, tag, part)
            files |= {(lang, tag): paths} if (paths := _files(root / f"task{task}" / "raw", there, tag, task)) else {}
        if not files:
            continue
        names = root / _list(settings["options"]["task"], part)
        items.append(listed(names, _item_ids(names, photos), split))
        english = next((lang for lang, tag in files if tag == "en"), None)
        for (lang, tag), paths in files.items():
            names = root / _list(*_source(settings, tag, part))
            item_ids = _item_ids(names, photos)
            original = "en" if settings["options"]["task"] == 1 and english not in (None, lang) else None
            for n, path in enumerate(paths):
                captions.append(_captions(path, names, item_ids, n, tag, lang, split, original))
    raw = Raw.collect(items, captions, [])
    return _split_anew(raw, photos, settings["options"]) if photos else raw


def _photos(settings: dict) -> dict[str, str]:
    """Multi30K's id -> the id in the file of option `photos`; empty without that option."""
    path = settings["options"]["photos"]
    if not path:
        return {}
    if not Path(path).exists():
        raise CcrError(f"{path}: missing. It lists the photos to keep (option `photos`), one id per line.")
    return {name.partition("_")[0]: name for name in read_ids(Path(path))}


def _split_anew(raw: Raw, photos: Mapping[str, str], options: dict) -> Raw:
    """The items and captions of these photos, split by the hash of their ids."""
    ids = pa.array(photos.values(), pa.string())
    items, captions = (table.filter(pc.is_in(table["item_id"], ids)) for table in (raw.items, raw.captions))
    held_out, order = options["held_out"], sorted(items["item_id"].to_pylist(), key=_sha256)
    if not 0 < 2 * held_out < len(order):
        raise CcrError(
            f"{options['photos']}: {len(order):,} of its photos are Multi30K's; held_out: {held_out:,} of them for "
            "val, as many for test and the rest for training cannot be. Give another held_out, or another file of ids."
        )
    split = dict.fromkeys(order, "train") | dict.fromkeys(order[: 2 * held_out], "val")
    split |= dict.fromkeys(order[:held_out], "test")
    tables = []
    for table in (items, captions):
        column = pa.array([split[item] for item in table["item_id"].to_pylist()], pa.string())
        tables.append(table.set_column(table.column_names.index("split"), "split", column))
    note = (
        f"{len(order):,} of {len(raw.items):,} photos are in {options['photos']}; split again by the hash of their ids"
    )
    return Raw(*tables, [*raw.notes, note])


def _sha256(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _item_ids(names: Path, photos: Mapping[str, str]) -> list[str]:
    if not names.exists():
        raise CcrError(f"{names}: missing. It names the image of each line of the captions.")
    # COCO images carry the caption's id after the name: COCO_train2014_000000117071.jpg#367178
    ids = (PurePath(name.partition("#")[0]).stem for name in read_ids(names))
    return [photos.get(item, item) for item in ids]


def _tags(root: Path, task: int) -> set[str]:
    """What the names of a task's files have in the place of a language."""
    return {path.name.split(".")[-2] for path in (root / f"task{task}" / "raw").glob("*.*.gz")}


def _files(folder: Path, part: str, tag: str, task: int) -> list[Path]:
    """The existing caption files of a part with a tag; a gap in their numbers is an error."""
    if task == 1:
        path = folder / f"{part}.{tag}.gz"
        return [path] if path.exists() else []
    paths = [folder / f"{part}.{n}.{tag}.gz" for n in range(1, DESCRIPTIONS + 1)]
    there = [path for path in paths if path.exists()]
    if there != paths[: len(there)]:
        gap = next(path for path in paths if not path.exists())
        raise CcrError(f"{gap}: missing, though {there[-1].name} is there. Fetch it, or remove the later.")
    return there


def _captions(
    path: Path, names: Path, item_ids: list[str], n: int, tag: str, lang: str, split: str, parent_tag: str | None
) -> pa.Table:
    lines = read_lines(path)
    if len(lines) != len(item_ids):
        raise CcrError(
            f"{path} has {len(lines):,} lines, {names} has {len(item_ids):,}: line k of the one belongs to "
            "line k of the other, so the numbers must be equal. Fetch both again."
        )
    return found(
        path,
        item_id=item_ids,
        tag=tag,
        n=[n] * len(lines),
        text=lines,
        row=range(1, len(lines) + 1),
        lang=lang,
        split=split,
        parent_tag=parent_tag,
    )
