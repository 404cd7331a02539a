"""The text and the visual side of a network over padded batches with a mask, to be traced by exporters."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ccr.errors import CcrError
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.ragged import Ragged


class Masked:
    """The shape of a padded batch, in the networks' interface: padding is never attended to, nor counted in a mean.

    Args:
        mask: (B, L) bool, true at real positions.
    """

    def __init__(self, mask: Tensor):
        self.mask = mask
        self.position = torch.arange(mask.shape[1]).expand(mask.shape).reshape(-1)

    def pad(self, rows: Tensor) -> Tensor:
        """(B * L, ...) -> (B, L, ...)."""
        return rows.reshape(*self.mask.shape, *rows.shape[1:])

    def unpad(self, padded: Tensor) -> Tensor:
        """(B, L, ...) -> (B * L, ...)."""
        return padded.flatten(0, 1)

    def mean(self, rows: Tensor) -> Tensor:
        """(B * L, d) -> (B, d), over the real positions."""
        counted = self.mask[..., None].to(rows.dtype)
        return (self.pad(rows) * counted).sum(1) / counted.sum(1)

    def attend(self, query, key, value, dropout, scale, padding_sees_all=True) -> Tensor:
        """Attention within each sequence, see `Ragged.attend`: (B * L, heads, d) each -> (B * L, heads, d)."""
        sides = (self.pad(x).transpose(1, 2) for x in (query, key, value))
        found = functional.scaled_dot_product_attention(*sides, self.mask[:, None, None, :], scale=scale)
        return self.unpad(found.transpose(1, 2))


class TextTower(nn.Module):
    """(B, L) int64 token ids and attention mask -> (B, dim) float32 unit vectors."""

    def __init__(self, network: DualEncoder):
        super().__init__()
        _check(network)
        if hasattr(network.text, "run_padded"):
            network.text.run_padded()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        shape = Masked(attention_mask.bool())
        return self.network.embed_text(input_ids.flatten(), shape)


class VisualTower(nn.Module):
    """(B, F, feature_dim) float32 frame features and (B, F) int64 mask -> (B, dim) float32 unit vectors."""

    def __init__(self, network: DualEncoder):
        super().__init__()
        _check(network)
        self.network = network

    def forward(self, features: Tensor, frame_mask: Tensor) -> Tensor:
        return self.network.embed_visual(features.flatten(0, 1), Masked(frame_mask.bool()))


def _check(network: DualEncoder) -> None:
    if network.shape is not Ragged:
        raise CcrError("pooling: padded_mean makes an embedding depend on its batch; such a run cannot be exported.")
