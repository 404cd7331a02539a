"""Installed fonts for a text: DejaVu, which comes with matplotlib, has no Chinese, Thai or Devanagari."""

import unicodedata
from contextlib import suppress
from functools import cache
from pathlib import Path

from matplotlib.font_manager import FontEntry, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font

OWN = "DejaVu Sans"
# preferred to others: the Chinese forms of characters that Chinese and Japanese write differently
PREFERRED = ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "PingFang SC", "Microsoft YaHei")
PACKAGES = "fonts-noto-core (fonts-noto-cjk for Chinese, Japanese and Korean)"  # Debian's


def families(text: str) -> tuple[list[str], str]:
    """Font families that together cover the characters of a text, and the characters that no installed font has."""
    missing = {character for character in text if unicodedata.category(character)[0] not in "CZ"}
    found = []
    for entry in [_own(), *_others()]:
        if had := {character for character in missing if ord(character) in _characters(entry.fname)}:
            found.append(entry.name)
            missing -= had
        if not missing:
            break
    return found or [OWN], "".join(sorted(missing))


def _own() -> FontEntry:
    return next(entry for entry in fontManager.ttflist if entry.name == OWN and _plain(entry))


def _others() -> list[FontEntry]:
    for path in set(findSystemFonts()) - {entry.fname for entry in fontManager.ttflist}:
        with suppress(OSError, RuntimeError):  # installed since matplotlib made its list; it cannot read some
            fontManager.addfont(path)
    others = [entry for entry in fontManager.ttflist if _plain(entry) and not entry.name.startswith("Last Resort")]
    return sorted(others, key=lambda e: (e.name not in PREFERRED, "Sans" not in e.name, "Mono" in e.name, e.name))


def _plain(entry: FontEntry) -> bool:
    return entry.style == "normal" and entry.weight == 400 and Path(entry.fname).exists()


@cache
def _characters(path: str) -> frozenset[int]:
    return frozenset(FT2Font(path).get_charmap())
