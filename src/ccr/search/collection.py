"""What is searched: the items of a features file, with their media files and captions if there are any."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.errors import CcrError
from ccr.media.decoding import File, Unreadable
from ccr.registry import EXTRACTORS

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Caption:
    """A caption that a person wrote. `row`: the row of its item in the collection."""

    caption_id: str
    lang: str
    text: str
    row: int


@dataclass(frozen=True)
class Collection:
    """Items, in the order of their ids.

    `features`: their features file. `item_ids` (N,). `media`: item id -> path of its file under `root`, and `kind`.
    `captions`: all human captions. `job`: the extraction job, None for features that params.yaml does not know.
    """

    features: str
    item_ids: list[str]
    root: Path | None = None
    media: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    captions: list[Caption] = field(default_factory=list)
    job: Job | None = None

    def file(self, row: int) -> Path | None:
        """The media file of an item; None if there is none, or its path or a link leads outside the root."""
        path = self.media.get(self.item_ids[row], (None, ""))[0]
        if path is None or self.root is None:
            return None
        root, file = self.root.resolve(), (self.root / path).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None

    def kind(self, row: int) -> str:
        """`image` or `video`."""
        return self.media.get(self.item_ids[row], ("", "image"))[1]

    @property
    def extracts(self) -> bool:
        """Whether features of new pictures can be computed as the collection's were."""
        return self.job is not None and EXTRACTORS[self.job.settings["extractor"]].remembered

    def extract(self, file: Path, kind: str) -> np.ndarray:
        """Features (frames, dim) of a user's own picture or clip, computed as the collection's were.

        Raises `CcrError` if those were not computed here, or the file cannot be read.
        """
        if not self.extracts:
            raise CcrError(
                f"{self.features}: these features came with the data set, so none can be made of a new picture. "
                "Search a collection with an extractor that computes (docs/features.md)."
            )
        [features] = self._extractor.extract([File(file, kind)])
        if isinstance(features, Unreadable):
            raise CcrError(f"This file cannot be read: {features}.")
        return features

    @cached_property
    def _extractor(self) -> Any:
        settings, name = self.job.settings, Path(self.job.target).stem
        return EXTRACTORS[settings["extractor"]].load().Extractor(settings["options"], name, 1)


def open_collection(features: str, job: Job | None, split: str) -> Collection:
    """The items of a features file that belong to `split` (`all` for every item).

    Args:
        job: the job of the plan that makes the file; without it, only ids are known and every item is searched.
    Raises:
        CcrError: a file cannot be read; the split does not exist or has no items.
    """
    ids = read_parquet(features, columns=["item_id"])["item_id"]
    if job is None:
        if split != "all":
            raise CcrError(f"{features}: no data set of params.yaml, so it has no splits. Give --split all.")
        return Collection(features, ids.to_pylist())
    if split not in (*SPLITS, "all"):
        raise CcrError(f"--split {split}: expected one of {', '.join(SPLITS)}, or all.")
    items = read_parquet(job.inputs["items"], columns=["item_id", "split", "path", "kind"])
    chosen = items if split == "all" else items.filter(pc.equal(items["split"], split))
    have = set(chosen["item_id"].to_pylist())
    item_ids = [item for item in ids.to_pylist() if item in have]
    if not item_ids:
        raise CcrError(f"{features}: no items of the split {split}. Choose another one with --split.")
    columns = (chosen[name].to_pylist() for name in ("item_id", "path", "kind"))
    media = {item: (path, kind) for item, path, kind in zip(*columns, strict=True) if path is not None}
    file = Path(job.inputs["items"]).with_name("captions.parquet")
    return Collection(features, item_ids, Path(job.inputs["root"]), media, _captions(file, item_ids), job)


def _captions(file: Path, item_ids: list[str]) -> list[Caption]:
    rows = dict(zip(item_ids, range(len(item_ids)), strict=True))
    table = read_parquet(file, CAPTIONS, columns=["caption_id", "item_id", "lang", "text", "origin"])
    table = table.filter(pc.equal(table["origin"], "human"))
    columns = (table[name].to_pylist() for name in ("caption_id", "lang", "text", "item_id"))
    return [Caption(*found, rows[item]) for *found, item in zip(*columns, strict=True) if item in rows]


def samples(captions: list[Caption], count: int = 8) -> list[Caption]:
    """Some captions of each language to try: the same ones every time, at most one per item."""
    chosen: list[Caption] = []
    for lang in sorted({caption.lang for caption in captions}):
        of_lang = [caption for caption in captions if caption.lang == lang]
        order = np.random.default_rng(0).permutation(len(of_lang))
        first = {of_lang[n].row: of_lang[n] for n in reversed(order)}
        chosen += list(first.values())[-count:]
    return chosen
