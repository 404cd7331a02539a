"""Importers and checks: small data in the official layouts, every bad input, and the real data if available."""

import json
import logging
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hand_made import hand_made, run
from hypothesis import given
from hypothesis import strategies as st
from raw_files import counts, write

from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import CAPTIONS, ITEMS, SPLITS
from ccr.captions import visualsearch as visualsearch_layout
from ccr.captions.checks import checked
from ccr.captions.raw import Raw, found, listed
from ccr.errors import CcrError
from ccr.params.entries import options_of
from ccr.registry import IMPORTERS

REAL = Path("../shared/real")
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not at ../shared/real")


def job_outputs(
    root,
    importer,
    out,
    langs=("en", "zh"),
    data="toy",
    source="official",
    kind="image",
    entities="decode",
    on_leak="keep",
    **options,
):
    """Run the stage; returns the paths of captions.parquet and items.parquet."""
    options = options_of(IMPORTERS[importer], options, "options")
    outputs = {name: str(out / f"{name}.parquet") for name in ("captions", "items")}
    outputs["report"] = str(out / "captions.report.json")
    settings = {"importer": importer, "data": data, "kind": kind, "source": source, "langs": list(langs)}
    settings |= {"entities": entities, "on_leak": on_leak}
    run(hand_made("captions", "t", {"root": str(root)}, outputs, {**settings, "options": options}, key="k"))
    return outputs["captions"], outputs["items"]


def import_(root, importer, out=None, **rest):
    """Run the stage; returns (captions, items) as lists of rows."""
    captions, items = job_outputs(root, importer, out or root / "out", **rest)
    return read_parquet(captions, CAPTIONS).to_pylist(), read_parquet(items, ITEMS).to_pylist()


# --- VisualSearch ------------------------------------------------------------------------------------------


@pytest.fixture
def visualsearch(tmp_path):
    """Two captions per item in en and zh; English translated into Chinese by two engines and back by one."""
    text = tmp_path / "TextData"
    for split, ids in {"train": ["b", "a"], "val": ["c"], "test": ["d"]}.items():
        write(text / f"{split}.ids.txt", "".join(f"{i}\n" for i in ids))

        def lines(tag, what, ids=ids):
            return "".join(f"{i}#{tag}#{n} {what} {i}{n}\n" for i in ids for n in (10, 9))

        write(text / f"toy{split}.caption.txt", lines("enc", "a dog"))
        write(text / f"toy{split}_zh.caption.txt", lines("zh", "狗"))
        for engine in ("google", "opus_mt"):
            write(text / f"toy{split}_{engine}_enc2zh.caption.txt", lines("enc2zh", f"{engine} 狗"))
    write(text / "toytrain_google_enc2zh2enc.caption.txt", "a#enc2zh2enc#9 dog again\n")
    write(text / "toytest_google_zh2enc.caption.txt", "d#zh2enc#9 asked dog\n")
    write(text / "toytrain_google_enc2de.caption.txt", "a#enc2de#9 Hund\n")
    write(text / "toytrain_google_enc2xx.caption.txt", "a#enc2xx#9 ?\n")
    write(text / "othertrain.caption.txt", "no caption at all\n")
    return tmp_path


