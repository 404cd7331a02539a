"""The CL teacher's relations as the student's targets (METHODS, item 12; CL2CM)."""

from torch import Tensor
from torch.nn import functional

from ccr.objectives.step import Step


def loss(step: Step, *, pair: tuple[str, str], tau_teacher: float, tau_student: float) -> Tensor:
    """KL(p_teacher || p_student) over rows and over columns, averaged.

    The first stream of `pair` is the visual one: what v_i shows is what s_i says, so the teacher's relation of
    source caption i to caption j is the target for the student's relation of item i to caption j. Rows of the same
    item stay in. 0, without gradient, when the two agree.
    """
    student = step.similarity(pair) / tau_student
    teacher = step.teacher["source"] @ step.teacher[pair[1]].T / tau_teacher
    return (
        sum(
            functional.kl_div(s.log_softmax(1), t.log_softmax(1), reduction="batchmean", log_target=True)
            for s, t in ((student, teacher), (student.T, teacher.T))
        )
        / 2
    )
