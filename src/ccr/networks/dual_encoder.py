"""The dual encoder: text and visual encoder with a head each into one common space (METHODS, "Networks")."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ccr.networks.ragged import Ragged
from ccr.networks.text import TextEncoder
from ccr.networks.visual import VisualEncoder

NORMS = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}


class Head(nn.Sequential):
    """Pooled states (B, width) -> common space (B, dim): linear, norm, dropout."""

    def __init__(self, width: int, settings: Mapping[str, Any]):
        dim = settings["dim"]
        super().__init__(nn.Linear(width, dim), NORMS[settings["norm"]](dim), nn.Dropout(settings["dropout"]))


class DualEncoder(nn.Module):
    """f and g: captions and items become unit vectors; their similarity is the dot product.

    Args:
        settings: a `networks.*` entry resolved.
        text_config: the text encoder's `transformers` config as a dict.
        feature_dim: dimensions of a frame's feature; None for a text-only network (a CL teacher).
        pretrained: load the weights of a named text encoder.
    """

    def __init__(
        self, settings: Mapping[str, Any], text_config: Mapping[str, Any], feature_dim: int | None, pretrained: bool
    ):
        super().__init__()
        self.text = TextEncoder(settings["text"], text_config, pretrained)
        self.text_head = Head(self.text.width, settings)
        self.visual = None
        if feature_dim is not None:
            self.visual = VisualEncoder(settings["visual"], feature_dim)
            self.visual_head = Head(self.visual.width, settings)
        self.max_frames = settings["visual"]["max_frames"]
        self.log_tau = nn.Parameter(torch.tensor(math.log(0.07)))

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        return self.log_tau.device

    @property
    def tau(self) -> Tensor:
        """Learnable temperature of the contrastive objectives, kept within [.01, 1]."""
        return self.log_tau.clamp(math.log(0.01), 0.0).exp()

    def embed_text(self, tokens: Tensor, ragged: Ragged) -> tuple[Tensor, Tensor]:
        """Token ids (N,) -> unit embeddings (B, dim) and token states (N, width)."""
        states = self.text(tokens, ragged)
        return functional.normalize(self.text_head(ragged.mean(states)), dim=-1), states

    def embed_visual(self, features: Tensor, ragged: Ragged) -> Tensor:
        """Frame features (N, feature_dim) -> unit embeddings (B, dim)."""
        states = self.visual(features, ragged)
        return functional.normalize(self.visual_head(ragged.mean(states)), dim=-1)
