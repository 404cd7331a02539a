"""Training and evaluation on a toy data set: colours in features, their names in captions (synthetic)."""

import contextlib
import copy
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hand_made import hand_made
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from ccr import train
from ccr.artifacts.contents import content_hash
from ccr.artifacts.files import read_json
from ccr.artifacts.jobs import dump_job, job_key
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import CAPTIONS, ITEMS, RANKS, WEIGHTS
from ccr.errors import CcrError
from ccr.evaluate import encoder, retrieval
from ccr.networks.checkpoint import load_tokenizer
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.ragged import Ragged
from ccr.networks.scratch import encoder_config
from ccr.retrieval.ranks import rank_both
from ccr.store import open_features, read_embeddings, write_features
from ccr.train import half
from ccr.train.half import HalfWeights
from ccr.train.loop import ahead
from ccr.train.needs.discriminator import Adversary
from ccr.train.optimizers import AdamW
from ccr.train.schedule import Schedule
from ccr.train.triplets import Triplets, read_texts

SPLITS = {"train": 48, "val": 16, "test": 20}
EN = ["red", "green", "blue", "white", "black", "pink", "grey", "brown"]
ZH = ["红", "绿", "蓝", "白", "黑", "粉", "灰", "棕"]
TEXT = {
    "encoder": "scratch", "hidden": 32, "layers": 1, "heads": 2, "feedforward": 32, "vocabulary": 100,
    "max_tokens": 16, "dropout": 0.0, "frozen_layers": 0, "frozen_prefix": "computed", "prompt": "",
    "block": {"hidden": 32, "heads": 2, "keys": 32, "input_dropout": 0.0, "dropout": 0.0},
}  # fmt: skip
NETWORK = {
    "text": TEXT,
    "visual": {
        "hidden": 32, "layer_norm": True, "max_frames": 8, "input_dropout": 0.0, "dropout": 0.0,
        "block": {"heads": 2, "keys": 32},
    },
    "dim": 32, "norm": "layer", "pooling": "masked_mean", "dropout": 0.0,
}  # fmt: skip
TRAINING = {
    "network": NETWORK, "lr": 0.005, "weight_decay": 0.0, "batch": 16, "epochs": 12, "warmup": 0.1, "clip_norm": 2.0,
    "precision": "fp32", "slices": 1,
    "word_dropout": 0.0, "encoder_lr": None,
    "schedule": "cosine", "select_by": "sumr", "gradient_every": 2, "on_missing": "error",
    "patience": 12, "select_on": "target", "source_lang": "en", "langs": ["zh"], "threads": 1, "seed": 0,
    "processes": 1,
}  # fmt: skip
INFONCE = {"objective": "infonce", "weight": 1.0, "tau": None, "mask_same_item": True}
BASELINE = {"vs": INFONCE | {"pair": ["visual", "source"]}, "vt": INFONCE | {"pair": ["visual", "target"]}}
TEACHER = {
    "instance_alignment": {
        "objective": "instance_alignment", "weight": 1.0, "pair": ["source", "target"], "loss": "infonce",
        "tau": None, "margin": 0.2, "mask_same_item": True,
    },
    "word_alignment": {
        "objective": "transport_cost", "weight": 0.1, "pair": ["source", "target"], "layer": -1, "epsilon": 0.1,
        "iterations": 10, "marginals": "uniform", "relaxation": 1.0, "margin": 0.2,
    },
}  # fmt: skip
POINTER = {
    "objective": "pointer", "weight": 0.5, "pair": ["source", "target"], "layer": "block", "epsilon": 0.1,
    "iterations": 10, "marginals": "unbalanced", "relaxation": 1.0, "masked": 0.15,
}  # fmt: skip
DISTILLATION = {
    "objective": "relation_distillation", "weight": 1.0, "pair": ["visual", "target"],
    "tau_teacher": 0.1, "tau_student": 0.1, "intra": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Captions, items, translations and features of the toy data set: each item shows two colours."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    items, captions, translations, features = [], [], [], []
    for split, number in SPLITS.items():
        for n in range(number):
            item, (one, two) = f"{split}{n:02d}", rng.choice(len(EN), 2, replace=False)
            items.append((item, split, None, "video"))
            captions.append((item, f"{item}#en", split, "en", "human", None, None, f"a {EN[one]} and {EN[two]} thing"))
            captions.append((item, f"{item}#zh", split, "zh", "human", None, None, f"{ZH[one]}和{ZH[two]}的东西"))
            text = f"{ZH[one]}{ZH[two]}东西"
            translations.append((item, f"{item}#mt", split, "zh", "mt", "toy", f"{item}#en", text))
            frames = np.eye(len(EN), dtype=np.float32)[[one, two, two]] + rng.normal(0, 0.05, (3, len(EN)))
            features.append((item, frames))
    write(folder / "items.parquet", items, ITEMS)
    write(folder / "captions.parquet", captions, CAPTIONS)
    write(folder / "zh.parquet", translations, CAPTIONS)
    write_features(
        folder / "features.parquet", sorted(features, key=lambda f: f[0]),
        metadata={"dim": "8", "extractor": "toy", "weights": "", "preprocess": "", "frame_sampling": ""},
    )  # fmt: skip
    return folder


def write(path, rows, schema):
    write_parquet(dict(zip(schema.names, map(list, zip(*rows, strict=True)), strict=True)), path, schema)


def training_job(data, folder, objectives, **settings):
    inputs = {role: str(data / f"{role}.parquet") for role in ("captions", "items", "features")}
    inputs["translations"] = [str(data / "zh.parquet")]
    files = ["model.safetensors", "config.json", "tokenizer.json", "history.csv", "provenance.json"]
    settings = {**copy.deepcopy(TRAINING), "role": "student", "objectives": objectives, **settings}
    if settings["role"] == "teacher":
        files.append("embeddings.parquet")
        del inputs["features"]
    outputs = {file.split(".")[0]: str(folder / file) for file in files}
    job = hand_made("train", str(folder), inputs, outputs, settings)
    return replace(job, key=job_key(job))


def evaluation_job(data, run, folder, **settings):
    inputs = {role: str(data / f"{role}.parquet") for role in ("captions", "items", "features")}
    inputs |= {role: run.outputs[role] for role in ("model", "config", "tokenizer")}
    outputs = {"metrics": str(folder / "metrics.json"), "ranks": str(folder / "ranks.parquet")}
    settings = {"lang": "zh", "queries": {"target": 1.0}, "fusion": "standardise", "batch": 64, "threads": 1} | settings
    return replace(hand_made("evaluate", str(folder), inputs, outputs, settings), key="k")


pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


@pytest.fixture(scope="module")
def baseline(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("baseline")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        job = training_job(data, folder, BASELINE)
        train.run(job)
    return job


def sumr(data, run, folder, **settings):
    job = evaluation_job(data, run, folder, **settings)
    retrieval.run(job)
    return read_json(job.outputs["metrics"])


def test_a_student_learns_and_says_what_it_did(data, baseline, tmp_path):
    history = pd.read_csv(baseline.outputs["history"])
    terms = ["vs", "vt", "vs_share", "vt_share"]
    assert list(history.columns) == ["epoch", "lr", "tau", "loss", *terms, "val_t2v", "val_sumr"]
    assert np.allclose(history["vs_share"] + history["vt_share"], 1)
    assert history["loss"].iloc[-1] < 0.5 * history["loss"].iloc[0]
    metrics = sumr(data, baseline, tmp_path)
    assert metrics["sumr"] > 2 * metrics["chance_sumr"]
    assert read_json(baseline.outputs["config"])["key"] == baseline.key
    assert read_json(baseline.outputs["provenance"])["key"] == baseline.key


def test_the_best_epoch_is_kept(data, baseline):
    from ccr.networks.checkpoint import load_network

    network, _ = load_network(baseline.outputs["model"], baseline.outputs["config"])
    texts = train.read_texts(baseline)
    store = train.open_features(baseline.inputs["features"])
    tokenizer = train.Tokens(load_tokenizer(baseline.outputs["tokenizer"]), texts.texts, 16)
    trainer = train.Trainer(network, baseline.settings, tokenizer, store)
    scores = trainer.validate(train.Validation(baseline, texts, store))
    assert scores["sumr"] == pytest.approx(pd.read_csv(baseline.outputs["history"])["val_sumr"].max())


def test_the_same_seed_gives_the_same_bytes(data, baseline, tmp_path):
    job = training_job(data, tmp_path, BASELINE)
    train.run(job)
    for role in ("model", "config", "tokenizer", "history"):
        with open(job.outputs[role], "rb") as one, open(baseline.outputs[role], "rb") as two:
            assert one.read() == two.read(), role


def test_another_seed_gives_another_network(data, baseline, tmp_path):
    job = training_job(data, tmp_path, BASELINE, seed=1, epochs=1)
    train.run(job)
    assert content_hash(job.outputs["model"]) != content_hash(baseline.outputs["model"])


def test_evaluation_does_not_depend_on_its_batch(data, baseline, tmp_path):
    whole = sumr(data, baseline, tmp_path / "a", batch=64)
    parts = sumr(data, baseline, tmp_path / "b", batch=3)
    assert whole == parts


@pytest.fixture
def evaluated_with_embeddings(data, baseline, tmp_path):
    job = evaluation_job(data, baseline, tmp_path)
    job = replace(job, outputs=job.outputs | {"embeddings": str(tmp_path / "embeddings.safetensors")})
    retrieval.run(job)
    return job


def test_embeddings_of_the_test_set_give_the_same_ranks_again(evaluated_with_embeddings):
    job = evaluated_with_embeddings
    with safe_open(job.outputs["embeddings"], "pt") as file:
        assert set(file.keys()) == {"target", "items", "caption_item"} and file.metadata() == {"ccr.key": "k"}
        ranks = rank_both(*(file.get_tensor(name) for name in ("target", "items", "caption_item")))
    written = read_parquet(job.outputs["ranks"], RANKS)["rank"].to_numpy()
    assert np.array_equal(np.concatenate([direction.first for direction in ranks]), written)


def test_a_collection_has_the_embeddings_of_the_test_set(evaluated_with_embeddings, baseline, tmp_path):
    """Items of a features file and the lines of a text file, by `ccr embed`."""
    job = evaluated_with_embeddings
    expected = load_file(job.outputs["embeddings"])
    ranks = read_parquet(job.outputs["ranks"], RANKS).to_pandas()
    captions = read_parquet(job.inputs["captions"], CAPTIONS).to_pandas().set_index("caption_id")
    asked = ranks.loc[ranks["direction"] == "t2v", "query_id"]
    (tmp_path / "queries.txt").write_text("\n".join(captions["text"][asked]), encoding="utf-8")
    store = open_features(job.inputs["features"])
    of_test = store.index(ranks.loc[ranks["direction"] == "v2t", "query_id"].tolist())
    for name, collection, rows, count in (
        ("target", tmp_path / "queries.txt", slice(None), len(asked)),
        ("items", Path(job.inputs["features"]), of_test, len(store.frames)),
    ):
        output = tmp_path / f"{name}.safetensors"
        assert encoder.embed(baseline.outputs, collection, output, batch=7) == count
        assert torch.allclose(load_file(output)["embeddings"][rows], expected[name], atol=1e-6)


def test_a_collection_that_cannot_be_embedded_is_one_message(data, baseline, teacher, tmp_path):
    queries, output = tmp_path / "queries.txt", tmp_path / "out.safetensors"
    for content, message in ((b"a dog\n\na cat\n", "line 2 is empty"), (b"caf\xe9", "UTF-8"), (b"", "line 1")):
        queries.write_bytes(content)
        with pytest.raises(CcrError, match=message):
            encoder.embed(baseline.outputs, queries, output, batch=7)
    features = Path(evaluation_job(data, baseline, tmp_path).inputs["features"])
    with pytest.raises(CcrError, match="Take a student"):
        encoder.embed(teacher.outputs, features, output, batch=7)
    assert not output.exists()


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        job = training_job(data, folder, TEACHER, role="teacher", select_on="mt", epochs=4)
        train.run(job)
    return job


def test_a_teacher_leaves_embeddings_of_all_training_captions_and_of_no_other(teacher):
    ids, embeddings = read_embeddings(teacher.outputs["embeddings"])
    assert len(ids) == 2 * SPLITS["train"] and all(i.startswith("train") for i in ids)
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


@pytest.fixture
def job_with_pairs(data, tmp_path):
    """A teacher's training job on sentence pairs without pictures, with a word that no caption has."""
    pairs = [("a blue sky", "蓝天空"), ("a grey sky", "灰天空")]
    rows = [
        (f"extra#{n}", f"extra#{lang}#{n}", "train", lang, "parallel", None, None, pair[place])
        for place, lang in enumerate(("en", "zh"))
        for n, pair in enumerate(pairs)
    ]
    write(tmp_path / "pairs.parquet", rows, CAPTIONS)
    job = training_job(data, tmp_path / "run", TEACHER, role="teacher", select_on="mt", epochs=1)
    return replace(job, inputs=job.inputs | {"parallel": [str(tmp_path / "pairs.parquet")]})


def test_parallel_text_is_more_rows_each_pair_an_item_of_its_own(job_with_pairs):
    texts = train.read_texts(job_with_pairs)
    triplets = train.Triplets(job_with_pairs, texts, None, None)
    source, target = (texts.table["text"].iloc[triplets.rows[stream]].tolist() for stream in ("source", "target"))
    assert len(triplets) == len(source) == len(target) == SPLITS["train"] + 2
    assert list(zip(source, target, strict=True))[-2:] == [("a blue sky", "蓝天空"), ("a grey sky", "灰天空")]
    assert len(set(triplets.items)) == SPLITS["train"] + 2


def test_a_teacher_learns_the_words_of_its_parallel_text_and_leaves_embeddings_of_captions_alone(job_with_pairs):
    train.run(job_with_pairs)
    ids, _ = read_embeddings(job_with_pairs.outputs["embeddings"])
    assert len(ids) == 2 * SPLITS["train"] and all(i.startswith("train") for i in ids)
    tokenizer = load_tokenizer(job_with_pairs.outputs["tokenizer"])
    assert tokenizer.token_to_id("sky") is not None


def test_a_teacher_of_parallel_text_alone(data, tmp_path):
    """It trains on the pairs, is selected on the held-out ones, and leaves embeddings of the source captions."""
    rows = [
        (
            f"extra#{n}",
            f"extra#{lang}#{n}",
            split,
            lang,
            "parallel",
            None,
            f"extra#en#{n}" if lang == "zh" else None,
            text,
        )
        for lang, text in (("en", "a blue sky"), ("zh", "蓝天空"))
        for n, split in enumerate(["train"] * 6 + ["val"] * 3)
    ]
    write(tmp_path / "pairs.parquet", rows, CAPTIONS)
    job = training_job(data, tmp_path / "run", TEACHER, role="teacher", select_on="parallel", epochs=1)
    job.inputs["parallel"] = [str(tmp_path / "pairs.parquet")]
    del job.inputs["translations"]
    texts = train.read_texts(job)
    assert len(train.Triplets(job, texts, None, None)) == 6
    ((captions, gallery, _),) = train.Validation(job, texts, None).groups
    assert texts.table["text"].iloc[captions].tolist() == ["蓝天空"] * 3
    assert texts.table["text"].iloc[gallery].tolist() == ["a blue sky"] * 3
    train.run(job)
    ids, _ = read_embeddings(job.outputs["embeddings"])
    assert len(ids) == SPLITS["train"] and all(i.startswith("train") for i in ids)


def test_a_teacher_and_a_distilled_student(data, teacher, tmp_path):
    student = training_job(data, tmp_path, BASELINE | {"distillation": DISTILLATION}, epochs=3)
    student.inputs["teacher"] = teacher.outputs["embeddings"]
    train.run(student)
    history = pd.read_csv(student.outputs["history"])
    assert (history["distillation"] > 0).all()


def test_a_teacher_need_not_know_what_is_not_distilled(data, tmp_path):
    """A teacher of parallel text embeds source captions alone; a student distils these and aligns translations too."""
    job = training_job(data, tmp_path, BASELINE | {"distillation": DISTILLATION | {"pair": ["visual", "source"]}})
    job.inputs["teacher"] = str(tmp_path / "embeddings.parquet")
    texts = train.read_texts(job)
    ids = texts.select(split="train", lang="en")["caption_id"].tolist()
    triplets = train.Triplets(job, texts, train.open_features(job.inputs["features"]), (ids, np.eye(len(ids))))
    assert list(triplets.teacher) == ["source"] and "target" in triplets.rows
    assert np.array_equal(triplets.teacher["source"].argmax(1), [ids.index(i) for i in ids])


def test_a_teacher_of_parallel_text_in_several_languages(data, tmp_path):
    """Every language's file has the same source sentences, and so the same ids."""
    for target in ("de", "zh"):
        parents = {"en": lambda n: None, target: lambda n: f"x#en#{n}"}
        rows = [
            (f"x#{n}", f"x#{lang}#{n}", split, lang, "parallel", None, parents[lang](n), f"{lang} {n}")
            for lang in ("en", target)
            for n, split in enumerate(["train"] * 6 + ["val"] * 3)
        ]  # fmt: skip
        write(tmp_path / f"{target}.parquet", rows, CAPTIONS)
    settings = {"role": "teacher", "select_on": "parallel", "langs": ["de", "zh"]}
    job = training_job(data, tmp_path / "run", TEACHER, **settings)
    job.inputs["parallel"] = [str(tmp_path / "de.parquet"), str(tmp_path / "zh.parquet")]
    del job.inputs["translations"]
    texts = train.read_texts(job)
    triplets = train.Triplets(job, texts, None, None)
    source, target = (texts.table["text"].iloc[triplets.rows[stream]].tolist() for stream in ("source", "target"))
    assert source == [f"en {n}" for n in range(6)] * 2
    assert target == [f"{lang} {n}" for lang in ("de", "zh") for n in range(6)]
    for lang, (captions, gallery, _) in zip(("de", "zh"), train.Validation(job, texts, None).groups, strict=True):
        assert texts.table["text"].iloc[captions].tolist() == [f"{lang} {n}" for n in (6, 7, 8)]
        assert texts.table["text"].iloc[gallery].tolist() == [f"en {n}" for n in (6, 7, 8)]


def test_the_rounding_of_a_training_is_not_that_of_what_follows(data, tmp_path):
    rounding = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        train.run(training_job(data, tmp_path, BASELINE, epochs=1))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(rounding)


def test_one_caption_is_too_few(data, tmp_path):
    table = read_parquet(data / "captions.parquet", CAPTIONS).to_pandas()
    table = table[(table["split"] != "train") | (table["item_id"] == "train00")]
    write_parquet(pa.Table.from_pandas(table, CAPTIONS, preserve_index=False), tmp_path / "captions.parquet", CAPTIONS)
    job = training_job(data, tmp_path, {"vs": BASELINE["vs"]})
    job.inputs["captions"] = str(tmp_path / "captions.parquet")
    with pytest.raises(CcrError, match="captions.parquet: texts to train on: 1, but contrastive terms need two"):
        train.run(job)
    table = read_parquet(data / "zh.parquet", CAPTIONS).to_pandas()
    table = table[table["split"] != "train"]
    write_parquet(pa.Table.from_pandas(table, CAPTIONS, preserve_index=False), tmp_path / "zh.parquet", CAPTIONS)
    job = training_job(data, tmp_path, BASELINE)
    job.inputs["translations"] = [str(tmp_path / "zh.parquet")]
    with pytest.raises(CcrError, match="zh.parquet: texts to train on: 0, but contrastive terms need two"):
        train.run(job)


def test_a_teacher_and_a_student_of_several_languages(data, tmp_path):
    """Translations of a caption have the same id in every language, like the lexicon's."""
    table = read_parquet(data / "zh.parquet", CAPTIONS).to_pandas().assign(lang="de")
    write_parquet(pa.Table.from_pandas(table, CAPTIONS, preserve_index=False), tmp_path / "de.parquet", CAPTIONS)
    both = {"langs": ["de", "zh"], "select_on": "mt", "epochs": 2}
    teacher = training_job(data, tmp_path / "teacher", TEACHER, role="teacher", **both)
    student = training_job(data, tmp_path / "student", BASELINE | {"distillation": DISTILLATION}, **both)
    student.inputs["teacher"] = teacher.outputs["embeddings"]
    for job in (teacher, student):
        job.inputs["translations"] = [str(tmp_path / "de.parquet"), str(data / "zh.parquet")]
        train.run(job)
    ids, _ = read_embeddings(teacher.outputs["embeddings"])
    assert len(set(ids)) == len(ids) == 3 * SPLITS["train"]  # source, de, zh


@pytest.mark.parametrize(
    "term",
    [
        DISTILLATION | {"intra": True},
        DISTILLATION | {"tau_student": None},
        {"objective": "embedding_distillation", "weight": 1.0, "pair": ["visual", "target"]},
    ],
    ids=["intra", "learnable tau", "embeddings"],
)
def test_a_student_comes_nearer_to_its_teacher(data, teacher, tmp_path, term):
    student = training_job(data, tmp_path, BASELINE | {"distillation": term}, epochs=3)
    student.inputs["teacher"] = teacher.outputs["embeddings"]
    train.run(student)
    distance = pd.read_csv(student.outputs["history"])["distillation"]
    assert 0 < distance.iloc[-1] < distance.iloc[0]


def test_a_teacher_learns_where_words_point_and_tells_how_far_they_are_apart(data, tmp_path, caplog):
    terms = TEACHER | {"word_alignment": POINTER}
    job = training_job(data, tmp_path, terms, role="teacher", select_on="mt", word_dropout=0.1, epochs=4)
    train.run(job)
    history = pd.read_csv(job.outputs["history"])
    assert history["word_alignment"].iloc[-1] < history["word_alignment"].iloc[0]
    assert (history["word_alignment_share"] > 0).all()
    assert history["word_variance"].between(0.01, 1).all() and "all words have become one" not in caplog.text


def test_words_that_have_all_become_one_are_told_of(data, tmp_path, caplog):
    """Without a margin, nothing keeps the bare transport cost from making all words equal."""
    terms = {"word_alignment": TEACHER["word_alignment"] | {"margin": 0.0}}
    job = training_job(data, tmp_path, terms, role="teacher", select_on="mt", lr=0.05, epochs=4)
    train.run(job)
    assert pd.read_csv(job.outputs["history"])["word_variance"].iloc[-1] < 0.01
    assert "all words have become one" in caplog.text


def text_weights(job):
    return {name: weights for name, weights in load_file(job.outputs["model"]).items() if name.startswith("text")}


def initialised_student(data, teacher, folder, **settings):
    job = training_job(data, folder, BASELINE, **settings)
    return replace(job, inputs=job.inputs | {f"init_{role}": teacher.outputs[role] for role in ("model", "tokenizer")})


def test_a_student_can_start_from_its_teachers_text_encoder_and_tokenizer(data, teacher, tmp_path):
    job = initialised_student(data, teacher, tmp_path, lr=1e-30, epochs=1)  # steps that change nothing
    train.run(job)
    ours, theirs = text_weights(job), text_weights(teacher)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with open(job.outputs["tokenizer"]) as one, open(teacher.outputs["tokenizer"]) as two:
        assert one.read() == two.read()
    plain = training_job(data, tmp_path / "plain", BASELINE, lr=1e-30, epochs=1)
    train.run(plain)
    assert not all(torch.equal(weights, theirs[name]) for name, weights in text_weights(plain).items())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"text": TEXT | {"hidden": 16}}, "of another network than its student's"),
        ({"dim": 16}, "of another network than its student's"),
        ({"text": TEXT | {"layers": 2}}, "has no 'text.*must share their network"),
    ],
)
def test_a_student_of_another_shape_cannot_start_from_its_teacher(data, teacher, tmp_path, other, message):
    job = initialised_student(data, teacher, tmp_path / "run", network=NETWORK | other)
    with pytest.raises(CcrError, match=f"{teacher.outputs['model']}: .*{message}"):
        train.run(job)
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_is_torn_or_absent_is_named(data, teacher, tmp_path):
    job = initialised_student(data, teacher, tmp_path)
    job.inputs["init_model"] = str(tmp_path / "none.safetensors")
    with pytest.raises(CcrError, match="none.safetensors: no such file. Train the teacher first"):
        train.run(job)
    with open(teacher.outputs["model"], "rb") as whole:
        (tmp_path / "none.safetensors").write_bytes(whole.read()[:500])
    with pytest.raises(CcrError, match="none.safetensors: cut off"):
        train.run(job)