def test_visualsearch(visualsearch, caplog):
    write(visualsearch / "images" / "a.jpg", b"")
    write(visualsearch / "images" / ".DS_Store", b"")
    caplog.set_level(logging.INFO)
    captions, items = import_(visualsearch, "visualsearch")
    assert [(i["item_id"], i["split"], i["path"], i["kind"]) for i in items] == [
        ("a", "train", "images/a.jpg", "image"),
        ("b", "train", None, "image"),
        ("c", "val", None, "image"),
        ("d", "test", None, "image"),
    ]
    assert [(c["caption_id"], c["origin"], c["engine"], c["parent_id"]) for c in captions if c["item_id"] == "a"] == [
        ("a#enc#9", "human", None, None),
        ("a#enc#10", "human", None, None),
        ("a#enc2zh2enc#9@google", "back", "google", "a#enc2zh#9@google"),
        ("a#zh#9", "human", None, None),
        ("a#zh#10", "human", None, None),
        ("a#enc2zh#9@google", "mt", "google", "a#enc#9"),
        ("a#enc2zh#9@opus_mt", "mt", "opus_mt", "a#enc#9"),
        ("a#enc2zh#10@google", "mt", "google", "a#enc#10"),
        ("a#enc2zh#10@opus_mt", "mt", "opus_mt", "a#enc#10"),
    ]
    queries = [c for c in captions if c["caption_id"] == "d#zh2enc#9@google"]
    assert [(c["lang"], c["parent_id"], c["text"]) for c in queries] == [("en", "d#zh#9", "asked dog")]
    assert "toytrain_google_enc2de.caption.txt left out: 'enc2de' is not among the chosen languages" in caplog.text
    assert "'enc2xx' is no language" in caplog.text
    assert "zh mt (google): train 4, val 2, test 2" in caplog.text


@pytest.mark.parametrize(("translated", "numbers"), [("", set()), ("9-9", {9}), ("9-10", {9, 10}), ("0-8", set())])
def test_visualsearch_captions_that_are_said_to_be_translations(visualsearch, translated, numbers):
    captions, _ = import_(visualsearch, "visualsearch", translated=translated)
    parents = {c["caption_id"]: c["parent_id"] for c in captions if c["origin"] == "human"}
    assert set(parents) == {f"{item}#{tag}#{n}" for item in "abcd" for tag in ("enc", "zh") for n in (9, 10)}
    for caption_id, parent in parents.items():
        item, tag, n = caption_id.split("#")
        assert parent == (f"{item}#enc#{n}" if tag == "zh" and int(n) in numbers else None)
    machine = {c["caption_id"]: c["parent_id"] for c in captions if c["origin"] == "mt"}
    assert machine["a#enc2zh#10@google"] == "a#enc#10" and machine["d#zh2enc#9@google"] == "d#zh#9"


def test_visualsearch_translations_from_another_source_language(visualsearch):
    captions, _ = import_(visualsearch, "visualsearch", langs=["zh", "en"], translated="9-9")
    parents = {c["caption_id"]: c["parent_id"] for c in captions if c["item_id"] == "a" and c["origin"] == "human"}
    assert parents == {"a#enc#9": "a#zh#9", "a#enc#10": None, "a#zh#9": None, "a#zh#10": None}


@pytest.mark.parametrize("translated", ["5", "5-", "a-b", "5-9,11"])
def test_numbers_that_are_none(visualsearch, translated):
    with pytest.raises(CcrError, match=r"datasets.toy.options.translated: .* such as '5-9', found '" + translated):
        import_(visualsearch, "visualsearch", translated=translated)


def test_a_translation_whose_original_is_missing(visualsearch):
    write(visualsearch / "TextData" / "toytest.caption.txt", "d#enc#9 a dog\n")
    for engine in ("google", "opus_mt"):
        write(visualsearch / "TextData" / f"toytest_{engine}_enc2zh.caption.txt", "d#enc2zh#9 狗\n")
    with pytest.raises(CcrError, match=r"caption d#zh#10 is a translation of d#enc#10, which is not in the data set"):
        import_(visualsearch, "visualsearch", translated="9-10")


def export(folder, rows, direction="forward", split="train", engine="lexicon", tag="enc2zh"):
    """Export rows as the translations of a job; returns the file."""
    write_parquet(pa.Table.from_pylist(rows, CAPTIONS), folder / "zh.parquet", CAPTIONS)
    settings = {"direction": direction, "engine": engine, "source_lang": "en", "target_lang": "zh"}
    made_by = "" if engine == "none" else "_google_swap20"
    file = folder / "TextData" / f"toy{split}{made_by}_{tag}.caption.txt"
    job = hand_made("translate", "zh.parquet", {}, {"translations": str(folder / "zh.parquet")}, settings)
    visualsearch_layout.export(job, split, file)
    return file


