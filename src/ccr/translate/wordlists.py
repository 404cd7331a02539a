"""Files of bilingual dictionaries: tables, FreeDict in the format of dictd, CC-CEDICT."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

import regex

from ccr import languages
from ccr.errors import CcrError
from ccr.pairs.dictionary import Found
from ccr.texts.files import read_bytes

BASE64 = {sign: value for value, sign in enumerate(ascii_uppercase + ascii_lowercase + digits + "+/")}
ARTICLES = ("a", "an", "the")  # Chinese has none
FIRST = r"[\p{L}\p{N}_]"  # begins a word; a mark alone, as in ❤️, is none
WORD = regex.compile(rf"{FIRST}(?:{languages.WORD}|\p{{N}})*")
LONGEST = 6  # characters of a Chinese word that is searched for in others

_ASIDE = re.compile(r"\([^()]*\)|<[^<>]*>|\[[^\[\]]*\]|//?[^/\s][^/]*//?|\b(?:etw|jd[mns]?|sb|sth)\.")
_SENSE = re.compile(r"\s*\d+\.\s+")
_PIECES = re.compile(r"\s*[,;]\s*")
_TRIMMED = re.compile(r"^(?:to|an?|the)\s+")
_CEDICT = re.compile(r"(\S+) (\S+) \[.*?\]\]? /(.+)/")
_NO_GLOSS = re.compile(
    r"(?:CL:|(?:old |erhua )?variant of |see (?:also )?|surname |also (?:pr|written)|abbr\. (?:for|of) )"
)


@dataclass(frozen=True)
class Sense:
    """A phrase and a translation of it, "" if the phrase is left out.

    The best sense has the lowest `rank`, then the fewest `words`, then the highest `weight`; ties go to the first.
    """

    source: str
    target: str
    rank: int = 0
    words: int = 0
    weight: float = 0.0


def read(found: Found) -> list[Sense]:
    """All translations in a dictionary, in its own direction or inverted.

    If it does not say which translation is the best, fewer words rank before more, and words that occur in many other
    translations before those that occur in few.

    Raises `CcrError` for a file without translations or not in the format, naming file, line and what was expected.
    """
    senses = {"tsv": _tsv, "dictd": _dictd, "cedict": _cedict}[found.format](found)
    if not senses:
        raise CcrError(f"{found.files[0]}: no translations in it.")
    return senses


def _ranked(pairs: list[tuple[str, str, int]], parts: Callable[[str], Iterable[str]]) -> list[Sense]:
    """Senses from (source, target, rank). `parts`: the words contained in a translation."""
    counts = Counter(part for target in {target for _, target, _ in pairs} for part in parts(target))
    senses = []
    for source, target, rank in pairs:
        words = WORD.findall(target)
        senses.append(Sense(source, target, rank, len(words), min((counts[word] for word in words), default=0)))
    return senses


# --- tables ------------------------------------------------------------------------------------------------


def _tsv(found: Found) -> list[Sense]:
    """`source`, tab, `target` (empty: the phrase is left out), optionally tab and weight; the highest weight wins."""
    path, senses = found.files[0], []
    for number, line in enumerate(_text(path).split("\n"), 1):
        fields = line.rstrip("\r").split("\t")
        if fields == [""]:
            continue
        if len(fields) not in (2, 3) or not fields[0].strip():
            raise CcrError(
                f"{path}, line {number}: expected a phrase, a tab, its translation, and perhaps a tab and a weight; "
                f"found {line[:60]!r}."
            )
        weight = _weight(fields[2]) if len(fields) == 3 else 0.0
        if weight is None:
            raise CcrError(f"{path}, line {number}: expected a number as weight, found {fields[2]!r}.")
        pair = [field.strip() for field in fields[:2]]
        senses.append(Sense(*(pair[::-1] if found.inverted else pair), weight=weight))
    return senses


def _weight(text: str) -> float | None:
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if math.isfinite(weight) else None


# --- dictd -------------------------------------------------------------------------------------------------


def _dictd(found: Found) -> list[Sense]:
    """FreeDict in dictd's format. An entry that is another word's (`man.`, managing) ranks after the word's own."""
    index, path = found.files
    data, pairs = read_bytes(Path(path)), []
    for number, line in enumerate(_text(index).split("\n"), 1):
        fields = line.split("\t")
        if fields == [""]:
            continue
        start, size = (_number(field) for field in fields[1:3]) if len(fields) in (3, 4) else (None, None)
        if start is None or size is None or start + size > len(data):
            raise CcrError(
                f"{index}, line {number}: expected a word, and the place and the length of its entry in {path} in "
                f"dictd's digits, found {line[:60]!r}."
            )
        word = fields[0].strip()
        if not word or word.startswith(("00database", "00-database")):
            continue
        entry = data[start : start + size].decode("utf-8", errors="replace").split("\n")
        rank = int(_plain(entry[0]).casefold() != word.casefold())
        pairs += [(word, target, rank) for target in _translations(entry[1:])]
    return _ranked([(b, a, rank) for a, b, rank in pairs] if found.inverted else pairs, WORD.findall)


