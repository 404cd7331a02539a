"""MSCOCO photos with English, Japanese and Chinese captions, each in its publisher's layout.

- `dataset_coco.json` (Karpathy and Li, CVPR 2015), English:
  `{"images": [{"filename", "cocoid", "split", "sentences": [{"raw"}, ...]}, ...]}`, split train, restval (used for
  training, too), val or test.
- `stair_captions_v1.2_train.json`, `stair_captions_v1.2_val.json` (STAIR Captions: Yoshikawa et al., ACL 2017),
  Japanese: `{"annotations": [{"image_id", "caption"}, ...]}`. An image_id is a cocoid; train and val are COCO's halves,
  not our splits.
- `coco-cn-version1805v1.1/` (COCO-CN: Li et al., IEEE TMM 2019), Chinese: `imageid.human-written-caption.txt`, a line
  is `{image}#{n}<tab>{text}`; `coco-cn_train.txt`, `coco-cn_val.txt`, `coco-cn_test.txt`, an image per line.

An item's id is its file name without the extension, `COCO_val2014_000000391895`. Its split is, by option `split`:

- `by_language`: each target language has its customary val and test images, COCO-CN's for Chinese and Karpathy's for
  Japanese. An image in val or test of either trains neither; for an image in several, test takes precedence over val.
  Target captions of an image that their publisher has in another split are left out, so that test sets are exact.
- `karpathy`: Karpathy's, for every language.
- `coco_cn`: COCO-CN's, for every language; other images are left out.

Option `leave_out` names a file of images, one per line, to leave out of every split: those of another test set, XTD10.

Written from descriptions of these files and from code that reads them; the files themselves have not been read here.
"""

import re
from collections import Counter
from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.compute as pc

from ccr.artifacts.schemas import SPLITS
from ccr.captions.checks import check_items
from ccr.captions.raw import FOUND, Raw, check_langs, found, listed, numbered
from ccr.errors import CcrError
from ccr.texts.files import check_characters, read_ids, read_lines, read_records, short

ENGLISH = "dataset_coco.json"
JAPANESE = ("stair_captions_v1.2_train.json", "stair_captions_v1.2_val.json")
COCO_CN = "coco-cn-version1805v1.1"
LISTS = {split: f"{COCO_CN}/coco-cn_{split}.txt" for split in SPLITS}
CHINESE = f"{COCO_CN}/imageid.human-written-caption.txt"
LINE = re.compile(r"(?P<item>\S+)#(?P<n>[0-9]{1,9})[\t ](?P<text>.*)")
KARPATHY = {"train": "train", "restval": "train", "val": "val", "test": "test"}
LANGS = ("en", "ja", "zh")

# item -> split
Splits = dict[str, str]


def expected(settings: dict) -> list[str]:
    """The files that the pipeline needs, relative to the root."""
    langs = settings["langs"]
    files = [ENGLISH, *(JAPANESE if "ja" in langs else ())]
    files += LISTS.values() if _needs_lists(settings) else ()
    return [*files, CHINESE] if "zh" in langs else files


def layouts(root: Path) -> list[dict]:
    """Options and languages of the data in `root`."""
    if not (root / ENGLISH).exists():
        return []
    there = {"en": True, "ja": any((root / file).exists() for file in JAPANESE), "zh": (root / CHINESE).exists()}
    return [{"options": {"split": "by_language", "leave_out": ""}, "langs": [lang for lang in LANGS if there[lang]]}]


def read(root: Path, settings: dict) -> Raw:
    """The captions in `langs` of the images in the chosen split."""
    check_langs(settings, "MSCOCO", LANGS)
    if not (root / ENGLISH).exists():
        return Raw.collect([], [], [])
    records = _records(root / ENGLISH)
    items = [PurePath(record["filename"]).stem for record in records]
    karpathy = dict(zip(items, (KARPATHY[record["split"]] for record in records), strict=True))
    coco_cn = _lists(root) if _needs_lists(settings) else {}
    splits = _splits(settings["options"]["split"], karpathy, coco_cn)
    listed_elsewhere = _left_out(settings)
    left_out = {item: split for item, split in splits.items() if item in listed_elsewhere}
    splits = {item: split for item, split in splits.items() if item not in left_out}
    captions = {
        "en": lambda: _english(root / ENGLISH, items, records),
        "ja": lambda: _japanese(root, {record["cocoid"]: item for item, record in zip(items, records, strict=True)}),
        "zh": lambda: _chinese(root / CHINESE),
    }
    homes = {"en": karpathy, "ja": karpathy, "zh": coco_cn or karpathy}
    kept, notes = [], []
    for lang in settings["langs"]:
        exact = settings["options"]["split"] == "by_language" and lang != settings["langs"][0]
        table = captions[lang]()
        table = table.filter(pc.invert(pc.is_in(table["item_id"], pa.array(left_out, pa.string()))))
        keep = [_belongs(item, homes[lang], splits, exact) for item in table["item_id"].to_pylist()]
        kept.append(table.filter(pa.array(keep, pa.bool_())))
        if lost := len(keep) - sum(keep):
            why = "their image is in another split" if exact else "their image is in no split"
            notes.append(f"{lost:,} {lang} captions left out: {why} (split: {settings['options']['split']})")
    if lacking := len(coco_cn.keys() - karpathy.keys()):
        notes.append(f"{lacking:,} images of COCO-CN left out: they are not in {ENGLISH}")
    if left_out:
        counts = Counter(left_out.values())
        sizes = ", ".join(f"{split} {counts[split]:,}" for split in SPLITS)
        notes.append(f"{len(left_out):,} images left out ({sizes}): they are in {settings['options']['leave_out']}")
    listing = listed(root / ENGLISH, items, [splits.get(item) for item in items])
    return Raw.collect([listing.filter(listing["split"].is_valid())], kept, notes)


