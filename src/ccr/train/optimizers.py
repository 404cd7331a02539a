"""Optimisers without the start of torch's compiler, which takes as long as half of `import torch`.

Their methods import the compiler when they are first called, to exempt themselves from it. No step of an optimiser is
compiled here, so they are called as they are.
"""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

for _method in (Optimizer.add_param_group, Optimizer.zero_grad, Optimizer.state_dict, Optimizer.load_state_dict):
    _plain = inspect.unwrap(_method)
    _plain.__dynamo_disable = _plain


class Adam(torch.optim.Adam):
    """Adam."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class AdamW(torch.optim.AdamW):
    """AdamW; biases, norms and scalars do not decay."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))

    def __init__(self, weights: Iterable[Parameter], lr: float, weight_decay: float):
        weights = list(weights)
        decay, rest = [p for p in weights if p.ndim > 1], [p for p in weights if p.ndim <= 1]
        groups: list[dict[str, Any]] = [{"params": decay}, {"params": rest, "weight_decay": 0.0}]
        super().__init__(groups, lr=lr, weight_decay=weight_decay, fused=True)
