"""Python, and installed packages that differ from the pinned versions."""

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, distributions, requires
from pathlib import Path

from ccr.doctor.section import Section

PINS = Path("constraints.txt")


def packages() -> Section:
    """The running Python; packages that differ from `constraints.txt`, and required packages that are not installed."""
    found = Section("python", {"version": platform.python_version(), "executable": sys.executable})
    installed = {_normal(each.name): each.version.partition("+")[0] for each in distributions() if each.name}
    found.facts |= {name: installed.get(name, "not installed") for name in ("torch", "transformers", "numpy")}
    if PINS.is_file():
        pins = dict(line.split("==") for line in PINS.read_text(encoding="utf-8").split() if line.count("==") == 1)
        others = {
            name: installed[_normal(name)] for name in pins if installed.get(_normal(name), pins[name]) != pins[name]
        }
        found.facts["other_than_pinned"] = [f"{name} {version} (pin {pins[name]})" for name, version in others.items()]
        if others:
            found.wrong.append(
                f"python: {len(others)} packages are not those of {PINS}, with which the results were made. Install "
                f"them: pip install -e . -c {PINS}."
            )
    absent = sorted(_needed() - set(installed))
    if absent:
        found.missing.append(f"python: {', '.join(absent)} not installed. Install: pip install -e . -c {PINS}.")
    return found


def _needed() -> set[str]:
    """Packages that `ccr` itself requires."""
    try:
        lines = requires("ccr") or []
    except PackageNotFoundError:
        return set()
    return {_normal(re.match(r"[\w.-]+", line)[0]) for line in lines if "extra ==" not in line}


def _normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()
