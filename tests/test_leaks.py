"""Pictures, features and texts that occur in two splits: found, reported, and left out of train on request."""

import json
import logging
import os

import numpy as np
import pytest
from media_files import drawn, film
from PIL import Image, ImageDraw
from raw_files import write
from test_captions import job_outputs

from ccr.artifacts.parquet import read_parquet
from ccr.captions import likeness
from ccr.captions.rows import row_hashes

SPLITS = {"a": "train", "b": "train", "c": "val", "d": "test", "e": "test"}


@pytest.fixture
def mine(tmp_path):
    """A data set of five different photos, with an English and a Chinese caption of each."""
    captions = "".join(f"{i},{split},en,a {i}\n{i},{split},zh,甲{i}\n" for i, split in SPLITS.items())
    write(tmp_path / "raw" / "captions.csv", "item_id,split,lang,text\n" + captions)
    (tmp_path / "raw" / "images").mkdir()
    for seed, item in enumerate(SPLITS):
        drawn(seed).save(tmp_path / "raw" / "images" / f"{item}.jpg")
    return tmp_path / "raw"


def add(root, *rows):
    file = root / "captions.csv"
    file.write_text(file.read_text() + "".join(f"{row}\n" for row in rows))


def imported(root, **settings):
    """What the import's report says about leaks, and the captions by id."""
    captions, items = job_outputs(root, "table", root / "out", **settings)
    leaks = json.loads((root / "out" / "captions.report.json").read_text())["leaks"]
    rows = read_parquet(captions).to_pylist()
    assert {row["item_id"] for row in rows} == set(read_parquet(items)["item_id"].to_pylist())
    return leaks, {row["caption_id"]: row for row in rows}


def test_nothing_is_said_where_nothing_is_shared(mine):
    leaks, captions = imported(mine)
    assert leaks == [] and len(captions) == 10


def test_the_same_file_in_train_and_test(mine, caplog):
    caplog.set_level(logging.INFO)
    (mine / "images" / "d.jpg").write_bytes((mine / "images" / "a.jpg").read_bytes())
    leaks, captions = imported(mine)
    said = "1 of 2 items of test have the picture or clip of an item of train, byte for byte (d that of a)"
    assert leaks == [said, "left in (on_leak: keep)"]
    assert len(captions) == 10 and f"in two splits: {said}" in caplog.text
    leaks, captions = imported(mine, on_leak="drop")
    assert leaks == [said, "left out of train: 1 items, 2 captions (on_leak: drop)"]
    assert {row["item_id"] for row in captions.values()} == set("bcde")


