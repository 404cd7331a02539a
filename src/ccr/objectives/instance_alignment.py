"""Sentence-level alignment of a caption with its translation, for the CL teacher (docs/methods.md, item 9; CL2CM)."""

from torch import Tensor

from ccr.objectives import infonce, triplet
from ccr.objectives.step import Step


def loss(
    step: Step, *, pair: tuple[str, str], loss: str, tau: float | None, margin: float, mask_same_item: bool
) -> Tensor:
    """`infonce` or `triplet` (hardest negatives, mean) between the two text streams."""
    if loss == "infonce":
        return infonce.loss(step, pair=pair, tau=tau, mask_same_item=mask_same_item)
    return triplet.loss(
        step, pair=pair, margin=margin, negatives="hardest", scale="mean", mask_same_item=mask_same_item
    )
