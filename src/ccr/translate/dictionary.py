"""Engine dictionary: word-by-word translation with a bilingual dictionary, in the order of the source text.

The weakest real translation: no grammar, no context, one translation per word wherever it occurs.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import regex

from ccr import languages
from ccr.artifacts.jobs import Job
from ccr.pairs.dictionary import find, stem
from ccr.translate.engine import languages as languages_of
from ccr.translate.text import clean
from ccr.translate.wordlists import FIRST, WORD, Sense, read

_CHARACTER = regex.compile(rf"[0-9A-Za-z\u00c0-\u024f]+|(?={FIRST})\X")  # with its marks
_LETTERS = regex.compile(r"[\p{L}\p{M}\u200c\u200d]+")
_DOTTED = ("tr", "az")  # languages in which I is the capital of ı, and İ that of i
WITHIN = {"", "-", "'", "’"}  # allowed between the words of a phrase, in addition to spaces

log = logging.getLogger(__name__)


class Engine:
    """Replaces the longest phrases that the dictionary has; a word that it lacks is left as it is and counted.

    An English word that is not in the dictionary is looked up without -s, -ing or -ed. `CcrError` if there is no
    dictionary of the pair, or a broken one.
    """

    def __init__(self, job: Job):
        self._target = job.target
        source, target = languages_of(job)
        path = job.settings["options"]["path"]
        found = find(path, source, target, f"translate.variants.{job.settings['variant']}")
        self.name = stem(Path(found.files[0])) + (" inverted" if found.inverted else "")
        self._english = source == "en"
        self._capitals = str.maketrans("Iİ", "ıi") if source.split("-")[0] in _DOTTED else {}
        self._upper = str.maketrans("i", "İ") if target.split("-")[0] in _DOTTED else {}
        self._cut = WORD if languages.spaced(source) else _CHARACTER
        self._spaces = languages.spaced(source), languages.spaced(target)
        self._phrases = self._best(read(found))
        self._longest = max(map(len, self._phrases), default=1)

    def translate(self, parents: pa.Table) -> list[str | None]:
        """A translation for each row of `parents` (schema CAPTIONS)."""
        words = unknown = 0
        made = []
        for text in parents["text"].to_pylist():
            units = list(self._units(text))
            words += sum(word != "" for _, word, _ in units)
            unknown += sum(known is None and bool(_LETTERS.fullmatch(word)) for _, word, known in units)
            made.append(self._written(units, text) or text)
        share = 100 * unknown / words if words else 0.0
        log.info("%s: %.1f %% of the words are not in %s", self._target, share, self.name)
        return made

    def _best(self, senses: list[Sense]) -> dict[tuple[str, ...], str]:
        """The best translation of each phrase, by the phrase's words in lower case, spelt as captions are."""
        best: dict[tuple[str, ...], tuple[tuple[int, int, float], str]] = {}
        for sense in senses:
            key = tuple(self._cut.findall(self._lower(clean(sense.source))))
            worth = sense.rank, sense.words, -sense.weight
            if key and (key not in best or worth < best[key][0]):
                best[key] = worth, sense.target
        return {key: target for key, (_, target) in best.items()}

    def _lower(self, text: str) -> str:
        return text.translate(self._capitals).lower()

    def _units(self, text: str) -> Iterator[tuple[str, str, str | None]]:
        """(text before a phrase, the phrase, its translation or None if unknown); last, the text after all phrases."""
        found = list(self._cut.finditer(text))
        keys, at, end = [self._lower(match[0]) for match in found], 0, 0
        while at < len(found):
            length, known = self._longest_match(text, found, keys, at)
            start, stop = found[at].start(), found[at + length - 1].end()
            yield text[end:start], text[start:stop], known
            at, end = at + length, stop
        if text[end:]:
            yield text[end:], "", ""

    def _longest_match(self, text: str, found: list[regex.Match], keys: list[str], at: int) -> tuple[int, str | None]:
        reach = 1
        while (
            reach < self._longest
            and at + reach < len(found)
            and text[found[at + reach - 1].end() : found[at + reach].start()].strip() in WITHIN
        ):
            reach += 1
        for length in range(reach, 0, -1):
            known = self._phrases.get(tuple(keys[at : at + length]))
            if known is not None:
                return length, known
        stems = _stems(keys[at]) if self._english else ()
        return 1, next((self._phrases[(stem,)] for stem in stems if (stem,) in self._phrases), None)

    def _written(self, units: list[tuple[str, str, str | None]], source: str) -> str:
        text = ""
        for gap, word, known in units:
            word = word if known is None else known
            if all(self._spaces):
                text += gap + word if word or gap.strip() else ""
                continue
            mark, spaced = "".join(gap.split()), self._spaces[1]
            apart = spaced or not mark and _latin(text[-1:]) and _latin(word[:1])
            text += mark + (" " if apart and text and word else "") + word
        text = text.strip()
        first = text[:1].translate(self._upper).upper()
        return first + text[1:] if source.strip()[:1].isupper() and len(first) == 1 else text


def _stems(word: str) -> Iterator[str]:
    """Words that an English word may be a form of."""
    if word.endswith("ies") or word.endswith("ied"):
        yield word[:-3] + "y"
    for ending in ("s", "es", "ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 1 and not stem.endswith("s" if ending == "s" else "\0"):
            yield stem
            if ending in ("ing", "ed"):
                yield stem + "e"
                if stem[-1] == stem[-2]:
                    yield stem[:-1]


def _latin(character: str) -> bool:
    return character.isalnum() and ord(character) < 0x250
