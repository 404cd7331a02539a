"""Which source code a result depends on: a module with all it imports inside `ccr`, and entries of the registry.

Code is compared by syntax trees without docstrings, so comments change nothing. No module is imported for this.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ccr import registry
from ccr.artifacts.hashes import bytes_hash, digest, once

SOURCE = Path(__file__).parents[2]  # the folder that holds `ccr`
# They identify results and store them; no result changes because of them.
APART = {"ccr", "ccr.errors", *(f"ccr.artifacts.{name}" for name in ("code", "jobs", "memo", "seals"))}
REGISTRY = "ccr.registry"  # its tables are hashed entry by entry


@cache
def code_hash(module: str, entries: tuple[str, ...] = ()) -> str:
    """Hash of the code that `module` and the registry's `entries` (`OBJECTIVES.infonce`) stand for.

    Of an entry: its module's name, its attributes other than `options` and `expects`, and its module's code. The values
    of its options are among a job's settings.
    """
    modules = closure(module)
    described = {}
    for name in entries:
        table, _, key = name.partition(".")
        entry = getattr(registry, table)[key]
        described[name] = {what: value for what, value in vars(entry).items() if what not in ("options", "expects")}
        modules |= closure(entry.module)
    return digest([described, {name: _read(name)["hash"] for name in sorted(modules)}])


@cache
def closure(module: str) -> frozenset[str]:
    """`module` and the modules of `ccr` that it imports, directly or not, at the top level or inside a function."""
    found: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in found and name not in APART:
            found.add(name)
            todo += _imports(name)
    return frozenset(found)


def _file(module: str) -> Path | None:
    """The file of a module of `ccr`; None if there is no such module."""
    path = SOURCE.joinpath(*module.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


@cache
def _read(module: str) -> dict[str, Any]:
    """Of a module: the `hash` of its syntax tree, and the `names` of `ccr` in its imports. Cached between processes."""
    how = bytes_hash(__file__)  # a change of this file invalidates what is cached

    def read(path: Path) -> str:
        tree = ast.parse(path.read_bytes())
        if module == REGISTRY:
            tree.body = [node for node in tree.body if not isinstance(node, ast.Assign | ast.AnnAssign)]
        names = sorted({name for name in _named(module, tree) if name.split(".")[0] == "ccr"})
        text = "".join(_written(tree)).encode()
        return json.dumps({"hash": hashlib.blake2b(text, digest_size=16).hexdigest(), "names": names})

    return json.loads(once(_file(module), f"code {how}", read))


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules of `ccr` that a module names in imports, and the packages that contain them."""
    named = set(_read(module)["names"])
    above = {name.rsplit(".", number)[0] for name in named | {module} for number in range(1, name.count(".") + 1)}
    return frozenset(name for name in named | above if _file(name))


def _named(module: str, tree: ast.Module) -> Iterator[str]:
    package = module if _file(module).name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{name.name}" for name in node.names)  # a name may be a module of the package
        elif isinstance(node, ast.Constant) and str(node.value).startswith("ccr."):
            yield node.value  # perhaps an argument of `import_module`


def _written(node: object) -> Iterator[str]:
    """A syntax tree as text, the same under all versions of Python, which differ in how they show empty fields."""
    if isinstance(node, ast.Constant):
        yield repr(node.value)
    elif isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if name == "body" and _has_docstring(node):
                value = value[1:]
            if value is not None and value != [] and name != "ctx":
                yield f" {name}="
                yield from _written(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for part in node:
            yield from _written(part)
            yield ","
        yield "]"
    else:
        yield repr(node)


def _has_docstring(node: ast.AST) -> bool:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
