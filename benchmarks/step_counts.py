"""The demands of a training step on the device: operator calls, and waits for results.

Calls are counted by a dispatch mode (operators that return a view of their input, or only allocate, compute nothing and
are not counted), waits by the operators whose results the processor needs (`item`, `nonzero` and the like), so no GPU
is needed. Attention over a ragged batch is one call on a GPU (torch's kernels for variable lengths), and so is a step
of Adam: `as_on_gpu` makes them one call on a CPU too.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "lift_fresh"}
FREE |= {"_record_function_enter_new", "_record_function_exit"}
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "unique_consecutive", "_unique2", "unique_dim", "equal"}


class Count(TorchDispatchMode):
    """Counts operator calls while it is active.

    Attributes:
        calls: operator -> calls that compute something. waits: operator -> calls whose results the processor waits for.
    """

    def __init__(self):
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

        self._reading = patch.multiple(Tensor, tolist=self._noted("tolist"), numpy=self._noted("numpy"))

    def _noted(self, name: str) -> Callable[..., Any]:
        """A tensor method that brings values to the processor, wrapped to count as a wait."""
        method = getattr(Tensor, name)

        def noted(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
            self.waits[name] += 1
            return method(tensor, *arguments, **options)

        return noted

    def __enter__(self) -> "Count":
        self._reading.start()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._reading.stop()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        returns = function._schema.returns
        is_view = bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        if name in WAITS:
            self.waits[name] += 1
        if not is_view and name not in FREE:
            self.calls[name] += 1
        return function(*args, **(kwargs or {}))


def _sizes(edges: Tensor) -> list[int]:
    return [int(size) for size in edges.diff()]  # `tolist` would be counted


@torch.library.custom_op("benchmark::ragged_attention", mutates_args=())
def _attention(query: Tensor, key: Tensor, value: Tensor, edges: Tensor, scale: float) -> Tensor:
    parts = zip(*(x.transpose(0, 1).split(_sizes(edges), 1) for x in (query, key, value)), strict=True)
    rows = torch.cat([functional.scaled_dot_product_attention(*part, scale=scale) for part in parts], 1)
    return rows.transpose(0, 1).contiguous()


@torch.library.custom_op("benchmark::ragged_attention_backward", mutates_args=())
def _attention_backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, edges: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    sizes, found = _sizes(edges), []
    for g, q, k, v in zip(*(x.transpose(0, 1).split(sizes, 1) for x in (gradient, query, key, value)), strict=True):
        weights = (q @ k.transpose(1, 2) * scale).softmax(2)
        given = g @ v.transpose(1, 2)
        scores = weights * (given - (given * weights).sum(2, keepdim=True)) * scale
        found.append((scores @ k, scores.transpose(1, 2) @ q, weights.transpose(1, 2) @ g))
    return tuple(torch.cat(parts, 1).transpose(0, 1).contiguous() for parts in zip(*found, strict=True))


def _keep(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.scale = inputs[4]


_attention.register_autograd(
    lambda ctx, gradient: (*_attention_backward(gradient, *ctx.saved_tensors, ctx.scale), None, None),
    setup_context=_keep,
)


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Makes attention over ragged batches, dropout and a discriminator's step one operator call each, as on a GPU, and
    runs the encoders in bf16 throughout.
    """

    def attention(query, key, value, edges, longest, scale):
        return _attention(query, key, value, edges, query.shape[-1] ** -0.5 if scale is None else scale)

    adam = torch.optim.Adam.__init__

    def fused(self, *arguments, **options):
        adam(self, *arguments, **options | {"fused": True})

    with (
        patch("ccr.train.half.throughout", lambda network: network.encoders),
        patch("ccr.networks.ragged.runs_without_padding", lambda query, dropout: not dropout),
        patch("ccr.networks.ragged.ragged_attention", attention),
        patch("torch.optim.Adam.__init__", fused),
        patch(
            "torch.nn.functional.dropout", lambda x, p, training, inplace=False: torch.native_dropout(x, p, training)[0]
        ),
    ):
        yield
