"""Ranking a test set of 15,000 captions and 1,500 videos in both directions, similarity included.

Prints the seconds of this project's ranking (counting, in blocks) and, in the same run, of sorting the whole matrix,
next to the published NRCCR code's 9.5 s on 2 cores. The embeddings are random, since only time is measured. Writes
benchmarks/results/ranking.json.

    .venv/bin/python benchmarks/ranking.py [THREADS]
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ccr.artifacts.files import write_json
from ccr.retrieval.metrics import metrics
from ccr.retrieval.ranks import rank_both

PUBLISHED = 9.5  # seconds of the published code on a 2-core CPU
CAPTIONS, ITEMS = 15_000, 1_500


def by_sorting(captions: torch.Tensor, items: torch.Tensor, caption_item: np.ndarray) -> tuple[float, float]:
    """The naive way: sort every row and column of the matrix; R@1 of both directions."""
    order = (captions @ items.T).argsort(dim=1, descending=True).numpy()
    found = (order == caption_item[:, None]).argmax(axis=1)
    back = (items @ captions.T).argsort(dim=1, descending=True).numpy()
    first = (caption_item[back] == np.arange(len(items))[:, None]).argmax(axis=1)
    return float(np.mean(found == 0)), float(np.mean(first == 0))


def seconds(function: Callable) -> float:
    """Best of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return round(min(times), 2)


def main(threads: int = 2) -> None:
    """Measure, print and write."""
    torch.set_num_threads(threads)
    caption_item = np.arange(CAPTIONS) % ITEMS
    result: dict = {"threads": threads, "captions": CAPTIONS, "items": ITEMS, "published_s": PUBLISHED}
    for dim in (256, 1536):
        generator = torch.Generator().manual_seed(0)
        captions, items = (
            torch.nn.functional.normalize(torch.randn(n, dim, generator=generator), dim=1) for n in (CAPTIONS, ITEMS)
        )
        ours = seconds(lambda c=captions, i=items: metrics(*rank_both(c, i, caption_item)))
        naive = seconds(lambda c=captions, i=items: by_sorting(c, i, caption_item))
        ratios = {"ratio_to_sorting": round(naive / ours, 1), "ratio_to_published": round(PUBLISHED / ours, 1)}
        result[f"dim_{dim}"] = {"seconds": ours, "sorting_seconds": naive, **ratios}
    print(result)
    write_json(result, Path(__file__).parent / "results/ranking.json")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
