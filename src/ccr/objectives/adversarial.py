"""Language discriminator (docs/methods.md, item 7; NRCCR): the encoder makes translations look like originals."""

from torch import Tensor
from torch.nn import functional

from ccr.objectives.step import Step


def loss(step: Step, *, pair: tuple[str, str], discriminator: str, lr: float) -> Tensor:
    """The encoder's term: BCE of the logits of `pair`'s second stream, the translations, against 'original'.

    `discriminator` and `lr` are options of the discriminator, which is updated before each step of the encoder.
    It judges languages, not pairs, so a translation's weight (`step.weights`) does not apply.
    """
    return _bce(step.logits[tuple(pair)], 1.0)


def discriminator_loss(originals: Tensor, translations: Tensor) -> Tensor:
    """The discriminator's own loss: mean BCE of its logits (B, 2) of originals against 1, of translations against 0."""
    return (_bce(originals, 1.0) + _bce(translations, 0.0)) / 2


def _bce(logits: Tensor, target: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, logits.new_full(logits.shape, target))
