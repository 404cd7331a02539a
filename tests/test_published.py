"""Published NRCCR checkpoints: read without running their code, imported as a run, evaluated like any other."""

import argparse
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers as hf
import yaml
from hand_made import run
from late import Late
from safetensors.torch import load_file

from ccr import cli, params
from ccr.artifacts.contents import content_hash
from ccr.artifacts.files import read_json, write_json
from ccr.artifacts.parquet import write_parquet
from ccr.artifacts.schemas import CAPTIONS, ITEMS, REJECTED
from ccr.artifacts.seals import seal
from ccr.errors import CcrError
from ccr.networks.checkpoint import load_network, load_tokenizer
from ccr.networks.discriminator import Discriminator
from ccr.networks.ragged import Padded
from ccr.networks.tokens import train_tokenizer
from ccr.store import write_features

TEXTS = ["a red thing and a blue thing", "one green thing", "红和蓝的东西", "绿的东西"]
FEATURES, HIDDEN, TEXT_HIDDEN, BERT, DIM, KEYS, HEADS = 12, 24, 16, 32, 20, 48, 4
BERT_CONFIG = {
    "hidden_size": BERT, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 40,
}  # fmt: skip
OPTIONS = {"text_num_attention": HEADS, "video_num_attention": HEADS, "layer_list": ["layer.1"], "margin": 0.2}

importer = Late("ccr.networks.published")
pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """A small transformer's config and tokenizer on disk."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = train_tokenizer(TEXTS * 3, 90)
    hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(folder)
    hf.BertConfig(vocab_size=tokenizer.get_vocab_size(), **BERT_CONFIG).save_pretrained(folder)
    return str(folder)


def linear(name, rows, columns):
    return {f"{name}.weight": torch.randn(rows, columns) / columns**0.5, f"{name}.bias": torch.randn(rows) / 10}


def norm(name, width):
    return {f"{name}.weight": 1 + torch.randn(width) / 10, f"{name}.bias": torch.randn(width) / 10}


def stack(dim, width, positions):
    return {
        **norm("input_proj_layer.LayerNorm", dim),
        **linear("input_proj_layer.net.1", width, dim),
        "pos_embed_layer.position_embeddings.weight": torch.randn(positions, width),
        **norm("pos_embed_layer.LayerNorm", width),
        **linear("encoder_layer.self.query", KEYS, width),
        **linear("encoder_layer.self.key", KEYS, width),
        **linear("encoder_layer.self.value", width, width),
        **linear("encoder_layer.output.dense", width, width),
        **norm("encoder_layer.output.LayerNorm", width),
    }


def mapping(width):
    statistics = {"running_mean": torch.randn(DIM), "running_var": torch.rand(DIM) + 0.5}
    statistics["num_batches_tracked"] = torch.tensor(7)
    return {
        **linear("mapping.fc1", DIM, width),
        **norm("mapping.bn_1", DIM),
        **{f"mapping.bn_1.{name}": value for name, value in statistics.items()},
    }


def published(encoder, mode="video"):
    """A checkpoint like the authors', with random weights: encoders wrapped for several GPUs, old `transformers`."""
    torch.manual_seed(0)
    bert = hf.BertModel(hf.BertConfig.from_pretrained(encoder))
    text = {f"text_bert.text_bert.{name}": tensor for name, tensor in bert.state_dict().items()}
    text["text_bert.text_bert.embeddings.position_ids"] = torch.arange(40)[None]
    visual = stack(FEATURES, HIDDEN, 80) if mode == "video" else linear("proj", HIDDEN, FEATURES)
    parts = [
        {f"module.{name}": tensor for name, tensor in visual.items()},
        {f"module.{name}": tensor for name, tensor in (text | stack(BERT, TEXT_HIDDEN, 250)).items()},
        mapping(HIDDEN),
        mapping(TEXT_HIDDEN),
        linear("discriminator.model", 2, BERT),
    ]
    options = argparse.Namespace(**OPTIONS, collections_pathname={"train": "vatex"}, momentum=None)
    return {"epoch": 11, "model": parts, "best_rsum": 123.4, "opt": options, "Eiters": 5}


def save(content, path="model_best.pth.tar", **options):
    torch.save(content, path, **options)
    return path


def run_directory(folder):
    return {role: str(Path(folder) / file) for role, file in FILES.items()}


FILES = {"model": "model.safetensors", "config": "config.json", "tokenizer": "tokenizer.json"}


