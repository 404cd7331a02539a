"""Text tables, one record per line or more: CSV and TSV as spreadsheet programs write them."""

import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ccr.errors import CcrError
from ccr.texts.files import read_text, short

DELIMITERS = {".csv": ",", ".tsv": "\t"}
NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
QUOTES = 'A text with quotation marks in it stands between quotation marks, and its own are doubled: "a ""stop"" sign".'
HINT = "sep="  # what some programs write before the column names: `sep=;`


@dataclass(frozen=True)
class Table:
    """Names of the columns and, per record, the values (one for each name) and the line on which it begins.

    `notes`: what was read differently from what the file's name says, or left out.
    """

    header: list[str]
    records: list[list[str]]
    lines: list[int]
    notes: list[str]


def read_table(path: Path, needed: Collection[str]) -> Table:
    """A CSV or TSV file with at least these columns.

    Values are separated by commas (.csv) or tabs (.tsv), or whatever the first line uses instead. Lines without a value
    are left out. Raises `CcrError` naming the line that is not a record or whose quotation mark swallows others, or the
    column that is missing or occurs twice.
    """
    text = read_text(path)
    mark = _delimiter(path, text, needed)
    lines = _records(path, text, mark)
    header = next(lines, (1, [""]))[1]
    if header[0].lower() == HINT:
        header = next(lines, (2, []))[1]
    header = [name.strip() for name in header]
    check_header(path, header, needed)
    records, starts, empty = [], [], 0
    for line, record in lines:
        if len(record) != len(header):
            raise CcrError(
                f"{path}, line {line}: {len(record)} values, but there are {len(header)} columns. A text with "
                f"{NAMES[mark]} in it stands between quotation marks."
            )
        if (column := _swallowing(record, mark)) is not None:
            raise CcrError(
                f"{path}, line {line}: column {header[column]!r} holds whole lines of the table, "
                f"{short(repr(record[column]))}: a quotation mark that is not closed on its line. {QUOTES} If they are "
                "one text, write it on one line."
            )
        if any(value.strip() for value in record):
            records.append(record)
            starts.append(line)
        else:
            empty += 1
    own = DELIMITERS[path.suffix]
    notes = [f"{path.name}: columns separated by {NAMES[mark]}, not {NAMES[own]}"] if mark != own else []
    notes += [f"{path.name}: {empty:,} lines without a value left out"] if empty else []
    return Table(header, records, starts, notes)


def check_header(path: Path, header: list[str], needed: Collection[str]) -> None:
    """`CcrError` for a column that is missing or occurs twice."""
    twice = [name for n, name in enumerate(header) if name and header.index(name) != n]
    if twice:
        raise CcrError(f"{path}: two columns are called {short(twice[0])!r}. Remove one.")
    missing = [name for name in needed if name not in header]
    if missing:
        raise CcrError(
            f"{path}: no column {missing[0]!r}; needed are {', '.join(needed)}. Its columns are "
            f"{short(', '.join(header), 200) or 'none'}. Add the column, or rename one."
        )


def _delimiter(path: Path, text: str, needed: Collection[str]) -> str:
    """The separator of the columns: the mark that yields most of the needed names in the first line."""
    if path.suffix not in DELIMITERS:
        raise CcrError(f"{path}: a table is a .csv, .tsv or .parquet file. Rename or convert it.")
    own, first = DELIMITERS[path.suffix], text[: 1 << 16].lstrip("\r\n").split("\n")
    if first[0].lower().startswith(HINT) and first[0][len(HINT) :].strip("\r") in NAMES:
        return first[0][len(HINT)]

    def names(mark: str) -> int:
        return len({name.strip('"\r ') for name in first[0].split(mark)} & set(needed))

    return max((own, *NAMES), key=names)


def _records(path: Path, text: str, mark: str) -> Iterator[tuple[int, list[str]]]:
    """The records that are not empty lines, each with the line on which it begins."""
    reader, start = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True), 1
    try:
        for record in reader:
            if record:
                yield start, record
            start = reader.line_num + 1
    except csv.Error as error:
        raise CcrError(f"{path}, line {start}: {error}. {QUOTES}") from error


def _swallowing(record: list[str], mark: str) -> int | None:
    """The column whose value looks like the rest of one record, whole ones, and the beginning of another."""
    separator = re.compile(rf"{re.escape(mark)}(?! )")  # after a comma in a text there is a space
    last = len(record) - 1
    for column, value in enumerate(record):
        rest, *lines = re.split(r"\r\n?|\n", value) if mark in value else [value]
        if not lines:
            continue
        if mark == "\t":  # in no text together with line breaks
            return column
        least = [last - column, *(last if line else 0 for line in lines[:-1]), column]
        if all(len(separator.findall(line)) >= n for line, n in zip([rest, *lines], least, strict=True)):
            return column
    return None
