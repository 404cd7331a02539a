"""Pictures and videos, good and bad, and the stage `features` run on them."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from hand_made import hand_made
from hand_made import run as hand_made_run
from PIL import Image, ImageDraw

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import ITEMS
from ccr.params.entries import options_of
from ccr.registry import EXTRACTORS
from ccr.store import FeatureStore, open_features

Items = list[tuple[str, str | None, str]]


def write_video(
    path: Path, frames: int = 12, size: int = 64, colour=(220, 30, 30), times=None, rotation: int = 0, **options: str
) -> None:
    """A square that moves from left to right over a grey background, as H.264, 8 frames a second.

    `times`: when each frame is shown, in eighths of a second. `options`: the container's.
    """
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for step in range(frames):
            picture = np.full((size, size, 3), 120, np.uint8)
            left = step * (size - 16) // max(frames - 1, 1)
            picture[:16, left : left + 16] = colour
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (times or range(frames))[step], Fraction(1, 8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def drawn(seed, size=(320, 240)):
    """A picture with shapes in it, different for each seed."""
    generator = np.random.default_rng(seed)
    image = Image.fromarray(generator.integers(0, 255, (6, 8, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = generator.integers(0, size[0]), generator.integers(0, size[1])
        draw.ellipse([x, y, x + 60, y + 40], fill=tuple(generator.integers(0, 255, 3).tolist()))
    return image


def film(path, seeds, size=(320, 240)):
    """A video of one drawn picture per seed, 8 frames each."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for seed in seeds:
            frame = np.asarray(drawn(seed).resize(size))
            for _ in range(8):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def lefts(pictures: np.ndarray) -> np.ndarray:
    """Left edge of the red square in each picture (frames, height, width, 3)."""
    return np.array([int((picture[4, :, 0].astype(int) - picture[4, :, 1] > 90).argmax()) for picture in pictures])


def job(
    folder: Path,
    items: Items,
    extractor: str = "descriptor",
    threads: int = 1,
    name: str = "visual",
    root=None,
    **options,
) -> Job:
    """The features job of (item_id, path, kind) rows, with options completed as in the plan."""
    columns = {
        "item_id": [item for item, _, _ in items],
        "split": ["train"] * len(items),
        "path": [path for _, path, _ in items],
        "kind": [kind for _, _, kind in items],
    }
    write_parquet(columns, folder / "items.parquet", ITEMS)
    stem = f"{folder}/features/{name}"
    settings: dict[str, Any] = {"extractor": extractor}
    settings["options"] = options_of(EXTRACTORS[extractor], options, f"features.extractors.{name}")
    return hand_made(
        "features",
        f"{stem}.parquet",
        {"items": str(folder / "items.parquet"), "root": str(root or folder)},
        {"features": f"{stem}.parquet", "rejected": f"{stem}.rejected.parquet"},
        settings,
        threads=threads,
        key="the-key",
    )


def run(
    folder: Path, items: Items, extractor: str = "descriptor", **options
) -> tuple[FeatureStore, list[dict[str, Any]]]:
    """Run the stage; returns the opened store and the rejected rows."""
    made = job(folder, items, extractor, **options)
    hand_made_run(made)
    rejected = read_parquet(made.outputs["rejected"]).to_pylist()
    return open_features(made.outputs["features"], folder / "cache"), rejected


def rows_of(names) -> Items:
    """One item per file name, with the name as its id."""
    return [(str(name), name, "image" if name and name.endswith(("jpg", "png")) else "video") for name in names]


def bad_media(folder: Path) -> dict[str | None, str]:
    """Writes a readable `good.mp4` and all kinds of unreadable files; returns part of the expected reason of each."""
    write_video(folder / "good.mp4")
    for name in ("empty.mp4", "empty.jpg"):
        (folder / name).touch()
    (folder / "text.jpg").write_text("this is no picture")
    (folder / "text.mp4").write_text("this is no video" * 100)
    Image.effect_noise((200, 200), 50).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:2000])
    Image.fromarray(np.zeros((8, 8), np.float32)).save(folder / "float.tif")
    (folder / "float.tif").rename(folder / "float.jpg")
    write_video(folder / "whole.mp4", frames=200, movflags="faststart")
    whole = (folder / "whole.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: int(len(whole) * 0.7)])
    write_video(folder / "whole_too.mp4", frames=20)
    (folder / "no_index.mp4").write_bytes((folder / "whole_too.mp4").read_bytes()[:-200])
    _write_sound(folder / "sound.mp4")
    return {
        "cut.jpg": "truncated",
        "cut.mp4": "Invalid data",
        "empty.jpg": "not an image file",
        "empty.mp4": "Invalid data",
        "float.jpg": "no range",
        "missing.jpg": "No such file",
        "missing.mp4": "No such file",
        "no_index.mp4": "Invalid data",
        "sound.mp4": "no video stream",
        "text.jpg": "not an image file",
        "text.mp4": "Invalid data",
        None: "no media file is published",
    }


def _write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
