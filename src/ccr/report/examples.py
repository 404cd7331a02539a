"""What the runs retrieve: queries with the five nearest items according to two methods."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ccr.artifacts.jobs import Job
from ccr.artifacts.schemas import RUN_FILES
from ccr.media.decoding import Unreadable, read_image, read_video, upright
from ccr.media.sampling import Sampling
from ccr.report.group import Group
from ccr.search.collection import open_collection
from ccr.search.searcher import Searcher

SHOWN, FIXED, EXTREMES = 5, 10, 5
SIDE = 112  # pixels of a thumbnail


@dataclass(frozen=True)
class Found:
    """A retrieved item. `picture`: a data URI, None without a readable file; `text`: a caption in `lang`."""

    item_id: str
    score: float
    right: bool
    picture: str | None
    text: str
    lang: str


@dataclass(frozen=True)
class Example:
    """A query. `answers`: method -> (rank of its item, the nearest items)."""

    query: str
    translation: str | None
    item_id: str
    answers: dict[str, tuple[int, list[Found]]]


class Examples:
    """Queries of a group's test set, answered by the first seeds of `group.compared`."""

    def __init__(self, group: Group, batch: int):
        self._group = group
        self._rows = group.compared
        jobs = [group.job(row) for row in self._rows]
        features = jobs[0].inputs["features"]
        collection = open_collection(features, group.plan.jobs.get(features), "test")
        named = zip((row.settings["method"] for row in self._rows), jobs, strict=True)
        self._searchers = [Searcher(name, _files(job), collection, batch) for name, job in named]
        self._pictures: dict[int, str | None] = {}
        self._captions = {c.row: (c.text, c.lang) for c in reversed(collection.captions)}
        self._ranks = [group.ranks(row).iloc[:, 0] for row in self._rows]

    @property
    def methods(self) -> list[str]:
        """The two methods: the baseline and the other one."""
        return [searcher.name for searcher in self._searchers]

    def fixed(self) -> list[Example]:
        """Randomly chosen queries, the same ones in every run of the report."""
        ids = self._group.captions.index
        chosen = np.random.default_rng(0).permutation(len(ids))[:FIXED]
        return [self._example(ids[n]) for n in sorted(chosen)]

    def worst(self) -> list[Example]:
        """The queries whose item the second method ranks last."""
        return self._examples(self._ranks[1].sort_values(ascending=False, kind="stable"))

    def improved(self) -> list[Example]:
        """The queries whose item rises most from the first method to the second."""
        return self._examples((self._ranks[1] - self._ranks[0]).sort_values(kind="stable"))

    def _examples(self, ordered: pd.Series) -> list[Example]:
        return [self._example(caption) for caption in ordered.index[:EXTREMES]]

    def _example(self, caption: str) -> Example:
        item, text = self._group.captions.loc[caption, ["item_id", "text"]]
        answers = {}
        for searcher, ranks in zip(self._searchers, self._ranks, strict=True):
            hits = searcher.search(text, SHOWN)
            found = [
                Found(h.item_id, h.score, h.item_id == item, self._picture(h.row), *self._captions.get(h.row, ("", "")))
                for h in hits
            ]
            answers[searcher.name] = (int(ranks[caption]), found)
        translated = self._group.translated
        return Example(text, None if translated is None else translated.get(caption), item, answers)

    def _picture(self, row: int) -> str | None:
        if row not in self._pictures:
            collection = self._searchers[0].collection
            file = collection.file(row)
            self._pictures[row] = thumbnail(file, collection.kind(row)) if file else None
        return self._pictures[row]

    def embeddings(self) -> tuple[np.ndarray, np.ndarray, Sequence[str]]:
        """Of the second method: items (n, dim) and captions (m, dim) of the collection, and the captions' languages."""
        searcher = self._searchers[1]
        return searcher.items, searcher.texts, [c.lang for c in searcher.collection.captions]


def thumbnail(file: Path, kind: str) -> str | None:
    """A small JPEG of a picture, or of a clip's middle frame, as a data URI; None for a file that cannot be read."""
    try:
        if kind == "video":
            pixels = read_video(
                file, Sampling(frames=1), lambda frame: upright(frame.to_ndarray(format="rgb24"), frame)
            )[0]
        else:
            pixels = read_image(file, np.asarray, (2 * SIDE, 2 * SIDE))[0]
    except Unreadable:
        return None
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _files(job: Job) -> dict[str, str]:
    return {role: job.inputs[role] for role in RUN_FILES}
