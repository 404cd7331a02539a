"""Optional noise: translations of the train split corrupted at a known rate, to see which methods tolerate it."""

import random
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import accumulate, chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

from ccr import languages

# letters of scripts written without spaces
_UNSPACED = r"\u2e80-\U0010ffff\p{Thai}\p{Laoo}\p{Khmr}\p{Mymr}\p{Tibt}"
_WORD = regex.compile(rf"({languages.WORD}+(?:['’.,-]{languages.WORD}+)*)")
_CHARACTER = regex.compile(rf"((?:(?![{_UNSPACED}]){languages.WORD})+|(?=\w)\X)")
_GLUED = regex.compile(rf"(?:(?![{_UNSPACED}])\w){{2}}")  # the seam of two words that only a space separates


def corrupted(captions: pa.Table, kind: str, rate: float, seed: int) -> pa.Table:
    """Translations into one language (schema CAPTIONS) with noise in the texts of the train split only.

    Validation and test stay clean, so that only the effect of training on noise is measured. Ids, engine and row order
    do not change either: rate 0 returns the table as it was given.

    A token is a word; in languages written without spaces, such as Chinese and Thai, it is a character with its marks
    or a run of Latin letters and digits. Punctuation is not a token and stays: losing a full stop is not a wrong
    translation. No text becomes empty.

    - `swap`: captions, at this rate, exchange their texts; each gets one of another item that differs from its own (if
      there are enough), so that this share is really wrong and no text is lost: mismatched pairs.
    - `drop`: each token is left out at this rate, but never all tokens of a caption: untranslated parts.
    - `shuffle`: this share of the token positions, on average over captions of two or more tokens, exchange their
      tokens within a caption, around a ring: wrong word order. A single position cannot change, so a short caption has
      none or two.
    - `substitute`: each token is replaced, at this rate, by another one, drawn by frequency from the tokens of the
      clean train texts: wrong words. Frequent words are drawn often, so words alone do not give noise away.

    A caption or token is hit if a number drawn from (seed, language, id of the caption translated, position) falls
    below the rate. So neither the order nor the engine of the captions matters, and what is hit at a low rate is hit at
    every higher one: the points of a curve over rates differ by the rate, not by chance.
    """
    train = np.flatnonzero(pc.equal(captions["split"], "train").to_numpy())
    rows = captions.take(pa.array(train)).select(["item_id", "lang", "parent_id", "text"]).to_pydict()
    seeds = [f"{seed}\n{lang}\n{parent}" for lang, parent in zip(rows["lang"], rows["parent_id"], strict=True)]
    if kind == "swap":
        noisy = _swapped(rows["text"], rows["item_id"], seeds, rate)
    else:
        noisy = _disturbed(TOKEN_NOISE[kind], rows["text"], rows["lang"], seeds, rate)
    texts = captions["text"].to_pylist()
    for row, text in zip(train, noisy, strict=True):
        texts[row] = text
    return captions.set_column(captions.schema.get_field_index("text"), "text", pa.array(texts, pa.string()))


def _swapped(texts: list[str], items: list[str], seeds: list[str], rate: float) -> list[str]:
    """Texts, the chosen ones passed around a ring in random order; givers of the same item or text are exchanged."""
    levels = [(random.Random(seed).random(), seed) for seed in seeds]
    takers = sorted((i for i, (level, _) in enumerate(levels) if level < rate), key=levels.__getitem__)
    givers = takers[1:] + takers[:1]

    def wrong(taker: int, giver: int) -> bool:
        return items[taker] != items[giver] and texts[taker] != texts[giver]

    for i, taker in enumerate(takers):
        if wrong(taker, givers[i]):
            continue
        for j in chain(range(i + 1, len(takers)), range(i)):
            if wrong(taker, givers[j]) and wrong(takers[j], givers[i]):
                givers[i], givers[j] = givers[j], givers[i]
                break
    result = list(texts)
    for taker, giver in zip(takers, givers, strict=True):
        result[taker] = texts[giver]
    return result


class Vocabulary:
    """Tokens and how often each occurs."""

    def __init__(self, words: Iterable[str]):
        counts = Counter(words)
        self.words = sorted(counts)
        self._at = {word: i for i, word in enumerate(self.words)}
        self._ends = list(accumulate(counts[word] for word in self.words))

    def other(self, word: str, number: float) -> str:
        """The token that a number in [0, 1) falls on with `word` itself excluded; `word` if there is no other."""
        i = self._at[word]
        start = self._ends[i - 1] if i else 0
        own = self._ends[i] - start
        at = int(number * (self._ends[-1] - own))
        return self.words[bisect_right(self._ends, at + own * (at >= start))] if own < self._ends[-1] else word


TokenNoise = Callable[[list[str], random.Random, float, Vocabulary], list[str]]


def _disturbed(noise: TokenNoise, texts: list[str], langs: list[str], seeds: list[str], rate: float) -> list[str]:
    """Every text with `noise` on its tokens; punctuation and gaps stay, and untouched texts do to the byte."""
    cut = [
        (_WORD if languages.spaced(lang) else _CHARACTER).split(text) for text, lang in zip(texts, langs, strict=True)
    ]
    vocabulary = Vocabulary(chain.from_iterable(parts[1::2] for parts in cut))
    result = []
    for text, parts, seed in zip(texts, cut, seeds, strict=True):
        words = parts[1::2]
        noisy = noise(words, random.Random(seed), rate, vocabulary) if words else words
        result.append(text if noisy == words else _joined(parts[::2], noisy))
    return result


def _joined(gaps: list[str], words: list[str]) -> str:
    """The text made of words and the gaps around them; an empty word removes the space before it."""
    text = ""
    for gap, word in zip(gaps, [*words, ""], strict=True):
        text += gap if word else gap.rstrip()
        text += (" " if _GLUED.fullmatch(text[-1:] + word[:1]) else "") + word
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _drop(words: list[str], rng: random.Random, rate: float, vocabulary: Vocabulary) -> list[str]:
    levels = [rng.random() for _ in words]
    last = max(levels)
    return [word if level >= rate or level == last else "" for word, level in zip(words, levels, strict=True)]


def _shuffle(words: list[str], rng: random.Random, rate: float, vocabulary: Vocabulary) -> list[str]:
    share, levels = len(words) * rate, [rng.random() for _ in words]
    level = rng.random()  # rounds the number of positions up or down, so that it is right on average
    size = 2 * (level < share / 2) if share < 2 else int(share) + (level < share % 1)
    places = sorted(range(len(words)), key=levels.__getitem__)[:size]
    result = list(words)
    for place, other in zip(places, places[1:] + places[:1], strict=True):
        result[place] = words[other]
    return result


def _substitute(words: list[str], rng: random.Random, rate: float, vocabulary: Vocabulary) -> list[str]:
    drawn = [(word, rng.random(), rng.random()) for word in words]
    return [vocabulary.other(word, choice) if level < rate else word for word, level, choice in drawn]


TOKEN_NOISE: dict[str, TokenNoise] = {"drop": _drop, "shuffle": _shuffle, "substitute": _substitute}
KINDS = ("swap", *TOKEN_NOISE)
