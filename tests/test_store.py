"""store: what is written is read back; broken files are reported."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ccr.artifacts.contents import content_hash
from ccr.artifacts.parquet import write_parquet
from ccr.artifacts.schemas import EMBEDDINGS, FEATURES
from ccr.errors import CcrError
from ccr.store import features as features_module
from ccr.store import open_features, read_embeddings, uniform_positions, write_embeddings, write_features

METADATA = {"extractor": "test", "weights": "none", "preprocess": "none", "frame_sampling": "all"}


def items(count, dim=4, seed=0):
    random = np.random.default_rng(seed)
    return [(f"item{i:05d}", random.normal(size=(random.integers(1, 6), dim)).astype(np.float16)) for i in range(count)]


def write_raw(path, ids, frames, features, dim="2"):
    """Write a features file without our checks."""
    columns = {"item_id": ids, "frames": frames, "features": [[np.float16(v) for v in row] for row in features]}
    write_parquet(columns, path, FEATURES, metadata={"dim": dim, **METADATA})


@st.composite
def feature_rows(draw):
    dim = draw(st.integers(1, 5))
    ids = sorted(draw(st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=8)))
    finite = st.floats(-60000, 60000, width=16)
    return [(i, draw(hnp.arrays(np.float16, (draw(st.integers(1, 4)), dim), elements=finite))) for i in ids]


@settings(max_examples=25, deadline=None)
@given(feature_rows(), st.data())
def test_round_trip(rows, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f.parquet")
        assert write_features(path, iter(rows), metadata=METADATA) == len(rows)
        opened = open_features(path, Path(folder, "cache"))
        assert opened.item_ids.to_pylist() == [item for item, _ in rows]
        assert opened.dim == rows[0][1].shape[1]
        wanted = data.draw(st.lists(st.sampled_from(range(len(rows))), max_size=10))
        array, lengths = opened.rows(opened.index([rows[w][0] for w in wanted]))
        assert lengths.tolist() == [len(rows[w][1]) for w in wanted]
        expected = np.concatenate([np.empty((0, opened.dim), np.float16), *(rows[w][1] for w in wanted)])
        np.testing.assert_array_equal(array.view(np.uint16), expected.view(np.uint16))


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=6))
def test_uniform_positions(pairs):
    available = np.array([a for a, _ in pairs], np.int64)
    taken = np.minimum(available, np.array([t for _, t in pairs], np.int64))
    positions = np.split(uniform_positions(available, taken), np.cumsum(taken)[:-1]) if pairs else []
    for a, t, found in zip(available, taken, positions, strict=True):
        assert found.tolist() == [int((k + 0.5) * a / t) for k in range(t)]
        assert len(set(found.tolist())) == t


def test_max_frames(tmp_path):
    rows = [("a", np.arange(10)[:, None]), ("b", np.arange(20, 22)[:, None])]
    write_features(tmp_path / "f.parquet", rows, metadata=METADATA)
    array, lengths = open_features(tmp_path / "f.parquet", tmp_path).rows(np.array([1, 0]), max_frames=4)
    assert lengths.tolist() == [2, 4]
    assert array[:, 0].tolist() == [20, 21, 1, 3, 6, 8]


def test_a_store_is_decoded_group_by_group(tmp_path, monkeypatch):
    monkeypatch.setattr(features_module, "GROUP_VALUES", 1 << 17)
    monkeypatch.setattr(features_module, "READ_ROWS", 16)
    random, path = np.random.default_rng(0), tmp_path / "f.parquet"
    write_features(path, ((f"{i:03d}", random.normal(size=(32, 256))) for i in range(400)), metadata=METADATA)
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in features_module._batches(path)]
    assert len(held) > 20 and max(held) < path.stat().st_size / 3


def test_bytes_hash_and_metadata(tmp_path, monkeypatch):
    monkeypatch.setattr(features_module, "GROUP_VALUES", 64)  # several row groups
    for name, key in (("a", "k"), ("b", "k"), ("c", "other")):
        write_features(tmp_path / f"{name}.parquet", items(50), metadata=METADATA, key=key)
    write_features(tmp_path / "d.parquet", items(50, seed=1), metadata=METADATA, key="k")
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups > 3
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert content_hash(tmp_path / "a.parquet") == content_hash(tmp_path / "c.parquet")
    assert content_hash(tmp_path / "a.parquet") != content_hash(tmp_path / "d.parquet")
    found = {k.decode(): v.decode() for k, v in pq.read_schema(tmp_path / "c.parquet").metadata.items()}
    assert found["ccr.key"] == "other" and found["dim"] == "4" and METADATA.items() <= found.items()
    assert pq.read_table(tmp_path / "a.parquet").cast(FEATURES).num_rows == 50


def test_decoded_once_and_a_torn_cache_is_not_used(tmp_path):
    path, cache = tmp_path / "f.parquet", tmp_path / "cache"
    write_features(path, items(20), metadata=METADATA)
    expected = np.array(open_features(path, cache).array)
    (file,) = cache.glob("*.npy")
    assert file.name == f"{content_hash(path)}.npy"
    before = file.stat().st_mtime_ns
    open_features(path, cache)
    assert file.stat().st_mtime_ns == before
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    for damaged in (b"", whole[:50], whole[:-1], bytes(flipped)):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(open_features(path, cache).array, expected)
    assert {f.name for f in cache.iterdir()} == {file.name, f"{file.stem}.hash"}


def test_two_processes_at_once(tmp_path):
    rows = items(3000, dim=64)
    write_features(tmp_path / "f.parquet", rows, metadata=METADATA)
    code = "import sys; from ccr.store import open_features as o; print(o(*sys.argv[1:]).array.astype('f8').sum())"
    command = [sys.executable, "-c", code, str(tmp_path / "f.parquet"), str(tmp_path / "cache")]
    source = str(Path(features_module.__file__).parents[2])
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": source}) for _ in range(2)
    ]
    sums = {process.communicate()[0] for process in processes}
    assert len(sums) == 1 and float(sums.pop()) == pytest.approx(sum(f.astype("f8").sum() for _, f in rows))
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_index_names_items_without_features(tmp_path):
    write_features(tmp_path / "f.parquet", items(3), metadata=METADATA)
    opened = open_features(tmp_path / "f.parquet", tmp_path)
    assert opened.index(pa.array(["item00002", "item00000"]).dictionary_encode()).tolist() == [2, 0]
    with pytest.raises(CcrError, match="2 of the items.*'x', 'y'"):
        opened.index(["item00001", "x", "y", "x"])


BAD = {
    "comes twice": (["a", "a"], [1, 1], [[1, 2], [3, 4]]),
    "must ascend": (["b", "a"], [1, 1], [[1, 2], [3, 4]]),
    "'b' has fewer than one frame": (["a", "b"], [1, 0], [[1, 2], []]),
    "'b' has 3 values, expected 1 frames x dim 2": (["a", "b"], [1, 1], [[1, 2], [1, 2, 3]]),
    "'b' hold NaN or infinity": (["a", "b", "c"], [1, 2, 1], [[1, 2], [1, 2, 3, np.nan], [1, 2]]),
    "'c' hold NaN or infinity": (["a", "b", "c"], [1, 2, 1], [[1, 2], [1, 2, 3, 4], [np.inf, 2]]),
    "no items": ([], [], []),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_files_are_refused(tmp_path, message):
    write_raw(tmp_path / "f.parquet", *BAD[message])
    with pytest.raises(CcrError, match=message):
        open_features(tmp_path / "f.parquet", tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*"))


def test_bad_metadata_is_refused(tmp_path):
    write_raw(tmp_path / "f.parquet", ["a"], [1], [[1, 2]], dim="3")
    with pytest.raises(CcrError, match="'a' has 2 values, expected 1 frames x dim 3"):
        open_features(tmp_path / "f.parquet", tmp_path / "cache")
    table = pa.table({"item_id": ["a"], "frames": [1], "features": [[1.0]]}, schema=FEATURES)
    pq.write_table(table, tmp_path / "g.parquet")
    with pytest.raises(CcrError, match="no valid `dim`"):
        open_features(tmp_path / "g.parquet", tmp_path / "cache")


def test_torn_or_missing_parquet(tmp_path):
    path = tmp_path / "f.parquet"
    write_features(path, items(300, dim=64), metadata=METADATA)
    whole = path.read_bytes()
    for cut in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(CcrError, match=r"f\.parquet.*cut off"):
            open_features(path, tmp_path / "cache")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255  # in the pages of the features: detected by their checksum
    path.write_bytes(flipped)
    with pytest.raises(CcrError, match="not a readable Parquet file"):
        open_features(path, tmp_path / "cache")
    with pytest.raises(CcrError, match="no such file"):
        open_features(tmp_path / "none.parquet", tmp_path / "cache")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no item has features"),
        ([("a", np.ones((1, 2))), ("a", np.ones((1, 2)))], "comes twice"),
        ([("b", np.ones((1, 2))), ("a", np.ones((1, 2)))], "must ascend"),
        ([("a", np.ones((1, 2))), ("b", np.ones((1, 3)))], "item 'b' have shape"),
        ([("a", np.ones((0, 2)))], "frames >= 1"),
        ([("a", np.array([[1, np.nan]]))], "'a' hold NaN"),
        ([("a", np.array([[1, 1e6]]))], "beyond float16"),
    ],
)
def test_writer_refuses(tmp_path, rows, message):
    with pytest.raises(CcrError, match=message):
        write_features(tmp_path / "f.parquet", rows, metadata=METADATA)
    assert not list(tmp_path.iterdir())


def test_embeddings(tmp_path):
    path = tmp_path / "e.parquet"
    matrix = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    ids = [f"c{i}" for i in (3, 1, 4, 0, 2)]
    write_embeddings(path, ids, matrix, key="k")
    found_ids, found = read_embeddings(path)
    assert found_ids == ids and found.dtype == np.float32
    np.testing.assert_array_equal(found, matrix)
    with pytest.raises(CcrError, match="'c1' holds NaN"):
        write_embeddings(path, ids[:2], np.array([[1.0], [np.nan]]))
    with pytest.raises(CcrError, match="repeat"):
        write_embeddings(path, ["a", "a"], matrix[:2])
    with pytest.raises(CcrError, match="4 caption ids"):
        write_embeddings(path, ids[:4], matrix)
    columns = {"caption_id": ["a", "b"], "embedding": [[1.0], [1.0, 2.0]]}
    write_parquet(columns, path, EMBEDDINGS)
    with pytest.raises(CcrError, match="'b' has 2 values"):
        read_embeddings(path)
