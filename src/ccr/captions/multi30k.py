"""Multi30K, the official layout (Elliott et al., 2016; tasks 1 and 2 of the WMT multimodal shared tasks).

Task 1: `task1/raw/{split}.{lang}.gz`, one sentence per line, aligned with the image names in
`task1/image_splits/{split}.txt`; the German, French and Czech sentences are human translations of the
English. Task 2: `task2/raw/{split}.{1..5}.{lang}.gz`, five independent descriptions per image and language,
aligned with `task2/image_splits/{split}_images.txt`. An item's id is its file name without the extension.
"""

from pathlib import Path, PurePath

import pyarrow as pa

from ccr.captions.raw import Raw, found, listed, read_ids, read_lines
from ccr.errors import CcrError

TEST = {1: "test_2016_flickr", 2: "test_2016"}
LIST = {1: "{}.txt", 2: "{}_images.txt"}
DESCRIPTIONS = 5


def _parts(settings: dict) -> dict[str, str]:
    """Our split -> the publisher's name of it."""
    options = settings["options"]
    return {"train": "train", "val": "val", "test": options["test"] or TEST[options["task"]]}


def expected(settings: dict) -> list[str]:
    """The files that the pipeline needs, relative to the root."""
    task, paths = settings["options"]["task"], []
    numbers = [f".{n}" for n in range(1, DESCRIPTIONS + 1)] if task == 2 else [""]
    if settings["source"] == "synthetic":
        numbers = numbers[:1]  # the mini-world chooses how many descriptions it publishes
    for part in _parts(settings).values():
        paths.append(f"image_splits/{LIST[task].format(part)}")
        paths += [f"raw/{part}{number}.{lang}.gz" for lang in settings["langs"] for number in numbers]
    return [f"task{task}/{path}" for path in paths]


def read(root: Path, settings: dict) -> Raw:
    """The captions in `langs` of train, val and the chosen test part."""
    task, items, captions = settings["options"]["task"], [], []
    for split, part in _parts(settings).items():
        files = {lang: _files(root / f"task{task}" / "raw", part, lang, task) for lang in settings["langs"]}
        if not any(files.values()):
            continue
        names = root / f"task{task}" / "image_splits" / LIST[task].format(part)
        if not names.exists():
            raise CcrError(f"{names}: missing. It names the image of each line of {part}'s captions.")
        # COCO images carry the caption's id behind the name: COCO_train2014_000000117071.jpg#367178
        item_ids = [PurePath(name.partition("#")[0]).stem for name in read_ids(names)]
        items.append(listed(names, item_ids, split))
        for lang, paths in files.items():
            original = "en" if task == 1 and lang != "en" and files.get("en") else None
            for n, path in enumerate(paths):
                captions.append(_captions(path, names, item_ids, n, lang, split, original))
    return Raw.collect(items, captions, [])


def _files(folder: Path, part: str, lang: str, task: int) -> list[Path]:
    """The caption files of a part and language that are there; a gap in their numbers is an error."""
    if task == 1:
        path = folder / f"{part}.{lang}.gz"
        return [path] if path.exists() else []
    paths = [folder / f"{part}.{n}.{lang}.gz" for n in range(1, DESCRIPTIONS + 1)]
    there = [path for path in paths if path.exists()]
    if there != paths[: len(there)]:
        gap = next(path for path in paths if not path.exists())
        raise CcrError(f"{gap}: missing, though {there[-1].name} is there. Fetch it, or remove the later.")
    return there


def _captions(
    path: Path, names: Path, item_ids: list[str], n: int, lang: str, split: str, parent_tag: str | None
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
        tag=lang,
        n=[n] * len(lines),
        text=lines,
        row=range(1, len(lines) + 1),
        lang=lang,
        split=split,
        parent_tag=parent_tag,
    )
