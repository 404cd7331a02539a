"""Disks that are full, read-only or out of inodes: one message, no torn files, and the same command works later."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from checkouts import CL2CM, DATA, TABLE, Checkout
from safetensors.torch import save_file
from small_disks import disk_with_quota, fill, small_disk

from ccr.artifacts.files import atomic, atomic_folder, write_json
from ccr.artifacts.hashes import bytes_hash
from ccr.artifacts.jobs import Job
from ccr.artifacts.memo import is_kept, recall, remember
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.refusals import for_people, refusal, writing
from ccr.artifacts.room import room_for
from ccr.artifacts.seals import sealed_key
from ccr.errors import CcrError
from ccr.world.render import write_video

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")
BIG = 1 << 20  # bytes, more than a small disk holds
ROWS = pa.schema([("numbers", pa.float64())])


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "size=256k") as folder:
        yield folder


# --- how libraries report a full disk ----------------------------------------------------------------------


def table(path: Path) -> None:
    import pandas

    pandas.DataFrame({"numbers": np.random.default_rng(0).random(BIG // 16)}).to_csv(path)


def copied(path: Path) -> None:
    """Copies a folder with `shutil.copytree`, which raises an error of its own class."""
    for number in range(3):
        Path("source", str(number)).mkdir(parents=True, exist_ok=True)
        Path("source", str(number), "file").write_bytes(bytes(BIG))
    shutil.copytree("source", path)


def array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(BIG, np.uint8))


def video(path: Path) -> None:
    clip = np.random.default_rng(0).integers(0, 255, (12, 512, 512, 3), np.uint8)
    write_video(clip, path.with_suffix(".mp4"))


WRITERS = {
    "text": lambda path: path.write_bytes(bytes(BIG)),
    "safetensors": lambda path: save_file({"weights": torch.zeros(BIG)}, path),
    "parquet": lambda path: write_parquet({"numbers": np.random.default_rng(0).random(BIG)}, path, ROWS),
    "csv": table,
    "folder": copied,
    "npy": array,
    "video": video,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_library_ends_in_the_same_message(disk, name):
    """The message names the final file, not the temporary one."""
    where = disk / "results/x.file"
    with (
        pytest.raises(CcrError, match=rf"^{disk}/results/x\.\w+: cannot be written \(No space left on device\)"),
        writing(where),
    ):
        where.parent.mkdir()
        if name in ("text", "csv"):
            with atomic(where) as temporary:
                WRITERS[name](temporary)
        else:
            WRITERS[name](where)
    assert not list(disk.rglob("*.tmp"))


def test_a_folder_is_not_there_when_its_files_did_not_fit(disk):
    with pytest.raises(CcrError, match=rf"^{disk}/folder: cannot be written"), atomic_folder(disk / "folder") as new:
        copied(new / "copy")
    assert os.listdir(disk) == []


def test_no_inodes_left(tmp_path):
    with small_disk(tmp_path / "disk", "size=1m,nr_inodes=8") as disk, pytest.raises(CcrError, match="inodes are used"):
        for number in range(20):
            write_json({}, disk / f"{number}.json")
    with small_disk(tmp_path / "other", "size=1m,nr_inodes=8") as disk:
        for number in range(6):
            (disk / str(number)).touch()
        write_json({}, disk / "one.json")
        with pytest.raises(CcrError, match="Delete files there"):
            write_json({}, disk / "two.json")
        assert sorted(os.listdir(disk)) == [*map(str, range(6)), "one.json"]


def test_a_disk_for_reading_only(disk):
    write_json({"a": 1}, disk / "results/old.json")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(CcrError, match=r"new.json: cannot be written \(Read-only file system\). It is mounted for"):
        write_json({}, disk / "results/new.json")
    with pytest.raises(CcrError, match="results: cannot be written .Read-only file system"):
        room_for(disk / "results", 0, "a table")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, "Your quota there is used up"),
        (errno.EACCES, "cannot be opened (Permission denied). Have its permissions changed"),
        (errno.EIO, "The disk may be failing"),
        (errno.EROFS, "mounted for reading only"),
    ],
)
def test_other_refusals_by_their_number(number, words):
    error = OSError(number, os.strerror(number), "data/.x.parquet.0123abcd.tmp")
    assert words in str(refusal(error)) and str(refusal(error)).startswith("data/x.parquet: ")


def test_other_errors_stay_what_they_are():
    assert refusal(OSError(errno.ENOENT, "no such file")) is None
    assert refusal(ValueError("a fault of ours")) is None
    with pytest.raises(ValueError, match="ours"), for_people():
        raise ValueError("a fault of ours")


def test_a_file_that_may_not_be_read_is_not_said_to_be_torn(monkeypatch):
    write_parquet({"numbers": [1.0]}, "one.parquet", ROWS)

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "one.parquet")

    monkeypatch.setattr("pyarrow.parquet.ParquetFile", denied)
    with pytest.raises(CcrError, match="^one.parquet: cannot be opened .Permission denied"):
        read_parquet("one.parquet")


# --- room --------------------------------------------------------------------------------------------------


def test_what_cannot_fit_is_refused_before_it_is_begun(disk, caplog):
    caplog.set_level("INFO")
    with pytest.raises(CcrError, match=r"states: no room for the states: 3.0 GB are needed, 0.3 MB are free"):
        room_for(disk / "work/states", 3e9, "the states", "set frozen_prefix: computed")
    room_for(disk / "work", 1000, "a table")
    assert os.listdir(disk) == [] and caplog.text == ""
    room_for(Path.cwd(), 200_000_000, "the features")
    assert "the features will take 0.2 GB of" in caplog.text


# --- the memo ----------------------------------------------------------------------------------------------


def made(size: int) -> Job:
    """A finished job, whose output is a folder."""
    root = Path("data/raw/world")
    (root / "videos").mkdir(parents=True)
    for number in range(4):
        (root / "videos" / f"{number}.mp4").write_bytes(os.urandom(size // 4))
    write_json({}, root / "manifest.json")
    return Job("world", str(root), {}, {"root": str(root)}, {}, "ccr.world.publish", key="ab" * 16)


def remembered_on(disk):
    """A job whose result is stored in a memo on this disk, if there is room."""
    (disk / "memo").mkdir()
    Path("work").mkdir()
    Path("work/memo").symlink_to(disk / "memo")
    job = made(BIG)
    remember(job)
    return job


def test_a_memo_that_is_full_costs_no_result(disk, caplog):
    job = remembered_on(disk)
    assert "no room for a copy of data/raw/world" in caplog.text and "`ccr memo adopt` takes it in" in caplog.text
    assert sealed_key(job) == job.key and not is_kept(job.key)
    assert not [path for path in disk.rglob("*") if path.is_file()]


def test_a_memo_that_fills_up_meanwhile_costs_no_result(disk, caplog, monkeypatch):
    """Another process wrote after the check for room: no traceback of `shutil.copytree`, nothing half-written."""
    monkeypatch.setattr("ccr.artifacts.memo.room_for", lambda *_: None)
    job = remembered_on(disk)
    assert "work/memo/ab/" in caplog.text and "cannot be written (No space left on device)" in caplog.text
    assert sealed_key(job) == job.key and not is_kept(job.key) and not list(disk.rglob("*.tmp"))


def test_a_result_that_does_not_fit_out_of_the_memo(disk):
    job = made(BIG)
    remember(job)
    shutil.rmtree("data/raw")
    Path("data/raw").symlink_to(disk)
    with pytest.raises(CcrError, match=r"^data/raw/world/videos/0.mp4: cannot be written \(No space left on device\)"):
        recall(job)
    assert os.listdir(disk) == [] and is_kept(job.key)
    Path("data/raw").unlink()
    assert recall(job) and bytes_hash("data/raw/world") != ""


# --- commands ----------------------------------------------------------------------------------------------

STAGES = {
    "world": f"data/raw/{DATA}",
    "captions": f"data/{DATA}/captions.parquet",
    "translate": f"data/{DATA}/translations/lexicon/zh.parquet",
    "features": f"data/{DATA}/features/descriptor.parquet",
    "train": f"results/runs/{CL2CM}/seed0",
    "teacher": f"results/teachers/{DATA}/lexicon/zh/cl/seed0",
    "evaluate": f"results/evaluations/{CL2CM}/seed0",
    "tables": TABLE,
}


def content(checkout: Checkout, target: str) -> dict[str, str]:
    """Hashes of a target's files, except those that record times."""
    path = checkout.folder / target
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    told = [file for file in files if "provenance" not in file.name and "seal" not in file.name]
    return {str(file.relative_to(checkout.folder)): bytes_hash(file, True) for file in told}