def test_a_teacher_of_other_captions_is_refused(data, teacher, tmp_path):
    from ccr.store import write_embeddings

    ids, embeddings = read_embeddings(teacher.outputs["embeddings"])
    write_embeddings(tmp_path / "other.parquet", ids[1:], embeddings[1:])
    student = training_job(data, tmp_path, BASELINE | {"distillation": DISTILLATION}, epochs=1)
    student.inputs["teacher"] = str(tmp_path / "other.parquet")
    with pytest.raises(CcrError, match="other.parquet: no embedding of 'train00#en'"):
        train.run(student)


def captions_seen(data, tmp_path, **settings):
    job = training_job(data, tmp_path, BASELINE, **settings)
    texts = train.read_texts(job)
    store = train.open_features(job.inputs["features"])
    rows = np.concatenate(list(train.Triplets(job, texts, store, None).rows.values()))
    return texts.table.loc[rows], list(texts.training())


def test_no_caption_of_val_or_test_and_no_human_target_caption_is_trained_on(data, tmp_path):
    seen, tokenizer_texts = captions_seen(data, tmp_path)
    assert set(seen["split"]) == {"train"}
    assert set(seen.loc[seen["lang"] == "zh", "origin"]) == {"mt"}
    assert sorted(tokenizer_texts) == sorted(seen["text"])


