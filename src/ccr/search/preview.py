"""Animated previews of clips that a browser cannot play (such as MPEG-4 Part 2, which the mini-world uses)."""

import io
from functools import lru_cache
from pathlib import Path

from PIL import Image

from ccr.media.decoding import Unreadable, read_video, upright
from ccr.media.sampling import Sampling

FRAMES, WIDTH, MILLISECONDS = 12, 240, 120


@lru_cache(maxsize=512)
def preview(file: Path) -> bytes | None:
    """Some frames of a clip as an animated WebP image, at most `WIDTH` wide; None for a file that cannot be read."""
    try:
        frames = read_video(file, Sampling(frames=FRAMES), lambda frame: upright(_small(frame), frame))
    except Unreadable:
        return None
    first, *others = (Image.fromarray(frame) for frame in frames)
    out = io.BytesIO()
    first.save(out, "WEBP", save_all=True, append_images=others, duration=MILLISECONDS, loop=0, quality=80)
    return out.getvalue()


def _small(frame):
    share = min(1.0, WIDTH / frame.width)
    return frame.to_ndarray(format="rgb24", width=round(share * frame.width), height=round(share * frame.height))
