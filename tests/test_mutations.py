"""Property tests of every reader of foreign bytes except those of captions and translation services."""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from late import Late
from media_files import job as features_job
from media_files import write_video
from mutations import CHANGES, Reader, bounded, changed
from PIL import Image
from toy_trainings import trained

from ccr import params
from ccr.artifacts.contents import content_hash
from ccr.artifacts.jobs import Job
from ccr.artifacts.memo import damage_of, memo_path, remember
from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.runs import run_files
from ccr.artifacts.schemas import CAPTIONS
from ccr.artifacts.seals import check_input, sealed_key
from ccr.errors import CcrError
from ccr.features import published
from ccr.features.cache import ItemCache
from ccr.features.items import Item, items_of
from ccr.hub import Checkpoint as Model
from ccr.media.decoding import Unreadable, read_image, read_video, upright
from ccr.media.sampling import Sampling
from ccr.networks.checkpoint import load_network, load_tokenizer
from ccr.store import open_features, read_embeddings
from ccr.store.states import StateStore
from ccr.train.checkpoint import Checkpoint

importer = Late("ccr.networks.published")
ITEMS = [Item(f"item{number}", None, "image") for number in range(3)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A teacher and a student, trained for a second."""
    return trained(tmp_path_factory.mktemp("runs"), ["teacher", "baseline"])


# --- Parquet -----------------------------------------------------------------------------------------------


def captions(folder: Path, runs: Path) -> Reader:
    path = shutil.copy(runs / "captions.parquet", folder / "captions.parquet")
    return Reader(Path(path), lambda: (read_parquet(path, CAPTIONS).to_pylist(), content_hash(path)))


def embeddings(folder: Path, runs: Path) -> Reader:
    path = shutil.copy(runs / "teacher/embeddings.parquet", folder / "embeddings.parquet")
    return Reader(Path(path), lambda: read_embeddings(path))


def features(folder: Path, runs: Path) -> Reader:
    path = shutil.copy(runs / "features.parquet", folder / "features.parquet")

    def read() -> None:
        shutil.rmtree(folder / "arrays", ignore_errors=True)
        open_features(path, folder / "arrays")

    return Reader(Path(path), read)


def items(folder: Path, runs: Path) -> Reader:
    job = features_job(folder, [("a", "images/a.png", "image"), ("b", None, "image")])
    return Reader(Path(job.inputs["items"]), lambda: items_of(job))


# --- weights -----------------------------------------------------------------------------------------------


def run_file(name: str, folder: Path, runs: Path) -> Reader:
    shutil.copytree(runs / "baseline", folder / "run")
    files = run_files(folder / "run")
    return Reader(folder / "run" / name, lambda: load_network(files["model"], files["config"]))


def tokenizer(folder: Path, runs: Path) -> Reader:
    path = shutil.copy(runs / "baseline/tokenizer.json", folder / "tokenizer.json")
    return Reader(Path(path), lambda: load_tokenizer(path))


def state(folder: Path, runs: Path) -> Reader:
    checkpoint = Checkpoint("k", "cpu")
    checkpoint.path = folder / "state.safetensors"
    checkpoint.save({"weights": [torch.arange(40.0), torch.ones(3, 2)], "step": 3, "name": "a"})
    return Reader(checkpoint.path, checkpoint.load)


def prefix(name: str, folder: Path, runs: Path) -> Reader:
    store = StateStore("e", 8, folder)
    store.add([bytes([n] * 16) for n in range(3)], np.array([2, 3, 1]), [np.ones((6, 8))])
    [path] = (folder / "e").glob(f"*.{name}")
    return Reader(path, lambda: StateStore("e", 8, folder).places([]))


def nrccr(folder: Path, runs: Path) -> Reader:
    import argparse

    parts = [{"a.weight": torch.ones(2, 2)} for _ in range(5)]
    torch.save({"model": parts, "opt": argparse.Namespace(a=1), "epoch": 2}, folder / "model_best.pth.tar")
    return Reader(folder / "model_best.pth.tar", lambda: importer.read_checkpoint(folder / "model_best.pth.tar"))


def model_config(folder: Path, runs: Path) -> Reader:
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 8, "layers": [1, 2]}))
    model = Model(folder, "", "r", "features.extractors.x.model")
    return Reader(folder / "config.json", lambda: model.json("config.json").get("model_type"))


# --- published features, and media -------------------------------------------------------------------------


def cached(folder: Path, runs: Path) -> Reader:
    cache = ItemCache({"extractor": "x"}, "image", "code")
    cache.folder = folder / "cache"
    cache.folder.mkdir()
    cache.put("abcd", np.ones((3, 4), np.float16))
    return Reader(cache.folder / "ab/abcd.npy", lambda: cache.get("abcd"))


def read_published(folder: Path) -> list:
    _, rows = published.read(ITEMS, folder, {"path": "FeatureData"})
    return [features.sum() for _, features in rows]


def matrix(name: str, folder: Path, runs: Path) -> Reader:
    (folder / "FeatureData").mkdir()
    np.save(folder / "FeatureData/features.npy", np.ones((3, 2, 4), np.float32))
    (folder / "FeatureData/ids.txt").write_text("item0\nitem1\nitem2\n")
    return Reader(folder / "FeatureData" / name, lambda: read_published(folder))


def single(folder: Path, runs: Path) -> Reader:
    (folder / "FeatureData").mkdir()
    for item in ITEMS:
        np.save(folder / f"FeatureData/{item.item_id}.npy", np.ones((1, 2, 4), np.float32))
    return Reader(folder / "FeatureData/item1.npy", lambda: read_published(folder))


def dump(name: str, folder: Path, runs: Path) -> Reader:
    top = folder / "FeatureData"
    top.mkdir()
    frames = [f"item{item}_{frame}" for item in range(3) for frame in range(2)]
    np.ones((6, 4), "<f4").tofile(top / "feature.bin")
    (top / "shape.txt").write_text("6 4")
    (top / "id.txt").write_text(" ".join(frames))
    (top / "video2frames.txt").write_text(repr({f"item{n}": frames[2 * n : 2 * n + 2] for n in range(3)}))
    return Reader(top / name, lambda: read_published(folder))


def picture(form: str, folder: Path, runs: Path) -> Reader:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)
    path = folder / f"picture.{form}"
    Image.fromarray(pixels).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    square = (16, 16)
    return Reader(path, lambda: read_image(path, lambda image: np.asarray(image.resize(square)), square))


def film(form: str, sampling: Sampling, folder: Path, runs: Path) -> Reader:
    path = folder / f"film.{form}"
    write_video(path, frames=6, size=32)

    def pixels(frame) -> np.ndarray:
        return upright(frame.to_ndarray(format="rgb24", width=16, height=16), frame)

    return Reader(path, lambda: read_video(path, sampling, pixels))


# --- files next to results, and settings -------------------------------------------------------------------


def made(folder: Path) -> Job:
    os.chdir(folder)
    Path("data").mkdir()
    Path("data/a.parquet").write_text("rows")
    job = Job("captions", "data/a.parquet", {}, {"captions": "data/a.parquet"}, {}, "ccr.captions.dataset", key="ab12")
    remember(job)
    return job


def seal(folder: Path, runs: Path) -> Reader:
    job = made(folder)
    return Reader(folder / "data/a.seal.json", lambda: (sealed_key(job), check_input("data/a.parquet", job)))


def record(folder: Path, runs: Path) -> Reader:
    job = made(folder)
    return Reader(folder / memo_path(job.key) / "job.json", lambda: damage_of(job.key))


def settings_file(folder: Path, runs: Path) -> Reader:
    path = folder / "params.yaml"
    shutil.copy(Path(__file__).parents[1] / "params.yaml", path)
    return Reader(path, lambda: params.plan(params.load(path)))


BY_TIME = Sampling(fps=4, limit=8)
READERS: dict[str, Callable[[Path, Path], Reader]] = {
    "captions.parquet": captions,
    "embeddings.parquet": embeddings,
    "features.parquet": features,
    "items.parquet": items,
    "model.safetensors": partial(run_file, "model.safetensors"),
    "config.json": partial(run_file, "config.json"),
    "tokenizer.json": tokenizer,
    "a training's state": state,
    "cached states": partial(prefix, "npy"),
    "index of cached states": partial(prefix, "npz"),
    "NRCCR's checkpoint": nrccr,
    "a model's config": model_config,
    "item cache": cached,
    "features.npy": partial(matrix, "features.npy"),
    "ids.txt": partial(matrix, "ids.txt"),
    "item.npy": single,
    "shape.txt": partial(dump, "shape.txt"),
    "id.txt": partial(dump, "id.txt"),
    "video2frames.txt": partial(dump, "video2frames.txt"),
    "feature.bin": partial(dump, "feature.bin"),
    **{f"{form} picture": partial(picture, form) for form in ("png", "jpg", "webp", "tiff")},
    "mp4 by number": partial(film, "mp4", Sampling(4)),
    "mp4 by time": partial(film, "mp4", BY_TIME),
    "avi": partial(film, "avi", Sampling(4)),
    "mkv by time": partial(film, "mkv", BY_TIME),
    "seal": seal,
    "job.json of the memo": record,
    "params.yaml": settings_file,
}
SLOW = {"params.yaml": 0.1}  # share of the examples: each takes a tenth of a second


def check(name: str, examples: int, folder: Path, runs: Path) -> None:
    reader = READERS[name](folder, runs)
    good = reader.path.read_bytes()
    with bounded():
        reader.read()  # unchanged, it can be read

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate] if examples > 1000 else [Phase.generate, Phase.shrink],
    )
    @given(CHANGES)
    def read(changes) -> None:
        reader.path.write_bytes(changed(good, changes))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with bounded():
                    reader.read()
            except (CcrError, Unreadable) as error:
                assert str(error)

    read()


@pytest.mark.parametrize("name", READERS)
def test_a_changed_file_is_read_or_is_one_error(name, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(name, int(20 * SLOW.get(name, 1)), tmp_path, runs)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_ten_thousand_changes(name, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(name, int(10_000 * SLOW.get(name, 1)), tmp_path, runs)


def test_what_changes_a_file_changes_it():
    data = bytes(range(100))
    for kind in ("flip", "set", "cut", "drop", "insert", "double", "zeros"):
        assert changed(data, [(kind, 0.5, b"\xff\x01")]) != data


def test_no_damage_to_the_metadata_of_a_parquet_file_ends_the_process(tmp_path):
    """pyarrow itself aborts on some: a reader in C++ throws where Python does not catch."""
    path = tmp_path / "lists.parquet"
    pq.write_table(pa.table({"v": pa.array([[1.0], [2.0, 3.0]])}), path)
    good = path.read_bytes()
    start = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    refused = 0
    for place in range(start, len(good) - 8):
        for bit in (1, 16):
            path.write_bytes(good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :])
            try:
                read_parquet(path)
            except CcrError:
                refused += 1
    assert refused


def test_a_picture_that_announces_gigabytes_does_not_reserve_them(tmp_path):
    reader = picture("png", tmp_path, tmp_path)
    changes = [("set", 0.5, b"\x8d\xef\xaa"), ("cut", 0.8, b"\xac(\x01"), ("drop", 0.2752547, b"\x01*\xfb \x1cmZ:\xc8")]
    changes += [("flip", 0.76248, b"{}"), ("insert", 0.62724, b"f^"), ("flip", 0.0239265, b"GBD?")]
    reader.path.write_bytes(changed(reader.path.read_bytes(), changes))
    with bounded(), pytest.raises(Unreadable):
        reader.read()
