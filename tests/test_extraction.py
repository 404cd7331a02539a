"""Extractors that run a model, the item cache and shards: real models with random weights on real files."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import tiny_vision
import torch
import transformers as hf
import yaml
from hand_made import run as hand_made_run
from media_files import bad_media, job, rows_of, run, write_video
from PIL import Image

from ccr import params, registry
from ccr.artifacts.jobs import job_key
from ccr.errors import CcrError
from ccr.features.checkpoint import find
from ccr.features.preprocess import PROCESSORS, preprocess_of

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")  # the item cache is in work/features

# the expected feature: what a plain `transformers` model, as it was saved, returns for pixels
PLAIN = {
    "clip": lambda model, pixels: model(pixels).image_embeds,
    "clip_whole": lambda model, pixels: model.get_image_features(pixels).pooler_output,
    "clip_unprojected": lambda model, pixels: model(pixels).pooler_output,
    "siglip": lambda model, pixels: model(pixels).pooler_output,
    "siglip_whole": lambda model, pixels: model.get_image_features(pixels).pooler_output,
    "resnet": lambda model, pixels: model(pixels).pooler_output.flatten(1),
    "resnet_classifier": lambda model, pixels: model.resnet(pixels).pooler_output.flatten(1),
    "convnext": lambda model, pixels: model(pixels).pooler_output,
    "convnextv2": lambda model, pixels: model(pixels).pooler_output,
    "vit_classifier": lambda model, pixels: model.vit(pixels).last_hidden_state[:, 0],
    "deit_classifier": lambda model, pixels: model.deit(pixels).last_hidden_state[:, 0],
    "dinov2": lambda model, pixels: model(pixels).pooler_output,
    "dinov2_registers": lambda model, pixels: model(pixels).pooler_output,
    "swin": lambda model, pixels: model(pixels).pooler_output,
    "videomae": lambda model, pixels: model(pixels).last_hidden_state.mean(1),
    "videomae_classifier": lambda model, pixels: model.videomae(pixels).last_hidden_state.mean(1),
    "timesformer_classifier": lambda model, pixels: model.timesformer(pixels).last_hidden_state[:, 0],
}
VIDEO_KINDS = ("videomae", "videomae_classifier", "timesformer_classifier")


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folder of a tiny model, by its kind; each is made once."""
    folder = tmp_path_factory.mktemp("models")
    return lambda kind: folder / kind if (folder / kind).exists() else tiny_vision.make(kind, folder / kind)


def plain(kind, folder, pictures):
    """Features (len(pictures), dim) by a plain loop over PIL pictures, or clips of them, one at a time."""
    model = getattr(hf, json.loads((folder / "config.json").read_text())["architectures"][0]).from_pretrained(folder)
    processor = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.no_grad():
        inputs = [processor(picture, return_tensors="pt")["pixel_values"] for picture in pictures]
        return torch.cat([PLAIN[kind](model.eval(), pixels) for pixels in inputs]).numpy()


def pictures(folder, number=11):
    """Pictures of many sizes, some narrower than the models' input; returns their items."""
    random = np.random.default_rng(0)
    for count in range(number):
        size = random.integers(20, 100, 2)
        small = Image.fromarray(random.integers(0, 256, (4, 5, 3), np.uint8))
        small.resize(size.tolist(), Image.Resampling.BICUBIC).save(folder / f"{count:02d}.png")
    return rows_of([f"{count:02d}.png" for count in range(number)])


# --- models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in tiny_vision.KINDS if kind not in VIDEO_KINDS])
def test_image_models_give_what_a_plain_loop_gives(tmp_path, models, kind):
    items = pictures(tmp_path)
    found, _ = run(tmp_path, items, "image_model", model=str(models(kind)), batch=4, threads=2)
    expected = plain(kind, models(kind), [Image.open(tmp_path / path) for _, path, _ in items])
    assert expected.std(axis=0).mean() > 1e-3
    np.testing.assert_allclose(found.array, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).mean())


