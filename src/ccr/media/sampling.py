"""Which frames of a video are taken."""

from dataclasses import dataclass

import numpy as np

from ccr.store import uniform_positions

MOST_MOMENTS = 1 << 31
TIME_ERROR = 1e-6  # seconds; time stamps are exact fractions, sums of floats are not


@dataclass(frozen=True)
class Sampling:
    """`frames` frames, evenly spread by number (all of a shorter video, none twice); or, with `fps`, the frame on
    screen at the start and every 1/`fps` seconds, reduced to `limit` evenly spread ones if there are more.
    """

    frames: int | None = None
    fps: float | None = None
    limit: int = 0

    @property
    def most(self) -> int:
        """The maximum number of frames taken from a video."""
        return self.frames or self.limit

    def positions(self, timeline: np.ndarray) -> np.ndarray:
        """Positions of the frames taken, ascending. `timeline`: when each frame begins, and when the last one ends."""
        if self.frames:
            return _spread(len(timeline) - 1, self.frames)
        number = max(1, np.ceil((timeline[-1] - timeline[0] - TIME_ERROR) * self.fps))
        if number > MOST_MOMENTS:
            raise ValueError(f"its time stamps span {timeline[-1] - timeline[0]:.0f} seconds")
        moments = _spread(int(number), self.limit) / self.fps + timeline[0] + TIME_ERROR
        return np.searchsorted(timeline[:-1], moments, side="right") - 1

    def __str__(self) -> str:
        if self.frames:
            return f"{self.frames} evenly spread (middles of equal parts), all of a shorter video"
        return f"on screen every 1/{self.fps:g} s, evenly spread {self.limit} of more"


def _spread(available: int, taken: int) -> np.ndarray:
    return uniform_positions(np.array([available]), np.array([min(available, taken)]))
