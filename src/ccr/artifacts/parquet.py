"""Parquet files: the same rows give the same bytes, and the metadata say what the rows hold and which job made them."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ccr.artifacts.files import atomic
from ccr.artifacts.hashes import digest
from ccr.errors import CcrError

KEY, CONTENT = "ccr.key", "ccr.content"  # names among the metadata
DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError)  # what pyarrow raises for a damaged file
BATCH_ROWS = 256  # read at a time: a row may hold a video


class ContentHash:
    """Hash of a table's content, fed batch by batch: names, types and values.

    Neither the sizes of the batches nor the layout of the file nor its metadata change it.
    """

    def __init__(self, schema: pa.Schema):
        self._schema = schema
        self._parts = defaultdict(lambda: hashlib.blake2b(digest_size=16))  # of every buffer of every column

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
    """Name of a type that does not depend on how a file stores it."""
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

    `metadata` (strings) goes into the schema metadata beside the job's `key` and the content hash.
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
    """Read a Parquet file, checking page checksums; `CcrError` when it is missing, torn or of another schema."""
    columns = columns or (schema.names if schema else None)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            missing = [name for name in columns or [] if name not in file.schema_arrow.names]
            if missing:
                raise CcrError(f"{path}: no column {missing[0]!r}; it has {', '.join(file.schema_arrow.names)}.")
            return file.read(columns=columns)
    except FileNotFoundError as error:
        raise CcrError(f"{path}: no such file. Run the job that makes it (`ccr plan` lists the jobs).") from error
    except DAMAGED as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | os.PathLike, error: Exception) -> CcrError:
    return CcrError(f"{path}: not a readable Parquet file, perhaps cut off ({error}). Delete it and run its job again.")


def recorded_content(path: str | os.PathLike) -> str | None:
    """The content hash that a Parquet file's metadata name; None for a file of others. `CcrError` when it is torn."""
    try:
        return (_metadata(pq.read_schema(path))).get(CONTENT)
    except DAMAGED as error:
        raise _unreadable(path, error) from error


def computed_content(path: str | os.PathLike) -> str:
    """The content hash of a Parquet file from its rows and metadata, read in batches. `CcrError` when it is torn."""
    try:
        # buffered ahead, a whole column would be in memory
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            schema = file.schema_arrow
            content = ContentHash(schema)
            for batch in file.iter_batches(BATCH_ROWS):
                content.update(batch)
    except DAMAGED as error:
        raise _unreadable(path, error) from error
    metadata = {name: value for name, value in _metadata(schema).items() if name not in (KEY, CONTENT)}
    return _metadata(described(schema, content, "", metadata))[CONTENT]


def _metadata(schema: pa.Schema) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in (schema.metadata or {}).items()}


def refused_of(table: pa.Table) -> dict[str, str]:
    """Captions that an engine refused to translate, by the metadata of a file of translations: caption id -> reason."""
    return json.loads((table.schema.metadata or {}).get(b"refused", b"{}"))
