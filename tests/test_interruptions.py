"""Signals, clocks that jump, settings and folders that change during a run, too little memory, several users."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from checkouts import CL2CM, DATA, TABLE, Checkout
from small_disks import fill, small_disk

from ccr.artifacts.refusals import TEMPORARY

RUN = f"results/runs/{CL2CM}/seed0"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
KILLS = 30


def results(checkout: Checkout) -> dict[str, bytes]:
    """The table and what its rows are based on, except files that record times."""
    files = [
        checkout.folder / TABLE,
        *checkout.folder.glob("results/*/**/*"),
        *checkout.folder.glob(f"data/{DATA}/**/*"),
    ]
    told = ("provenance.json", "history.csv")
    kept = [file for file in files if file.is_file() and file.name not in told and not file.name.endswith("seal.json")]
    return {str(file.relative_to(checkout.folder)): file.read_bytes() for file in kept}


def torn(checkout: Checkout) -> list[Path]:
    """Empty files among the results, as an interrupted write might leave them under their final names."""
    files = [file for file in checkout.folder.glob("results/**/*") if not TEMPORARY.search(str(file))]
    return [file for file in files if file.is_file() and not file.stat().st_size]


def end(process: subprocess.Popen, number: int) -> None:
    """Send a signal to the whole group, as a terminal does; what has not ended after a minute is killed."""
    os.killpg(process.pid, number)
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def jump(checkout: Checkout, moments: random.Random) -> None:
    """Change times as if the clock had jumped by up to a day, either way, while some of the files were written."""
    files = [file for top in ("data", "results", "work/memo") for file in (checkout.folder / top).rglob("*")]
    for file in moments.sample(files, min(len(files), 20)):
        if file.is_file():
            now = file.stat().st_mtime + moments.uniform(-86_400, 86_400)
            os.utime(file, (now, now))


@pytest.mark.slow
def test_thirty_interruptions_with_clocks_that_jump_change_nothing(fresh, made, tmp_path):
    """Each in a separate run, at a random moment; after every second one, file times change."""
    checkout, moments = fresh.copy(tmp_path / "interrupted"), random.Random(1)
    whole, interrupted = 20.0, 0
    for number in range(KILLS):
        process, begun = checkout.start(), time.monotonic()
        try:
            output = process.communicate(timeout=moments.uniform(1.0, whole))[0]
        except subprocess.TimeoutExpired:
            end(process, SIGNALS[number % len(SIGNALS)])
            interrupted += 1
        else:
            assert process.returncode == 0, output
            whole = max(2.0, min(whole, 0.9 * (time.monotonic() - begun)))  # a fast machine: interrupt it sooner
            for target in ("results", f"data/{DATA}"):  # once more, from somewhere in the middle
                if moments.random() < 0.5:
                    shutil.rmtree(checkout.folder / target, ignore_errors=True)
            shutil.rmtree(checkout.folder / "work/memo" / moments.choice(os.listdir(checkout.folder / "work/memo")))
        assert torn(checkout) == []
        if number % 2:
            jump(checkout, moments)
    checkout.run()
    assert interrupted >= 15
    assert results(checkout) == results(made)
    assert not [file for file in checkout.folder.glob("data/**/*.tmp") if file.is_file()]


@pytest.mark.slow
def test_settings_and_folders_that_change_under_a_run(fresh, made, tmp_path):
    """A run uses the settings that it started with; what is deleted meanwhile is at worst made again by the next."""
    checkout = fresh.copy(tmp_path / "changed")
    settings = checkout.read("params.yaml")
    process = checkout.start()
    while not (checkout.folder / f"data/{DATA}/captions.parquet").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    (checkout.folder / "params.yaml").write_text("run: [")
    for folder in ("work/memo", "work/hashes", "work/arrays", "work/features"):
        shutil.rmtree(checkout.folder / folder, ignore_errors=True)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0 or "CcrError" not in output and "Traceback" not in output, output
    (checkout.folder / "params.yaml").write_bytes(settings)
    checkout.run()
    assert results(checkout) == results(made)


@pytest.mark.slow
def test_a_training_that_the_kernel_kills_is_said_to_have_been_short_of_memory(made, tmp_path):
    checkout = made.copy(tmp_path / "killed")
    shutil.rmtree(checkout.folder / RUN)
    shutil.rmtree(checkout.folder / "work/memo")
    module = checkout.folder / "src/ccr/train/__init__.py"
    begin = "def run(job: Job) -> None:\n"
    text = module.read_text()
    assert begin in text
    module.write_text(text.replace(begin, f"{begin}    os.kill(os.getpid(), 9)\n"))
    process = checkout.start("--logger", "stages", "--", f"{RUN}/model.safetensors")
    output = process.communicate(timeout=300)[0]
    assert process.returncode != 0
    assert "killed (SIGKILL), most likely because the memory was full" in output and "make CORES=1" in output


@pytest.mark.slow
def test_temporary_files_on_another_disk(fresh, made, tmp_path):
    """No part of a result passes through TMPDIR; if that is full, the pipeline says so before it starts."""
    checkout = fresh.copy(tmp_path / "elsewhere")
    with small_disk(tmp_path / "disk", "size=4m") as disk:
        filler = fill(disk)
        checkout.environment["TMPDIR"] = str(disk)
        process = checkout.start()
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 1
        assert (
            f"{disk}: temporary files cannot be written (No space left on device)" in output and "Trace" not in output
        )
        filler.unlink()
        checkout.run()
    assert results(checkout) == results(made)


# --- several users -----------------------------------------------------------------------------------------

SHARED = """
import logging, os, sys
from pathlib import Path
from ccr.artifacts.jobs import Job
from ccr.artifacts.files import write_json
from ccr.artifacts.memo import is_kept, recall, remember
from ccr.artifacts.refusals import for_people
logging.basicConfig(level="INFO")
os.setgroups([int(group) for group in sys.argv[6:]])
os.setgid(int(sys.argv[5]))
os.setuid(int(sys.argv[5]))
os.umask(int(sys.argv[4], 8))
os.chdir(sys.argv[1])
with for_people():
    key = sys.argv[3]
    job = Job("captions", "data/a.json", {}, {"captions": "data/a.json"}, {}, "ccr.captions.dataset", key=key)
    if sys.argv[2] == "remember":
        write_json({"made": "by someone"}, "data/a.json")
        remember(job)
    else:
        print("recalled" if recall(job) else "not there")
    print("kept" if is_kept(key) else "not kept")
