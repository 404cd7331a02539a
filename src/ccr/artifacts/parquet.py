"""Parquet files: the same rows give the same bytes, and the metadata have a hash of the rows and the job's key."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ccr.artifacts.files import atomic
from ccr.artifacts.hashes import digest
from ccr.artifacts.refusals import refusal
from ccr.errors import CcrError

KEY, CONTENT = "ccr.key", "ccr.content"  # names in the metadata
# what pyarrow raises for a damaged file
DAMAGED = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError)
BATCH_ROWS = 256  # read at a time: a row may hold a video
LARGE, DENSEST = 1 << 30, 200  # a file may unpack to LARGE bytes, or to DENSEST times its size if that is more
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "FLOAT": 4, "DOUBLE": 8, "INT96": 12}  # bytes per value
STRING_ROWS, FEW_ROWS = 1 << 16, 1 << 20


class ContentHash:
    """Hash of a table's content, fed batch by batch: names, types and values.

    Neither the batch sizes nor the layout of the file nor its metadata affect it.
    """

    def __init__(self, schema: pa.Schema):
        self._schema = schema
        self._parts = defaultdict(lambda: hashlib.blake2b(digest_size=16))  # one per buffer of each column

    def update(self, table: pa.Table | pa.RecordBatch) -> None:
        """Add rows."""
        for name in self._schema.names:
            column = table[name]
            for array in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
                self._update(name, array)

    def _update(self, name: str, array: pa.Array) -> None:
        if not len(array):
            return
        if pa.types.is_dictionary(array.type):
            array = array.cast(array.type.value_type)
        self._add(f"{name}/nulls", array.is_null())
        if pa.types.is_list(array.type):
            self._add(f"{name}/lengths", array.value_lengths().fill_null(0))
            self._update(f"{name}/values", array.flatten())
        elif pa.types.is_string(array.type):
            array = array.fill_null("")
            self._add(f"{name}/lengths", pc.binary_length(array))
            self._parts[name].update("".join(array.to_pylist()).encode())
        else:
            self._add(name, array.fill_null(0) if array.null_count else array)

    def _add(self, part: str, array: pa.Array) -> None:
        self._parts[part].update(array.to_numpy(zero_copy_only=False).tobytes())

    def hexdigest(self) -> str:
        """The hash so far."""
        parts = {name: part.hexdigest() for name, part in self._parts.items()}
        return digest([[(field.name, _kind(field.type)) for field in self._schema], parts])


def _kind(kind: pa.DataType) -> str:
    """Name of a type, independent of how a file stores it."""
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    return f"list of {_kind(kind.value_type)}" if pa.types.is_list(kind) else str(kind)


def described(schema: pa.Schema, content: ContentHash, key: str, metadata: Mapping[str, str]) -> pa.Schema:
    """`schema` with the job's key, further string metadata, and the content hash of the rows and that metadata."""
    whole = digest({"rows": content.hexdigest(), **metadata})
    return schema.with_metadata({**metadata, KEY: key, CONTENT: whole})


