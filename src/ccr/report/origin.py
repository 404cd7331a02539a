"""Where the numbers of a table come from: training runs, devices, time, code."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccr.artifacts.files import read_json
from ccr.report.group import Group
from ccr.tables.rows import Row


@dataclass(frozen=True)
class Training:
    """The training runs behind a row. `minutes`: of all seeds; `device`, `code`, `torch`: all values that occur."""

    label: str
    row: Row
    minutes: float
    device: str
    code: str
    torch: str


def trainings(group: Group) -> list[Training]:
    """The training runs by row, as far as their provenance is available."""
    found = []
    for label, row in zip(group.labels, group.rows, strict=True):
        runs = [Path(group.job(row, seed).inputs["model"]).parent for seed in range(len(row.settings["seeds"]))]
        notes = [read_json(run / "provenance.json") for run in runs if (run / "provenance.json").is_file()]
        if notes:
            minutes = sum(note.get("seconds", 0.0) for note in notes) / 60
            found.append(Training(label, row, minutes, *(_each(notes, name) for name in ("device", "code", "torch"))))
    return found


def _each(notes: Sequence[dict[str, Any]], name: str) -> str:
    return ", ".join(sorted({str(note.get(name, "unknown")) for note in notes}))
