"""The CL teacher's embeddings as the student's targets, instead of relations (docs/methods.md, "A fair table")."""

from torch import Tensor

from ccr.objectives.step import Step


def loss(step: Step, *, pair: tuple[str, str]) -> Tensor:
    """1 - cosine between the student's and the teacher's embeddings, mean over both streams of `pair`.

    v_i shows what s_i says, so the first stream, the visual one, learns the teacher's embedding of the source caption.
    """
    visual, caption = (step.embeddings[stream] for stream in pair)
    cosines = (visual * step.teacher["source"]).sum(1) + (caption * step.teacher[pair[1]]).sum(1)
    return 1 - step.mean(cosines, pair) / 2
