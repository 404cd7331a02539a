"""features: images, videos or a published dump -> one features file per data set and extractor.

An extractor is a module of the registry with one function

    extract(items, root, options, *, name, threads) -> (metadata, results)

`items`: list of `Item`, ascending by item_id; `root`: the raw data's folder; `options`: its registry options;
`name`: what params.yaml calls it. `metadata`: `extractor`, `weights`, `preprocess`, `frame_sampling`.
`results`: for every item, in order, its features (float (frames, dim)) or, as a string, why it is left out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ccr import artifacts, registry, store


class Item(NamedTuple):
    """An image or a video; `path` is relative to the root, None when no media file is published."""

    item_id: str
    path: str | None
    kind: str


def run(job: artifacts.Job) -> None:
    """Write `features` and `rejected` (always, perhaps empty) of one data set by one extractor."""
    columns = ["item_id", "path", "kind"]
    table = artifacts.read_parquet(job.inputs["items"], columns=columns).sort_by("item_id")
    items = [Item(*row) for row in zip(*(table[name].to_pylist() for name in columns), strict=True)]
    extractor = registry.EXTRACTORS[job.settings["extractor"]].load()
    metadata, results = extractor.extract(
        items,
        Path(job.inputs["root"]),
        job.settings["options"],
        name=Path(job.outputs["features"]).stem,
        threads=job.threads,
    )
    rejected: list[tuple[Item, str]] = []

    def accepted() -> Iterator[tuple[str, np.ndarray]]:
        progress = tqdm(zip(items, results, strict=True), job.target, len(items), unit="item", mininterval=1)
        for item, result in progress:
            if isinstance(result, str):
                rejected.append((item, result))
            else:
                yield item.item_id, result

    store.write_features(job.outputs["features"], accepted(), metadata=metadata, key=job.key)
    artifacts.write_parquet(
        {
            "item_id": [item.item_id for item, _ in rejected],
            "path": [item.path for item, _ in rejected],
            "reason": [reason for _, reason in rejected],
        },
        job.outputs["rejected"],
        artifacts.REJECTED,
        key=job.key,
    )