def _number(text: str) -> int | None:
    value = 0
    for sign in text:
        if sign not in BASE64:
            return None
        value = 64 * value + BASE64[sign]
    return value if text else None


def _translations(lines: list[str]) -> Iterator[str]:
    """Translations from the first line below the headword and every numbered one; the others are explanations."""
    for number, line in enumerate(lines):
        if (number == 0 and not line.startswith("   ")) or _SENSE.match(line):
            for piece in _PIECES.split(_plain(_SENSE.sub("", line, count=1))):
                if piece:
                    yield piece


def _plain(text: str) -> str:
    """A text without pronunciation, grammar and remarks."""
    while (shorter := _ASIDE.sub(" ", text)) != text:
        text = shorter
    return " ".join(text.split())


# --- CC-CEDICT ---------------------------------------------------------------------------------------------


def _cedict(found: Found) -> list[Sense]:
    """CC-CEDICT. A whole gloss (between slashes or semicolons, without the `to` of verbs) ranks before a part of one
    (between commas, without an article), and before one with a remark. English articles are left out.
    """
    path, pairs = found.files[0], []
    for number, line in enumerate(_text(path).split("\n"), 1):
        line = line.rstrip("\r")
        if not line or line.startswith("#"):
            continue
        match = _CEDICT.fullmatch(line)
        if not match:
            raise CcrError(
                f"{path}, line {number}: expected CC-CEDICT's `traditional simplified [pinyin] /gloss/gloss/`, found "
                f"{line[:60]!r}."
            )
        word = match[1 if found.traditional else 2]
        pairs += [(word, phrase, rank) for gloss in match[3].split("/") for phrase, rank in _phrases(gloss).items()]
    if not found.inverted:
        return _ranked(pairs, WORD.findall)
    turned = _ranked([(phrase, word, rank) for word, phrase, rank in pairs], _stretches)
    return [*(Sense(article, "") for article in ARTICLES), *turned]


def _phrases(gloss: str) -> dict[str, int]:
    """English phrases of a gloss, with their ranks."""
    if _NO_GLOSS.match(gloss):
        return {}
    plain, found = _plain(gloss), {}
    remark = int(plain != gloss)
    for whole in plain.split("; "):
        found.setdefault(whole.removeprefix("to "), remark)
        for part in whole.split(", "):
            found.setdefault(_TRIMMED.sub("", part), 1)
    return {phrase: rank for phrase, rank in found.items() if phrase}


def _stretches(word: str) -> set[str]:
    """All substrings of a Chinese word of up to `LONGEST` characters, and the word itself."""
    return {word} | {word[a:b] for a, b in combinations(range(len(word) + 1), 2) if b - a <= LONGEST}


# --- files -------------------------------------------------------------------------------------------------


def _text(path: str) -> str:
    data = read_bytes(Path(path))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CcrError(f"{path}, line {line}: not UTF-8. Convert the file with `iconv -t UTF-8`.") from error
