"""A trained run in Python: `ccr.load(folder)`."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ccr.artifacts.runs import run_files
from ccr.evaluate.encoder import Encoder
from ccr.texts.cleaning import clean_text

BATCH = 256


class Run:
    """A trained student or teacher that embeds texts and items; on the GPU if there is one.

    Attributes:
        folder: the run's folder. settings: the resolved settings that it was trained with.
    """

    def __init__(self, folder: str | PathLike[str]):
        """Raises `CcrError` if a file is missing or torn."""
        self.folder = Path(folder)
        self._encoder = Encoder(run_files(folder), BATCH)
        self.settings: Mapping[str, Any] = self._encoder.description["settings"]

    def embed(self, texts: Iterable[str]) -> np.ndarray:
        """(texts, dim) float32 unit vectors; the dot product of a text's and an item's is their similarity.

        Texts are cleaned like captions. Raises `ValueError` for an empty list or text.
        """
        listed = [] if isinstance(texts, str) else list(texts)
        if isinstance(texts, str) or not all(isinstance(text, str) for text in listed):
            raise TypeError("embed: expected a list of strings")
        cleaned = [clean_text(text) for text in listed]
        if not all(cleaned) or not cleaned:
            raise ValueError(f"embed: text {cleaned.index('')} is empty" if cleaned else "embed: no texts")
        return self._encoder.texts(cleaned).numpy()

    def embed_items(self, features: str | PathLike[str], item_ids: Sequence[str] | None = None) -> np.ndarray:
        """(items, dim) float32 unit vectors of items of a features file: of these, or of all in the file's order.

        Raises `CcrError` for a file that cannot be read, items that it lacks, and features with other dimensions than
        in training, and `ValueError` for an empty list.
        """
        if item_ids is not None and not len(item_ids):
            raise ValueError("embed_items: no items")
        return self._encoder.items(str(features), item_ids).numpy()


def load(folder: str | PathLike[str]) -> Run:
    """A trained run: `ccr.load("results/runs/.../seed0").embed(["ein roter Stern"])`."""
    return Run(folder)
