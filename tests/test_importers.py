"""MSCOCO, MSR-VTT-CN, Multi30K, XM3600, XTD10 and your own tables, all small; the output of `ccr captions check`."""

import json
import logging
import re
import shutil
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hand_made import hand_made, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_files import counts, write
from typer.testing import CliRunner

from ccr import params
from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.schemas import CAPTIONS, ITEMS, SPLITS
from ccr.captions.inventory import inventory
from ccr.captions.mscoco import COCO_CN
from ccr.cli import app
from ccr.errors import CcrError
from ccr.params.entries import options_of
from ccr.registry import IMPORTERS
from ccr.running import execute

REPOSITORY = Path(__file__).parents[1]


def import_(root, importer, langs=("en", "zh"), data="toy", source="official", kind="image", out=None, **options):
    """Run the stage; returns (captions, items) as lists of rows."""
    out = out or root / "out"
    outputs = {name: str(out / f"{name}.parquet") for name in ("captions", "items")}
    outputs["report"] = str(out / "captions.report.json")
    options = options_of(IMPORTERS[importer], options, "options")
    job = {"importer": importer, "data": data, "kind": kind, "source": source, "langs": list(langs), "options": options}
    job |= {"entities": "decode", "on_leak": "keep"}
    run(hand_made("captions", "t", {"root": str(root)}, outputs, job, key="k"))
    return [read_parquet(outputs[n], s).to_pylist() for n, s in (("captions", CAPTIONS), ("items", ITEMS))]


def splits_of(items):
    return {item["item_id"]: item["split"] for item in items}


def human(captions, lang, split):
    """Texts of the human captions in a language and split."""
    return sorted(c["text"] for c in captions if (c["lang"], c["split"], c["origin"]) == (lang, split, "human"))


# --- MSCOCO ------------------------------------------------------------------------------------------------


def image(number):
    return f"COCO_val2014_{number:012d}"


def write_mscoco(root, karpathy, coco_cn):
    """The files of MSCOCO: one English and one Japanese caption of each image in `karpathy`, a Chinese one of each in
    `coco_cn`. Both map an image's number to the publisher's split.
    """
    images = [
        {
            "filepath": "val2014",
            "sentids": [n],
            "filename": f"{image(n)}.jpg",
            "imgid": n,
            "split": split,
            "sentences": [{"tokens": ["en", str(n)], "raw": f"en {n}\n", "imgid": n, "sentid": n}],
            "cocoid": n,
        }
        for n, split in karpathy.items()
    ]
    write(root / "dataset_coco.json", json.dumps({"images": images, "dataset": "coco"}))
    japanese = [{"id": n, "image_id": n, "caption": f"日 {n}", "tokenized_caption": f"日 {n}"} for n in karpathy]
    for half, part in {"train": japanese[::2], "val": japanese[1::2]}.items():
        write(root / f"stair_captions_v1.2_{half}.json", json.dumps({"annotations": part}))
    for split in SPLITS:
        lines = [f"{image(n)}\n" for n in coco_cn if coco_cn[n] == split]
        write(root / COCO_CN / f"coco-cn_{split}.txt", "".join(lines))
    chinese = "".join(f"{image(n)}#0\t中 {n}\n" for n in coco_cn)
    write(root / COCO_CN / "imageid.human-written-caption.txt", chinese)
    return root


KARPATHY = {1: "train", 2: "restval", 3: "val", 4: "test", 5: "train", 6: "test", 7: "val", 8: "train"}
ONLY_CHINESE = {1: "train", 4: "train", 5: "test", 6: "val", 7: "test", 8: "val"}


@pytest.fixture
def mscoco(tmp_path):
    return write_mscoco(tmp_path, KARPATHY, ONLY_CHINESE)


def test_mscoco_in_karpathys_split(mscoco):
    write(mscoco / "images" / "val2014" / f"{image(2)}.jpg", b"")
    captions, items = import_(mscoco, "mscoco", ["en", "ja", "zh"], split="karpathy")
    assert splits_of(items) == {image(n): s.replace("restval", "train") for n, s in KARPATHY.items()}
    assert [i["path"] for i in items if i["path"]] == [f"images/val2014/{image(2)}.jpg"]
    for lang, word in {"en": "en", "ja": "日"}.items():
        assert human(captions, lang, "train") == [f"{word} {n}" for n in (1, 2, 5, 8)]
        assert human(captions, lang, "test") == [f"{word} {n}" for n in (4, 6)]
    assert human(captions, "zh", "train") == ["中 1", "中 5", "中 8"]
    assert human(captions, "zh", "test") == ["中 4", "中 6"]
    assert {c["caption_id"] for c in captions if c["item_id"] == image(1)} == {
        f"{image(1)}#{lang}#0" for lang in ("en", "ja", "zh")
    }


def test_mscoco_in_coco_cns_split(mscoco, caplog):
    caplog.set_level(logging.INFO)
    captions, items = import_(mscoco, "mscoco", ["en", "zh"], split="coco_cn")
    assert splits_of(items) == {image(n): split for n, split in ONLY_CHINESE.items()}
    assert human(captions, "zh", "test") == ["中 5", "中 7"] and human(captions, "en", "train") == ["en 1", "en 4"]
    assert "2 en captions left out: their image is in no split (split: coco_cn)" in caplog.text


def test_mscoco_by_language_has_both_publishers_test_sets(mscoco, caplog):
    caplog.set_level(logging.INFO)
    captions, items = import_(mscoco, "mscoco", ["en", "zh", "ja"])
    assert human(captions, "ja", "test") == ["日 4", "日 6"] and human(captions, "zh", "test") == ["中 5", "中 7"]
    assert human(captions, "ja", "val") == ["日 3"] and human(captions, "zh", "val") == ["中 8"]
    assert human(captions, "en", "train") == ["en 1", "en 2"] and human(captions, "ja", "train") == ["日 1", "日 2"]
    assert human(captions, "zh", "train") == ["中 1"]
    assert "2 zh captions left out: their image is in another split (split: by_language)" in caplog.text
    assert "3 ja captions left out" in caplog.text


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from([*KARPATHY.values()]), st.sampled_from([*SPLITS, None])), min_size=8))
def test_mscoco_by_language_leaks_nothing(tmp_path_factory, publishers):
    karpathy = KARPATHY | {n: one for n, (one, _) in enumerate(publishers, 9)}
    coco_cn = ONLY_CHINESE | {n: other for n, (_, other) in enumerate(publishers, 9) if other}
    root = write_mscoco(tmp_path_factory.mktemp("mscoco"), karpathy, coco_cn)
    captions, items = import_(root, "mscoco", ["en", "zh", "ja"])
    evaluated = {image(n) for own in (karpathy, coco_cn) for n, split in own.items() if split in ("val", "test")}
    assert not evaluated & {item for item, split in splits_of(items).items() if split == "train"}
    assert human(captions, "zh", "test") == sorted(f"中 {n}" for n, split in coco_cn.items() if split == "test")
    assert human(captions, "ja", "test") == sorted(f"日 {n}" for n, split in karpathy.items() if split == "test")
    assert {c["text"] for c in captions if c["lang"] == "en"} == {f"en {n}" for n in karpathy}


