"""The translation memory: no sentence is translated twice.

`work/tm/{engine}-{hash of its identity}/{from}-{to}/` holds files of JSON lines, one translation each. Every process
appends to a file of its own and reads all files of the folder: nothing is locked, which the disks of clusters do
badly, and a line that a kill or a full disk has cut short is no translation.
"""

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from ccr.artifacts.files import atomic, make_folder, read_json, write_json
from ccr.artifacts.hashes import digest
from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.refusals import writing
from ccr.artifacts.room import room_for
from ccr.errors import CcrError
from ccr.translate.engine import Outcome, Refused, Remembered, languages
from ccr.translate.text import clean

TM = Path("work/tm")
COLUMNS = ("engine", "identity", "from", "to", "text", "translation", "refused")
MEMORY = pa.schema([(name, pa.string()) for name in COLUMNS])
SYNC_EVERY = 1.0  # seconds between syncs to the disk: what a power failure can cost; a killed process loses nothing

log = logging.getLogger(__name__)


def remembered(engine: Remembered, texts: list[str], job: Job) -> list[Outcome]:
    """What becomes of each text: out of the memory, or translated now and kept."""
    with Memory(job.settings["engine"], engine.identity, *languages(job)) as memory:
        missing = list(dict.fromkeys(text for text in map(clean, texts) if text not in memory.known))
        log.info("%s: %s texts, %s of them new to the memory", job.target, f"{len(texts):,}", f"{len(missing):,}")
        if missing:
            size = sum(len(text.encode(errors="replace")) for text in missing)
            room_for(memory.folder, 2 * size, "the translation memory")  # texts and their translations
            engine.translate_texts(missing, lambda text, outcome: memory.add(text, _storable(outcome)))
        return [memory.known[clean(text)] for text in texts]


def _storable(outcome: Outcome) -> Outcome:
    """A translation as captions are stored, or the reason why it cannot be."""
    if isinstance(outcome, Refused):
        return outcome
    try:
        outcome.encode()
    except UnicodeEncodeError:
        return Refused("the translation is not valid text")
    return clean(outcome) or Refused("the translation is empty")


def described(engine: str, identity: dict[str, Any], source: str, target: str) -> dict[str, str]:
    """The columns that all sentences of an engine and language pair share."""
    return {"engine": engine, "identity": json.dumps(identity, sort_keys=True), "from": source, "to": target}


class Memory:
    """What one engine has made of texts of one language pair: a context manager.

    `known`: clean text -> outcome.
    """

    def __init__(self, engine: str, identity: dict[str, Any], source: str, target: str):
        self._engine = TM / f"{engine}-{digest(identity)[:16]}"
        self._identity = identity
        self.folder = self._engine / f"{source}-{target}"
        self.known = _read(self.folder)
        self._lock = threading.Lock()
        self._file: int | None = None
        self._written, self._synced = 0, time.monotonic()

    def __enter__(self) -> "Memory":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with writing(self.folder):
                try:
                    os.fsync(self._file)
                finally:
                    os.close(self._file)

    def add(self, text: str, outcome: Outcome) -> None:
        """Keep the outcome of a clean text, from any thread. When this returns, it outlives the process.

        `CcrError` when the disk is full.
        """
        record = {"refused": outcome.reason} if isinstance(outcome, Refused) else {"translation": outcome}
        line = (json.dumps({"text": text, **record}) + "\n").encode()
        with self._lock:
            if text not in self.known:
                self._append(line)
                self.known[text] = outcome

    def _append(self, line: bytes) -> None:
        try:
            if self._file is None:
                self._open()
            written = os.write(self._file, line)
            while written < len(line):  # a disk that fills up takes a part first
                written += os.write(self._file, line[written:])
            self._written += len(line)
            if time.monotonic() - self._synced > SYNC_EVERY:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            if self._file is not None:
                os.ftruncate(self._file, self._written)
            raise CcrError(
                f"{self.folder}: the translation memory cannot be written ({error.strerror}). What was translated "
                "before is kept; make room and run the job again."
            ) from error

    def _open(self) -> None:
        if not (self._engine / "identity.json").exists():
            write_json(self._identity, self._engine / "identity.json")
        make_folder(self.folder)
        name = self.folder / f"{uuid.uuid4().hex[:12]}.jsonl"
        self._file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o666)


def _read(folder: Path) -> dict[str, Outcome]:
    """text -> outcome of all files of a folder; a translation stands above a refusal."""
    known: dict[str, Outcome] = {}
    unreadable = 0
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            try:
                record = json.loads(line)
                text, translation = record["text"], record.get("translation")
                outcome = Refused(record["refused"]) if translation is None else translation
            except (ValueError, KeyError, TypeError):
                unreadable += 1
                continue
            if translation is not None or text not in known:
                known[text] = outcome
    if unreadable:
        log.warning("%s: %s lines cut short or damaged; what they held is translated again", folder, unreadable)
    return known


def rows(describes: dict[str, str], outcomes: Iterable[tuple[str, Outcome]]) -> pa.Table:
    """Outcomes as a table (schema MEMORY), sorted by text."""
    texts, translations, reasons = [], [], []
    for text, outcome in sorted(outcomes, key=lambda pair: pair[0]):
        refused = isinstance(outcome, Refused)
        texts.append(text)
        translations.append(None if refused else outcome)
        reasons.append(outcome.reason if refused else None)
    columns = {name: pa.repeat(value, len(texts)).cast(pa.string()) for name, value in describes.items()}
    found = dict(zip(("text", "translation", "refused"), (texts, translations, reasons), strict=True))
    return pa.table(columns | {name: pa.array(values, pa.string()) for name, values in found.items()}, schema=MEMORY)


def export(path: Path) -> int:
    """Write all of the memory into one Parquet file (schema MEMORY); returns the number of sentences."""
    tables = [rows(describes, _read(folder).items()) for folder, describes in _folders()]
    table = pa.concat_tables([MEMORY.empty_table(), *tables])
    write_parquet(table, path, MEMORY)
    return len(table)


def absorb(path: Path) -> int:
    """Take the sentences of an exported file or a shard into the memory; returns how many were new to it."""
    new = 0
    key = ("engine", "identity", "from", "to")
    lines = read_parquet(path, MEMORY).sort_by([(name, "ascending") for name in key]).to_pylist()
    for (engine, identity, source, target), group in groupby(lines, key=lambda line: tuple(line[name] for name in key)):
        with Memory(engine, json.loads(identity), source, target) as memory:
            before = len(memory.known)
            for line in group:
                memory.add(line["text"], line["translation"] or Refused(line["refused"] or "no reason given"))
            new += len(memory.known) - before
    return new


def forget_refused() -> int:
    """Forget which sentences were refused, so that they are tried again; returns how many. No job may run meanwhile."""
    forgotten = 0
    for folder, _ in _folders():
        for file in folder.glob("*.jsonl"):
            lines = file.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if b'"refused": ' not in line]
            if len(kept) < len(lines):
                with atomic(file) as temporary:
                    temporary.write_bytes(b"".join(kept))
                forgotten += len(lines) - len(kept)
    return forgotten


def _folders() -> Iterator[tuple[Path, dict[str, str]]]:
    """Folder of every engine and language pair, and what describes it."""
    for file in sorted(TM.glob("*/identity.json")):
        identity = read_json(file)
        for folder in sorted(f for f in file.parent.iterdir() if f.is_dir()):
            source, target = folder.name.split("-")
            yield folder, described(file.parent.name.rsplit("-", 1)[0], identity, source, target)