@pytest.mark.parametrize("kind", VIDEO_KINDS)
def test_video_models_give_a_feature_for_each_clip(tmp_path, models, kind):
    for name, frames in (("a.mp4", 30), ("b.mp4", 2)):
        write_video(tmp_path / name, frames=frames)
    items = rows_of(["a.mp4", "b.mp4"])
    found, _ = run(tmp_path, items, "video_model", model=str(models(kind)), batch=2, frames=9)
    with av.open(str(tmp_path / "a.mp4")) as container:
        long = [frame.to_image() for frame in container.decode(video=0)]
    with av.open(str(tmp_path / "b.mp4")) as container:
        short = [frame.to_image() for frame in container.decode(video=0)]
    taken = [(2 * k + 1) * 30 // 18 for k in range(9)]
    clips = [[long[taken[k]] for k in range(start, start + 4)] for start in (0, 2, 5)]
    expected = plain(kind, models(kind), [*clips, [short[0], short[0], short[1], short[1]]])
    assert found.frames.tolist() == [3, 1]
    np.testing.assert_allclose(found.array, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).mean())
    alone, _ = run(tmp_path, items, "video_model", model=str(models(kind)))
    assert alone.frames.tolist() == [1, 1]
    with pytest.raises(CcrError, match=r"visual: .*i\.png is a picture"):
        Image.new("RGB", (40, 40)).save(tmp_path / "i.png")
        run(tmp_path, rows_of(["i.png"]), "video_model", model=str(models(kind)))


