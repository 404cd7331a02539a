"""Answers that are probably not translations: judged by their statistics, before they are remembered.

A faulty, overloaded or hostile service may answer with HTTP 200 too: with the sentence itself, one text for everything,
or a web page. `benchmarks/suspicion.py` counts how many good translations the limits would hold back.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import combinations

import regex

from ccr import languages

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\d_]+")  # one ideograph or kana, or a run of other letters
MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|<!--|&(?:#\d+|#[xX][0-9a-fA-F]+|[a-zA-Z]{2,8});")
LOOP = re.compile(r"(.{1,24}?)\1{5,}", re.DOTALL)
PHRASE = 3  # words that make a sentence; a shorter text may be a name
SEVERAL = 3  # sentences with the same answer, from which on their likeness is checked
ALIKE = 0.15, 0.3  # least mean overlap of three such sentences, of more; random captions have .07 (zh .14)
MANY = 20, 0.001  # sentences that may have the same answer, alike or not: the larger of this many and this share of all


def suspicion(text: str, answer: str, lang: str) -> str:
    """Why an answer is probably not a translation of the text into `lang`; empty if nothing speaks against it."""
    words = _words(answer)
    if any(unicodedata.category(sign) in ("Cc", "Cs") and not sign.isspace() for sign in set(answer) - set(text)):
        return "control characters"
    if "\ufffd" in set(answer) - set(text) or _misread(answer):
        return "a wrong encoding"
    if MARKUP.search(answer) and not MARKUP.search(text):
        return "markup"
    if len(words) > PHRASE and words == _words(text):
        return "an echo of the sentence"
    if len(answer) > 10 * len(text) + 50 or len(text) > 10 * len(answer) + 50:
        return f"{len(answer):,} characters for {len(text):,}"
    if len(words) >= PHRASE and not regex.search(f"[{languages.letters(lang)}]", answer):
        return "another script"
    if _looping(answer) and not _looping(text):
        return "it repeats itself"
    return ""


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _misread(answer: str) -> bool:
    """Whether an answer is UTF-8 that was read as another encoding."""
    for encoding in ("cp1252", "latin-1"):
        try:
            if answer.encode(encoding).decode() != answer:
                return True
        except UnicodeError:
            pass
    return False


def _looping(text: str) -> bool:
    """Whether one piece, six or more times in a row, makes up half of a text."""
    return any(2 * len(loop[0]) >= len(text) >= 12 for loop in LOOP.finditer(text))


class Answers:
    """Which sentences got which answer, to find an answer that a service gives to everything.

    Args:
        known: sentence -> translation, of all known ones. notorious: answers that were found to be of this kind before.
    """

    def __init__(self, known: Mapping[str, str], notorious: Iterable[str]):
        self._notorious = set(notorious)
        self._sentences: dict[str, list[str]] = {}
        self._size = len(known)
        for text, answer in known.items():
            self._sentences.setdefault(answer, []).append(text)

    def notorious(self, answer: str) -> bool:
        """Whether an answer is given to everything."""
        return answer in self._notorious

    def add(self, text: str, answer: str) -> list[str]:
        """Count an answer; if this makes it notorious, returns the sentences that got it before."""
        others = self._sentences.setdefault(answer, [])
        if text not in others[-1:]:
            others.append(text)
            self._size += 1
        if self.notorious(answer) or not self._strange(others):
            return []
        self._notorious.add(answer)
        return others[:-1]

    def _strange(self, texts: list[str]) -> bool:
        """Whether it is strange that these sentences have the same translation."""
        if len(texts) < SEVERAL:
            return False
        if len(texts) > max(MANY[0], MANY[1] * self._size):
            return True
        sentences = [text for text in texts if len(_words(text)) >= PHRASE][-MANY[0] :]
        overlaps = [_overlap(*pair) for pair in combinations(map(_features, sentences), 2)]
        alike = ALIKE[len(sentences) > SEVERAL]
        return len(sentences) >= SEVERAL and sum(overlaps) < alike * len(overlaps)


def _features(text: str) -> set[str]:
    """A text's ideographs and kana, and the letter trigrams of its other words."""
    words = [word if len(word) == 1 else f" {word} " for word in _words(text)]
    return {word[start : start + 3] for word in words for start in range(max(1, len(word) - 2))}


def _overlap(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)
