"""features: real media files and published dumps, good and bad."""

import tracemalloc
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from av.video.reformatter import VideoReformatter
from media_files import bad_media, rows_of, run, write_video
from PIL import Image

from ccr import params
from ccr.captions.inventory import inventory
from ccr.errors import CcrError
from ccr.features import descriptor, published, visualsearch
from ccr.features.items import Item
from ccr.features.video_model import clips
from ccr.media.decoding import Unreadable, read_image, read_video, upright
from ccr.media.sampling import Sampling

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")  # the item cache is in work/features


def pixels(frame):
    return upright(frame.to_ndarray(format="rgb24"), frame)


def squares(size):
    reformatter = VideoReformatter()
    return lambda frame: reformatter.reformat(frame, size, size, "rgb24", interpolation="AREA").to_ndarray()


def every_frame(path):
    """(seconds, pixels) of all frames, as PyAV decodes them."""
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


# --- frames of videos --------------------------------------------------------------------------------------


def test_video_frames_are_evenly_spread_and_never_repeated(tmp_path):
    write_video(tmp_path / "v.mp4", frames=12)
    pictures = read_video(tmp_path / "v.mp4", Sampling(4), squares(64))
    lefts = [int((picture[4, :, 0].astype(int) - picture[4, :, 1] > 90).argmax()) for picture in pictures]
    expected = [step * 48 // 11 for step in (1, 4, 7, 10)]
    assert np.abs(np.subtract(lefts, expected)).max() <= 2
    assert len(read_video(tmp_path / "v.mp4", Sampling(100), squares(32))) == 12


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
@pytest.mark.parametrize(
    ("sampling", "expected"), [(Sampling(5), [1, 3, 5, 7, 9]), (Sampling(fps=2, limit=9), [0, 4, 8])]
)
def test_frames_whatever_the_container_says_about_them(tmp_path, suffix, sampling, expected):
    write_video(tmp_path / f"v.{suffix}", frames=10)
    whole = every_frame(tmp_path / f"v.{suffix}")
    found = read_video(tmp_path / f"v.{suffix}", sampling, pixels)
    np.testing.assert_array_equal(found, [whole[position][1] for position in expected])


@pytest.mark.parametrize("fps", [0.5, 1, 2.5, 8, 30])
def test_fps_goes_by_time_where_the_frame_rate_varies(tmp_path, fps):
    times = [0, 1, 2, 3, 4, 20, 21, 40, 41, 42, 43, 44]  # eighths of a second
    write_video(tmp_path / "v.mp4", frames=12, times=times)
    found = read_video(tmp_path / "v.mp4", Sampling(fps=fps, limit=1000), pixels)
    whole = every_frame(tmp_path / "v.mp4")
    assert [time for time, _ in whole] == [time / 8 for time in times]
    moments = np.arange(0, 45 / 8, 1 / fps)
    on_screen = [max(k for k, (time, _) in enumerate(whole) if time <= moment + 1e-9) for moment in moments]
    np.testing.assert_array_equal(found, [whole[k][1] for k in on_screen])


def test_fps_takes_at_most_so_many_frames():
    timeline = np.arange(101) / 10
    assert Sampling(fps=2, limit=4).positions(timeline).tolist() == [10, 35, 60, 85]
    assert Sampling(fps=2, limit=20).positions(timeline).tolist() == [*range(0, 100, 5)]
    assert Sampling(fps=10, limit=1000).positions(timeline + 1 / 3).tolist() == [*range(100)]


@pytest.mark.parametrize("sampling", [Sampling(8), Sampling(fps=3, limit=8), Sampling(fps=0.01, limit=8)])
def test_a_video_of_one_frame(tmp_path, sampling):
    write_video(tmp_path / "v.mp4", frames=1)
    assert read_video(tmp_path / "v.mp4", sampling, pixels).shape == (1, 64, 64, 3)


@pytest.mark.parametrize("sampling", [Sampling(8), Sampling(fps=2, limit=64)])
def test_a_video_that_is_cut_off(tmp_path, sampling):
    write_video(tmp_path / "v.mp4", frames=200, movflags="faststart")
    whole = (tmp_path / "v.mp4").read_bytes()
    (tmp_path / "v.mp4").write_bytes(whole[: int(len(whole) * 0.7)])
    with pytest.raises(Unreadable):
        read_video(tmp_path / "v.mp4", sampling, pixels)


@pytest.mark.parametrize(
    ("sampling", "expected"), [(Sampling(4), [1, 3, 5, 7]), (Sampling(fps=4, limit=9), [0, 2, 4, 6])]
)
def test_a_video_cut_out_of_a_longer_one_by_an_edit_list(tmp_path, sampling, expected):
    write_video(tmp_path / "v.mp4", frames=12, times=[*range(-4, 8)], avoid_negative_ts="disabled")
    whole = every_frame(tmp_path / "v.mp4")
    assert len(whole) == 8  # a player shows no frame before 0
    found = read_video(tmp_path / "v.mp4", sampling, pixels)
    np.testing.assert_array_equal(found, [whole[position][1] for position in expected])


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_video_taken_with_the_phone_held_upright(tmp_path, quarters):
    write_video(tmp_path / "v.mp4", frames=2)
    write_video(tmp_path / "turned.mp4", frames=2, rotation=90 * quarters)
    straight, turned = (read_video(tmp_path / name, Sampling(2), pixels) for name in ("v.mp4", "turned.mp4"))
    np.testing.assert_array_equal(turned, np.rot90(straight, quarters, axes=(1, 2)))


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (4, [[0, 1, 2, 3]]),
        (8, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (9, [[0, 1, 2, 3], [2, 3, 4, 5], [5, 6, 7, 8]]),
        (2, [[0, 0, 1, 1]]),
        (1, [[0, 0, 0, 0]]),
    ],
)
def test_clips(frames, expected):
    assert clips(frames, 4).tolist() == expected


