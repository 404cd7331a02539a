"""Which settings made a result: from the key of a table's row, or of any job, back to the raw data."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ccr.artifacts.files import read_json
from ccr.artifacts.hashes import digest
from ccr.artifacts.memo import MEMO, kept_keys, recorded_job
from ccr.errors import CcrError
from ccr.params.plan import Plan

Record = dict[str, Any]
SHORTEST = 6  # digits of a key that must be given
IDENTITY = ("dataset", "mt", "visual", "target_lang", "method", "teacher")  # what identifies a row


def explain(key: str, plan: Plan) -> Iterator[str]:
    """Lines that say what a key belongs to and with which settings each job behind it ran.

    Args:
        key: at least SHORTEST digits of the key of a row, a table or any job. plan: the plan of the present
            params.yaml; lines say where it differs from what a job ran with.
    Raises `CcrError` if there is no such key, or several.
    """
    if len(key) < SHORTEST:
        raise CcrError(f"{key}: too short. Give the key as the table shows it, at least {SHORTEST} digits.")
    title, keys = _found(key, plan)
    yield title
    for together in _alike(_behind(keys)):
        yield ""
        yield from _job(together, plan)


def _found(key: str, plan: Plan) -> tuple[str, list[str]]:
    """What the key belongs to, and the jobs that it stands for."""
    records = {full: recorded_job(full) for full in kept_keys()}
    found = {full: (record["target"], [full]) for full, record in records.items() if full.startswith(key)}
    for table, row, measured in _rows(records.values(), plan):
        name = digest(measured)[:12]
        if name.startswith(key):
            found[name] = (f"{row_name(row)} of {table}", measured)
    if len(found) > 1:
        raise CcrError(f"{key}: several keys begin so: {', '.join(sorted(found))}. Give more digits.")
    if not found:
        raise CcrError(
            f"{key}: no result in {MEMO} has this key. `ccr memo adopt` takes in results that lie in data/ and "
            "results/, where params.yaml asks for them."
        )
    ((name, (title, keys)),) = found.items()
    return f"{name}: {title}", keys


def row_name(row: Record) -> str:
    """The readable name of a table's row."""
    return "/".join(row[part] for part in IDENTITY if part in row)


def _rows(records: Iterable[Record], plan: Plan) -> Iterator[tuple[str, Record, list[str]]]:
    """Rows of the memo's tables, and planned rows that have metrics: table, settings of the row, evaluations' keys."""
    for record in records:
        for row in record["settings"].get("rows", ()) if record["stage"] == "tables" else ():
            yield record["target"], row, [record["makers"][path] for path in row["metrics"]]
    for job in plan.jobs.values():
        for row in job.settings["rows"] if job.stage == "tables" else ():
            if all(Path(path).exists() for path in row["metrics"]):
                yield job.target, row, [read_json(path)["key"] for path in row["metrics"]]


def _behind(keys: list[str]) -> list[Record]:
    """These jobs and those that made their inputs, as far as the memo knows them, each once, results first."""
    found: dict[str, Record] = {}
    todo, known = list(keys), set(kept_keys())
    while todo:
        key = todo.pop(0)
        if key in found or key not in known:
            continue
        found[key] = recorded_job(key)
        todo += found[key]["makers"].values()
    return list(found.values())


def _alike(records: list[Record]) -> list[list[Record]]:
    """Records in groups that differ only in the seed."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        same = {name: value for name, value in record["settings"].items() if name != "seed"}
        groups.setdefault(digest([record["stage"], Path(record["target"]).parent.as_posix(), same]), []).append(record)
    return list(groups.values())


def _job(records: list[Record], plan: Plan) -> Iterator[str]:
    for record in records:
        yield f"{record['stage']} {record['target']}, key {record['key']}"
    settings = records[0]["settings"]
    seeds = sorted(record["settings"]["seed"] for record in records if "seed" in settings)
    shown = {name: value for name, value in settings.items() if name not in ("rows", "seed")}
    for name, value in (shown | ({"seed": seeds[0] if len(seeds) == 1 else seeds} if seeds else {})).items():
        yield f"    {name}: {json.dumps(value, ensure_ascii=False)}"
    yield from _since(records[0], plan)


def _since(record: Record, plan: Plan) -> Iterator[str]:
    """What has changed since the job ran."""
    job = plan.jobs.get(record["target"])
    if job is None:
        yield "    params.yaml no longer plans this job"
        return
    then, now = dict(_flat(record["settings"])), dict(_flat(job.settings))
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            yield f"    params.yaml says now: {name}: {json.dumps(now.get(name), ensure_ascii=False)}"
    if record["code"] != job.code:
        yield f"    the code of {record['stage']} has changed since"


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        elif name != "rows":
            yield f"{above}{name}", value