def test_mscoco_without_the_images_of_another_test_set(mscoco, caplog):
    caplog.set_level(logging.INFO)
    listed = write(mscoco / "test_image_names.txt", f"{image(2)}.jpg\n{image(4)}.jpg\n{image(99)}.jpg\n")
    captions, items = import_(mscoco, "mscoco", ["en", "ja"], split="karpathy", leave_out=str(listed))
    assert splits_of(items) == {image(n): s for n, s in KARPATHY.items() if n not in (2, 4)}
    assert {c["item_id"] for c in captions} == {image(n) for n in KARPATHY if n not in (2, 4)}
    assert f"2 images left out (train 1, val 0, test 1): they are in {listed}" in caplog.text
    assert "captions left out" not in caplog.text
    import_(mscoco, "mscoco", ["en", "ja", "zh"], leave_out=str(listed))
    assert "1 zh captions left out: their image is in another split" in caplog.text  # 1 of 2: the other is image 4's
    with pytest.raises(CcrError, match="nowhere.txt: missing. It lists the images to leave out"):
        import_(mscoco, "mscoco", ["en", "ja"], leave_out="nowhere.txt")


def test_mscoco_without_chinese_needs_no_chinese_files(mscoco):
    for path in (mscoco / COCO_CN).iterdir():
        path.unlink()
    _, items = import_(mscoco, "mscoco", ["en", "ja"])
    assert counts(items, "split") == {("train",): 4, ("val",): 2, ("test",): 2}
    with pytest.raises(CcrError, match=r"coco-cn_train.txt: missing. It lists the images of a split of COCO-CN"):
        import_(mscoco, "mscoco", ["en", "zh"])


def test_several_captions_of_an_image_are_numbered(mscoco):
    chinese = mscoco / COCO_CN / "imageid.human-written-caption.txt"
    write(chinese, chinese.read_text() + f"{image(1)}#1 中 #1 又 1\n")  # some lines have a space
    japanese = mscoco / "stair_captions_v1.2_train.json"
    records = json.loads(japanese.read_text())["annotations"]
    write(japanese, json.dumps({"annotations": [*records, {"id": 99, "image_id": 1, "caption": "日 又 1"}]}))
    captions, _ = import_(mscoco, "mscoco", ["en", "zh", "ja"])
    texts = {c["caption_id"]: c["text"] for c in captions if c["item_id"] == image(1) and c["lang"] != "en"}
    assert texts == {
        f"{image(1)}#ja#0": "日 1",
        f"{image(1)}#ja#1": "日 又 1",
        f"{image(1)}#zh#0": "中 1",
        f"{image(1)}#zh#1": "中 #1 又 1",
    }


def test_images_of_coco_cn_without_english_captions_are_left_out_with_a_word(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = write_mscoco(tmp_path, KARPATHY, {1: "train", 3: "val", 4: "test", 77: "test"})
    _, items = import_(root, "mscoco", split="coco_cn")
    assert set(splits_of(items)) == {image(n) for n in (1, 3, 4)}
    assert "1 images of COCO-CN left out: they are not in dataset_coco.json" in caplog.text


def spoil(root, change):
    """`dataset_coco.json` with its third image changed."""
    file = root / "dataset_coco.json"
    held = json.loads(file.read_text())
    held["images"][2] |= change
    write(file, json.dumps(held))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"filename": None}, "dataset_coco.json, record 3: key 'filename' must hold str"),
        ({"cocoid": "3"}, "record 3: key 'cocoid' must hold int"),
        ({"split": "minival"}, "record 3: split 'minival' is none of train, restval, val, test"),
        ({"sentences": [{"tokens": ["a"]}]}, "record 3: each of its 'sentences' must hold a caption under 'raw'"),
        ({"sentences": [{"raw": "\ud800"}]}, "record 3: half of a UTF-16 pair"),
        ({"sentences": [{"raw": " "}]}, f"record 3: caption {image(3)}#en#0 is empty"),
        ({"filename": f"{image(1)}.jpg"}, f"record 3: item '{image(1)}' is listed twice, first in .*record 1"),
    ],
)
def test_bad_karpathy(mscoco, change, message):
    spoil(mscoco, change)
    with pytest.raises(CcrError, match=message):
        import_(mscoco, "mscoco", ["en", "ja"], split="karpathy")


JAPANESE, CHINESE = "stair_captions_v1.2_train.json", f"{COCO_CN}/imageid.human-written-caption.txt"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("dataset_coco.json", '{"images": [{"fil', "line 1, column 14: not valid JSON .* cut off"),
        ("dataset_coco.json", "[1]", "an object with a list of objects under 'images' was expected"),
        (JAPANESE, '{"images": []}', "an object with a list of objects under 'annotations' was expected"),
        (
            JAPANESE,
            '{"annotations": [{"image_id": 9, "caption": "x"}]}',
            "record 1: image_id 9 is the cocoid of no image",
        ),
        (JAPANESE, '{"annotations": [{"image_id": 1}]}', "record 1: key 'caption' must hold a caption"),
        (CHINESE, f"{image(1)}#0\t中\n{image(1)} 中\n", r"caption.txt, line 2: '.*' is not `\{image\}#\{number\}<tab>"),
        (
            CHINESE,
            f"{image(1)}#0\t中\n{image(1)}#0\t中\n",
            "line 2: caption id .*1#zh#0 is given twice, first in .*line 1",
        ),
        (CHINESE, f"{image(1)}#0\t\n", "line 1: caption .*1#zh#0 is empty"),
        (CHINESE, f"{image(99)}#0\t中\n", "line 1: caption .*99#zh#0 belongs to item '.*99', which is in no split"),
        (
            f"{COCO_CN}/coco-cn_val.txt",
            f"{image(6)}\n{image(5)}\n",
            "5' is in two splits: val .*val.txt, line 2.* and test",
        ),
    ],
)
def test_bad_mscoco(mscoco, file, text, message):
    write(mscoco / file, text)
    with pytest.raises(CcrError, match=message):
        import_(mscoco, "mscoco", ["en", "zh", "ja"])


