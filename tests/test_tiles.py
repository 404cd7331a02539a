"""Ranks from embeddings, tile by tile: against exact arithmetic, with any tiles, within a memory limit."""

import math
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr.errors import CcrError
from ccr.retrieval import tiles
from ccr.retrieval.ranks import rank, rank_similarity


@contextmanager
def computed(side, threads=1, few=tiles.FEW, close=tiles.CLOSE):
    """Tiles of another size, on another number of threads, with other thresholds."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with (
            patch.dict(tiles.SIDE, cpu=side, cuda=side),
            patch.object(tiles, "FEW", few),
            patch.object(tiles, "CLOSE", close),
        ):
            yield
    finally:
        torch.set_num_threads(before)


def exact(queries, gallery):
    """Scores by exact sums: products of float32 are exact in float64, and `fsum` rounds once."""
    products = queries.astype(np.float64)[:, None] * gallery.astype(np.float64)[None]
    return np.array([[math.fsum(terms) for terms in row] for row in products]).astype(np.float32)


def one_step(embeddings, generator):
    """One coordinate of each row moved to the next float (unless 0): a step that float32 products do not resolve."""
    moved = embeddings.copy()
    index = np.arange(len(moved)), generator.integers(0, moved.shape[1], len(moved))
    moved[index] = np.where(moved[index] == 0, 0, np.nextafter(moved[index], np.float32(np.inf)))
    return moved


@st.composite
def problems(draw):
    """Queries and gallery with ties, near ties and duplicates, in scales that overflow or vanish in float32.

    They have so few digits that sums in float64 are exact in any order.
    """
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_queries, n_gallery, dim = draw(st.integers(1, 9)), draw(st.integers(1, 30)), draw(st.integers(1, 40))
    kind = draw(st.sampled_from(["levels", "normal", "one row", "zeros among them"]))
    draws = generator.integers(-2, 3, (n_queries + n_gallery, dim)) if kind == "levels" else None
    rows = generator.normal(size=(n_queries + n_gallery, dim)) * 64 if draws is None else draws
    rows = rows.round().astype(np.float32) * np.float32(2) ** draw(st.sampled_from([0, -66, 53]))
    if kind == "one row":
        rows[:] = rows[0]
    if kind == "zeros among them":
        rows[generator.random(len(rows)) < 0.3] = 0
    if draw(st.booleans()):
        rows[n_queries:] = rows[n_queries]
        rows[n_queries::2] = one_step(rows[n_queries::2], generator)
    n_items = draw(st.integers(1, n_gallery))
    gallery_item = generator.permutation(np.arange(n_gallery) % n_items)
    return rows[:n_queries], rows[n_queries:], generator.integers(0, n_items, n_queries), gallery_item


ways = st.builds(
    computed, st.integers(1, 12), st.integers(1, 3), st.sampled_from([1, 25]), st.sampled_from([0, 1 / 64, 1])
)


@settings(deadline=None, max_examples=200)
@given(problems(), ways)
def test_ranks_equal_those_of_exact_scores(problem, way):
    queries, gallery, query_item, gallery_item = problem
    expected = rank_similarity(exact(queries, gallery), query_item, gallery_item)
    with way:
        found = rank(*problem)
    for measure in ("first", "ap", "ndcg10"):
        assert np.array_equal(getattr(found, measure), getattr(expected, measure)), measure


@pytest.fixture(scope="module")
def near_ties():
    """300 queries, each with two relevant entries among 2,000 whose scores differ in the last digits."""
    generator = np.random.default_rng(0)
    centre = generator.normal(size=(1, 200)).astype(np.float32)
    gallery = one_step(one_step(np.repeat(centre, 2000, axis=0), generator), generator)
    gallery[1000:] = gallery[:1000]
    queries = centre + generator.normal(size=(300, 200)).astype(np.float32)
    return queries, gallery, np.arange(300), np.arange(2000) % 1000


def test_near_ties_that_a_float32_product_gets_wrong(near_ties):
    queries, gallery, query_item, gallery_item = near_ties
    right = rank_similarity(exact(queries[:20], gallery), query_item[:20], gallery_item)
    assert np.array_equal(rank(queries[:20], *near_ties[1:2], query_item[:20], gallery_item).first, right.first)
    product = rank_similarity(queries[:20] @ gallery.T, query_item[:20], gallery_item)
    assert np.mean(product.first != right.first) > 0.5


@pytest.mark.parametrize(("side", "threads", "close"), [(7, 1, 1), (64, 3, 1 / 64), (5000, 2, 0)])
def test_tiles_and_threads_change_nothing(near_ties, side, threads, close):
    queries, gallery, query_item, gallery_item = near_ties
    whole = rank(*near_ties)
    order = np.random.default_rng(1).permutation(len(gallery))
    with computed(side, threads, close=close):
        found = rank(queries[:60], gallery[order], query_item[:60], gallery_item[order])
    assert np.array_equal(found.first, whole.first[:60])
    assert np.array_equal(found.ap, whole.ap[:60])


def test_a_query_is_measured_alike_beside_others_with_more_relevant_entries():
    generator = np.random.default_rng(0)
    queries, gallery = generator.normal(size=(40, 8)), generator.normal(size=(400, 8))
    item = np.r_[np.repeat(np.arange(39), 4), np.full(244, 39)]
    together = rank(queries, gallery, np.arange(40), item)
    for query in range(40):
        alone = rank(queries[query : query + 1], gallery, [query], item)
        assert (together.ap[query], together.ndcg10[query]) == (alone.ap[0], alone.ndcg10[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions(dtype):
    generator = np.random.default_rng(0)
    queries, gallery = generator.normal(size=(40, 30)).astype(dtype), generator.normal(size=(90, 30)).astype(dtype)
    gallery[45:] = gallery[:45]
    scores = np.array([[math.fsum(row) for row in q.astype(np.float64) * gallery] for q in queries])
    expected = rank_similarity(scores.astype(np.float32), np.arange(40), np.arange(90) % 45)
    with computed(16):
        assert np.array_equal(rank(queries, gallery, np.arange(40), np.arange(90) % 45).first, expected.first)


def test_a_reduced_precision_of_products_changes_nothing(near_ties):
    whole = rank(*near_ties)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert np.array_equal(rank(*near_ties).first, whole.first)
    finally:
        torch.set_float32_matmul_precision(before)


def test_threads_are_given_back(near_ties):
    with computed(64, threads=3):
        with pytest.raises(CcrError):
            rank(np.full((2, 2), 1e30), np.full((2, 2), 1e30), np.arange(2), np.arange(2))
        assert torch.get_num_threads() == 3


def test_overflow_names_the_row_in_its_tile():
    gallery = np.ones((9, 2), dtype=np.float32)
    gallery[7] = 3e38
    with computed(4), pytest.raises(CcrError, match="query row 5 and gallery row 7 is inf"):
        rank(np.concatenate([np.zeros((5, 2)), np.full((1, 2), 9.0)]), gallery, np.zeros(6), np.zeros(9))


@pytest.mark.parametrize(("queries", "gallery"), [((2, 3), (4, 5)), ((3, 3), (4, 3)), ((2, 3), (5, 3))])
def test_sizes_that_do_not_agree_are_an_error(queries, gallery):
    with pytest.raises(CcrError, match="one id per row and equal dimensions"):
        rank(np.zeros(queries), np.zeros(gallery), np.arange(2), np.arange(4))


LIMITED = """
import resource, sys
import numpy as np, torch
from ccr.retrieval.ranks import rank

torch.set_num_threads(2)
gallery = np.load(sys.argv[1], mmap_mode="r")
queries = np.array(gallery[:256]) + np.float32(0.1)
rank(queries, np.array(gallery[:3000]), np.arange(256), np.arange(3000))  # libraries are loaded, threads are there
status = open("/proc/self/status").read().split()
used = int(status[status.index("VmData:") + 1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(sys.argv[2]),) * 2)
try:
    np.array(gallery)
    sys.exit("the limit does not hold")
except MemoryError:
    print(rank(queries, gallery, np.arange(256), np.arange(len(gallery))).first.sum())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_memory_does_not_grow_with_a_mapped_gallery(tmp_path):
    # 205 MB of embeddings, 819 MB of similarities; 160 MB are allowed
    gallery = np.lib.format.open_memmap(tmp_path / "g.npy", "w+", np.float32, (800_000, 64))
    gallery[:] = np.tile(np.random.default_rng(0).normal(size=(8000, 64)).astype(np.float32), (100, 1))
    gallery.flush()
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "g.npy"), str(160 << 20)]
    source = str(Path(tiles.__file__).parents[2])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": source})
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 256 * 100  # every row occurs a hundred times, and ties count against it
