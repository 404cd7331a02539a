"""Sentence pairs without pictures: what is read, what leaks, and where params.yaml allows them for teachers."""

import copy
import gzip
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hand_made import hand_made, run
from hypothesis import given
from hypothesis import strategies as st
from tiny_encoders import text_encoder

from ccr import params
from ccr.artifacts.jobs import job_key
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import CAPTIONS, LEFT_OUT_PAIRS
from ccr.errors import CcrError
from ccr.texts.cleaning import letters

FILE = Path(__file__).parents[1] / "params.yaml"
EN = ["A dog runs.", "Two boys play", "a red car"]
ZH = ["一只狗在跑。", "两个男孩在玩", "一辆红色的车"]


def lines(texts):
    return "".join(f"{text}\n" for text in texts)


def write(path, data):
    data = data if isinstance(data, bytes) else data.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture
def captions(tmp_path):
    """Captions of a data set: human captions across both languages and all splits, and a translation."""
    rows = [
        ("clip1", "clip1#en#0", "train", "en", "human", None, None, "A cat sleeps on a chair."),
        ("clip2", "clip2#en#0", "val", "en", "human", None, None, "a man sings"),
        ("clip3", "clip3#zh#0", "test", "zh", "human", None, None, "一位女士在跳舞"),
        ("clip3", "clip3#en#0", "test", "en", "human", None, None, "!"),
        ("clip2", "clip2#mt#0", "val", "zh", "mt", "toy", "clip2#en#0", "一个男人在唱歌"),
    ]
    path = tmp_path / "captions.parquet"
    write_parquet(dict(zip(CAPTIONS.names, map(list, zip(*rows, strict=True)), strict=True)), path, CAPTIONS)
    return path


def job(captions, source=None, target=None, **settings):
    """The job that pairs two texts (lists of lines, or file contents), with these captions as its input."""
    folder = captions.parent
    files = {}
    for side, text in (("source", EN if source is None else source), ("target", ZH if target is None else target)):
        files[side] = str(write(folder / f"{side}.txt", lines(text) if isinstance(text, list) else text))
    defaults = {
        "data": "toy",
        "parallel": "extra",
        "source_lang": "en",
        "target_lang": "zh",
        "ids": False,
        "held_out": 0,
    }
    outputs = {"parallel": str(folder / "zh.parquet"), "rejected": str(folder / "zh.rejected.parquet")}
    inputs = {"captions": str(captions), **files}
    return hand_made(
        "captions", "t", inputs, outputs, {**defaults, "on_leak": "error", "entities": "decode", **settings}, key="k"
    )


def pairs(job):
    """Run; returns the pairs as (item, source, target) and the pairs left out as (line, reason)."""
    run(job)
    rows = read_parquet(job.outputs["parallel"], CAPTIONS).to_pylist()
    source, target = ([row for row in rows if row["lang"] == lang] for lang in ("en", "zh"))
    by_id = {row["caption_id"]: row for row in source}
    assert len(by_id) == len(source) == len(target)
    assert [by_id[row["parent_id"]] for row in target] == source  # a pair has the same place in both halves
    assert {(row["split"], row["origin"]) for row in rows} == {("train", "parallel")}
    left_out = read_parquet(job.outputs["rejected"], LEFT_OUT_PAIRS).to_pylist()
    found = [(s["item_id"], s["text"], t["text"]) for s, t in zip(source, target, strict=True)]
    return found, [(row["line"], row["reason"]) for row in left_out]


def test_each_line_is_a_pair_and_an_item_of_its_own(captions):
    found, left_out = pairs(job(captions))
    assert [pair[1:] for pair in found] == list(zip(EN, ZH, strict=True))
    assert len({pair[0] for pair in found}) == 3 and not left_out


def test_texts_are_cleaned_as_captions_are(captions):
    found, _ = pairs(job(captions, ["  Cafe\u0301\u200b \t of  two ", "b", "c"]))
    assert found[0][1] == "Café of two"


def test_packed_files(captions):
    packed = job(captions)
    for side in ("source", "target"):
        path = Path(packed.inputs[side])
        packed.inputs[side] = str(write(path.with_suffix(".gz"), path.read_bytes()))
    assert pairs(packed)[0] == pairs(job(captions))[0]


