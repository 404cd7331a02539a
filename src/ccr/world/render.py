"""Scenes to pixels, and pixels to real media files with the same bytes on every run."""

from pathlib import Path

import av
import cv2
import numpy as np

from ccr.world.scenes import Scene, Thing, tracks

RGB = {
    "red": (225, 25, 25), "green": (25, 175, 50), "blue": (30, 70, 235), "yellow": (250, 230, 25),
    "purple": (140, 35, 190), "orange": (255, 135, 10), "pink": (255, 130, 190), "white": (250, 250, 250),
    "bg_black": (12, 12, 14), "bg_grey": (110, 112, 115), "bg_beige": (190, 175, 135),
}  # fmt: skip
FRAMES_PER_SECOND = 8
JPEG_QUALITY = 95
_SUBPIXEL = 4  # fractional bits of OpenCV's polygon coordinates


def _circle(radius: float = 1.0) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def _star() -> np.ndarray:
    angle = np.arange(10) * np.pi / 5 - np.pi / 2
    return np.where(np.arange(10) % 2, 0.45, 1.1)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y - 2.5], 1) / 15.5


# Contours in units of the radius; a second contour is a hole.
OUTLINES = {
    "circle": [_circle()],
    "ring": [_circle(1.05), _circle(0.55)],
    "star": [_star()],
    "heart": [_heart()],
    "square": [np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.88],
    "triangle": [np.array([(0, -1.05), (1.05, 0.85), (-1.05, 0.85)])],
    "diamond": [np.array([(0, -1.15), (0.68, 0), (0, 1.15), (-0.68, 0)])],
    "cross": [np.array([(-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1),
                        (1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1)]) / 2.9],
}  # fmt: skip


def render(scene: Scene, frames: int, size: int) -> np.ndarray:
    """Draw a scene: uint8 (frames, size, size, 3), RGB."""
    rng = np.random.default_rng(scene.jitter)
    clip = np.repeat(_background(scene.background, size, rng)[None], frames, 0)
    colours = [np.clip(np.array(RGB[t.colour]) + rng.normal(0, 7, 3), 0, 255) for t in scene.things]
    for thing, colour, track in zip(scene.things, colours, tracks(scene, frames), strict=True):
        for frame, (x, y, radius, angle, visible) in zip(clip, track * (size, size, size, 1, 1), strict=True):
            if visible:
                _paint(frame, thing, colour, (x, y), radius, angle)
    return clip


def write_video(clip: np.ndarray, path: Path) -> None:
    """Encode (frames, height, width, 3) uint8 RGB as MPEG-4 in mp4; one thread, so the bytes are reproducible."""
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=FRAMES_PER_SECOND)
        stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], "yuv420p"
        stream.options = {"flags": "+bitexact+qscale", "global_quality": "236"}  # 2 x FF_QP2LAMBDA
        stream.codec_context.thread_count = 1
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_image(picture: np.ndarray, path: Path) -> None:
    """Write (height, width, 3) uint8 RGB as JPEG."""
    bgr = np.ascontiguousarray(picture[:, :, ::-1])
    path.write_bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())


def _background(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """A plain background whose light fades slightly across the picture."""
    slope_x, slope_y = rng.uniform(-14, 14, 2)
    across = np.linspace(-0.5, 0.5, size)
    light = slope_x * across[None, :] + slope_y * across[:, None] + rng.normal(0, 4)
    return np.clip(np.array(RGB[name]) + light[:, :, None], 0, 255).astype(np.uint8)


def _paint(frame: np.ndarray, thing: Thing, colour: np.ndarray, centre: tuple, radius: float, angle: float) -> None:
    """Blend one thing into a frame, touching only the pixels around it."""
    size = len(frame)
    x, y = centre
    reach = 1.3 * radius + 2
    left, top = (max(0, int(v - reach)) for v in (x, y))
    right, bottom = (min(size, int(v + reach) + 1) for v in (x, y))
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    corners = [outline @ turn * radius + (x - left, y - top) for outline in OUTLINES[thing.shape]]
    cv2.fillPoly(mask, [np.rint(c * 2**_SUBPIXEL).astype(np.int32) for c in corners], 255, cv2.LINE_AA, _SUBPIXEL)
    own = np.empty((*mask.shape, 2))
    own[..., 0], own[..., 1] = np.arange(left, right) - x, (np.arange(top, bottom) - y)[:, None]
    own = own @ turn.T / radius
    paint = colour * np.where(_dark(thing.texture, own), 0.22, 1.0)[:, :, None]
    alpha = (mask / 255.0)[:, :, None]
    spot = frame[top:bottom, left:right]
    spot[:] = np.rint(spot * (1 - alpha) + paint * alpha)


def _dark(texture: str, own: np.ndarray) -> np.ndarray:
    """Where a texture darkens the colour; ``own``: coordinates (h, w, 2) relative to the thing, in radii."""
    if texture == "striped":
        return (own[:, :, 1] * 1.5 + 0.25) % 1 < 0.42
    if texture == "dotted":
        return (((own * 1.35 + 0.5) % 1 - 0.5) ** 2).sum(-1) < 0.085
    return np.zeros(own.shape[:2], bool)
