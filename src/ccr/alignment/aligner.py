"""From sentence pairs to plans between their words, and to the words that choose each other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch

from ccr.networks.checkpoint import load_network, load_tokenizer
from ccr.networks.tokens import Tokens, word_places
from ccr.objectives.transport import Words, mutual, plans


@dataclass(frozen=True)
class Alignment:
    """The words of a sentence pair and the plan between them.

    `source` (R, 2), `target` (C, 2) int: where each word starts and ends in its text. `plan` (R, C) float32.
    `linked` (R, C) bool: each is the other's first choice, so a word has at most one link.
    """

    source: np.ndarray
    target: np.ndarray
    plan: np.ndarray
    linked: np.ndarray

    @property
    def links(self) -> np.ndarray:
        """(A, 4) int: source start and end, target start and end of each linked pair of words."""
        rows, columns = self.linked.nonzero()
        return np.concatenate([self.source[rows], self.target[columns]], axis=1)


class Aligner:
    """Aligns words by the text encoder of a trained run.

    Args:
        model, config, tokenizer: the run's files.
        options: the layer whose states are compared, and the solver's options (see `registry.SOLVER`).
    Raises:
        CcrError: a file is missing or torn, or the network has no such layer.
    """

    def __init__(self, model: str | PathLike, config: str | PathLike, tokenizer: str | PathLike, options: Mapping):
        network, description = load_network(model, config)
        self.network = network.to("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = load_tokenizer(tokenizer)
        text = description["settings"]["network"]["text"]
        self.max_tokens, self.prompt = text["max_tokens"], text["prompt"]
        self.solver: dict[str, Any] = dict(options)
        self.layer = self.solver.pop("layer")
        network.width_at(self.layer)

    @torch.inference_mode()
    def align(self, sources: Sequence[str], targets: Sequence[str], batch: int) -> Iterator[Alignment]:
        """The alignment of each pair; words beyond the network's `max_tokens` are left out."""
        sides = (sources, targets)
        tokens = [Tokens(self.tokenizer, texts, self.max_tokens, words=True, prompt=self.prompt) for texts in sides]
        spans = [word_spans(self.tokenizer, texts, self.prompt) for texts in sides]  # truncated like the tokens
        for rows in np.split(np.arange(len(sources)), range(batch, len(sources), batch)):
            source, target = (self._words(side, rows) for side in tokens)
            plan = plans(source, target, **self.solver)
            linked = mutual(plan)
            for n, row in enumerate(rows):
                places = [side[row] for side in spans]
                real = (n, slice(len(places[0])), slice(len(places[1])))
                yield Alignment(*places, plan[real].cpu().numpy(), linked[real].cpu().numpy())

    def pieces(self, text: str) -> list[str]:
        """The tokens of a text's words."""
        encoding = self.tokenizer.encode(text)
        return [piece for piece, word in zip(encoding.tokens, encoding.word_ids, strict=True) if word is not None]

    def _words(self, tokens: Tokens, rows: np.ndarray) -> Words:
        ids, shape = tokens.batch(rows, self.network.device, self.network.shape)
        states = self.network.encode_text(ids, shape, every_layer=True).at(self.layer)
        return tokens.words(rows, shape).pool(states)


def word_spans(tokenizer, texts: Sequence[str], prompt: str = "") -> list[np.ndarray]:
    """(W, 2) int start and end of each word of each text, as the tokenizer truncates prompt and text."""
    prompted = [prompt + text for text in texts]
    encoded = zip(tokenizer.encode_batch(prompted), prompted, strict=True)
    return [_spans(encoding, text, len(prompt)) - len(prompt) for encoding, text in encoded]


def _spans(encoding, text: str, prompt: int) -> np.ndarray:
    found: dict[int, tuple[int, int]] = {}
    for place, (start, end) in zip(word_places(encoding, text, prompt), encoding.offsets, strict=True):
        start += len(text[start:end]) - len(text[start:end].lstrip())  # some tokenizers include the space before
        if place >= 0:
            found[place] = (found.get(place, (start,))[0], end)
    return np.array(list(found.values()), int).reshape(-1, 2)
