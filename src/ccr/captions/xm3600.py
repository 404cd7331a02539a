"""Crossmodal-3600 (XM3600; Thapliyal et al., EMNLP 2022): 3,600 photos with human captions in 36 languages.

`captions.jsonl`, one photo per line: `{"image/key": "000411001ff7dd4f", "image/locale": "bn", "en": {"caption": [...],
"caption/tokenized": [...], "caption/tokenized/lowercase": [...]}, ...}`. A key without a slash is a language, under its
own tag (`quz`); a photo may lack some. The texts of `caption` are read. An item's id is its key; all are test items.

Written from descriptions of this file and from code that reads it; the file itself has not been read here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from ccr import languages
from ccr.captions.raw import Raw, found, listed
from ccr.errors import CcrError
from ccr.texts.files import check_characters, read_lines

FILE, KEY = "captions.jsonl", "image/key"


def expected(settings: dict) -> list[str]:
    """The files that the pipeline needs, relative to the root."""
    return [FILE]


def layouts(root: Path) -> list[dict]:
    """The languages of the file in `root`, if it is one of this layout."""
    path = root / FILE
    if not path.exists() or KEY.encode() not in _first_line(path):
        return []
    try:
        langs = languages.ordered(_tags(path, _records(path)).values())
    except CcrError:  # `read` says why
        langs = []
    return [{"options": {}, "langs": langs}]


def read(root: Path, settings: dict) -> Raw:
    """The captions in `langs`, all of the test split."""
    path = root / FILE
    if not path.exists():
        return Raw.collect([], [], [])
    records = _records(path)
    tags = languages.varieties(_tags(path, records), settings["langs"])
    captions = [_captions(path, records, *lang) for lang in tags.items()]
    return Raw.collect([listed(path, [record[KEY] for record in records], "test")], captions, [])


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline()


def _records(path: Path) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise CcrError(f"{where}: not valid JSON ({error.msg}). Fetch the file again.") from error
        except (RecursionError, ValueError) as error:  # deeply nested brackets; a number with thousands of digits
            raise CcrError(f"{where}: not the JSON that was expected ({error}). Fetch the file again.") from error
        if not isinstance(record, dict) or not isinstance(record.get(KEY), str) or not record[KEY]:
            raise CcrError(f"{where}: key {KEY!r} must hold an id. Fix the line.")
        for tag, said in _languages(record):
            texts = said.get("caption") if isinstance(said, dict) else None
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise CcrError(f"{where} ({record[KEY]}): {tag!r} must hold a list of texts under 'caption'. Fix it.")
            check_characters(f"{where} ({record[KEY]}), key {tag!r}", texts)
        records.append(record)
    return records


def _languages(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in record.items() if "/" not in key)


def _tags(path: Path, records: list[dict[str, Any]]) -> dict[str, str]:
    """The file's tag of each language with captions -> its code."""
    tags = dict.fromkeys(tag for record in records for tag, said in _languages(record) if said["caption"])
    try:
        return {tag: languages.code(tag) for tag in tags}
    except CcrError as error:
        raise CcrError(f"{path}: {error}") from error


def _captions(path: Path, records: list[dict[str, Any]], lang: str, tags: list[str]) -> pa.Table:
    rows = [
        (record[KEY], n, text, number)
        for number, record in enumerate(records, start=1)
        for n, text in enumerate(text for tag in tags if tag in record for text in record[tag]["caption"])
    ]
    item_id, n, text, row = zip(*rows, strict=True)
    return found(path, item_id=item_id, tag=lang, n=n, text=text, row=row, lang=lang)
