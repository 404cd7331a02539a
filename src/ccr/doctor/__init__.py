"""What this machine has, what the tables under `run` in params.yaml need, and what is wrong: for bug reports.

A section is a function that returns a `Section`; nothing here uses the network, or writes more than `work/hashes`. Of
keys, it only says whether they are set. The home folder is written as `~`.
"""

import json
import re
from pathlib import Path

from ccr.doctor import disks, machine, needs, packages, services
from ccr.doctor.section import Section

SECTIONS = (
    machine.machine, machine.gpus, machine.programs, disks.disks, packages.packages, services.keys, services.hub,
)  # fmt: skip


def examine(file: Path) -> list[Section]:
    """All sections, the one about the settings in `file` last."""
    return [*(section() for section in SECTIONS), needs.needs(file)]


def as_text(sections: list[Section]) -> str:
    """Human-readable: the facts of every section, then what is wrong, then what the run lacks."""
    lines = []
    for section in sections:
        lines.append(section.title)
        width = max(map(len, section.facts), default=0)
        lines += [f"  {name:<{width}}  {_shown(value)}" for name, value in section.facts.items()]
    for title, found in _faults(sections).items():
        lines += ["", f"{title}:", *(f"  {line}" for fault in found for line in fault.splitlines())] if found else []
    if not any(_faults(sections).values()):
        lines += ["", "nothing is wrong"]
    return _without_home("\n".join(lines))


def as_json(sections: list[Section]) -> str:
    """The same as one JSON object: facts by section, `wrong`, `missing`."""
    document = {section.title: section.facts for section in sections} | _faults(sections)
    return _without_home(json.dumps(document, indent=1, ensure_ascii=False))


def _faults(sections: list[Section]) -> dict[str, list[str]]:
    return {
        "wrong": [line for section in sections for line in section.wrong],
        "missing": [line for section in sections for line in section.missing],
    }


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _without_home(text: str) -> str:
    return (
        re.sub(rf"{re.escape(str(Path.home()).rstrip('/'))}(?![\w.-])", "~", text) if Path.home() != Path("/") else text
    )