@pytest.mark.parametrize(
    ("select_on", "role", "langs"),
    [("target", "captions", {"zh"}), ("mt", "translations", {"zh"}), ("source", "captions", {"en"})],
)
def test_selection_is_on_what_it_says(data, tmp_path, select_on, role, langs):
    job = training_job(data, tmp_path, BASELINE, select_on=select_on)
    texts = train.read_texts(job)
    ((rows, gallery, relevant),) = train.Validation(job, texts, train.open_features(job.inputs["features"])).groups
    chosen = texts.table.loc[rows]
    assert set(chosen["split"]) == {"val"} and set(chosen["role"]) == {role} and set(chosen["lang"]) == langs
    assert len(gallery) == SPLITS["val"] and len(relevant) == len(rows)


def test_terms_of_zero_weight_change_nothing(data, baseline, tmp_path):
    """Since the plan leaves such terms out, a method with its extra weights at 0 is the method without them."""
    from ccr.params.entries import objectives_of

    terms = {"vs": {"objective": "infonce", "pair": ["visual", "source"]}, "vt": {"objective": "infonce"}}
    extra = {"triplet": {"weight": 0, "pair": ["source", "target"]}, "transport_cost": {"weight": 0.0}}
    assert objectives_of(terms | extra, "") == objectives_of(terms, "")