def test_a_pair_without_text_is_left_out_and_recorded(captions):
    found, left_out = pairs(job(captions, ["a", " ", "c", "d"], ["一", "二", "", "四"]))
    assert [pair[1] for pair in found] == ["a", "d"] and left_out == [(2, "no text"), (3, "no text")]


LEAKS = [
    ("A CAT sleeps, on a chair!", "甲", "caption clip1#en#0 of train"),
    ("Ａ man-sings…", "甲", "caption clip2#en#0 of val"),
    ("x", "一位 女士在跳舞。", "caption clip3#zh#0 of test"),
    ("一位女士在跳舞", "x", "caption clip3#zh#0 of test"),
]


@pytest.mark.parametrize(("source", "target", "owner"), LEAKS)
def test_a_caption_of_any_split_and_language_on_either_side_is_a_leak(captions, source, target, owner):
    leaking = job(captions, [*EN, source], [*ZH, target])
    with pytest.raises(CcrError) as error:
        run(leaking)
    for part in ("source.txt", ": 1 lines", "line 4", source, owner, "parallel.extra.on_leak: drop"):
        assert part in str(error.value)
    assert not Path(leaking.outputs["parallel"]).exists()
    found, left_out = pairs(replace(leaking, settings=leaking.settings | {"on_leak": "drop"}))
    assert [pair[1] for pair in found] == EN and left_out == [(4, f"it is the text of {owner}")]


def test_neither_punctuation_alone_nor_a_machine_translation_is_a_leak(captions):
    assert len(pairs(job(captions, ["?", "a man sings a song"], ["！", "一个男人在唱歌"]))[0]) == 2


@given(st.text(max_size=20), st.text(" \t.,;!?-。，、！\u3000", max_size=4))
def test_what_is_the_same_text(text, noise):
    assert letters(noise + text + noise) == letters(text)


WITH_IDS = (["v1#enc#0 a", "v1#enc#1 b", "v2#enc#0 c"], ["v1#enc2zh#0 一", "v1#enc2zh#1 二", "v2#enc2zh#0 三"])


def test_ids_name_the_items(captions):
    found, _ = pairs(job(captions, *WITH_IDS, ids=True))
    assert [pair[1:] for pair in found] == [("a", "一"), ("b", "二"), ("c", "三")]
    items = [pair[0] for pair in found]
    assert items[0] == items[1] != items[2] and not {"v1", "v2"} & set(items)


def test_an_item_of_the_data_set_is_a_leak(captions):
    source, target = (
        [*side, line] for side, line in zip(WITH_IDS, ("clip3#enc#7 d", "clip3#enc2zh#7 四"), strict=True)
    )
    with pytest.raises(CcrError, match=r"line 4 \(d \| 四\): 'clip3' is an item of test"):
        run(job(captions, source, target, ids=True))
    assert len(pairs(job(captions, source, target, ids=True, on_leak="drop"))[0]) == 3


@pytest.mark.parametrize("other", ["v1#enc2zh#2 二", "v3#enc2zh#1 二", "二"])
def test_ids_that_disagree_are_named(captions, other):
    target = [WITH_IDS[1][0], other, WITH_IDS[1][2]]
    with pytest.raises(CcrError, match="line 2: .*source.txt has the id 'v1#enc#1', .*target.txt has"):
        run(job(captions, WITH_IDS[0], target, ids=True))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (ZH[:2], "source.txt has 3 lines, .*target.txt has 2"),
        (b"a\nb\xff\nc\n", r"target.txt, line 2 \(byte 3\): not UTF-8"),
        (["", "", ""], "of 3 lines 0 pairs of sentences are left"),
        ([], "source.txt has 3 lines, .*target.txt has 0"),
    ],
)
def test_files_that_do_not_go_together(captions, target, message):
    with pytest.raises(CcrError, match=message):
        run(job(captions, target=target))


def test_a_torn_file(captions):
    torn = job(captions)
    path = Path(torn.inputs["source"]).with_suffix(".gz")
    path.write_bytes(gzip.compress(lines(EN).encode())[:-6])
    with pytest.raises(CcrError, match="source.gz: not a whole gzip file"):
        run(replace(torn, inputs=torn.inputs | {"source": str(path)}))


def test_no_pair_left_but_leaking_ones(captions):
    with pytest.raises(CcrError, match="of 1 lines 0 pairs of sentences are left"):
        run(job(captions, ["a man sings"], ["甲"], on_leak="drop"))


