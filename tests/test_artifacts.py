"""Atomic writes, content hashes, keys and the memo."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ccr.artifacts.contents import content_hash
from ccr.artifacts.files import atomic, atomic_folder, read_json, write_json
from ccr.artifacts.jobs import Job, job_key, provenance
from ccr.artifacts.memo import adopt, forget, kept_keys, memo_path, recall, remember, unneeded
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.runs import evaluations_of
from ccr.artifacts.schemas import CAPTIONS, ITEMS, RUN_FILES
from ccr.artifacts.seals import seal
from ccr.errors import CcrError
from ccr.hub import Checkpoint
from ccr.notes import note, noted
from ccr.parity.reference import read_object

ROWS = {"item_id": ["a", "b"], "split": ["train", "val"], "path": [None, "b.jpg"], "kind": ["image", "image"]}


pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


def test_parquet_goes_there_and_back_with_the_same_bytes():
    write_parquet(ROWS, "one.parquet", ITEMS, key="k")
    write_parquet(ROWS, "two.parquet", ITEMS, key="k")
    assert Path("one.parquet").read_bytes() == Path("two.parquet").read_bytes()
    assert read_parquet("one.parquet", ITEMS).to_pydict() == ROWS


def test_content_hashes_follow_the_content_and_not_the_key():
    write_parquet(ROWS, "one.parquet", ITEMS, key="k")
    write_parquet(ROWS, "two.parquet", ITEMS, key="other")
    assert content_hash("one.parquet") == content_hash("two.parquet")
    changes = [{"item_id": ["ab", ""]}, {"path": ["", "b.jpg"]}, {"split": ["train", "test"]}]
    hashes = {content_hash("one.parquet")}
    for change in changes:
        write_parquet(ROWS | change, "two.parquet", ITEMS)
        hashes.add(content_hash("two.parquet"))
    write_parquet(ROWS, "two.parquet", ITEMS, metadata={"dim": "3"})
    assert len(hashes | {content_hash("two.parquet")}) == 5


@pytest.mark.parametrize("spoil", [lambda b: b[:-30], lambda b: b"", lambda b: b"no parquet" * 9])
def test_a_bad_parquet_file_is_one_message(spoil):
    write_parquet(ROWS, "one.parquet", ITEMS)
    Path("one.parquet").write_bytes(spoil(Path("one.parquet").read_bytes()))
    for read in (lambda: read_parquet("one.parquet", ITEMS), lambda: content_hash("one.parquet")):
        with pytest.raises(CcrError, match="one.parquet: not a readable Parquet file"):
            read()


def test_a_flipped_bit_is_seen():
    rows = {name: values * 500 for name, values in ROWS.items()} | {"item_id": [str(n) for n in range(1000)]}
    write_parquet(rows, "one.parquet", ITEMS)
    data = bytearray(Path("one.parquet").read_bytes())
    data[200] ^= 4
    Path("one.parquet").write_bytes(data)
    with pytest.raises(CcrError, match="one.parquet"):
        read_parquet("one.parquet", ITEMS)


def test_missing_files_and_columns_are_named():
    with pytest.raises(CcrError, match="none.parquet: no such file"):
        read_parquet("none.parquet")
    write_parquet(ROWS, "one.parquet", ITEMS)
    with pytest.raises(CcrError, match="no column 'caption_id'"):
        read_parquet("one.parquet", CAPTIONS)
    Path("torn.json").write_text('{"a": ')
    with pytest.raises(CcrError, match="torn.json: not valid JSON"):
        read_json("torn.json")


@pytest.mark.usefixtures("ascii_locale")
@pytest.mark.parametrize(
    "read", [read_json, read_object, lambda path: Checkpoint(path.parent, "", "", "translate").json(path.name)]
)
def test_json_is_utf_8_on_every_machine(read):
    write_json({"dog": "狗"}, "words.json")
    assert read(Path("words.json")) == {"dog": "狗"}


def test_an_error_while_writing_leaves_the_old_file_and_no_rest():
    Path("file").write_text("old")
    with pytest.raises(RuntimeError), atomic("file") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert Path("file").read_text() == "old"
    assert os.listdir() == ["file"]


def test_kill_9_while_writing_leaves_the_old_file():
    Path("file").write_text("old")
    code = (
        "import os, signal\nfrom ccr.artifacts.files import atomic\n"
        "with atomic('file') as t:\n    t.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert Path("file").read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_the_old_file(monkeypatch):
    Path("file").write_text("old")
    with pytest.raises(CcrError, match=r"^file: cannot be written \(No space left"), atomic("file") as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("new")
    assert Path("file").read_text() == "old"


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o2775])
def test_whoever_may_read_the_folder_may_read_what_is_written_there(mode):
    """Colleagues may share a checkout, a memo or DVC's remote; safetensors makes files for their owner only."""
    folder = Path("shared")
    folder.mkdir()
    folder.chmod(mode)
    with atomic(folder / "weights") as temporary:
        save_file({"weight": torch.zeros(1)}, temporary)
    with atomic_folder(folder / "run") as temporary:
        save_file({"weight": torch.zeros(1)}, temporary / "weights")
    assert (folder / "weights").stat().st_mode & 0o777 == mode & 0o666
    assert (folder / "run/weights").stat().st_mode & 0o777 == (folder / "run").stat().st_mode & 0o666