BACK = {
    "objective": "triplet", "weight": 0.5, "pair": ["source", "back"], "margin": 0.2, "negatives": "hardest",
    "scale": "mean", "mask_same_item": True,
}  # fmt: skip


def job_with_back(data, folder, objectives, number=0, **settings):
    """A training job that reads back-translations; only the first `number` of them exist."""
    forward = read_parquet(data / "zh.parquet", CAPTIONS).to_pandas()
    forward = forward[forward["split"] != "test"]
    back = forward.assign(caption_id=forward["caption_id"] + "@back", parent_id=forward["caption_id"], lang="en")
    rewrite(back.assign(origin="back", text=forward["parent_id"])[:number], folder / "zh.back.parquet")
    job = training_job(data, folder / "run", objectives, **settings)
    return replace(job, inputs=job.inputs | {"back": [str(folder / "zh.back.parquet")]})


def test_without_back_translations_their_terms_are_an_error_that_says_how_to_mend(data, tmp_path):
    job = job_with_back(data, tmp_path, BASELINE | {"back": BACK}, on_missing="error")
    with pytest.raises(CcrError) as error:
        train.run(job)
    for part in (str(tmp_path / "run"), "zh.back.parquet", "needed by back", "weight 0", "on_missing: drop_term"):
        assert part in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_run_whose_terms_were_dropped_is_the_run_without_them_and_says_so(data, tmp_path, caplog):
    job = job_with_back(data, tmp_path, BASELINE | {"back": BACK}, on_missing="drop_term", epochs=1)
    train.run(job)
    assert "needed by back. Trained without" in caplog.text
    config = read_json(job.outputs["config"])
    assert config["terms"] == ["vs", "vt"]
    assert config["settings"] == job.settings and config["key"] == job.key
    assert "back" not in pd.read_csv(job.outputs["history"])
    assert sumr(data, job, tmp_path / "evaluation")["terms"] == ["vs", "vt"]
    without = training_job(data, tmp_path / "without", BASELINE, epochs=1)
    train.run(without)
    assert content_hash(job.outputs["model"]) == content_hash(without.outputs["model"])


