"""Cleaning of texts, the same for captions, queries and sentence pairs."""

import html
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from html.entities import html5

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

from ccr.texts.files import short

# Zero-width space, word joiner, byte-order mark, soft hyphen and marks of the writing direction: invisible, not part of
# a text (joiners of scripts stay).
INVISIBLE = "[\u200b\u2060\ufeff\u00ad\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
CONTROL = "[\\p{Cc}\u2028\u2029]+"
SPACE = r"\p{Z}+"
ENTITY = r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
# What looks wrong but cannot be corrected without guessing.
SUSPECT = {
    "replacement characters": "\ufffd",
    "HTML tags": r"</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>]*)?/?>",
    "escapes": r"\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|[nrt\"'])",
    "UTF-8 read as another encoding": "[ÂÃ][\u0080-\u00bf]|â€|ï»¿",
    "HTML entities": ENTITY,
}
# neither letter, mark nor digit; joiners; Hebrew and Arabic vowel signs, tatweel; the dot that casefold leaves of İ
OPTIONAL = regex.compile(
    r"[^\w\p{M}]|[_\u200c\u200d]|[\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u0652\u0670]|(?<=i)\u0307"
)
EXAMPLES, AROUND, SHOWN = 2, 10, 40  # texts shown per kind; characters shown before a change, and in total

Step = Callable[[pa.Array], pa.Array]


def steps(entities: str = "decode") -> dict[str, Step]:
    """The cleaning steps in order, by name; each maps an array to another.

    Args:
        entities: what to do with HTML entities (`&#39;`, `&amp;`): `decode` or `keep`.
    """
    put_right: dict[str, Step] = {
        "invisible characters": lambda texts: pc.replace_substring_regex(texts, INVISIBLE, ""),
        "characters not composed (NFC)": lambda texts: pc.utf8_normalize(texts, "NFC"),
    }
    if entities == "decode":
        put_right["HTML entities"] = _without_entities
    return put_right | {
        "control characters and line breaks": lambda texts: pc.replace_substring_regex(texts, CONTROL, " "),
        "white space": lambda texts: pc.utf8_trim(pc.replace_substring_regex(texts, SPACE, " "), " "),
    }


class Changes:
    """What cleaning has changed, and what still looks wrong: the number of texts, and a few examples."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], list[str]] = defaultdict(list)

    def changed(self, what: str, names: Sequence[str], before: pa.Array, after: pa.Array) -> None:
        """Record which texts a step changed."""

        def shown(at: int) -> str:
            return " -> ".join(map(repr, _where_different(before[at].as_py(), after[at].as_py())))

        self._take(("put right", what), names, pc.not_equal(before, after), shown)

    def suspect(self, names: Sequence[str], texts: pa.Array) -> None:
        """Record what looks wrong in clean texts."""
        for what, pattern in SUSPECT.items():
            found = pc.match_substring_regex(texts, pattern)
            self._take(("left as they are", what), names, found, lambda at: repr(short(texts[at].as_py(), SHOWN)))

    def _take(self, kind: tuple[str, str], names: Sequence[str], mask: pa.Array, shown: Callable[[int], str]) -> None:
        places = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
        self._counts[kind] += len(places)
        for at in places[: EXAMPLES - len(self._examples[kind])].tolist():
            self._examples[kind].append(f"{short(str(names[at]))} {shown(at)}")

    def notes(self, texts: str) -> list[str]:
        """A line for each kind. `texts`: what the texts are called."""
        return [
            f"{done}: {what} in {self._counts[done, what]:,} {texts}, as in {'; '.join(examples)}"
            for (done, what), examples in sorted(self._examples.items(), key=lambda item: item[0][0], reverse=True)
            if examples
        ]


def _where_different(before: str, after: str) -> tuple[str, str]:
    """Both texts around the first position where they differ."""
    same = next((n for n, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), len(after))
    start = max(0, same - AROUND)
    return short(before[start:], SHOWN), short(after[start:], SHOWN)


def clean(
    texts: pa.Array, entities: str = "decode", changes: Changes | None = None, names: Sequence[str] = ()
) -> pa.Array:
    """Texts after all cleaning steps; clean texts stay as they are.

    Args:
        changes: records what is changed in which text, by its name in `names`.
    """
    for what, step in steps(entities).items():
        done = step(texts)
        if changes is not None:
            changes.changed(what, names, texts, done)
        texts = done
    if changes is not None:
        changes.suspect(names, texts)
    return texts


def clean_text(text: str, entities: str = "decode") -> str:
    """One text, cleaned."""
    return clean(pa.array([text], pa.string()), entities)[0].as_py()


def letters(text: str) -> str:
    """What makes two texts the same: letters with their marks, and digits, whatever their width and case.

    Signs that are optional in Arabic and Hebrew (vowel signs, tatweel, joiners) make no difference, nor do the dots of
    Turkish i.
    """
    return OPTIONAL.sub("", unicodedata.normalize("NFKC", text).casefold()).replace("ı", "i")


def _without_entities(texts: pa.Array) -> pa.Array:
    having = pc.match_substring_regex(texts, ENTITY)
    plain = [_decoded(text) for text in texts.filter(having).to_pylist()]
    return pc.replace_with_mask(texts, having, pa.array(plain, pa.string()))


def _decoded(text: str) -> str:
    """A text without entities, however often they were encoded; what they stand for is cleaned too."""
    while (plain := re.sub(ENTITY, _character, text)) != text:
        text = unicodedata.normalize("NFC", re.sub(INVISIBLE, "", plain))
    return text


def _character(entity: re.Match) -> str:
    name = entity[0][1:]
    return html.unescape(entity[0]) if name.startswith("#") else html5.get(name, entity[0])
