"""Self-distillation, similarity view (docs/methods.md, item 3; NRCCR): the cross-attention teacher's soft targets."""

from torch import Tensor
from torch.nn import functional

from ccr.objectives.step import Step


def loss(step: Step, *, pair: tuple[str, str], tau: float, cut_visual: bool, cut_teacher: bool) -> Tensor:
    """Cross-entropy of the student's softmax over the batch against the teacher's, mean of both directions.

    Student: similarities of the two streams of `pair`; teacher: those of the first stream and `cross`. Both / tau.

    Args:
        cut_visual: no gradient through the targets to the visual embedding; the published code lets it through.
        cut_teacher: none to the teacher's embedding, as published.
    """
    first, cross = step.embeddings[pair[0]], step.embeddings["cross"]
    teacher = (first.detach() if cut_visual else first) @ (cross.detach() if cut_teacher else cross).T / tau
    student = step.similarity(pair) / tau
    rows = functional.cross_entropy(student, teacher.softmax(1), reduction="none")
    columns = functional.cross_entropy(student.T, teacher.T.softmax(1), reduction="none")
    return (step.mean(rows, pair) + step.mean(columns, pair)) / 2
