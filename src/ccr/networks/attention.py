"""Scaled dot-product attention, by the way that is fastest where it is computed."""

import torch
from torch import Tensor
from torch.nn import functional


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scale: float | None
) -> Tensor:
    """softmax(Q K' scale) V: (..., Lq, d), (..., Lk, d), (..., Lk, e) -> (..., Lq, e).

    torch's fused attention saves memory that sentences do not need, and on a CPU its backward pass in bf16 takes 3 to 8
    times as long at their lengths (`benchmarks/attention.py`); so there it is written out.

    Args:
        mask: bool, broadcast to (..., Lq, Lk), which keys a query sees (one at least); None: all.
        scale: of the scores; None: 1 / sqrt(d).
    """
    written_out = query.dtype == torch.bfloat16 and query.device.type == "cpu" and query.requires_grad
    if not written_out:
        return functional.scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout, scale=scale)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1)
    if dropout:
        weights = functional.dropout(weights, dropout)
    return weights @ value
