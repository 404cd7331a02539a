"""NRCCR's cross-attention teacher (docs/methods.md, item 5): the stream `cross`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ccr.networks.dual_encoder import CrossSide
from ccr.objectives.provider import Context, Encoded
from ccr.objectives.provider import Provider as Base


class Provider(Base):
    """Prepares the stream `cross`, without gradient if every term cuts it off (`cut_teacher`)."""

    def __init__(self, terms: Mapping[str, Mapping[str, Any]], context: Context):
        super().__init__(terms, context)
        self._is_cut = all(term.get("cut_teacher", False) for term in terms.values())

    def prepare(self, encoded: Encoded) -> dict[str, Tensor]:
        """See `Provider`."""
        with torch.set_grad_enabled(not self._is_cut):
            source, target = (CrossSide.of(*encoded.texts[stream]) for stream in ("source", "target"))
            return {"cross": self.network.pool_cross(source, target)}
