"""An interrupted training run resumes, and its results are those of an uninterrupted one."""

import contextlib
import json
import logging
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from toy_trainings import NAMES, trained, training

from ccr import params, train
from ccr.artifacts.jobs import dump_job, job_key
from ccr.errors import CcrError
from ccr.train import keeper, tracking
from ccr.train.checkpoint import CHECKPOINTS, Checkpoint
from ccr.train.loop import Trainer

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The data, and the uninterrupted results of every training run in a folder of its name."""
    return trained(tmp_path_factory.mktemp("data"), sorted(NAMES, reverse=True))  # the teacher before its student


def checkpoints():
    return list(CHECKPOINTS.rglob("*.safetensors"))


def results(job):
    """The results of a training run, except for where and when it ran."""
    return {role: Path(job.outputs[role]).read_bytes() for role in job.outputs.keys() - {"provenance"}}


def stop(patch, method, number, sent=signal.SIGTERM):
    """Send a signal to the process in the `number`th call of a method of the trainer."""
    original, calls = getattr(Trainer, method), []

    def stopped(self, *arguments, **options):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), sent)
        return original(self, *arguments, **options)

    patch.setattr(Trainer, method, stopped)


def run_stopped(job, method="update", number=2, sent=signal.SIGTERM):
    with pytest.MonkeyPatch.context() as patch:
        stop(patch, method, number, sent)
        with pytest.raises(SystemExit) as ended:
            train.run(job)
    assert ended.value.code == 128 + sent
    assert not any(Path(path).exists() for path in job.outputs.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_training_stopped_again_and_again_results_in_the_same_bits(data, tmp_path, caplog, name):
    job = training(name, data, tmp_path / "run")
    # 3 epochs of 3 steps: after step 1, in validation, after the last step of epoch 2, two steps later
    for method, number in (("update", 1), ("validate", 1), ("update", 3), ("update", 2)):
        caplog.clear()
        run_stopped(job, method, number)
        assert len(checkpoints()) == 1
        assert "stopped by SIGTERM" in caplog.text and "resumes from there" in caplog.text
    with caplog.at_level(logging.INFO):
        train.run(job)
    assert "Going on after step 2 of 3 of epoch 3." in caplog.text
    assert results(job) == results(training(name, data, data / name))
    assert not any(CHECKPOINTS.iterdir())


def test_ctrl_c_does_the_same(data, tmp_path):
    job = training("baseline", data, tmp_path / "run")
    before = signal.getsignal(signal.SIGINT)
    run_stopped(job, sent=signal.SIGINT)
    train.run(job)
    assert results(job) == results(training("baseline", data, data / "baseline"))
    assert signal.getsignal(signal.SIGINT) == before  # Ctrl-C works as usual again


def test_a_signal_after_the_last_step_lets_the_results_be_written(data, tmp_path):
    job = training("teacher", data, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        write = train.write_embeddings
        patch.setattr(train, "write_embeddings", lambda *a, **o: (os.kill(os.getpid(), signal.SIGTERM), write(*a, **o)))
        train.run(job)
    assert results(job) == results(training("teacher", data, data / "teacher"))


def test_another_training_does_not_go_on_from_it(data, tmp_path, caplog):
    run_stopped(training("baseline", data, tmp_path / "run"))
    other = training("baseline", data, tmp_path / "other", seed=1, epochs=1)
    with caplog.at_level(logging.INFO):
        train.run(other)
    assert "Going on" not in caplog.text and len(checkpoints()) == 1


def test_a_foreign_checkpoint_is_told_of_and_not_used(data, tmp_path, caplog):
    run_stopped(training("baseline", data, tmp_path / "run"))
    job = training("baseline", data, tmp_path / "other", seed=1, epochs=1)
    shutil.copytree(checkpoints()[0].parent, CHECKPOINTS / job.key)
    train.run(job)
    [message] = [r.getMessage() for r in caplog.records if "Training starts at the beginning" in r.getMessage()]
    assert message.startswith(f"{CHECKPOINTS / job.key / 'state.safetensors'}: cannot be gone on from (it is of ")
    assert not Path(CHECKPOINTS / job.key).exists()


def test_a_torn_checkpoint_is_told_of_and_training_starts_again(data, tmp_path, caplog):
    job = training("baseline", data, tmp_path / "run")
    run_stopped(job)
    [path] = checkpoints()
    path.write_bytes(path.read_bytes()[:-1])
    train.run(job)
    assert "Training starts at the beginning." in caplog.text
    assert results(job) == results(training("baseline", data, data / "baseline"))


STATE = {
    "tensors": {0: torch.arange(5.0), "half": torch.ones(2, 3, dtype=torch.bfloat16), "number": torch.tensor(3)},
    "tuple": (1, None, [True, 0.1, -float("inf")], "text"),
}


def test_a_state_comes_back_as_it_was():
    checkpoint = Checkpoint("key", "cpu")
    assert checkpoint.load() is None
    checkpoint.save(STATE)
    found = checkpoint.load()
    assert found["tuple"] == STATE["tuple"] and list(found["tensors"]) == list(STATE["tensors"])
    for name, tensor in STATE["tensors"].items():
        assert found["tensors"][name].dtype == tensor.dtype and torch.equal(found["tensors"][name], tensor)


def test_a_checkpoint_cut_at_any_byte_or_changed_in_any_byte_is_recognised(caplog):
    checkpoint = Checkpoint("key", "cpu")
    checkpoint.save(STATE)
    whole = checkpoint.path.read_bytes()
    for length in range(len(whole)):
        checkpoint.path.write_bytes(whole[:length])
        assert checkpoint.load() is None, length
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        checkpoint.path.write_bytes(bytes(changed))
        assert checkpoint.load() is None, place
    assert len(caplog.records) == 2 * len(whole)
    assert Checkpoint("key", "cuda").load() is None


def test_how_often_a_state_is_kept_and_who_follows_are_no_part_of_a_key(repository):
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    target = "results/runs/vatex-synthetic/lexicon/descriptor/zh/baseline/seed0"
    one = params.plan(params.validate(raw)).job(target)
    raw["train"] |= {"checkpoint_minutes": 0.5, "trackers": ["tensorboard"]}
    other = params.plan(params.validate(raw)).job(target)
    assert (one.checkpoint_minutes, other.checkpoint_minutes) == (10, 0.5)
    assert (one.trackers, other.trackers) == ((), ("tensorboard",))
    assert one.digest == other.digest and job_key(replace(one, inputs={})) == job_key(replace(other, inputs={}))


def test_a_process_and_its_pipe_stopped_together_leave_a_state_and_nothing_else(data, tmp_path):
    """As with Ctrl-C and SLURM: `tee` ends at once, and the process can no longer print."""
    job = training("baseline", data, tmp_path / "run", epochs=1000, patience=1000)
    Path("job.json").write_text(json.dumps(dump_job(job)))
    training_shell = f"trap '' TERM; {sys.executable} -m ccr.train job.json; echo $? > status"
    shell = subprocess.Popen(["bash", "-c", f"({training_shell}) 2>&1 | tee log"], start_new_session=True)
    try:
        while not (Path("log").exists() and "step" in Path("log").read_text()):
            assert shell.poll() is None
            time.sleep(0.1)
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait()
        while not (Path("status").exists() and Path("status").read_text()):
            time.sleep(0.1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    assert int(Path("status").read_text()) != 0
    assert len(checkpoints()) == 1 and not Path("run").exists()
    assert Checkpoint(job.key, "cpu").load() is not None


# --- kill -9 -----------------------------------------------------------------------------------------------

INTERVAL = 3  # steps between two states, which the patched clock counts as seconds


def train_by_a_clock_of_steps(job, log):
    """Runs in a separate process: each step counts as a second and adds a dot to `log`."""
    steps, update = [], Trainer.update

    def timed(self, *arguments, **options):
        values = update(self, *arguments, **options)
        steps.append(1)
        with open(log, "a") as file:
            file.write(".")
        return values

    Trainer.update = timed
    keeper.time = type("Clock", (), {"monotonic": staticmethod(lambda: float(len(steps)))})
    logging.basicConfig(level=logging.INFO, filename=f"{log}.txt", filemode="w")
    train.run(job)


def start(job, log):
    """Start the training run in a child of a process that has imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ccr.train", "transformers.models.bert.modeling_bert", "pytest"])
    Path(log).write_text("")
    process = context.Process(target=train_by_a_clock_of_steps, args=(job, log))
    process.start()
    return process