def _left_out(settings: dict) -> set[str]:
    path = settings["options"]["leave_out"]
    if path and not Path(path).exists():
        raise CcrError(f"{path}: missing. It lists the images to leave out (option `leave_out`), one per line.")
    return {PurePath(name).stem for name in read_ids(Path(path))} if path else set()


def _needs_lists(settings: dict) -> bool:
    split = settings["options"]["split"]
    return split == "coco_cn" or (split == "by_language" and "zh" in settings["langs"])


def _splits(option: str, karpathy: Splits, coco_cn: Splits) -> Splits:
    """The splits of the images that have English captions."""
    if option == "karpathy":
        return karpathy
    if option == "coco_cn":
        return {item: coco_cn[item] for item in karpathy if item in coco_cn}
    return {item: max(split, coco_cn.get(item, split), key=SPLITS.index) for item, split in karpathy.items()}


def _belongs(item: str, home: Splits, splits: Splits, exact: bool) -> bool:
    """Whether a caption is kept; one that its publisher has in no split is, so that the checks refuse it."""
    return item not in home or (item in splits and (not exact or home[item] == splits[item]))


def _lists(root: Path) -> Splits:
    for name in LISTS.values():
        if not (root / name).exists():
            raise CcrError(f"{root / name}: missing. It lists the images of a split of COCO-CN, one per line.")
    tables = [listed(root / name, [PurePath(i).stem for i in read_ids(root / name)], s) for s, name in LISTS.items()]
    table = pa.concat_tables(tables)
    check_items(table)
    return dict(zip(table["item_id"].to_pylist(), table["split"].to_pylist(), strict=True))


def _records(path: Path) -> list[dict]:
    records = read_records(path, "images")
    for number, record in enumerate(records, start=1):
        where = f"{path}, record {number}"
        for key, kind in {"filename": str, "cocoid": int, "split": str, "sentences": list}.items():
            if not isinstance(record.get(key), kind):
                raise CcrError(f"{where}: key {key!r} must hold {kind.__name__}. Fetch the file again.")
        if record["split"] not in KARPATHY:
            split = short(repr(record["split"]))
            raise CcrError(f"{where}: split {split} is none of {', '.join(KARPATHY)}. Fix the record.")
        texts = [sentence.get("raw") if isinstance(sentence, dict) else None for sentence in record["sentences"]]
        if not all(isinstance(text, str) for text in texts):
            raise CcrError(f"{where}: each of its 'sentences' must hold a caption under 'raw'. Fix the record.")
        check_characters(where, [record["filename"], *texts])
    return records


def _english(path: Path, items: list[str], records: list[dict]) -> pa.Table:
    rows = [
        (item, n, sentence["raw"], number)
        for number, (item, record) in enumerate(zip(items, records, strict=True), start=1)
        for n, sentence in enumerate(record["sentences"])
    ]
    return _found(path, "en", rows)


def _japanese(root: Path, item_of: dict[int, str]) -> pa.Table:
    tables = [FOUND.empty_table()]
    for path in (root / name for name in JAPANESE):
        if not path.exists():
            continue
        rows = []
        for number, record in enumerate(read_records(path, "annotations"), start=1):
            where, text = f"{path}, record {number}", record.get("caption")
            image = record.get("image_id")
            if not isinstance(image, int) or image not in item_of:
                raise CcrError(
                    f"{where}: image_id {short(repr(image))} is the cocoid of no image in {ENGLISH}. "
                    "Remove the record, or fetch that file again."
                )
            if not isinstance(text, str):
                raise CcrError(f"{where}: key 'caption' must hold a caption. Fix the record.")
            check_characters(where, [text])
            rows.append((item_of[image], text, number))
        numbers = numbered(pa.array([row[0] for row in rows], pa.string())).tolist()
        rows = [(item, n, text, number) for (item, text, number), n in zip(rows, numbers, strict=True)]
        tables.append(_found(path, "ja", rows))
    return pa.concat_tables(tables)


def _chinese(path: Path) -> pa.Table:
    if not path.exists():
        return FOUND.empty_table()
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        match = LINE.fullmatch(line)
        if not match:
            raise CcrError(
                f"{path}, line {number}: {short(line)!r} is not `{{image}}#{{number}}<tab>{{text}}`. Fix the line or "
                "remove it."
            )
        rows.append((PurePath(match["item"]).stem, int(match["n"]), match["text"], number))
    return _found(path, "zh", rows)


def _found(path: Path, lang: str, rows: list[tuple[str, int, str, int]]) -> pa.Table:
    """Captions from rows (item, n, text, row of the file)."""
    item_id, n, text, row = zip(*rows, strict=True) if rows else ((),) * 4
    return found(path, item_id=item_id, tag=lang, n=n, text=text, row=row, lang=lang)
