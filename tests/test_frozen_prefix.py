"""Computing the states after a frozen prefix once gives the same results as computing them in every step."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from late import Late
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_weights
from safetensors.torch import save_file
from tiny_encoders import FAMILIES, TEXTS, text_encoder

from ccr import params
from ccr.artifacts.files import read_json
from ccr.errors import CcrError
from ccr.evaluate.encoder import Encoder
from ccr.networks.checkpoint import load_network
from ccr.networks.ragged import Ragged
from ccr.networks.states import States
from ccr.networks.tokens import Tokens, pretrained_tokenizer
from ccr.running import evaluate_ahead, execute
from ccr.store.states import StateStore

pretrained = Late("ccr.networks.pretrained")
pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


def encoder_of(folder: str, frozen: int | str, prefix: str = "cached", **options) -> torch.nn.Module:
    """The text encoder of a folder."""
    settings = {"encoder": folder, "frozen_layers": frozen, "frozen_prefix": prefix, **options}
    return pretrained.Encoder(settings, pretrained.encoder_config(settings, 0), pretrained=True).eval()


def tokens_of(folder: str, texts=TEXTS, **options) -> Tokens:
    """Texts as a folder's tokenizer splits them."""
    return Tokens(pretrained_tokenizer(folder), texts, 32, **options)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("frozen", [1, 2, "all"])
