"""Training on precomputed states of the frozen prefix (`frozen_prefix: cached`)."""

import hashlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ccr.artifacts.code import code_hash
from ccr.artifacts.hashes import digest
from ccr.artifacts.room import room_for
from ccr.errors import CcrError
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.frozen import FrozenPrefix
from ccr.networks.ragged import Ragged, WordPlaces
from ccr.networks.tokens import Tokens
from ccr.networks.transfer import to_device
from ccr.store.states import PART_BYTES, StateStore

BATCH_TOKENS = 8192  # that go through the prefix together

log = logging.getLogger(__name__)


class States:
    """Like `Tokens`, but its batches are states (N, width) float32 of the network's frozen prefix.

    What is not in the store is computed first, in batches of similar length, and stored there.

    Args:
        text: a text encoder with a frozen prefix, on its device.
    """

    def __init__(self, text: FrozenPrefix, tokens: Tokens):
        self._tokens = tokens
        self.length, self.mask, self.pad = tokens.length, tokens.mask, tokens.pad
        keys = [
            hashlib.blake2b(ids.tobytes(), digest_size=16).digest() for ids in np.split(tokens.ids, tokens.start[1:])
        ]
        self._store = StateStore(encoder_hash(text), text.width)
        _compute(text, tokens, keys, self._store)
        self._part, self._start = self._store.places(keys)

    def __len__(self) -> int:
        return len(self._tokens)

    def batch(self, rows: np.ndarray, device: Any = "cpu", shape: type[Ragged] = Ragged) -> tuple[Tensor, Ragged]:
        """States (N, width) of these texts, one after the other, and their shape."""
        length = self.length[rows]
        states = self._store.gather(self._part[rows], self._start[rows], length)
        return to_device(states, device).float(), shape(torch.from_numpy(length), device)

    def words(self, rows: np.ndarray, shape: Ragged) -> WordPlaces:
        """See `Tokens.words`."""
        return self._tokens.words(rows, shape)


def of_texts(network: DualEncoder, tokens: Tokens) -> Tokens | States:
    """What a network, already on its device, reads: token ids, or states if its frozen prefix is cached."""
    return States(network.text, tokens) if network.cached else tokens


def encoder_hash(text: FrozenPrefix) -> str:
    """Hash of all that the prefix's states depend on in addition to the token ids: weights, layers and code."""
    return digest([text.frozen_hash, text.frozen, code_hash("ccr.networks.pretrained", ())])


@torch.inference_mode()
def _compute(text: FrozenPrefix, tokens: Tokens, keys: list[bytes], store: StateStore) -> None:
    store.remove_leftovers()
    rows = np.flatnonzero(store.missing(keys))
    rows = rows[np.unique([keys[row] for row in rows], return_index=True)[1]] if len(rows) else rows
    rows = rows[np.argsort(tokens.length[rows], kind="stable")]
    if not len(rows):
        return
    total, width = int(tokens.length[rows].sum()), text.width
    log.info(
        "States of %s texts, %s tokens behind layer %d, in %s",
        f"{len(rows):,}", f"{total:,}", text.frozen, store.folder,
    )  # fmt: skip
    room_for(store.folder, 2 * total * width, "the states", "set networks.*.text.frozen_prefix: computed")
    training = text.training
    text.eval()
    interval = 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(total=total, unit="token", mininterval=interval, dynamic_ncols=True) as bar:
        for part in _runs(rows, tokens.length, PART_BYTES // (2 * width)):
            states = (_states(text, tokens, batch, bar) for batch in _runs(part, tokens.length, BATCH_TOKENS))
            try:
                store.add([keys[row] for row in part], tokens.length[part], states)
            except ValueError as error:
                raise CcrError(f"networks.*.text.encoder: {error}. Set frozen_prefix: computed.") from error
    text.train(training)


def _states(text: FrozenPrefix, tokens: Tokens, rows: np.ndarray, bar: tqdm) -> np.ndarray:
    ids, shape = tokens.batch(rows, next(text.parameters()).device)
    bar.update(len(ids))
    return text.prefix(ids, shape).float().cpu().numpy()


def _runs(rows: np.ndarray, length: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """The rows in runs of at most `most` tokens, but of at least one text."""
    ends = np.cumsum(length[rows])
    start = 0
    while start < len(rows):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield rows[start:stop]
        start = stop