def test_terms_with_back_translations_are_in_force(data, tmp_path):
    number = SPLITS["train"] + SPLITS["val"]
    job = job_with_back(data, tmp_path, BASELINE | {"back": BACK}, number, on_missing="drop_term", epochs=1)
    train.run(job)
    assert read_json(job.outputs["config"])["terms"] == ["vs", "vt", "back"]
    assert (pd.read_csv(job.outputs["history"])["back"] > 0).all()


def test_a_translation_whose_way_back_was_refused_is_left_out_where_the_way_back_is_read(data, tmp_path):
    number = SPLITS["train"] + SPLITS["val"]
    job = job_with_back(data, tmp_path, BASELINE | {"back": BACK}, number, epochs=1)
    path = job.inputs["back"][0]
    whole = read_parquet(path, CAPTIONS)
    write_parquet(whole.slice(1), path, CAPTIONS)
    with pytest.raises(CcrError, match="no back-translation of 'train00#mt'"):
        train.run(job)
    write_parquet(whole.slice(1), path, CAPTIONS, metadata={"refused": '{"train00#mt": "too long"}'})
    triplets = Triplets(job, read_texts(job), None, None)
    assert len(triplets) == SPLITS["train"] - 1
    train.run(job)


def test_weights_of_translations_reach_the_terms(data, tmp_path):
    job = training_job(data, tmp_path / "run", BASELINE, epochs=1)
    ids = read_parquet(data / "zh.parquet", CAPTIONS)["caption_id"].to_pylist()
    losses = {}
    for name, weights in {
        "none": None,
        "ones": [1.0] * len(ids),
        "some": [float(i % 2) for i in range(len(ids))],
    }.items():
        if weights:
            given = {"caption_id": ids, "chrf": [0.0] * len(ids), "weight": weights}
            write_parquet(given, tmp_path / f"{name}.parquet", WEIGHTS)
            job = replace(job, inputs=job.inputs | {"weights": [str(tmp_path / f"{name}.parquet")]})
        train.run(job)
        losses[name] = pd.read_csv(job.outputs["history"]).iloc[0]
    assert losses["ones"]["vt"] == losses["none"]["vt"]
    assert losses["some"]["vt"] != losses["none"]["vt"]


def test_a_student_without_visual_terms_is_refused(data, tmp_path):
    objectives = {"vb": INFONCE | {"pair": ["visual", "back"]}}
    with pytest.raises(CcrError, match="no term with the stream 'visual' remains"):
        train.run(job_with_back(data, tmp_path, objectives, on_missing="drop_term"))


@pytest.mark.parametrize(
    ("objectives", "role"),
    [(BASELINE, "student"), (TEACHER, "teacher"), ({"pointer": POINTER}, "teacher")],
    ids=["student", "teacher", "teacher of words alone"],
)
def test_divergence_is_an_error_and_writes_nothing(data, tmp_path, objectives, role):
    select_on = "mt" if role == "teacher" else "target"
    job = training_job(data, tmp_path / "run", objectives, role=role, select_on=select_on, lr=1e30, epochs=2)
    with pytest.raises(CcrError, match="diverged at epoch|NaN or inf"):
        train.run(job)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("term", ["vt", "distillation"])
