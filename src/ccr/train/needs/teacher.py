"""The CL teacher's embeddings of the step's captions, computed once (docs/methods.md, item 12)."""

from torch import Tensor

from ccr.objectives.provider import Encoded
from ccr.objectives.provider import Provider as Base
from ccr.objectives.step import Step


class Provider(Base):
    """Fills `step.teacher`."""

    def fill(self, step: Step, encoded: Encoded) -> dict[str, Tensor]:
        """See `Provider`."""
        step.teacher |= encoded.teacher
        return {}
