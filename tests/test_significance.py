"""The paired test: contributions add up to SumR, p values are those of the exact test, Holm is Holm."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccr.retrieval.metrics import metrics
from ccr.retrieval.ranks import Ranks
from ccr.tables.significance import SMALLEST, contributions, holm, sign_flip


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_contributions_add_up_to_sumr(captions_per_item, seed):
    generator = np.random.default_rng(seed)
    n_items = len(captions_per_item)
    caption_item = generator.permutation(np.repeat(np.arange(n_items), captions_per_item))
    text = generator.integers(1, 20, len(caption_item))
    visual = generator.integers(1, 20, n_items)
    score = contributions(text, caption_item, visual, np.arange(n_items), n_items)
    none = np.zeros(1)
    assert score.sum() == pytest.approx(metrics(Ranks(text, none, none), Ranks(visual, none, none))["sumr"])


def test_contribution_of_one_item():
    # item 0: two of the three captions, at ranks 1 (three hits) and 6 (one hit); as a query, rank 2 (two hits)
    score = contributions([1, 6, 11], [0, 0, 1], [2, 30], [0, 1], 2)
    assert score.tolist() == pytest.approx([100 * 4 / 3 + 100 * 2 / 2, 0])


def test_p_value_is_close_to_the_exact_test():
    differences = np.array([3.0, -1.0, 2.0, 2.0, 0.0, 4.0, -2.0, 1.0])
    sums = [abs(np.dot(signs, differences)) for signs in product([-1, 1], repeat=len(differences))]
    exact = np.mean([value >= abs(differences.sum()) for value in sums])
    assert sign_flip(differences, draws=40_000)[0] == pytest.approx(exact, abs=0.01)


def test_p_values_do_not_depend_on_the_other_rows_or_the_sign():
    differences = np.random.default_rng(1).normal(0.1, 1, (5, 200))
    together = sign_flip(differences)
    assert together.tolist() == [sign_flip(row)[0] for row in differences]
    assert together.tolist() == sign_flip(-differences).tolist()


def test_no_difference_is_p_one_and_a_clear_one_is_the_smallest():
    p = sign_flip(np.stack([np.zeros(100), np.full(100, 0.3)]))
    assert p.tolist() == [1.0, 1 / 10_001]


def test_p_values_are_uniform_when_nothing_differs():
    p = sign_flip(np.random.default_rng(0).normal(size=(400, 60)), draws=2000)
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(p < 0.5) == pytest.approx(0.5, abs=0.08)


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_a_p_at_the_floor_of_the_resampling_is_a_bound():
    assert sign_flip(np.ones(200))[0] == SMALLEST
    assert sign_flip(np.r_[np.ones(100), -np.ones(101)])[0] > SMALLEST
