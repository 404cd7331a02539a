"""`ccr align` and the quality of alignments, with a network that gives equal states to matching words only."""

import csv
import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hand_made import hand_made, run
from matplotlib.font_manager import fontManager

from ccr import params
from ccr.alignment import fonts, sentences
from ccr.alignment.aligner import Aligner, Alignment
from ccr.alignment.quality import Quality, judge
from ccr.artifacts.files import read_json, write_json
from ccr.artifacts.parquet import write_parquet
from ccr.artifacts.schemas import ALIGNMENT, CAPTIONS, RUN_FILES
from ccr.errors import CcrError
from ccr.networks.checkpoint import save_weights
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.scratch import encoder_config
from ccr.networks.tokens import train_tokenizer
from ccr.registry import word_level

PAIRS = {"red": "红", "green": "绿", "child": "孩", "walks": "走"}
ALONE = ["the", "slowly", "的", "子"]
TEXT = {
    "encoder": "scratch", "hidden": 32, "layers": 0, "heads": 2, "feedforward": 32, "vocabulary": 100,
    "max_tokens": 12, "dropout": 0.0, "frozen_layers": 0, "frozen_prefix": "computed", "prompt": "", "block": None,
}  # fmt: skip
VISUAL = {"hidden": 8, "layer_norm": True, "max_frames": 1, "input_dropout": 0.0, "dropout": 0.0, "block": None}
NETWORK = {
    "text": TEXT, "visual": VISUAL, "dim": 8, "norm": "layer", "pooling": "masked_mean", "dropout": 0.0,
}  # fmt: skip
SOLVER = {"layer": -1, "epsilon": 0.05, "iterations": 20, "marginals": "unbalanced", "relaxation": 1.0}
INSTANCE = {"objective": "instance_alignment", "weight": 1.0, "pair": ["source", "target"]}
POINTER = {"objective": "pointer", "weight": 1.0, "pair": ["source", "target"], "masked": 0.15, **SOLVER}


pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A run directory: a word and its translation have the same state, all others are orthogonal."""
    folder = tmp_path_factory.mktemp("teacher")
    words = [*PAIRS, *PAIRS.values(), *ALONE]
    tokenizer = train_tokenizer([*words, *words], 100)
    text_config = encoder_config(TEXT, tokenizer.get_vocab_size())
    network = DualEncoder(NETWORK, text_config, None, pretrained=False)
    embeddings = network.text.model.embeddings
    with torch.no_grad():
        embeddings.position_embeddings.weight.zero_()
        embeddings.token_type_embeddings.weight.zero_()
        for number, together in enumerate([*PAIRS.items(), *((word,) for word in ALONE)]):
            for word in together:
                embeddings.word_embeddings.weight[tokenizer.token_to_id(word)] = torch.eye(32)[number]
    save_weights(network.state_dict(), folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    settings = {"network": NETWORK, "objectives": {"instance_alignment": INSTANCE, "word_alignment": POINTER}}
    description = {"key": "k", "settings": settings, "text_config": text_config, "feature_dim": None}
    write_json(description, folder / "config.json")
    return folder


def aligner(teacher, options=SOLVER):
    return Aligner(*(teacher / file for file in RUN_FILES.values()), options)


# the error rate


def test_alignment_error_rate_by_hand():
    """the red child | 红孩子: phrases the-nothing, red-红, child-孩子."""
    phrases = np.array([[4, 7, 0, 1], [8, 13, 1, 3]])
    links = np.array([[4, 7, 0, 1], [8, 13, 2, 3], [0, 3, 1, 2]])  # red-红, child-子, and wrongly the-孩
    quality = judge(links, phrases)
    assert quality == Quality(predicted=3, right=2, phrases=2, found=2)
    assert (quality.precision, quality.recall) == (2 / 3, 1)
    assert quality.aer == pytest.approx(1 - (2 + 2) / (3 + 2))
    both = judge(np.array([[8, 13, 1, 2], [8, 13, 2, 3]]), phrases)  # two links in one phrase: found once
    assert both == Quality(predicted=2, right=2, phrases=2, found=1)
    assert quality + both == Quality(5, 4, 4, 3)


def test_half_inside_a_phrase_is_outside():
    phrases = np.array([[4, 7, 0, 1]])
    assert judge(np.array([[4, 8, 0, 1]]), phrases).right == 0
    assert judge(np.array([[4, 7, 0, 2]]), phrases).right == 0


def test_nothing_predicted_is_all_wrong_and_not_an_error():
    quality = judge(np.empty((0, 4), int), np.array([[0, 1, 0, 1]]))
    assert (quality.precision, quality.recall, quality.aer) == (0, 0, 1)


# pairs of sentences


def test_words_are_linked_whatever_their_order_and_batch(teacher):
    sources, targets = ["the red child walks", "green", "a red the"], ["走红的孩", "绿", "红"]
    found = list(aligner(teacher).align(sources, targets, batch=2))
    linked = [
        {(source[a:b], target[c:d]) for a, b, c, d in alignment.links}
        for source, target, alignment in zip(sources, targets, found, strict=True)
    ]
    assert {("red", "红"), ("child", "孩"), ("walks", "走")} <= linked[0]
    assert linked[1:] == [{("green", "绿")}, {("red", "红")}]
    (alone,) = aligner(teacher).align(sources[:1], targets[:1], batch=1)
    assert np.allclose(alone.plan, found[0].plan, atol=1e-6)


@pytest.mark.parametrize("pair", [("", "红"), ("red", " "), ("", "")])
def test_a_caption_without_words_has_no_links(teacher, pair):
    sources, targets = zip(("red child", "孩红"), pair, strict=True)
    full, empty = aligner(teacher).align(sources, targets, batch=8)
    assert full.linked.sum() == 2
    assert empty.links.shape == (0, 4) and 0 in empty.plan.shape


def test_other_words_join_the_link_that_has_more_than_half_of_their_mass():
    plan = np.array([[0.3, 0.2, 0.0, 0.02], [0.0, 0.0, 0.3, 0.03], [0.0, 0.0, 0.1, 0.03]], np.float32)
    linked = np.zeros((3, 4), bool)
    linked[0, 0] = linked[1, 2] = True
    spans = [np.array([[n, n + 1] for n in range(size)]) for size in plan.shape]
    alignment = Alignment(*spans, plan, linked)
    assert sentences.match(alignment) == [([0], [0, 1]), ([1, 2], [2])]
    lines = sentences.describe(alignment, "abc", "wxyz")
    assert lines == ["0.96  a   wx", "0.87  bc  y", "unmatched in the second sentence: z"]


def test_ccr_align_prints_the_words_and_draws_the_plan(teacher, tmp_path):
    command = [sys.executable, "-m", "ccr", "align", "the red child", "红孩的", "--teacher", str(teacher)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["red", "红"] in [line[1:] for line in lines] and ["child", "孩"] in [line[1:] for line in lines]
    assert "marginals unbalanced" in done.stdout and "of its word-level term" in done.stdout
    picture = (tmp_path / "alignment.svg").read_text()
    assert ">红<" in picture and ">child<" in picture  # text, shown in its viewer's fonts


def test_a_run_without_word_level_term_is_aligned_by_the_defaults(teacher, tmp_path):
    description = json.loads((teacher / "config.json").read_text())
    del description["settings"]["objectives"]["word_alignment"]
    student = tmp_path / "student"
    student.mkdir()
    write_json(description, student / "config.json")
    for file in ("model.safetensors", "tokenizer.json"):
        (student / file).symlink_to(teacher / file)
    solver = word_level({}) | {"layer": -1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences, "word_level", lambda objectives: solver)
        lines = sentences.align("red", "红", student, "a.svg")
    assert "trained without a word-level term" in lines[1]


def test_a_picture_without_the_fonts_says_what_to_install(teacher, caplog, monkeypatch):
    monkeypatch.setattr(fonts, "_others", list)  # a machine without other fonts
    with caplog.at_level(logging.WARNING):
        sentences.align("red", "红", teacher, "a.png")
        sentences.align("red", "红", teacher, "a.svg")  # its viewer's fonts show it
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    (message,) = caplog.messages
    assert "a.png" in message and "(红)" in message and "fonts-noto-cjk" in message


def test_a_font_is_found_for_what_matplotlibs_own_lacks():
    stix = next(
        entry.fname for entry in fontManager.ttflist if entry.name == "STIXGeneral"
    )  # comes with matplotlib too
    lacking = sorted(fonts._characters(stix) - fonts._characters(fonts._own().fname))
    letter = next(chr(code) for code in lacking if chr(code).isalpha())
    families, missing = fonts.families(f"a {letter}\u200d")
    assert families[0] == "DejaVu Sans" and len(families) == 2 and missing == ""
    assert fonts.families("نجمة ab") == (["DejaVu Sans"], "")


@pytest.mark.parametrize(
    ("source", "target", "figure", "message"),
    [
        (" ", "红", "a.svg", "'': no words"),
        ("red", "ũű ỡ", "a.svg", "knows none of its words"),
        ("red", "红", "a.gif", "a.gif: no such format"),
    ],
)
def test_what_cannot_be_aligned_is_said(teacher, source, target, figure, message):
    with pytest.raises(CcrError, match=message):
        sentences.align(source, target, teacher, figure)
    assert not list(Path().iterdir())


def test_a_folder_that_is_no_run_is_named(teacher):
    with pytest.raises(CcrError, match="nowhere/model.safetensors: no such file. --teacher"):
        sentences.align("red", "红", "nowhere", "a.svg")


def test_a_model_of_others_is_no_run(tmp_path):
    for file in RUN_FILES.values():
        (tmp_path / file).write_text('{"model_type": "bert"}')
    with pytest.raises(CcrError, match="config.json: not of a run"):
        sentences.align("red", "红", tmp_path, "a.svg")


def test_a_layer_that_the_network_lacks_is_named(teacher):
    with pytest.raises(CcrError, match="no 'block'"):
        aligner(teacher, SOLVER | {"layer": "block"})


# the job, its plan and its table


@pytest.fixture
def quality_job(teacher, tmp_path):
    """Two val pairs, one of them without target words, and a train pair that does not count."""
    pairs = {"a": ("val", "red child", "孩子红"), "b": ("val", "green", " "), "c": ("train", "walks", "红")}
    captions = [(k, k, split, "en", "human", None, None, source) for k, (split, source, _) in pairs.items()]
    translations = [(k, f"{k}#mt", split, "zh", "mt", "toy", k, text) for k, (split, _, text) in pairs.items()]
    phrases = [("a", "red", "红", 0, 3, 2, 3), ("a", "child", "孩子", 4, 9, 0, 2), ("b", "green", "", 0, 5, 0, 1)]
    files = (
        ("captions", captions, CAPTIONS),
        ("translations", translations, CAPTIONS),
        ("alignment", phrases, ALIGNMENT),
    )
    for name, rows, schema in files:
        columns = dict(zip(schema.names, map(list, zip(*rows, strict=True)), strict=True))
        write_parquet(columns, f"{name}.parquet", schema)
    inputs = {name: f"{name}.parquet" for name, *_ in files}
    inputs |= {file.split(".")[0]: str(teacher / file) for file in RUN_FILES.values()}
    settings = {"solver": SOLVER, "batch": 8, "threads": 1}
    return hand_made("evaluate", "quality", inputs, {"metrics": "quality/metrics.json"}, settings, key="k")


def test_a_teacher_is_judged_on_val(quality_job):
    run(quality_job)
    numbers = read_json("quality/metrics.json")
    assert (numbers["n_pairs"], numbers["n_predicted"], numbers["n_phrases"]) == (2, 2, 3)
    assert (numbers["precision"], numbers["recall"]) == (1, pytest.approx(2 / 3))
    assert numbers["aer"] == pytest.approx(1 - (2 + 2) / (2 + 3))


@pytest.mark.parametrize("role", ["captions", "translations", "alignment", "model", "tokenizer"])
def test_a_missing_file_is_named(quality_job, role):
    job = replace(quality_job, inputs=quality_job.inputs | {role: "nowhere"})
    with pytest.raises(CcrError, match="^nowhere: no such file"):
        run(job)


def test_an_alignment_of_other_captions_is_refused(quality_job):
    write_parquet(ALIGNMENT.empty_table(), "alignment.parquet", ALIGNMENT)
    with pytest.raises(CcrError, match="alignment.parquet: no alignment of any val caption"):
        run(quality_job)


@pytest.fixture
def raw(repository):
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    raw["alignments"] = {
        "words": {
            "data": ["vatex"],
            "mt": ["lexicon", "lexicon_substitute40"],
            "teachers": ["cl_instance", "cl_transport"],
            "seeds": [0, 1],
            "solver": {"layer": "block"},
        }
    }
    return raw


def test_noisy_teachers_are_judged_on_clean_translations_by_one_solver(raw):
    plan = params.plan(params.validate(raw))
    table = plan.job("results/words.csv")
    assert [(row["teacher"], row["noise_rate"]) for row in table.settings["rows"]] == [
        ("cl_instance", 0.0),
        ("cl_transport", 0.0),
        ("cl_instance", 0.4),
        ("cl_transport", 0.4),
    ]
    jobs = [job for job in plan.needs("results/words.csv") if job.stage == "evaluate"]
    assert len(jobs) == 8
    clean = "data/vatex-synthetic/translations/lexicon/zh"
    for job in jobs:
        assert job.inputs["translations"] == f"{clean}.parquet"
        assert job.inputs["alignment"] == f"{clean}.alignment.parquet"
        assert job.settings["solver"] == jobs[0].settings["solver"]
    assert jobs[0].settings["solver"]["layer"] == "block"
    run = "vatex-synthetic/lexicon_substitute40/zh/cl_transport/seed1"
    noisy = plan.job(f"results/alignments/{run}")
    assert noisy.inputs["model"].startswith(f"results/teachers/{run}")


def test_on_data_without_true_alignment_there_is_no_such_table(raw):
    raw["alignments"]["words"] |= {"data": ["flickr8k"], "mt": ["google", "lexicon"]}
    plan = params.plan(params.validate(raw))
    with pytest.raises(CcrError, match="alignments.words: none of its rows.*\n.*the true word alignment"):
        plan.job("results/words.csv")


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (
            {"teachers": ["cl_transprt"]},
            "alignments.words.teachers: .* did you mean 'cl_transport'",
        ),
        ({"data": ["vatx"]}, "alignments.words.data: .*'vatex'"),
        ({"mt": ["lexicn"]}, "alignments.words.mt: .*'lexicon'"),
        ({"solver": {"epsilom": 1}}, "alignments.words.solver.epsilom: .*'epsilon'"),
    ],
)
def test_a_mistake_is_one_message(raw, edits, message):
    raw["alignments"]["words"] |= edits
    with pytest.raises(CcrError, match=message):
        params.validate(raw)


def test_no_two_tables_of_one_name(raw):
    raw["alignments"]["vatex_table"] = raw["alignments"].pop("words")
    with pytest.raises(CcrError, match="tables.vatex_table has this name"):
        params.validate(raw)


@pytest.fixture
def table_job(raw):
    """The planned table, with made-up metrics: seed 1 is worse by .1, noise by another .1."""
    job = params.plan(params.validate(raw)).job("results/words.csv")
    for row in job.settings["rows"]:
        for seed, path in zip(row["seeds"], row["metrics"], strict=True):
            aer = 0.3 + 0.1 * seed + 0.1 * (row["noise_rate"] > 0)
            numbers = {"precision": 1 - aer, "recall": 0.5, "aer": aer, "n_pairs": 9, "n_phrases": 40}
            write_json({"key": path, **numbers}, path)
    return replace(job, key="abc")


def test_the_table_has_means_deviations_and_says_what_it_is(table_job):
    run(table_job)
    with open("results/words.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["teacher"], line["mt"], line["n_seeds"]) for line in lines][:1] == [("cl_instance", "lexicon", "2")]
    assert [float(line["aer"]) for line in lines] == [0.35, 0.35, 0.45, 0.45]
    assert {line["aer_std"] for line in lines} == {"0.0707"} and {line["recall_std"] for line in lines} == {"0.0"}
    text = Path("results/words.md").read_text()
    assert text.startswith("# words (SYNTHETIC data)")
    assert "| cl_transport | lexicon_substitute40 | 0.4 | 2 | 0.550 ± 0.071 | 0.500 ± 0.000 | 0.450 ± 0.071 |" in text
    assert "layer block" in text and "9 sentence pairs, 40 linked" in text
    assert Path("results/figures/words/aer.png").read_bytes().startswith(b"\x89PNG")


def test_metrics_of_other_pairs_do_not_go_together(table_job):
    path = table_job.settings["rows"][0]["metrics"][1]
    write_json(read_json(path) | {"n_pairs": 8}, path)
    with pytest.raises(CcrError, match="seed1/metrics.json: measured on other pairs"):
        run(table_job)
