"""Run an extractor on media files, each once: files in the item cache are not extracted again."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ccr import registry
from ccr.artifacts.code import code_hash
from ccr.artifacts.contents import content_hash
from ccr.artifacts.jobs import Job
from ccr.artifacts.room import room_for
from ccr.errors import CcrError
from ccr.features.cache import ItemCache
from ccr.features.items import Item
from ccr.features.pool import in_order
from ccr.media.decoding import File, Unreadable

AHEAD = 1000  # files that may be looked at before their turn

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What becomes of an item. `content`: hash of its file, if it has one; `reason`: why it has no features."""

    content: str | None
    reason: str | None = None


class Extraction:
    """A job's extractor and its cache.

    An extractor is a module of the registry with a class `Extractor(options, name, threads)`, which has

    - `metadata`: everything that its features depend on except the media file (`extractor`, `weights`, `preprocess`,
      `frame_sampling`), known without torch and before anything is extracted;
    - `extract(files)`: the result for each `File`, in order: features, float (frames, dim), or `Unreadable` with the
      reason.
    """

    def __init__(self, job: Job, name: str):
        """`name`: the extractor's name in params.yaml. Raises `CcrError` for bad options and missing models."""
        entry = registry.EXTRACTORS[job.settings["extractor"]]
        self._extractor = entry.load().Extractor(job.settings["options"], name, job.threads)
        self._job, self._setting = job, f"features.extractors.{name}"
        self.metadata: dict[str, str] = self._extractor.metadata
        self._caches = {kind: ItemCache(self.metadata, kind, code_hash(entry.module)) for kind in ("image", "video")}

    def extract(self, items: Sequence[Item], known: Mapping[tuple[str, str], str]) -> list[Outcome]:
        """Make sure that the cache has the features of every item with a readable file.

        Args:
            known: (kind, content hash) -> why such a file is unreadable, as found by other jobs.
        Raises `CcrError` for the first unreadable file under `on_unreadable: error`, for features that are not finite,
        and when the disk is full. Features extracted before the error are kept.
        """
        outcomes, missing = [], {}
        looked = in_order(self._look, items, self._job.threads, AHEAD)
        progress = tqdm(looked, f"{self._job.target}: files", len(items), unit="file", mininterval=1, delay=5)
        for item, (found, cached) in zip(items, progress, strict=True):
            outcome = found._replace(reason=found.reason or known.get((item.kind, found.content)))
            self._allow(item, outcome)
            outcomes.append(outcome)
            if not (cached or outcome.reason):
                missing[item.kind, found.content] = item  # identical files only once
        log.info("%s: %s items, %s files to extract", self._job.target, f"{len(items):,}", f"{len(missing):,}")
        refused = dict(self._fill(missing))
        return [
            outcome._replace(reason=outcome.reason or refused.get((item.kind, outcome.content)))
            for item, outcome in zip(items, outcomes, strict=True)
        ]

    def features(self, item: Item, outcome: Outcome) -> np.ndarray:
        """Float16 (frames, dim) from the cache."""
        cache = self._caches[item.kind]
        found = cache.get(outcome.content)
        if found is None:
            raise CcrError(f"{cache.folder}: the features of item {item.item_id!r} have gone from it. Run it again.")
        return found

    def _file(self, item: Item) -> File:
        return File(Path(self._job.inputs["root"], item.path), item.kind)

    def _look(self, item: Item) -> tuple[Outcome, bool]:
        """An item's outcome as far as it is known without decoding its file, and whether it is cached."""
        if item.path is None:
            return Outcome(None, "no media file is published for it"), False
        try:
            content = content_hash(self._file(item).path)
        except OSError as error:
            return Outcome(None, error.strerror or str(error)), False
        return Outcome(content), self._caches[item.kind].get(content) is not None

    def _fill(self, missing: Mapping[tuple[str, str], Item]) -> Iterator[tuple[tuple[str, str], str]]:
        """Extract into the cache; yield the unreadable files with their reasons."""
        if not missing:
            return
        results = self._extractor.extract(self._file(item) for item in missing.values())
        progress = tqdm(results, self._job.target, len(missing), unit="item", mininterval=1)
        told = False
        for ((kind, content), item), result in zip(missing.items(), progress, strict=True):
            if isinstance(result, Unreadable):
                self._allow(item, Outcome(content, str(result)))
                yield (kind, content), str(result)
            else:
                features = self._checked(item, result)
                if not told:  # estimated from the first one
                    room_for(self._caches[kind].folder, features.nbytes * len(missing), "the item cache")
                    told = True
                self._caches[kind].put(content, features)

    def _allow(self, item: Item, outcome: Outcome) -> None:
        if outcome.reason and self._job.settings["options"]["on_unreadable"] == "error":
            where = self._file(item).path if item.path else self._job.inputs["items"]
            raise CcrError(
                f"{where}: item {item.item_id!r} cannot be read: {outcome.reason}. Fix the file, or set "
                f"{self._setting}.on_unreadable: drop to leave such items out."
            )

    def _checked(self, item: Item, features: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            features = features.astype(np.float16)
        if not np.isfinite(features).all():
            raise CcrError(
                f"{self._file(item).path}: features of item {item.item_id!r} hold NaN, infinity or values beyond "
                f"float16 (65504). Look at the model of {self._setting} and its precision."
            )
        return features