def test_one_term_that_is_not_a_number_ends_the_training_before_it_changes_a_weight(
    data, teacher, tmp_path, monkeypatch, term
):
    job = training_job(data, tmp_path / "run", BASELINE | {"distillation": DISTILLATION})
    job.inputs["teacher"] = teacher.outputs["embeddings"]
    module = {"vt": "infonce", "distillation": "relation_distillation"}[term]
    monkeypatch.setattr(f"ccr.objectives.{module}.loss", lambda step, **_: step.tau * np.nan)
    update, changed = train.Trainer.update, []

    def watched(trainer, *arguments, **options):
        before = [weight.detach().clone() for weight in trainer.network.parameters()]
        values = update(trainer, *arguments, **options)
        changed.append(not all(map(torch.equal, before, trainer.network.parameters())))
        return values

    monkeypatch.setattr(train.Trainer, "update", watched)
    with pytest.raises(CcrError, match=f"diverged at epoch 1, step 1: .*'{term}': nan.*nothing was written"):
        train.run(job)
    assert changed and not any(changed) and not (tmp_path / "run").exists()


def test_a_divergence_is_told_by_the_step_where_it_was(data, tmp_path, monkeypatch):
    """Losses are read every ten steps."""
    job = training_job(data, tmp_path / "run", BASELINE, epochs=9)
    update, steps = train.Trainer.update, []

    def diverging(trainer, *arguments, **options):
        steps.append(1)
        values = update(trainer, *arguments, **options)
        return values | {"loss": values["loss"] * (np.inf if len(steps) == 3 else 1)}

    monkeypatch.setattr(train.Trainer, "update", diverging)
    with pytest.raises(CcrError, match="diverged at epoch 1, step 3: {'loss': inf"):
        train.run(job)


def test_memory_that_runs_out_is_one_message(data, tmp_path, monkeypatch):
    job = training_job(data, tmp_path / "run", BASELINE)

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 8 GiB.")

    monkeypatch.setattr(train.Trainer, "update", full)
    with pytest.raises(CcrError, match=r"Tried to allocate 2.00 GiB.* Lower train.student.batch \(16\)"):
        train.run(job)
    assert not (tmp_path / "run").exists()


def edited(data, folder, name, change):
    """A copy of the data with one file changed."""
    folder.mkdir(exist_ok=True)
    for path in data.glob("*.parquet"):
        (folder / path.name).write_bytes(path.read_bytes())
    table = read_parquet(folder / f"{name}.parquet", CAPTIONS).to_pandas()
    rewrite(change(table), folder / f"{name}.parquet")
    return folder


def rewrite(table, path):
    columns = table.astype(object).where(table.notna(), None).to_dict("list")
    write_parquet(columns, path, CAPTIONS)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("captions", lambda t: t[t["split"] != "train"], "no en captions in the train split"),
        ("captions", lambda t: t[~((t["split"] == "val") & (t["lang"] == "zh"))], "no zh captions in the val split"),
        ("zh", lambda t: t.assign(parent_id=t["parent_id"].str.replace("train07", "train99")), "'train99#en'"),
        (
            "captions",
            lambda t: t.assign(item_id=t["item_id"].replace("train03", "unknown")),
            "features.*'unknown'",
        ),
    ],
)
def test_data_that_do_not_fit_are_named(data, tmp_path, name, change, message):
    job = training_job(edited(data, tmp_path / "data", name, change), tmp_path / "run", BASELINE)
    with pytest.raises(CcrError, match=message):
        train.run(job)


def test_a_truncated_input_is_named(data, tmp_path):
    job = training_job(edited(data, tmp_path / "data", "captions", lambda t: t), tmp_path / "run", BASELINE)
    path = tmp_path / "data" / "captions.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CcrError, match="captions.parquet: not a readable Parquet file"):
        train.run(job)


def test_an_empty_test_set_is_an_error(data, baseline, tmp_path):
    with pytest.raises(CcrError, match="no human de captions in the test split"):
        retrieval.run(evaluation_job(data, baseline, tmp_path, lang="de"))


def test_features_of_another_dimension_than_trained_on_are_refused(data, baseline, tmp_path):
    job = evaluation_job(data, baseline, tmp_path)
    rows = [(f"test{n:02d}", np.ones((1, 5), np.float32)) for n in range(SPLITS["test"])]
    meta = {"dim": "5", "extractor": "toy", "weights": "", "preprocess": "", "frame_sampling": ""}
    write_features(tmp_path / "other.parquet", rows, metadata=meta)
    job.inputs["features"] = str(tmp_path / "other.parquet")
    with pytest.raises(CcrError, match="5 dimensions"):
        retrieval.run(job)


def test_translated_queries_stand_for_the_captions(data, baseline, tmp_path):
    """translate_test: here the translation is the English caption of the item."""
    captions = read_parquet(data / "captions.parquet", CAPTIONS).to_pandas()
    test = captions[(captions["split"] == "test") & (captions["lang"] == "en")]
    queries = test.assign(parent_id=test["item_id"] + "#zh", origin="mt")
    rewrite(queries, tmp_path / "queries.parquet")

    def score(queries):
        job = evaluation_job(data, baseline, tmp_path, queries=queries)
        job.inputs["queries"] = str(tmp_path / "queries.parquet")
        retrieval.run(job)
        return read_json(job.outputs["metrics"])

    english = sumr(data, baseline, tmp_path / "en", lang="en")
    assert score({"translated": 1.0})["sumr"] == english["sumr"]
    assert score({"target": 0.5, "translated": 0.5})["sumr"] > english["chance_sumr"]
    rewrite(queries[1:], tmp_path / "queries.parquet")
    with pytest.raises(CcrError, match="1 test captions have no translation"):
        score({"translated": 1.0})


NRCCR = BASELINE | {
    "soft_similarity": {
        "objective": "soft_similarity", "weight": 0.4, "pair": ["visual", "target"], "tau": 0.07,
        "cut_visual": True, "cut_teacher": True,
    },
    "feature_regression": {
        "objective": "feature_regression", "weight": 0.1, "pair": ["source", "target"], "beta": 4.0,
        "reduction": "sum", "cut_teacher": True,
    },
    "adversarial": {
        "objective": "adversarial", "weight": 0.01, "pair": ["source", "target"], "discriminator": "mlp", "lr": 1e-3,
    },
}  # fmt: skip