# --- pictures ----------------------------------------------------------------------------------------------


def test_image_is_upright_and_rgb(tmp_path):
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, :40] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # shown upside down
    Image.fromarray(picture).save(tmp_path / "i.jpg", exif=exif)
    found = read_image(tmp_path / "i.jpg", np.asarray)
    assert found.shape == (1, 40, 80, 3) and found[0, :, 60:].min() > 200 and found[0, :, :20].max() < 50
    Image.fromarray(picture[..., 0]).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png", np.asarray).shape == (1, 40, 80, 3)


def test_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "i.jpg")
    found = read_image(tmp_path / "i.jpg", np.asarray)
    np.testing.assert_allclose(found[0, 16, 16], [255, 0, 0], atol=5)


def test_16_bit_png_keeps_its_shades(tmp_path):
    shades = np.tile(np.arange(0, 65536, 1024, np.uint16), (8, 1))
    Image.fromarray(shades).save(tmp_path / "i.png")
    found = read_image(tmp_path / "i.png", np.asarray)
    np.testing.assert_array_equal(found[0, :, :, 1], shades >> 8)


# --- the descriptor ----------------------------------------------------------------------------------------


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
    items = rows_of([f"v{i}.mp4" for i in (3, 1, 5, 0, 2, 4)] + ["i.jpg"])
    one, rejected = run(tmp_path, items, threads=1)
    bytes_of_one = one.path.read_bytes()
    Path("work").rename("elsewhere")  # empties the cache
    run(tmp_path, items, threads=4)
    assert one.path.read_bytes() == bytes_of_one
    assert not rejected
    assert one.frames.tolist() == [1, 3, 6, 8, 8, 8, 8]
    assert one.dim == 16 * 84
    metadata = pq.read_schema(one.path).metadata
    assert metadata[b"ccr.key"] == b"the-key" and metadata[b"extractor"] == b"descriptor"
    assert {b"weights", b"preprocess", b"frame_sampling"} <= metadata.keys()


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


@pytest.mark.parametrize("options", [{"size": 64, "grid": 5}, {"size": 64, "grid": 32}])
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


