"""Bidirectional triplet hinge on cosine similarity (docs/methods.md, item 1; NRCCR, VSE++)."""

from torch import Tensor

from ccr.objectives.step import Step


def loss(
    step: Step, *, pair: tuple[str, str], margin: float, negatives: str, scale: str, mask_same_item: bool
) -> Tensor:
    """Sum over both directions of max(0, margin + negative - positive).

    Args:
        negatives: `hardest` of each row and column, or `all`.
        scale: `mean` over the entries of each direction, or `sum` over the batch.
        mask_same_item: other rows of the same item are not negatives.
    """
    similarity = step.similarity(pair)
    positive = similarity.diagonal()
    rows = (margin + similarity - positive[:, None]).clamp(min=0)
    columns = (margin + similarity - positive[None, :]).clamp(min=0)
    no_negatives = step.same if mask_same_item else step.diagonal
    rows, columns = (x.masked_fill(no_negatives, 0.0) for x in (rows, columns))
    both = (rows, columns.T)
    if negatives == "hardest":
        both = [direction.amax(dim=1) for direction in both]
    if scale == "mean":
        return sum(step.mean(direction, pair) for direction in both)
    return sum((direction * step.weigh(direction, pair)).sum() for direction in both)