def test_mscoco_has_three_languages(mscoco):
    with pytest.raises(CcrError, match="MSCOCO has captions in en, ja, zh, none in 'de'"):
        import_(mscoco, "mscoco", ["en", "de"])


# --- MSR-VTT-CN --------------------------------------------------------------------------------------------


def test_msrvtt_cn_as_the_nrccr_authors_publish_it(tmp_path, caplog):
    text = tmp_path / "TextData"
    for split, video in {"train": "video0", "val": "video6513", "test": "video7010"}.items():
        tags = ["enc", "google_enc2zh", "google_enc2zh2enc"] if split == "train" else ["zh", "google_zh2enc"]
        for tag in tags:
            lines = "".join(f"{video}#{tag.removeprefix('google_')}#{n} {tag} {n}\n" for n in range(2))
            write(text / f"msrvtt10kcn{split}{'' if tag == 'enc' else f'_{tag}'}.caption.txt", lines)
    caplog.set_level(logging.INFO)
    captions, items = import_(tmp_path, "visualsearch", kind="video", collection="msrvtt10kcn")
    assert splits_of(items) == {"video0": "train", "video6513": "val", "video7010": "test"}
    assert counts(captions, "split", "lang", "origin") == {
        ("train", "en", "human"): 2,
        ("train", "zh", "mt"): 2,
        ("train", "en", "back"): 2,
        **{(split, *kind): 2 for split in ("val", "test") for kind in (("zh", "human"), ("en", "mt"))},
    }
    assert {c["parent_id"] for c in captions if c["origin"] == "back"} == {f"video0#enc2zh#{n}@google" for n in (0, 1)}
    missing = "TextData/msrvtt10kcnval.caption.txt, TextData/msrvtt10kcntest.caption.txt"
    assert f"imported without {missing}" in caplog.text


# --- Multi30K, task 2 --------------------------------------------------------------------------------------


@pytest.fixture
def multi30k(tmp_path):
    """Task 2 in English and German; French in task 1, whose lists are in another order."""
    for part, names in {"train": ["1.jpg", "2.jpg"], "val": ["3.jpg"], "test_2016": ["4.jpg"]}.items():
        write(tmp_path / f"task2/image_splits/{part}_images.txt", "".join(f"{n}\n" for n in names))
        for lang, n in ((lang, n) for lang in ("en", "de") for n in range(1, 6)):
            write(tmp_path / f"task2/raw/{part}.{n}.{lang}.gz", "".join(f"{lang} {n} {name}\n" for name in names))
        part = part.replace("2016", "2016_flickr")
        write(tmp_path / f"task1/image_splits/{part}.txt", "".join(f"{n}\n" for n in reversed(names)))
        write(tmp_path / f"task1/raw/{part}.fr.gz", "".join(f"fr {name}\n" for name in reversed(names)))
    return tmp_path


def test_task_2_takes_its_french_from_task_1(multi30k):
    captions, items = import_(multi30k, "multi30k", ["en", "de", "fr"], task=2)
    assert splits_of(items) == {"1": "train", "2": "train", "3": "val", "4": "test"}
    assert counts(captions, "lang", "split") == {
        (lang, split): (1 if lang == "fr" else 5) * (2 if split == "train" else 1)
        for lang in ("en", "de", "fr")
        for split in SPLITS
    }
    french = {c["item_id"]: (c["text"], c["parent_id"]) for c in captions if c["lang"] == "fr"}
    assert french == {n: (f"fr {n}.jpg", None) for n in "1234"}


def test_task_2_with_french_of_other_images(multi30k):
    write(multi30k / "task1/image_splits/test_2016_flickr.txt", "9.jpg\n")
    with pytest.raises(
        CcrError, match=r"test_2016_flickr.fr.gz, line 1: caption 9#fr#0 belongs to item '9', which is in"
    ):
        import_(multi30k, "multi30k", ["en", "fr"], task=2)


def test_missing_files_of_task_2_are_named_where_they_are_looked_for(tmp_path):
    with pytest.raises(CcrError) as error:
        import_(tmp_path, "multi30k", ["en", "cs"], task=2)
    for name in ("task2/raw/train.5.en.gz", "task1/raw/test_2016_flickr.cs.gz", "task1/image_splits/val.txt"):
        assert f"missing  {tmp_path}/{name}" in str(error.value)


def test_languages_that_others_added(multi30k):
    for part, names in {"train": "21", "val": "3", "test_2016_flickr": "4"}.items():
        for lang in ("tr", "uk"):
            write(multi30k / f"task1/raw/{part}.{lang}.gz", "".join(f"{lang} {n}\n" for n in names))
        write(multi30k / f"task1/raw/{part}.en.gz", "".join(f"en {n}\n" for n in names))
        write(multi30k / f"task1/raw/{part}.notes.gz", "no language\n")
    captions, _ = import_(multi30k, "multi30k", ["en", "tr", "uk"], task=1)
    assert {(c["text"], c["item_id"], c["parent_id"]) for c in captions if c["lang"] != "en"} == {
        (f"{lang} {n}", n, f"{n}#en#0") for lang in ("tr", "uk") for n in "1234"
    }
    captions, _ = import_(multi30k, "multi30k", ["en", "uk"], task=2)
    assert counts(captions, "lang", "split")["uk", "train"] == 2
    lines = says(multi30k, mine={"importer": "multi30k", "options": {"task": 1}, "target_langs": ["tr", "uk"]})
    assert "uk human: train 2, val 1, test 1" in lines
    assert not any("notes" in line for line in lines)


def test_photos_of_another_collection_are_split_anew(multi30k):
    listed = multi30k / "ids.txt"
    listed.write_text("1_a\n3_b\n4_c\n17_d\n")
    captions, items = import_(multi30k, "multi30k", ["en", "fr"], task=2, photos=str(listed), held_out=1)
    assert sorted(splits_of(items)) == ["1_a", "3_b", "4_c"]
    assert sorted(splits_of(items).values()) == ["test", "train", "val"]
    assert {c["split"] for c in captions if c["item_id"] == "3_b"} == {splits_of(items)["3_b"]}
    french = {c["item_id"]: c["text"] for c in captions if c["lang"] == "fr"}
    assert french == {"1_a": "fr 1.jpg", "3_b": "fr 3.jpg", "4_c": "fr 4.jpg"}
    listed.write_text("4_c\n3_b\n1_a\n")
    assert import_(multi30k, "multi30k", ["en", "fr"], task=2, photos=str(listed), held_out=1)[1] == items


