"""The translation memory: no sentence is translated twice.

`work/tm/{engine}-{hash of its identity}/{from}-{to}/` holds JSON-lines files, with one translation, withdrawal, refusal
or failure per line. Every process appends to its own file and reads all files of the folder: nothing is locked, which
cluster file systems do badly, and a line truncated by a kill or a full disk is ignored. The meaning of a line does not
depend on its position.
"""

import json
import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from ccr import languages
from ccr.artifacts.files import atomic, make_folder, read_json, write_json
from ccr.artifacts.hashes import digest
from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.refusals import writing
from ccr.artifacts.room import room_for
from ccr.errors import CcrError
from ccr.translate import evidence
from ccr.translate.engine import Outcome, Refused, Remembered, Unanswered, Withdrawn
from ccr.translate.engine import languages as languages_of
from ccr.translate.evidence import APART, REFUSED_FOR, RUNS, counted, when
from ccr.translate.text import clean

TM = Path("work/tm")
COLUMNS = ("engine", "identity", "from", "to", "text", "translation", "refused")
MEMORY = pa.schema([(name, pa.string()) for name in COLUMNS])
LISTED, SHOWN = 20, 80  # sentences in a message, characters shown of each
SYNC_EVERY = 1.0  # seconds between syncs to the disk: what a power failure can cost; a killed process loses nothing

log = logging.getLogger(__name__)


def remembered(engine: Remembered, texts: list[str], job: Job) -> list[Outcome]:
    """The outcome of each text: from the memory, or translated now and stored. `CcrError` if some are left."""
    with Memory(job.settings["engine"], engine.identity, *languages_of(job)) as memory:
        missing = list(dict.fromkeys(text for text in map(clean, texts) if text not in memory.known))
        log.info("%s: %s texts, %s of them new to the memory", job.target, f"{len(texts):,}", f"{len(missing):,}")
        if missing:
            size = sum(len(text.encode(errors="replace")) for text in missing)
            room_for(memory.folder, 2 * size, "the translation memory")  # texts and their translations
            engine.translate_texts(missing, lambda text, outcome: memory.add(text, _storable(outcome)), memory)
        left = [text for text in map(clean, texts) if text not in memory.known]
        if left:
            raise CcrError(_left(list(dict.fromkeys(left)), len(missing), memory, job.target))
        return [memory.known[clean(text)] for text in texts]