@pytest.mark.parametrize(("above", "expected"), [(0o2775, 0o775), (0o755, 0o755), (0o700, 0o700), (0o1777, 0o700)])
def test_new_folders_are_for_those_who_may_use_the_one_above(above, expected):
    folder = Path("shared")
    folder.mkdir()
    folder.chmod(above)
    before = os.umask(0o077)
    try:
        write_json({}, folder / "new/newer/file.json")
    finally:
        os.umask(before)
    for new in ("new", "new/newer"):
        assert (folder / new).stat().st_mode & 0o777 == expected


def test_a_folder_takes_the_place_of_the_old_one_whole_or_not_at_all():
    with atomic_folder("folder") as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder("folder") as temporary:
        (temporary / "b").write_text("2")
        raise RuntimeError
    assert os.listdir("folder") == ["a"]
    with atomic_folder("folder") as temporary:
        (temporary / "b").write_text("2")
    assert os.listdir("folder") == ["b"] and os.listdir() == ["folder"]


@pytest.fixture
def job():
    write_parquet(ROWS, "in.parquet", ITEMS, key="upstream")
    outputs = {"captions": "out.parquet"}
    job = Job("captions", "out.parquet", {"items": "in.parquet"}, outputs, {"lang": "zh"}, "ccr.captions.dataset")
    return replace(job, key=job_key(job))


def test_the_memo_gives_back_what_it_was_given(job):
    assert not recall(job)
    write_parquet(ROWS, "out.parquet", ITEMS, key=job.key)
    remember(job)
    before = Path("out.parquet").read_bytes()
    os.remove("out.parquet")
    assert recall(job)
    assert Path("out.parquet").read_bytes() == before


def test_the_key_follows_settings_input_content_and_stage_but_not_names(job):
    assert job_key(replace(job, target="x", outputs={"captions": "y"})) == job.key
    assert job_key(replace(job, settings={"lang": "de"})) != job.key
    assert job_key(replace(job, stage="translate")) != job.key
    write_parquet(ROWS, "in.parquet", ITEMS, key="made by another version")
    assert job_key(job) == job.key
    write_parquet(ROWS | {"item_id": ["a", "c"]}, "in.parquet", ITEMS)
    assert job_key(job) != job.key


def test_results_are_adopted_only_under_the_key_that_made_them(job):
    write(replace(job, key="another key"))
    assert not adopt(job)
    write(job)
    assert adopt(replace(job, after=("states/that/nobody/pulled",))) and recall(job)