def test_an_id_is_a_line(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    dump(tmp_path / "mine", array, ["beach 02", "plain", "beach 01"])
    items = [(f"beach 0{n}", None, "image") for n in (1, 2)]
    found, _ = run(tmp_path, items, "published", path="mine")
    np.testing.assert_array_equal(found.array, array[[2, 0]])


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


@pytest.mark.parametrize("shape", [(1 << 52, 4), (1 << 62, 1 << 62), (-1, 4), (10**30, 4)])
@pytest.mark.parametrize("name", ["features.npy", "c.npy"])
def test_a_header_that_claims_more_than_there_is_is_named(tmp_path, repository, shape, name):
    """For example 64 PiB in a file of a few bytes."""
    folder = tmp_path / "dump"
    folder.mkdir()
    for item in "ab":
        np.save(folder / f"{item}.npy", np.ones((2, 4), np.float32))
    with (folder / name).open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.write(b"0000")
    if name == "features.npy":
        (folder / "ids.txt").write_text("a\nb\nc\n")
    with pytest.raises(CcrError, match=rf"{name}: not a whole .npy array"):
        run(tmp_path, THREE, "published", path="dump")
    assert "dump" in " ".join(inventory(tmp_path, params.load(repository / "params.yaml")))  # `ccr captions check`


def fails(folder, name, message, items=THREE):
    with pytest.raises(CcrError, match=message):
        run(folder, items, "published", path=name)
    assert not list(folder.glob("features/*"))


def test_bad_dumps(tmp_path):
    fails(tmp_path, "absent", "no published features there")
    dump(tmp_path / "count", np.ones((3, 2)), ["a", "b"])
    fails(tmp_path, "count", "names 2 items, but features.npy has 3 rows")
    dump(tmp_path / "twice", np.ones((4, 2)), ["a", "b", "c", "a"])
    fails(tmp_path, "twice", "'a' comes twice")
    dump(tmp_path / "few", np.ones((1, 2)), ["a"])
    fails(tmp_path, "few", "2 of 3 items have no features: 'b', 'c'")
    dump(tmp_path / "nan", np.array([[1, 2], [np.nan, 1], [1, 1]]), ["a", "b", "c"])
    fails(tmp_path, "nan", "'b' hold NaN")
    dump(tmp_path / "flat", np.ones(3), ["a", "b", "c"])
    fails(tmp_path, "flat", "expected \\(items, dim\\)")
    dump(tmp_path / "objects", np.ones((3, 1)), ["a", "b", "c"])
    np.save(tmp_path / "objects/features.npy", np.array([[None]] * 3), allow_pickle=True)
    fails(tmp_path, "objects", "not a whole .npy array")
    dump(tmp_path / "no_ids", np.ones((3, 2)), [])
    (tmp_path / "no_ids/ids.txt").unlink()
    fails(tmp_path, "no_ids", r"ids\.txt: no such file")
    dump(tmp_path / "no_npy", np.ones((3, 2)), ["a", "b", "c"])
    (tmp_path / "no_npy/features.npy").unlink()
    fails(tmp_path, "no_npy", r"features\.npy: no such file")


# --- dumps in the layout of VisualSearch -------------------------------------------------------------------

VIDEOS = {"b": ["b_0", "b_1"], "it's": ["x 1"], 'a"\\': ["a_2", "a_0", "a_1"], "視頻": ["視頻_0"], "unused": ["u_0"]}
IDS = ["u_0", "a_0", "a_1", "a_2", "b_0", "b_1", "視頻_0"]


def visual_search(folder, ids=tuple(IDS), videos=None, dim=3, rows=None):
    """A dump in which row n is (n, n, ...); `videos`: the text of video2frames.txt."""
    folder.mkdir(parents=True)
    np.repeat(np.arange(len(ids), dtype="<f4"), dim).tofile(folder / "feature.bin")
    (folder / "id.txt").write_text(" ".join(ids))
    (folder / "shape.txt").write_text(f"{rows or len(ids)} {dim}")
    if videos is not None:
        (folder / "video2frames.txt").write_text(videos)


def test_visualsearch_videos(tmp_path, monkeypatch):
    monkeypatch.setattr(visualsearch, "BLOCK", 5)
    monkeypatch.setattr(visualsearch, "MANY", 2)
    videos = {name: frames for name, frames in VIDEOS.items() if name != "it's"}
    visual_search(tmp_path / "FeatureData/i3d", videos=repr(videos))
    items = [(name, None, "video") for name in videos if name != "unused"]
    found, rejected = run(tmp_path, items, "published", path="FeatureData/i3d")
    assert found.item_ids.to_pylist() == ['a"\\', "b", "視頻"] and not rejected
    assert found.frames.tolist() == [3, 2, 1]
    assert found.array[:, 0].tolist() == [3, 1, 2, 4, 5, 6]
    assert found.metadata["weights"].startswith("FeatureData/i3d/feature.bin ")


def test_visualsearch_images(tmp_path):
    visual_search(tmp_path / "cnn", ids=["c", "x", "b", "a"])
    found, _ = run(tmp_path, THREE, "published", path="cnn")
    assert found.array[:, 0].tolist() == [3, 2, 0] and found.frames.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "text", ["{}", " {\n 'a' : [ 'x' , \"y\" ,],\n'b':[],}\n", r"{'\x41\'': ['\u4e00', 'a\\']}", repr(VIDEOS)]
)
def test_a_python_dict_is_read_without_evaluating_it(tmp_path, text):
    (tmp_path / "d.txt").write_text(text)
    found = {name: [frame.decode() for frame in frames] for name, frames in visualsearch._entries(tmp_path / "d.txt")}
    assert found == eval(text)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{'a': ['b'}", "{'a': 'b'}", "{'a': ['b'] + ['c']}", "{'a': [f()]}", "{} x"]
)
def test_what_is_no_dict_of_lists_of_names(tmp_path, text):
    visual_search(tmp_path / "v", videos=text)
    fails(tmp_path, "v", "video2frames.txt: from byte .* no Python dict")