class Hostile:
    """Unpickling it runs a command."""

    def __reduce__(self):
        return os.system, ("touch touched",)


# --- names -------------------------------------------------------------------------------------------------


def test_names_of_discriminators_are_ours():
    kinds = {"weak": "linear", "not-so-weak": "mlp", "strong": "conv"}
    names = {
        "weak": ["model.weight", "model.bias"],
        "not-so-weak": [f"model.{n}.{what}" for n in (0, 2, 4) for what in ("weight", "bias")],
        "strong": ["model.weight", "model.bias", "convolve.0.weight", "convolve.0.bias"]
        + [f"convolve.{n}.conv{c}.{what}" for n in (1, 2, 3) for c in (1, 2) for what in ("weight", "bias")],
    }
    for kind, published_names in names.items():
        renamed = {importer.rename(f"AdvAgent[{kind}].discriminator.{name}") for name in published_names}
        assert renamed == set(Discriminator(kinds[kind], 8).state_dict())


def test_names_without_counterpart_and_unknown_names():
    assert importer.rename("text_encoding.text_bert.text_bert.pooler.dense.weight") is None
    for name in ("text_encoding.text_gru.weight", "vid_encoding.encoder_layers.0.self.query.weight", "fc1.weight"):
        with pytest.raises(CcrError, match=name):
            importer.rename(name)


# --- import ------------------------------------------------------------------------------------------------


def expected_embedding(parts, rows, heads=HEADS):
    """One sequence of raw states (L, d) through the published stack and mapping, written out plainly."""
    stack, head = parts
    stack = {name.removeprefix("module."): tensor for name, tensor in stack.items()}

    def layer(name, x):
        return x @ stack[f"{name}.weight"].T + stack[f"{name}.bias"]

    def normed(name, x):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return x * stack[f"{name}.weight"] + stack[f"{name}.bias"]

    if "proj.weight" in stack:
        pooled = layer("proj", rows).relu().mean(0)
    else:
        x = layer("input_proj_layer.net.1", normed("input_proj_layer.LayerNorm", rows)).relu()
        x = normed("pos_embed_layer.LayerNorm", x + stack["pos_embed_layer.position_embeddings.weight"][: len(x)])
        q, k, v = (
            layer(f"encoder_layer.self.{name}", x).unflatten(1, (heads, -1)).transpose(0, 1)
            for name in ("query", "key", "value")
        )
        scores = (q @ k.transpose(1, 2) / (x.shape[1] / heads) ** 0.5).softmax(-1)
        attended = layer("encoder_layer.output.dense", (scores @ v).transpose(0, 1).flatten(1))
        pooled = normed("encoder_layer.output.LayerNorm", x + attended).mean(0)
    out = pooled @ head["mapping.fc1.weight"].T + head["mapping.fc1.bias"]
    out = (out - head["mapping.bn_1.running_mean"]) / (head["mapping.bn_1.running_var"] + 1e-5).sqrt()
    out = out * head["mapping.bn_1.weight"] + head["mapping.bn_1.bias"]
    return out / out.norm()