def _left(left: list[str], asked: int, memory: "Memory", target: str) -> str:
    """The message about sentences that are not translated although others are."""
    shown = [f"\n  {_shown(text)}: {memory.trouble(text)}" for text in left[:LISTED]]
    return (
        f"{target}: {len(left):,} of {asked:,} sentences are not translated, though others are:"
        f"{''.join(shown)}\nWhat is translated is kept; the next run resumes from there. A sentence at which "
        f"{RUNS} runs have failed, each {APART / 3600:g} hours or more after the one before, is refused; on_failure "
        f"then decides. The next run that counts is one after {when(memory.next_that_counts(left))}."
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")


def _storable(outcome: Outcome | Unanswered | Withdrawn) -> Outcome | Unanswered | Withdrawn:
    """The outcome, its translation cleaned as captions are, or a refusal if it cannot be stored."""
    if not isinstance(outcome, str):
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
    """The outcomes of one engine for one language pair: a context manager.

    `known`: clean text -> outcome. `withdrawn`: answers that were mistaken for translations.
    """

    def __init__(self, engine: str, identity: dict[str, Any], source: str, target: str):
        self._engine = TM / f"{engine}-{digest(identity)[:16]}"
        self._identity = identity
        self.folder = self._engine / f"{source}-{target}"
        self.known, self.withdrawn, self._failures = _read(self.folder)
        self._reasons: dict[str, str] = {}  # for this run's failures
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

    def add(self, text: str, outcome: Outcome | Unanswered | Withdrawn) -> None:
        """Store the outcome of a clean text, from any thread. Once this returns, it survives the process.

        A text that is unanswered in as many runs as `evidence` requires is refused. `CcrError` if it cannot be written.
        """
        with self._lock:
            if isinstance(outcome, Withdrawn):
                self._withdraw(text, outcome)
            elif text not in self.known:
                if isinstance(outcome, Unanswered):
                    outcome = self._failed(text, outcome.reason)
                if outcome is not None:
                    self._append({"text": text, **_record(outcome)})
                    self.known[text] = outcome

    def trouble(self, text: str) -> str:
        """Why a text is not translated, for messages."""
        reason = self._reasons.get(text, "its translation was withdrawn: other sentences were given the same")
        return f"{reason} (run {len(counted(self._failures.get(text, [])))} of {RUNS})"

    def next_that_counts(self, texts: list[str]) -> float:
        """The time (seconds since 1970) after which another failure counts for all of these texts."""
        last = [times[-1] for text in texts if (times := counted(self._failures.get(text, [])))]
        return max(last, default=evidence.now() - APART) + APART

    def _withdraw(self, text: str, outcome: Withdrawn) -> None:
        log.warning("%s: withdrawn, for other sentences were given the same: %s", self.folder, _shown(text))
        self._append({"text": text, "withdrawn": outcome.translation})
        self.withdrawn.add(outcome.translation)
        if self.known.get(text) == outcome.translation:
            del self.known[text]

    def _failed(self, text: str, reason: str) -> Refused | None:
        """Record a failure; returns a refusal once there have been enough."""
        at = evidence.now()
        self._append({"text": text, "failed": reason, "at": at})
        self._failures.setdefault(text, []).append(at)
        self._reasons[text] = reason
        if len(counted(self._failures[text])) < RUNS:
            return None
        return Refused(f"{reason} (in {RUNS} runs or more)", until=at + REFUSED_FOR)

    def _append(self, record: dict[str, Any]) -> None:
        line = (json.dumps(record) + "\n").encode()
        try:
            if self._file is None:
                self._open()
            written = os.write(self._file, line)
            while written < len(line):  # a disk that fills up takes part of a line first
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


def _record(outcome: Outcome) -> dict[str, Any]:
    """An outcome as written in a line."""
    if isinstance(outcome, str):
        return {"translation": outcome}
    until = {} if outcome.until is None else {"until": outcome.until}
    return {"refused": outcome.reason, **until}


def _read(folder: Path) -> tuple[dict[str, Outcome], set[str], dict[str, list[float]]]:
    """Outcomes, withdrawn translations and failures from all files of a folder.

    A translation takes precedence over a refusal. A translation withdrawn from one text is invalid for all others too,
    since a kill may have prevented their withdrawal. Expired refusals are ignored.
    """
    refused: dict[str, Outcome] = {}
    translated: list[tuple[str, str]] = []
    withdrawn: set[str] = set()
    failures: dict[str, list[float]] = {}
    unreadable = 0
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            try:
                record = json.loads(line)
                text = _string(record["text"])
                if "translation" in record:
                    translated.append((text, _string(record["translation"])))
                elif "failed" in record:
                    failures.setdefault(text, []).append(float(record["at"]))
                elif "withdrawn" in record:
                    withdrawn.add(_string(record["withdrawn"]))
                elif record.get("until", math.inf) > evidence.now():
                    refused[text] = Refused(record["refused"], record.get("until"))
            except (ValueError, LookupError, TypeError, AttributeError):
                unreadable += 1
    if unreadable:
        log.warning("%s: %s lines cut short or damaged; what they held is translated again", folder, unreadable)
    known = refused | {text: translation for text, translation in translated if translation not in withdrawn}
    return known, withdrawn, failures


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


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
    """Write the whole memory to one Parquet file (schema MEMORY); returns the number of sentences."""
    tables = [rows(describes, _read(folder)[0].items()) for folder, describes in _folders()]
    table = pa.concat_tables([MEMORY.empty_table(), *tables])
    write_parquet(table, path, MEMORY)
    return len(table)


def absorb(path: Path) -> int:
    """Add the sentences of an exported file or a shard to the memory; returns how many were new to it.

    The file does not say how long a refusal holds, so each holds as long as a new one.
    """
    new, until = 0, evidence.now() + REFUSED_FOR
    key = ("engine", "identity", "from", "to")
    lines = read_parquet(path, MEMORY).sort_by([(name, "ascending") for name in key]).to_pylist()
    for (engine, identity, source, target), group in groupby(lines, key=lambda line: tuple(line[name] for name in key)):
        with Memory(engine, json.loads(identity), source, target) as memory:
            before = len(memory.known)
            for line in group:
                memory.add(line["text"], line["translation"] or Refused(line["refused"] or "no reason given", until))
            new += len(memory.known) - before
    return new


def forget_refused() -> int:
    """Forget which sentences were refused, so that they are tried again; returns how many. No job may be running.

    The failures that count towards a refusal are forgotten too.
    """
    forgotten = 0
    for folder, _ in _folders():
        refused = {text for text, outcome in _read(folder)[0].items() if isinstance(outcome, Refused)}
        for file in folder.glob("*.jsonl"):
            lines = file.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if b'"refused": ' not in line and b'"failed": ' not in line]
            if len(kept) < len(lines):
                with atomic(file) as temporary:
                    temporary.write_bytes(b"".join(kept))
        forgotten += len(refused)
    return forgotten


def _folders() -> Iterator[tuple[Path, dict[str, str]]]:
    """The folder of every engine and language pair, and the columns that describe it."""
    for file in sorted(TM.glob("*/identity.json")):
        identity = read_json(file)
        for folder in sorted(f for f in file.parent.iterdir() if f.is_dir()):
            yield folder, described(file.parent.name.rsplit("-", 1)[0], identity, *_pair(folder))


def _pair(folder: Path) -> tuple[str, str]:
    """The two languages that a folder is named after; a code may have hyphens of its own (`en-zh-Hant`)."""
    parts = folder.name.split("-")
    for n in range(1, len(parts)):
        source, target = "-".join(parts[:n]), "-".join(parts[n:])
        if languages.known(source) == source and languages.known(target) == target:
            return source, target
    raise CcrError(f"{folder}: expected a folder named after two languages, such as en-zh-Hant. Move it elsewhere.")
