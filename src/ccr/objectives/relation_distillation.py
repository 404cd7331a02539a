"""The CL teacher's relations as the student's targets (METHODS, item 12; CL2CM)."""

from torch import Tensor
from torch.nn import functional

from ccr.objectives.step import Step


def loss(step: Step, *, pair: tuple[str, str], tau_teacher: float, tau_student: float | None, intra: bool) -> Tensor:
    """KL(p_teacher || p_student) over rows and over columns, averaged.

    The first stream of `pair` is the visual one: what v_i shows is what s_i says, so the teacher's relation of
    source caption i to caption j is the target for the student's relation of item i to caption j. Rows of the same
    item stay in. 0, without gradient, when the two agree.

    Args:
        tau_student: None for the network's learnable temperature.
        intra: add the same for caption i against caption j.
    """
    tau = step.tau if tau_student is None else tau_student
    captions = step.teacher[pair[1]]
    inter = _divergence(step.similarity(pair) / tau, step.teacher["source"] @ captions.T / tau_teacher)
    if not intra:
        return inter
    return inter + _divergence(step.similarity((pair[1], pair[1])) / tau, captions @ captions.T / tau_teacher)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    return (
        sum(
            functional.kl_div(s.log_softmax(1), t.log_softmax(1), reduction="batchmean", log_target=True)
            for s, t in ((student, teacher), (student.T, teacher.T))
        )
        / 2
    )