@pytest.mark.parametrize("mode", ["video", "image"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@torch.inference_mode()
def test_an_imported_network_is_the_one_that_was_written(encoder, mode, zipped):
    content = published(encoder, mode)
    importer.import_checkpoint(save(content, _use_new_zipfile_serialization=zipped), "run", encoder)
    files = run_directory("run")
    network, description = load_network(files["model"], files["config"])
    assert description["feature_dim"] == FEATURES and network.shape is Padded
    settings = description["settings"]["network"]
    assert settings["text"]["max_tokens"] == 40 and settings["visual"]["max_frames"] == {"video": 64, "image": 1}[mode]

    visual, text, visual_head, text_head, _ = content["model"]
    for frames in (1, 64) if mode == "video" else (1,):
        rows = torch.randn(frames, FEATURES)
        ours = network.embed_visual(rows, Padded(torch.tensor([frames])))[0]
        assert torch.allclose(ours, expected_embedding((visual, visual_head), rows), atol=1e-5)

    bert = hf.BertModel(hf.BertConfig.from_pretrained(encoder)).eval()
    prefix = "module.text_bert.text_bert."
    weights = {name.removeprefix(prefix): tensor for name, tensor in text.items() if name.startswith(prefix)}
    weights.pop("embeddings.position_ids")
    bert.load_state_dict(weights)
    tokens = torch.tensor(load_tokenizer(files["tokenizer"]).encode(TEXTS[0]).ids)
    states = bert(tokens[None]).last_hidden_state[0]
    ours = network.embed_text(tokens, Padded(torch.tensor([len(tokens)])))[0]
    assert torch.allclose(ours, expected_embedding((text, text_head), states), atol=1e-5)


def test_what_an_imported_run_says_of_itself(encoder):
    path = save(published(encoder))
    importer.import_checkpoint(path, "one", encoder)
    importer.import_checkpoint(path, "two", encoder)
    description, facts = (read_json(f"one/{name}.json") for name in ("config", "provenance"))
    assert facts == {
        "key": description["key"], "file": path, "blake2b": content_hash(path), "epoch": 11
    }  # fmt: skip
    assert description["terms"] == ["imported NRCCR checkpoint"]
    for file in Path("one").iterdir():
        assert file.read_bytes() == (Path("two") / file.name).read_bytes()


@pytest.mark.parametrize("mode", ["video", "image"])
@torch.inference_mode()
def test_the_authors_weights_give_the_authors_embeddings(repository, tmp_path, mode):
    """The oracle's weights, saved as the authors save them."""
    folder = repository.parent / "shared" / "reference" / "nrccr"
    if not folder.is_dir():
        pytest.skip("the oracle (../shared/reference/nrccr) is not here")
    config = json.loads((folder / f"{mode}_config.json").read_text())
    hf.BertConfig(**config["bert"]).save_pretrained(tmp_path)
    hf.PreTrainedTokenizerFast(tokenizer_object=train_tokenizer(TEXTS, 90)).save_pretrained(tmp_path)
    parts = {"vid_encoding": {}, "text_encoding": {}, "vid_mapping": {}, "text_mapping": {}, "AdvAgent": {}}
    kind = f"AdvAgent[{config['opt']['disc_type']}]"
    for name, tensor in load_file(folder / f"{mode}_weights.safetensors").items():
        part, _, rest = name.partition(".")
        if part == kind or part in parts:
            parts["AdvAgent" if part == kind else part][rest] = tensor
    content = {"model": list(parts.values()), "opt": argparse.Namespace(**config["opt"])}
    importer.import_checkpoint(save(content), "run", str(tmp_path))
    network, _ = load_network("run/model.safetensors", "run/config.json")
    forward = np.load(folder / f"{mode}_forward.npz")

    def agree(ours, name):
        return np.abs(ours.numpy() - forward[f"f32/eval/{name}"]).max() < 5e-5  # the oracle's own tolerance

    texts = {"src": "cap_emb", "tgt": "cap_emb_trans"}
    for side, name in texts.items():
        ids, lengths = (torch.from_numpy(forward[f"in/{side}_{what}"]) for what in ("ids", "len"))
        assert agree(network.embed_text(ids.flatten(), Padded(lengths.long())), name)
    visual = torch.from_numpy(forward[f"in/{mode}"])
    lengths = torch.from_numpy(forward["in/video_len"]) if mode == "video" else torch.ones(len(visual)).long()
    assert agree(network.embed_visual(visual.flatten(0, -2), Padded(lengths.long())), "vid_emb")


# --- refusals ----------------------------------------------------------------------------------------------


def refused(encoder, path="model_best.pth.tar", match=""):
    with pytest.raises(CcrError, match=match) as error:
        importer.import_checkpoint(path, "run", encoder)
    assert str(path) in str(error.value) and "weights_only" not in str(error.value)
    assert not Path("run").exists() and not list(Path().glob(".run*"))
    return str(error.value)


def plain_pickle(content, path, protocol=2):
    with open(path, "wb") as file:
        pickle.dump(content, file, protocol)


HOSTILE = {
    "file": lambda content: Hostile(),
    "opt": lambda content: content | {"opt": Hostile()},
    "inside opt": lambda content: content | {"opt": argparse.Namespace(**OPTIONS, layer_list_=[Hostile()])},
    "weights": lambda content: content | {"model": [*content["model"][:4], {"discriminator.model.bias": Hostile()}]},
    "beside": lambda content: content | {"optimizer": Hostile()},
}


@pytest.mark.parametrize("where", HOSTILE)
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_hostile_file_is_refused_and_nothing_of_it_runs(encoder, where, form):
    save(HOSTILE[where](published(encoder)), _use_new_zipfile_serialization=form == "zip")
    refused(encoder, match=r"asks for `(posix|nt)\.system`.*Nothing of it was run. Do not trust this file")
    assert not Path("touched").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_hostile_pickle_that_torch_did_not_write_is_refused(encoder, protocol):
    plain_pickle(Hostile(), "model_best.pth.tar", protocol)
    refused(encoder, match="Nothing of it was run. Do not trust this file")
    assert not Path("touched").exists()


def test_the_hostile_file_would_have_run_its_command():
    plain_pickle(Hostile(), "file")
    with open("file", "rb") as file:
        pickle.load(file)
    assert Path("touched").exists()


@pytest.mark.slow
def test_the_command_line_refuses_a_hostile_file_in_one_line(encoder):
    save(published(encoder) | {"opt": Hostile()})
    command = [sys.executable, "-m", "ccr", "import-nrccr", "model_best.pth.tar", "run", "--text-encoder", encoder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("ccr: model_best.pth.tar: refused.") and done.stderr.count("\n") == 1
    assert not Path("touched").exists() and not Path("run").exists()


@pytest.mark.parametrize("beside", [{"best_rsum": np.float64(1.5)}, {"best_rsum": np.ones(3)}], ids=["scalar", "array"])
def test_numpy_objects_are_refused_by_name(encoder, beside):
    save(published(encoder) | beside)
    refused(encoder, match=r"asks for `numpy\.\S+multiarray\S*`; a checkpoint holds tensors, containers")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0, 0.0001, 0.001, 0.5, 0.999])
def test_a_torn_file_is_refused(encoder, zipped, share):
    path = Path(save(published(encoder), _use_new_zipfile_serialization=zipped))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(encoder, match="not a whole torch file|refused")


def test_what_is_no_checkpoint_is_refused(encoder):
    refused(encoder, "nowhere.tar", "no such file")
    Path("text.tar").write_text("hello, I am a text")
    refused(encoder, "text.tar", "not a whole torch file|refused")
    Path("folder.tar").mkdir()
    refused(encoder, "folder.tar", "not a whole torch file")
    plain_pickle({"model": [], "opt": 1}, "plain.tar")
    refused(encoder, "plain.tar", "not one that torch.save writes|not a whole torch file")


def without(part, name):
    def change(content):
        del content["model"][part][name]

    return change


def changed(part, name, tensor):
    return lambda content: content["model"][part].update({name: tensor})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("opt"), "a dict with `model` and `opt`"),
        (lambda c: c.update(opt={"text_num_attention": 8}), "`opt` is a dict, expected an argparse.Namespace"),
        (lambda c: c["model"].pop(), "not a list of five state dicts"),
        (lambda c: c.update(model=c["model"][0]), "not a list of five state dicts"),
        (changed(2, "mapping.fc1.weight", [1.0]), "not a list of five state dicts"),
        (lambda c: delattr(c["opt"], "text_num_attention"), "no text_num_attention"),
        (lambda c: setattr(c["opt"], "video_num_attention", 7), "video_num_attention is 7, expected a divisor of 48"),
        (lambda c: setattr(c["opt"], "video_layer", 2), "opt.video_layer"),
        (without(3, "mapping.fc1.weight"), "no text_mapping.mapping.fc1.weight"),
        (without(3, "mapping.bn_1.running_mean"), r"1 weights do not fit.*text_head.norm.running_mean.*has none"),
        (changed(0, "module.encoder_layer.self.bias", torch.ones(2)), "no such weight"),
        (changed(2, "mapping.fc1.scale", torch.ones(2)), r"vid_mapping.mapping.fc1.scale: the file has \(2,\)"),
        (changed(2, "mapping.fc1.bias", torch.ones(2)), r"vid_mapping.mapping.fc1.bias.*\(2,\), NRCCR has \(20,\)"),
        (changed(3, "mapping.fc1.weight", torch.ones(3)), r"shape \(3,\), expected a matrix"),
        (changed(0, "module.input_proj_layer.net.1.weight", torch.ones(1, 1).expand(HIDDEN, 10**14)), "memory"),
        (changed(4, "classifier.weight", torch.ones(3)), "AdvAgent.classifier.weight: NRCCR as published"),
    ],
)
def test_another_layout_is_refused_by_name(encoder, change, message):
    content = published(encoder)
    change(content)
    save(content)
    refused(encoder, match=message)


