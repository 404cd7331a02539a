"""Your own captions: one table in the root, CSV, TSV or Parquet by its extension; option `file` names it.

A row is a caption: `item_id`, `split` (train, val, test), `lang` (a BCP 47 tag) and `text`; optionally `caption_id`,
`origin` (human, mt, back; default human), `engine` (that translated it), `parent_id` (the `caption_id` that it
translates). The default id of a caption is `{item_id}#{lang}#{n}`, followed by `@{engine}` if there is one; n counts
the captions of an item, language and engine from 0, in row order. An item's picture is the file in `images/` or
`videos/` named `item_id`, with any extension.
"""

from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ccr import languages
from ccr.artifacts.parquet import DAMAGED
from ccr.artifacts.schemas import SPLITS
from ccr.captions.checks import PLACE, listing
from ccr.captions.raw import FOUND, LISTED, Raw, numbered
from ccr.errors import CcrError
from ccr.texts.files import short
from ccr.texts.tables import DELIMITERS, check_header, read_table

NEEDED = ("item_id", "split", "lang", "text")
COLUMNS = (*NEEDED, "caption_id", "origin", "engine", "parent_id")
CHOICES = {"split": SPLITS, "origin": ("human", "mt", "back")}


def expected(settings: dict) -> list[str]:
    """The files that the pipeline needs, relative to the root."""
    file = settings["options"]["file"]
    if not PurePath(file).name or PurePath(file).is_absolute() or "*" in file:
        raise CcrError(
            f"datasets.{settings['data']}.options.file: expected the name of a table in the data set's root, such as "
            f"captions.csv, found {file!r}."
        )
    return [file]


def layouts(root: Path) -> list[dict]:
    """Options and languages of every table in `root` whose first lines, or schema, name a caption column."""
    paths = sorted(path for ending in (*DELIMITERS, ".parquet") for path in root.glob(f"*{ending}") if path.is_file())
    return [{"options": {"file": path.name}, "langs": _langs(path)} for path in paths if _is_meant(path)]


def read(root: Path, settings: dict) -> Raw:
    """The captions in `langs`, and every item with the split of its captions."""
    path = root / settings["options"]["file"]
    if not path.exists():
        return Raw.collect([], [], [])
    rows, notes = _read(path)
    _check(path, rows)
    rows = _with_codes(rows, settings["langs"])
    items = rows.group_by(["item_id", "split"], use_threads=False).aggregate([("row", "min")])
    items = items.rename_columns(["item_id", "split", "row"]).sort_by("row")
    items = items.append_column("file", pa.repeat(pa.scalar(str(path)), len(items))).select(LISTED.names).cast(LISTED)
    captions = _captions(path, rows)
    chosen = pc.is_in(captions["lang"], pa.array(settings["langs"]))
    captions, others = captions.filter(chosen), captions.filter(pc.invert(chosen))
    _check_originals(path, captions, others, settings["data"])
    left_out = others["lang"].value_counts().to_pylist()
    notes += [f"{c['counts']:,} captions in {c['values']} left out: not among the chosen languages" for c in left_out]
    return Raw.collect([items], [captions], notes)


def _is_meant(path: Path) -> bool:
    if path.suffix != ".parquet":
        with path.open("rb") as file:
            head = file.readline(1 << 16) + file.readline(1 << 16)  # the first may be `sep=;`
        return any(name.encode() in head.replace(b"\0", b"") for name in NEEDED)  # in UTF-16 too
    try:
        return any(name in NEEDED for name in _parquet(path).schema_arrow.names)
    except CcrError:
        return False


def _langs(path: Path) -> list[str]:
    """The languages of a table; none if it cannot be read (`read` says why)."""
    try:
        return languages.ordered(languages.code(tag) for tag in _read(path)[0]["lang"].unique().drop_null().to_pylist())
    except CcrError:
        return []


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except DAMAGED as error:
        raise CcrError(f"{path}: not a whole Parquet file ({error}). Fetch it again.") from error


def _read(path: Path) -> tuple[pa.Table, list[str]]:
    """COLUMNS and `row` (position in the file) of every caption, with null for empty values; and notes."""
    header, values, places, notes = (_read_parquet if path.suffix == ".parquet" else _read_text)(path)
    columns = {}
    for name in COLUMNS:
        column = values.get(name, pa.nulls(len(places), pa.string()))
        trimmed = column if name == "text" else pc.utf8_trim_whitespace(column)
        columns[name] = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    if others := [repr(name) for name in header if name not in COLUMNS]:
        notes.append(f"columns left out, they are none of {', '.join(COLUMNS)}: {listing(others)}")
    return pa.table({**columns, "row": pa.array(places, pa.int32())}), notes


Read = tuple[list[str], dict[str, pa.Array], list[int], list[str]]  # column names and values, row positions, notes


def _read_text(path: Path) -> Read:
    table = read_table(path, NEEDED)
    columns = zip(*table.records, strict=True) if table.records else [()] * len(table.header)
    values = {name: pa.array(column, pa.string()) for name, column in zip(table.header, columns, strict=True)}
    return table.header, values, table.lines, table.notes