def test_entries_are_needed_without_the_shards_that_they_were_made_of(job):
    """`features.shards` affects no result; neither does an entry that is being written, or that a kill left behind."""
    shard = replace(job, target="shard.parquet", outputs={"captions": "shard.parquet"}, settings={"shard": 1})
    shard = replace(shard, key=job_key(shard))
    joined = replace(job, after=("shard.parquet",))
    for made in (shard, joined):
        write_parquet(ROWS, made.outputs["captions"], ITEMS, key=made.key)
        remember(made)
    incomplete = memo_path(job.key).with_name(f".{job.key}.1234abcd.tmp")
    shutil.copytree(memo_path(job.key), incomplete)
    assert kept_keys() == sorted([shard.key, job.key])
    assert [entry.folder for entry in unneeded([job])] == [memo_path(shard.key)]
    two_hours_ago = time.time() - 7200
    os.utime(incomplete, (two_hours_ago, two_hours_ago))
    left, unplanned = unneeded([job])
    assert (left.folder, unplanned.folder) == (incomplete, memo_path(shard.key))
    forget(left)
    assert not incomplete.exists() and kept_keys() == sorted([shard.key, job.key])


def test_a_result_is_whole_though_the_memo_is_deleted_meanwhile(job, monkeypatch, caplog):
    write_parquet(ROWS, "out.parquet", ITEMS, key=job.key)
    copy = shutil.copyfile

    def copied_and_deleted(source, target):
        copy(source, target)
        shutil.rmtree("work/memo")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(shutil, "copyfile", copied_and_deleted)
        remember(job)
    assert "was deleted while it was written. The result is whole" in caplog.text
    assert kept_keys() == [] and adopt(job)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(shutil, "copyfile", lambda source, target: (shutil.rmtree("work/memo"), copy(source, target)))
        assert not recall(job)


