"""Where the engine dictionary finds the dictionary of a language pair, and its format."""

import re
from dataclasses import dataclass
from pathlib import Path

from ccr import languages
from ccr.errors import CcrError

_TAG = r"[A-Za-z]{2,3}(?:-[A-Z][a-z]{3})?(?:-[A-Z]{2})?"
_NAME = re.compile(rf"(?:.*[^A-Za-z])?({_TAG})-({_TAG})")
FORMATS = (
    "a table in UTF-8 (en-de.tsv), FreeDict's in the format of dictd (freedict-eng-deu.index beside "
    "freedict-eng-deu.dict.dz), CC-CEDICT (cedict_ts.u8 or another name with cedict in it); a table's and FreeDict's "
    "names end in the two languages"
)


@dataclass(frozen=True)
class Found:
    """A dictionary: its files (for `dictd`, the index first) and its format: `tsv`, `dictd` or `cedict`.

    `inverted`: it translates in the opposite direction. `traditional`: Chinese is written in traditional characters.
    """

    files: tuple[str, ...]
    format: str
    inverted: bool
    traditional: bool = False


def find(path: str, source: str, target: str, where: str) -> Found:
    """The dictionary for a pair: a file, or the one in a folder that is named after the pair, else after its inverse.

    Raises `CcrError` if there is none, or the file is named after another pair.
    """
    where = f"{where}.path"
    if not path:
        raise CcrError(f"{where}: missing. Give a dictionary, or a folder of them: {FORMATS}.")
    given = Path(path).expanduser()
    if not given.exists():
        raise CcrError(f"{where}: {path} does not exist. Expected is {FORMATS}, or a folder of such files.")
    files = sorted(given.iterdir()) if given.is_dir() else [given]
    known = [(file, form) for file in files if (form := _format(file))]
    for inverted, pair in ((False, (source, target)), (True, (target, source))):
        for file, form in known:
            if _is_of(file, form, *pair):
                return Found(_files(file, form, where), form, inverted, "zh-Hant" in pair)
    if given.is_dir() or not known:
        raise CcrError(f"{where}: {path}: no dictionary of {source!r} and {target!r}. Expected is {FORMATS}.")
    raise CcrError(
        f"{where}: {path} is no dictionary of {source!r} and {target!r}, by its name. Expected is {FORMATS}."
    )


def stem(file: Path) -> str:
    """The name of a dictionary, without its ending and `.gz`."""
    return Path(file.name.removesuffix(".gz")).stem


def _format(file: Path) -> str | None:
    name = file.name.removesuffix(".gz").lower()
    if name.endswith(".tsv"):
        return "tsv"
    if name.endswith(".index"):
        return "dictd"
    return "cedict" if name.endswith((".u8", ".txt")) and (name.endswith(".u8") or "cedict" in name) else None


def _is_of(file: Path, form: str, source: str, target: str) -> bool:
    """Whether a file translates a pair, judging by its name."""
    if form == "cedict":
        return target == "en" and source in ("zh", "zh-Hant")
    match = _NAME.fullmatch(stem(file))
    tags = match.groups() if match else ("", "")
    return bool(match and languages.served(source, tags[:1]) and languages.served(target, tags[1:]))


def _files(file: Path, form: str, where: str) -> tuple[str, ...]:
    if form != "dictd":
        return (str(file),)
    text = next((text for end in (".dict.dz", ".dict") if (text := file.with_suffix(end)).exists()), None)
    if text is None:
        raise CcrError(f"{where}: {file.with_suffix('.dict.dz')}, which goes with {file}, does not exist.")
    return str(file), str(text)
