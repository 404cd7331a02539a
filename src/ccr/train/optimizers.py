"""Optimisers that do not load torch's compiler, which takes half as long as `import torch`.

Torch's own methods import the compiler when they are first called, to exempt themselves from it. No optimiser step is
compiled here, so the bare methods are called.
"""

import inspect
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

EQUAL: Mapping[Parameter, float] = MappingProxyType({})

for _method in (Optimizer.add_param_group, Optimizer.zero_grad, Optimizer.state_dict, Optimizer.load_state_dict):
    _plain = inspect.unwrap(_method)
    _plain.__dynamo_disable = _plain


class Adam(torch.optim.Adam):
    """Adam."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class AdamW(torch.optim.AdamW):
    """AdamW; biases, norms and scalars do not decay.

    Args:
        scales: weight -> factor for its learning rate (group option `scale`, for schedules); others: 1.
    """

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))

    def __init__(
        self, weights: Iterable[Parameter], lr: float, weight_decay: float, scales: Mapping[Parameter, float] = EQUAL
    ):
        groups: list[dict[str, Any]] = []
        weights = list(weights)
        for scale in sorted({scales.get(p, 1.0) for p in weights}, reverse=True):
            mine = [p for p in weights if scales.get(p, 1.0) == scale]
            decay, rest = [p for p in mine if p.ndim > 1], [p for p in mine if p.ndim <= 1]
            groups += [{"params": decay, "scale": scale}, {"params": rest, "weight_decay": 0.0, "scale": scale}]
        super().__init__(groups, lr=lr, weight_decay=weight_decay, fused=True)

    def step_unless(self, unwanted: Tensor) -> None:
        """Take a step unless `unwanted`, a bool scalar on the device, is true. Does not wait for the device."""
        self.found_inf = unwanted.float()  # what loss scalers set, for the fused step to read
        self.step()