def test_photos_that_are_too_few(multi30k):
    (multi30k / "ids.txt").write_text("1_a\n3_b\n")
    with pytest.raises(CcrError, match="2 of its photos are Multi30K's; held_out: 1 of them for val"):
        import_(multi30k, "multi30k", ["en"], task=2, photos=str(multi30k / "ids.txt"), held_out=1)
    with pytest.raises(CcrError, match="nowhere.txt: missing. It lists the photos"):
        import_(multi30k, "multi30k", ["en"], task=2, photos="nowhere.txt")


# --- test sets without training data -----------------------------------------------------------------------


def photo(key, **captions):
    """A line of XM3600's file, as its publisher writes it."""
    said = {
        tag: {
            "caption": texts,
            "caption/tokenized": [f"{text} ." for text in texts],
            "caption/tokenized/lowercase": [f"{text} .".lower() for text in texts],
        }
        for tag, texts in captions.items()
    }
    return json.dumps({"image/key": key, "image/locale": next(iter(captions), "en"), **said}, ensure_ascii=False)


PHOTOS = [
    photo("000411001ff7dd4f", en=["A dog", "Dogs"], fil=["Isang aso"], quz=["Allqu"], mi=["He kurī"], te=["కుక్క"]),
    photo("00b1b8d8f7c1e1a2", en=["A cat"], fil=[], quz=["Michi", "Huk michi"], te=["పిల్లి"]),
]


def test_xm3600(tmp_path):
    write(tmp_path / "captions.jsonl", "\n".join(PHOTOS) + "\n")
    write(tmp_path / "images" / "00b1b8d8f7c1e1a2.jpg", b"")
    captions, items = import_(tmp_path, "xm3600", ["en", "fil", "qu", "te"])
    assert [(item["item_id"], item["split"], item["path"]) for item in items] == [
        ("000411001ff7dd4f", "test", None),
        ("00b1b8d8f7c1e1a2", "test", "images/00b1b8d8f7c1e1a2.jpg"),
    ]
    assert {c["caption_id"]: (c["lang"], c["text"]) for c in captions} == {
        "000411001ff7dd4f#en#0": ("en", "A dog"),
        "000411001ff7dd4f#en#1": ("en", "Dogs"),
        "000411001ff7dd4f#fil#0": ("fil", "Isang aso"),
        "000411001ff7dd4f#qu#0": ("qu", "Allqu"),
        "000411001ff7dd4f#te#0": ("te", "కుక్క"),
        "00b1b8d8f7c1e1a2#en#0": ("en", "A cat"),
        "00b1b8d8f7c1e1a2#qu#0": ("qu", "Michi"),
        "00b1b8d8f7c1e1a2#qu#1": ("qu", "Huk michi"),
        "00b1b8d8f7c1e1a2#te#0": ("te", "పిల్లి"),
    }
    with pytest.raises(CcrError, match=r"no captions in 'sw' \(Swahili\); there are captions in en, fil, mi, qu, te. "):
        import_(tmp_path, "xm3600", ["en", "sw"])


def test_xm3600_in_a_variety_of_the_languages_of_its_file(tmp_path):
    line = photo("a", en=["A dog"], no=["En hund"], **{"pt": ["Um cão"], "pt-PT": ["Um cachorro", "Um cão"]})
    write(tmp_path / "captions.jsonl", line)
    captions, _ = import_(tmp_path, "xm3600", ["en", "nb", "pt"])
    assert {c["caption_id"]: (c["lang"], c["text"]) for c in captions} == {
        "a#en#0": ("en", "A dog"),
        "a#nb#0": ("nb", "En hund"),
        **{f"a#pt#{n}": ("pt", text) for n, text in enumerate(["Um cão", "Um cachorro", "Um cão"])},
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (PHOTOS[1][:-9], "captions.jsonl, line 2: not valid JSON"),
        ("9" * 5000, "captions.jsonl, line 2: not the JSON that was expected"),
        ("[" * 20_000, "captions.jsonl, line 2: not the JSON that was expected"),
        ('{"key": "a"}', "captions.jsonl, line 2: key 'image/key' must hold an id"),
        (photo("a", en=["x"]).replace('"caption":', '"text":'), r"line 2 \(a\): 'en' must hold a list of texts under"),
        (photo("a", klingon=["x"]), "captions.jsonl: unknown language 'klingon'"),
        (photo("a", en=["\\ud83d"]).replace("\\\\", "\\"), "line 2 .a., key 'en': half of a UTF-16 pair"),
        (photo("000411001ff7dd4f", en=["x"]), "line 2: item '000411001ff7dd4f' is listed twice"),
    ],
)
def test_bad_xm3600(tmp_path, line, message):
    write(tmp_path / "captions.jsonl", f"{PHOTOS[0]}\n{line}\n")
    with pytest.raises(CcrError, match=message):
        import_(tmp_path, "xm3600", ["en", "te"])
    assert "cannot be imported: " in "\n".join(says(tmp_path))


def test_what_a_test_set_can_run_on(tmp_path):
    write(tmp_path / "captions.jsonl", "\n".join(PHOTOS) + "\n")
    entry = {"importer": "xm3600", "options": {}, "root": str(tmp_path), "target_langs": ["te", "fil"]}
    suggested = f"NAME: {{importer: xm3600, options: {{}}, root: {tmp_path}, trained_on: ANOTHER, ...}}"
    assert f"no data set in params.yaml reads this; that would be {suggested}" in says(tmp_path)
    lines = says(tmp_path, own=entry)
    assert "missing: en captions in train, te captions in val" in lines[-1]
    assert lines[-1].endswith("; or let it be trained_on another data set")
    assert says(tmp_path, own=entry | {"trained_on": "flickr8k", "target_langs": ["te"]})[-1] == (
        "datasets.own cannot run on this; missing: features or a picture of every item"
    )
    folder = tmp_path / "FeatureData" / "mobilenet_v2"
    folder.mkdir(parents=True)
    np.save(folder / "features.npy", np.zeros((2, 4), np.float16))
    given = f"{{source: official, root: {tmp_path}, trained_on: flickr8k, mt: google, visual: mobilenet_v2}}"
    lines = says(tmp_path, own=entry | {"trained_on": "flickr8k"})
    assert lines[-2:] == [f"datasets.own can run on this, with {given}", "its tables: own_own"]