def test_a_dict_without_videos_lacks_them(tmp_path):
    np.ones((2, 4), "<f4").tofile(tmp_path / "feature.bin")
    for name, text in {"shape.txt": "2 4", "id.txt": "a_0 a_1", "video2frames.txt": "{}"}.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CcrError, match="1 of 1 items have no features"):
        published.read([Item("a", None, "video")], tmp_path, {"path": ""})


def test_bad_visualsearch_dumps(tmp_path):
    visual_search(tmp_path / "cut", ids=["a", "b", "c"])
    (tmp_path / "cut/feature.bin").write_bytes(b"1234" * 8)
    fails(tmp_path, "cut", "feature.bin: 32 bytes, but 3 rows of 3 float32 values .* have 36")
    visual_search(tmp_path / "ids", ids=["a", "b", "c"])
    (tmp_path / "ids/id.txt").write_text("a b")
    fails(tmp_path, "ids", "id.txt names 2 rows, shape.txt 3")
    visual_search(tmp_path / "twice", ids=["a", "b", "c", "a"])
    fails(tmp_path, "twice", "'a' comes twice")
    visual_search(tmp_path / "shape", ids=["a", "b", "c"])
    (tmp_path / "shape/shape.txt").write_text("3")
    fails(tmp_path, "shape", "shape.txt: expected rows and dim, found '3'")
    visual_search(
        tmp_path / "frame", ids=["a_0", "b_0", "c_0"], videos="{'a': ['a_0'], 'b': ['b_0', 'b_1'], 'c': ['c_0']}"
    )
    fails(tmp_path, "frame", "id.txt: it lacks frame 'b_1', which video2frames.txt gives to 'b'")
    visual_search(tmp_path / "empty", ids=["a_0"], videos="{'a': []}")
    fails(tmp_path, "empty", "video 'a' has no frames")
    visual_search(tmp_path / "few", ids=["a_0"], videos="{'a': ['a_0']}")
    fails(tmp_path, "few", "2 of 3 items have no features: 'b', 'c'")
    visual_search(tmp_path / "no_dict", ids=["a_0", "b_0", "c_0"])
    fails(tmp_path, "no_dict", "video2frames.txt is missing", [(name, None, "video") for name in "abc"])
    for name in ("feature.bin", "id.txt", "shape.txt"):
        visual_search(tmp_path / f"no_{name}", ids=["a", "b", "c"])
        (tmp_path / f"no_{name}" / name).unlink()
        fails(tmp_path, f"no_{name}", f"{name}: no such file")


def test_a_dump_larger_than_what_is_read_of_it(tmp_path):
    folder = tmp_path / "big"
    visual_search(folder, ids=["a", "b", "c"])
    (folder / "shape.txt").write_text("3 10000000")
    with (folder / "feature.bin").open("wb") as file:
        file.truncate(3 * 4 * 10000000)  # a sparse file
    tracemalloc.start()
    _, features, _ = visualsearch.open_dump(folder, ["a", "b", "c"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000 and features("c").shape == (1, 10_000_000)


# --- real data ---------------------------------------------------------------------------------------------


def test_real_photos(tmp_path, real):
    photos = sorted((real / "flickr8k/images").glob("*.jpg"))
    items = [(photo.stem, f"images/{photo.name}", "image") for photo in photos]
    found, rejected = run(tmp_path, items, threads=2, root=real / "flickr8k")
    assert len(found) == len(photos) and not rejected
    assert found.array.astype(np.float32).std(axis=0).mean() > 0.01


def test_real_dump(tmp_path, real):
    root = real / "flickr8k"
    ids = (root / "FeatureData/mobilenet_v2/ids.txt").read_text().split()
    items = [(item, None, "image") for item in ids]
    found, _ = run(tmp_path, items, "published", root=root, path="FeatureData/mobilenet_v2")
    array, lengths = found.rows(found.index(ids))
    assert set(lengths) == {1}
    np.testing.assert_array_equal(array, np.load(root / "FeatureData/mobilenet_v2/features.npy", mmap_mode="r"))
