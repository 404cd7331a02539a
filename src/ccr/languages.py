"""Languages: codes as BCP 47 writes them, and what must be known about a language to handle its texts.

A code is the shortest tag that says the same by CLDR's likely subtags: `zh-CN`, `zho_Hans` and `cmn` are `zh`, `zh-TW`
is `zh-Hant`, `iw` is `he`, `de-AT` stays. The library langcodes knows the tags, their names and how far apart they are.
"""

import difflib
from collections.abc import Iterable
from functools import cache
from itertools import product
from string import ascii_lowercase

import langcodes
from langcodes import Language

from ccr.errors import CcrError

NONE = {"und", "mul", "zxx", "mis"}  # tags of no language
UNSPACED = {"Hans", "Hant", "Hani", "Jpan", "Bopo", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"}  # no spaces between words
MIXED = {  # scripts of ISO 15924 that are none, or several, of Unicode's
    "Hans": ("Hani",),
    "Hant": ("Hani",),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
}
# a character of a word, for the library regex: joiners, and marks such as the vowels of Hindi, are no `\w` to Python
WORD = r"[\w\p{M}\u200c\u200d]"
# the letters of the scripts in UNSPACED, for a character class of the library regex
UNSPACED_LETTERS = r"\p{Hani}\p{Hira}\p{Kana}ー\p{Bopo}\p{Thai}\p{Laoo}\p{Khmr}\p{Mymr}\p{Tibt}"
SHOWN = 60  # characters of what is no tag, in a message
REGION = 5  # `tag_distance` of tags of one script that differ by region, at most
NEAR = 9  # `tag_distance` of tags of which one does for the other, at most


@cache
def known(tag: str) -> str | None:
    """The code of the language that a tag names; None for what names none."""
    try:
        language = Language.get(langcodes.standardize_tag(tag.strip(), macro=True))
        if language.language == "ko" and language.script == "Hang":  # Hangul alone, as it is written today
            language = Language.make(language="ko", territory=language.territory)
        real = language.is_valid() and language.language not in {None, *NONE} and not language.private
    except ValueError:
        return None
    return _shortest(language) if real and not language.language.startswith("x-") else None


def code(tag: str) -> str:
    """As `known`; `CcrError`, with the nearest language that there is, for what names none."""
    found = known(tag)
    if found is None:
        tag = tag if len(tag) <= SHOWN else f"{tag[:SHOWN]}..."  # a table with a slip may hold a page in its place
        raise CcrError(f"unknown language {tag!r}: {_nearest(tag)}expected a BCP 47 tag such as sw, pt-BR or zh-Hant.")
    return found


def _shortest(language: Language) -> str:
    full = language.maximize()
    parts = {"script": full.script, "territory": full.territory}
    whole = Language.make(language=full.language, **parts)
    forms = ({}, {"script": full.script}, {"territory": full.territory}, parts)
    made = (Language.make(language=language.language, **form) for form in forms)
    shortest = next(form for form in made if form.maximize() == whole)
    return "-".join([shortest.to_tag(), *(language.variants or [])])


def _nearest(tag: str) -> str:
    """A suggestion for what is no code, by codes of two letters and English names; "" where none is like it."""
    codes = [a + b for a, b in product(ascii_lowercase, repeat=2) if langcodes.tag_is_valid(a + b)]
    known = {name(each).lower(): each for each in codes}
    word = tag.strip().lower()
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    near = known[close[0]] if close else next(iter(difflib.get_close_matches(word, codes, n=1, cutoff=0.5)), None)
    return f"did you mean {near!r} ({name(near)})? " if near else ""


@cache
def name(lang: str) -> str:
    """A language's English name."""
    return Language.get(lang).display_name()


@cache
def script(lang: str) -> str:
    """The script that a language is written in, as ISO 15924 writes it (`Latn`, `Hans`, `Jpan`)."""
    return Language.get(lang).maximize().script


def spaced(lang: str) -> bool:
    """Whether spaces stand between the words of a language."""
    return script(lang) not in UNSPACED


def scripts(lang: str) -> tuple[str, ...]:
    """The scripts of Unicode that a language's letters are of."""
    return MIXED.get(script(lang), (script(lang),))


def letters(lang: str) -> str:
    """The letters of a language's scripts, for a character class of the library regex."""
    classes = [rf"\p{{{each}}}" for each in scripts(lang)]
    return "".join([*classes, "ー" if "Kana" in scripts(lang) else ""])  # which Unicode counts to no script


@cache
def variety(tag: str, codes: tuple[str, ...]) -> str | None:
    """The one of `codes` whose language, region aside, and script `tag` is of: captions in `de-AT` are German ones.

    None where there is none, or `tag` is no tag.
    """
    own = known(tag)
    if own is None:
        return None
    fits = {c: langcodes.tag_distance(own, c) for c in codes if script(c) == script(own)}
    nearest = min(fits, key=fits.get, default=None)
    return nearest if nearest is not None and fits[nearest] <= REGION else None


def served(lang: str, tags: Iterable[str]) -> str | None:
    """The one of the tags that an engine or a model has which does for a language; None where none does."""
    written: dict[str, str] = {}
    for tag in tags:  # what an engine calls a language may be a group of languages, or no tag
        if own := known(tag):
            written.setdefault(own, tag)
    near = [own for own in written if script(own) == script(lang)]
    found, _ = langcodes.closest_match(lang, near, max_distance=NEAR)
    return written.get(found)


def ordered(codes: Iterable[str]) -> list[str]:
    """Each code once: English, in which captions are written first, then by the alphabet."""
    return sorted(set(codes), key=lambda each: (each != "en", each))
