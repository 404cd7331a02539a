"""What the engine apertium can use: the installed modes, the files that they run, and Debian's packages."""

import os
import re
import shutil
from functools import cache
from pathlib import Path

from ccr import languages
from ccr.errors import CcrError

# of language pairs, in Debian 12: apertium-{name}; not all translate both ways
_PACKAGES = (
    "eng-spa eng-cat afr-nld arg-cat bel-rus br-fr cat-ita cat-srd dan-nor en-gl eo-ca eo-en eo-es eo-fr es-gl es-pt "
    "es-ro eu-en eu-es fr-es fra-cat fra-frp hbs-eng hbs-mkd hbs-slv ind-zlm isl-eng isl-swe mkd-bul mkd-eng nno-nob "
    "oc-ca oc-es oci-fra pol-szl por-cat pt-gl rus-ukr spa-arg spa-ast spa-cat spa-ita srd-ita swe-dan swe-nor urd-hin"
)
PACKAGES = _PACKAGES.split()
TAGS = {"hbs_HR": "hr", "hbs_BS": "bs", "zlm": "ms"}  # names that modes use instead of a language's tag
_MODE = re.compile(r"([a-z]{2,3}(?:_[A-Za-z]+)?)-([a-z]{2,3}(?:_[A-Za-z]+)?)")
_FILE = re.compile(r"'([^']+)'")  # in a mode: a shell pipeline


def chain(source: str, target: str, pivot: str, where: str) -> list[str]:
    """The installed modes from one language to another: one, or two through `pivot` if there is no direct one.

    Raises `CcrError`, saying what to install, if the command or a mode is missing.
    """
    if shutil.which("apertium") is None:
        packages = " ".join(f"apertium-{name}" for name in _packages(source, target, pivot) or ["eng-spa"])
        raise CcrError(
            f"{where}: the command apertium is not installed. On Debian: `apt-get install apertium {packages}`; "
            "elsewhere see https://wiki.apertium.org/wiki/Installation."
        )
    modes = _modes()
    if direct := _mode(modes, source, target):
        return [direct]
    if pivot:
        middle = languages.code(pivot)
        both = [_mode(modes, source, middle), _mode(modes, middle, target)]
        if all(both):
            return both
    raise CcrError(_missing(modes, source, target, pivot, where))


def files(modes: list[str]) -> list[str]:
    """All files that a translation with these modes depends on: the command (its text has the version), modes, data."""
    written = [_folder() / f"modes/{mode}.mode" for mode in modes]
    texts = [path.read_text(encoding="utf-8") for path in written]
    data = sorted({name for text in texts for name in _FILE.findall(text) if Path(name).is_file()})
    return [shutil.which("apertium"), *map(str, written), *data]


def offer(source: str, target: str) -> str:
    """How apertium could translate a pair, for a message about another engine; "" if it could not."""
    if shutil.which("apertium") and _mode(_modes(), source, target):
        return "apertium"
    direct = _package(source, target)
    return f"apertium (apt-get install apertium-{direct}, if it has this direction)" if direct else ""


def _folder() -> Path:
    """Where the command looks for modes."""
    command = Path(shutil.which("apertium")).resolve()
    return Path(os.environ.get("APERTIUM_DATADIR") or command.parent.parent / "share/apertium")


def _modes() -> dict[str, tuple[str, str]]:
    """Name -> languages of every installed mode named after a language pair; shorter names first."""
    names = sorted((path.stem for path in _folder().glob("modes/*.mode")), key=lambda name: (len(name), name))
    return {name: match.groups() for name in names if (match := _MODE.fullmatch(name))}


def _mode(modes: dict[str, tuple[str, str]], source: str, target: str) -> str | None:
    """The mode that serves a pair."""
    fits = [pair for pair in modes.values() if _served(source, pair[:1]) and _served(target, pair[1:])]
    first = _served(source, tuple(pair[0] for pair in fits))
    second = _served(target, tuple(pair[1] for pair in fits if pair[0] == first))
    return f"{first}-{second}" if first and second else None


@cache
def _served(lang: str, names: tuple[str, ...]) -> str | None:
    """The one of Apertium's names that serves a language."""
    tags = {TAGS.get(name, name): name for name in reversed(names)}
    return tags.get(languages.served(lang, list(tags)[::-1]))


@cache
def _package(source: str, target: str) -> str | None:
    """The package whose name contains both languages."""
    for name in PACKAGES:
        tags = tuple(name.split("-"))
        for pair in (tags, tags[::-1]):
            if _served(source, pair[:1]) and _served(target, pair[1:]):
                return name
    return None


def _packages(source: str, target: str, pivot: str = "") -> list[str]:
    """The package of a pair, else the two for the way through `pivot`; none if either is missing."""
    if direct := _package(source, target):
        return [direct]
    both = [_package(source, pivot), _package(pivot, target)] if pivot else []
    return both if both and all(both) else []


@cache
def _pivot(source: str, target: str) -> str | None:
    """A language through which two packages connect the pair."""
    middles = (languages.code(tag) for name in PACKAGES for tag in name.split("-"))
    ways = (middle for middle in middles if middle not in (source, target) and _packages(source, target, middle))
    return next(ways, None)


def _missing(modes: dict[str, tuple[str, str]], source: str, target: str, pivot: str, where: str) -> str:
    """The message for a pair that no installed mode translates."""
    way = f", directly or through {pivot!r}" if pivot else ""
    message = (
        f"{where}: apertium has no mode from {source!r} to {target!r}{way}. Installed: {', '.join(modes) or 'none'}. "
    )
    wanted = _packages(source, target, pivot)
    new = [name for name in wanted if not (_folder() / f"apertium-{name}").is_dir()]
    if new:
        return message + f"On Debian: `apt-get install {' '.join(f'apertium-{name}' for name in new)}`."
    if wanted:
        return message + f"Debian's {', '.join(f'apertium-{name}' for name in wanted)} has the other direction only."
    if middle := _pivot(source, target):
        names = " and ".join(f"apertium-{name}" for name in _packages(source, target, middle))
        return message + f"A way through another language: `pivot: {middle}` ({names})."
    return message + "Debian has no package for it; take another engine."