@pytest.mark.parametrize(("norm", "pooling"), [("layer", "masked_mean"), ("batch_all_streams", "padded_mean")])
def test_nrccr_learns_in_our_form_and_in_the_published_one(data, tmp_path, norm, pooling):
    network = NETWORK | {"norm": norm, "pooling": pooling}
    job = training_job(data, tmp_path / "run", NRCCR, network=network, epochs=8, schedule="plateau", select_by="t2v")
    train.run(job)
    history = pd.read_csv(job.outputs["history"])
    assert np.allclose(history[[f"{term}_share" for term in NRCCR]].sum(axis=1), 1)
    assert (history[[f"{term}_share" for term in NRCCR]] > 0).all(axis=None)
    assert history["adversarial_discriminator"].between(0, 5).all()
    metrics = sumr(data, job, tmp_path / "evaluation")
    assert metrics["sumr"] > 2 * metrics["chance_sumr"]
    assert metrics["terms"] == list(NRCCR)


@pytest.mark.parametrize(("norm", "last"), [("batch", "target"), ("batch_all_streams", "cross")])
def test_evaluation_normalises_by_statistics_of_texts_that_are_searched(data, tmp_path, monkeypatch, norm, last):
    """With momentum 1, running statistics are those of the last texts they were computed on."""
    job = training_job(data, tmp_path, NRCCR, network=NETWORK | {"norm": norm}, epochs=1)
    original, seen = train.Trainer.forward, []

    def forward(self, batch):
        head = self.network.text_head
        head.norm.momentum = 1.0
        means = []
        with monkeypatch.context() as patch:
            project = self.network.project_text
            noted = lambda rows, *rest: (means.append(head.linear(rows).mean(0)), project(rows, *rest))[1]  # noqa: E731
            patch.setattr(self.network, "project_text", noted)
            step, encoded = original(self, batch)
        streams = [stream for stream in step.embeddings if stream != "visual"]
        seen.append((head.norm.running_mean.clone(), dict(zip(streams, means, strict=True))))
        return step, encoded

    monkeypatch.setattr(train.Trainer, "forward", forward)
    train.run(job)
    for running, means in seen:
        assert list(means) == ["source", "target", "cross"]
        nearest = min(means, key=lambda stream: (means[stream] - running).abs().max())
        assert nearest == last and torch.allclose(means[last], running, atol=1e-5)


def test_a_network_that_learnt_nothing_is_told_so(data, baseline, tmp_path, caplog):
    job = training_job(data, tmp_path, BASELINE, lr=1e-9, epochs=1)
    train.run(job)
    assert "the network has learnt nothing" in caplog.text and "chance" in caplog.text
    caplog.clear()
    store = train.open_features(baseline.inputs["features"])
    validation = train.Validation(baseline, train.read_texts(baseline), store)
    train._warn_of_collapse(baseline, [{"val_sumr": 599.0}], validation)
    assert not caplog.text


def test_gradient_shares_are_measured_every_k_steps_and_change_nothing_else(data, baseline, tmp_path):
    job = training_job(data, tmp_path, BASELINE, gradient_every=0)
    train.run(job)
    with open(job.outputs["model"], "rb") as one, open(baseline.outputs["model"], "rb") as two:
        assert one.read() == two.read()
    assert not [name for name in pd.read_csv(job.outputs["history"]) if name.endswith("_share")]


def test_the_share_of_a_term_grows_with_its_weight(data, tmp_path):
    shares = []
    for weight in (0.01, 1.0):
        terms = BASELINE | {"vt": BASELINE["vt"] | {"weight": weight}}
        job = training_job(data, tmp_path / str(weight), terms, epochs=1)
        train.run(job)
        shares.append(pd.read_csv(job.outputs["history"])["vt_share"].iloc[0])
    assert shares[0] < 0.03 and 0.2 < shares[1] < 0.8


def test_discriminator_and_encoder_do_not_train_each_other():
    torch.manual_seed(0)
    adversary = Adversary({"discriminator": "conv", "lr": 1e-3}, 8, torch.device("cpu"))
    states = torch.randn(4, 5, 8, requires_grad=True)
    captions = states, torch.ones(4, 5, dtype=torch.bool)
    before = copy.deepcopy(adversary.discriminator.state_dict())
    first = adversary.update(captions, (states + 1, captions[1]))
    assert states.grad is None
    assert any(not torch.equal(before[k], v) for k, v in adversary.discriminator.state_dict().items())
    adversary.logits(captions).sum().backward()
    assert states.grad.abs().sum() > 0
    assert all(p.grad is None or not p.requires_grad for p in adversary.discriminator.parameters())
    for _ in range(30):
        last = adversary.update(captions, (states + 1, captions[1]))
    assert last < first


def test_plateau_halves_no_sooner_than_at_the_third_epoch_of_a_rate():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = Schedule("plateau", optimizer, 1.0, warmup=0, steps=100)
    rates = []
    for improved in (True, False, False, False, False, False, True):
        schedule.after_epoch(improved)
        rates.append(optimizer.param_groups[0]["lr"])
    halvings = [0, 0, 1, 1, 1, 2, 2]
    assert rates == pytest.approx([0.99 ** (n + 1) / 2**h for n, h in enumerate(halvings)])


def test_cosine_rises_in_the_warm_up_and_ends_at_nothing():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = Schedule("cosine", optimizer, 0.1, warmup=3, steps=10)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(10):
        schedule.after_step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert rates[3:] == sorted(rates[3:], reverse=True) and rates[-1] == pytest.approx(0, abs=1e-12)


def test_scaled_weights_have_their_share_of_the_learning_rate():
    new, encoder = nn.Linear(2, 2), nn.Linear(2, 2)
    before = [weight.detach().clone() for weight in (new.weight, encoder.weight)]
    weights = [*new.parameters(), *encoder.parameters()]
    optimizer = AdamW(weights, 0.1, 0.0, dict.fromkeys(encoder.parameters(), 0.01))
    schedule = Schedule("cosine", optimizer, 0.1, warmup=0, steps=10)
    sum(weight.sum() for weight in weights).backward()
    optimizer.step()  # the size of Adam's first step is the learning rate
    moved = [
        (weight - old).abs().mean().item() for weight, old in zip((new.weight, encoder.weight), before, strict=True)
    ]
    assert moved == pytest.approx([0.1, 0.001], rel=1e-3)
    schedule.after_step()
    rates = {group["lr"] for group in optimizer.param_groups}
    assert max(rates) / min(rates) == pytest.approx(100)


