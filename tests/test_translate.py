"""Stage translate: directions, the engine interface, published translations, human captions in their place."""

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest
from hand_made import hand_made, run

from ccr.artifacts.parquet import read_parquet, refused_of, write_parquet
from ccr.artifacts.schemas import ALIGNMENT, CAPTIONS
from ccr.errors import CcrError
from ccr.registry import ENGINES, Entry

REAL = Path("../shared/real")
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not at ../shared/real")


def caption(caption_id, split, lang, text, origin="human", engine=None, parent_id=None):
    return {
        "item_id": caption_id.split("#")[0],
        "caption_id": caption_id,
        "split": split,
        "lang": lang,
        "origin": origin,
        "engine": engine,
        "parent_id": parent_id,
        "text": text,
    }


def google(caption_id, split, lang, text, parent_id, origin="mt"):
    return caption(f"{caption_id}@google", split, lang, text, origin, "google", parent_id)


ROWS = [
    caption("a#enc#0", "train", "en", "a dog"),
    caption("a#enc#1", "train", "en", "the dog"),
    google("a#enc2zh2enc#0", "train", "en", "one dog", "a#enc2zh#0@google", "back"),
    google("a#enc2zh2enc#1", "train", "en", "this dog", "a#enc2zh#1@google", "back"),
    caption("a#zh#0", "train", "zh", "狗甲"),
    caption("a#zh#1", "train", "zh", "狗乙"),
    caption("a#zh#2", "train", "zh", "狗丙"),
    google("a#enc2zh#0", "train", "zh", "一只狗", "a#enc#0"),
    google("a#enc2zh#1", "train", "zh", "那只狗", "a#enc#1"),
    caption("b#enc#0", "val", "en", "a dog"),
    google("b#enc2zh2enc#0", "val", "en", "a hound", "b#enc2zh#0@google", "back"),
    caption("b#zh#0", "val", "zh", "狗"),
    google("b#enc2zh#0", "val", "zh", "狗儿", "b#enc#0"),
    caption("c#enc#0", "test", "en", "a cat"),
    google("c#zh2enc#0", "test", "en", "cat?", "c#zh#0"),
    caption("c#zh#0", "test", "zh", "猫"),
    google("c#enc2zh#0", "test", "zh", "一只猫", "c#enc#0"),
]


@pytest.fixture
def translate(tmp_path):
    """Run the stage on rows of captions; returns the rows written."""

    def call(direction="forward", engine="precomputed", variant="google", rows=ROWS, alignment=False, **options):
        captions = tmp_path / "captions.parquet"
        write_parquet(pa.Table.from_pylist(rows, CAPTIONS), captions, CAPTIONS)
        target = tmp_path / f"{variant}.{direction}.parquet"
        inputs = {"captions": str(captions)}
        if direction == "back":
            inputs["forward"] = str(tmp_path / f"{variant}.forward.parquet")
        outputs = {"translations": str(target)}
        if alignment:
            outputs["alignment"] = str(tmp_path / "alignment.parquet")
        settings = {"direction": direction, "variant": variant, "engine": engine, "source_lang": "en"}
        options = {"published": "", **options} if engine == "precomputed" else options
        run(hand_made("translate", str(target), inputs, outputs, {**settings, "target_lang": "zh", "options": options}))
        return read_parquet(target, CAPTIONS).to_pylist()

    return call


def ids(rows):
    return [(row["caption_id"], row["parent_id"]) for row in rows]


# --- precomputed -------------------------------------------------------------------------------------------


def test_published_translations_keep_their_ids_and_the_order_of_their_parents(translate):
    rows = translate("forward")
    assert ids(rows) == [
        ("a#enc2zh#0@google", "a#enc#0"),
        ("a#enc2zh#1@google", "a#enc#1"),
        ("b#enc2zh#0@google", "b#enc#0"),
        ("c#enc2zh#0@google", "c#enc#0"),
    ]
    assert [row["text"] for row in rows] == ["一只狗", "那只狗", "狗儿", "一只猫"]
    assert {(row["lang"], row["origin"], row["engine"]) for row in rows} == {("zh", "mt", "google")}
    back = translate("back")
    assert ids(back) == [
        ("a#enc2zh2enc#0@google", "a#enc2zh#0@google"),
        ("a#enc2zh2enc#1@google", "a#enc2zh#1@google"),
        ("b#enc2zh2enc#0@google", "b#enc2zh#0@google"),
    ]
    assert {(row["lang"], row["origin"], row["split"]) for row in back} == {
        ("en", "back", "train"),
        ("en", "back", "val"),
    }
    assert ids(translate("queries")) == [("c#zh2enc#0@google", "c#zh#0")]


def test_the_variant_may_have_another_name_than_the_published_engine(translate):
    assert len(translate("forward", variant="mine", published="google")) == 4


