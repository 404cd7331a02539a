"""Readers for third-party text files: they return the content or raise a `CcrError` that names file and place."""

import codecs
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from ccr.errors import CcrError

LARGEST = 1 << 30  # bytes of a text file; published captions take a tenth of that
LARGEST_UNPACKED = 1 << 28  # and of a compressed one, unpacked
PACKED = (".gz", ".dz")  # the second is dictd's, and can be read like the first
BLOCK = 1 << 20  # bytes read at a time


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or UTF-16 with a byte-order mark, unpacked if its name ends in `.gz` or `.dz`.

    Raises `CcrError` if it cannot be read, is truncated, too large, in another encoding, or contains NUL.
    """
    data = read_bytes(path)
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf16 else "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        name = "UTF-16, as its first bytes say" if utf16 else "UTF-8"
        line = data.count(b"\n", 0, error.start) + 1
        raise CcrError(
            f"{path}, line {line} (byte {error.start}): not {name} ({error.reason}, byte "
            f"0x{data[error.start]:02x}). Fetch the file again, or convert it with `iconv -t UTF-8`."
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise CcrError(
            f"{path}, line {line}: a NUL character, which no text has; the file is damaged or in another encoding. "
            "Fetch it again, or convert it with `iconv -t UTF-8`."
        )
    return text


def read_bytes(path: Path) -> bytes:
    """The bytes of a text file, unpacked if its name ends in `.gz` or `.dz`.

    Raises `CcrError` if it cannot be read, is truncated, or too large.
    """
    packed = path.suffix in PACKED
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            largest = LARGEST_UNPACKED if packed else LARGEST
            chunks, size = [], 0
            while size <= largest and (chunk := file.read(BLOCK)):
                chunks.append(chunk)
                size += len(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CcrError(
            f"{path}: not a whole gzip file, probably cut off when copied ({error}). Fetch it again."
        ) from error
    except OSError as error:
        raise CcrError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if size > largest:
        raise CcrError(f"{path}: more than {largest:,} bytes of text. Fetch it again, or split it.")
    return b"".join(chunks)


def short(text: str, size: int = 60) -> str:
    """The beginning of a long text, for messages."""
    return text if len(text) <= size else text[: size - 3] + "..."


def read_lines(path: Path) -> list[str]:
    """The lines of a text file. Only a line feed ends a line: texts may hold other separators, such as U+2028."""
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def read_ids(path: Path) -> list[str]:
    """A file with one id per line."""
    ids = [line.strip() for line in read_lines(path)]
    if "" in ids:
        raise CcrError(f"{path}, line {ids.index('') + 1}: empty, an id was expected. Remove the line.")
    return ids


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise CcrError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg}), probably cut "
            "off when it was copied. Fetch the file again."
        ) from error
    except (RecursionError, ValueError) as error:  # deeply nested brackets; a number with thousands of digits
        raise CcrError(f"{path}: not the JSON that was expected ({error}). Fetch the file again.") from error


def read_records(path: Path, key: str | None = None) -> list[dict]:
    """The records of a JSON file: a list of objects, or an object with such a list under `key`."""
    held = read_json(path)
    records = held.get(key) if key and isinstance(held, dict) else held
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        what = f"an object with a list of objects under {key!r}" if key else "a JSON list of objects"
        raise CcrError(f"{path}: {what} was expected. Fetch the file again.")
    return records


def check_characters(where: str, texts: list[str]) -> None:
    """`CcrError` for half a UTF-16 pair: JSON can escape one, but no text can contain it."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise CcrError(
            f"{where}: half of a UTF-16 pair ({error.object[error.start]!a}) is no character. Fix the text."
        ) from error