def test_a_result_made_without_git(job, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance(job)["code"] == "unknown"


def write(job, rows=ROWS):
    """Write the job's output as it would come from elsewhere."""
    write_parquet(rows, "out.parquet", ITEMS, key=job.key)
    seal(job)


def make(job, rows=ROWS):
    """Write the job's output as the job itself leaves it."""
    write(job, rows)
    note(job)


def asks_for_a_run(job) -> bool:
    """Whether Snakemake, which compares file times, would run the job."""
    times = [path.stat().st_mtime_ns for path in (noted(job, content_hash), Path("in.parquet"))]
    return Path("out.parquet").stat().st_mtime_ns < max(times)


def test_outputs_that_a_job_has_made_need_no_run(job):
    make(job)
    assert not asks_for_a_run(job)
    assert not asks_for_a_run(job)


def test_other_settings_ask_for_a_run_and_the_old_ones_again(job):
    make(job)
    other = replace(job, settings={"lang": "de"})
    assert asks_for_a_run(other)
    make(replace(other, key=job_key(other)))
    assert not asks_for_a_run(other)
    assert asks_for_a_run(job)


def test_another_input_asks_for_a_run_even_with_an_old_time(job):
    make(job)
    write_parquet(ROWS | {"item_id": ["a", "c"]}, "in.parquet", ITEMS)  # an archive keeps its files' times
    os.utime("in.parquet", (1, 1))
    assert asks_for_a_run(job) and asks_for_a_run(job)
    make(replace(job, key=job_key(job)))
    assert not asks_for_a_run(job)


def test_a_file_edited_in_place_in_raw_data_asks_for_a_run(tmp_path):
    """The time of its folder stays as it was."""
    raw, output = Path("raw"), Path("out.parquet")
    (raw / "images").mkdir(parents=True)
    (raw / "images/a.jpg").write_bytes(b"1")
    job = Job("captions", "out.parquet", {"root": "raw"}, {"captions": "out.parquet"}, {}, "ccr.captions.dataset")
    make(replace(job, key=job_key(job)))
    assert noted(job, content_hash).stat().st_mtime < output.stat().st_mtime
    (raw / "images/a.jpg").write_bytes(b"2")
    assert noted(job, content_hash).stat().st_mtime > output.stat().st_mtime


def test_what_is_content_of_a_folder(tmp_path):
    Path("raw/.cache").mkdir(parents=True)
    for name, text in (("captions.csv", "1"), ("manifest.json", "[]"), (".cache/time", "1"), (".DS_Store", "1")):
        Path("raw", name).write_text(text)
    before = content_hash("raw")
    Path("raw/.cache/time").write_text("2")
    Path("raw/.DS_Store").write_text("2")
    assert content_hash("raw") == before
    Path("raw/captions.csv").write_text("2")  # a manifest of the user's own says nothing about it
    assert content_hash("raw") != before


@pytest.mark.parametrize("age", [-1000, 0, 1000])
def test_outputs_from_elsewhere_are_known_by_their_key_whatever_their_times(job, age):
    write(job)
    os.utime("out.parquet", (time.time() + age, time.time() + age))
    assert not asks_for_a_run(job)
    write(replace(job, key="of other settings"))
    os.utime("out.parquet", (time.time() + age, time.time() + age))
    assert asks_for_a_run(job)


def test_outputs_from_before_the_clock_was_set_back_are_of_today(job):
    """Snakemake refuses files older than their inputs, as those made now from these outputs would be."""
    make(job)
    os.utime("out.parquet", (time.time() + 86_400, time.time() + 86_400))
    assert not asks_for_a_run(job)
    assert Path("out.parquet").stat().st_mtime <= time.time()


def test_outputs_put_back_under_settings_that_did_not_make_them_ask_for_a_run(job):
    other = replace(job, settings={"lang": "de"})
    other = replace(other, key=job_key(other))
    make(other)
    old = {name: Path(name).read_bytes() for name in ("out.parquet", "out.seal.json")}
    make(job)
    for name, content in old.items():  # newer than everything they were made from
        Path(name).write_bytes(content)
    assert asks_for_a_run(job)


def test_inputs_that_are_newer_and_the_same_ask_for_no_run(job):
    make(job)
    write_parquet(ROWS, "in.parquet", ITEMS, key="made again")
    assert not asks_for_a_run(job)
    write_parquet(ROWS | {"item_id": ["a", "c"]}, "in.parquet", ITEMS)
    assert asks_for_a_run(job)


def test_a_torn_output_asks_for_a_run(job):
    write(job)
    whole = Path("out.parquet").read_bytes()
    Path("out.parquet").write_bytes(whole[: len(whole) // 2])
    assert asks_for_a_run(job)


def test_an_edited_output_asks_for_a_run(job):
    make(job)
    write_parquet(ROWS | {"item_id": ["a", "x"]}, "out.parquet", ITEMS, key=job.key)
    assert asks_for_a_run(job)


def test_outputs_without_a_seal_ask_for_a_run(job):
    make(job)
    Path("out.seal.json").unlink()
    assert asks_for_a_run(job)


def test_an_output_more_than_was_made_asks_for_a_run(job):
    make(job)
    assert asks_for_a_run(replace(job, outputs=job.outputs | {"embeddings": "embeddings.safetensors"}))


def test_raw_data_are_known_by_their_bytes_and_not_their_times():
    Path("raw").mkdir()
    Path("raw/a.txt").write_text("one")
    before = content_hash("raw")
    os.utime("raw/a.txt", (1, 1))
    assert content_hash("raw") == before
    Path("raw/a.txt").write_text("two")
    assert content_hash("raw") != before
    Path("raw/a.txt").write_text("one")
    Path("raw/b.txt").write_text("")
    assert content_hash("raw") != before


def test_a_runs_evaluations_are_of_the_languages_that_it_learnt():
    learnt = {"none/v/en/source_only": "en", "mt/v/de+fr/baseline_multi": "de+fr", "mt/v/de/baseline": "de"}
    for run in learnt:
        folder = Path("results/runs/data", run, "seed0")
        folder.mkdir(parents=True)
        for file in RUN_FILES.values():
            (folder / file).write_text('{"settings": {"source_lang": "en"}}')
    for path in ("none/v/de/source_only", "none/v/fr/source_only", "mt/v/de/baseline_multi", "mt/v/fr/baseline"):
        folder = Path("results/evaluations/data", path, "seed0")
        folder.mkdir(parents=True)
        (folder / "metrics.json").touch()
    found = {run: [str(path) for path in evaluations_of(Path("results/runs/data", run, "seed0"))] for run in learnt}
    assert found == {
        "none/v/en/source_only": [f"results/evaluations/data/none/v/{lang}/source_only/seed0" for lang in ("de", "fr")],
        "mt/v/de+fr/baseline_multi": ["results/evaluations/data/mt/v/de/baseline_multi/seed0"],
        "mt/v/de/baseline": [],
    }
