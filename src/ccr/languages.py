"""Languages: BCP 47 codes, and what must be known about a language to handle its texts.

A code is the shortest tag that means the same by CLDR's likely subtags: `zh-CN`, `zho_Hans` and `cmn` are `zh`, `zh-TW`
is `zh-Hant`, `iw` is `he`, `de-AT` stays. The tags, their names and the distances between them are from langcodes.
"""

import difflib
from collections.abc import Iterable
from functools import cache
from itertools import product
from string import ascii_lowercase

import langcodes
from langcodes import Language

from ccr.errors import CcrError

NONE = {"und", "mul", "zxx", "mis"}  # tags that name no language
UNSPACED = {"Hans", "Hant", "Hani", "Jpan", "Bopo", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"}  # no spaces between words
MIXED = {  # ISO 15924 scripts that are not a single Unicode script
    "Hans": ("Hani",),
    "Hant": ("Hani",),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
}
# a word character, for the library regex: joiners, and marks such as the vowels of Hindi, are not `\w` in Python
WORD = r"[\w\p{M}\u200c\u200d]"
# the letters of the scripts in UNSPACED, for a character class of the library regex
UNSPACED_LETTERS = r"\p{Hani}\p{Hira}\p{Kana}ー\p{Bopo}\p{Thai}\p{Laoo}\p{Khmr}\p{Mymr}\p{Tibt}"
SHOWN = 60  # characters of an invalid tag that a message shows
REGION = 5  # largest `tag_distance` of tags of one script that differ by region
NEAR = 9  # largest `tag_distance` of tags of which one can serve for the other


@cache
def known(tag: str) -> str | None:
    """The code of the language that a tag names; None if it names none."""
    try:
        language = Language.get(langcodes.standardize_tag(tag.strip(), macro=True))
        if language.language == "ko" and language.script == "Hang":  # Hangul only, as Korean is written today
            language = Language.make(language="ko", territory=language.territory)
        real = language.is_valid() and language.language not in {None, *NONE} and not language.private
    except ValueError:
        return None
    return _shortest(language) if real and not language.language.startswith("x-") else None


def code(tag: str) -> str:
    """Like `known`, but a tag that names none is a `CcrError`, with the nearest language there is."""
    found = known(tag)
    if found is None:
        tag = tag if len(tag) <= SHOWN else f"{tag[:SHOWN]}..."  # a malformed table may have a whole page here
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
    """A suggestion for an invalid code, from two-letter codes and English names; "" if none is similar."""
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
    """The script that a language is written in, as an ISO 15924 code (`Latn`, `Hans`, `Jpan`)."""
    return Language.get(lang).maximize().script


def spaced(lang: str) -> bool:
    """Whether a language puts spaces between words."""
    return script(lang) not in UNSPACED


def scripts(lang: str) -> tuple[str, ...]:
    """The Unicode scripts of a language's letters."""
    return MIXED.get(script(lang), (script(lang),))


def letters(lang: str) -> str:
    """The letters of a language's scripts, for a character class of the library regex."""
    classes = [rf"\p{{{each}}}" for each in scripts(lang)]
    return "".join([*classes, "ー" if "Kana" in scripts(lang) else ""])  # Unicode assigns it to no script


@cache
def variety(tag: str, codes: tuple[str, ...]) -> str | None:
    """The one of `codes` with the language, region aside, and the script of `tag`: captions in `de-AT` are German.

    None if there is none, or `tag` is not a valid tag.
    """
    own = known(tag)
    if own is None:
        return None
    fits = {c: langcodes.tag_distance(own, c) for c in codes if script(c) == script(own)}
    nearest = min(fits, key=fits.get, default=None)
    return nearest if nearest is not None and fits[nearest] <= REGION else None


def varieties(tags: Iterable[str], codes: Iterable[str]) -> dict[str, list[str]]:
    """Each of `codes` -> those of `tags` whose captions are in it (see `variety`), if there are any."""
    codes = tuple(codes)
    own = {tag: variety(tag, codes) for tag in tags}
    return {code: [tag for tag in own if own[tag] == code] for code in codes if code in own.values()}


def served(lang: str, tags: Iterable[str]) -> str | None:
    """The one of an engine's or a model's tags that can serve for a language; None if there is none."""
    written: dict[str, str] = {}
    for tag in tags:  # what an engine calls a language may be a group of languages, or not a tag
        if own := known(tag):
            written.setdefault(own, tag)
    near = [own for own in written if script(own) == script(lang)]
    found, _ = langcodes.closest_match(lang, near, max_distance=NEAR)
    return written.get(found)


def ordered(codes: Iterable[str]) -> list[str]:
    """Each code once: English, in which captions are first written, then the others in alphabetical order."""
    return sorted(set(codes), key=lambda each: (each != "en", each))
