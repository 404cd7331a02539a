"""A trained run as a source of embeddings: of test captions and items, and of any collection."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save_file
from torch import Tensor

from ccr.artifacts.contents import content_hash
from ccr.artifacts.files import atomic
from ccr.errors import CcrError
from ccr.networks.checkpoint import load_network, load_tokenizer
from ccr.networks.states import of_texts
from ccr.networks.tokens import Tokens
from ccr.retrieval.embed import embed_captions, embed_items
from ccr.store import FeatureStore, open_features
from ccr.texts.cleaning import Changes, clean
from ccr.texts.files import read_lines

log = logging.getLogger(__name__)


class Encoder:
    """A run's network, on the GPU if there is one.

    Args:
        files: the run's files, by role (see `RUN_FILES`). Raises `CcrError` when one is missing or damaged.
        batch: texts or items at a time.
        keep_states: if the frozen prefix is cached, read states of texts from the cache and store new ones there.

    Attributes:
        description: the run's config. tokenizer: the run's.
    """

    def __init__(self, files: Mapping[str, str], batch: int, keep_states: bool = False):
        self._network, self.description = load_network(files["model"], files["config"])
        self._network.to("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = load_tokenizer(files["tokenizer"])
        self._model, self._batch, self._keep_states = files["model"], batch, keep_states

    @property
    def prompt(self) -> str:
        """What is prepended to each text ("query: ")."""
        return self.description["settings"]["network"]["text"]["prompt"]

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(texts, dim) float32 unit vectors on the CPU."""
        longest = self.description["settings"]["network"]["text"]["max_tokens"]
        tokens = Tokens(self.tokenizer, texts, longest, prompt=self.prompt)
        read = of_texts(self._network, tokens) if self._keep_states else tokens
        return embed_captions(self._network, read, np.arange(len(tokens)), self._batch)

    def items(self, features: str, item_ids: Sequence[str] | None = None) -> Tensor:
        """(items, dim) float32 unit vectors on the CPU: of these items, or of all in the order of the features file.

        Raises `CcrError` when an item has no features, and when their dimension is not that of the run's training.
        """
        store = open_features(features)
        if store.dim != self.description["feature_dim"]:
            trained = self.description["feature_dim"]
            raise CcrError(
                f"{features}: {store.dim} dimensions; {self._model} was trained on {trained or 'text alone'}. "
                + ("Train it again on these features." if trained else "Take a student, not a teacher.")
            )
        rows = np.arange(len(store.frames)) if item_ids is None else store.index(list(item_ids))
        return embed_items(self._network, store, rows, self._batch)

    def extracted(self, features: Sequence[np.ndarray]) -> Tensor:
        """(items, dim) float32 unit vectors of items not yet in a file, from their features (frames, feature_dim)."""
        rows = np.arange(len(features))
        table = pa.table({"item_id": rows.astype(str), "frames": [len(frames) for frames in features]})
        store = FeatureStore(Path(), table, np.concatenate(features).astype(np.float16), {})
        return embed_items(self._network, store, rows, self._batch)


def embed(files: Mapping[str, str], collection: Path, output: Path, batch: int, entities: str = "decode") -> int:
    """Write the embeddings of a collection to a safetensors file; returns how many there are.

    The file has one tensor, `embeddings` (rows, dim) float32, unit vectors: of the items of a features file
    (`.parquet`), in its order, or of the lines of a text file (UTF-8), one query per line, cleaned like captions.

    Args:
        entities: HTML entities in queries: `decode` or `keep`.

    Raises `CcrError` when a file cannot be read or has an empty line, which the message names.
    """
    encoder = Encoder(files, batch)
    if collection.suffix == ".parquet":
        embeddings = encoder.items(str(collection))
    else:
        embeddings = encoder.texts(queries(collection, entities))
    with atomic(output) as temporary:
        save_file({"embeddings": embeddings}, temporary, {"collection": content_hash(str(collection))})
    return len(embeddings)


def queries(path: Path, entities: str = "decode") -> list[str]:
    """The lines of a text file, cleaned; the log says what was changed. Raises `CcrError` naming an empty line."""
    lines, changes = pa.array(read_lines(path), pa.string()), Changes()
    texts = clean(lines, entities, changes, [f"line {number}" for number in range(1, len(lines) + 1)]).to_pylist()
    if not texts or "" in texts:
        line = texts.index("") + 1 if texts else 1
        raise CcrError(f"{path}: line {line} is empty; every line is a text to embed.")
    for note in changes.notes("lines"):
        log.info("%s: %s", path, note)
    return texts
