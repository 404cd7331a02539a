"""Pixels of image and video files: upright, RGB, 8 bits."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ccr.media.sampling import Sampling

# A stream may have slightly fewer frames than its header says; far fewer means that it was cut off.
WHOLE = 0.8


class File(NamedTuple):
    """A media file. `kind`: image or video; a picture may be an open file."""

    path: Path | BinaryIO
    kind: str


class Unreadable(Exception):
    """A media file that cannot be decoded; the message is the reason."""


def read_image(
    path: Path | BinaryIO, convert: Callable[[Image.Image], np.ndarray], draft: tuple[int, int] | None = None
) -> np.ndarray:
    """What `convert` makes of the picture, with a leading axis added; `Unreadable` with the reason.

    Args:
        draft: sufficient (width, height): a JPEG may be decoded at half, a quarter or an eighth of its size.
    """
    try:
        # from memory: a decoder that asks a file for 3 GB, as a damaged header says, reserves them
        with Image.open(BytesIO(path.read_bytes()) if isinstance(path, Path) else path) as image:
            if draft:
                image.draft("RGB", draft)
            ImageOps.exif_transpose(image, in_place=True)
            return convert(_rgb(image))[None]
    except UnidentifiedImageError as error:
        raise Unreadable("not an image file of a known format") from error
    except (MemoryError, Unreadable):
        raise
    except Exception as error:  # a broken file: each format's decoder has its own errors
        raise Unreadable(getattr(error, "strerror", None) or str(error) or repr(error)) from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # 16-bit grey: PIL would clip everything above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise Unreadable(f"pixels of mode {image.mode!r} have no range; expected 8 or 16 bits")
    return image if image.mode == "RGB" else image.convert("RGB")


def read_video(path: Path, sampling: Sampling, convert: Callable[[av.VideoFrame], np.ndarray]) -> np.ndarray:
    """What `convert` makes of the frames that `sampling` takes, stacked.

    Decodes in order and never seeks: exact for any codec; twice if there are fewer frames than the header says.
    `Unreadable` with the reason.
    """
    try:
        by_time = sampling.fps is not None
        positions = sampling.positions(_timeline(path, by_time, scan=by_time))
        pictures, seen = _decode(path, positions, convert)
        if seen <= positions[-1]:
            timeline = _timeline(path, by_time, scan=True)
            if seen < WHOLE * (len(timeline) - 1):
                raise Unreadable(f"ends after {seen} of {len(timeline) - 1} frames")
            positions = sampling.positions(timeline[: seen + 1])
            pictures, _ = _decode(path, positions, convert)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise Unreadable(getattr(error, "strerror", None) or str(error)) from error
    return np.stack([pictures[position] for position in positions])


def upright(pixels: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """A frame's pixels (height, width, 3), rotated by the quarter turns that the file gives, as phones need it."""
    return np.rot90(pixels, round(frame.rotation / 90))


def _decode(
    path: Path, positions: np.ndarray, convert: Callable[[av.VideoFrame], np.ndarray]
) -> tuple[dict[int, np.ndarray], int]:
    """The frames at these ascending positions, as far as they exist; how many frames were decoded."""
    pictures: dict[int, np.ndarray] = {}
    wanted, seen = set(positions.tolist()), 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise Unreadable("its codec is not known here")
        stream.codec_context.thread_count = 1  # parallel over files, not within one
        for frame in container.decode(stream):
            if seen in wanted:
                pictures[seen] = convert(frame)
            seen += 1
            if seen > positions[-1]:
                break
    return pictures, seen


def _timeline(path: Path, by_time: bool, scan: bool) -> np.ndarray:
    """When each frame begins, in seconds, and when the last one ends: float (frames + 1,).

    Args:
        by_time: use the frames' time stamps; otherwise frames are merely numbered.
        scan: read the packets of the file without decoding; otherwise trust its header, if it gives a frame count.
    """
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise Unreadable("no video stream")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise Unreadable("no decoder for its video stream")
        announced = stream.frames
        if 0 < announced <= path.stat().st_size and not scan:  # a frame has at least one byte
            return np.arange(announced + 1.0)
        packets = [(p.is_discard, (p.pts, p.duration or 0)) for p in container.demux(stream) if p.size]
        if len(packets) < WHOLE * announced:
            raise Unreadable(f"ends after {len(packets)} of {announced} frames")
        stamps = [stamp for discarded, stamp in packets if not discarded]  # what an edit list keeps
        if not stamps:
            raise Unreadable("no frames")
        if not by_time:
            return np.arange(len(stamps) + 1.0)
        if all(start is not None for start, _ in stamps):
            starts = sorted(start for start, _ in stamps)
            return np.array([*starts, sum(max(stamps))]) * float(stream.time_base)
        if not stream.average_rate:  # otherwise, as in AVI, only the rate is known
            raise Unreadable("its frames have no time stamps")
        return np.arange(len(stamps) + 1) / float(stream.average_rate)