def test_a_file_without_epoch_or_of_its_parts_alone_is_read(encoder):
    content = published(encoder)
    checkpoint = importer.read_checkpoint(save({"model": tuple(content["model"]), "opt": content["opt"]}))
    assert checkpoint.epoch is None and checkpoint.options["margin"] == 0.2
    assert "vid_encoding.encoder_layer.self.query.weight" in checkpoint.weights


def test_another_transformer_is_refused_and_both_are_named(encoder, tmp_path):
    save(published(encoder))
    for name, change in (("wide", {"intermediate_size": 64}), ("deep", {"num_hidden_layers": 3})):
        other = tmp_path / name
        config = hf.BertConfig.from_pretrained(encoder)
        config.update(change)
        config.save_pretrained(other)
        for file in Path(encoder).glob("token*"):
            (other / file.name).write_bytes(file.read_bytes())
        message = refused(str(other), match="--text-encoder")
        assert str(other) in message and "encoder.layer" in message
    with pytest.raises(CcrError, match=r"--text-encoder.*no/such/model"):
        importer.import_checkpoint("model_best.pth.tar", "run", "./no/such/model")
    with pytest.raises(CcrError, match="scratch"):
        importer.import_checkpoint("model_best.pth.tar", "run", "scratch")
    assert not Path("run").exists()


