"""VATEX, the official layout (Wang et al., ICCV 2019).

`vatex_training_v1.0.json`, `vatex_validation_v1.0.json`: `[{"videoID", "enCap": [10], "chCap": [10]}, ...]`.
By convention, 1,500 of the 3,000 official validation videos are used for validation and the other 1,500 for testing:
`val_ids.txt` and `test_ids.txt`, one id per line. Of a video's Chinese captions, the last five translate its English
captions of the same number; the first five were written from the video.
"""

from pathlib import Path

import pyarrow as pa

from ccr.captions.raw import Raw, check_langs, found, listed
from ccr.errors import CcrError
from ccr.texts.files import check_characters, read_ids, read_records, short

TRAINING, VALIDATION = "vatex_training_v1.0.json", "vatex_validation_v1.0.json"
HALVES = {"val": "val_ids.txt", "test": "test_ids.txt"}
KEYS = {"en": "enCap", "zh": "chCap"}
TRANSLATED = range(5, 10)


def expected(settings: dict) -> list[str]:
    """The files that the pipeline needs, relative to the root."""
    return [TRAINING, VALIDATION, *HALVES.values()]


def layouts(root: Path) -> list[dict]:
    """Options and languages of the data in `root`."""
    there = any((root / name).exists() for name in (TRAINING, VALIDATION))
    return [{"options": {}, "langs": list(KEYS)}] if there else []


def read(root: Path, settings: dict) -> Raw:
    """The captions in `langs` of the training videos and of both halves of the validation videos."""
    check_langs(settings, "VATEX", KEYS)
    items, captions = [], []
    if (root / TRAINING).exists():
        records = _records(root / TRAINING)
        items.append(listed(root / TRAINING, [record["videoID"] for record in records], "train"))
        captions += _captions(root / TRAINING, records, settings)
    if (root / VALIDATION).exists():
        for split, name in HALVES.items():
            if not (root / name).exists():
                raise CcrError(
                    f"{root / name}: missing. It lists, one id per line, the videos of {VALIDATION} that are "
                    f"the field's {split} split."
                )
            items.append(listed(root / name, read_ids(root / name), split))
        captions += _captions(root / VALIDATION, _records(root / VALIDATION), settings)
    return Raw.collect(items, captions, [])


def _records(path: Path) -> list[dict]:
    records = read_records(path)
    for number, record in enumerate(records, start=1):
        if not isinstance(record.get("videoID"), str) or not record["videoID"]:
            raise CcrError(f"{path}, record {number}: key 'videoID' must hold an id. Fix the record.")
        check_characters(f"{path}, record {number}, key 'videoID'", [record["videoID"]])
        where = f"{path}, record {number} ({short(record['videoID'])})"
        for key in KEYS.values():
            texts = record.get(key)
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise CcrError(f"{where}: key {key!r} must hold a list of captions. Fix the record.")
            check_characters(f"{where}, key {key!r}", texts)
    return records


def _captions(path: Path, records: list[dict], settings: dict) -> list[pa.Table]:
    # the mini-world writes its Chinese captions independently of the English ones
    parallel = settings["source"] == "official" and set(KEYS) <= set(settings["langs"])
    tables = []
    for lang in settings["langs"]:
        translations = TRANSLATED if parallel and lang == "zh" else ()
        rows = [
            (record["videoID"], n, text, number, n in translations and n < len(record[KEYS["en"]]))
            for number, record in enumerate(records, start=1)
            for n, text in enumerate(record[KEYS[lang]])
        ]
        item_id, n, text, row, translated = zip(*rows, strict=True) if rows else ((),) * 5
        about = {"row": row, "lang": lang, "parent_tag": "en", "translated": translated}
        tables.append(found(path, item_id=item_id, tag=lang, n=n, text=text, **about))
    return tables
