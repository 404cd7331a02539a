"""bf16 copies of weights, made by one call per step."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import Parameter


def throughout(network: nn.Module) -> list[nn.Module]:
    """Parts that run in bf16 throughout, including norms and residual sums: on a GPU the encoders, not the heads.

    There each conversion between autocast's types is a call, together a tenth of a step's calls; a CPU keeps autocast's
    types, with which the published tables were made.
    """
    return network.encoders if network.device.type == "cuda" else []


class HalfWeights:
    """Does to a network's linear layers what `torch.autocast` does, bit for bit, without a call for each weight.

    Within `used`, the layers hold copies, which receive the gradients of a backward pass; `gradients` then passes these
    to the weights. Copies of frozen weights are made once. Parts that run in bf16 throughout have copies of all
    weights.
    """

    def __init__(self, network: nn.Module):
        self._network, self._whole = network, throughout(network)
        whole = {module for part in self._whole for module in part.modules()}
        layers = [module for module in network.modules() if isinstance(module, nn.Linear) or module in whole]
        self._places = [(m._parameters, name) for m in layers for name, p in m._parameters.items() if p is not None]
        self._weights = [parameters[name] for parameters, name in self._places]
        self._copies = [Parameter(p.detach().bfloat16(), p.requires_grad) for p in self._weights]
        pairs = [pair for pair in zip(self._weights, self._copies, strict=True) if pair[0].requires_grad]
        self._trained = dict(pairs)

    @contextmanager
    def used(self, again: bool = False) -> Iterator[None]:
        """Let the layers hold copies of the current weights; `again`: the copies made the last time."""
        if not again:
            with torch.no_grad():
                torch._foreach_copy_(list(self._trained.values()), list(self._trained))
        self._put(self._copies)
        self._network.in_bf16 = self._whole
        try:
            yield
        finally:
            self._put(self._weights)
            self._network.in_bf16 = ()

    def _put(self, weights: Iterable[Parameter]) -> None:
        for (parameters, name), weight in zip(self._places, weights, strict=True):
            parameters[name] = weight

    def of(self, weights: Iterable[Parameter]) -> list[Parameter]:
        """What replaces these weights within `used`."""
        return [self._trained.get(weight, weight) for weight in weights]

    def gradients(self) -> None:
        """Give the weights their copies' gradients, in float32."""
        pairs = [(weight, copy.grad) for weight, copy in self._trained.items() if copy.grad is not None]
        grown: list[Tensor] = [torch.empty_like(weight) for weight, _ in pairs]
        if pairs:
            torch._foreach_copy_(grown, [gradient for _, gradient in pairs])
        for (weight, _), gradient in zip(pairs, grown, strict=True):
            weight.grad = gradient
        for copy in self._copies:
            copy.grad = None