def test_image_models_take_frames_of_videos(tmp_path, models):
    write_video(tmp_path / "v.mp4", frames=16)
    with av.open(str(tmp_path / "v.mp4")) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    expected = plain("clip", models("clip"), frames)
    for options, taken in (
        ({}, range(1, 16, 2)),
        ({"frames": 2}, [4, 12]),
        ({"fps": 4}, range(0, 16, 2)),
        ({"fps": 4, "max_frames": 4}, [2, 6, 10, 14]),
    ):
        found, _ = run(tmp_path, rows_of(["v.mp4"]), "image_model", model=str(models("clip")), **options)
        np.testing.assert_allclose(found.array, expected[[*taken]], rtol=2e-3, atol=1e-3)
    with pytest.raises(CcrError, match="`frames` and `fps`; give one of the two"):
        run(tmp_path, rows_of(["v.mp4"]), "image_model", model=str(models("clip")), frames=2, fps=4)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_pixels_are_those_of_transformers(processor):
    reference = getattr(
        __import__(f"transformers.models.{processor.lower()}.image_processing_pil_{processor.lower()}", fromlist=["x"]),
        f"{processor}ImageProcessorPil",
    )
    random = np.random.default_rng(0)
    sizes = [{}, {"size": 64, "crop_size": 49}, {"size": 20, "crop_size": {"height": 16, "width": 20}}]
    sizes += [{"size": {"shortest_edge": 400}}] if processor == "ConvNext" else []
    if processor == "Siglip":
        sizes = [{}, {"size": {"height": 40, "width": 50}, "resample": 2}]
    for given in sizes:
        config = {**reference(**given).to_dict(), **given}
        preprocess = preprocess_of(config, "", "folder")
        for width, height in ((50, 90), (333, 500), (640, 481), (224, 224), (31, 1000)):
            picture = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
            expected = reference(**given)(picture, do_rescale=False, do_normalize=False)["pixel_values"]
            expected = np.asarray(expected).reshape(3, *np.shape(expected)[-2:])
            np.testing.assert_array_equal(preprocess.pixels(picture).transpose(2, 0, 1), expected)


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"image_processor_type": "FuyuImageProcessor", "size": 32}, "'FuyuImageProcessor' is not known"),
        ({"image_processor_type": "CLIPImageProcessor"}, "has no 'size'"),
        ({"image_processor_type": "CLIPImageProcessor", "size": 32, "crop_size": 40}, "no pictures of one size"),
        (
            {"image_processor_type": "CLIPImageProcessor", "size": 32, "do_center_crop": False},
            "no pictures of one size",
        ),
        ({"image_processor_type": "CLIPImageProcessor", "size": {"longest_edge": 32}}, "no pictures of one size"),
        ({"size": 32, "do_pad": True}, "has do_pad"),
    ],
)
def test_preprocessing_that_is_not_known_is_an_error(tmp_path, models, processor, message):
    shutil.copytree(models("clip"), tmp_path / "model")
    whole = processor | {"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    (tmp_path / "model/preprocessor_config.json").write_text(json.dumps(whole))
    with pytest.raises(CcrError, match=f"model: .*{message}"):
        run(tmp_path, pictures(tmp_path, 1), "image_model", model=str(tmp_path / "model"))


def test_preprocessing_in_a_processor_config(tmp_path, models):
    shutil.copytree(models("clip"), tmp_path / "model")
    whole = (tmp_path / "model/preprocessor_config.json").rename(tmp_path / "model/processor_config.json")
    whole.write_text(json.dumps({"image_processor": json.loads(whole.read_text()), "processor_class": "CLIPProcessor"}))
    items = pictures(tmp_path, 2)
    one, _ = run(tmp_path, items, "image_model", model=str(models("clip")))
    other, _ = run(tmp_path, items, "image_model", model=str(tmp_path / "model"), name="other")
    np.testing.assert_array_equal(one.array, other.array)


def test_precision(tmp_path, models):
    items, model = pictures(tmp_path), str(models("clip"))
    full, _ = run(tmp_path, items, "image_model", model=model)
    half, _ = run(tmp_path, items, "image_model", model=model, precision="bf16", name="half")
    assert full.metadata["weights"].endswith("fp32") and half.metadata["weights"].endswith("bf16")
    difference = np.abs(full.array - half.array).mean() / np.abs(full.array).mean()
    assert 1e-4 < difference < 0.05


@pytest.mark.parametrize("kind", ["clip", "resnet"])
def test_a_feature_does_not_depend_on_what_stands_beside_it(tmp_path, models, kind):
    items = pictures(tmp_path, 13)
    found = []
    for threads, rows in ((1, range(13)), (3, range(13)), (2, range(12, -1, -5)), (2, [4])):
        shutil.rmtree("work", ignore_errors=True)
        some = [items[row] for row in rows]
        store, _ = run(tmp_path, some, "image_model", model=str(models(kind)), batch=4, threads=threads)
        found.append({item: store.array[row].tobytes() for row, item in enumerate(store.item_ids.to_pylist())})
    assert all(value == found[0][item] for some in found for item, value in some.items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("kind", ["clip", "siglip", "resnet"])
def test_a_gpu_gives_what_a_cpu_gives(tmp_path, models, monkeypatch, kind):
    items, model = pictures(tmp_path, 40), str(models(kind))
    fast, _ = run(tmp_path, items, "image_model", model=model, batch=4, threads=4)
    again = []
    for some in (items, items[::-3]):
        shutil.rmtree("work")
        again.append(run(tmp_path, some, "image_model", model=model, batch=4, name="again")[0])
    np.testing.assert_array_equal(fast.array, again[0].array)
    np.testing.assert_array_equal(fast.rows(fast.index(again[1].item_ids.to_pylist()))[0], again[1].array)
    shutil.rmtree("work")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    slow, _ = run(tmp_path, items, "image_model", model=model, batch=4, name="slow")
    np.testing.assert_allclose(fast.array, slow.array, rtol=5e-3, atol=2e-3 * np.abs(slow.array).mean())


@pytest.mark.parametrize("threads", [1, 2])
def test_real_photos(tmp_path, models, real, threads):
    photos = sorted((real / "flickr8k/images").glob("*.jpg"))
    items = [(photo.stem, f"images/{photo.name}", "image") for photo in photos]
    options = {"model": str(models("clip")), "root": real / "flickr8k", "threads": threads}
    found, rejected = run(tmp_path, items, "image_model", **options)
    assert not rejected and len(found) == 200
    expected = plain("clip", models("clip"), [Image.open(photo) for photo in photos])
    np.testing.assert_allclose(found.array, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).mean())


# --- files of models ---------------------------------------------------------------------------------------


def test_a_folder_is_known_by_its_content_and_not_by_its_name(tmp_path, models):
    items = pictures(tmp_path, 2)
    one, _ = run(tmp_path, items, "image_model", model=str(models("clip")))
    bytes_of_one = one.path.read_bytes()
    shutil.copytree(models("clip"), tmp_path / "elsewhere")
    run(tmp_path, items, "image_model", model=str(tmp_path / "elsewhere"))
    assert one.path.read_bytes() == bytes_of_one
    tiny_vision.make("clip_unprojected", tmp_path / "other")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tmp_path / "other" / name, tmp_path / "elsewhere" / name)
    other, _ = run(tmp_path, items, "image_model", model=str(tmp_path / "elsewhere"))
    assert other.metadata["weights"] != one.metadata["weights"] and other.dim == 32