def xtd10(root, folders=True):
    """XTD10 in its publisher's folders, or all in one."""
    names = [f"COCO_train2014_{n:012d}.jpg" for n in (61844, 61849)]
    where = {"it": "XTD10", "zh": "XTD10", "en": "MIC", "de": "MIC", "jp": "STAIR"} if folders else {}
    write(root / ("XTD10" if folders else "") / "test_image_names.txt", "".join(f"{name}\n" for name in names))
    for tag in ("it", "zh", "en", "de", "jp"):
        write(root / where.get(tag, "") / f"test_1kcaptions_{tag}.txt", f"{tag} 1\n{tag} 2")
    return root


@pytest.mark.parametrize("folders", [True, False])
@pytest.mark.parametrize("clone", ["", "Cross-lingual-Test-Dataset-XTD10"])
def test_xtd10(tmp_path, folders, clone, caplog):
    caplog.set_level(logging.WARNING)
    xtd10(tmp_path / clone, folders)
    captions, items = import_(tmp_path, "xtd10", ["en", "de", "ja", "zh"])
    assert splits_of(items) == {f"COCO_train2014_0000000618{n}": "test" for n in (44, 49)}
    assert counts(captions, "lang", "split", "origin") == {
        (lang, "test", "human"): 2 for lang in ("en", "de", "ja", "zh")
    }
    japanese = {c["item_id"]: c["text"] for c in captions if c["lang"] == "ja"}
    assert japanese == {f"COCO_train2014_0000000618{n}": f"jp {k}" for k, n in ((1, 44), (2, 49))}
    assert caplog.text == ""


def test_xtd10_in_a_variety_of_the_languages_of_its_files(tmp_path):
    write(xtd10(tmp_path) / "MIC" / "test_1kcaptions_de-AT.txt", "at 1\nat 2\n")
    captions, _ = import_(tmp_path, "xtd10", ["en", "de", "it-CH"])
    assert {c["caption_id"].partition("#")[2]: c["text"] for c in captions if c["item_id"].endswith("44")} == {
        "en#0": "en 1",
        "de#0": "at 1",
        "de#1": "de 1",
        "it-CH#0": "it 1",
    }


def test_bad_xtd10(tmp_path):
    write(xtd10(tmp_path) / "MIC" / "test_1kcaptions_de.txt", "de 1\n")
    with pytest.raises(CcrError, match=r"_de.txt has 1 lines, .*test_image_names.txt has 2: line k"):
        import_(tmp_path, "xtd10", ["en", "de"])
    with pytest.raises(CcrError, match=r"no captions in 'ko' \(Korean\)"):
        import_(tmp_path, "xtd10", ["en", "ko"])
    (tmp_path / "XTD10" / "test_image_names.txt").unlink()
    with pytest.raises(CcrError, match=r"test_image_names.txt: missing, here and in every folder below"):
        import_(tmp_path, "xtd10", ["en", "it"])


def test_test_captions_need_no_captions_to_train_on(tmp_path):
    rows = [{"item_id": "a", "split": "test", "lang": "sw", "text": "mbwa"}]
    write_table(tmp_path / "captions.csv", rows)
    captions, _ = import_(tmp_path, "table", ["en", "sw"])
    assert [c["text"] for c in captions] == ["mbwa"]
    write_table(tmp_path / "captions.csv", [*rows, rows[0] | {"item_id": "b", "split": "train"}])
    with pytest.raises(CcrError, match=r"no captions in 'en' \(English\)"):
        import_(tmp_path, "table", ["en", "sw"])


# --- your own data -----------------------------------------------------------------------------------------

ROWS = [
    {"item_id": "my photo", "split": "train", "lang": "en", "text": 'a "stop" sign, red'},
    {"item_id": "my photo", "split": "train", "lang": "en", "text": "a sign"},
    {"item_id": "b", "split": "val", "lang": "zh", "text": "两个\n牌子"},
    {"item_id": "c", "split": "test", "lang": "zh", "text": "牌子"},
    {"item_id": "b", "split": "val", "lang": "en", "text": "signs"},
    {"item_id": "c", "split": "test", "lang": "en", "text": "sign"},
]


