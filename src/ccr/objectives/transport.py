"""Optimal transport between the words of a sentence and its translation: CL2CM's self-generated word alignment."""

import math

import torch
from torch import Tensor
from torch.nn import functional

NOTHING = -1e4  # log of zero mass: finite, so that a sentence without words gives an empty plan, not NaN
EQUAL = 1 - 1e-4  # shares this close are equal: they differ only by rounding

Words = tuple[Tensor, Tensor]  # states (B, W, h) and mask (B, W) of real words


def cost(source: Words, target: Words) -> Tensor:
    """(B, R, C): 1 - cosine of every word of one sentence with every word of the other."""
    return 1 - functional.normalize(source[0], dim=-1) @ functional.normalize(target[0], dim=-1).transpose(1, 2)


@torch.no_grad()
def sinkhorn(
    cost: Tensor, rows: Tensor, columns: Tensor, epsilon: float, iterations: int, relaxation: float | None = None
) -> Tensor:
    """Entropic optimal transport plans of a batch of problems, in the log domain (Cuturi 2013; Chizat et al. 2018).

    min <plan, cost> + epsilon KL(plan | a b') with uniform marginals a, b over the real positions; with `relaxation`,
    the plan's marginals may deviate from a and b at a cost of relaxation * KL for each.

    Args:
        cost: (B, R, C). rows, columns: (B, R), (B, C) bool; masked positions carry no mass.
    Returns:
        (B, R, C) float32 plans (float64 for a float64 cost), zero at masked positions.
    """
    kernel = -(cost if cost.dtype == torch.float64 else cost.float()) / epsilon
    log_rows, log_columns = (_uniform(mask, kernel.dtype) for mask in (rows, columns))
    give = 1.0 if relaxation is None else relaxation / (relaxation + epsilon)
    row_potential = torch.zeros_like(log_rows)
    for _ in range(iterations):
        column_potential = -give * _logsumexp(kernel + (row_potential + log_rows)[:, :, None], 1)
        row_potential = -give * _logsumexp(kernel + (column_potential + log_columns)[:, None, :], 2)
    log_plan = kernel + (row_potential + log_rows)[:, :, None] + (column_potential + log_columns)[:, None, :]
    return _exp(log_plan) * (rows[:, :, None] & columns[:, None, :])


def _exp(values: Tensor) -> Tensor:
    """exp without results near or below the smallest normal number, which take a CPU forty times as long as others."""
    return values.clamp(min=math.log(torch.finfo(values.dtype).tiny) + 8).exp()


def _logsumexp(values: Tensor, dim: int) -> Tensor:
    """`torch.logsumexp` of finite values, to the last bit: next to the largest, what is left out is rounded away."""
    largest = values.amax(dim, keepdim=True)
    return _exp(values - largest).sum(dim).log() + largest.squeeze(dim)


def _uniform(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, W) log of equal shares for the real positions."""
    shares = -mask.sum(1, keepdim=True).clamp(min=1).to(dtype).log()
    return torch.where(mask, shares, NOTHING)


def plans(
    source: Words, target: Words, *, epsilon: float, iterations: int, marginals: str, relaxation: float
) -> Tensor:
    """(B, R, C) plans between the words of sentence pairs; `relaxation` is for `marginals: unbalanced`."""
    relaxed = relaxation if marginals == "unbalanced" else None
    return sinkhorn(cost(source, target), source[1], target[1], epsilon, iterations, relaxed)


def mutual(plan: Tensor) -> Tensor:
    """(B, R, C) bool: pairs of words that are each other's unique first choice; equal shares are not a choice."""
    first_of_row = (plan >= EQUAL * plan.amax(2, keepdim=True)) & (plan > 0)
    first_of_column = (plan >= EQUAL * plan.amax(1, keepdim=True)) & (plan > 0)
    alone = (first_of_row.sum(2, keepdim=True) == 1) & (first_of_column.sum(1, keepdim=True) == 1)
    return first_of_row & first_of_column & alone