@pytest.mark.parametrize("gone", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file(tmp_path, models, gone):
    shutil.copytree(models("clip"), tmp_path / "model")
    (tmp_path / "model" / gone).unlink()
    with pytest.raises(
        CcrError, match=f"(?s)not whole.*Missing in .*: .*{gone}.*extractors.visual.model: /path/to/folder"
    ):
        run(tmp_path, pictures(tmp_path, 1), "image_model", model=str(tmp_path / "model"))


def test_models_that_cannot_be_run(tmp_path, models):
    def fails(message, kind="clip", extractor="image_model"):
        with pytest.raises(CcrError, match=message):
            run(tmp_path, rows_of(["v.mp4"]), extractor, model=str(tmp_path / kind))

    write_video(tmp_path / "v.mp4", frames=4)
    for kind in ("clip", "videomae", "resnet"):
        shutil.copytree(models(kind), tmp_path / kind)
    fails("visual.model: model_type 'videomae' is not known to this extractor; known: .*dinov2", "videomae")
    fails("visual.model: model_type 'clip_vision_model' is not known .* timesformer", extractor="video_model")
    weights = tmp_path / "clip/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    fails("clip: the model's weights cannot be read")
    (tmp_path / "clip/config.json").write_text("{")
    fails("config.json: not valid JSON")
    hf.ViTForImageClassification(hf.ViTConfig(**tiny_vision.SIZES)).save_pretrained(tmp_path / "vit")
    shutil.copy(tmp_path / "vit/model.safetensors", tmp_path / "resnet")
    fails("weights of ResNetModel are missing", "resnet")
    with pytest.raises(
        CcrError, match="visual.model: missing. Give a model's name at the hub, or a folder with config"
    ):
        run(tmp_path, rows_of(["v.mp4"]), "image_model")


def test_weights_that_are_a_pickle_are_read_as_weights_alone(tmp_path, models):
    items = pictures(tmp_path, 2)
    shutil.copytree(models("clip"), tmp_path / "model")
    (tmp_path / "model/model.safetensors").unlink()
    model = hf.CLIPVisionModelWithProjection.from_pretrained(models("clip"))
    torch.save(model.state_dict(), tmp_path / "model/pytorch_model.bin")
    one, _ = run(tmp_path, items, "image_model", model=str(models("clip")))
    other, _ = run(tmp_path, items, "image_model", model=str(tmp_path / "model"), name="other")
    np.testing.assert_array_equal(one.array, other.array)
    torch.save({"evil": Path("x")}, tmp_path / "model/pytorch_model.bin")
    with pytest.raises(CcrError, match="the model's weights cannot be read"):
        run(tmp_path, items, "image_model", model=str(tmp_path / "model"))


def test_a_hub_model_that_is_not_there_offline(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        CcrError, match="(?s)some/model .main.: .*Missing in .*: config.json; preprocessor.*model: /path/to"
    ):
        find("some/model", "main", "features.extractors.x.model")
    with pytest.raises(CcrError, match="x.model: no such/folder is no folder, and no name that a hub could know"):
        find("no such/folder", "main", "features.extractors.x.model")


def test_a_hub_model_in_the_cache_is_known_by_its_commit(tmp_path, models, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub/models--some--model"
    shutil.copytree(models("clip"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found = find("some/model", "main", "x")
    assert str(found) == f"some/model@{commit}" and found.weights() == repository / "snapshots" / commit


# --- the item cache ----------------------------------------------------------------------------------------


@pytest.fixture
def extracted(monkeypatch):
    """Names of the files that the descriptor extracts from now on."""
    names = []
    extractor = registry.EXTRACTORS["descriptor"].load().Extractor
    original = extractor._describe

    def describe(self, file):
        names.append(file.path.name)
        return original(self, file)

    monkeypatch.setattr(extractor, "_describe", describe)
    return names


def test_only_what_is_new_is_extracted(tmp_path, extracted):
    items = pictures(tmp_path, 20)
    run(tmp_path, items[:10])
    assert len(extracted) == 10
    extracted.clear()
    found, _ = run(tmp_path, items, threads=3, name="other")
    assert sorted(extracted) == [path for _, path, _ in items[10:]]
    extracted.clear()
    shutil.copy(tmp_path / "03.png", tmp_path / "05.png")  # another file's content
    Image.new("RGB", (50, 50), (1, 2, 3)).save(tmp_path / "04.png")  # a new one
    (tmp_path / "06.png").rename(tmp_path / "moved.png")
    renamed = [(item, path.replace("06.png", "moved.png"), kind) for item, path, kind in items]
    changed, _ = run(tmp_path, renamed)
    assert extracted == ["04.png"]
    same = [row for row in range(20) if row not in (4, 5)]
    np.testing.assert_array_equal(found.array[same], changed.array[same])
    np.testing.assert_array_equal(changed.array[5], changed.array[3])
    extracted.clear()
    run(tmp_path, items[:3], size=32)  # other settings
    assert len(extracted) == 3


def test_another_batch_or_number_of_threads_extracts_nothing(tmp_path, models, monkeypatch):
    items, model = pictures(tmp_path), str(models("clip"))
    one, _ = run(tmp_path, items, "image_model", model=model, batch=4)
    bytes_of_one = one.path.read_bytes()
    monkeypatch.setattr("ccr.features.network.Network", None)
    run(tmp_path, items, "image_model", model=model, batch=3, threads=2)
    assert one.path.read_bytes() == bytes_of_one
    with pytest.raises(TypeError):
        run(tmp_path, items, "image_model", model=model, frames=3)


def test_torn_cache_files_are_extracted_again(tmp_path, extracted):
    items = pictures(tmp_path, 5)
    one, _ = run(tmp_path, items)
    bytes_of_one = one.path.read_bytes()
    extracted.clear()
    torn = sorted(Path("work/features").glob("*/*/*.npy"))[:4]
    whole = torn[0].read_bytes()
    torn[0].write_bytes(whole[:-1])
    torn[1].write_bytes(b"")
    torn[2].write_bytes(bytes(len(whole)))
    torn[3].write_bytes(whole[:500] + bytes(100) + whole[600:])
    run(tmp_path, items)
    assert len(extracted) == 4 and one.path.read_bytes() == bytes_of_one


def test_equal_files_are_extracted_once_and_unreadable_ones_not_kept(tmp_path, extracted):
    bad = bad_media(tmp_path)
    shutil.copy(tmp_path / "good.mp4", tmp_path / "too.mp4")
    for _ in range(2):
        found, rejected = run(tmp_path, rows_of([*bad, "good.mp4", "too.mp4"]), on_unreadable="drop")
        assert len(found) == 2 and len(rejected) == len(bad)
    assert extracted.count("good.mp4") + extracted.count("too.mp4") == 1
    assert extracted.count("text.jpg") == 2


def test_the_same_bytes_as_a_picture_and_as_a_video(tmp_path):
    frames = [Image.new("RGB", (32, 32), (80 * k, 0, 0)) for k in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    found, _ = run(tmp_path, [("picture", "a.gif", "image"), ("video", "a.gif", "video")])
    assert found.frames.tolist() == [1, 3]


def test_features_that_are_not_finite_are_not_kept(tmp_path, models):
    model = hf.CLIPVisionModelWithProjection.from_pretrained(models("clip"))
    with torch.no_grad():
        model.visual_projection.weight *= 1e8
    shutil.copytree(models("clip"), tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(
        CcrError, match=r"00\.png: features of item '00.png' hold NaN, infinity or values beyond float16"
    ):
        run(tmp_path, pictures(tmp_path, 1), "image_model", model=str(tmp_path / "model"))
    assert not list(Path("work/features").glob("*/*/*"))


SLOWLY = """
import sys, time
sys.path[:0] = {paths}
from pathlib import Path
from ccr.features.descriptor import Extractor
from media_files import rows_of, run

describe = Extractor._describe
Extractor._describe = lambda self, file: time.sleep(0.2) or describe(self, file)
run(Path({folder!r}), rows_of({names!r}))
"""
HERE = [str(Path(__file__).parent), *sys.path]


def test_killed_in_the_middle_it_goes_on_where_it_was(tmp_path, extracted):
    items = pictures(tmp_path, 20)
    code = SLOWLY.format(paths=HERE, folder=str(tmp_path), names=[name for name, _, _ in items])
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while len(list(Path("work/features").glob("*/*/*.npy"))) < 5:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(Path("work/features").glob("*/*/*.npy")))
    found, _ = run(tmp_path, items)
    assert 5 <= done < 20 and len(extracted) == 20 - done
    shutil.rmtree("work")
    again, _ = run(tmp_path, items, name="again")
    np.testing.assert_array_equal(found.array, again.array)


FULL = """
import resource, sys
sys.path[:0] = {paths}
from pathlib import Path
from ccr.errors import CcrError
from media_files import rows_of, run

resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
try:
    run(Path({folder!r}), rows_of({names!r}))
except CcrError as error:
    print(error)
"""


@pytest.mark.parametrize(("size", "file"), [(2000, "work/features/"), (8000, "features/visual.parquet")])
def test_a_full_disk(tmp_path, size, file):
    items = pictures(tmp_path, 20)
    code = FULL.format(paths=HERE, folder=str(tmp_path), names=[name for name, _, _ in items], size=size)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"{file}" in result.stdout and "cannot be written (File too large)" in result.stdout, result.stderr
    assert not list(Path(tmp_path).rglob("*.tmp")) and not (tmp_path / "features/visual.parquet").exists()
    found, _ = run(tmp_path, items)
    assert len(found) == 20


# --- shards ------------------------------------------------------------------------------------------------


def scatter(whole, shards):
    """Run the shard jobs of a job, the last one first; returns the job that gathers them."""
    paths = [f"work/features/shards/data/visual/{number}of{shards}.parquet" for number in range(shards)]
    for number, path in reversed([*enumerate(paths)]):
        settings = whole.settings | {"shard": {"number": number, "of": shards}}
        shard = {"module": "ccr.features.shards", "outputs": {"shard": path}, "settings": settings}
        hand_made_run(replace(whole, target=path, **shard))
    return replace(whole, after=tuple(paths))


@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.parametrize("extractor", ["descriptor", "image_model"])
def test_shards_give_the_bytes_of_one_job(tmp_path, models, monkeypatch, extractor, shards):
    pictures(tmp_path)
    names = [f"{count:02d}.png" for count in range(11)] + [name for name in bad_media(tmp_path) if name] + ["good.mp4"]
    items = rows_of(names)
    options = {"extractor": extractor, "on_unreadable": "drop", "threads": 2}
    if extractor == "image_model":
        options |= {"model": str(models("clip")), "batch": 4}
    one = job(tmp_path, items, **options)
    hand_made_run(one)
    expected = [Path(path).read_bytes() for path in one.outputs.values()]
    shutil.rmtree("work")
    gathers = scatter(one, shards)
    # what the shards have done, including unreadable files, is not done again
    monkeypatch.setattr(registry.EXTRACTORS[extractor].load().Extractor, "extract", None)
    hand_made_run(gathers)
    assert [Path(path).read_bytes() for path in one.outputs.values()] == expected


# --- the plan ----------------------------------------------------------------------------------------------


@pytest.fixture
def raw(repository):
    return yaml.safe_load((repository / "params.yaml").read_text())


def test_shards_share_the_items_and_change_nothing_else(raw):
    target = "data/flickr8k/features/clip_vit_b32.parquet"
    alone = params.plan(params.validate(raw)).job(target)
    raw["features"] |= {"shards": 2, "threads": 7}
    plan = params.plan(params.validate(raw))
    gathering = plan.job(target)
    assert gathering.after == tuple(f"work/features/shards/flickr8k/clip_vit_b32/{n}of2.parquet" for n in range(2))
    shards = [plan.job(path) for path in gathering.after]
    assert [shard.settings for shard in shards] == [
        alone.settings | {"shard": {"number": n, "of": 2}} for n in range(2)
    ]
    assert all((shard.stage, shard.inputs, shard.threads) == ("features", alone.inputs, 7) for shard in shards)
    assert (gathering.digest, gathering.inputs) == (alone.digest, alone.inputs)
    assert plan.job("data/flickr8k/features/mobilenet_v2.parquet").after == ()  # a lookup needs no shards
    assert plan.job("work/features/shards/vatex-synthetic/descriptor/1of2.parquet").outputs["shard"]


def test_another_model_in_the_same_folder_is_another_job(raw, models, tmp_path):
    raw["features"]["extractors"] = {**raw["features"]["extractors"], "clip": {"extractor": "image_model"}}
    raw["features"]["extractors"]["clip"]["model"] = str(shutil.copytree(models("clip"), tmp_path / "model"))
    target = "data/flickr8k/features/clip.parquet"
    assert "model" not in params.plan(params.validate(raw)).job("data/flickr8k/features/clip_vit_b32.parquet").inputs
    keys = []
    for _ in range(2):
        planned = params.plan(params.validate(raw)).job(target)
        keys.append(job_key(replace(planned, inputs={"model": planned.inputs["model"]})))
        (tmp_path / "model/model.safetensors").write_bytes(b"other weights")
    assert keys[0] != keys[1]


def test_features_that_no_table_asks_for_can_be_made(raw):
    plan = params.plan(params.validate(raw))
    targets = set(plan.jobs)
    job = plan.job("data/vatex-synthetic/features/videomae.parquet")
    assert job.target not in targets and job.settings["options"]["fps"] == 8
    with pytest.raises(CcrError, match="plans no such job"):  # no features of the mini-world are published
        plan.job("data/vatex-synthetic/features/i3d.parquet")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("shards", 0, "features.shards: .*greater than or equal to 1"),
        ("threads", 0, "features.threads: .*greater than or equal to 1"),
        ("extractors", {"clip": {"extractor": "image_model", "frames": 0}}, "extractors.clip.frames: .*equal to 1"),
        ("extractors", {"clip": {"extractor": "image_model", "fps": 0}}, "extractors.clip.fps: .*greater than 0"),
        ("extractors", {"clip": {"extractor": "image_model", "precision": "fp16"}}, "extractors.clip.precision.*fp32"),
        ("extractors", {"clip": {"extractor": "imagemodel"}}, "extractors.clip.extractor: .*image_model"),
    ],
)
def test_params_that_cannot_be(raw, key, value, message):
    raw["features"][key] = raw["features"][key] | value if isinstance(value, dict) else value
    with pytest.raises(CcrError, match=message):
        params.validate(raw)
