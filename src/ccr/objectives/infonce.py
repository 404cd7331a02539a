"""Symmetric InfoNCE over the batch (docs/methods.md, item 2)."""

import torch
from torch import Tensor
from torch.nn import functional

from ccr.objectives.step import Step


def loss(step: Step, *, pair: tuple[str, str], tau: float | None, mask_same_item: bool) -> Tensor:
    """Mean cross-entropy of similarity / tau against the diagonal, averaged over both directions.

    Args:
        tau: fixed temperature, or None for the network's learnable one.
        mask_same_item: leave out other rows of the same item, which are false negatives.
    """
    logits = step.similarity(pair) / (step.tau if tau is None else tau)
    if mask_same_item:
        logits = logits.masked_fill(step.same_item, -torch.inf)
    labels = torch.arange(len(logits), device=logits.device)
    rows, columns = (functional.cross_entropy(x, labels, reduction="none") for x in (logits, logits.T))
    return (step.mean(rows, pair) + step.mean(columns, pair)) / 2