def translations(engine_made, split="train"):
    """Texts that need care, with ids as published or as our own engines make them."""
    texts = ["一只狗", "两只#3 狗", "a b @c 。", "狗、猫", "#"]
    for n, text in enumerate(texts):
        item = f"{split}#{n // 2}"
        parent = f"{item}#enc#{n}"
        caption_id = f"{parent}@lexicon" if engine_made else f"{item}#enc2zh#{n}@google"
        row = {"item_id": item, "caption_id": caption_id, "parent_id": parent, "split": split, "lang": "zh"}
        yield row | {"origin": "mt", "engine": "lexicon" if engine_made else "google", "text": text}


@pytest.mark.parametrize("engine_made", [True, False])
def test_exported_translations_are_read_back_as_they_were(tmp_path, engine_made):
    rows = [*translations(engine_made), *translations(engine_made, "val")]
    for split in ("train", "val"):
        file = export(tmp_path, rows, split=split)
        lines = file.read_text().split("\n")
        assert lines[:2] == [f"{split}#0#enc2zh#0 一只狗", f"{split}#0#enc2zh#1 两只#3 狗"]
        original = "".join(f"{row['parent_id']} a dog\n" for row in rows if row["split"] == split)
        write(tmp_path / "TextData" / f"toy{split}.caption.txt", original)
    captions, _ = import_(tmp_path, "visualsearch")
    read = {c["parent_id"]: (c["split"], c["lang"], c["engine"], c["text"]) for c in captions if c["origin"] == "mt"}
    assert read == {row["parent_id"]: (row["split"], "zh", "google_swap20", row["text"]) for row in rows}


@pytest.mark.usefixtures("ascii_locale")
def test_exported_lines_are_utf_8_on_every_machine(tmp_path):
    assert export(tmp_path, [*translations(True)]).read_bytes().decode().startswith("train#0#enc2zh#0 一只狗\n")


def test_every_direction_has_its_tag(tmp_path):
    rows = list(translations(True, "train"))
    for direction, tag in {"back": "enc2zh2enc", "queries": "zh2enc"}.items():
        assert export(tmp_path, rows, direction, tag=tag).read_text().startswith(f"train#0#{tag}#0 一只狗\n")
    human = [row | {"caption_id": row["parent_id"]} for row in rows]
    assert export(tmp_path, human, engine="none", tag="zh").read_text().startswith("train#0#zh#0 一只狗\n")


@pytest.mark.parametrize(
    "change", [{"item_id": "my clip"}, {"caption_id": "a@google"}, {"text": "two\nlines"}, {"split": "val"}]
)
def test_captions_that_cannot_be_exported(tmp_path, change):
    with pytest.raises(CcrError, match="cannot be a line|no captions of split 'train'"):
        export(tmp_path, [next(translations(False)) | change])
    assert not list(tmp_path.glob("TextData/*"))