@torch.no_grad()
def test_prefix_and_the_layers_above_it_are_the_model(family, frozen):
    encoder = encoder_of(text_encoder(Path("model"), family), frozen)
    shape, ids = Ragged(torch.tensor([5, 3])), torch.randint(5, 40, (8,))
    states = encoder.prefix(ids, shape)
    whole, above = encoder(ids, shape, every_layer=True), encoder(states, shape, every_layer=True)
    assert torch.allclose(encoder(states, shape)[-1], encoder(ids, shape)[-1], atol=1e-5)
    assert len(whole) == len(above) == encoder.layers + 1
    assert all(state is None for state in above[: encoder.frozen])
    for one, other in zip(whole[encoder.frozen :], above[encoder.frozen :], strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_the_lower_layers_of_a_model_are_a_model(family, layers):
    """What the layer gives, and after it only what the model itself does to its last layer's states."""
    folder = text_encoder(Path("model"), family)
    encoder, model = encoder_of(folder, "all", layers=layers), hf.AutoModel.from_pretrained(folder).eval()
    shape, ids = Ragged(torch.tensor([8])), torch.randint(5, 40, (8,))
    expected = model(input_ids=ids[None], output_hidden_states=True).hidden_states[layers][0]
    if family == "modernbert":
        expected = model.final_norm(expected)
    assert encoder.layers == layers
    assert torch.allclose(encoder(ids, shape)[-1], expected, atol=1e-5)
    assert torch.allclose(encoder.prefix(ids, shape), expected, atol=1e-5)


def test_more_layers_than_a_model_has_are_a_message():
    folder = text_encoder(Path("model"))
    assert encoder_of(folder, "all", layers=3).layers == 3
    with pytest.raises(CcrError, match=r"networks\.\*\.text\.layers: 4, but 'model' has 3"):
        encoder_of(folder, "all", layers=4)


def test_dropout_is_off_in_the_prefix_alone():
    encoder = encoder_of(text_encoder(Path("model")), 2).train()
    shape, ids = Ragged(torch.tensor([5, 3])), torch.randint(5, 40, (8,))
    first, second = (encoder(ids, shape, every_layer=True) for _ in range(2))
    assert torch.equal(first[2], second[2]) and not torch.equal(first[3], second[3])


def test_each_text_is_computed_once(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    folder = text_encoder(Path("model"))
    encoder, tokens = encoder_of(folder, 2), tokens_of(folder, [*TEXTS, *TEXTS])
    States(encoder, tokens)
    assert f"States of {len(TEXTS)} texts" in caplog.text
    monkeypatch.setattr(encoder, "prefix", None)
    rows = np.array([3, 0, 9, 3])
    states, shape = States(encoder, tokens).batch(rows)
    with torch.no_grad():
        expected = encoder_of(folder, 2).prefix(*tokens.batch(rows))
    assert torch.allclose(states, expected, atol=2e-3) and shape.lengths.tolist() == tokens.length[rows].tolist()


def test_other_weights_layers_and_prompts_have_other_states():
    folder = text_encoder(Path("model"))
    States(encoder_of(folder, 2), tokens_of(folder))
    States(encoder_of(folder, 1), tokens_of(folder))
    weights = load_weights(f"{folder}/model.safetensors")
    weights["embeddings.LayerNorm.bias"] += 1
    save_file(weights, f"{folder}/model.safetensors", {"format": "pt"})
    States(encoder_of(folder, 2), tokens_of(folder))
    assert len(list(Path("work/states").iterdir())) == 3
    before = len(list(Path("work/states").glob("*/*.npy")))
    States(encoder_of(folder, 2), tokens_of(folder, prompt="query: "))
    assert len(list(Path("work/states").glob("*/*.npy"))) == before + 1


def test_what_was_interrupted_or_damaged_is_computed_again(monkeypatch, caplog):
    monkeypatch.setattr("ccr.networks.states.PART_BYTES", 12 * 64)  # one or two texts each
    folder = text_encoder(Path("model"))
    encoder, tokens = encoder_of(folder, 2), tokens_of(folder)
    prefix, calls = encoder.prefix, []

    def failing(*batch):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return prefix(*batch)

    monkeypatch.setattr(encoder, "prefix", failing)
    with pytest.raises(KeyboardInterrupt):
        States(encoder, tokens)
    kept = list(Path("work/states").glob("*/*.npy"))
    assert len(kept) == 2 and not list(Path("work/states").glob("*/.*"))
    kept[0].write_bytes(kept[0].read_bytes()[:-1] + b"x")
    states, _ = States(encoder, tokens).batch(np.arange(len(TEXTS)))
    assert "is damaged" in caplog.text
    with torch.no_grad():
        assert torch.allclose(states, prefix(*tokens.batch(np.arange(len(TEXTS)))), atol=2e-3)


def test_states_that_float16_cannot_hold_are_a_message():
    folder = text_encoder(Path("model"))
    encoder = encoder_of(folder, 2)
    with torch.no_grad():
        encoder.model.encoder.layer[1].output.LayerNorm.weight *= 1e6
    with pytest.raises(CcrError, match="beyond float16.*frozen_prefix: computed"):
        States(encoder, tokens_of(folder))
    assert not list(Path("work/states").glob("*/*"))


def test_a_disk_without_room_is_named_before_the_work(monkeypatch):
    monkeypatch.setattr("ccr.artifacts.room.free_bytes", lambda _: 100)
    folder = text_encoder(Path("model"))
    with pytest.raises(CcrError, match=r"states: 0\.0 MB are needed, 0\.0 MB are free.*another disk.*computed"):
        States(encoder_of(folder, 2), tokens_of(folder))


def test_states_are_gathered_from_several_parts_in_any_order(tmp_path):
    generator, store = np.random.default_rng(0), StateStore("x", 8, tmp_path)
    expected, keys, lengths = {}, [], []
    for part in range(3):
        mine, length = [bytes([part, n] * 8) for n in range(5)], generator.integers(1, 6, 5)
        states = generator.normal(size=(length.sum(), 8)).astype(np.float16)
        store.add(mine, length, np.array_split(states, 2))
        expected |= dict(zip(mine, np.split(states, np.cumsum(length)[:-1]), strict=True))
        keys, lengths = keys + mine, [*lengths, *length]
    order = generator.permutation(15)
    reader = StateStore("x", 8, tmp_path)
    found = reader.gather(*reader.places([keys[n] for n in order]), np.array(lengths)[order])
    assert np.array_equal(found, np.concatenate([expected[keys[n]] for n in order]))


# --- training runs -----------------------------------------------------------------------------------------


@pytest.fixture
def plan_of(repository, tmp_path):
    """The plan of a small table on the mini-world with a small named encoder."""
    folder = text_encoder(Path("model"))

    def make(**text):
        settings = params.read(repository / "params.yaml")
        preset = settings["datasets"]["multi30k_task2"]
        preset["world"] |= {"train": 40, "val": 10, "test": 12, "captions": 2, "parallel": 0}
        preset |= {"target_langs": ["de"], "train": {"student": {"network": "named", "lr": 1e-4}}}
        small = settings["networks"]["small"]
        given = {"encoder": folder, "max_tokens": 32, "frozen_layers": 2, "frozen_prefix": "cached", "block": None}
        settings["networks"]["named"] = small | {"text": given | text}
        settings["train"]["student"] |= {"epochs": 2, "batch": 32}
        settings["tables"] = {"t": {"data": ["multi30k_task2"], "methods": ["baseline"]}}
        settings["alignments"], settings["translations"], settings["run"] = {}, {}, ["t"]
        return params.plan(params.validate(settings))

    return make


def make_all(plan, until="results/t.csv"):
    """Run every job of the table, or of a training run, as the command does."""
    for job in plan.needs(until):
        execute(plan.keyed(job.target))
        if job.stage == "train":
            evaluate_ahead(plan, job)


def student(plan):
    """The training job of the baseline."""
    return next(job for job in plan.jobs.values() if "runs" in job.target and "/baseline/" in job.target)


def test_a_training_on_cached_states_is_that_on_computed_ones(plan_of):
    embedded, names = {}, {}
    for prefix in ("cached", "computed"):
        plan = plan_of(frozen_prefix=prefix)
        run = student(plan)
        assert bool(run.after) == (prefix == "cached")
        make_all(plan, until=run.target)
        files = {role: run.outputs[role] for role in ("model", "config", "tokenizer")}
        embedded[prefix], names[prefix] = Encoder(files, 8).texts(TEXTS), load_file(run.outputs["model"]).keys()
    assert names["cached"] == names["computed"]
    assert not any(".embeddings." in name or ".layer.1." in name for name in names["cached"])
    assert torch.allclose(embedded["cached"], embedded["computed"], atol=5e-3)


def test_a_run_that_uses_the_lower_layers_is_read_with_them(plan_of):
    plan = plan_of(layers=2, frozen_layers="all")
    run = student(plan)
    make_all(plan, until=run.target)
    network, _ = load_network(run.outputs["model"], run.outputs["config"])
    assert network.text.layers == 2
    assert run.after != student(plan_of(frozen_layers="all")).after
    files = {role: run.outputs[role] for role in ("model", "config", "tokenizer")}
    one, other = (Encoder(files, 8).texts(TEXTS[:2]) for _ in range(2))
    assert torch.equal(one, other) and not torch.allclose(one[0], one[1])


def test_a_run_of_another_model_is_not_evaluated(plan_of):
    plan = plan_of()
    run = student(plan)
    make_all(plan, until=run.target)
    files = {role: run.outputs[role] for role in ("model", "config", "tokenizer")}
    assert Encoder(files, 8).texts(["a dog"]).shape == (1, 128)
    weights = load_weights("model/model.safetensors")
    weights["embeddings.LayerNorm.bias"] += 1
    save_file(weights, "model/model.safetensors", {"format": "pt"})
    with pytest.raises(CcrError, match="its weights are not those that .*model.safetensors was trained on"):
        Encoder(files, 8)


def test_a_changed_model_makes_its_trainings_stale(plan_of):
    plan = plan_of()
    run = student(plan)
    for job in plan.needs(run.target)[:-1]:
        execute(plan.keyed(job.target))
    before = plan.keyed(run.target).key
    (Path("model") / "config.json").write_text(json.dumps(read_json("model/config.json") | {"layer_norm_eps": 1e-5}))
    assert plan.keyed(run.target).key != before


@pytest.mark.parametrize(
    ("text", "edit", "message"),
    [
        ({"frozen_layers": 0}, {}, "frozen_prefix: cached needs a named encoder and frozen_layers of 1 or more"),
        ({}, {"pooling": "padded_mean"}, "states depend on the batch; take computed"),
    ],
)
def test_what_cannot_be_cached_is_a_message(repository, text, edit, message):
    settings = params.read(repository / "params.yaml")
    network = settings["networks"]["e5_photo"]
    network |= edit | {"text": network["text"] | text}
    with pytest.raises(CcrError, match=message):
        params.validate(settings)


def test_a_model_that_is_not_there_is_a_message(repository):
    settings = params.read(repository / "params.yaml")
    settings["networks"]["e5_photo"]["text"]["encoder"] = "data/models/not-here"
    settings["datasets"]["flickr8k_e5"]["source"] = "official"
    plan = params.plan(params.validate(settings))
    with pytest.raises(CcrError, match="data/models/not-here does not exist.*config.json.*hf download"):
        plan.job(next(target for target in plan.jobs if target.startswith("results/runs/flickr8k_e5")))