"""
ALICE, BOB, STRANGER, GROUP = 61_001, 61_002, 61_003, 61_000


@pytest.fixture
def users():
    """`users(user, verb, key)` acts as Alice or Bob, who share a group, or as a stranger; all share one memo."""
    if os.geteuid() != 0:
        pytest.skip("other users can be had by root alone")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to other users
        top, memo = Path(folder), Path(folder, "memo")
        top.chmod(0o755)
        memo.mkdir()
        os.chown(memo, ALICE, GROUP)
        memo.chmod(0o2775)

        def act(user: int, verb: str, key: str, umask: str = "022") -> subprocess.CompletedProcess:
            home = top / str(user)
            if not home.exists():
                (home / "work").mkdir(parents=True)
                (home / "work/memo").symlink_to(memo)
                for path in (home, home / "work"):
                    os.chown(path, user, user)
            groups = [] if user == STRANGER else [str(GROUP)]
            command = [sys.executable, "-c", SHARED, str(home), verb, key, umask, str(user), *groups]
            return subprocess.run(command, capture_output=True, text=True)

        yield act


@pytest.mark.slow
@pytest.mark.parametrize("umask", ["022", "077"])
def test_two_users_share_a_memo_whatever_their_umask(users, umask):
    first, second = "ab" * 16, "ab" + "cd" * 15  # in the same folder of the memo
    assert users(ALICE, "remember", first, umask).stdout == "kept\n"
    assert users(BOB, "recall", first).stdout == "recalled\nkept\n"
    assert users(BOB, "remember", second, umask).stdout == "kept\n"
    assert users(ALICE, "recall", second).stdout == "recalled\nkept\n"
    replaced = users(BOB, "remember", first, umask)  # the other's entry is replaced
    assert (replaced.returncode, replaced.stdout) == (0, "kept\n"), replaced.stderr


@pytest.mark.slow
def test_a_memo_that_may_not_be_written_to_is_read_and_costs_no_result(users):
    key = "ab" * 16
    assert users(ALICE, "remember", key).stdout == "kept\n"
    assert users(STRANGER, "recall", key).stdout == "recalled\nkept\n"
    denied = users(STRANGER, "remember", "ab" + "cd" * 15)
    assert (denied.returncode, denied.stdout) == (0, "not kept\n"), denied.stderr
    assert "cannot be opened (Permission denied)" in denied.stderr and "not in the memo" in denied.stderr
    other = users(STRANGER, "remember", key)  # another user's entry, which stays
    assert (other.returncode, other.stdout) == (0, "kept\n"), other.stderr
    assert users(BOB, "recall", key).stdout == "recalled\nkept\n"
