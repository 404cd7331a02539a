"""Translation variants with a filter: bad round trips are left out of training, or count less."""

import pyarrow as pa
import pytest
import torch
from hand_made import hand_made, run
from sacrebleu.metrics import CHRF

from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import CAPTIONS, WEIGHTS
from ccr.errors import CcrError
from ccr.objectives.step import Step
from ccr.registry import OBJECTIVES

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")

TEXTS = ["a red dog runs", "two cats sleep here", "a small green bird", "a red dog runs", "the last one"]
BACK = ["a red dog runs", "zzz qqq", "a little green bird", "nothing of it", "xyz"]
SPLITS = ["train", "train", "train", "train", "val"]


def rows(suffix, texts, lang, origin, parents):
    return [
        {
            "item_id": f"i{n}",
            "caption_id": f"i{n}{suffix}",
            "split": split,
            "lang": lang,
            "origin": origin,
            "engine": "e",
            "parent_id": None if parents is None else f"i{n}{parents}",
            "text": text,
        }
        for n, (text, split) in enumerate(zip(texts, SPLITS, strict=True))
    ]


SETTINGS = {"engine": "lexicon", "variant": "filtered", "source_lang": "en", "target_lang": "zh"}


def run_forward(**given):
    inputs = {name: f"{name}.parquet" for name in ("captions", "whole", "whole_back")}
    outputs = {"translations": "zh.parquet", "weights": "zh.weights.parquet"}
    settings = SETTINGS | {"filter": {"weight": 0.0} | given, "direction": "forward"}
    run(hand_made("translate", "zh.parquet", inputs, outputs, settings))


@pytest.fixture
def translate():
    """Run the stage for a filter; returns translations, back-translations and weights."""
    for path, *content in (
        ("captions.parquet", "", TEXTS, "en", "human", None),
        ("whole.parquet", "@mt", [f"译{n}" for n in range(5)], "zh", "mt", ""),
        ("whole_back.parquet", "@mt@mt", BACK, "en", "back", "@mt"),
    ):
        write_parquet(pa.Table.from_pylist(rows(*content), CAPTIONS), path, CAPTIONS)

    def call(**given):
        run_forward(**given)
        inputs = {"forward": "zh.parquet", "whole_back": "whole_back.parquet"}
        settings = SETTINGS | {"filter": {"weight": 0.0} | given, "direction": "back"}
        run(hand_made("translate", "zh.back.parquet", inputs, {"translations": "zh.back.parquet"}, settings))
        weights = read_parquet("zh.weights.parquet", WEIGHTS)
        return read_parquet("zh.parquet", CAPTIONS), read_parquet("zh.back.parquet", CAPTIONS), weights

    return call


def test_pairs_with_a_bad_round_trip_are_left_out_of_the_train_split(translate):
    forward, back, weights = translate(min_chrf=40)
    assert forward["parent_id"].to_pylist() == ["i0", "i2", "i4"]  # i4 is bad but in val
    assert back["parent_id"].to_pylist() == ["i0@mt", "i2@mt", "i4@mt"]
    assert weights["weight"].to_pylist() == [1, 0, 1, 0]
    expected = [CHRF().sentence_score(b, [t]).score for b, t in zip(BACK[:4], TEXTS[:4], strict=True)]
    assert weights["chrf"].to_pylist() == pytest.approx(expected)


def test_or_count_for_less(translate):
    forward, back, weights = translate(min_chrf=40, weight=0.25)
    assert len(forward) == len(back) == 5
    assert weights["weight"].to_pylist() == [1, 0.25, 1, 0.25]


def test_a_bound_of_nothing_leaves_all_as_it_was(translate):
    forward, back, _ = translate(min_chrf=0)
    assert forward.equals(read_parquet("whole.parquet", CAPTIONS))
    assert back.equals(read_parquet("whole_back.parquet", CAPTIONS))


def test_a_filter_needs_the_way_back(translate):
    translate(min_chrf=40)
    table = read_parquet("whole_back.parquet", CAPTIONS)
    write_parquet(table.slice(1), "whole_back.parquet", CAPTIONS)
    with pytest.raises(CcrError, match=r"no back-translation of 1 of 4 train captions \(i0@mt, .*filtered.filter"):
        run_forward(min_chrf=40)
    write_parquet(table.slice(1), "whole_back.parquet", CAPTIONS, metadata={"refused": '{"i0@mt": "too long"}'})
    run_forward(min_chrf=40)
    assert read_parquet("zh.weights.parquet", WEIGHTS)["chrf"].to_pylist()[0] == 0


# --- what a weight does in training ------------------------------------------------------------------------

N = 6
WEIGHTED = ("infonce", "triplet", "soft_similarity", "feature_regression", "relation_distillation", "back_translation")


def loss(name, weights, pair=None, **options):
    generator = torch.Generator().manual_seed(0)
    streams = ("visual", "source", "target", "back", "cross")
    embeddings = {
        s: torch.nn.functional.normalize(torch.randn(N, 8, generator=generator, dtype=torch.float64), dim=1)
        for s in streams
    }
    step = Step(embeddings, torch.arange(N), torch.tensor(0.1), teacher=embeddings, weights=weights)
    given = {option: value.default for option, value in OBJECTIVES[name].options.items()} | options
    if pair:
        given["pair"] = pair
    return OBJECTIVES[name].load().loss(step, **given).item()


@pytest.mark.parametrize("name", WEIGHTED)
def test_equal_weights_are_no_weights(name):
    assert loss(name, torch.full((N,), 0.5)) == pytest.approx(loss(name, None), rel=1e-9)


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_term_is_the_weighted_mean_of_its_rows(name):
    one_by_one = [loss(name, torch.eye(N)[row]) for row in range(N)]
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0, 0.25])
    expected = sum(w * value for w, value in zip(weights.tolist(), one_by_one, strict=True)) / weights.sum().item()
    assert loss(name, weights) == pytest.approx(expected, rel=1e-9)
    assert len(set(one_by_one)) == N


@pytest.mark.parametrize("scale", ["mean", "sum"])
@pytest.mark.parametrize("negatives", ["hardest", "all"])
def test_the_hinge_in_all_its_forms_takes_weights(scale, negatives):
    one_by_one = [loss("triplet", torch.eye(N)[row], scale=scale, negatives=negatives) for row in range(N)]
    whole = loss("triplet", None, scale=scale, negatives=negatives)
    assert whole == pytest.approx(sum(one_by_one) / (N if scale == "mean" else 1), rel=1e-9)


def test_terms_that_see_no_translation_do_not_care():
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0, 0.25])
    assert loss("infonce", weights, ("visual", "source")) == loss("infonce", None, ("visual", "source"))
