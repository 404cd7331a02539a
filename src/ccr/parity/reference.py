"""A group of the authors' numbers on disk, and the result of comparing each of them."""

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch

from ccr.errors import CcrError

# A prefix of array names, and the function that computes our values for them: the rest of the name -> value.
Part = tuple[str, Callable[[], Mapping[str, Any]]]


@dataclass(frozen=True)
class Line:
    """One array or number: largest absolute difference, tolerance, and `ok`, `OFF` or `MISSING`."""

    name: str
    difference: float | None
    tolerance: float | None
    status: str
    note: str = ""

    def __str__(self) -> str:
        numbers = ("-" if x is None else f"{x:.1e}" for x in (self.difference, self.tolerance))
        return "  ".join(filter(None, (self.name, *numbers, self.status, self.note)))

    @classmethod
    def of(cls, name: str, difference: float, tolerance: float) -> "Line":
        """Ok if the difference is within the tolerance; NaN never is."""
        return cls(name, float(difference), tolerance, "ok" if difference <= tolerance else "OFF")

    @classmethod
    def missing(cls, name: str, why: Exception | str) -> "Line":
        """A line for something that could not be compared."""
        text = f"{type(why).__name__}: {why}" if isinstance(why, Exception) and not isinstance(why, CcrError) else why
        return cls(name, None, None, "MISSING", shorten(str(text), 200))


@dataclass(frozen=True)
class Entries:
    """An array of which only the entries `where` (bool) are compared."""

    values: torch.Tensor
    where: torch.Tensor


class Group:
    """Files of a directory that belong together: `{stem}.npz`, `{stem}_index.json` and others.

    Args:
        name: prefix of the names of its lines.
    """

    def __init__(self, folder: Path, name: str, stem: str, *others: str):
        self.folder, self.name = folder, name
        self.path, self._index = folder / f"{stem}.npz", folder / f"{stem}_index.json"
        self.files = [self.path, self._index, *(folder / other for other in others)]

    @cached_property
    def index(self) -> dict[str, dict[str, Any]]:
        """Array name -> its shape, dtype and meaning. `CcrError` if the index is missing or damaged."""
        return read_object(self._index)

    def number(self, name: str, pattern: str, default: float) -> float:
        """The number that `pattern` finds in an array's meaning, the only place where some options are given."""
        found = re.search(pattern, str(self.index.get(name, {}).get("meaning", "")))
        return float(found[1]) if found else default

    @cached_property
    def _arrays(self) -> Mapping[str, np.ndarray]:
        if not self.path.is_file():
            raise CcrError(f"{self.path.name}: no such file.")
        if not zipfile.is_zipfile(self.path):
            raise CcrError(f"{self.path.name}: not a whole .npz archive.")
        try:
            return np.load(self.path, allow_pickle=False)
        except Exception as error:  # zipfile, zlib, struct and numpy raise different errors for a damaged file
            raise CcrError(f"{self.path.name}: unreadable ({error}).") from error

    def array(self, name: str) -> np.ndarray:
        """An array of the archive; `CcrError` if it is missing or damaged."""
        if name not in self._arrays:
            raise CcrError(f"{self.path.name}: has no array {name}.")
        try:
            return self._arrays[name]
        except Exception as error:  # as above
            raise CcrError(f"{self.path.name}: {name} is unreadable ({error}).") from error

    def tensor(self, name: str) -> torch.Tensor:
        """`array` as a tensor."""
        return torch.from_numpy(self.array(name))


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; `CcrError` if the file is missing, damaged or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CcrError(f"{path.name}: no such file.") from error
    except ValueError as error:
        raise CcrError(f"{path.name}: not valid JSON ({error}).") from error
    if not isinstance(content, dict):
        raise CcrError(f"{path.name}: expected an object, found {type(content).__name__}.")
    return content


def compare(
    group: Group, inputs: str, parts: Iterable[Part], tolerance: Callable[[str, np.ndarray], float]
) -> list[Line]:
    """A line for every array of the group's index.

    Args:
        inputs: pattern of the arrays that are not computed; they only need to have the listed shape and dtype.
        parts: our values. If one fails, its arrays are reported as missing, with the error message.
        tolerance: a function of an array's name and reference value.
    """
    ours: dict[str, Any] = {}
    failed: dict[str, Exception] = {}
    for prefix, part in parts:
        try:
            ours |= {prefix + name: value for name, value in part().items()}
        except Exception as error:  # however our code fails on damaged input: a line, never a traceback
            failed[prefix] = error

    def line(name: str) -> Line:
        label = f"{group.name}/{name}"
        reference = group.array(name)
        listed, found = _form(**group.index[name]), _form(reference.shape, reference.dtype)
        if listed != found:
            return Line(label, None, None, "OFF", f"is {found}, the index says {listed}")
        if name in ours:
            return _difference(label, ours[name], reference, tolerance(name, reference))
        for prefix in sorted(failed, key=len, reverse=True):
            if name.startswith(prefix):
                return Line.missing(label, failed[prefix])
        if re.fullmatch(inputs, name):
            return Line.of(label, 0.0, 0.0)
        return Line.missing(label, "nothing here computes an array of this name")

    lines = []
    for name in group.index:
        try:
            lines.append(line(name))
        except Exception as error:  # as above
            lines.append(Line.missing(f"{group.name}/{name}", error))
    return lines


def _form(shape: Any = None, dtype: Any = None, **_: Any) -> str:
    return f"{dtype} {list(shape) if isinstance(shape, tuple | list) else shape}"


def _difference(label: str, ours: Any, reference: np.ndarray, tolerance: float) -> Line:
    ours, where = (ours.values, ours.where) if isinstance(ours, Entries) else (ours, ...)
    ours = ours.detach().numpy() if isinstance(ours, torch.Tensor) else np.asarray(ours)
    if ours.shape != reference.shape:
        return Line(label, None, tolerance, "OFF", f"ours has shape {list(ours.shape)}, not {list(reference.shape)}")
    differences = np.abs(ours.astype(float) - reference.astype(float))[where]
    return Line.of(label, differences.max(initial=0.0), tolerance)


@cache
def largest(group: Group, prefix: str) -> np.ndarray:
    """The largest absolute entry of all readable arrays whose names begin with a prefix."""
    found = [0.0]
    for name in group.index:
        if name.startswith(prefix):
            with suppress(CcrError):
                found.append(np.abs(np.nan_to_num(group.array(name))).max(initial=0.0))
    return np.array(max(found))


def double(reference: np.ndarray, smallest: float = 1e-3) -> float:
    """Tolerance in float64: 1e-9, for arrays of small numbers less, down to `smallest` * 1e-9."""
    return 1e-9 * float(np.clip(np.abs(reference).max(initial=0.0), smallest, 1.0))


def single(reference: np.ndarray) -> float:
    """Tolerance in float32: 5e-5, more for arrays of large numbers."""
    return 5e-5 * max(1.0, float(np.abs(reference).max(initial=0.0)))


def gradient(reference: np.ndarray) -> float:
    """Tolerance for gradients in float32: 5e-4 for entries up to 4, more for larger ones."""
    return 5e-4 * max(1.0, float(np.abs(reference).max(initial=0.0)) / 4)


def smooth_l1(reference: np.ndarray) -> float:
    """Relative tolerance 1e-6, in float64 too: the published smooth L1 is always computed in float32."""
    return 1e-6 * float(np.abs(reference).max(initial=0.0))
