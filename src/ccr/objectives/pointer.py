"""Word-level alignment for the CL teacher: masked words point at their partners (docs/methods.md, item 10; CL2CM)."""

import torch
from torch import Tensor

from ccr.objectives.step import Step
from ccr.objectives.transport import NOTHING, mutual, plans


def loss(step: Step, *, pair: tuple[str, str], layer: int | str, masked: float, **solver) -> Tensor:
    """Cross-entropy of each word's pointer to the other sentence against its row of the plan, mean of both directions.

    The pointers come from the pair with a share `masked` of its tokens hidden (`step.pointers`), the plan from the
    clean pair. Words without a mutual, unique first choice are left out: there the translation is noisy. 0 if no
    word is left.

    Args:
        solver: options of `transport.plans`.
    """
    source, target = (step.clean[stream, layer] for stream in pair)
    plan = plans(source, target, **solver)
    kept = mutual(plan)
    forward, backward = step.pointers[(*pair, layer)]
    return (
        step.mean(_cross_entropy(forward, plan, target[1]), pair, kept.any(2))
        + step.mean(_cross_entropy(backward, plan.transpose(1, 2), source[1]), pair, kept.any(1))
    ) / 2


def _cross_entropy(logits: Tensor, plan: Tensor, partners: Tensor) -> Tensor:
    """(B, R) cross-entropy of softmax(logits (B, R, C)) against the plan's rows."""
    choices = logits.masked_fill(~partners[:, None, :], NOTHING).log_softmax(2)
    labels = plan / plan.sum(2, keepdim=True).clamp(min=torch.finfo(plan.dtype).tiny)
    return -(labels * choices).sum(2)
