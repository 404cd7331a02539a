"""From the bytes of params.yaml to a plain mapping, or one `CcrError`, whatever the file holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ccr.errors import CcrError

LARGEST_FILE = 1 << 20  # bytes; the project's own has 26,000
MOST_VALUES = 100_000  # with aliases expanded
DEEPEST = 30  # levels of nesting


def read(path: str | Path) -> dict[str, Any]:
    """The sections of a YAML file in UTF-8.

    Raises `CcrError` for files that are missing, too large, nested too deeply or not YAML, for keys that are duplicated
    or not strings, and for aliases that refer to themselves or expand to more than MOST_VALUES values.
    """
    return parse(_text(Path(path)), path)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CcrError(f"{path}: no such file. Run ccr from the project's top folder.") from error
    except OSError as error:
        raise CcrError(f"{path}: cannot be read ({error.strerror}).") from error
    if len(data) > LARGEST_FILE:
        raise CcrError(f"{path}: {len(data):,} bytes; a file of settings has at most {LARGEST_FILE:,}.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise CcrError(f"{path}: line {line} is not UTF-8. Save the file in UTF-8.") from error


def parse(text: str, path: str | Path) -> dict[str, Any]:
    """Like `read`, but from text. `path` is for messages."""
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            _check(node, path)
            node = loader.construct_document(node)
    except RecursionError as error:
        raise CcrError(f"{path}: nested too deeply; settings have at most {DEEPEST} levels.") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two: impossible numbers and dates
        raise CcrError(f"{path}: not valid YAML: {error}") from error
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(node, Mapping):
        raise CcrError(f"{path}: expected sections (datasets, translate, ...), found something else.")
    return dict(node)


def _check(node: yaml.Node, path: str | Path) -> None:
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, above: tuple[yaml.Node, ...]) -> int:
        """The number of values of a node, with aliases expanded."""
        if any(node is parent for parent in above):
            raise CcrError(f"{path}: line {_line(node)}: an alias leads back to itself.")
        if len(above) > DEEPEST:
            raise CcrError(f"{path}: line {_line(node)}: nested too deeply; settings have at most {DEEPEST} levels.")
        if id(node) not in sizes:
            if isinstance(node, yaml.MappingNode):
                _check_keys(node, path)
            sizes[id(node)] = 1 + sum(size(child, (*above, node)) for child in _children(node))
            if sizes[id(node)] > MOST_VALUES:
                raise CcrError(
                    f"{path}: line {_line(node)}: with its aliases written out it has more than {MOST_VALUES:,} values."
                )
        return sizes[id(node)]

    size(node, ())


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: yaml.MappingNode, path: str | Path) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            shown = f"{key.value!r} is read as another kind of value" if isinstance(key, yaml.ScalarNode) else "a list"
            raise CcrError(f"{path}: line {_line(key)}: expected a name as key, but {shown}; put quotes around it.")
        if key.value in lines:
            raise CcrError(
                f"{path}: line {_line(key)}: the key {key.value!r} stands twice, first in line {lines[key.value]}. "
                "Keep one of the two."
            )
        lines[key.value] = _line(key)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