def write_parquet(
    table: pa.Table | Mapping[str, Any],
    path: str | os.PathLike,
    schema: pa.Schema,
    *,
    key: str = "",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a table (or columns) atomically after a cast to `schema`; the same table gives the same bytes.

    `metadata` (strings) goes into the schema metadata, next to the job's `key` and the content hash.
    """
    if not isinstance(table, pa.Table):
        table = pa.table({name: table[name] for name in schema.names}, schema=schema)
    table = table.select(schema.names).cast(schema.remove_metadata())
    content = ContentHash(schema)
    content.update(table)
    table = table.replace_schema_metadata(described(schema, content, key, metadata or {}).metadata)
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_parquet(
    path: str | os.PathLike, schema: pa.Schema | None = None, columns: list[str] | None = None
) -> pa.Table:
    """Read a Parquet file, checking page checksums.

    `CcrError` if it is missing, torn or of another schema, or would unpack to far more than a file of its size should.
    """
    columns = columns or (schema.names if schema else None)
    with opened(path) as file:
        missing = [name for name in columns or [] if name not in file.schema_arrow.names]
        if missing:
            raise CcrError(f"{path}: no column {missing[0]!r}; it has {', '.join(file.schema_arrow.names)}.")
        for name in columns or []:
            _check_kind(path, file.schema_arrow.field(name), schema)
        return file.read(columns=columns)


@contextmanager
def opened(path: str | os.PathLike, **options: Any) -> Iterator[pq.ParquetFile]:
    """A Parquet file, opened to check page checksums; whatever is wrong with its bytes is a `CcrError`."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, **options) as file:
            _open_columns(path, file.metadata)
            _refuse_bomb(path, file.metadata)
            yield file
    except FileNotFoundError as error:
        raise CcrError(f"{path}: no such file. Run the job that makes it (`ccr plan` lists the jobs).") from error
    except DAMAGED as error:
        raise _unreadable(path, error) from error


def _check_kind(path: str | os.PathLike, field: pa.Field, schema: pa.Schema | None) -> None:
    if schema is not None and _kind(field.type) != _kind(schema.field(field.name).type):
        expected = _kind(schema.field(field.name).type)
        raise CcrError(f"{path}: column {field.name!r} holds {_kind(field.type)}, expected {expected}.")


def _open_columns(path: str | os.PathLike, metadata: pq.FileMetaData) -> None:
    """Raise an error for damaged metadata of a column, at which `row_group.column` would abort the whole process.

    Batches of no rows open the columns of a row group, and read and unpack nothing.
    """
    with pq.ParquetFile(path, metadata=metadata, pre_buffer=False, buffer_size=4096) as file:
        for number in range(metadata.num_row_groups):
            next(file.reader.iter_batches(0, [number], use_threads=False), None)


def _refuse_bomb(path: str | os.PathLike, metadata: pq.FileMetaData) -> None:
    """Raise `CcrError` for a small file that would exhaust memory: densely packed, or repeating a few values often."""
    size = os.path.getsize(path)
    most, unpacked, strings = max(LARGE, DENSEST * size), metadata.num_rows, set()
    for number in range(metadata.num_columns):
        groups = (metadata.row_group(group).column(number) for group in range(metadata.num_row_groups))
        held = [(chunk.num_values, chunk.total_uncompressed_size) for chunk in groups]
        column = metadata.schema.column(number)
        wide = column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else WIDTHS.get(column.physical_type, 0)
        unpacked += sum(max(wide * values, stored) for values, stored in held)
        if column.physical_type == "BYTE_ARRAY" and any(values * stored > most for values, stored in held):
            strings.add(column.path)
    if unpacked <= most:
        unpacked += _string_bytes(path, sorted(strings), most)
    if unpacked > most or metadata.num_rows > max(FEW_ROWS, 4 * size):  # each of our rows has its own id
        raise CcrError(
            f"{path}: its {size:,} bytes would unpack to more than {most:,}, or to more rows than such a file "
            "has. Do not trust it: delete it and run its job again."
        )


def _string_bytes(path: str | os.PathLike, names: list[str], most: int) -> int:
    """The total length of the columns' strings, or a number above `most`. Repeated strings are not expanded."""
    total = 0
    with pq.ParquetFile(path, read_dictionary=names, pre_buffer=False) as file:
        for batch in file.iter_batches(STRING_ROWS, columns=names) if names else ():
            for column in batch.columns:
                if not pa.types.is_dictionary(column.type):  # strings within lists: not a file of ours
                    return most + 1
                total += pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0
            if total > most:
                break
    return total


def _unreadable(path: str | os.PathLike, error: Exception) -> CcrError:
    return refusal(error, path) or CcrError(
        f"{path}: not a readable Parquet file, perhaps cut off ({error}). Delete it and run its job again."
    )


def recorded_content(path: str | os.PathLike) -> str | None:
    """The content hash in a Parquet file's metadata; None if the file is not ours. `CcrError` if it is torn."""
    with opened(path) as file:
        return _metadata(file.schema_arrow).get(CONTENT)


def computed_content(path: str | os.PathLike) -> str:
    """The content hash of a Parquet file from its rows and metadata, read in batches. `CcrError` if it is torn."""
    with opened(path, pre_buffer=False) as file:  # a buffer would hold a whole column in memory
        schema = file.schema_arrow
        content = ContentHash(schema)
        for batch in file.iter_batches(BATCH_ROWS):
            content.update(batch)
        metadata = {name: value for name, value in _metadata(schema).items() if name not in (KEY, CONTENT)}
        return _metadata(described(schema, content, "", metadata))[CONTENT]


def _metadata(schema: pa.Schema) -> dict[str, str]:
    """A schema's metadata as text; `ValueError` (`UnicodeDecodeError`) if they are not text."""
    return {name.decode(): value.decode() for name, value in (schema.metadata or {}).items()}


def refused_of(table: pa.Table) -> dict[str, str]:
    """Captions that an engine refused to translate, from the metadata of a translation file: caption id -> reason."""
    return json.loads((table.schema.metadata or {}).get(b"refused", b"{}"))


def recorded_refusals(path: str | os.PathLike) -> dict[str, str]:
    """Like `refused_of`, without reading the rows. `CcrError` if the file is missing or torn."""
    with opened(path) as file:
        return json.loads(_metadata(file.schema_arrow).get("refused", "{}"))
