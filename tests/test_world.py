"""The mini-world: official layouts, reproducible, hard, and its captions true of its pixels."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from hand_made import hand_made, run
from hypothesis import given
from hypothesis import strategies as st

from ccr.errors import CcrError
from ccr.registry import WORLD_LANGUAGES
from ccr.world.captions import describe, realise
from ccr.world.languages import CLASSES, KINDS, language
from ccr.world.publish import scenes
from ccr.world.render import RGB, render, write_image, write_video
from ccr.world.scenes import ACTS, MOTIONS, RELATIONS, TEXTURES, Scene, Thing, family, relation, tracks

SETTINGS = {
    "layout": "vatex",
    "kind": "video",
    "langs": ["en", "zh"],
    "train": 8,
    "val": 4,
    "test": 6,
    "captions": 3,
    "frames": 8,
    "size": 64,
    "seed": 1,
    "parallel": 30,
}
ALL = list(WORLD_LANGUAGES)


def publish(folder: Path, **changes) -> Path:
    settings = {**SETTINGS, **changes}
    outputs = {"root": str(folder)}
    run(hand_made(stage="world", target=str(folder), inputs={}, outputs=outputs, settings=settings, key="k"))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def read_gz(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


@pytest.fixture(scope="module")
def vatex(tmp_path_factory) -> Path:
    return publish(tmp_path_factory.mktemp("raw") / "vatex-synthetic")


def test_vatex_layout(vatex):
    training, validation = (
        json.loads((vatex / f"vatex_{n}_v1.0.json").read_text()) for n in ("training", "validation")
    )
    val, test = ((vatex / f"{split}_ids.txt").read_text().splitlines() for split in ("val", "test"))
    assert [len(training), len(val), len(test)] == [8, 4, 6]
    assert {v["videoID"] for v in validation} == {*val, *test} and not {*val} & {*test}
    for video in training + validation:
        assert set(video) == {"videoID", "enCap", "chCap"}
        assert len(video["enCap"]) == len(video["chCap"]) == 3
        assert (vatex / "videos" / f"{video['videoID']}.mp4").exists()


def test_manifest_says_synthetic(vatex):
    manifest = json.loads((vatex / "manifest.json").read_text())
    assert manifest["synthetic"] is True and manifest["key"] == "k" and manifest["settings"] == SETTINGS
    assert manifest["items"] == {"train": 8, "val": 4, "test": 6} and manifest["captions"]["test"] == 6 * 2 * 3
    assert json.loads((vatex / "lexicon.json").read_text())["synthetic"] is True


def test_video_file_decodes(vatex):
    path = next((vatex / "videos").iterdir())
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert np.shape(frames) == (8, 64, 64, 3)


def test_multi30k_layouts(tmp_path):
    two = publish(tmp_path / "two", layout="multi30k_task2", kind="image", langs=ALL, frames=1)
    names = (two / "task2/image_splits/test_2016_images.txt").read_text().splitlines()
    assert len(names) == 6 and all((two / "images" / name).exists() for name in names)
    for n in (1, 2, 3):
        assert {len(read_gz(two / f"task2/raw/test_2016.{n}.{code}.gz")) for code in ALL} == {6}
    one = publish(tmp_path / "one", layout="multi30k_task1", kind="image", langs=["en", "de"], captions=1)
    assert len((one / "task1/image_splits/train.txt").read_text().splitlines()) == 8
    assert len(read_gz(one / "task1/raw/test_2016_flickr.de.gz")) == 6


def test_same_seed_same_bytes_and_another_seed_other_ones(vatex, tmp_path):
    assert files(publish(tmp_path / "again")) == files(vatex)
    other = files(publish(tmp_path / "other", seed=2))
    assert not {name for name, data in files(vatex).items() if other[name] == data} - {
        "val_ids.txt",
        "test_ids.txt",
        "lexicon.json",
    }


def test_growing_train_changes_no_other_split(vatex, tmp_path):
    grown = publish(tmp_path / "grown", train=12)
    assert files(grown)["vatex_validation_v1.0.json"] == files(vatex)["vatex_validation_v1.0.json"]
    assert {n: d for n, d in files(grown).items() if n in files(vatex) and n.startswith("videos")} == {
        n: d for n, d in files(vatex).items() if n.startswith("videos")
    }


def test_another_language_changes_no_caption(tmp_path):
    changes = {"layout": "multi30k_task2", "kind": "image", "train": 4, "val": 4}
    few = files(publish(tmp_path / "few", langs=["en"], **changes))
    more = files(publish(tmp_path / "more", langs=["en", "cs"], **changes))
    assert all(more[name] == data for name, data in few.items() if name.endswith((".en.gz", ".jpg")))


def parallel(folder: Path) -> dict[str, list[str]]:
    return {path.stem: path.read_text().splitlines() for path in sorted((folder / "parallel").iterdir())}


def test_parallel_text_says_what_no_caption_says_in_every_language(vatex):
    pairs = parallel(vatex)
    captions = [
        text for n in ("training", "validation") for video in json.loads((vatex / f"vatex_{n}_v1.0.json").read_text())
        for text in (*video["enCap"], *video["chCap"])
    ]  # fmt: skip
    bare = [re.sub(r"[\W_]", "", text).casefold() for text in (*captions, *pairs["en"], *pairs["zh"])]
    assert list(pairs) == ["en", "zh"] and [len(texts) for texts in pairs.values()] == [30, 30]
    assert not set(bare[: len(captions)]) & set(bare[len(captions) :])
    assert len(set(pairs["en"])) == len(set(pairs["zh"])) == 30
    colours = {" red ": "红", "yellow": "黄", "purple": "紫", "white": "白"}
    named = [(en in a, zh in b) for a, b in zip(pairs["en"], pairs["zh"], strict=True) for en, zh in colours.items()]
    assert any(en for en, _ in named) and all(zh for en, zh in named if en)


def test_parallel_text_changes_nothing_else(vatex, tmp_path):
    without = files(publish(tmp_path / "without", parallel=0))
    assert {name for name, data in files(vatex).items() if without.get(name) != data} == {
        "manifest.json",
        "parallel/en.txt",
        "parallel/zh.txt",
    }


def test_failure_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("ccr.world.publish.write_video", lambda clip, path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish(tmp_path / "broken")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"langs": ["en", "de"]}, "no language 'de'"),
        ({"kind": "image"}, "does not go with layout"),
        ({"layout": "coco"}, "no layout 'coco'"),
        ({"layout": "multi30k_task1", "kind": "image"}, "one caption per image"),
        ({"frames": 0}, "world.frames is 0"),
        ({"test": 0}, "world.test is 0"),
    ],
)
def test_bad_settings(tmp_path, changes, words):
    with pytest.raises(CcrError, match=words):
        publish(tmp_path / "bad", **changes)


# --- hard enough, and true -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    return [scene for _, scene in scenes(0, "test", 500, True)]


def attributes(scene: Scene) -> Counter:
    things = [value for t in scene.things for value in (t.shape, t.colour, t.size, t.texture, t.motion)]
    return Counter([*things, scene.background, scene.act])


def test_test_items_share_most_attributes_but_none_are_equal(many):
    assert len({scene.facts for scene in many}) == 500
    bags = [attributes(scene) for scene in many]
    close = 0
    for i, bag in enumerate(bags):
        others = (other for j, other in enumerate(bags) if j != i)
        close += any((bag & other).total() >= 0.7 * bag.total() for other in others)
    assert close >= 450


def test_everything_occurs(many):
    things = [thing for scene in many for thing in scene.things]
    for name in ("shape", "colour", "size", "texture", "motion"):
        seen = {getattr(thing, name) for thing in things}
        assert seen >= set(CLASSES.get(name, MOTIONS)) - {"thing"}
    assert {scene.act for scene in many} == {None, *ACTS}
    pairs = [(s, i, j) for s in many for i in range(len(s.things)) for j in range(i)]
    assert {relation(*pair) for pair in pairs} == {None, *RELATIONS}
    assert {thing.texture for thing in things} == set(TEXTURES)


def test_things_stay_in_the_picture_and_apart(many):
    for scene in many:
        paths = tracks(scene, 12)
        assert (paths[:, :, :2] > 0.05).all() and (paths[:, :, :2] < 0.95).all()
        if len(paths) > 1:
            apart = np.linalg.norm(paths[0, :, :2] - paths[1, :, :2], axis=-1)
            assert np.median(apart) > 0.2


@pytest.mark.parametrize("colour", ["red", "green", "blue", "yellow", "purple", "orange", "pink"])
@pytest.mark.parametrize("texture", TEXTURES)
def test_decoded_video_shows_colour_place_and_motion(tmp_path, colour, texture):
    thing = Thing("square", colour, "big", texture, "move_right", 0, 2)
    write_video(render(Scene((thing,), "bg_black", None, 5), 12, 64), tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        clip = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)]).astype(float)
    bright = clip.max(-1) > 90
    mean = clip[bright].mean(0)
    names = [name for name in RGB if not name.startswith("bg_")]
    direction = {name: np.array(RGB[name]) / np.linalg.norm(RGB[name]) for name in names}
    assert max(names, key=lambda name: direction[name] @ (mean / np.linalg.norm(mean))) == colour
    rows, cols = (np.array([np.mean(np.nonzero(frame)[axis]) for frame in bright]) for axis in (0, 1))
    assert (rows > 43).all() and (np.diff(cols) > 0).all()


def test_images_and_sizes(tmp_path):
    area = {}
    for size in ("big", "small"):
        scene = Scene((Thing("circle", "red", size, "plain", "still", 1, 1),), "bg_black", None, 3)
        write_image(render(scene, 1, 64)[0], tmp_path / f"{size}.jpg")
        area[size] = (render(scene, 1, 64)[0].max(-1) > 100).sum()
    assert area["big"] > 2 * area["small"] > 100


def test_acts_look_like_their_names():
    for number in range(60):
        for scene in family(0, "train", number, True):
            if not scene.act:
                continue
            paths = tracks(scene, 12)[:2, :, :2]
            apart = np.linalg.norm(paths[0] - paths[1], axis=-1)
            change = apart[-1] - apart[0]
            low, high = {"approach": (-1, -0.2), "leave": (0.2, 1)}.get(scene.act, (-0.1, 0.1))
            assert low < change < high, scene


# --- languages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ALL)
def test_a_language_names_every_concept(code):
    table = language(code)
    known = {**table.nouns, **table.adjectives, **table.phrases}
    wanted = {concept for members in CLASSES.values() for concept in members} | set(table.particles)
    assert wanted == set(known) and set(table.templates) == set(KINDS)
    assert all(len(forms) == len(set(forms)) for forms in known.values())


def sentences(code: str, count: int = 400) -> list[str]:
    rng = np.random.default_rng(3)
    drawn = [scene for number in range(count // 4) for scene in family(9, "train", number, True)]
    return [realise(describe(scene, rng, True), language(code), rng) for scene in drawn]


@pytest.mark.parametrize("code", ALL)
def test_sentences_are_varied_and_clean(code):
    texts = sentences(code)
    assert len(set(texts)) > 300
    for text in texts:
        assert text == text.strip() and text.endswith(language(code).phrases["stop"][0])
        assert not re.search(r"[A-Z]{2}|[+/:|~\[\]]|\s\s|\s[.,،]|,,|，，|、、|،،", text), text


def test_scripts():
    latin, han, kana = r"[A-Za-z]", r"[\u4e00-\u9fff]", r"[\u3040-\u30ff]"
    zh, ja = "".join(sentences("zh")), "".join(sentences("ja"))
    assert not re.search(rf"{latin}|{kana}|\s", zh) and re.search(han, zh)
    assert not re.search(rf"{latin}|\s", ja) and re.search(kana, ja)
    for code in ("en", "de", "fr", "cs"):
        assert not re.search(rf"{han}|{kana}", "".join(sentences(code)))
    ar, th = "".join(sentences("ar")), "".join(sentences("th"))
    assert not re.search(r"[^\u0621-\u064b\s.،]", ar) and not re.search(r"[^\u0e01-\u0e4e\s]", th)


def test_thai_has_a_space_for_a_comma_and_no_other():
    assert {text.count(" ") for text in sentences("th")} == {0, 1}


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("en", r"\ba [aeiou]|\ban [^aeiou]"),
        ("de", r"\beine? \w*(ß|rot|klein|riesig)en\b|\beine \w+es\b|\beinem \w+(er|es) "),
        ("fr", r"\bde une?\b|\bun (grande|petite|grosse)\b|\bune (grand|petit|gros)\b"),
        ("cs", r"[ýá] (hvězdou|kruhem)\b|\bk (kruh|hvěz|čtver)"),
        ("ar", r"(دائرة|نجمة|حلقة) (\w*[ةء] )*(أحمر|أزرق|كبير|صغير|مخطط|ي\w+)\b"),
        ("ar", r"(مربع|مثلث|قلب|طوق) ((أ\w+|كبير|صغير) )*(\w+اء|كبيرة|صغيرة|مخططة|ت\w+)\b"),
        ("ar", r"\bال\w+ (كبير|صغير|أحمر|حمراء|أزرق)|\bو \w|نرى (مربع|مثلث|قرص)\b|(أحمر|أزرق)ً"),
    ],
)
def test_agreement(code, wrong):
    found = [text for text in sentences(code) if re.search(wrong, text)]
    assert not found, found[:3]


@given(st.integers(0, 500), st.integers(0, 99), st.booleans())
def test_captions_are_true(number, seed, moving):
    """Every attribute, place, motion, act and relation named in a caption is true of its scene."""
    scene = family(4, "val", number, moving)[seed % 4]
    content = describe(scene, np.random.default_rng(seed), moving)

    def fits(mention, thing):
        return all(getattr(thing, k) == v for k, v in mention.items() if v != "thing")

    def holds(i, j):
        a, b = scene.things[i], scene.things[j]
        said = {"MOVE": a.motion, "MOVE2": b.motion, "PLACE": a.place, "BG": scene.background}
        said |= {"ACT": scene.act if (i, j) == (0, 1) else None, "REL": relation(scene, i, j) if i != j else None}
        said |= {"COUNT": {2: "two", 3: "three"}.get(len(scene.things))}
        return all(said[slot] == concept for slot, concept in content.slots.items())

    size = range(len(scene.things))
    assert any(
        fits(content.mentions["A"], scene.things[i])
        and ("B" not in content.mentions or (i != j and fits(content.mentions["B"], scene.things[j])))
        and holds(i, j)
        for i in size
        for j in size
    )
    if not moving:
        assert not {"MOVE", "ACT"} & set(content.slots)
