"""The CL teacher's relations as the student's targets (docs/methods.md, item 12; CL2CM)."""

from torch import Tensor
from torch.nn import functional

from ccr.objectives.step import Step


def loss(step: Step, *, pair: tuple[str, str], tau_teacher: float, tau_student: float | None, intra: bool) -> Tensor:
    """KL(p_teacher || p_student) over rows and over columns, averaged.

    The first stream of `pair` is the visual one: v_i shows what s_i says, so the teacher's relation of source caption i
    to caption j is the target for the student's relation of item i to caption j. Rows of the same item are included.
    0, with zero gradient, when the two agree.

    Args:
        tau_student: None for the network's learnable temperature.
        intra: add the same for the relation of caption i to caption j.
    """
    tau = step.tau if tau_student is None else tau_student
    captions = step.teacher[pair[1]]
    divergences = _divergences(step.similarity(pair) / tau, step.teacher["source"] @ captions.T / tau_teacher)
    if intra:
        within = step.similarity((pair[1], pair[1])) / tau
        divergences = divergences + _divergences(within, captions @ captions.T / tau_teacher)
    return step.mean(divergences, pair)


def _divergences(student: Tensor, teacher: Tensor) -> Tensor:
    """(B,) KL of each row and its column, averaged."""
    rows, columns = (
        functional.kl_div(s.log_softmax(1), t.log_softmax(1), reduction="none", log_target=True).sum(1)
        for s, t in ((student, teacher), (student.T, teacher.T))
    )
    return (rows + columns) / 2
