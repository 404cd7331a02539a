"""features: real media files and published dumps, good and bad."""

from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ccr import artifacts, features
from ccr.errors import CcrError
from ccr.features import descriptor
from ccr.features.media import Unreadable, read_image, read_video
from ccr.store import open_features

OPTIONS = {"frames": 8, "size": 64, "grid": 4, "on_unreadable": "error"}
FLICKR = Path("../shared/real/flickr8k")
needs_flickr = pytest.mark.skipif(not FLICKR.exists(), reason=f"{FLICKR} is not here")


def write_video(path, frames=12, size=64, colour=(220, 30, 30), **options):
    """A square that moves from left to right over a grey ground, as H.264."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for step in range(frames):
            picture = np.full((size, size, 3), 120, np.uint8)
            left = step * (size - 16) // max(frames - 1, 1)
            picture[:16, left : left + 16] = colour
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def run(folder, items, extractor="descriptor", threads=1, name="visual", root=None, **options):
    """Run the stage on (item_id, path, kind) rows; returns the opened store and the rejected rows."""
    columns = {
        "item_id": [item for item, _, _ in items],
        "split": ["train"] * len(items),
        "path": [path for _, path, _ in items],
        "kind": [kind for _, _, kind in items],
    }
    artifacts.write_parquet(columns, folder / "items.parquet", artifacts.ITEMS)
    outputs = {
        "features": str(folder / f"features/{name}.parquet"),
        "rejected": str(folder / f"features/{name}.rejected.parquet"),
    }
    job = artifacts.Job(
        stage="features",
        target=outputs["features"],
        inputs={"items": str(folder / "items.parquet"), "root": str(root or folder)},
        outputs=outputs,
        settings={"extractor": extractor, "options": (OPTIONS if extractor == "descriptor" else {}) | options},
        threads=threads,
        key="the-key",
    )
    features.run(job)
    return open_features(outputs["features"], folder / "cache"), artifacts.read_parquet(outputs["rejected"]).to_pylist()


# --- media and descriptor ----------------------------------------------------------------------------------


def test_video_frames_are_evenly_spread_and_never_repeated(tmp_path):
    write_video(tmp_path / "v.mp4", frames=12)
    pictures = read_video(tmp_path / "v.mp4", 64, 4)
    lefts = [int((picture[4, :, 0].astype(int) - picture[4, :, 1] > 90).argmax()) for picture in pictures]
    expected = [step * 48 // 11 for step in (1, 4, 7, 10)]
    assert np.abs(np.subtract(lefts, expected)).max() <= 2
    assert len(read_video(tmp_path / "v.mp4", 32, 100)) == 12


def test_video_without_a_length_in_its_header(tmp_path):
    write_video(tmp_path / "v.mkv", frames=10)
    assert read_video(tmp_path / "v.mkv", 16, 5).shape == (5, 16, 16, 3)


def test_video_cut_off_is_unreadable(tmp_path):
    write_video(tmp_path / "v.mp4", frames=200, movflags="faststart")
    whole = (tmp_path / "v.mp4").read_bytes()
    (tmp_path / "v.mp4").write_bytes(whole[: int(len(whole) * 0.7)])
    with pytest.raises(Unreadable):
        read_video(tmp_path / "v.mp4", 64, 8)


def test_image_is_upright_and_rgb(tmp_path):
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, :40] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # shown upside down
    Image.fromarray(picture).save(tmp_path / "i.jpg", exif=exif)
    found = read_image(tmp_path / "i.jpg", 16)
    assert found.shape == (1, 16, 16, 3) and found[0, :, 12:].min() > 200 and found[0, :, :4].max() < 50
    Image.fromarray(picture[..., 0]).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png", 16).shape == (1, 16, 16, 3)


def test_descriptor_says_where_which_colour_and_edge_is():
    pictures = np.full((2, 64, 64, 3), 128, np.uint8)
    pictures[0, :16, :16] = (255, 0, 0)
    pictures[1, 48:, 48:] = (0, 0, 255)
    found = descriptor.describe(pictures, 4).astype(float)
    colours, edges = found[:, : 16 * 48].reshape(2, 16, 48), found[:, 16 * 48 :].reshape(2, 64, 9)
    np.testing.assert_allclose(np.linalg.norm(colours, axis=2), 1, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(edges.reshape(2, -1), axis=1), 4, atol=1e-2)
    assert (colours[0, 0] != colours[0, 15]).any() and (colours[0, 0] != colours[1, 15]).any()
    np.testing.assert_array_equal(colours[0, 5], colours[1, 5])
    assert edges[0, :20].any() and not edges[0, 24:].any()
    assert not descriptor.describe(np.zeros((1, 64, 64, 3), np.uint8), 4)[0, 16 * 48 :].any()


def test_videos_and_images_whatever_the_number_of_workers(tmp_path):
    for i in range(6):
        write_video(tmp_path / f"v{i}.mp4", frames=3 * (i + 1), colour=(40 * i, 200 - 30 * i, 90))
    Image.new("RGB", (100, 50), (10, 200, 30)).save(tmp_path / "i.jpg")
    items = [(f"v{i}", f"v{i}.mp4", "video") for i in (3, 1, 5, 0, 2, 4)] + [("i", "i.jpg", "image")]
    one, rejected = run(tmp_path, items, threads=1)
    bytes_of_one = one.path.read_bytes()
    run(tmp_path, items, threads=4)
    assert one.path.read_bytes() == bytes_of_one
    assert not rejected
    assert one.frames.tolist() == [1, 3, 6, 8, 8, 8, 8]
    assert one.dim == 16 * 84
    metadata = pq.read_schema(one.path).metadata
    assert metadata[b"ccr.key"] == b"the-key" and metadata[b"extractor"] == b"descriptor"
    assert {b"weights", b"preprocess", b"frame_sampling"} <= metadata.keys()


def bad_media(tmp_path):
    """Readable `good`, and every kind of unreadable file with a part of the reason expected."""
    write_video(tmp_path / "good.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.jpg").write_text("this is no picture")
    (tmp_path / "text.mp4").write_text("this is no video" * 100)
    Image.effect_noise((200, 200), 50).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    return {
        "cut.jpg": "truncated",
        "empty.mp4": "Invalid data",
        "missing.jpg": "No such file",
        "missing.mp4": "No such file",
        "text.jpg": "not an image file",
        "text.mp4": "Invalid data",
        None: "no media file is published",
    }


def rows_of(names):
    return [(str(name), name, "image" if name and name.endswith("jpg") else "video") for name in names]


def test_unreadable_files_are_errors(tmp_path):
    for name, reason in bad_media(tmp_path).items():
        with pytest.raises(CcrError, match=f"(?s)'{name}' cannot be read.*{reason}.*on_unreadable: drop"):
            run(tmp_path, rows_of([name, "good.mp4"]))
    assert not list(tmp_path.glob("features/*"))


def test_unreadable_files_are_dropped_and_named(tmp_path):
    reasons = bad_media(tmp_path)
    found, rejected = run(tmp_path, rows_of([*reasons, "good.mp4"]), on_unreadable="drop")
    assert found.item_ids.to_pylist() == ["good.mp4"]
    assert {row["path"] for row in rejected} == set(reasons)
    assert all(reasons[row["path"]] in row["reason"] and row["item_id"] == str(row["path"]) for row in rejected)


def test_nothing_readable_is_an_error(tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(CcrError, match="no item has features"):
        run(tmp_path, rows_of(["empty.mp4"]), on_unreadable="drop")


@pytest.mark.parametrize(
    "options", [{"frames": 0}, {"size": 0}, {"size": 64, "grid": 5}, {"grid": 0}, {"size": 64, "grid": 32}]
)
def test_bad_options(tmp_path, options):
    write_video(tmp_path / "good.mp4", frames=2)
    with pytest.raises(CcrError, match=r"features\.extractors\.visual"):
        run(tmp_path, rows_of(["good.mp4"]), **options)


# --- published dumps ---------------------------------------------------------------------------------------

THREE = [("a", None, "image"), ("b", None, "image"), ("c", None, "image")]


def dump(folder, array, ids):
    folder.mkdir(parents=True)
    np.save(folder / "features.npy", array)
    (folder / "ids.txt").write_text("\n".join(ids) + "\n")


@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 5)])
def test_published_matrix(tmp_path, shape):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    dump(tmp_path / "FeatureData/resnet", array, ["c", "x", "a", "b"])
    found, rejected = run(tmp_path, THREE, "published", path="FeatureData/resnet")
    expected = array[[2, 3, 0]].reshape(-1, 5).astype(np.float16)
    np.testing.assert_array_equal(found.array, expected)
    assert not rejected and found.metadata["extractor"] == "published"
    assert found.frames.tolist() == [1 if len(shape) == 2 else 3] * 3


def test_published_files_as_of_i3d(tmp_path):
    (tmp_path / "i3d").mkdir()
    arrays = {"a": np.ones((1, 7, 4)), "b": 2 * np.ones((2, 4)), "c": 3 * np.ones((1, 1, 4))}
    for item, array in arrays.items():
        np.save(tmp_path / f"i3d/{item}.npy", array.astype(np.float32))
    found, _ = run(tmp_path, THREE, "published", path="i3d")
    assert found.frames.tolist() == [7, 2, 1]
    assert found.array[:, 0].tolist() == [1] * 7 + [2] * 2 + [3]
    np.save(tmp_path / "i3d/c.npy", np.ones((3, 7, 4)))
    with pytest.raises(CcrError, match=r"c\.npy: shape"):
        run(tmp_path, THREE, "published", path="i3d")
    (tmp_path / "i3d/c.npy").write_bytes((tmp_path / "i3d/b.npy").read_bytes()[:-3])
    with pytest.raises(CcrError, match=r"c\.npy: not a whole"):
        run(tmp_path, THREE, "published", path="i3d")
    (tmp_path / "i3d/c.npy").unlink()
    with pytest.raises(CcrError, match="1 of 3 items have no features: 'c'"):
        run(tmp_path, THREE, "published", path="i3d")


def test_bad_dumps(tmp_path):
    def fails(name, message):
        with pytest.raises(CcrError, match=message):
            run(tmp_path, THREE, "published", path=name)
        assert not list(tmp_path.glob("features/*"))

    fails("absent", "no published features there")
    dump(tmp_path / "count", np.ones((3, 2)), ["a", "b"])
    fails("count", "names 2 items, but features.npy has 3 rows")
    dump(tmp_path / "twice", np.ones((4, 2)), ["a", "b", "c", "a"])
    fails("twice", "'a' comes twice")
    dump(tmp_path / "few", np.ones((1, 2)), ["a"])
    fails("few", "2 of 3 items have no features: 'b', 'c'")
    dump(tmp_path / "nan", np.array([[1, 2], [np.nan, 1], [1, 1]]), ["a", "b", "c"])
    fails("nan", "'b' hold NaN")
    dump(tmp_path / "flat", np.ones(3), ["a", "b", "c"])
    fails("flat", "expected \\(items, dim\\)")
    dump(tmp_path / "objects", np.ones((3, 1)), ["a", "b", "c"])
    np.save(tmp_path / "objects/features.npy", np.array([[None]] * 3), allow_pickle=True)
    fails("objects", "not a whole .npy array")
    dump(tmp_path / "no_ids", np.ones((3, 2)), [])
    (tmp_path / "no_ids/ids.txt").unlink()
    fails("no_ids", r"ids\.txt: no such file")
    dump(tmp_path / "no_npy", np.ones((3, 2)), ["a", "b", "c"])
    (tmp_path / "no_npy/features.npy").unlink()
    fails("no_npy", r"features\.npy: no such file")


# --- real data ---------------------------------------------------------------------------------------------


@needs_flickr
def test_real_photos(tmp_path):
    photos = sorted((FLICKR / "images").glob("*.jpg"))
    items = [(photo.stem, f"images/{photo.name}", "image") for photo in photos]
    found, rejected = run(tmp_path, items, threads=2, root=FLICKR)
    assert len(found) == len(photos) and not rejected
    assert found.array.astype(np.float32).std(axis=0).mean() > 0.01


@needs_flickr
def test_real_dump(tmp_path):
    ids = (FLICKR / "FeatureData/mobilenet_v2/ids.txt").read_text().split()
    items = [(item, None, "image") for item in ids]
    found, _ = run(tmp_path, items, "published", root=FLICKR, path="FeatureData/mobilenet_v2")
    array, lengths = found.rows(found.index(ids))
    assert set(lengths) == {1}
    np.testing.assert_array_equal(array, np.load(FLICKR / "FeatureData/mobilenet_v2/features.npy", mmap_mode="r"))
