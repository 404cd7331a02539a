"""Pixels of image and video files."""

from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageOps, UnidentifiedImageError

from ccr.store import uniform_positions

# A stream may hold somewhat fewer frames than its header says (edit lists); far fewer means that it was cut off.
WHOLE = 0.8


class Unreadable(Exception):
    """A media file that cannot be decoded; the message is the reason."""


def read_image(path: Path, size: int) -> np.ndarray:
    """The picture as uint8 RGB (1, size, size, 3), upright, squeezed to a square; `Unreadable` with the reason."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (size, size))  # JPEG: decode at the smallest scale that suffices
            square = ImageOps.exif_transpose(image).convert("RGB").resize((size, size), Image.Resampling.BOX)
    except UnidentifiedImageError as error:
        raise Unreadable("not an image file of a known format") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Unreadable(getattr(error, "strerror", None) or str(error)) from error
    return np.asarray(square)[None]


def read_video(path: Path, size: int, frames: int) -> np.ndarray:
    """`frames` frames, evenly spread over the video, as uint8 RGB (frames, size, size, 3), squeezed to squares.

    A video of fewer frames gives all it has, none twice. Decodes in order and once, never seeks: exact for any
    codec. `Unreadable` with the reason.
    """
    try:
        pictures, seen, expected = _decode(path, size, frames)
        if len(pictures) < min(frames, expected):
            if seen < WHOLE * expected:
                raise Unreadable(f"ends after {seen} of {expected} frames")
            pictures, *_ = _decode(path, size, frames, seen)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise Unreadable(getattr(error, "strerror", None) or str(error)) from error
    return np.stack(pictures)


def _decode(path: Path, size: int, frames: int, length: int = 0) -> tuple[list[np.ndarray], int, int]:
    """Evenly spread frames of a video of `length` (0: what its header says).

    Returns the pictures, as many as there are; how many frames were decoded; the length.
    """
    pictures: list[np.ndarray] = []
    reformatter, seen = VideoReformatter(), 0
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise Unreadable("no video stream")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # parallel over files, not within one
        length = length or stream.frames or _packets(path)
        wanted = uniform_positions(np.array([length]), np.array([min(length, frames)]))
        for frame in container.decode(stream):
            if seen == wanted[len(pictures)]:
                square = reformatter.reformat(frame, size, size, "rgb24", interpolation="AREA")
                pictures.append(square.to_ndarray())
            seen += 1
            if len(pictures) == len(wanted):
                break
    return pictures, seen, length


def _packets(path: Path) -> int:
    """Length of a video whose header does not say it: its packets counted, undecoded."""
    with av.open(str(path)) as container:
        count = sum(packet.size > 0 for packet in container.demux(video=0))
    if not count:
        raise Unreadable("no frames")
    return count