def test_the_same_input_gives_the_same_bytes(visualsearch, tmp_path_factory):
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    import_(visualsearch, "visualsearch", out=first)
    ids = visualsearch / "TextData" / "train.ids.txt"
    write(ids, "".join(reversed(ids.read_text().splitlines(keepends=True))))
    import_(visualsearch, "visualsearch", out=second)
    for name in ("captions.parquet", "items.parquet"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_visualsearch_without_id_lists(visualsearch):
    for split in SPLITS:
        (visualsearch / "TextData" / f"{split}.ids.txt").unlink()
    _, items = import_(visualsearch, "visualsearch", data="x", collection="toy")
    assert counts(items, "split") == {("train",): 2, ("val",): 1, ("test",): 1}


def test_an_item_without_captions_is_dropped_with_a_word(visualsearch, caplog):
    caplog.set_level(logging.INFO)
    write(visualsearch / "TextData" / "test.ids.txt", "d\nsilent\n")
    _, items = import_(visualsearch, "visualsearch")
    assert "silent" not in {i["item_id"] for i in items}
    assert "1 items of test dropped, they have no caption" in caplog.text


def test_machine_translations_without_text_are_left_out_with_what_was_made_of_them(visualsearch, caplog):
    caplog.set_level(logging.INFO)
    write(visualsearch / "TextData" / TRANSLATED, "a#enc2zh#9 \u200b\nb#enc2zh#9\na#enc2zh#10 狗\n")
    captions, _ = import_(visualsearch, "visualsearch")
    made = {c["caption_id"] for c in captions if c["split"] == "train" and c["engine"] == "google"}
    assert made == {"a#enc2zh#10@google"}
    assert "2 machine translations left out, they have no text: a#enc2zh#9@google, b#enc2zh#9@google" in caplog.text
    assert "1 machine translations left out, they have no text: a#enc2zh2enc#9@google" in caplog.text


def test_a_report_says_what_was_put_right(visualsearch):
    write(
        visualsearch / "TextData" / ORIGINAL, "a#enc#9 dog&#39;s tail &amp; a cat\na#enc#10 x\nb#enc#9 x\nb#enc#10 x\n"
    )
    report = visualsearch / "out" / "captions.report.json"
    captions, _ = import_(visualsearch, "visualsearch")
    assert "dog's tail & a cat" in {c["text"] for c in captions}
    assert any(
        note.startswith("put right: HTML entities in 1 captions") for note in json.loads(report.read_text())["notes"]
    )
    captions, _ = import_(visualsearch, "visualsearch", entities="keep")
    assert "dog&#39;s tail &amp; a cat" in {c["text"] for c in captions}
    kept = "left as they are: HTML entities in 1 captions, as in a#enc#9 'dog&#39;s tail &amp; a cat'"
    assert kept in json.loads(report.read_text())["notes"]


ORIGINAL, CHINESE = "toytrain.caption.txt", "toytrain_zh.caption.txt"
TRANSLATED = "toytrain_google_enc2zh.caption.txt"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (ORIGINAL, "a#enc#0 fine\na dog runs\n", r"toytrain.caption.txt, line 2: no tag in 'a dog runs'. Expected"),
        (ORIGINAL, "a#enc#0 fine\na#enc dog\n", r"line 2: malformed: 'a#enc dog'"),
        (ORIGINAL, "a#enc#0 fine\n\nb#enc#0 dog\n", r"line 2: the line is empty"),
        (ORIGINAL, "a#enc#0 fine\na#enc#1\n", r"line 2: caption a#enc#1 is empty"),
        (ORIGINAL, "a#enc#0 fine\na#enc#1 \u200b\u3000\n", r"line 2: caption a#enc#1 is empty"),
        (ORIGINAL, b"a#enc#0 fine\nb#enc#0 d\xf6g\n", r"line 2 \(byte 22\): not UTF-8"),
        (ORIGINAL, "a#enc#0 fine\na#enc#0 again\n", r"line 2: caption id a#enc#0 is given twice, first in .*line 1"),
        (ORIGINAL, "a#enc#0 fine\nz#enc#0 dog\n", r"line 2: caption z#enc#0 belongs to item 'z', which is in no split"),
        (ORIGINAL, "a#enc#0 x\nc#enc#0 dog\n", r"'c' is in two splits: val \(.*val.ids.txt, line 1\), and train by"),
        (ORIGINAL, "a#zh#0 狗\n", r"line 1: tag 'zh', but by the file's name its captions are 'enc'"),
        (CHINESE, "a#xx#0 ?\n", r"line 1: tag 'xx', but by the file's name its captions are 'zh'"),
        (TRANSLATED, "a#enc2zh#7 狗\n", r"caption a#enc2zh#7@google is a translation of a#enc#7, which is not in"),
        ("train.ids.txt", "a\nb\nc\n", r"'c' is in two splits: train \(.*line 3\) and val \(.*line 1\)"),
        ("train.ids.txt", "a\nb\na\n", r"train.ids.txt, line 3: item 'a' is listed twice, first in .*line 1"),
        ("train.ids.txt", "a\n\nb\n", r"train.ids.txt, line 2: empty, an id was expected"),
        ("toytrain_enc2zh.caption.txt", "a#enc2zh#9 狗\n", r"engine None and tag 'enc2zh' do not go together"),
        ("toytrain_google_zh.caption.txt", "a#zh#9 狗\n", r"engine 'google' and tag 'zh' do not go together"),
    ],
)
def test_bad_visualsearch(visualsearch, file, text, message):
    write(visualsearch / "TextData" / file, text)
    with pytest.raises(CcrError, match=message):
        import_(visualsearch, "visualsearch")
    assert not (visualsearch / "out").exists()


