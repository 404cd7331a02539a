"""Discriminators: is this caption an original or a translation? (docs/methods.md, item 7; NRCCR)"""

from torch import Tensor, nn
from torch.nn import functional

HIDDEN = 128


class _ResidualBlock(nn.Module):
    """Two convolutions of width 5, scaled by .3, added to the rectified input."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Conv1d(HIDDEN, HIDDEN, 5, padding=2) for _ in range(2))

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        states = functional.relu(states)
        return states + 0.3 * self.second(functional.relu(self.first(states * real)) * real)


class Discriminator(nn.Module):
    """Token states of a caption to two logits, both high for an original.

    Args:
        kind: `linear`; `mlp` (256 and 128, tanh); `conv` (1x1, three residual blocks). The states are averaged over
            positions before the classifier, after the convolutions.
        width: of the token states.
    """

    def __init__(self, kind: str, width: int):
        super().__init__()
        self.convolutions = None
        if kind == "conv":
            blocks = (_ResidualBlock() for _ in range(3))
            self.convolutions = nn.ModuleList([nn.Conv1d(width, HIDDEN, 1), *blocks])
        if kind == "mlp":
            layers = (nn.Linear(width, 256), nn.Tanh(), nn.Linear(256, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2))
            self.classify = nn.Sequential(*layers)
        else:
            self.classify = nn.Linear(HIDDEN if kind == "conv" else width, 2)

    def forward(self, states: Tensor, counted: Tensor) -> Tensor:
        """Logits (B, 2).

        Args:
            states: (B, L, width). counted: (B, L) bool, the positions that take part.
        """
        real = counted[:, None, :].to(states.dtype)
        states = states.transpose(1, 2)
        if self.convolutions is not None:
            project, *blocks = self.convolutions
            states = project(states)
            for block in blocks:
                states = block(states, real)
        return self.classify((states * real).sum(2) / real.sum(2))