def test_held_out_pairs_are_split_val_by_their_source_text(captions):
    def held_out(target):
        run(made := job(captions, target=target, held_out=1))
        rows = read_parquet(made.outputs["parallel"], CAPTIONS).to_pylist()
        return [row["text"] for row in rows if row["split"] == "val"]

    source, target = held_out(ZH)
    assert (source, target) in list(zip(EN, ZH, strict=True))
    assert held_out(["x", "y", "z"])[0] == source
    with pytest.raises(CcrError, match="of 3 lines 3 pairs of sentences are left, 3 of them held out"):
        run(job(captions, held_out=3))


def test_other_words_are_another_job(captions):
    keys = {job_key(job(captions, source)) for source in (EN, [*EN[:2], "a blue car"], EN)}
    assert len(keys) == 2


def test_the_mini_worlds_pairs_do_not_leak(tmp_path):
    settings = {
        "layout": "multi30k_task1", "kind": "image", "langs": ["en", "de"], "train": 60, "val": 20, "test": 20,
        "captions": 1, "frames": 1, "size": 32, "seed": 0, "parallel": 50,
    }  # fmt: skip
    root = tmp_path / "raw"
    run(hand_made("world", str(root), {}, {"root": str(root)}, settings))
    outputs = {name: str(tmp_path / f"{name}.parquet") for name in ("captions", "items", "report")}
    importing = {"importer": "multi30k", "data": "toy", "kind": "image", "source": "synthetic", "langs": ["en", "de"]}
    importing |= {"options": {"task": 1, "test": "", "photos": ""}, "entities": "decode", "on_leak": "keep"}
    run(hand_made("captions", "t", {"root": str(root)}, outputs, importing))
    made = job(tmp_path / "captions.parquet", target_lang="de")
    for side, lang in (("source", "en"), ("target", "de")):
        made.inputs[side] = str(root / "parallel" / f"{lang}.txt")
    run(made)
    assert len(read_parquet(made.outputs["parallel"])) == 100


# --- params.yaml -------------------------------------------------------------------------------------------


@pytest.fixture
def raw():
    raw = copy.deepcopy(yaml.safe_load(FILE.read_text()))
    raw["methods"]["more_text"] = {"like": "cl2cm", "teacher": "cl_parallel"}
    for table in ("vatex_table", "multi30k_table", "flickr8k_table"):
        raw["tables"][table]["methods"] = ["baseline", "more_text"]
    return raw


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda raw: raw["parallel"]["world"]["files"].update(xx="x.txt"),
            "parallel.world.files.*: unknown language 'xx'",
        ),
        (lambda raw: raw["parallel"]["world"].update(files={"en": "x"}), "parallel.world.files: .* at least 2"),
        (lambda raw: raw["parallel"]["world"].update(on_leak="ignore"), "parallel.world.on_leak: 'ignore'"),
        (lambda raw: raw["teachers"]["cl_parallel"].update(parallel="wold"), "unknown parallel text 'wold'; .*'world'"),
        (
            lambda raw: raw["teachers"]["cl_parallel"].update(objectives={"back_translation": {"weight": 1}}),
            "teachers.cl_parallel.parallel: its pairs have no back-translations",
        ),
        (
            lambda raw: raw["methods"]["cl2cm"].update(teacher="cl_text"),
            "methods.cl2cm.objectives: .* stream 'target', which its teacher 'cl_text' does not embed. Distil .*source",
        ),
    ],
)
def test_mistakes_in_params(raw, edit, message):
    edit(raw)
    with pytest.raises(CcrError, match=message):
        params.validate(raw)


def test_a_teacher_reads_its_pairs_and_its_student_does_not(raw):
    plan = params.plan(params.validate(raw))
    for data, langs in (("vatex-synthetic", ["zh"]), ("multi30k_task1-synthetic", ["de", "fr", "cs"])):
        for lang in langs:
            teacher = plan.job(f"results/teachers/{data}/lexicon/{lang}/cl_parallel/seed0")
            assert teacher.inputs["parallel"] == [f"data/{data}/parallel/world/{lang}.parquet"]
            needed = [job.target for job in plan.needs(teacher.target)]
            assert needed.index(f"data/raw/{data}") < needed.index(teacher.inputs["parallel"][0])
            student = plan.job(f"results/runs/{data}/lexicon/descriptor/{lang}/more_text/seed0")
            assert "parallel" not in student.inputs


