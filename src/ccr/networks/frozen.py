"""A text encoder's frozen prefix: its embeddings and lower layers, which keep their weights (docs/methods.md)."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

from safetensors.torch import save
from torch import Tensor, nn

from ccr.errors import CcrError


class FrozenPrefix(nn.Module):
    """A text encoder that may freeze its prefix. Frozen parts stay in eval mode, so their dropout is off.

    Attributes:
        frozen: how many layers are frozen, None if not even the embeddings are.
        any_type: computes in whatever type its weights have.
    """

    any_type = False
    frozen: int | None = None
    _parts: Sequence[nn.Module] = ()

    def freeze(self, embeddings: nn.Module, layers: Sequence[nn.Module], wanted: int | Literal["all"]) -> None:
        """Freeze the embeddings and the first `wanted` layers; 0: nothing. `CcrError` for more than there are."""
        number = len(layers) if wanted == "all" else wanted
        if number > len(layers):
            raise CcrError(f"networks.*.text.frozen_layers: {number} of {len(layers)} layers cannot be frozen.")
        if wanted == 0:
            return
        self.frozen, self._parts = number, (embeddings, *layers[:number])
        for part in self._parts:
            part.requires_grad_(False)
        self.train(self.training)

    @property
    def frozen_weights(self) -> dict[str, Tensor]:
        """The frozen weights by name."""
        return {name: weight for name, weight in self.named_parameters() if not weight.requires_grad}

    @cached_property
    def frozen_hash(self) -> str:
        """Hash of the frozen weights by name; computed once, since they do not change."""
        data = save({name: weight.detach().cpu().contiguous() for name, weight in self.frozen_weights.items()})
        return hashlib.blake2b(data, digest_size=16).hexdigest()

    def train(self, mode: bool = True) -> "FrozenPrefix":
        """See `nn.Module.train`."""
        super().train(mode)
        for part in self._parts:
            part.eval()
        return self


def is_states(tokens: Tensor) -> bool:
    """Whether a batch consists of states of the frozen prefix (N, width) instead of token ids (N,)."""
    return tokens.is_floating_point()
