"""What passes between the rooms: schemas, atomic writes, content hashes, jobs and the memo (law 6).

Everything a stage writes goes through here, so that a killed job leaves the old file or the new one, an
artifact's content hash does not depend on when or by which version it was made, and bad files are reported
in words.
"""

import ast
import errno
import functools
import hashlib
import json
import os
import platform
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from ccr.errors import CcrError

LANGUAGES = {"en": "English", "zh": "Chinese", "de": "German", "fr": "French", "cs": "Czech", "ja": "Japanese"}
SPLITS = ("train", "val", "test")
ORIGINS = ("human", "mt", "back", "parallel")
# what a trained network is on disk, role -> file in the run's folder
RUN_FILES = {"model": "model.safetensors", "config": "config.json", "tokenizer": "tokenizer.json"}

_NAME = pa.dictionary(pa.int32(), pa.string())
CAPTIONS = pa.schema(
    [
        ("item_id", pa.string()),
        ("caption_id", pa.string()),
        ("split", _NAME),
        ("lang", _NAME),
        ("origin", _NAME),
        ("engine", pa.string()),
        ("parent_id", pa.string()),
        ("text", pa.string()),
    ]
)
ITEMS = pa.schema([("item_id", pa.string()), ("split", _NAME), ("path", pa.string()), ("kind", _NAME)])
FEATURES = pa.schema([("item_id", pa.string()), ("frames", pa.int32()), ("features", pa.list_(pa.float16()))])
REJECTED = pa.schema([("item_id", pa.string()), ("path", pa.string()), ("reason", pa.string())])
LEFT_OUT_PAIRS = pa.schema(
    [("line", pa.int32()), ("source", pa.string()), ("target", pa.string()), ("reason", pa.string())]
)
ALIGNMENT = pa.schema(
    [
        ("caption_id", pa.string()),
        ("source_token", pa.string()),
        ("target_token", pa.string()),
        ("source_start", pa.int32()),
        ("source_end", pa.int32()),
        ("target_start", pa.int32()),
        ("target_end", pa.int32()),
    ]
)
WEIGHTS = pa.schema([("caption_id", pa.string()), ("chrf", pa.float32()), ("weight", pa.float32())])
RANKS = pa.schema([("direction", _NAME), ("query_id", pa.string()), ("item_id", pa.string()), ("rank", pa.int32())])
EMBEDDINGS = pa.schema([("caption_id", pa.string()), ("embedding", pa.list_(pa.float32()))])

MEMO = Path("work/memo")
MADE = Path("work/made")  # what made the outputs that are there
RECORD = "job.json"  # in the memo, beside a job's outputs
HASHES = Path("work/hashes")  # of the files of raw data


# --- atomic writes (law 8) ---------------------------------------------------------------------------------


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _settle(file: Path) -> None:
    """Sync a new file and let those read it who may read its folder: safetensors writes for the owner alone."""
    file.chmod(file.parent.stat().st_mode & 0o666)
    _sync(file)


@contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it is synced and renamed to `path`, else removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        _settle(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it takes the place of `path`, else it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _settle(file)
        while True:
            if path.exists():
                shutil.rmtree(path, ignore_errors=True)
            try:
                os.replace(temporary, path)
                break
            except OSError as error:  # another process put its own there in between
                if error.errno != errno.ENOTEMPTY:
                    raise
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(obj: Any, path: str | os.PathLike) -> None:
    """Write `obj` as JSON, sorted keys, atomically. NaN is refused (`ValueError`)."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(obj, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file; `CcrError` when it is missing or torn."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise CcrError(f"{path}: no such file. Run the job that makes it (`ccr plan` lists the jobs).") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CcrError(f"{path}: not valid JSON ({error}). Delete it and run its job again.") from error


# --- Parquet -----------------------------------------------------------------------------------------------


class ContentHash:
    """Hash of a table's content, fed batch by batch: names, types and values, not file layout or metadata."""

    def __init__(self, schema: pa.Schema):
        self._hash = hashlib.blake2b(digest_size=16)
        self._schema = schema
        self._hash.update(repr([(f.name, str(f.type)) for f in schema]).encode())

    def update(self, table: pa.Table | pa.RecordBatch) -> None:
        """Add rows. Column values are hashed through a canonical copy of their buffers."""
        table = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
        for name in self._schema.names:
            column = table[name]
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            self._update_array(pa.concat_arrays(column.chunks) if column.num_chunks else None)

    def _update_array(self, array: pa.Array | None) -> None:
        if array is None:
            return
        if pa.types.is_list(array.type):
            self._hash.update(array.value_lengths().to_numpy(zero_copy_only=False).tobytes())
            self._update_array(array.flatten())
        elif pa.types.is_string(array.type):
            nulls = array.is_null()
            self._hash.update(nulls.to_numpy(zero_copy_only=False).tobytes())
            lengths = pa.compute.binary_length(array.fill_null(""))
            self._hash.update(lengths.to_numpy(zero_copy_only=False).tobytes())
            self._hash.update("".join(array.fill_null("").to_pylist()).encode())
        else:
            self._hash.update(array.to_numpy(zero_copy_only=False).tobytes())

    def hexdigest(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()


def described(schema: pa.Schema, content: ContentHash, key: str, metadata: Mapping[str, str]) -> pa.Schema:
    """`schema` with the job's key, further string metadata, and the content hash of the rows and that metadata."""
    whole = digest({"rows": content.hexdigest(), **metadata})
    return schema.with_metadata({**metadata, "ccr.key": key, "ccr.content": whole})


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
    except (pa.ArrowException, OSError) as error:
        raise CcrError(
            f"{path}: not a readable Parquet file, perhaps cut off ({error}). Delete it and run its job again."
        ) from error


def refused_of(table: pa.Table) -> dict[str, str]:
    """Captions that an engine refused to translate, by the metadata of a file of translations: caption id -> reason."""
    return json.loads((table.schema.metadata or {}).get(b"refused", b"{}"))


def content_hash(path: str | os.PathLike) -> str:
    """Hash of a file's content: from the metadata of our Parquet files, else of the bytes.

    Of a folder: of what its `manifest.json` says of the content (raw data of the mini-world), else of all its files'
    names and bytes (raw data of others).
    """
    path = Path(path)
    if path.is_dir():
        if (path / "manifest.json").exists():
            return digest({name: value for name, value in read_json(path / "manifest.json").items() if name != "key"})
        return digest(_file_hashes(path))
    if path.suffix == ".parquet":
        try:
            content = (pq.read_schema(path).metadata or {}).get(b"ccr.content")
        except (pa.ArrowException, OSError) as error:
            raise CcrError(
                f"{path}: not a readable Parquet file, perhaps cut off ({error}). Delete it and run its job again."
            ) from error
        if content:
            return content.decode()
    return _bytes_hash(path)


def _bytes_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _file_hashes(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder. One whose size and time have not changed is not read again."""
    cache = HASHES / f"{digest(str(folder.resolve()))}.json"
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError):
        known = {}
    found = {}
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        name, stat = str(file.relative_to(folder)), file.stat()
        seen = [stat.st_size, stat.st_mtime_ns]
        before = known.get(name)
        found[name] = before if before and before[:2] == seen else [*seen, _bytes_hash(file)]
    if found != known:
        write_json(found, cache)
    return {name: values[2] for name, values in found.items()}


def digest(obj: Any) -> str:
    """Hash of a JSON-able object."""
    return hashlib.blake2b(json.dumps(obj, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def shard_of(name: str, shards: int) -> int:
    """Which of `shards` shards a sentence or an item is in; it depends on its text or id alone."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) % shards


# --- jobs, keys and provenance -----------------------------------------------------------------------------

# What a stage's result depends on: its own package and the libraries it uses (never cli, params, artifacts).
CODE = {
    "world": ("world",),
    "captions": ("captions",),
    "translate": ("translate", "hub"),
    "features": ("features", "hub", "store"),
    "train": ("train", "networks", "objectives", "retrieval", "store"),
    "evaluate": ("alignment", "evaluate", "networks", "objectives", "retrieval", "store"),
    "tables": ("tables", "retrieval"),
}


@functools.cache
def code_hash(stage: str) -> str:
    """Hash of the syntax trees of the stage's code, docstrings stripped: a comment changes nothing."""
    package = Path(__file__).parent
    trees = {}
    for room in CODE[stage]:
        for file in sorted((package / room).rglob("*.py")):
            tree = ast.parse(file.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
                    ast.get_docstring(node, clean=False) is not None
                ):
                    node.body = node.body[1:]
            trees[str(file.relative_to(package))] = ast.dump(tree)
    return digest(trees)


@dataclass(frozen=True)
class Job:
    """One unit of work: what it reads (role -> path or paths), writes (role -> path) and obeys.

    `target` is its name: the path of what it makes. `after`: files that must be there before, but do not change the
    result. `threads`, `gpus`: what it asks for; `checkpoint_minutes`: how often a training keeps its state: no result
    depends on these. `key` identifies the result: see `job_key`.
    """

    stage: str
    target: str
    inputs: dict[str, Any]
    outputs: dict[str, str]
    settings: dict[str, Any]
    threads: int = 1
    gpus: int = 0
    checkpoint_minutes: float = 10.0
    after: tuple[str, ...] = ()
    key: str = ""

    @property
    def digest(self) -> str:
        """Hash of the settings and the code: what a change in params.yaml or in the source changes."""
        return digest([self.settings, code_hash(self.stage)])

    def input_paths(self) -> list[str]:
        """All that must be there, flat."""
        inputs = [p for value in self.inputs.values() for p in ([value] if isinstance(value, str) else value)]
        return [*inputs, *self.after]


def job_key(job: Job) -> str:
    """Key of a job's result: settings, code, and the content of every input (law 6). Names do not enter."""
    contents = {
        role: content_hash(paths) if isinstance(paths, str) else [content_hash(p) for p in paths]
        for role, paths in job.inputs.items()
    }
    return digest([job.stage, job.settings, code_hash(job.stage), contents])


def load_job(path: str | os.PathLike) -> Job:
    """A job, with its key, from its JSON form (a line of `ccr plan --json TARGET`)."""
    job = Job(**read_json(path))
    return replace(job, key=job_key(job))


def dump_job(job: Job) -> dict[str, Any]:
    """The JSON form of a job."""
    return asdict(job)


def provenance(job: Job) -> dict[str, Any]:
    """Where, when and by which code a result was made. Nothing depends on it (law 7)."""
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    return {
        "key": job.key,
        "target": job.target,
        "code": commit or "unknown",
        "code_hash": code_hash(job.stage),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


# --- the memo (law 6) --------------------------------------------------------------------------------------


def memo_path(key: str) -> Path:
    """Folder of the memo that holds the outputs of the job with this key, under their roles."""
    return MEMO / key[:2] / key


def recall(job: Job) -> bool:
    """Copy the outputs of an equal earlier job out of the memo; False when there is none."""
    folder = memo_path(job.key)
    if not folder.is_dir() or any(not (folder / role).exists() for role in job.outputs):
        return False
    for role, path in job.outputs.items():
        _copy(folder / role, path)
    return True


def remember(job: Job) -> None:
    """Keep a job's outputs in the memo, and which job it was: `recorded_job`."""
    with atomic_folder(memo_path(job.key)) as temporary:
        for role, path in job.outputs.items():
            _copy(Path(path), temporary / role)
        makers = {path: key for path in job.input_paths() if (key := _key_of_file(Path(path)))}
        write_json(dump_job(job) | {"makers": makers, "code": code_hash(job.stage)}, temporary / RECORD)


def recorded_job(key: str) -> dict[str, Any]:
    """The job that made what the memo holds under this key, as `dump_job`.

    With `makers`: input path -> the key that made it, and `code`: the stage's `code_hash`.
    """
    return read_json(memo_path(key) / RECORD)


def _copy(source: Path, target: str | os.PathLike) -> None:
    """Copy a file or a folder; what was there is replaced at once."""
    if source.is_dir():
        with atomic_folder(target) as temporary:
            shutil.copytree(source, temporary, dirs_exist_ok=True)
    else:
        with atomic(target) as temporary:
            shutil.copyfile(source, temporary)


def recorded_key(job: Job) -> str | None:
    """The key that a job's existing outputs carry; None when one is missing or they disagree."""
    paths = list(map(Path, job.outputs.values()))
    if not all(path.exists() for path in paths):
        return None
    keys = {_key_of_file(path) for path in paths} - {None}
    return keys.pop() if len(keys) == 1 else None


def _key_of_file(path: Path) -> str | None:
    """The key that a file, or a folder of the mini-world, carries; None for kinds that carry none.

    A torn file raises `CcrError` or pyarrow's error.
    """
    if path.is_dir():
        path = path / "manifest.json"
        return read_json(path)["key"] if path.exists() else None
    if path.suffix == ".parquet":
        return (pq.read_schema(path).metadata or {}).get(b"ccr.key", b"").decode()
    if path.name == "model.safetensors":
        path = path.with_name("config.json")
    if path.suffix == ".json" and path.exists():
        return read_json(path).get("key")
    return None


def adopt(job: Job) -> bool:
    """Take a job's existing outputs into the memo if its present key is the one they carry; True if it is there."""
    if any(not Path(path).exists() for path in job.input_paths()):
        return False
    job = replace(job, key=job_key(job))
    if not memo_path(job.key).is_dir() and recorded_key(job) == job.key:
        remember(job)
    return memo_path(job.key).is_dir()


# --- what made the outputs that are there ------------------------------------------------------------------


def note(job: Job) -> None:
    """Write down that the job's outputs are there, made under its digest and key."""
    _write_note(job, {"digest": job.digest, "key": job.key}, old=True)


def noted(job: Job) -> Path:
    """A file that is newer than the job's outputs if, and only if, these are not what the job would make now.

    Snakemake, which goes by file times, reads it as an input of the job. It is made newer when the outputs were made by
    other settings or other code, by whoever and wherever: when they do not carry the key that this clone wrote down as
    made under the job's digest, or when one of them is missing. Outputs that carry the job's present key are what it
    would make, wherever they are from (`dvc pull`, `dvc checkout`, a copy) and whatever their times: they become newer
    than its inputs, which are settled before.
    """
    path = _note_path(job)
    try:
        made = json.loads(path.read_text())
    except (OSError, ValueError):
        made = {}
    key = _key_of_outputs(job)
    there = {Path(output).exists() for output in job.outputs.values()}
    same = made.get("digest") == job.digest and (key is None or made.get("key") == key) and len(there) == 1
    if same and (key is None or not _older_than_inputs(job)):
        return path
    if key is not None and key == _present_key(job):
        for output in job.outputs.values():
            os.utime(_marker(output))
        return _write_note(job, {"digest": job.digest, "key": key}, old=True)
    return path if same else _write_note(job, {"digest": job.digest, "key": None}, old=False)


def _older_than_inputs(job: Job) -> bool:
    inputs, outputs = ([_marker(path) for path in paths] for paths in (job.input_paths(), job.outputs.values()))
    newest = max((path.stat().st_mtime_ns for path in inputs if path.exists()), default=0)
    return min(path.stat().st_mtime_ns for path in outputs) < newest


def _write_note(job: Job, made: dict[str, str | None], old: bool) -> Path:
    path = _note_path(job)
    write_json(made, path)
    if old:
        os.utime(path, (1, 1))
    else:  # newer than outputs with a time in the future, too
        times = [_marker(output).stat().st_mtime for output in job.outputs.values() if _marker(output).exists()]
        latest = max([path.stat().st_mtime, *(time + 1 for time in times)])
        os.utime(path, (latest, latest))
    return path


def _note_path(job: Job) -> Path:
    """In a folder of its own: Snakemake lists a folder once, and would not see notes that come to it later."""
    return MADE / job.target / "note.json"


def _marker(output: str) -> Path:
    """The file whose time Snakemake looks at: of a folder, the manifest."""
    path = Path(output)
    return path / "manifest.json" if path.is_dir() else path


def _key_of_outputs(job: Job) -> str | None:
    """As `recorded_key`; a torn output carries none."""
    try:
        return recorded_key(job)
    except (CcrError, KeyError, TypeError, pa.ArrowException, OSError):
        return None


def _present_key(job: Job) -> str | None:
    """The job's key; None while an input is missing or torn."""
    try:
        return job_key(job)
    except (CcrError, OSError):
        return None


def clear_memo() -> None:
    """Delete the memo."""
    shutil.rmtree(MEMO, ignore_errors=True)
