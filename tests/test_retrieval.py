"""Ranks, metrics and fusion against a plain-Python oracle and published numbers, and what must not change them."""

import json
import math
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr.errors import CcrError
from ccr.retrieval import ranks as ranks_module
from ccr.retrieval.fusion import min_max, rank_fused, standardise
from ccr.retrieval.metrics import METRICS, chance_sumr, metrics
from ccr.retrieval.ranks import rank, rank_both, rank_similarity

REFERENCE = Path(__file__).parents[2] / "shared/reference/nrccr"


def oracle(similarity, query_item, gallery_item):
    """First rank, AP and nDCG@10 by sorting each row, irrelevant first among equals."""
    for row, item in zip(similarity, query_item, strict=True):
        order = sorted(range(len(row)), key=lambda j: (-row[j], gallery_item[j] == item))
        hits = [position for position, j in enumerate(order, start=1) if gallery_item[j] == item]
        ideal = sum(1 / math.log2(position + 1) for position in range(1, min(len(hits), 10) + 1))
        yield (
            hits[0],
            sum(n / position for n, position in enumerate(hits, start=1)) / len(hits),
            sum(1 / math.log2(position + 1) for position in hits if position <= 10) / ideal,
        )


@st.composite
def problems(draw):
    """A similarity matrix with many ties, items with uneven numbers of gallery entries, shuffled."""
    n_items = draw(st.integers(1, 6))
    counts = draw(st.lists(st.integers(1, 40), min_size=n_items, max_size=n_items))
    gallery_item = draw(st.permutations([item for item, count in enumerate(counts) for _ in range(count)]))
    query_item = draw(st.lists(st.integers(0, n_items - 1), min_size=1, max_size=8))
    levels = draw(st.integers(1, 50))
    seed = draw(st.integers(0, 2**32 - 1))
    scores = np.random.default_rng(seed).integers(0, levels, (len(query_item), len(gallery_item))) / 7
    return scores, np.array(query_item) * 3, np.array(gallery_item) * 3


@settings(deadline=None, max_examples=150)
@given(problems())
def test_ranks_equal_a_plain_sort(problem):
    found = rank_similarity(*problem)
    first, ap, ndcg10 = map(list, zip(*oracle(*(side.tolist() for side in problem)), strict=True))
    assert found.first.tolist() == first
    np.testing.assert_allclose(found.ap, ap, rtol=1e-12)
    np.testing.assert_allclose(found.ndcg10, ndcg10, rtol=1e-12)


@settings(deadline=None, max_examples=30)
@given(problems(), st.integers(0, 2**32 - 1))
def test_gallery_order_does_not_matter(problem, seed):
    scores, query_item, gallery_item = problem
    order = np.random.default_rng(seed).permutation(len(gallery_item))
    one, other = rank_similarity(*problem), rank_similarity(scores[:, order], query_item, gallery_item[order])
    assert np.array_equal(one.first, other.first)
    assert np.array_equal(one.ap, other.ap)


def test_blocks_do_not_matter(monkeypatch):
    captions, items, caption_item = random_test_set()
    whole = rank_both(captions, items, caption_item)
    monkeypatch.setattr(ranks_module, "BLOCK", 1)
    for one, other in zip(whole, rank_both(captions, items, caption_item), strict=True):
        assert np.array_equal(one.first, other.first)
        assert np.array_equal(one.ap, other.ap)


def random_test_set(n_items=23, dim=12, seed=0):
    """Embeddings of items and of one to four captions for each, in random order."""
    generator = np.random.default_rng(seed)
    items = generator.normal(size=(n_items, dim)).astype(np.float32)
    caption_item = generator.permutation(np.repeat(np.arange(n_items), generator.integers(1, 5, n_items)))
    noise = generator.normal(size=(len(caption_item), dim)).astype(np.float32)
    return items[caption_item] + 2 * noise, items, caption_item


def test_both_directions_equal_the_oracle():
    captions, items, caption_item = random_test_set()
    similarity = (captions.astype(np.float64) @ items.astype(np.float64).T).astype(np.float32)
    item = np.arange(len(items))
    text, visual = rank_both(captions, items, caption_item)
    assert text.first.tolist() == [r[0] for r in oracle(similarity.tolist(), caption_item, item)]
    assert visual.first.tolist() == [r[0] for r in oracle(similarity.T.tolist(), item, caption_item)]
    numbers = metrics(text, visual)
    assert tuple(numbers) == METRICS
    assert numbers["t2v_r5"] == pytest.approx(100 * np.mean(text.first <= 5))
    assert numbers["v2t_medr"] == median(visual.first)
    recalls = [numbers[f"{direction}_r{k}"] for direction in ("t2v", "v2t") for k in (1, 5, 10)]
    assert numbers["sumr"] == pytest.approx(sum(recalls))


def test_counts_beyond_what_half_precision_can_count():
    found = rank_similarity(torch.zeros(1, 5001, dtype=torch.float16), np.zeros(1), np.arange(5001))
    assert found.first.tolist() == [5001]


def test_a_collapsed_model_ranks_last():
    one = np.random.default_rng(0).normal(size=(1, 1537)).astype(np.float32)
    text, visual = rank_both(np.repeat(one, 777, axis=0), np.repeat(one, 259, axis=0), np.arange(777) // 3)
    assert set(text.first) == {259}
    assert set(visual.first) == {777 - 3 + 1}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("side", "row"), [("caption", 5), ("item", 2)])