def table(rows, mark=","):
    """Rows as CSV, every field quoted."""
    lines = [list(rows[0]), *(row.values() for row in rows)]
    return "".join(mark.join('"' + value.replace('"', '""') + '"' for value in line) + "\n" for line in lines)


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    return write(path, table(rows, "\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("file", ["captions.csv", "mine.tsv", "mine.parquet"])
def test_a_table_of_your_own(tmp_path, file):
    write_table(tmp_path / file, ROWS)
    write(tmp_path / "images" / "trip" / "my photo.jpeg", b"")
    options = {} if file == "captions.csv" else {"file": file}
    captions, items = import_(tmp_path, "table", **options)
    assert [(i["item_id"], i["split"], i["path"]) for i in items] == [
        ("my photo", "train", "images/trip/my photo.jpeg"),
        ("b", "val", None),
        ("c", "test", None),
    ]
    assert {c["caption_id"]: (c["split"], c["lang"], c["origin"], c["text"]) for c in captions} == {
        "my photo#en#0": ("train", "en", "human", 'a "stop" sign, red'),
        "my photo#en#1": ("train", "en", "human", "a sign"),
        "b#zh#0": ("val", "zh", "human", "两个 牌子"),
        "b#en#0": ("val", "en", "human", "signs"),
        "c#zh#0": ("test", "zh", "human", "牌子"),
        "c#en#0": ("test", "en", "human", "sign"),
    }


def test_names_that_look_like_patterns(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    file = "captions [v2]?.csv"
    write_table(tmp_path / file, ROWS)
    captions, _ = import_(tmp_path, "table", file=file)
    assert len(captions) == len(ROWS) and caplog.text == ""
    own = {"importer": "table", "options": {"file": file}, "root": str(tmp_path)}
    assert f"importer table, options {{file: {file}}}: 1 of 1 files" in says(tmp_path, own=own)
    with pytest.raises(CcrError, match=r"missing  .*/captions \[v2\].csv"):
        import_(tmp_path, "table", file="captions [v2].csv")
    for path in sorted((flickr8k(tmp_path) / "TextData").iterdir()):
        path.rename(path.with_name(path.name.replace("flickr8k", "my [v2]")))
    import_(tmp_path, "visualsearch", collection="my [v2]")
    assert "imported without" not in caplog.text


@pytest.mark.parametrize("file", ["", ".", "/data/captions.csv", "*.csv"])
def test_a_table_is_named_by_its_place_in_the_root(tmp_path, file):
    write_table(tmp_path / "captions.csv", ROWS)
    with pytest.raises(CcrError, match=rf"datasets.toy.options.file: expected the name .* found '{re.escape(file)}'"):
        import_(tmp_path, "table", file=file)


def test_a_table_with_translations_and_a_language_too_many(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    made = [
        {"caption_id": "x", "origin": "", "engine": "", "parent_id": "", "note": "!"} | ROWS[0],
        {"caption_id": "", "origin": "mt", "engine": "opus", "parent_id": "x", "note": ""} | ROWS[0] | {"lang": "zh"},
        {"caption_id": "", "origin": "back", "engine": "opus", "parent_id": "my photo#zh#0@opus", "note": ""} | ROWS[1],
        *({"caption_id": "", "origin": "human", "engine": "", "parent_id": "", "note": ""} | row for row in ROWS[2:]),
        {"caption_id": "", "origin": "", "engine": "", "parent_id": "", "note": ""} | ROWS[1] | {"lang": "de"},
    ]
    write_table(tmp_path / "captions.csv", made)
    captions, _ = import_(tmp_path, "table")
    translated = {c["caption_id"]: (c["origin"], c["engine"], c["parent_id"]) for c in captions if c["parent_id"]}
    assert translated == {
        "my photo#zh#0@opus": ("mt", "opus", "x"),
        "my photo#en#0@opus": ("back", "opus", "my photo#zh#0@opus"),
    }
    assert "1 captions in de left out: not among the chosen languages" in caplog.text
    assert "parent_id: 'note'" in caplog.text


PAIRED = "caption_id,item_id,lang,origin,engine,parent_id,split,text"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["a1,a,zh,,,a1"],
            "line 2: caption a1 of item 'a' in 'zh' is a translation of a1, of item 'a' in 'zh'. A trans",
        ),
        (["a1,a,en,,,", "b1,b,en,,,", "b2,b,zh,mt,x,a1", "b3,b,zh,mt,y,a1"], "line 4: .*, of item 'a' in 'en' .1 more"),
        (["a1,a,en,,,", "a2,a,en-GB,back,x,a1"], "line 3: caption a2 of item 'a' in 'en' is a translation of a1, of"),
        (
            ["a1,a,en,,,a2", "a2,a,zh,mt,x,a1"],
            "line 2: caption a1 is a translation of a2, but no caption is the original",
        ),
        (["a1,a,en,,,", "a2,a,de,,,a1", "a3,a,zh,mt,x,a4", "a4,a,en,mt,x,a3"], r"line 4: .* lead round .*\(1 more"),
        (
            ["a1,a,en,,,", "a2,a,zh,mt,x,a1", "a3,a,zh,mt,x,a1"],
            r"line 4: caption a3 is a second translation of a1 into 'zh' by 'x'; the first is a2 \(.*, line 3\). R",
        ),
        (
            ["a1,a,sw,,,", "a2,a,zh,mt,x,a1"],
            "line 3: .* of a1, whose language sw is not among those of datasets.toy. Add",
        ),
    ],
)
def test_translations_whose_original_cannot_be_theirs(tmp_path, rows, message):
    write(tmp_path / "captions.csv", "\n".join([PAIRED, *(f"{row},train,x" for row in rows)]))
    with pytest.raises(CcrError, match=message):
        import_(tmp_path, "table", ["en", "zh", "de"])


def test_translations_of_translations_by_people_and_engines(tmp_path):
    rows = ["a1,a,en,,,", "a2,a,de,,,a1", "a3,a,zh,,,a2", "a4,a,en,mt,x,a3", "a5,a,zh,mt,x,a1", "a6,a,zh,mt,y,a1"]
    rows += ["a7,a,en,back,x,a5", "a8,a,de,mt,x,a1", "a9,a,zh,,,a1"]
    write(tmp_path / "captions.csv", "\n".join([PAIRED, *(f"{row},train,x" for row in rows)]))
    captions, _ = import_(tmp_path, "table", ["en", "zh", "de"])
    assert len(captions) == len(rows)


@pytest.mark.parametrize(("form", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_file_whose_name_is_composed_otherwise(tmp_path, form, other):
    row = {"item_id": normalize(form, "café"), "split": "train", "lang": "en", "text": "x"}
    write_table(tmp_path / "captions.csv", [row])
    name = normalize(other, "café.jpg")
    write(tmp_path / "images" / name, b"")
    _, items = import_(tmp_path, "table", ["en"])
    assert [(item["item_id"], item["path"]) for item in items] == [(row["item_id"], f"images/{name}")]


def test_what_is_exported_can_be_imported(tmp_path):
    write_table(tmp_path / "captions.csv", ROWS)
    first, _ = import_(tmp_path, "table")
    again, _ = import_(tmp_path / "out", "table", out=tmp_path / "again", file="captions.parquet")
    assert again == first


HEAD = "item_id,split,lang,text\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "item_id,split,lang,caption\n",
            "captions.csv: no column 'text'; needed are item_id, split, lang, text.",
        ),
        (
            "item_id,split,lang,caption\n",
            "Its columns are item_id, split, lang, caption. Add the column, or rename one.",
        ),
        ("", "no column 'item_id'.* Its columns are none"),
        (
            "item_id;split;lang;text\na;train;en;x\na;train;en;x;y\n",
            "captions.csv, line 3: 5 values, but there are 4 columns. A text with semicolons",
        ),
        (
            HEAD + "a,train,en," + "x" * 10_001 + "\n",
            "line 2: caption a#en#0 has 10,001 characters; a caption has at most",
        ),
        (HEAD + "a,train,en,x\0\n", "captions.csv, line 2: a NUL character"),
        (HEAD.encode("utf-16") + b"a", "captions.csv, line 2 .*: not UTF-16, as its first bytes say"),
        ("item_id,text,split,lang,text\n", "two columns are called 'text'. Remove one."),
        (
            HEAD + "a,train,en,x\na,train,en,one, two\n",
            "captions.csv, line 3: 5 values, but there are 4 columns. A text with commas",
        ),
        (HEAD + 'a,train,en,"x\ny"\na,train,en\n', "captions.csv, line 4: 3 values, but there are 4 columns"),
        (HEAD + 'a,train,en,"stop" sign\n', "captions.csv, line 2: .* its own are doubled"),
        (HEAD + 'a,train,en,x\na,train,en,"x\n', "captions.csv, line 3: unexpected end of data"),
        (HEAD + "a,train,en,x\n,train,en,x\n", "line 3: the caption of item None has no item_id. Name the picture"),
        (HEAD + "a,train,en,x\nb, ,en,x\n", "line 3: the caption of item 'b' has no split. Write train, val, test."),
        (HEAD + "a,train,,x\n", "line 2: the caption of item 'a' has no lang. Write its language as a BCP 47 tag"),
        (HEAD + "a,dev,en,x\n", "line 2: unknown split 'dev'; known are train, val, test"),
        (HEAD + "a,train,klingonese,x\n", "line 2: unknown language 'klingonese': expected a BCP 47 tag"),
        (HEAD + "a,train,xx,x\n", "line 2: unknown language 'xx': did you mean 'xh' \\(Xhosa\\)"),
        (HEAD + "a,train,en,x\na,train,en, \u3000\n", "line 3: caption a#en#1 is empty"),
        (HEAD + "a,train,en,x\na,train,en,\n", "line 3: caption a#en#1 is empty"),
        (HEAD + "a,train,en,x\na,test,zh,x\n", r"item 'a' is in two splits: train \(.*line 2\) and test \(.*line 3\)"),
        (HEAD.encode() + b"a,train,en,x\na,train,en,caf\xe9\n", "captions.csv, line 3 .*: not UTF-8"),
        (
            "caption_id," + HEAD + "1,a,train,en,x\n1,b,train,en,x\n",
            "line 3: caption id 1 is given twice, first in .*line 2",
        ),
        ("origin," + HEAD + "robot,a,train,en,x\n", "line 2: unknown origin 'robot'; known are human, mt, back"),
        ("origin," + HEAD + "mt,a,train,en,x\n", r"line 2: a machine translation \(origin mt\) without engine"),
        ("origin,engine," + HEAD + "mt,e,a,train,en,x\n", "line 2: a machine translation .* without parent_id"),
        (
            "parent_id," + HEAD + "q,a,train,en,x\n",
            "line 2: caption a#en#0 is a translation of q, which is not in the data",
        ),
        (HEAD, "captions.csv: no captions, only the names of the columns"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    write(tmp_path / "captions.csv", text)
    with pytest.raises(CcrError, match=message):
        import_(tmp_path, "table", ["en"])


def test_bad_parquet(tmp_path):
    file = write(tmp_path / "mine.parquet", "no parquet")
    with pytest.raises(CcrError, match="mine.parquet: not a whole Parquet file"):
        import_(tmp_path, "table", file="mine.parquet")
    write_table(file, [*ROWS, ROWS[0] | {"text": None}])
    with pytest.raises(CcrError, match="mine.parquet, row 7: caption my photo#en#2 is empty"):
        import_(tmp_path, "table", file="mine.parquet")
    write_table(file, [row | {"text": [row["text"]]} for row in ROWS])
    with pytest.raises(CcrError, match="mine.parquet: its columns must hold text, as UTF-8"):
        import_(tmp_path, "table", file="mine.parquet")
    write(tmp_path / "mine.txt", table(ROWS))
    with pytest.raises(CcrError, match="mine.txt: a table is a .csv, .tsv or .parquet file"):
        import_(tmp_path, "table", file="mine.txt")
    with pytest.raises(CcrError, match=r"missing  .*/captions.csv"):
        import_(tmp_path, "table")


# --- what a folder holds -----------------------------------------------------------------------------------


def says(root, **datasets):
    """The lines about a folder, with further data sets in params.yaml."""
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    raw["datasets"] |= {name: raw["datasets"]["flickr8k"] | entry for name, entry in datasets.items()}
    raw["tables"] |= {f"{name}_own": raw["tables"]["flickr8k_table"] | {"data": [name]} for name in datasets}
    return [line.strip() for line in inventory(root, params.validate(raw))]


def flickr8k(root, train=3):
    """A small Flickr8k in VisualSearch's layout, with six rows of features."""
    for split, size in {"train": train, "val": 1, "test": 2}.items():
        ids = [f"{split}{n}" for n in range(size)]
        for name, tag in {"": "enc", "_zh": "zh", "_google_enc2zh": "enc2zh"}.items():
            write(root / f"TextData/flickr8k{split}{name}.caption.txt", "".join(f"{i}#{tag}#0 text\n" for i in ids))
    folder = root / "FeatureData" / "mobilenet_v2"
    folder.mkdir(parents=True)
    np.save(folder / "features.npy", np.zeros((6, 4), np.float16))
    write(folder / "ids.txt", "")
    return root


def test_a_folder_that_a_data_set_can_run_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no dictionary here; the project may have one
    lines = says(flickr8k(tmp_path))
    assert "features in FeatureData/mobilenet_v2: features.npy, 6 x 4" in lines
    assert "importer visualsearch, options {collection: flickr8k}: 6 of 6 files" in lines
    assert "flickr8k (official): 6 items (train 3, val 1, test 2), 0 with a file" in lines
    assert "zh mt (google): train 3, val 1, test 2" in lines
    given = f"{{source: official, root: {tmp_path}, mt: google or opus or nllb, visual: mobilenet_v2}}"
    assert f"datasets.flickr8k can run on this, with {given}" in lines
    tables = lines[lines.index(f"datasets.flickr8k can run on this, with {given}") + 1]
    assert tables.startswith("its tables: ") and "flickr8k_table" in tables and "vatex_table" not in tables


def test_a_folder_that_lacks_what_a_data_set_needs(tmp_path):
    root = flickr8k(tmp_path)
    for name in ("flickr8ktest_zh", "flickr8ktrain_google_enc2zh"):
        (root / "TextData" / f"{name}.caption.txt").unlink()
    lines = says(root)
    assert "missing: TextData/flickr8ktest_zh.caption.txt" in lines
    assert "datasets.flickr8k cannot run on this; missing: zh captions in test" in lines
    shutil.rmtree(root / "FeatureData")
    assert any(line.endswith("zh captions in test, features or a picture of every item") for line in says(root))
    for name in ("train0", "train1", "train2", "val0", "test0", "test1"):
        write(root / "images" / f"{name}.jpg", b"")
    assert "flickr8k (official): 6 items (train 3, val 1, test 2), 6 with a file" in says(root)
    assert any(line.endswith("missing: zh captions in test") for line in says(root))


def test_a_folder_with_bad_captions(tmp_path):
    root = flickr8k(tmp_path)
    write(root / "TextData" / "flickr8kval.caption.txt", "no tag\n")
    lines = says(root)
    assert any(
        line.startswith("cannot be imported: ") and "flickr8kval.caption.txt, line 1: no tag" in line for line in lines
    )


def test_a_folder_that_no_data_set_reads(tmp_path):
    write(tmp_path / "captions.csv", table(ROWS))
    write(tmp_path / "prices.csv", "what,price\ntea,3\n")
    lines = says(tmp_path)
    assert [line for line in lines if line.startswith("importer")] == [
        "importer table, options {file: captions.csv}: 1 of 1 files"
    ]
    entry = f"NAME: {{importer: table, options: {{file: captions.csv}}, root: {tmp_path}, ...}}"
    assert f"no data set in params.yaml reads this; that would be {entry}" in lines
    own = {"importer": "table", "options": {}, "root": str(tmp_path)}
    write(tmp_path / "images" / "b.jpg", b"")
    lines = says(tmp_path, own=own)
    assert "own (official): 3 items (train 1, val 1, test 1), 1 with a file" in lines
    assert "datasets.own cannot run on this; missing: features or a picture of every item" in lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id;split;lang;text\n", "no captions, only the names"),
        (b"item_id,split,lang,text\n\xff", "line 2 .*: not UTF-8"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_all_the_same(tmp_path, text, message):
    write(tmp_path / "captions.csv", text)
    assert re.search(f"cannot be imported: .*{message}", "\n".join(says(tmp_path)))


def test_every_layout_of_a_folder(tmp_path, multi30k):
    write_mscoco(multi30k, KARPATHY, ONLY_CHINESE)
    write_table(multi30k / "mine.parquet", ROWS)
    said = says(multi30k)
    lines = [line.split(":")[0] + ":" + line.split(":")[1] for line in said if line.startswith("importer")]
    assert lines == [
        "importer multi30k, options {task: 1}",
        "importer multi30k, options {task: 1, photos",
        "importer multi30k, options {task: 2}",
        "importer mscoco, options {split: by_language}",
        "importer table, options {file: mine.parquet}",
    ]
    named = {match[1] for line in said if (match := re.match(r"datasets\.(\w+) can", line))}
    assert {"multi30k_task2", "multi30k_scripts"} <= named


def test_every_entry_that_means_the_same_files_is_told_as_it_reads_them(mscoco):
    own = {"importer": "mscoco", "options": {"split": "coco_cn"}, "target_langs": ["zh"], "root": str(mscoco)}
    lines = says(mscoco, own=own)
    assert [line for line in lines if line.startswith("importer")] == [
        "importer mscoco, options {split: by_language}: 7 of 7 files",
        "importer mscoco, options {split: coco_cn}: 7 of 7 files",
    ]
    assert "mscoco (official): 8 items (train 2, val 2, test 4), 0 with a file" in lines
    assert "own (official): 6 items (train 2, val 2, test 2), 0 with a file" in lines


def ccr(*arguments):
    """The message of the `CcrError` that a command ends with, otherwise its output."""
    done = CliRunner().invoke(app, arguments)
    return str(done.exception) if done.exception else done.stdout


def test_the_command_that_checks(tmp_path, repository, monkeypatch):
    monkeypatch.chdir(repository)
    message = ccr("captions", "check", str(tmp_path))
    assert message.startswith(f"{tmp_path}: nothing in it that an importer reads")
    assert "vatex_training_v1.0.json" in message and "dataset_coco.json" in message
    assert "nowhere: no such folder" in ccr("captions", "check", str(tmp_path / "nowhere"))
    assert "importer table, options {file: captions.csv}" in ccr(
        "captions", "check", str(write_table(tmp_path / "captions.csv", ROWS).parent)
    )


def test_the_command_that_imports_needs_no_second_word(repository, monkeypatch):
    monkeypatch.chdir(repository)
    for arguments in (["nothing"], ["--params", "params.yaml", "nothing"], ["nothing", "--params", "params.yaml"]):
        assert ccr("captions", *arguments).startswith("nothing: params.yaml plans no such job")


# --- the mini-world in their place -------------------------------------------------------------------------

SMALL = {"train": 12, "val": 4, "test": 6, "captions": 2, "frames": 1, "size": 32, "seed": 1}


@pytest.mark.parametrize("data", ["msrvtt_cn", "multi30k_task2", "mscoco"])
def test_the_mini_world_stands_in(data, tmp_path, repository, monkeypatch):
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    raw["datasets"][data]["world"] = SMALL
    raw["tables"]["vatex_table"]["data"] = [data]
    plan = params.plan(params.validate(raw))
    monkeypatch.chdir(tmp_path)
    for target in (f"data/raw/{data}-synthetic", f"data/{data}-synthetic/captions.parquet"):
        execute(plan.keyed(target))
    captions = read_parquet(f"data/{data}-synthetic/captions.parquet", CAPTIONS).to_pylist()
    langs = ["en", *raw["datasets"][data]["target_langs"]]
    assert counts(captions, "lang", "split") == {(lang, s): 2 * SMALL[s] for lang in langs for s in SPLITS}
    lines = inventory(Path(f"data/raw/{data}-synthetic"), params.validate(raw))
    assert "  made by `ccr world`: nothing to check" in lines


# --- the real data -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_multi30k_task_2_in_every_language(real, tmp_path):
    captions, items = import_(real / "multi30k", "multi30k", ["en", "de", "fr", "cs"], out=tmp_path, task=2)
    sizes = {"train": 29000, "val": 1014, "test": 1000}
    assert counts(items, "split") == {(split,): size for split, size in sizes.items()}
    described = {"en": 5, "de": 5, "fr": 1, "cs": 1}
    assert counts(captions, "lang", "split") == {(g, s): n * sizes[s] for g, n in described.items() for s in SPLITS}


def test_real_multi30k_of_the_photos_that_are_flickr8ks(real, tmp_path):
    photos = str(real / "flickr8k/FeatureData/mobilenet_v2/ids.txt")
    captions, items = import_(
        real / "multi30k", "multi30k", ["en", "de", "fr", "cs"], out=tmp_path, photos=photos, held_out=1000
    )
    sizes = {"train": 4462, "val": 1000, "test": 1000}
    assert counts(items, "split") == {(split,): size for split, size in sizes.items()}
    assert counts(captions, "lang", "split") == {(g, s): sizes[s] for g in ("en", "de", "fr", "cs") for s in SPLITS}


def test_real_flickr8k_is_found(real):
    lines = says(real / "flickr8k")
    assert "features in FeatureData/mobilenet_v2: features.npy, 7000 x 1280" in lines
    assert "flickr8k (official): 7,000 items (train 6,000, val 500, test 500), 200 with a file" in lines
    assert any(line.startswith("datasets.flickr8k can run on this") for line in lines)


def test_real_vatex_is_found_in_both_layouts(real):
    lines = says(real / "vatex")
    assert {"missing: vatex_training_v1.0.json", "missing: TextData/vatextrain.caption.txt"} <= set(lines)
    assert lines.count("zh human: train 0, val 15,000, test 0") == 2
    assert any(line.startswith("datasets.vatex cannot run on this; missing: en captions in train") for line in lines)
