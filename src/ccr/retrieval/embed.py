"""Captions and items to embeddings, in batches.

An embedding depends only on its own caption or item, except in networks with `pooling: padded_mean`.
"""

import numpy as np
import torch
from torch import Tensor

from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.ragged import Ragged
from ccr.networks.tokens import Tokens
from ccr.networks.transfer import to_device
from ccr.store import FeatureStore


@torch.inference_mode()
def embed_captions(network: DualEncoder, tokens: Tokens, rows: np.ndarray, batch: int) -> Tensor:
    """(len(rows), dim) float32 unit embeddings of these texts, on the CPU. The network must be in eval mode."""
    order = np.arange(len(rows))
    if network.shape is Ragged:  # captions of similar length share a batch; padded ones depend on their batch
        order = np.argsort(-tokens.length[rows], kind="stable")
    batches = (
        tokens.batch(rows[order[start : start + batch]], network.device, network.shape)
        for start in range(0, len(rows), batch)
    )
    embeddings = torch.cat([network.embed_text(*texts).float() for texts in batches]).cpu()
    out = torch.empty_like(embeddings)
    out[torch.from_numpy(order)] = embeddings
    return out


@torch.inference_mode()
def embed_items(network: DualEncoder, store: FeatureStore, items: np.ndarray, batch: int) -> Tensor:
    """(len(items), dim) float32 unit embeddings of these rows of the store, on the CPU."""
    parts = [
        network.embed_visual(*visual_batch(network, store, items[start : start + batch])).float()
        for start in range(0, len(items), batch)
    ]
    return torch.cat(parts).cpu()


def visual_batch(network: DualEncoder, store: FeatureStore, items: np.ndarray) -> tuple[Tensor, Ragged]:
    """Features (N, dim) float16 of these rows of the store and their shape, on the network's device."""
    features, lengths = store.rows(items, network.max_frames)
    shape = network.shape(torch.from_numpy(lengths), network.device)
    return shape.fill(to_device(features, network.device), 0.0), shape
