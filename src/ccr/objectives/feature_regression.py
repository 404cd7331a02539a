"""Self-distillation, feature view (docs/methods.md, item 4; NRCCR): regression to the cross-attention teacher."""

from torch import Tensor
from torch.nn import functional

from ccr.objectives.step import Step


def loss(step: Step, *, pair: tuple[str, str], beta: float, reduction: str, cut_teacher: bool) -> Tensor:
    """Smooth L1 between `cross` (the first stream of `pair` attending to the second) and the second stream.

    Args:
        reduction: over the dimensions, `sum` or `mean` (published; next to no gradient); over the batch always mean.
        cut_teacher: the teacher is only a target; in the published code it moves towards the student too.
    """
    teacher, student = step.embeddings["cross"], step.embeddings[pair[1]]
    if cut_teacher:
        teacher = teacher.detach()
    distances = functional.smooth_l1_loss(student, teacher, beta=beta, reduction="none")
    return step.mean(distances.sum(1) if reduction == "sum" else distances.mean(1), pair)