def _read_parquet(path: Path) -> Read:
    header = [name.strip() for name in _parquet(path).schema_arrow.names]
    check_header(path, header, NEEDED)
    try:
        table = _parquet(path).read()
        table = table.rename_columns(header).select([name for name in header if name in COLUMNS])
        table = table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))
        table.validate(full=True)
    except DAMAGED as error:
        raise CcrError(f"{path}: its columns must hold text, as UTF-8 ({error}). Write the file again.") from error
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    return header, columns, list(range(1, len(table) + 1)), []


def _check(path: Path, rows: pa.Table) -> None:
    """`CcrError` at the first missing or invalid item, split, language or origin, or incomplete machine translation."""
    if not len(rows):
        raise CcrError(f"{path}: no captions, only the names of the columns. Write a row for each caption.")
    said = {"item_id": "Name the picture that it describes.", "split": f"Write {', '.join(SPLITS)}."}
    said["lang"] = "Write its language as a BCP 47 tag, such as en, sw or zh-Hant."
    for name, what in said.items():
        if row := _first(rows, pc.is_null(rows[name])):
            item = short(repr(row["item_id"]))
            raise CcrError(f"{_where(path, row)}: the caption of item {item} has no {name}. {what}")
    for name, known in CHOICES.items():
        if row := _first(rows, pc.invert(pc.is_in(rows[name], pa.array([*known, None])))):
            value = short(repr(row[name]))
            raise CcrError(f"{_where(path, row)}: unknown {name} {value}; known are {', '.join(known)}. Fix it.")
    for tag in rows["lang"].unique().to_pylist():
        try:
            languages.code(tag)
        except CcrError as error:
            raise CcrError(f"{_where(path, _first(rows, pc.equal(rows['lang'], tag)))}: {error}") from error
    made = pc.is_in(rows["origin"], pa.array(["mt", "back"]))
    for name in ("engine", "parent_id"):
        if row := _first(rows, pc.and_(made, pc.is_null(rows[name]))):
            raise CcrError(
                f"{_where(path, row)}: a machine translation (origin {row['origin']}) without {name}. Write which "
                "engine made it and the caption_id of the caption that it translates, or let its origin be human."
            )


def _with_codes(rows: pa.Table, asked: list[str]) -> pa.Table:
    """Replace each tag by the requested language it is a variety of, else by its code: `de-AT` -> `de` or `de-AT`."""
    tags = rows["lang"].combine_chunks().dictionary_encode()
    codes = [languages.variety(tag, tuple(asked)) or languages.code(tag) for tag in tags.dictionary.to_pylist()]
    codes = pa.array(codes, pa.string()).take(tags.indices)
    return rows.set_column(rows.schema.get_field_index("lang"), "lang", codes)


def _check_originals(path: Path, captions: pa.Table, others: pa.Table, data: str) -> None:
    """`CcrError` at the first caption that translates one of `others`, those in languages not asked for."""
    here, elsewhere = (
        pc.is_in(captions["parent_id"], table["caption_id"].combine_chunks()) for table in (captions, others)
    )
    if row := _first(captions, pc.and_not(elsewhere, here)):
        lang = others["lang"][pc.index(others["caption_id"], row["parent_id"]).as_py()]
        raise CcrError(
            f"{_where(path, row)}: caption {short(row['caption_id'])} is a translation of {short(row['parent_id'])}, "
            f"whose language {lang} is not among those of datasets.{data}. Add that to target_langs, or remove the "
            "translation."
        )


def _first(rows: pa.Table, mask: pa.ChunkedArray) -> dict | None:
    at = pc.index(mask, pa.scalar(True)).as_py()
    return rows.slice(at, 1).to_pylist()[0] if at >= 0 else None


def _where(path: Path, row: dict) -> str:
    return f"{path}, {PLACE.get(path.suffix, 'line')} {row['row']}"


def _captions(path: Path, rows: pa.Table) -> pa.Table:
    """Rows of schema FOUND."""
    keys = pc.binary_join_element_wise(rows["item_id"], rows["lang"], pc.fill_null(rows["engine"], ""), "\n")
    n = pa.array(numbered(keys.combine_chunks()), pa.int32())
    ids = pc.binary_join_element_wise(rows["item_id"], rows["lang"], n.cast(pa.string()), "#")
    ids = pc.coalesce(pc.binary_join_element_wise(ids, rows["engine"], "@"), ids)
    columns = {name: rows[name] for name in ("item_id", "split", "lang", "engine", "parent_id", "row")}
    columns |= {"tag": rows["lang"], "n": n, "caption_id": pc.coalesce(rows["caption_id"], ids)}
    columns |= {"origin": pc.fill_null(rows["origin"], "human"), "text": pc.fill_null(rows["text"], "")}
    columns["file"] = pa.repeat(pa.scalar(str(path)), len(rows))
    return pa.table({name: columns[name] for name in FOUND.names}, schema=FOUND)