@pytest.mark.parametrize(
    "copied",
    [
        lambda image: (image.resize((160, 120)), "d.png", {}),
        lambda image: (image.resize((224, 224)), "d.webp", {"quality": 60}),
        lambda image: (image, "d.jpg", {"quality": 25}),
        lambda image: (image.point(lambda value: value * 9 // 10), "d.jpg", {}),
    ],
)
def test_a_copy_of_other_bytes(mine, copied):
    (mine / "images" / "d.jpg").unlink()
    image, name, options = copied(Image.open(mine / "images" / "a.jpg"))
    image.save(mine / "images" / name, **options)
    assert imported(mine)[0][0] == "1 of 2 items of test look like an item of train (d that of a)"
    assert {row["item_id"] for row in imported(mine, on_leak="drop")[1].values()} == set("bcde")


def test_plain_pictures_are_not_taken_for_each_other(mine):
    for item, grey in zip(SPLITS, range(100, 150, 10), strict=True):
        image = Image.new("RGB", (320, 240), (255, 255, 255))
        ImageDraw.Draw(image).rectangle([grey, 50, grey + 20, 90], fill=(grey, 0, 0))
        image.save(mine / "images" / f"{item}.jpg")
    assert imported(mine)[0] == []


def test_pictures_that_cannot_be_decoded_are_counted(mine, caplog):
    caplog.set_level(logging.INFO)
    write(mine / "images" / "d.jpg", (mine / "images" / "a.jpg").read_bytes()[:300])
    (mine / "images" / "e.jpg").unlink()
    (mine / "images" / "e.jpg").symlink_to("nowhere.jpg")
    assert imported(mine)[0] == []
    assert "2 images cannot be decoded, the first is" in caplog.text


def test_a_picture_is_decoded_once(mine, monkeypatch, in_a_folder_of_its_own):
    for file in (mine / "images").iterdir():
        os.utime(file, (1, 1))  # a file just written may change again without a new time
    files = {file.stem: file for file in (mine / "images").iterdir()}
    first = likeness.hashes(files, "image", 2)
    assert len(first[1]) == 5 and first[2] == []
    monkeypatch.setattr(likeness, "_of_image", lambda path: pytest.fail(f"{path} is decoded again"))
    assert likeness.hashes(files, "image", 2) == first


def test_videos_by_the_frame_in_their_middle(mine):
    (mine / "images").rename(mine / "stills")
    (mine / "videos").mkdir()
    for seed, item in enumerate(SPLITS):
        film(mine / "videos" / f"{item}.mp4", [99, seed, 98])  # all begin and end with the same picture
    film(mine / "videos" / "d.mp4", [99, 0, 98], (160, 120))  # item a, smaller
    assert imported(mine, kind="video")[0][0] == "1 of 2 items of test look like an item of train (d that of a)"


# --- features ----------------------------------------------------------------------------------------------


def write_features(root, layout, rows):
    folder = root / "FeatureData" / "clip"
    folder.mkdir(parents=True)
    if layout == "files":
        for item, row in rows.items():
            np.save(folder / f"{item}.npy", row[None])
    elif layout == "matrix":
        np.save(folder / "features.npy", np.stack([*rows.values()]))
        write(folder / "ids.txt", "\n".join(rows))
    else:
        write(folder / "feature.bin", np.stack([*rows.values()]).astype("<f4").tobytes())
        write(folder / "shape.txt", f"{len(rows)} {len(rows['a'])}")
        write(folder / "id.txt", " ".join(rows))


@pytest.mark.parametrize("layout", ["files", "matrix", "visualsearch"])
def test_features_where_there_are_no_pictures(mine, layout):
    for file in (mine / "images").iterdir():
        file.unlink()
    rows = {item: np.arange(4, dtype=np.float32) + n for n, item in enumerate(SPLITS)}
    write_features(mine, layout, rows | {"e": rows["b"]})
    said = "1 of 2 items of test have the features of an item of train, value for value (e that of b)"
    assert imported(mine)[0][0] == said
    assert {row["item_id"] for row in imported(mine, on_leak="drop")[1].values()} == set("acde")


def test_ids_with_spaces_have_the_rows_of_their_lines(tmp_path):
    rows = {"beach 01": np.array([1, 2]), "a": np.array([3, 4]), "beach 02": np.array([1, 2]), "01": np.array([5, 6])}
    write_features(tmp_path, "matrix", rows)
    ((first, second, a, other),) = row_hashes(tmp_path, ["beach 01", "beach 02", "a", "01"])
    assert first == second and len({first, a, other, None}) == 4


def test_rows_of_one_value_are_no_features(tmp_path):
    write_features(tmp_path, "matrix", {"a": np.zeros(3), "b": np.zeros(3), "c": np.arange(3)})
    ((a, b, c),) = row_hashes(tmp_path, "abc")
    assert a is b is None and c


# --- texts -------------------------------------------------------------------------------------------------


def test_texts_in_two_splits(mine):
    add(mine, 'a,train,en,"A dog, running!"', "d,test,en,a dog running", "c,val,en,a dog running.", "b,train,en,Ａ b")
    leaks, captions = imported(mine)
    assert leaks == [
        "1 of 2 en captions of val have the text of a caption of train (c#en#1 that of a#en#1)",
        "1 of 3 en captions of test have the text of a caption of train (d#en#1 that of a#en#1)",
        "1 of 3 en captions of test have the text of a caption of val (d#en#1 that of c#en#1)",
        "left in (on_leak: keep)",
    ]
    leaks, dropped = imported(mine, on_leak="drop")
    assert leaks[-1] == "left out of train: 0 items, 1 captions (on_leak: drop)"
    assert captions.keys() - dropped.keys() == {"a#en#1"}


def test_a_caption_is_left_out_with_its_translations(mine):
    rows = ["x,,,a,train,en,one", "y,mt,opus,a,train,zh,甲d", ",mt,nllb,a,train,zh,乙"]
    file = mine / "captions.csv"
    lines = [f",,,{line}" for line in file.read_text().splitlines()[1:]]
    head = "caption_id,origin,engine,item_id,split,lang,text,parent_id"
    made = [f"{row},{parent}" for row, parent in zip(rows, ["", "x", "x"], strict=True)]
    write(file, "\n".join([head, *(f"{line}," for line in lines), *made]))
    leaks, captions = imported(mine, on_leak="drop")
    assert leaks == [
        "1 of 2 zh captions of test have the text of a machine translation in train (d#zh#0 that of y)",
        "left out of train: 0 items, 3 captions (on_leak: drop)",
    ]
    assert set(captions) == {f"{item}#{lang}#0" for item in SPLITS for lang in ("en", "zh")}


def test_the_mini_world_is_not_searched(mine):
    (mine / "images" / "d.jpg").write_bytes((mine / "images" / "a.jpg").read_bytes())
    assert imported(mine, source="synthetic")[0] == []


def test_thousands_are_compared_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(likeness, "BLOCK", 1000)
    generator = np.random.default_rng(0)
    first, second = ([(generator.bytes(32), f"{side}{n}") for n in range(300)] for side in range(2))
    second[7] = (first[5][0], "other bytes")
    second[8] = first[6]  # the same bytes
    assert likeness.near(first, second) == ([5], {7: 5})
