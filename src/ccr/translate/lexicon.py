"""The mini-world's offline engine: rules and a dictionary, optional noise, and the true word alignment.

A sentence is cut into the longest phrases that the dictionary knows, its noun phrases and verbs are put into the
target language's order, and every phrase becomes the canonical word of its concept. All vocabulary comes from the
lexicon file; words that it lacks are left as they are.
"""

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import regex

from ccr.artifacts.files import read_json
from ccr.artifacts.jobs import Job
from ccr.artifacts.schemas import ALIGNMENT
from ccr.errors import CcrError
from ccr.languages import UNSPACED_LETTERS, WORD

NOISE = ("wrong_sense", "drop", "repeat", "order", "untranslated")
HOMONYM = 0.3  # share of wrong senses that are a homonym's, where the dictionary has one
_TOKEN = regex.compile(rf"{WORD}+['’](?=\w|$)|{WORD}+(?:[-.,]{WORD}+)*|[^\w\s]")
_CHARACTER = regex.compile(r"(?=\S)\X")  # with its marks
_FOREIGN = regex.compile(rf"(?![{UNSPACED_LETTERS}])[^\W_]")  # in a text without spaces between words
_NOUN_PHRASE = ("article", "size", "colour", "texture", "shape")
_UNTOUCHED = ("mark", "article", "particle")  # noise leaves these alone


@dataclass(frozen=True)
class Unit:
    """One phrase of the source text, or (start < 0) a word that the target language adds.

    ``concept`` is None for unknown words; ``literal`` replaces the dictionary's word; ``copies`` 0 drops it.
    """

    start: int
    end: int
    concept: str | None
    kind: str
    literal: str = ""
    copies: int = 1
    swap: bool = False


@dataclass(frozen=True)
class Translation:
    """Target text and links (source start, source end, target start, target end) in characters."""

    text: str
    links: list[tuple[int, int, int, int]]


