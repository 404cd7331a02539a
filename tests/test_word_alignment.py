"""Word alignment: optimal transport against the POT library, its two objectives, and words made of tokens."""

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from late import Late

from ccr.errors import CcrError
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.ragged import Padded, Ragged
from ccr.networks.scratch import Encoder, encoder_config
from ccr.networks.tokens import Tokens, train_tokenizer
from ccr.objectives import pointer, transport_cost
from ccr.objectives.step import Step
from ccr.objectives.transport import cost, mutual, plans, sinkhorn

ot = Late("ot")
PAIR = ("source", "target")
SOLVER = {"epsilon": 0.1, "iterations": 50, "marginals": "uniform", "relaxation": 1.0}
EPSILONS = [0.02, 0.1, 1.0]


def solve(problem, epsilon, relaxation=None, iterations=1000, dtype=torch.float64):
    """Our plan for one problem (R, C)."""
    batch = torch.as_tensor(problem, dtype=dtype)[None]
    rows, columns = (torch.ones(1, n, dtype=torch.bool) for n in batch.shape[1:])
    return sinkhorn(batch, rows, columns, epsilon, iterations, relaxation)[0]


def by_pot(problem, epsilon, relaxation):
    """POT's plan for one problem, from a and b in its own form: uniform."""
    a, b = (np.full(n, 1 / n) for n in problem.shape)
    if relaxation is None:
        return ot.sinkhorn(a, b, problem, epsilon, method="sinkhorn_log", numItermax=20000, stopThr=1e-12)
    options = {"reg_type": "kl", "numItermax": 20000, "stopThr": 1e-14}
    return ot.unbalanced.sinkhorn_unbalanced(a, b, problem, epsilon, relaxation, **options)


def random_problem(rows, columns, seed=0):
    return np.random.default_rng([rows, columns, seed]).uniform(0, 2, (rows, columns))


PROBLEMS = {
    "one word each": random_problem(1, 1),
    "one against many": random_problem(1, 12),
    "many against one": random_problem(12, 1),
    "like a caption": random_problem(9, 11),
    "60 x 60": random_problem(60, 60),
    "equal costs": np.full((5, 8), 0.7),
    "no costs": np.zeros((3, 3)),
    "equal rows": np.tile(random_problem(1, 6), (4, 1)),
}