def killed_and_run_to_its_end(job, kills, moments, log):
    """Kill the training run `kills` times, after some steps and part of one; returns the steps lost each time."""
    steps_of_an_epoch = 3
    reached, lost = 0, []
    for _ in range(kills):
        process = start(job, log)
        steps = moments.integers(1, INTERVAL + 2)
        while len(Path(log).read_text()) < steps:
            assert process.is_alive()
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        process.join()
        position = begun_at(log, steps_of_an_epoch)
        lost.append(reached - position)
        reached = position + len(Path(log).read_text())
    process = start(job, log)
    process.join()
    assert process.exitcode == 0
    lost.append(reached - begun_at(log, steps_of_an_epoch))
    return lost[1:]


def begun_at(log, steps_of_an_epoch):
    """The step after which a process resumed, according to its log; it must not have met a torn file."""
    text = Path(f"{log}.txt").read_text()
    assert "Training starts at the beginning" not in text
    found = re.search(r"Going on after step (\d+) of \d+ of epoch (\d+)", text)
    return (int(found[2]) - 1) * steps_of_an_epoch + int(found[1]) if found else 0


def test_a_training_that_was_killed_goes_on(data, tmp_path):
    job = training("nrccr", data, tmp_path / "run", minutes=INTERVAL / 60)
    lost = killed_and_run_to_its_end(job, 1, np.random.default_rng(2), "log")
    assert 0 <= max(lost) <= INTERVAL
    assert results(job) == results(training("nrccr", data, data / "nrccr"))


