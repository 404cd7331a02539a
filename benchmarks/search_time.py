"""A query against a gallery of a million embeddings of 256 dimensions: exact search, and the rank of one entry.

`.venv/bin/python benchmarks/search_time.py`; writes benchmarks/results/search_time.json. Compared with the plain way,
sorting all scores. Medians of 20 queries, random unit vectors.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ccr.artifacts.files import write_json
from ccr.search.index import Index

ITEMS, DIM, QUERIES, THREADS = 1_000_000, 256, 20, 2


def milliseconds(search: Callable[[torch.Tensor], object], queries: torch.Tensor) -> float:
    """Median time of a query."""
    taken = []
    for query in queries:
        begin = time.perf_counter()
        search(query)
        taken.append(1000 * (time.perf_counter() - begin))
    return round(statistics.median(taken), 1)


def main() -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    gallery = torch.nn.functional.normalize(torch.randn(ITEMS, DIM), dim=1)
    queries = torch.nn.functional.normalize(torch.randn(QUERIES, DIM), dim=1)
    index = Index(gallery.numpy())
    found = {
        "items": ITEMS,
        "dim": DIM,
        "threads": THREADS,
        "top_24_ms": milliseconds(lambda query: index.top(query, 24), queries),
        "rank_of_one_ms": milliseconds(lambda query: index.standing(query, 7), queries),
        "sorting_all_ms": milliseconds(lambda query: (gallery @ query).sort(descending=True), queries),
    }
    print(found)
    write_json(found, Path(__file__).parent / "results/search_time.json")


if __name__ == "__main__":
    main()
