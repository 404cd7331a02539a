"""Scaled dot-product attention, computed in the way that is fastest on the device."""

import torch
from torch import Tensor
from torch.nn import functional

# cuDNN plans attention anew for each shape that it has not seen, and batches of sentences have a new one in every step
torch.backends.cuda.enable_cudnn_sdp(False)


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scale: float | None
) -> Tensor:
    """softmax(Q K' scale) V: (..., Lq, d), (..., Lk, d), (..., Lk, e) -> (..., Lq, e).

    torch's fused attention saves memory that sentences do not need, and on a CPU its backward pass in bf16 takes 3 to 8
    times as long at their lengths (`benchmarks/attention.py`), so there attention is written out.

    Args:
        mask: bool, broadcast to (..., Lq, Lk), which keys a query sees (at least one); None: all.
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


def runs_without_padding(query: Tensor, dropout: float) -> bool:
    """Whether `ragged_attention` is available: on NVIDIA GPUs since Ampere, in half precision, without dropout."""
    half = query.dtype in (torch.bfloat16, torch.float16)
    return half and not dropout and query.is_cuda and torch.cuda.get_device_capability(query.device) >= (8, 0)


def ragged_attention(
    query: Tensor, key: Tensor, value: Tensor, edges: Tensor, longest: int, scale: float | None
) -> Tensor:
    """Attention within each sequence of a ragged batch: (N, heads, d), (N, heads, d), (N, heads, e) -> (N, heads, e).

    Args:
        edges: (B + 1,) int32, where sequences start and the last one ends. longest: length of the longest sequence.
        scale: of the scores; None: 1 / sqrt(d).
    """
    from torch.nn.attention.varlen import varlen_attn  # not available on every platform

    width, wide = value.shape[-1], max(query.shape[-1], value.shape[-1])
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    wide += -wide % 8  # the kernels require one width, a multiple of 8
    parts = (x if x.shape[-1] == wide else functional.pad(x, (0, wide - x.shape[-1])) for x in (query, key, value))
    return varlen_attn(*parts, edges, edges, longest, longest, scale=scale)[..., :width]