def test_an_item_in_the_captions_of_two_splits(visualsearch):
    for split in SPLITS:
        (visualsearch / "TextData" / f"{split}.ids.txt").unlink()
    write(visualsearch / "TextData" / "toyval.caption.txt", "a#enc#20 dog\n")
    with pytest.raises(CcrError, match="item 'a' is in two splits: train .*toytrain.caption.txt, line 3.* and val"):
        import_(visualsearch, "visualsearch")


def test_two_files_of_one_item(visualsearch):
    write(visualsearch / "images" / "a.jpg", b"")
    write(visualsearch / "images" / "a.png", b"")
    with pytest.raises(CcrError, match="images/a.jpg and images/a.png are one item's files"):
        import_(visualsearch, "visualsearch")


def test_files_of_no_item_are_passed_over(visualsearch, caplog):
    caplog.set_level(logging.INFO)
    for name in ("x/Thumbs.db", "y/Thumbs.db", *(f"x/{item}.jpg" for item in "abcd")):
        write(visualsearch / "images" / name, b"")
    _, items = import_(visualsearch, "visualsearch")
    assert {i["path"] for i in items} == {f"images/x/{item}.jpg" for item in "abcd"}
    assert "belong to no item" not in caplog.text
    (visualsearch / "images" / "x" / "d.jpg").rename(visualsearch / "images" / "x" / "d.png.jpg")
    import_(visualsearch, "visualsearch")
    assert (
        "1 items have no file, and 3 files in images/ belong to no item, such as images/x/Thumbs.db; an item_id is the "
        "name of its file without the extension"
    ) in caplog.text


def test_languages(visualsearch):
    with pytest.raises(CcrError, match=r"no captions in 'fr' \(French\); there are captions in en, zh. Add"):
        import_(visualsearch, "visualsearch", langs=["en", "fr"])


def test_visualsearch_in_a_variety_of_the_languages_of_its_files(visualsearch):
    captions, _ = import_(visualsearch, "visualsearch", langs=["en-GB", "zh-SG"], translated="9-9")
    asked, _ = import_(visualsearch, "visualsearch", langs=["en", "zh"], translated="9-9")
    named = {"en": "en-GB", "zh": "zh-SG"}
    assert captions == [row | {"lang": named[row["lang"]]} for row in asked]