@pytest.mark.parametrize("relaxation", [None, 0.1, 1.0])
@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_plans_are_those_of_pot(problem, epsilon, relaxation):
    expected = by_pot(problem, epsilon, relaxation)
    assert abs(solve(problem, epsilon, relaxation).numpy() - expected).max() < 1e-7
    assert abs(solve(problem, epsilon, relaxation, dtype=torch.float32).numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("relaxation", [None, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_its_problems_one_by_one_whatever_stands_in_masked_places(relaxation, dtype):
    shapes = [(1, 1), (7, 9), (60, 60), (3, 50), (50, 3), (0, 4), (4, 0), (0, 0)]
    batch = torch.from_numpy(np.random.default_rng(0).uniform(-100, 100, (len(shapes), 64, 70))).to(dtype)
    rows, columns = (torch.arange(w) < n[:, None] for w, n in zip((64, 70), torch.tensor(shapes).T, strict=True))
    for problem, (r, c) in zip(batch, shapes, strict=True):
        problem[:r, :c] = torch.from_numpy(random_problem(r, c))
    together = sinkhorn(batch, rows, columns, 0.05, 300, relaxation)
    assert together.isfinite().all() and together.dtype == dtype
    for plan, problem, (r, c) in zip(together, batch, shapes, strict=True):
        assert not plan[r:].any() and not plan[:, c:].any()
        if r and c:
            alone = solve(problem[:r, :c], 0.05, relaxation, 300, dtype)
            assert torch.allclose(plan[:r, :c], alone, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-12)


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(EPSILONS), st.sampled_from([None, 0.3]), st.randoms())
@settings(deadline=None, max_examples=40)
def test_words_in_another_order_have_the_same_plan_in_that_order(rows, columns, epsilon, relaxation, random):
    problem = random_problem(rows, columns, random.randrange(1000))
    rows, columns = (random.sample(range(n), n) for n in problem.shape)
    plan = solve(problem, epsilon, relaxation, 20)
    assert torch.allclose(solve(problem[rows][:, columns], epsilon, relaxation, 20), plan[rows][:, columns], atol=1e-12)


def test_a_word_without_a_partner_stays_unaligned_in_the_unbalanced_form():
    problem = np.array([[0.0, 2.0], [2.0, 0.0], [2.0, 2.0]])  # the third word is noise
    assert solve(problem, 0.05)[2].sum() == pytest.approx(1 / 3)
    assert solve(problem, 0.05, relaxation=0.2)[2].sum() < 0.02


def words(states, mask=None):
    """States (B, W, h) of words, all real by default, and their mask."""
    states = torch.as_tensor(states, dtype=torch.float32)
    return states, torch.ones(states.shape[:2], dtype=torch.bool) if mask is None else torch.tensor(mask)


def random_words(batch, width, seed=0, dim=16):
    return words(torch.randn(batch, width, dim, generator=torch.Generator().manual_seed(seed)))


def step(source, target, items=None, logits=None):
    """A step whose words equal its clean words; both require gradients."""
    trained = {(s, -1): (w[0].clone().requires_grad_(), w[1]) for s, w in zip(PAIR, (source, target), strict=True)}
    clean = {(s, -1): (w[0].clone().requires_grad_(), w[1]) for s, w in zip(PAIR, (source, target), strict=True)}
    items = torch.arange(len(source[0])) if items is None else torch.tensor(items)
    found = Step({}, items, torch.tensor(0.07), words=trained, clean=clean)
    if logits is not None:
        found.pointers[(*PAIR, -1)] = tuple(logits)
    return found


def pulled(batch, **options):
    return transport_cost.loss(batch, pair=PAIR, layer=-1, **{"margin": 0.2, **SOLVER, **options})


def pointed(batch, **options):
    return pointer.loss(batch, pair=PAIR, layer=-1, masked=0.15, **{**SOLVER, **options})


def test_mutual_pairs_are_each_others_one_and_only_first_choice():
    plan = torch.tensor([[[0.5, 0.1, 0.0], [0.4, 0.3, 0.0], [0.2, 0.2, 0.0]]])
    assert mutual(plan)[0].nonzero().tolist() == [
        [0, 0]
    ]  # the second word's choice prefers the first; the third has two
    wanted_twice = torch.tensor([[[0.4, 0.1], [0.4, 0.1]]])
    for none in (wanted_twice, wanted_twice.transpose(1, 2), torch.zeros(2, 3, 4)):
        assert not mutual(none).any()


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_a_word_has_at_most_one_partner(rows, columns, seed):
    pairs = mutual(plans(random_words(3, rows, seed), random_words(3, columns, seed + 1), **SOLVER))
    assert pairs.sum(1).max() <= 1 and pairs.sum(2).max() <= 1


@pytest.mark.parametrize("marginals", ["uniform", "unbalanced"])
def test_words_that_cost_all_the_same_are_no_partners(marginals):
    """Even if rounding makes the equal costs differ, as it does for some sizes."""
    for seed in range(30):
        one, other = torch.randn(2, 60, 1, 33, generator=torch.Generator().manual_seed(seed))
        source, target = words(one.expand(-1, 2 + seed, -1)), words(other.expand(-1, 31 - seed, -1))
        assert not mutual(plans(source, target, **SOLVER | {"marginals": marginals, "epsilon": 0.02})).any()


def test_transport_cost_pulls_matched_words_together():
    source, target = random_words(6, 5), random_words(6, 5, 1)
    batch = step(source, target)
    states = [batch.words[stream, -1][0] for stream in PAIR]
    plan = plans(source, target, **SOLVER)
    optimizer = torch.optim.SGD(states, lr=5.0)
    before = transport_cost.transport_cost(*batch.words.values(), plan)
    for _ in range(50):
        optimizer.zero_grad()
        pulled(batch, margin=1.0).backward()
        optimizer.step()
    assert (transport_cost.transport_cost(*batch.words.values(), plan) < before - 0.2).all()


def test_words_that_are_all_equal_are_no_way_out_of_transport_cost():
    """They cost nothing, but neither does the mismatched pair; words that distinguish sentences reach 0."""
    equal = words(torch.ones(4, 3, 8))
    assert pulled(step(equal, equal)).item() == pytest.approx(0.2)
    apart = words(torch.eye(12).unflatten(0, (4, 3)))
    assert pulled(step(apart, apart), epsilon=0.02).item() == 0


def test_the_cost_is_per_unit_of_mass():
    """So a plan that aligns less is not cheaper for that."""
    source, target = random_words(3, 5), random_words(3, 7, 1)
    plan = plans(source, target, **SOLVER)
    whole = transport_cost.transport_cost(source, target, plan)
    assert torch.allclose(transport_cost.transport_cost(source, target, plan / 10), whole)
    assert torch.allclose(whole, (plan * cost(source, target)).sum((1, 2)), atol=1e-5)  # uniform: of mass 1


def hinge(source, target, row, wrong, margin):
    """The hinge of one row against the target of another."""
    costs = []
    for column in (row, wrong):
        sides = tuple(x[[row]] for x in source), tuple(x[[column]] for x in target)
        costs.append((plans(*sides, **SOLVER) * cost(*sides)).sum().item())
    return max(0.0, margin + costs[0] - costs[1])


def test_transport_cost_is_the_mean_hinge_over_rows_beside_another_item():
    source, target = random_words(4, 5), random_words(4, 6, 1)
    expected = [hinge(source, target, row, row - 1, 0.05) for row in range(4)]
    assert pulled(step(source, target), margin=0.05).item() == pytest.approx(np.mean(expected), rel=1e-4)
    some = pulled(step(source, target, items=[0, 0, 1, 1]), margin=0.05).item()  # rows 0 and 2 follow another item
    assert some == pytest.approx(np.mean([expected[0], expected[2]]), rel=1e-4)


def test_captions_without_words_change_nothing_for_the_others():
    source, target = random_words(4, 5), random_words(4, 6, 1)
    target[1][3] = False
    expected = [hinge(source, target, row, row - 1, 0.5) for row in (1, 2)]  # row 0 follows row 3
    assert pulled(step(source, target), margin=0.5).item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_plan_is_that_of_the_clean_pair():
    """Here the clean words are equal, so every pair of words weighs the same."""
    source, target = random_words(2, 3), random_words(2, 4, 1)
    batch = step(source, target)
    batch.clean = {(s, -1): (torch.ones_like(w[0]), w[1]) for s, w in zip(PAIR, (source, target), strict=True)}
    true, wrong = (cost(source, (states, target[1])).mean((1, 2)) for states in (target[0], target[0].roll(1, 0)))
    assert pulled(batch, margin=1.0).item() == pytest.approx((1 + true - wrong).mean().item(), rel=1e-4)


@pytest.mark.parametrize("marginals", ["uniform", "unbalanced"])
def test_gradient_comes_through_the_training_pass_alone(marginals):
    source, target = random_words(4, 5), random_words(4, 6, 1)
    logits = torch.randn(4, 5, 6, requires_grad=True), torch.randn(4, 6, 5, requires_grad=True)
    batch = step(source, target, logits=logits)
    (pulled(batch, margin=1.0, marginals=marginals) + pointed(batch, marginals=marginals)).backward()
    assert all(states.grad.abs().sum() > 0 for states, _ in batch.words.values())
    assert all(x.grad.abs().sum() > 0 for x in logits)
    assert all(states.grad is None for states, _ in batch.clean.values())


NONE = [[False] * 4]
DEGENERATE = {
    "one row": (random_words(1, 4), random_words(1, 4, 1), [0]),
    "rows of one item": (random_words(3, 4), random_words(3, 4, 1), [2, 2, 2]),
    "special tokens only": (words(torch.zeros(3, 4, 8), NONE * 3), words(torch.zeros(3, 4, 8), NONE * 3), [0, 1, 2]),
    "no words on one side": (random_words(3, 4), words(torch.zeros(3, 4, 16), NONE * 3), [0, 1, 2]),
    "equal costs": (words(torch.ones(3, 4, 8)), words(torch.ones(3, 4, 8)), [0, 1, 2]),
}


@pytest.mark.parametrize("marginals", ["uniform", "unbalanced"])
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_batches_are_defined_and_without_nan(case, marginals):
    source, target, items = DEGENERATE[case]
    logits = [torch.zeros(len(items), 4, 4, requires_grad=True) for _ in PAIR]
    batch = step(source, target, items, logits)
    values = pulled(batch, marginals=marginals), pointed(batch, marginals=marginals)
    sum(values).backward()
    assert all(value.isfinite() for value in values)
    assert all(states.grad is None or states.grad.isfinite().all() for states, _ in batch.words.values())
    assert all(x.grad is None or x.grad.isfinite().all() for x in logits)
    assert (values[0].item() == 0) == (case != "equal costs")  # the margin in that case
    assert (values[1].item() == 0) == (case not in ("one row", "rows of one item"))


def test_pointers_that_agree_with_the_plan_cost_less():
    source, target = random_words(4, 5), random_words(4, 5, 1)
    plan = plans(source, target, **SOLVER)
    forward, backward = plan.log(), plan.transpose(1, 2).log()
    agreeing = pointed(step(source, target, logits=(forward, backward)))
    undecided = pointed(step(source, target, logits=(0 * forward, 0 * backward)))
    contrary = pointed(step(source, target, logits=(-forward, -backward)))
    assert agreeing < undecided < contrary


def test_a_words_pointer_is_the_cross_entropy_to_its_row_of_the_plan_over_real_words():
    source = words(torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0)), [[True, True, False]])
    target = source[0][:, [1, 0, 2]], source[1]  # the same two words in reverse order
    plan = plans(source, target, **SOLVER)
    logits = torch.randn(1, 3, 3), torch.randn(1, 3, 3)
    expected = 0.0
    for x, p in zip(logits, (plan, plan.transpose(1, 2)), strict=True):
        rows = p[0, :2, :2] / p[0, :2, :2].sum(1, keepdim=True)
        expected -= (rows * x[0, :2, :2].log_softmax(1)).sum(1).mean() / 2
    assert pointed(step(source, target, logits=logits)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_words_whose_two_directions_disagree_learn_nothing():
    target = random_words(1, 2)
    source = words(
        torch.cat([target[0], target[0][:, :1] + 0.3 * target[0][:, 1:]], 1)
    )  # the third is nearly the first
    kept = mutual(plans(source, target, **SOLVER))
    assert kept[0].any(1).tolist() == [True, True, False]
    logits = torch.zeros(1, 3, 2, requires_grad=True), torch.zeros(1, 2, 3, requires_grad=True)
    pointed(step(source, target, logits=logits)).backward()
    assert logits[0].grad[0].abs().sum(1).bool().tolist() == [True, True, False]


# words


def tokenizer():
    return train_tokenizer(["a dog runs", "a cat runs", "ein hund", "一只狗在跑"] * 3, 60)


def places_of(text, max_tokens=32):
    tokens = Tokens(tokenizer(), [text], max_tokens, words=True)
    return tokens.places.tolist()


def test_subwords_are_one_word_and_chinese_characters_a_word_each():
    assert tokenizer().encode("a doggo runs").tokens[1:-1] == ["a", "dog", "##g", "##o", "runs"]
    assert places_of("a doggo runs") == [-1, 0, 1, 1, 1, 2, -1]
    assert places_of("一只狗 在跑") == [-1, 0, 1, 2, 3, 4, -1]
    assert places_of("") == [-1, -1]
    assert places_of("a doggo", max_tokens=5) == [-1, 0, 1, 1, -1]  # cut within the word


def test_a_clause_that_the_tokenizer_does_not_split_is_split_at_its_tokens():
    """SentencePiece, for example, takes a whole Chinese clause for one word."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = [("▁", -1.0), ("<unk>", -9.0), ("▁a", -1.0), ("▁do", -1.0), ("g", -1.0), ("狗在", -1.0), ("跑", -1.0)]
    unigram = Tokenizer(models.Unigram(pieces, 1))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    tokens = Tokens(unigram, ["a dog", "狗在跑"], 32, words=True)
    assert tokens.places[:3].tolist() == [0, 1, 1]
    chinese = tokens.places[3:].tolist()
    assert chinese[-2:] == [chinese[-1] - 1, chinese[-1]]  # 狗在, 跑: two words


sentences = st.lists(st.lists(st.integers(1, 3), max_size=6), min_size=1, max_size=9)  # numbers of tokens per word


@pytest.mark.parametrize("shape", [Ragged, Padded])
@given(sentences)
@settings(deadline=None, max_examples=30)
def test_words_are_the_means_of_their_tokens(shape, sentences):
    places = [[-1, *np.repeat(np.arange(len(sizes)), sizes).tolist(), -1] for sizes in sentences]
    batch = shape(torch.tensor([len(p) for p in places]))
    rows = torch.arange(3.0 * sum(map(len, places))).sin().view(-1, 3)
    pooled, mask = batch.words(torch.tensor(sum(places, []))).pool(batch.fill(rows, 9.0))
    assert pooled.shape[:2] == mask.shape == (len(sentences), max([1, *map(len, sentences)]))
    start = 0
    for states, real, place, sizes in zip(pooled, mask, places, sentences, strict=True):
        own, place = rows[start : start + len(place)], torch.tensor(place)
        start += len(place)
        assert real.tolist() == [n < len(sizes) for n in range(len(real))]
        for n, state in enumerate(states):
            expected = own[place == n].mean(0) if n < len(sizes) else torch.zeros(3)
            assert torch.allclose(state, expected, atol=1e-6)


# states of layers


def text_settings(layers, block=None):
    return {
        "encoder": "scratch", "hidden": 16, "layers": layers, "heads": 2, "feedforward": 16, "vocabulary": 50,
        "max_tokens": 16, "dropout": 0.0, "frozen_layers": 0, "frozen_prefix": "computed", "prompt": "", "block": block,
    }  # fmt: skip


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("padded", [False, True])
@torch.inference_mode()
def test_the_states_of_every_layer_are_those_of_transformers(layers, padded):
    torch.manual_seed(0)
    config = encoder_config(text_settings(layers), 50)
    encoder = Encoder(text_settings(layers), config, pretrained=True, padded=padded).eval()
    plain = hf.BertModel(hf.BertConfig(**config), add_pooling_layer=False).eval()
    plain.load_state_dict(encoder.model.state_dict())
    batch = (Padded if padded else Ragged)(torch.tensor([5, 3, 7]))
    tokens = torch.randint(5, 50, (15,))
    states = encoder(batch.fill(tokens, 0), batch, every_layer=True)
    real = batch.fill(torch.ones(15), 0.0).bool()
    ids = torch.zeros(3, 7, dtype=torch.long).masked_scatter(batch.mask, tokens)
    output = plain(ids, batch.mask.long(), output_hidden_states=True)
    expected = output.hidden_states or [output.last_hidden_state]  # a model without layers lists none
    assert len(states) == len(expected) == layers + 1
    for ours, theirs in zip(states, expected, strict=True):
        assert torch.allclose(ours[real], theirs[batch.mask], atol=1e-5)
    (last,) = encoder(batch.fill(tokens, 0), batch)
    assert torch.equal(last, states[-1])


@pytest.mark.parametrize(
    ("block", "layer", "message"),
    [
        (None, "block", "has no 'block'; it has layers 0 to 2, and -1"),
        (None, 3, "has no 3; it has layers 0 to 2, and -1"),
        ({"hidden": 24, "heads": 2, "keys": 16, "input_dropout": 0.0, "dropout": 0.0}, -2, "0 to 2 and `block`"),
    ],
)
def test_a_layer_that_the_network_does_not_have_is_refused(block, layer, message):
    network_settings = {"text": text_settings(2, block), "dim": 8, "norm": "layer", "dropout": 0.0}
    network_settings |= {"pooling": "masked_mean", "visual": {"max_frames": 1}}
    network = DualEncoder(network_settings, encoder_config(text_settings(2), 50), None, pretrained=False)
    assert [network.width_at(n) for n in (-1, 0, 2)] == [16, 16, 16]
    if block:
        assert network.width_at("block") == 24
    with pytest.raises(CcrError, match=message):
        network.width_at(layer)