def test_all_captions_of_a_step_go_through_the_encoder_at_once_and_no_padding_is_computed(data, tmp_path, monkeypatch):
    job = training_job(data, tmp_path, BASELINE, epochs=1)
    rows = []
    original = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: (rows.append(x.shape[:-1].numel()), original(self, x))[1])
    calls = []
    make, update = train.Trainer.batch, train.Trainer.update

    def counted_batch(self, triplets, batch):
        tokens = sum(self.tokens.length[triplets.rows[s][batch]].sum() for s in ("source", "target"))
        calls.append([int(tokens), 3 * len(np.unique(triplets.items[batch]))])
        return make(self, triplets, batch)

    def counted_update(self, batch, measure):
        rows.clear()
        values = update(self, batch, measure)
        calls[-1] += [rows.count(calls[-1][0]), max(rows)]
        return values

    monkeypatch.setattr(train.Trainer, "batch", counted_batch)
    monkeypatch.setattr(train.Trainer, "update", counted_update)
    train.run(job)
    for tokens, frames, on_tokens, most in calls:
        # once each: query, key, value, output and feed-forward of the transformer; `linear` and those of the block
        assert on_tokens == 6 + 5
        assert most == max(tokens, frames)


def test_training_runs_from_a_resolved_job_without_the_pipeline(data, tmp_path):
    job = training_job(data, tmp_path / "run", BASELINE, epochs=1)
    (tmp_path / "job.json").write_text(json.dumps(dump_job(job)))
    code = (
        "import sys, runpy\n"
        "for name in ('snakemake', 'dvc', 'pydantic', 'ruamel', 'typer', 'av', 'cv2', 'PIL', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "sys.argv = ['train', sys.argv[1]]\n"
        "runpy.run_module('ccr.train', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "job.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read_json(job.outputs["config"])["key"] == job.key


@pytest.mark.parametrize("pooling", ["masked_mean", "padded_mean"])
def test_bf16_copies_of_weights_give_what_autocast_gives(data, tmp_path, monkeypatch, pooling):
    """To the last bit, including gradients and their shares."""
    network = NETWORK | {"norm": "batch", "pooling": pooling}

    def written(folder):
        job = training_job(data, tmp_path / folder, NRCCR, network=network, epochs=2, precision="bf16")
        train.run(job)
        return Path(job.outputs["model"]).read_bytes(), pd.read_csv(job.outputs["history"])

    model, history = written("copies")
    monkeypatch.setattr(HalfWeights, "used", lambda self: contextlib.nullcontext())
    monkeypatch.setattr(HalfWeights, "of", lambda self, weights: list(weights))
    monkeypatch.setattr(HalfWeights, "gradients", lambda self: None)
    by_autocast, its_history = written("autocast")
    assert model == by_autocast
    pd.testing.assert_frame_equal(history, its_history)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_come_in_their_order(device):
    """For a GPU, a thread makes them; an error there is raised where the batch is waited for."""
    made = ahead([partial(int, n) for n in range(9)], torch.device(device))
    assert list(made) == list(range(9))
    with pytest.raises(ValueError, match="no number"):
        list(ahead([partial(int, "no number")], torch.device(device)))


@pytest.mark.parametrize("on_cpu", [True, False])
def test_bf16_trains_too(data, baseline, tmp_path, monkeypatch, caplog, on_cpu):
    monkeypatch.setattr("ccr.train.loop.cpu_has_bf16", lambda: on_cpu)
    job = training_job(data, tmp_path, BASELINE, precision="bf16")
    train.run(job)
    assert ("bf16 is slow on this CPU" in caplog.text) == (not on_cpu and not torch.cuda.is_available())
    metrics = sumr(data, job, tmp_path)
    assert metrics["sumr"] > 2 * metrics["chance_sumr"]
    assert content_hash(job.outputs["model"]) != content_hash(baseline.outputs["model"])


def test_threads_are_what_the_settings_say(data, tmp_path):
    train.run(training_job(data, tmp_path, BASELINE, epochs=1))
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_batch_in_slices_has_the_gradient_of_the_whole_batch(data, tmp_path, precision):
    """Only without dropout, which each slice draws for itself. The terms' shares of the gradient agree too."""

    def trained(slices):
        folder = tmp_path / f"{slices}"
        folder.mkdir()
        job = training_job(data, folder, NRCCR, epochs=2, precision=precision, slices=slices)
        train.run(job)
        return pd.read_csv(job.outputs["history"])

    whole = trained(1)
    tolerance = 2e-3 if precision == "fp32" else 5e-2
    for slices in (2, 5):
        columns = [name for name in whole if not name.startswith("val_")]
        np.testing.assert_allclose(trained(slices)[columns], whole[columns], rtol=tolerance, atol=tolerance)


def test_slices_keep_the_activations_of_one_at_a_time():
    torch.manual_seed(0)
    config = encoder_config(TEXT | {"layers": 4, "dropout": 0.1}, 100)
    settings = NETWORK | {"text": NETWORK["text"] | {"layers": 4, "dropout": 0.1}}
    network = DualEncoder(settings, config, None, pretrained=False).train()
    shape = Ragged(torch.full((32,), 8))
    tokens = torch.randint(5, 100, (32 * 8,))

    def kept(slices):
        size, network.slices = 0, slices

        def keep(tensor):
            nonlocal size
            size += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network.encode_text(tokens, shape)
        return size

    assert kept(4) < 0.5 * kept(1)  # the rest belongs to the block after the encoder
    torch.manual_seed(1)
    loss = network.encode_text(tokens, shape).pooled.square().sum()
    loss.backward()  # recomputation repeats the dropout of the first pass; otherwise torch raises


@pytest.mark.parametrize("method", ["nrccr", "cl2cm"])
def test_encoders_in_bf16_throughout_learn_what_those_under_autocast_learn(data, tmp_path, monkeypatch, method):
    """On a GPU, norms and residual sums are in bf16 too; here the same is done on a CPU."""
    scores = {}
    for form in ("autocast", "throughout"):
        if form == "throughout":
            monkeypatch.setattr(half, "throughout", lambda network: network.encoders)
        folder = tmp_path / form
        folder.mkdir()
        job = training_job(data, folder, NRCCR if method == "nrccr" else BASELINE, precision="bf16")
        train.run(job)
        scores[form] = sumr(data, job, folder)
    chance = scores["autocast"]["chance_sumr"]
    assert abs(scores["throughout"]["sumr"] - scores["autocast"]["sumr"]) < 0.1 * scores["autocast"]["sumr"]
    assert scores["throughout"]["sumr"] > 2 * chance


def test_what_is_planned_as_auto_is_fp32_on_a_cpu_and_the_run_says_so(data, tmp_path, baseline):
    job = training_job(data, tmp_path, BASELINE, precision="auto")
    train.run(job)
    assert read_json(job.outputs["provenance"])["precision"] == ("bf16" if torch.cuda.is_available() else "fp32")
    if not torch.cuda.is_available():
        assert Path(job.outputs["model"]).read_bytes() == Path(baseline.outputs["model"]).read_bytes()