@pytest.mark.parametrize(
    ("importer", "file"),
    [
        ("visualsearch", "TextData/toytrain_*_enc2zh.caption.txt"),
        ("vatex", "vatex_training_v1.0.json"),
        ("multi30k", "task1/raw/train.zh.gz"),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_missing_data_root(tmp_path, importer, file, there):
    root = tmp_path if there else tmp_path / "nowhere"
    with pytest.raises(CcrError) as error:
        import_(root, importer)
    assert f"missing  {root}/{file}" in str(error.value)
    assert "set `datasets.toy.source: synthetic`" in str(error.value)


def test_missing_synthetic_root_names_the_command(tmp_path):
    with pytest.raises(CcrError, match=r"run `ccr world .*nowhere`"):
        import_(tmp_path / "nowhere", "vatex", source="synthetic")


def test_a_part_may_be_missing_but_not_silently(visualsearch, caplog):
    (visualsearch / "TextData" / "toytest_zh.caption.txt").unlink()
    (visualsearch / "TextData" / "toytest_google_zh2enc.caption.txt").unlink()
    import_(visualsearch, "visualsearch")
    assert "imported without TextData/toytest_zh.caption.txt" in caplog.text


# --- VATEX -------------------------------------------------------------------------------------------------


@pytest.fixture
def vatex(tmp_path):
    def records(*ids):
        return [{"videoID": i, "enCap": [f"{i} runs", f" {i}  ran\n "], "chCap": [f"{i} 跑"]} for i in ids]

    write(tmp_path / "vatex_training_v1.0.json", json.dumps(records("t1", "t2")))
    write(tmp_path / "vatex_validation_v1.0.json", json.dumps(records("v1", "v2")))
    write(tmp_path / "val_ids.txt", "v2\n")
    write(tmp_path / "test_ids.txt", "v1\n")
    write(tmp_path / "videos" / "t2.mp4", b"")
    return tmp_path


def test_vatex(vatex):
    captions, items = import_(vatex, "vatex", kind="video")
    assert [(i["item_id"], i["split"], i["path"]) for i in items] == [
        ("t1", "train", None),
        ("t2", "train", "videos/t2.mp4"),
        ("v2", "val", None),
        ("v1", "test", None),
    ]
    assert [(c["caption_id"], c["split"], c["text"]) for c in captions[-3:]] == [
        ("v1#en#0", "test", "v1 runs"),
        ("v1#en#1", "test", "v1 ran"),
        ("v1#zh#0", "test", "v1 跑"),
    ]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("vatex_training_v1.0.json", '[{"videoID": "t1", "enC', "line 1, column 20: not valid JSON .* cut off"),
        ("vatex_training_v1.0.json", '{"videoID": "t1"}', "a JSON list of objects was expected"),
        ("vatex_training_v1.0.json", '[{"enCap": [], "chCap": []}]', "record 1: key 'videoID' must hold an id"),
        ("vatex_training_v1.0.json", '[{"videoID": "t1", "enCap": "x"}]', r"record 1 \(t1\): key 'enCap' must hold a"),
        ("vatex_training_v1.0.json", '[{"videoID": "t1", "enCap": ["\\ud800"], "chCap": []}]', "half of a UTF-16 pair"),
        (
            "vatex_training_v1.0.json",
            '[{"videoID": "t1", "enCap": ["x", " "], "chCap": []}]',
            "record 1: caption t1#en#1 is empty",
        ),
        ("vatex_training_v1.0.json", '[{"videoID": "v1", "enCap": [], "chCap": []}]', "'v1' is in two splits: train"),
        ("test_ids.txt", "v9\n", "record 1: caption v1#en#0 belongs to item 'v1', which is in no split"),
        ("test_ids.txt", "v1\nv2\n", "'v2' is in two splits: val .* and test"),
    ],
)
def test_bad_vatex(vatex, file, text, message):
    write(vatex / file, text)
    with pytest.raises(CcrError, match=message):
        import_(vatex, "vatex", kind="video")


@pytest.mark.parametrize(
    ("english", "langs", "source", "numbers"),
    [
        (10, ["en", "zh"], "official", range(5, 10)),
        (7, ["en", "zh"], "official", range(5, 7)),
        (10, ["zh", "en"], "official", range(5, 10)),
        (10, ["zh"], "official", ()),
        (10, ["en", "zh"], "synthetic", ()),  # written independently
    ],
)
def test_the_last_five_chinese_captions_of_vatex_are_translations(vatex, english, langs, source, numbers):
    record = {"videoID": "t1", "enCap": ["runs"] * english, "chCap": ["跑"] * 10}
    write(vatex / "vatex_training_v1.0.json", json.dumps([record]))
    captions, _ = import_(vatex, "vatex", kind="video", langs=langs, source=source)
    parents = {c["caption_id"]: c["parent_id"] for c in captions if c["item_id"] == "t1" and c["parent_id"]}
    assert parents == {f"t1#zh#{n}": f"t1#en#{n}" for n in numbers}


def test_vatex_needs_its_id_lists_and_languages(vatex):
    with pytest.raises(CcrError, match="VATEX has captions in en, zh, none in 'de'"):
        import_(vatex, "vatex", langs=["en", "de"])
    (vatex / "test_ids.txt").unlink()
    with pytest.raises(CcrError, match="test_ids.txt: missing. It lists"):
        import_(vatex, "vatex")


# --- Multi30K ----------------------------------------------------------------------------------------------