def test_a_training_that_was_killed_and_goes_on_is_followed_without_gaps_or_doubles(data):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pytest.importorskip("accelerate")
    run = Path("results/runs/nrccr/seed0")
    job = training("nrccr", data, run, minutes=INTERVAL / 60, trackers=("tensorboard",))
    # the state is saved after step 3; epoch 1 is reported; the kill comes after step 4, and epoch 1 ends once more
    killed_and_run_to_its_end(job, 1, np.random.default_rng(0), "log")
    history = pd.read_csv(run / "history.csv")
    events = accumulator.EventAccumulator(f"work/tracking/{run}", purge_orphaned_data=False).Reload()
    assert set(events.Tags()["scalars"]) == set(history.columns) - {"epoch"}
    for column in set(history.columns) - {"epoch"}:
        found = events.Scalars(column)
        assert [point.step for point in found] == history["epoch"].tolist()
        assert [point.value for point in found] == pytest.approx(history[column].tolist(), rel=1e-6)


def test_a_tracker_that_is_missing_is_one_message_and_one_that_fails_ends_nothing(data, tmp_path, monkeypatch, caplog):
    job = training("baseline", data, tmp_path / "run", trackers=("tensorboard",))
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(CcrError, match="pip install accelerate tensorboard -c constraints.txt"):
        train.run(job)
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    Path("work").mkdir()
    Path("work/tracking").write_text("in the way of a folder")
    train.run(job)
    assert results(job) == results(training("baseline", data, data / "baseline"))
    assert "no longer reported to tensorboard (" in caplog.text


@pytest.mark.slow
def test_thirty_kills_lose_no_more_than_the_time_between_two_states_and_change_nothing(data, tmp_path):
    moments, lost = np.random.default_rng(0), []
    for name in ("teacher", "cl2cm"):
        long = {"epochs": 24, "patience": 24}
        whole = training(name, data, tmp_path / "whole" / name, **long)
        train.run(whole)
        job = training(name, data, tmp_path / name, minutes=INTERVAL / 60, **long)
        lost += killed_and_run_to_its_end(job, 15, moments, f"{name}.log")
        assert results(job) == results(whole)
    assert len(lost) == 30 and max(lost) <= INTERVAL and sum(lost) > 0
    assert not any(CHECKPOINTS.iterdir())