def test_nothing_published(translate):
    with pytest.raises(CcrError) as error:
        translate("forward", variant="deepl")
    assert "no published translations into 'zh' by 'deepl' for direction 'forward'" in str(error.value)
    assert "Published are: google (back into en), google (into en), google (into zh)" in str(error.value)
    assert "Set translate.variants.deepl.published" in str(error.value)
    forward_only = [row for row in ROWS if row["origin"] == "human" or row["lang"] == "zh"]
    with pytest.raises(CcrError, match=r"for direction 'queries'. Published are: google \(into zh\)"):
        translate("queries", rows=forward_only)


def test_back_translations_that_nobody_published_are_a_table_without_rows(translate, caplog):
    rows = [row for row in ROWS if row["origin"] != "back"]
    translate("forward", rows=rows)
    assert translate("back", rows=rows) == []
    assert "google.back.parquet: 'google' has no back-translation" in caplog.text
    assert "on_missing" in caplog.text


def test_back_translations_that_are_published_in_part_are_an_error(translate):
    rows = [row for row in ROWS if row["caption_id"] != "b#enc2zh2enc#0@google"]
    translate("forward", rows=rows)
    with pytest.raises(CcrError, match="'google' has no translation of 1 of 3 captions: b#enc2zh#0@google"):
        translate("back", rows=rows)


def test_a_hole_is_an_error(translate):
    rows = [row for row in ROWS if row["caption_id"] != "a#enc2zh#1@google"]
    with pytest.raises(
        CcrError, match=r"'google' has no translation of 1 of 4 captions: a#enc#1\. .* or choose another"
    ):
        translate("forward", rows=rows)
    with pytest.raises(CcrError, match=r"translate.variants.google.lacking: 0.2 lets this share of them be left out"):
        translate("forward", rows=rows, lacking=0.2)


def test_a_few_holes_are_left_out_and_counted(translate, tmp_path, caplog):
    rows = [row for row in ROWS if row["caption_id"] != "a#enc2zh#1@google"]
    kept = translate("forward", rows=rows, lacking=0.25)
    assert [row["parent_id"] for row in kept] == ["a#enc#0", "b#enc#0", "c#enc#0"]
    assert "'google' has no translation of 1 of 4 captions, left out: a#enc#1" in caplog.text
    assert refused_of(read_parquet(tmp_path / "google.forward.parquet")) == {"a#enc#1": "none is published"}


def test_a_test_query_without_a_published_translation_stays_as_it_is(translate):
    other = next(row for row in ROWS if row["caption_id"] == "c#zh#0") | {"caption_id": "c#zh#1", "text": "又一只猫"}
    found = translate("queries", rows=[*ROWS, other], lacking=0.5)
    assert [(row["caption_id"], row["parent_id"]) for row in found] == [
        ("c#zh2enc#0@google", "c#zh#0"),
        ("c#zh#1@google", "c#zh#1"),
    ]
    assert found[1]["text"] == "又一只猫"


def test_a_publisher_need_not_translate_the_test_captions(translate, caplog):
    rows = [row for row in ROWS if row["caption_id"] != "c#enc2zh#0@google"]
    assert {row["split"] for row in translate("forward", rows=rows)} == {"train", "val"}
    assert "no translation of the test captions" in caplog.text


def test_nothing_to_translate(translate):
    rows = [row for row in ROWS if row["split"] != "test"]
    with pytest.raises(CcrError, match="direction 'queries': it holds no human test captions in 'zh'"):
        translate("queries", rows=rows)


# --- human captions in the place of translations -----------------------------------------------------------


def test_human_captions_pair_in_order_and_source_captions_start_over(translate):
    rows = translate("forward", engine="none", variant="human")
    assert ids(rows) == [
        ("a#zh#0", "a#enc#0"),
        ("a#zh#1", "a#enc#1"),
        ("a#zh#2", "a#enc#0"),
        ("b#zh#0", "b#enc#0"),
        ("c#zh#0", "c#enc#0"),
    ]
    assert {(row["origin"], row["engine"], row["lang"]) for row in rows} == {("human", None, "zh")}


def test_human_captions_that_are_translations_are_paired_like_others(translate):
    rows = [row | ({"parent_id": "a#enc#1"} if row["caption_id"] == "a#zh#0" else {}) for row in ROWS]
    plain = translate("forward", engine="none", variant="human")
    assert translate("forward", engine="none", variant="human", rows=rows) == plain


def test_human_captions_are_left_out_only_with_a_word(translate, caplog):
    rows = [row for row in ROWS if row["caption_id"] != "b#enc#0"]
    assert len(translate("forward", engine="none", variant="human", rows=rows)) == 4
    assert "1 captions left out: their items have no caption in en" in caplog.text