def without(made: Checkout, target: str, folder: Path) -> Checkout:
    """A copy without a target and without the caches that could restore it."""
    checkout = made.copy(folder)
    path = checkout.folder / target
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(checkout.folder / "work/memo")
    shutil.rmtree(checkout.folder / "work/features", ignore_errors=True)
    return checkout


def move(checkout: Checkout, top: str, disk: Path) -> set[Path]:
    """Move `data` or `results` to a disk; returns what is on the disk."""
    shutil.copytree(checkout.folder / top, disk / top)
    shutil.rmtree(checkout.folder / top)
    (checkout.folder / top).symlink_to(disk / top)
    return set(disk.rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 16_384, 300_000])
@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_says_it_and_goes_on_when_there_is_room(made, tmp_path, stage, free):
    target = STAGES[stage]
    before, top = content(made, target), target.split("/")[0]
    checkout = without(made, target, tmp_path / "checkout")
    words = ("train" if stage == "teacher" else stage, target)
    with small_disk(tmp_path / "disk", "size=200m") as disk:
        there = move(checkout, top, disk)
        filler = fill(disk, free)
        result = checkout.ccr(*words)
        if result.returncode:
            assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
            assert f"ccr: {top}/" in result.stderr, result.stderr
            assert "No space left on device" in result.stderr or "no room for" in result.stderr, result.stderr
        assert free or result.returncode == 1
        torn = [file for file in disk.rglob("*") if file not in there and file.is_file() and ".tmp" in str(file)]
        assert not torn
        filler.unlink()
        result = checkout.ccr(*words)
        assert result.returncode == 0, result.stderr
        assert content(checkout, target) == before


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_says_that_the_quota_is_used_up_and_goes_on_with_another(made, tmp_path, stage):
    target = STAGES[stage]
    before, top = content(made, target), target.split("/")[0]
    checkout = without(made, target, tmp_path / "checkout")
    words = ("train" if stage == "teacher" else stage, target)
    with disk_with_quota(tmp_path / "disk") as (mine, limit):
        there = move(checkout, top, mine)
        os.sync()
        limit("1")
        result = checkout.ccr(*words)
        assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
        assert f"ccr: {top}/" in result.stderr, result.stderr
        assert "Your quota there is used up" in result.stderr, result.stderr
        assert not [file for file in mine.rglob("*") if file not in there and file.is_file()]
        limit("none")
        result = checkout.ccr(*words)
        assert result.returncode == 0, result.stderr
        assert content(checkout, target) == before