def test_an_existing_folder_is_refused_and_stays(encoder):
    save(published(encoder))
    Path("run").mkdir()
    Path("run/mine").touch()
    with pytest.raises(CcrError, match="run: exists already"):
        importer.import_checkpoint("model_best.pth.tar", "run", encoder)
    assert [file.name for file in Path("run").iterdir()] == ["mine"]


# --- evaluation --------------------------------------------------------------------------------------------


@pytest.fixture
def planned(repository):
    """Settings with one tiny table, and the files that its evaluation reads in addition to the run."""
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    raw["tables"] = {"tiny": {"data": ["vatex"], "methods": ["baseline"], "seeds": [0]}}
    raw["run"] = ["tiny"]
    Path("params.yaml").write_text(yaml.safe_dump(raw, allow_unicode=True))
    plan = params.plan(params.load(Path("params.yaml")))
    job = next(job for job in plan.jobs.values() if job.stage == "evaluate")
    items = [f"item{n}" for n in range(6)]
    texts = [TEXTS[2 + n % 2] + "和" * n for n in range(6)]
    captions = [(i, f"{i}#zh", "test", "zh", "human", None, None, t) for i, t in zip(items, texts, strict=True)]
    write(job.inputs["captions"], captions, CAPTIONS)
    write(job.inputs["items"], [(i, "test", None, "video") for i in items], ITEMS)
    rng = np.random.default_rng(0)
    metadata = {"dim": str(FEATURES), "extractor": "toy", "weights": "", "preprocess": "", "frame_sampling": ""}
    features = [(i, rng.normal(size=(3 + n, FEATURES)).astype(np.float32)) for n, i in enumerate(items)]
    write_features(job.inputs["features"], features, metadata=metadata)
    write(plan.job(job.inputs["features"]).outputs["rejected"], [], REJECTED)
    write_json({"notes": [], "leaks": []}, plan.job(job.inputs["captions"]).outputs["report"])
    for role in ("captions", "features"):
        seal(plan.job(job.inputs[role]))
    return job


def write(path, rows, schema):
    write_parquet(
        pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema), path, schema
    )


def ccr(*arguments):
    cli.app(arguments, standalone_mode=False)


def test_an_imported_run_is_evaluated_and_the_plans_files_stay_untouched(encoder, planned, caplog):
    save(published(encoder))
    ccr("import-nrccr", "model_best.pth.tar", "imported", "--text-encoder", encoder)
    ccr("evaluate", planned.target, "--run", "imported")
    numbers = read_json("imported/evaluation/metrics.json")
    assert numbers["n_queries"] == 6 and numbers["terms"] == ["imported NRCCR checkpoint"]
    assert Path("imported/evaluation/ranks.parquet").exists() and not Path("results").exists()

    inputs = planned.inputs | run_directory("imported")
    outputs = {"metrics": "again/metrics.json", "ranks": "again/ranks.parquet"}
    run(replace(planned, inputs=inputs, outputs=outputs, key=numbers["key"]))
    assert read_json("again/metrics.json") == numbers
    for file in Path("imported/evaluation").iterdir():
        file.unlink()
    caplog.set_level("INFO", "ccr")
    ccr("evaluate", planned.target, "--run", "imported/")
    assert "imported/evaluation: copied from the memo" in caplog.text


def test_a_folder_that_is_no_run_is_refused(planned):
    Path("folder").mkdir()
    with pytest.raises(CcrError, match=r"folder/model.safetensors: no such file.*config.json, tokenizer.json"):
        ccr("evaluate", planned.target, "--run", "folder")
    assert not Path("folder/evaluation").exists()