def test_human_has_no_way_back_and_needs_captions(translate, caplog):
    assert translate("back", engine="none", variant="human") == []
    assert "human.back.parquet: 'none' has no back-translation" in caplog.text
    with pytest.raises(CcrError, match="translate.variants.human: engine none translates nothing"):
        translate("queries", engine="none", variant="human")
    rows = [row for row in ROWS if row["lang"] == "en"]
    with pytest.raises(CcrError, match="no human captions in 'zh': a"):
        translate("forward", engine="none", variant="human", rows=rows)


def test_human_needs_captions_to_train_on_if_anything_is_trained(translate):
    rows = [row for row in ROWS if not (row["origin"] == "human" and row["lang"] == "zh" and row["split"] == "train")]
    with pytest.raises(CcrError, match="no human captions in 'zh' of train items: .*`supervised`"):
        translate("forward", engine="none", variant="human", rows=rows)
    rows = [row for row in ROWS if row["split"] == "test"]
    assert ids(translate("forward", engine="none", variant="human", rows=rows)) == [("c#zh#0", "c#enc#0")]


# --- the interface that engines implement ------------------------------------------------------------------


class Shouting:
    """An engine that puts the text in capitals and knows the alignment."""

    name = "shouting-1"
    seen: list[str] = []

    def __init__(self, job):
        self.lang = job.settings["target_lang"]

    def translate(self, parents):
        Shouting.seen = parents["text"].to_pylist()
        return [None if text == "a cat" else f" {text.upper()}\u0301 \n" for text in Shouting.seen]

    def alignment(self, parents):
        size = len(parents)
        columns = {name: [0] * size for name in ALIGNMENT.names}
        words = {name: parents["text"] for name in ("source_token", "target_token")}
        return pa.table(columns | words | {"caption_id": parents["caption_id"]})


@pytest.fixture
def shouting(monkeypatch):
    module = ModuleType("shouting")
    module.Engine = Shouting
    monkeypatch.setitem(sys.modules, "shouting", module)
    monkeypatch.setitem(ENGINES, "shouting", Entry("shouting"))


def test_identical_captions_are_translated_once(translate, shouting, tmp_path):
    rows = [row for row in ROWS if row["split"] != "test"]
    forward = translate("forward", "shouting", "loud", rows, alignment=True)
    assert Shouting.seen == ["a dog", "the dog"]
    assert ids(forward) == [(f"{i}@loud", i) for i in ("a#enc#0", "a#enc#1", "b#enc#0")]
    assert [row["text"] for row in forward] == ["A DOǴ", "THE DOǴ", "A DOǴ"]
    assert {row["engine"] for row in forward} == {"shouting-1"}
    assert read_parquet(tmp_path / "alignment.parquet", ALIGNMENT).num_rows == 3
    back = translate("back", "shouting", "loud", rows)
    assert [(row["caption_id"], row["origin"], row["lang"]) for row in back][:1] == [
        ("a#enc#0@loud@loud", "back", "en"),
    ]


def test_an_engine_that_fails_on_a_sentence(translate, shouting):
    rows = [row | {"split": "train"} for row in ROWS]
    with pytest.raises(CcrError, match="'shouting-1' has no translation of 1 of 4 captions: c#enc#0"):
        translate("forward", "shouting", "loud", rows)


def test_an_engine_that_loses_a_sentence(translate, shouting, monkeypatch):
    monkeypatch.setattr(Shouting, "translate", lambda self, parents: ["one"])
    with pytest.raises(ValueError, match="was given 3 captions and returned 1"):
        translate("forward", "shouting", "loud")


# --- the real data -----------------------------------------------------------------------------------------


@real
@pytest.mark.parametrize(
    ("name", "engine", "sizes"),
    [
        ("flickr8k", "precomputed", {"train": 30000, "val": 2500, "test": 2500}),
        ("flickr8k", "none", {"train": 30000, "val": 2500, "test": 2500}),
        ("vatex", "precomputed", {"val": 15000}),
    ],
)
def test_real_translations(tmp_path, name, engine, sizes):
    outputs = {role: str(tmp_path / f"{role}.parquet") for role in ("captions", "items", "report")}
    settings = {"importer": "visualsearch", "data": name, "kind": "image", "source": "official", "langs": ["en", "zh"]}
    settings |= {"options": {"collection": "", "translated": ""}, "entities": "decode", "on_leak": "keep"}
    run(hand_made("captions", "t", {"root": str(REAL / name)}, outputs, settings))
    target = str(tmp_path / "zh.parquet")
    settings = {"direction": "forward", "variant": "google", "engine": engine, "source_lang": "en", "target_lang": "zh"}
    settings["options"] = {"published": "google"} if engine == "precomputed" else {}
    run(hand_made("translate", target, outputs, {"translations": target}, settings))
    rows = read_parquet(target, CAPTIONS)
    assert Counter(rows["split"].to_pylist()) == sizes
    assert rows["parent_id"].null_count == 0