@pytest.fixture
def multi30k(tmp_path):
    for part, names in {"train": ["1.jpg", "2.jpg"], "val": ["3.jpg"], "test_2016": ["4.jpg#77"]}.items():
        for task, suffix, numbers in ((1, "", [""]), (2, "_images", [f".{n}" for n in range(1, 6)])):
            name = part + "_flickr" * (task == 1 and part.startswith("test"))
            write(tmp_path / f"task{task}/image_splits/{name}{suffix}.txt", "".join(f"{n}\n" for n in names))
            for lang in ("en", "de"):
                for number in numbers:
                    write(
                        tmp_path / f"task{task}/raw/{name}{number}.{lang}.gz",
                        "".join(f"{lang}{number} {n}\n" for n in names),
                    )
    write(tmp_path / "images" / "2.jpg", b"")
    return tmp_path


def test_multi30k_task1(multi30k):
    captions, items = import_(multi30k, "multi30k", langs=["en", "de"])
    assert [(i["item_id"], i["split"], i["path"]) for i in items] == [
        ("1", "train", None),
        ("2", "train", "images/2.jpg"),
        ("3", "val", None),
        ("4", "test", None),
    ]
    assert [(c["caption_id"], c["parent_id"], c["text"]) for c in captions[:2]] == [
        ("1#de#0", "1#en#0", "de 1.jpg"),
        ("1#en#0", None, "en 1.jpg"),
    ]


def test_multi30k_in_a_variety_of_the_languages_of_its_files(multi30k):
    captions, _ = import_(multi30k, "multi30k", langs=["en-GB", "de-AT"])
    asked, _ = import_(multi30k, "multi30k", langs=["en", "de"])
    named = {"en": "en-GB", "de": "de-AT"}
    assert captions == [row | {"lang": named[row["lang"]]} for row in asked]
    for part in ("train", "val", "test_2016_flickr"):
        there = (multi30k / f"task1/raw/{part}.de.gz").read_bytes()
        (multi30k / f"task1/raw/{part}.de-AT.gz").write_bytes(there)
    captions, _ = import_(multi30k, "multi30k", langs=["en", "de"])
    assert [(c["caption_id"], c["parent_id"]) for c in captions if (c["item_id"], c["lang"]) == ("1", "de")] == [
        ("1#de#0", "1#en#0"),
        ("1#de-AT#0", "1#en#0"),
    ]


def test_multi30k_task2(multi30k):
    captions, _ = import_(multi30k, "multi30k", langs=["en", "de"], task=2)
    assert counts(captions, "split", "lang") == Counter(
        {("train", lang): 10 for lang in ("en", "de")}
        | {(s, lang): 5 for s in ("val", "test") for lang in ("en", "de")}
    )
    assert {c["parent_id"] for c in captions} == {None}


def test_multi30k_test_part(multi30k):
    (multi30k / "task1/image_splits/test_2017.txt").write_text("9.jpg\n")
    for lang in ("en", "de"):
        write(multi30k / f"task1/raw/test_2017.{lang}.gz", "x\n")
    _, items = import_(multi30k, "multi30k", langs=["en", "de"], test="test_2017")
    assert [i["item_id"] for i in items if i["split"] == "test"] == ["9"]


def test_bad_multi30k(multi30k):
    path = multi30k / "task1/raw/train.de.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-6])
    with pytest.raises(CcrError, match=r"train.de.gz: not a whole gzip file"):
        import_(multi30k, "multi30k", langs=["en", "de"])
    path.write_bytes(b"plain text")
    with pytest.raises(CcrError, match=r"train.de.gz: not a whole gzip file"):
        import_(multi30k, "multi30k", langs=["en", "de"])
    write(path, "only one line\n")
    with pytest.raises(CcrError, match=r"train.de.gz has 1 lines, .*train.txt has 2"):
        import_(multi30k, "multi30k", langs=["en", "de"])
    write(path, "one\n \n")
    with pytest.raises(CcrError, match=r"train.de.gz, line 2: caption 2#de#0 is empty"):
        import_(multi30k, "multi30k", langs=["en", "de"])
    (multi30k / "task1/image_splits/train.txt").unlink()
    with pytest.raises(CcrError, match=r"train.txt: missing. It names the image of each line"):
        import_(multi30k, "multi30k", langs=["en", "de"])
    (multi30k / "task2/raw/train.2.de.gz").unlink()
    with pytest.raises(CcrError, match=r"train.2.de.gz: missing, though train.5.de.gz is there"):
        import_(multi30k, "multi30k", langs=["en", "de"], task=2)