@pytest.mark.slow
def test_a_training_goes_on_where_its_state_cannot_be_kept(made, tmp_path):
    checkout = made.copy(tmp_path / "checkout")
    target = STAGES["train"]
    before = content(checkout, target)
    shutil.rmtree(checkout.folder / target)
    shutil.rmtree(checkout.folder / "work/memo")
    checkout.edit(lambda raw: raw["train"].update(checkpoint_minutes=0.0001))
    with small_disk(tmp_path / "disk", "size=100k") as disk:
        (checkout.folder / "work/checkpoints").symlink_to(disk)
        result = checkout.ccr("train", target)
        assert result.returncode == 0, result.stderr
        assert "work/checkpoints/" in result.stderr and "Training continues without this state" in result.stderr
        assert content(checkout, target) == before


@pytest.mark.slow
def test_a_folder_for_reading_only_is_said_before_the_work(made, tmp_path):
    checkout = made.copy(tmp_path / "checkout")
    shutil.rmtree(checkout.folder / "work/memo")
    with small_disk(tmp_path / "disk", "size=100m") as disk:
        shutil.copytree(checkout.folder / "results", disk / "results")
        shutil.rmtree(checkout.folder / "results")
        (checkout.folder / "results").symlink_to(disk / "results")
        shutil.rmtree(disk / "results/runs")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        result = checkout.ccr("train", STAGES["train"])
        assert result.returncode == 1 and "Read-only file system" in result.stderr and "step" not in result.stderr
        assert "Traceback" not in result.stderr
