"""Word-level alignment for the CL teacher: pulls aligned words together (docs/methods.md, item 10; CL2CM)."""

import torch
from torch import Tensor

from ccr.objectives.step import Step
from ccr.objectives.transport import Words, cost, plans


def loss(step: Step, *, pair: tuple[str, str], layer: int | str, margin: float, **solver) -> Tensor:
    """Hinge on the transport cost of each pair against a mismatched one, mean over the batch.

    The cost alone would be minimised by making all words equal; the mismatched pair (with the previous row's caption)
    prevents that. Rows have none if the previous row has the same item or a caption has no words: they are left out;
    0 if no row is left. Plans come from the clean states, without gradient.

    Args:
        solver: options of `transport.plans`.
    """
    source, target = (step.words[stream, layer] for stream in pair)
    clean_source, clean_target = (step.clean[stream, layer] for stream in pair)
    true = transport_cost(source, target, plans(clean_source, clean_target, **solver))
    wrong = transport_cost(source, _before(target), plans(clean_source, _before(clean_target), **solver))
    worded = source[1].any(1) & target[1].any(1) & target[1].any(1).roll(1, 0)
    kept = worded & (step.items != step.items.roll(1, 0))
    return step.mean((margin + true - wrong).clamp(min=0), pair, kept)


def transport_cost(source: Words, target: Words, plan: Tensor) -> Tensor:
    """(B,) cost of each pair's plan per unit of mass; 0 where one side has no words."""
    return (plan * cost(source, target)).sum((1, 2)) / plan.sum((1, 2)).clamp(min=torch.finfo(plan.dtype).tiny)


def _before(words: Words) -> Words:
    return words[0].roll(1, 0), words[1].roll(1, 0)
