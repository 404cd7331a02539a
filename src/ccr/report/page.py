"""The report as one self-contained HTML file."""

import base64
import json
import logging
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment

from ccr.artifacts.files import atomic
from ccr.artifacts.jobs import Job
from ccr.params import Plan
from ccr.report import drawings
from ccr.report.breakdowns import breakdowns
from ccr.report.costs import costs
from ccr.report.examples import Examples
from ccr.report.group import Group
from ccr.report.origin import trainings
from ccr.tables import columns
from ccr.tables.comparison import compare
from ccr.tables.rows import Row, read_row

FIGURES = {"recall": "Recall", "sumr": "SumR", "curves": "Training curves", "shares": "Shares of the gradient"}
log = logging.getLogger(__name__)


def write(plan: Plan, job: Job, differences: list[tuple[str, Any, Any]], path: str) -> None:
    """Write the report of an existing table of retrieval.

    Args:
        job: the table's, which `ccr.report.made.check` accepts.
        differences: of params.yaml from its preset: key, value, preset's value.
    """
    rows = compare([read_row(settings) for settings in job.settings["rows"]])
    groups = [_group(Group(plan, group), plan.params.evaluate.batch) for group in columns.groups(rows)]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("ccr.report").joinpath("page.html.jinja").read_text(encoding="utf-8"))
    page = template.render(
        table=job.settings["table"],
        synthetic=any(row.synthetic for row in rows),
        groups=groups,
        left_out=job.settings["left_out"],
        costs=costs(plan.needs(job.target)),
        figures=[(title, _picture(job.outputs[role])) for role, title in FIGURES.items()],
        differences=[(key, json.dumps(value), json.dumps(preset)) for key, value, preset in differences],
        preset=plan.params.preset,
    )
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    log.info("%s: %.1f MB", path, len(page.encode()) / 1e6)


def _group(group: Group, batch: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "title": group.title,
        "items": group.rows[0].n_items,
        "queries": group.rows[0].n_queries,
        "chance": group.rows[0].chance,
        "head": [*(f"{name[:3]} {columns.HEADINGS[name]}" for name in columns.MAIN[:-1]), "SumR"],
        "rows": [_row(label, row, group) for label, row in zip(group.labels, group.rows, strict=True)],
        "elsewhere": any(row.trained_on for row in group.rows),
        "lang": group.rows[0].settings["target_lang"],
        "source_lang": group.rows[0].settings["source_lang"],
        "breakdowns": [(found.title, drawings.breakdown(found)) for found in breakdowns(group)],
        "trainings": trainings(group),
    }
    if group.compared:
        examples = Examples(group, batch)
        found["methods"] = examples.methods
        found["examples"] = [
            ("Ten queries that chance chose", examples.fixed()),
            (f"The worst of {examples.methods[1]}", examples.worst()),
            (f"The most improved from {examples.methods[0]} to {examples.methods[1]}", examples.improved()),
        ]
        items, captions, langs = examples.embeddings()
        found["space"] = drawings.common_space(items, captions, langs)
    return found


def _row(label: str, row: Row, group: Group) -> dict[str, Any]:
    """A row's cells: text, the value to sort by, and whether no other row without human translations is better."""
    rivals = [other for other in group.rows if other.settings["mt"] != "human"]
    cells = []
    for metric in columns.MAIN:
        best = row in rivals and row.mean[metric] == max(other.mean[metric] for other in rivals)
        cells.append((columns.number(row, metric), row.mean[metric], best))
    return {
        "label": label,
        "cells": cells,
        "difference": row.difference,
        "p": columns.p_value(row),
        "p_value": row.p,
        "verdict": row.verdict,
        "terms": columns.terms(row),
        "mt": row.settings["mt"],
        "trained_on": columns.trained_on(row),
        "key": row.key,
        "seeds": len(row.settings["seeds"]),
        "human": row.settings["mt"] == "human",
    }


def _picture(path: str) -> str:
    return "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode()
