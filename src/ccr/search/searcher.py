"""A collection as one run sees it."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import Tensor

from ccr.alignment.aligner import word_spans
from ccr.artifacts.code import code_hash
from ccr.artifacts.contents import content_hash
from ccr.artifacts.files import atomic
from ccr.artifacts.hashes import digest
from ccr.errors import CcrError
from ccr.evaluate.encoder import Encoder
from ccr.params.planning.train import encoders
from ccr.search.collection import Caption, Collection
from ccr.search.index import Index
from ccr.texts.cleaning import clean_text

QUERIES = 64  # the latest ones, whose embeddings are kept
KEPT = Path("work/search")  # embeddings of collections, by the hash of what made them


@dataclass(frozen=True)
class Hit:
    """An item that was found. `row`: its row in the collection."""

    row: int
    item_id: str
    score: float


class Searcher:
    """Answers queries to a collection with one trained run; safe to share between threads.

    Args:
        name: the run's name for display. files: its files, by role. batch: texts or items at a time.
    Attributes:
        items: (N, dim) float32 unit vectors of the collection. texts: (C, dim), of its captions; None without any.
    Raises:
        CcrError: a file is missing or damaged; features have another dimension than in the run's training.
    """

    def __init__(self, name: str, files: Mapping[str, str], collection: Collection, batch: int):
        self.name, self.collection = name, collection
        self._encoder = Encoder(files, batch)
        self._computing = threading.Lock()
        self._query = lru_cache(QUERIES)(self._embed_query)
        code = code_hash("ccr.evaluate.encoder", tuple(encoders(self._encoder.description["settings"])))
        made_by = [code, batch, *(content_hash(files[role]) for role in ("model", "config", "tokenizer"))]
        features = content_hash(collection.features)
        self.items = self._kept([*made_by, features, collection.item_ids], self._embed_items)
        self._items = Index(self.items)
        texts = [caption.text for caption in collection.captions]
        self.texts = self._kept([*made_by, texts], lambda: self._encoder.texts(texts)) if texts else None
        self._captions = Index(self.texts) if texts else None

    def _embed_items(self) -> Tensor:
        return self._encoder.items(self.collection.features, self.collection.item_ids)

    @staticmethod
    def _kept(what: list, embed) -> np.ndarray:
        """Embeddings (n, dim) float32, memory-mapped; computed the first time."""
        file = KEPT / f"{digest(what)}.npy"
        if not file.exists():
            embeddings = embed().numpy()
            with atomic(file) as temporary, temporary.open("wb") as out:
                np.save(out, embeddings)
        return np.load(file, mmap_mode="c")

    @property
    def langs(self) -> list[str]:
        """Languages that the run was trained on; empty for an imported run, where they are not known."""
        settings = self._encoder.description["settings"]
        return sorted({settings["source_lang"], *settings["langs"]}) if "langs" in settings else []

    def search(self, text: str, count: int) -> list[Hit]:
        """The items nearest to a sentence, best first."""
        return self._hits(self._query(text), count)

    def standing(self, text: str, row: int) -> int:
        """The rank, from 1, of an item for a sentence."""
        return self._items.standing(self._query(text), row)

    def words(self, text: str, row: int) -> list[tuple[int, int, float]]:
        """What each word of a cleaned sentence adds to its score with an item: the score minus that without the word.

        (start, end, difference) per word, in characters. Empty for a sentence of one word.
        """
        with self._computing:
            spans = word_spans(self._encoder.tokenizer, [text], self._encoder.prompt)[0].tolist()
            without = [text[:start] + text[end:] for start, end in spans]
            if len(spans) < 2:
                return []
            embeddings = self._encoder.texts([text, *without])
        item = self._items.row(row)
        scores = (embeddings @ item).tolist()
        return [(start, end, scores[0] - score) for (start, end), score in zip(spans, scores[1:], strict=True)]

    def like(self, features: np.ndarray, count: int) -> tuple[list[tuple[Caption, float]], list[Hit]]:
        """Captions and items nearest to a user's own picture or clip, given its features (frames, dim)."""
        with self._computing:
            [vector] = self._encoder.extracted([features])
        captions = []
        if self._captions:
            rows, scores = self._captions.top(vector, count)
            captions = [
                (self.collection.captions[row], score) for row, score in zip(rows, scores.tolist(), strict=True)
            ]
        return captions, self._hits(vector, count)

    def _embed_query(self, text: str) -> Tensor:
        text = clean_text(text)
        if not text:
            raise CcrError("The query is empty. Give a sentence.")
        with self._computing:
            return self._encoder.texts([text])[0]

    def _hits(self, vector: Tensor, count: int) -> list[Hit]:
        rows, scores = self._items.top(vector, count)
        ids: Sequence[str] = self.collection.item_ids
        return [Hit(row, ids[row], score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True)]