def test_a_teacher_of_parallel_text_alone_reads_no_translation(raw, tmp_path):
    raw["networks"]["e5_photo"]["text"]["encoder"] = text_encoder(tmp_path)
    plan = params.plan(params.validate(raw))
    data = "multi30k_photos"
    teacher = plan.job(f"results/teachers/{data}/none/de/cl_text/seed0")
    assert set(teacher.inputs) - {"encoder"} == {"captions", "items", "parallel"}
    assert teacher.settings["select_on"] == "parallel"
    student = plan.job(f"results/runs/{data}/none/mobilenet_v2_flickr8k/de/teacher_init_text/seed0")
    assert student.inputs["init_model"] == teacher.outputs["model"] and "translations" not in student.inputs
    raw["parallel"]["multi30k"]["held_out"] = 0
    with pytest.raises(CcrError, match="teachers.cl_text.pairs: parallel needs `parallel` text with `held_out` pairs"):
        params.validate(raw)


def left_out(raw, table):
    job = params.plan(params.validate(raw)).job(f"results/{table}.csv")
    assert {row["method"] for row in job.settings["rows"]} == {"baseline"}
    return str(job.settings["left_out"])


def test_a_row_whose_teacher_has_no_pairs_here_is_left_out_with_the_reason(raw, tmp_path):
    raw["datasets"]["flickr8k"]["root"] = str(tmp_path)
    assert f"{tmp_path}/parallel/en.txt does not exist" in left_out(raw, "flickr8k_table")
    raw["datasets"]["vatex"]["world"]["parallel"] = 0
    assert "datasets.vatex.world.parallel is 0" in left_out(raw, "vatex_table")
    raw["teachers"]["cl_parallel"]["parallel"] = "multi30k"
    assert "parallel.multi30k has no sentences in 'zh'" in left_out(raw, "vatex_table")


def test_pairs_that_no_teacher_asks_for_can_be_made(raw, tmp_path):
    files = {"en": str(tmp_path / "en.txt"), "zh": str(tmp_path / "zh.txt")}
    raw["parallel"]["mine"] = {"files": files}
    plan = params.plan(params.validate(raw))
    target = "data/vatex-synthetic/parallel/mine/zh.parquet"
    with pytest.raises(CcrError, match=r"parallel.mine.files.en: .*en.txt does not exist. Put the file there"):
        plan.job(target)
    for path in files.values():
        write(Path(path), "x\n")
    assert plan.job(target).inputs["target"] == files["zh"]


# --- the real data -----------------------------------------------------------------------------------------


def real_captions(real, folder):
    """captions.parquet of Multi30K task 1, en and de."""
    settings = {
        "importer": "multi30k",
        "data": "multi30k",
        "kind": "image",
        "source": "official",
        "langs": ["en", "de"],
        "entities": "decode",
        "on_leak": "keep",
    }
    outputs = {name: str(folder / f"{name}.parquet") for name in ("captions", "items", "report")}
    options = {"task": 1, "test": "", "photos": ""}
    run(hand_made("captions", "t", {"root": str(real / "multi30k")}, outputs, settings | {"options": options}))
    return Path(outputs["captions"])


def test_real_multi30k_as_text_for_others_and_for_itself(real, captions, tmp_path):
    def multi30k(captions, **settings):
        made = job(captions, target_lang="de", **settings)
        for side, lang in (("source", "en"), ("target", "de")):
            made.inputs[side] = str(real / "multi30k/task1/raw" / f"train.{lang}.gz")
        return made

    run(multi30k(captions))
    assert len(read_parquet(captions.parent / "zh.parquet")) == 2 * 29000
    (tmp_path / "own").mkdir()
    with pytest.raises(CcrError, match=r": 29,000 lines share .* line 1 \(Two young, White males are outside"):
        run(multi30k(real_captions(real, tmp_path / "own")))


def test_real_vatex_with_ids(real, captions):
    made = job(captions, ids=True)
    names = {"source": "vatexval.caption.txt", "target": "vatexval_google_enc2zh.caption.txt"}
    made.inputs.update({side: str(real / "vatex/TextData" / name) for side, name in names.items()})
    found, left_out = pairs(made)
    assert len(found) == 15000 and len({pair[0] for pair in found}) == 1500 and not left_out