class Engine:
    """Rule-based translation between the languages of the synthetic mini-world.

    Raises CcrError when the lexicon is missing, malformed or lacks a language.
    """

    name = "lexicon"

    def __init__(self, job: Job):
        settings = job.settings
        pair = settings["source_lang"], settings["target_lang"]
        self.source, self.target = pair if settings["direction"] == "forward" else pair[::-1]
        self.options = settings["options"]
        path = job.inputs["lexicon"]
        lexicon = read_json(path)
        try:
            self._read(lexicon, path)
        except (KeyError, TypeError, AttributeError) as error:
            raise CcrError(
                f"{path}: not a lexicon of the mini-world ({error!r}). Publish the mini-world again."
            ) from error

    def translate(self, parents: pa.Table) -> list[str | None]:
        """One translation per row of `parents` (schema CAPTIONS); None if nothing is left of the text."""
        return [self.translate_text(text).text or None for text in parents["text"].to_pylist()]

    def alignment(self, parents: pa.Table) -> pa.Table:
        """True word alignment of `translate`'s output: schema ALIGNMENT, one row per linked pair of phrases.

        Words that noise replaced, repeated or left untranslated are linked to the words they were made from.
        """
        columns = defaultdict(list)
        for caption_id, text in zip(parents["caption_id"].to_pylist(), parents["text"].to_pylist(), strict=True):
            translation = self.translate_text(text)
            for link in translation.links:
                start, end, target_start, target_end = link
                row = (caption_id, text[start:end], translation.text[target_start:target_end], *link)
                for name, value in zip(ALIGNMENT.names, row, strict=True):
                    columns[name].append(value)
        return pa.table({name: columns[name] for name in ALIGNMENT.names}, schema=ALIGNMENT)

    def translate_text(self, text: str) -> Translation:
        """Translate one text. The result depends only on the text, the languages and the options."""
        units = self._arrange(self._disturb(self._segment(text), text))
        return self._write(_swapped(units), text)

    # reading

    def _read(self, lexicon: dict[str, Any], path: str) -> None:
        if not lexicon.get("synthetic"):
            raise CcrError(f"{path}: not a lexicon of the mini-world. The lexicon engine knows only the mini-world.")
        for code in (self.source, self.target):
            if code not in lexicon["languages"]:
                raise CcrError(
                    f"{path}: has no language {code!r}, only {', '.join(lexicon['languages'])}. Publish the mini-world "
                    f"with {code!r} among its languages; for other data choose another engine."
                )
        self.reading, self.writing = (lexicon["languages"][code] for code in (self.source, self.target))
        self.concepts = lexicon["concepts"]
        self.classes = defaultdict(list)
        self.phrases: dict[tuple[str, ...], str] = {}
        # particles last: a form shared with another concept belongs to that one
        for concept, entry in sorted(self.concepts.items(), key=lambda item: item[1]["class"] == "particle"):
            if self.target in entry["words"]:
                self.classes[entry["class"]].append(concept)
            for form in entry["forms"].get(self.source, ()):
                self.phrases.setdefault(tuple(key for *_, key in self._tokens(form)), concept)
        self.longest = max(map(len, self.phrases))
        self.known = {key for phrase in self.phrases for key in phrase}
        self.article = next(iter(self.classes["article"]), None)

    def _tokens(self, text: str) -> list[tuple[int, int, str]]:
        """(start, end, look-up key) of words, or of characters if the language is written without spaces."""
        pattern = _TOKEN if self.reading["spaces"] else _CHARACTER
        return [(m.start(), m.end(), m[0].lower().replace("’", "'")) for m in pattern.finditer(text)]

    def _cut(self, tokens: list[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
        """The tokens, with proclitics cut off words that the dictionary knows only without them."""
        for start, end, key in tokens:
            for clitic in self.reading.get("proclitics", ()):
                if key not in self.known and key.startswith(clitic) and key[len(clitic) :] in self.known:
                    yield start, start + len(clitic), clitic
                    start, key = start + len(clitic), key[len(clitic) :]
            yield start, end, key

    def _segment(self, text: str) -> list[Unit]:
        """Cut a text into the longest known phrases; unknown words that touch stay together."""
        tokens, units, at = list(self._cut(self._tokens(text))), [], 0
        keys = tuple(key for *_, key in tokens)
        while at < len(tokens):
            for length in range(min(self.longest, len(tokens) - at), 0, -1):
                concept = self.phrases.get(keys[at : at + length])
                if concept:
                    units.append(
                        Unit(tokens[at][0], tokens[at + length - 1][1], concept, self.concepts[concept]["class"])
                    )
                    break
            else:
                length = 1
                start, end, _ = tokens[at]
                if units and units[-1].concept is None and units[-1].end == start:
                    units[-1] = replace(units[-1], end=end)
                else:
                    units.append(Unit(start, end, None, "unknown"))
            at += length
        return units

    # noise

    def _disturb(self, units: list[Unit], text: str) -> list[Unit]:
        """Damage about `error_rate` of the phrases. A higher rate keeps the damage of a lower one and adds to it."""
        seed = f"{self.options['seed']}\n{self.source}\n{self.target}\n{text}"
        rng = random.Random(hashlib.sha256(seed.encode()).digest())
        return [self._damage(unit, rng.random(), rng.random(), rng.random(), text) for unit in units]

    def _damage(self, unit: Unit, level: float, kind: float, choice: float, text: str) -> Unit:
        """Apply the error that three numbers in [0, 1) determine: whether, which, and with which replacement."""
        if level >= self.options["error_rate"] or unit.kind in _UNTOUCHED:
            return unit
        others = [concept for concept in self.classes[unit.kind] if concept != unit.concept]
        possible = {name: self.options[name] for name in NOISE}
        if not others:
            possible.pop("wrong_sense")
        error = _pick(possible, kind)
        if error == "drop":
            return replace(unit, copies=0)
        if error == "repeat":
            return replace(unit, copies=2)
        if error == "order":
            return replace(unit, swap=True)
        if error == "untranslated":
            return replace(unit, literal=" ".join(text[unit.start : unit.end].split()))
        if error == "wrong_sense":
            homonym = self.concepts[unit.concept]["wrong"].get(self.target)
            if homonym and choice < HOMONYM:
                return replace(unit, literal=homonym)
            return replace(unit, concept=others[int(choice * len(others))])
        return unit

    # order

    def _arrange(self, units: list[Unit]) -> list[Unit]:
        """Put the units into the target language's order, clause by clause."""
        nodes, result, clause = _chunk(units), [], []
        for node in nodes:
            if node[0].kind in ("mark", "clause"):
                result += [*self._clause(clause), node]
                clause = []
            else:
                clause.append(node)
        return [unit for node in [*result, *self._clause(clause)] for unit in node]

    def _clause(self, nodes: list[list[Unit]]) -> list[list[Unit]]:
        """Order the noun phrases, relations and verbs of one clause."""
        nodes = [self._noun_phrase(node) if _is_noun_phrase(node) else node for node in nodes]
        nodes = [node for node in nodes if node[0].kind != "particle"]
        if self.reading["relation_last"] != self.writing["relation_last"]:
            nodes = _move_relations(nodes, last=self.writing["relation_last"])
        final, was_final = self.writing["final"], self.reading["final"]
        for node in [n for n in nodes if n[0].kind in {*final, *was_final}]:
            kind, rest = node[0].kind, [n for n in nodes if n is not node]
            if kind in final and kind not in was_final:
                nodes = [*rest, node]
            elif kind in was_final and kind not in final:
                at = _before_subject(rest) if kind == "exists" else _after_subject(rest)
                nodes = [*rest[:at], node, *rest[at:]]
        if self.writing["topic"] and any(n[0].kind in final and n[0].kind != "exists" for n in nodes):
            at = _after_subject(nodes)
            nodes.insert(at, [Unit(-1, -1, None, "topic", self.writing["topic"])])
        return nodes

    def _noun_phrase(self, units: list[Unit]) -> list[Unit]:
        """Sort a noun phrase; add an article where only the target language has one."""
        kinds = [unit.kind for unit in units]
        if self.article and "shape" in kinds and "article" not in kinds:
            units = [Unit(-1, -1, self.article, "article"), *units]
        return sorted(units, key=lambda unit: self.writing["order"].index(unit.kind))

    # writing

    def _write(self, units: list[Unit], source: str) -> Translation:
        """Turn words into text, with joins, a capital if the source has one, and the links."""
        spaces, pieces, text, last = self.writing["spaces"], [], "", ""
        for unit, word in self._words(units, source):
            if word.isspace():  # Thai's comma: only ever between words
                last = word
                continue
            for end, start, changed in self.writing["joins"]:
                if pieces and re.match(start, word) and re.search(end, text):
                    text = re.sub(end, changed, text)
                    pieces[-1] = (*pieces[-1][:2], len(text))
            if last.isspace() and text:
                text += last
            elif last not in self.writing.get("proclitics", ()):
                text += _gap(text, word, spaces)
            pieces.append((unit, len(text), len(text) + len(word)))
            text, last = text + word, word
        if spaces and text and not source.lstrip()[:1].islower() and len(text[0].upper()) == 1:
            text = text[0].upper() + text[1:]
        return Translation(text, [(unit.start, unit.end, start, end) for unit, start, end in pieces if unit.start >= 0])

    def _words(self, units: list[Unit], source: str) -> Iterator[tuple[Unit, str]]:
        """The word of each unit, in its noun's gender; nothing for a unit that the target language leaves out.

        Units outside noun phrases agree with the noun before them.
        """
        subject = ""
        for node in _chunk(units):
            noun = next((unit.concept for unit in node if unit.kind == "shape"), None)
            subject = self.concepts[noun]["gender"].get(self.target, "") if noun else subject
            gender = subject if noun or not _is_noun_phrase(node) else ""
            for unit in node:
                word = unit.literal
                if not word and unit.concept is None:
                    word = source[unit.start : unit.end]
                elif not word:
                    words = self.concepts[unit.concept]["words"].get(self.target, {})
                    word = words.get(gender) or next(iter(words.values()), "")
                if word:
                    yield from [(unit, word)] * unit.copies


def _pick(weights: dict[str, float], number: float) -> str | None:
    """The name that `number` in [0, 1) falls on; None if all weights are zero."""
    number *= sum(weights.values())
    for name, weight in weights.items():
        if number < weight:
            return name
        number -= weight
    return None


def _chunk(units: Iterable[Unit]) -> list[list[Unit]]:
    """Group the units of each noun phrase (one noun, its article and adjectives); all others stand alone."""
    nodes: list[list[Unit]] = []
    for unit in units:
        if unit.kind in _NOUN_PHRASE and nodes and _is_noun_phrase(nodes[-1]):
            has_noun = any(u.kind == "shape" for u in nodes[-1])
            if not (has_noun and unit.kind in ("article", "shape")):
                nodes[-1].append(unit)
                continue
        nodes.append([unit])
    return nodes


def _is_noun_phrase(node: list[Unit]) -> bool:
    return node[0].kind in _NOUN_PHRASE


def _swapped(units: list[Unit]) -> list[Unit]:
    """Exchange every unit marked `swap` with its right neighbour."""
    units = list(units)
    for i in range(len(units) - 1):
        if units[i].swap and units[i + 1].kind != "mark":
            units[i], units[i + 1] = replace(units[i + 1], swap=False), replace(units[i], swap=False)
    return units


def _move_relations(nodes: list[list[Unit]], last: bool) -> list[list[Unit]]:
    """Move relations after (`last`) or before the noun phrase that they belong to."""
    nodes, i = list(nodes), 0
    while i + 1 < len(nodes):
        first, second = (nodes[i], nodes[i + 1]) if last else (nodes[i + 1], nodes[i])
        if first[0].kind == "relation" and _is_noun_phrase(second):
            nodes[i], nodes[i + 1] = nodes[i + 1], nodes[i]
            i += 1
        i += 1
    return nodes


def _after_subject(nodes: list[list[Unit]]) -> int:
    """The position after the first noun phrase, or the end."""
    return next((i + 1 for i, node in enumerate(nodes) if _is_noun_phrase(node)), len(nodes))


def _before_subject(nodes: list[list[Unit]]) -> int:
    """The position before the last run of noun phrases joined by links, or the end."""
    at = len(nodes)
    for i in range(len(nodes) - 1, -1, -1):
        if _is_noun_phrase(nodes[i]) and not (i and nodes[i - 1][0].kind == "relation"):
            at = i
        elif not (at < len(nodes) and nodes[i][0].kind == "link"):
            break
    return at


def _gap(text: str, word: str, spaces: bool) -> str:
    """The separator of two words: a space if the language, or two foreign words in a row, require one."""
    if not text:
        return ""
    if spaces:
        return "" if text[-1] == "'" or word[0] in ",.;:!?،؛؟" else " "
    return " " if _FOREIGN.match(text[-1]) and _FOREIGN.match(word[0]) else ""
