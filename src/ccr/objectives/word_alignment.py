"""Word-level alignment by optimal transport, for the CL teacher (METHODS, item 10; CL2CM)."""

import torch
from torch import Tensor
from torch.nn import functional

from ccr.objectives.step import Step

NOTHING = -1e4  # log of no mass: finite, so that a sentence without words gives an empty plan and not NaN
CHUNK = 64  # sentence pairs solved at a time


def loss(step: Step, *, pair: tuple[str, str], epsilon: float, iterations: int, margin: float) -> Tensor:
    """Hinge on the transport cost of each pair against a mismatched one, mean over the batch.

    The bare cost is minimised by making all tokens equal; the mismatched pair (the caption of the batch's next row)
    forbids that. Plans are computed without gradient: they are the self-made labels.
    """
    (source, source_mask), (target, target_mask) = step.words[pair[0]], step.words[pair[1]]
    targets, target_masks = (torch.cat([x, x.roll(1, 0)]) for x in (target, target_mask))
    sources, source_masks = (torch.cat([x, x]) for x in (source, source_mask))
    true, wrong = transport_cost(sources, source_masks, targets, target_masks, epsilon, iterations).chunk(2)
    other = step.items != step.items.roll(1, 0)
    return ((margin + true - wrong).clamp(min=0) * other).sum() / other.sum().clamp(min=1)


def transport_cost(
    source: Tensor, source_mask: Tensor, target: Tensor, target_mask: Tensor, epsilon: float, iterations: int
) -> Tensor:
    """<plan, cost> per sentence pair, (B,), cost = 1 - cosine of token states, uniform marginals.

    Args:
        source, target: token states (B, Ls, h), (B, Lt, h). source_mask, target_mask: (B, Ls), (B, Lt) real words.
    """
    order = (source_mask.sum(1) + target_mask.sum(1)).argsort()
    costs = []
    for chunk in order.split(CHUNK):  # pairs of like length, cut to the longest of them: little padding
        mask, other = (m[chunk, : _width(m[chunk])] for m in (source_mask, target_mask))
        words = functional.normalize(source[chunk, : mask.shape[1]], dim=-1)
        partners = functional.normalize(target[chunk, : other.shape[1]], dim=-1)
        cost = 1 - words @ partners.transpose(1, 2)
        costs.append((sinkhorn(cost.detach(), mask, other, epsilon, iterations) * cost).sum((1, 2)))
    return torch.cat(costs)[order.argsort()]


def _width(mask: Tensor) -> int:
    """Places up to the last one that is real in any row, at least one."""
    return max(1, int(mask.any(0).nonzero().amax() + 1) if mask.any() else 1)


@torch.no_grad()
def sinkhorn(cost: Tensor, rows: Tensor, columns: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Entropic optimal transport plans of a batch of problems, in the log domain.

    Args:
        cost: (B, R, C). rows, columns: (B, R), (B, C) bool; masked places carry no mass.
    Returns:
        (B, R, C) plans; uniform marginals over the real places, zero elsewhere (all zero without real places).
    """
    log_rows = torch.where(rows, -rows.sum(1, keepdim=True).clamp(min=1).log(), NOTHING)
    log_columns = torch.where(columns, -columns.sum(1, keepdim=True).clamp(min=1).log(), NOTHING)
    kernel = -cost.float() / epsilon
    row_potential = torch.zeros_like(log_rows)
    for _ in range(iterations):
        column_potential = -torch.logsumexp(kernel + (row_potential + log_rows)[:, :, None], dim=1)
        row_potential = -torch.logsumexp(kernel + (column_potential + log_columns)[:, None, :], dim=2)
    log_plan = kernel + (row_potential + log_rows)[:, :, None] + (column_potential + log_columns)[:, None, :]
    return log_plan.exp() * (rows[:, :, None] & columns[:, None, :])