# --- text --------------------------------------------------------------------------------------------------


def cleaned(text):
    file = Path("f.txt")
    captions = found(file, item_id=["a"], tag="enc", n=[0], text=[text], row=[1], lang="en")
    return checked(Raw.collect([listed(file, ["a"], "train")], [captions], []))[1]["text"][0].as_py()


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_clean_text_is_stable(text):
    try:
        once = cleaned(text)
    except CcrError as error:
        assert "f.txt, line 1: caption a#enc#0 is empty" in str(error)
    else:
        assert once == once.strip() != ""
        assert cleaned(once) == once


def test_clean_text():
    assert cleaned("  Cafe\u0301 \r\n\tof\u3000two\u200b\u200bs\x00 ") == "Café of twos"


# --- the real data -----------------------------------------------------------------------------------------


@real
def test_real_flickr8k(tmp_path):
    start = time.perf_counter()
    captions, items = import_(REAL / "flickr8k", "visualsearch", out=tmp_path, data="flickr8k")
    assert time.perf_counter() - start < 20  # 105,000 captions; 1.3 s measured
    assert counts(items, "split") == {("train",): 6000, ("val",): 500, ("test",): 500}
    assert sum(i["path"] is not None for i in items) == 200
    kinds = [("en", "human", None), ("zh", "human", None), ("zh", "mt", "google")]
    sizes = {"train": 30000, "val": 2500, "test": 2500}
    assert counts(captions, "lang", "origin", "engine", "split") == {
        (*k, s): n for k in kinds for s, n in sizes.items()
    }


@real
def test_real_vatex_in_both_layouts(tmp_path, caplog):
    options = {"collection": "vatex", "translated": "5-9"}
    published, _ = import_(REAL / "vatex", "visualsearch", out=tmp_path / "vs", kind="video", **options)
    official, items = import_(REAL / "vatex", "vatex", out=tmp_path / "json", kind="video")
    assert counts(items, "split") == {("val",): 1500}
    assert counts(official, "lang") == {("en",): 15000, ("zh",): 15000}
    assert counts(published, "lang", "origin") == {("en", "human"): 15000, ("zh", "human"): 15000, ("zh", "mt"): 15000}
    assert "imported without vatex_training_v1.0.json" in caplog.text

    def texts(rows):
        return sorted((c["item_id"], c["lang"], c["text"]) for c in rows if c["origin"] == "human")

    assert texts(published) == texts(official)

    def pairs(rows):
        known = {c["caption_id"]: (c["item_id"], c["text"]) for c in rows}
        human = [c for c in rows if c["origin"] == "human" and c["parent_id"]]
        return sorted((c["text"], known[c["parent_id"]]) for c in human)

    assert pairs(published) == pairs(official)
    assert len(pairs(official)) == 7500


@pytest.mark.slow
@real
@pytest.mark.parametrize(
    ("options", "langs", "sizes"),
    [
        ({"task": 1}, ["en", "de", "fr", "cs"], {"train": 29000, "val": 1014, "test": 1000}),
        ({"task": 1, "test": "test_2017_mscoco"}, ["en", "fr"], {"train": 29000, "val": 1014, "test": 461}),
        ({"task": 2}, ["en", "de"], {"train": 145000, "val": 5070, "test": 5000}),
    ],
)
def test_real_multi30k(tmp_path, options, langs, sizes):
    job_outputs(REAL / "multi30k", "multi30k", tmp_path, langs=langs, **options)
    rows = read_parquet(tmp_path / "captions.parquet", columns=["lang", "split"]).to_pylist()
    assert counts(rows, "lang", "split") == {(lang, s): n for lang in langs for s, n in sizes.items()}
