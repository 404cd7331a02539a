"""Presets: sets of edits to params.yaml (docs/architecture.md, design rule 5)."""

import copy
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from ccr.artifacts.files import atomic
from ccr.params.messages import known, named, shown
from ccr.params.reading import read
from ccr.params.validation import validate


def _presets() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(files("ccr.params").joinpath("presets.yaml").read_text())


def _get(raw: Any, path: str) -> Any:
    for part in path.split("."):
        raw = raw.get(part) if isinstance(raw, Mapping) else None
    return raw


def _preset(name: str, raw: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """A preset's edits to the sections of a file, without those to entries or terms that it does not have."""
    presets = _presets()
    with named(shown(path)):
        known(name, presets, "preset", "preset")
    return {key: value for key, value in presets[name].items() if isinstance(_get(raw, _entry(key)), Mapping)}


def _entry(key: str) -> str:
    """The path of the entry, or the term of one, that a preset's key belongs to."""
    parts = key.split(".")
    return ".".join(parts[: 4 if "objectives" in parts else 2])


def differences(path: str | Path = "params.yaml") -> list[tuple[str, Any, Any]]:
    """(key path, value in the file, value in its preset) for every key where the two differ."""
    raw = read(path)
    edits = _preset(raw.get("preset"), raw, path)
    return [(key, _get(raw, key), value) for key, value in edits.items() if _get(raw, key) != value]


def use(name: str, path: str | Path = "params.yaml") -> list[tuple[str, Any, Any]]:
    """Write a preset's values into the file, keeping comments, and return (key path, old, new) for every change.

    Raises `CcrError` if the result would not be valid; the file is then left unchanged.
    """
    from ruamel.yaml import YAML

    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 200
    editor.indent(mapping=2, sequence=4, offset=2)
    edits = _preset(name, read(path), path)  # `read` refuses what `editor` would accept
    document = editor.load(Path(path).read_text(encoding="utf-8-sig"))
    changed = []
    for key, value in {"preset": name, **edits}.items():
        *parents, last = key.split(".")
        section = document
        for part in parents:
            if not isinstance(section.get(part), Mapping):
                section[part] = {}
            section = section[part]
        old = copy.deepcopy(section.get(last))
        if old != value:
            changed.append((key, old, value))
            if isinstance(old, Mapping) and isinstance(value, Mapping):  # in place: comments stay
                for part in [p for p in old if p not in value]:
                    del section[last][part]
                section[last].update(value)
            elif isinstance(old, list) and isinstance(value, list):
                section[last][:] = value  # in place: the list keeps its style
            else:
                section[last] = value
    validate(document, shown(path))
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        editor.dump(document, file)
    return changed