def test_nan_is_an_error_that_names_the_row(side, row, bad):
    captions, items, caption_item = random_test_set()
    (captions if side == "caption" else items)[row, 3] = bad
    with pytest.raises(CcrError, match=f"{side} embeddings.*first row {row}"):
        rank_both(captions, items, caption_item)


def test_nan_in_a_given_similarity_is_an_error():
    similarity = np.zeros((3, 3))
    similarity[1, 2] = np.nan
    with pytest.raises(CcrError, match="query row 1 and gallery row 2 is nan"):
        rank_similarity(similarity, np.arange(3), np.arange(3))


def test_overflow_is_an_error():
    huge = np.full((2, 2), 1e30, dtype=np.float32)
    with pytest.raises(CcrError, match="query row 0 and gallery row 0 is inf"):
        rank(huge, huge, np.arange(2), np.arange(2))


def test_a_query_without_a_relevant_entry_is_an_error():
    with pytest.raises(CcrError, match=r"query row 1 \(item 7\) has no relevant"):
        rank_similarity(np.zeros((2, 2)), np.array([0, 7]), np.array([0, 1]))
    with pytest.raises(CcrError, match="Nothing to rank"):
        rank_similarity(np.zeros((0, 2)), np.array([], dtype=int), np.array([0, 1]))


def test_item_ids_must_fit_the_similarity():
    with pytest.raises(CcrError, match=r"shape \(2, 3\)"):
        rank_similarity(np.zeros((2, 3)), np.arange(2), np.arange(2))


def test_chance_is_what_random_orders_give():
    captions_per_item = [1, 2, 3, 30]
    assert chance_sumr([1]) == 600
    caption_item = np.repeat(np.arange(4), captions_per_item)
    generator, sums = np.random.default_rng(0), []
    for _ in range(2000):
        similarity = generator.permuted(np.arange(36 * 4)).reshape(36, 4)
        text = rank_similarity(similarity, caption_item, np.arange(4))
        visual = rank_similarity(similarity.T, np.arange(4), caption_item)
        sums.append(metrics(text, visual)["sumr"])
    assert np.mean(sums) == pytest.approx(chance_sumr(captions_per_item), abs=4 * np.std(sums) / 2000**0.5)


def test_standardise():
    rows = standardise(np.array([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0], [0.1, 0.1, 0.1]]))
    np.testing.assert_allclose(rows[0].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(rows[0].std(unbiased=False), 1)
    assert rows[1:].tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("scaling", ["standardise", "min_max"])
def test_fusion_in_blocks_is_fusion_of_matrices(monkeypatch, scaling):
    monkeypatch.setattr(ranks_module, "BLOCK", 50)
    captions, items, caption_item = random_test_set(seed=1)
    translated = captions + np.random.default_rng(2).normal(size=captions.shape).astype(np.float32)
    item = np.arange(len(items))

    def similarity(queries, gallery):
        return (torch.tensor(queries).double() @ torch.tensor(gallery).double().T).float()

    blocks = rank_fused([(0.8, items, captions), (0.2, items, translated)], item, caption_item, scaling)
    scale = {"standardise": standardise, "min_max": min_max}[scaling]
    matrices = 0.8 * scale(similarity(items, captions)) + 0.2 * scale(similarity(items, translated))
    assert np.array_equal(blocks.first, rank_similarity(matrices, item, caption_item).first)


def test_fusing_with_a_constant_matrix_changes_no_rank():
    captions, items, caption_item = random_test_set()
    similarity = captions @ items.T
    fused = 0.8 * standardise(similarity) + 0.2 * standardise(np.ones_like(similarity))
    alone, fused = (rank_similarity(scores, caption_item, np.arange(len(items))) for scores in (similarity, fused))
    assert np.array_equal(alone.first, fused.first)


@pytest.fixture(scope="module")
def published():
    """Error matrices and metric values of the NRCCR authors' code."""
    if not REFERENCE.is_dir():
        pytest.skip(f"{REFERENCE} is absent: the published code's metrics cannot be compared")
    return np.load(REFERENCE / "metrics.npz"), json.loads((REFERENCE / "metrics_expected.json").read_text())


def test_untied_metrics_equal_the_published_code(published):
    arrays, expected = published
    untied = [case for case, values in expected.items() if not values["tied"]]
    assert untied
    for case in untied:
        errors, caption_item = arrays[f"{case}/errors"], arrays[f"{case}/gt_video_of_caption"]
        item = np.arange(errors.shape[1])
        found = metrics(rank_similarity(-errors, caption_item, item), rank_similarity(-errors.T, item, caption_item))
        for name, value in expected[case]["reference"].items():
            scale = 100 if name.endswith("map") else 1
            assert found[name] == pytest.approx(scale * value, abs=1e-9), (case, name)


def test_nan_that_the_published_code_scores_is_an_error(published):
    arrays, _ = published
    for case in ("tie_nan_big", "tie_nan_rows"):
        with pytest.raises(CcrError, match="nan"):
            rank_similarity(-arrays[f"{case}/errors"], arrays[f"{case}/gt_video_of_caption"], np.arange(150))


def test_tied_metrics_are_the_published_code_s_worst_case(published):
    arrays, expected = published
    for case in [case for case, values in expected.items() if values["tied"] and "nan" not in case]:
        errors, caption_item = arrays[f"{case}/errors"], arrays[f"{case}/gt_video_of_caption"]
        item = np.arange(errors.shape[1])
        found = metrics(rank_similarity(-errors, caption_item, item), rank_similarity(-errors.T, item, caption_item))
        for name, value in expected[case]["rank_worst"].items():
            assert found[name] == pytest.approx(value, abs=1e-9), (case, name)
