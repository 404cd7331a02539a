"""Roughly how much disk space a job takes, including its copy in the memo. Errs on the low side; takes seconds.

Measured on the mini-world, and by arithmetic: float16 values of features and states, float32 weights. Sizes that
depend on the number of items or captions of official data are unknown until these are imported.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ccr.artifacts.files import read_json
from ccr.artifacts.jobs import Job
from ccr.artifacts.schemas import SPLITS

COPIES = 2  # a result and its copy in the memo
PIXEL = {"video": 0.14, "image": 0.5}  # bytes of the mini-world's media per pixel of each frame
PACKED = {"descriptor": 0.3}  # size of features in their file, as a share of the array's; .9 for others
CAPTION, STATES = 80, 15  # bytes per caption in a file; tokens per caption
DIM = {"descriptor": 84, "image_model": 768, "video_model": 768, "published": 1024}  # per frame; descriptor: per cell
WEIGHTS = 100e6  # values that a run stores for a pretrained encoder that is not fully frozen


class Estimate:
    """Sizes of the jobs of a plan; the number of items is looked up once per data set."""

    def __init__(self, jobs: Iterable[Job]):
        self._worlds = {job.target: job.settings for job in jobs if job.stage == "world"}
        self._counts: dict[str, tuple[int, int] | None] = {}

    def bytes(self, job: Job) -> float | None:
        """Bytes that a job will write and leave on disk; None if its data are not there yet."""
        if job.stage == "world":
            return self._world(job.settings)
        if job.module == "ccr.train":
            return self._training(job.settings)
        if job.stage in ("evaluate", "tables"):
            return 0.5e6 * COPIES
        counts = self._count(job)
        if counts is None:
            return None
        items, captions = counts
        if job.module == "ccr.states":
            return captions * STATES * _width(job.settings["text"]) * 2
        if job.stage == "features":
            return items * self._feature(job.settings)
        return captions * CAPTION * COPIES

    @staticmethod
    def _world(settings: dict[str, Any]) -> float:
        items = sum(settings[split] for split in SPLITS)
        pixels = settings["frames"] * settings["size"] ** 2
        return COPIES * items * (pixels * PIXEL[settings["kind"]] + settings["captions"] * CAPTION)

    def _count(self, job: Job) -> tuple[int, int] | None:
        """Number of items and captions of a job's data set."""
        paths = (Path(path).parts for path in (*job.outputs.values(), *job.prerequisites()))
        data = next(parts[1] for parts in paths if parts[0] == "data" and parts[1] != "raw")
        if data not in self._counts:
            self._counts[data] = self._counted(data)
        return self._counts[data]

    def _counted(self, data: str) -> tuple[int, int] | None:
        if world := self._worlds.get(f"data/raw/{data}"):
            items = sum(world[split] for split in SPLITS)
            return items, items * world["captions"] * len(world["langs"])
        files = [Path("data", data, name) for name in ("items.parquet", "captions.parquet")]
        if not all(file.is_file() for file in files):
            return None
        from pyarrow.parquet import read_metadata  # only if there is something to read

        items, captions = (read_metadata(file).num_rows for file in files)
        return items, captions

    @staticmethod
    def _feature(settings: dict[str, Any]) -> float:
        """Bytes per item: its features in their file and in the memo, as an array, and in the item cache."""
        options, kind = settings["options"], settings["extractor"]
        frames = (options.get("frames") or options.get("max_frames") or 1) if settings["kind"] == "video" else 1
        dim = DIM.get(kind, 1024) * (options["grid"] ** 2 if kind == "descriptor" else 1)
        return 2 * dim * frames * (PACKED.get(kind, 0.9) * COPIES + 1 + (kind != "published"))

    @staticmethod
    def _training(settings: dict[str, Any]) -> float:
        """Weights and the files next to them. The checkpoint is gone when training is done."""
        network, text = settings["network"], settings["network"]["text"]
        if text["kind"] == "scratch":
            values = text["vocabulary"] * text["hidden"]
        else:
            values = 0 if text["frozen_layers"] == "all" else WEIGHTS
        values += network["dim"] * (network["visual"]["hidden"] + 768)
        return COPIES * (4 * values + 0.7e6)


def _width(text: dict[str, Any]) -> int:
    config = Path(text["encoder"], "config.json")
    return read_json(config).get("hidden_size", 768) if config.is_file() else 768
