"""Error messages for users: the key path, what is wrong there, and the nearest valid value."""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ccr.errors import CcrError

FILE = "params.yaml"  # what messages begin with, whatever file they are about: see `named`


def shown(path: str | Path) -> str:
    """The name of a file of settings in messages: for what Snakemake keeps of params.yaml, that of the original."""
    return FILE if Path(path).parent.parts[-2:] == ("work", "params") else str(path)


@contextmanager
def named(file: str) -> Iterator[None]:
    """Put the name of the file of settings in the place of `params.yaml` at the beginning of each line of a message."""
    try:
        yield
    except CcrError as error:
        raise CcrError(re.sub(rf"^{re.escape(FILE)}(?=: )", lambda _: file, str(error), flags=re.M)) from error


def nearest(value: Any, valid: Iterable[str]) -> str:
    valid = sorted(valid)
    close = difflib.get_close_matches(str(value), valid, n=1, cutoff=0.5)
    return (f"did you mean {close[0]!r}? " if close else "") + f"Valid: {', '.join(valid) or 'none'}."


def known(value: Any, valid: Iterable[str], path: str, what: str) -> None:
    if not isinstance(value, str) or value not in valid:
        raise CcrError(f"params.yaml: {path}: unknown {what} {value!r}; {nearest(value, valid)}")


def _fields_at(model: Any, location: tuple) -> list[str]:
    """Names that are valid where pydantic found an unknown one."""
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = model.model_fields[part].annotation
        else:  # the values of a mapping
            model = getattr(model, "__args__", (None,))[-1]
        if type(None) in getattr(model, "__args__", ()):
            model = next(argument for argument in model.__args__ if argument is not type(None))
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> CcrError:
    lines = []
    for problem in error.errors():
        location = [str(p) for p in problem["loc"]]
        path = prefix + ".".join(location)
        if problem["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key; {nearest(location[-1], _fields_at(model, problem['loc'][:-1]))}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: missing. It must be given.")
        elif problem["type"] == "literal_error":
            valid = [v.strip().strip("'") for v in problem["ctx"]["expected"].replace(" or ", ", ").split(",")]
            lines.append(f"{path}: {problem['input']!r} is not allowed; {nearest(problem['input'], valid)}")
        else:
            message, found = problem["msg"].removeprefix("Value error, "), repr(problem["input"])
            lines.append(f"{path}: {message} (found {found if len(found) < 200 else found[:200] + '...'})")
    return CcrError("\n".join(f"params.yaml: {line}" for line in lines))
