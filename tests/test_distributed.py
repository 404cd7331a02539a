"""Several processes train the same network as one process."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import yaml
from torch import distributed
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.launcher import api
from toy_trainings import NAMES, trained, training

from ccr import params, train
from ccr.artifacts.contents import content_hash
from ccr.errors import CcrError
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.scratch import encoder_config
from ccr.networks.tokens import Tokens, train_tokenizer
from ccr.store import open_features, read_embeddings
from ccr.train.checkpoint import CHECKPOINTS
from ccr.train.loop import Trainer, numbers
from ccr.train.triplets import Triplets, Validation, read_texts

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")
CASES = [(name, norm) for name in NAMES for norm in ("layer", "batch")]
STEPS, BATCH = 20, 15  # an odd number: the shares differ


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("data"), ["teacher"])


def exact(job, norm):
    """The job without randomness: no dropout, no masked words."""
    network = job.settings["network"]
    text, visual = network["text"], network["visual"]
    off = {"input_dropout": 0.0, "dropout": 0.0}
    text = text | {"dropout": 0.0, "block": text["block"] | off}
    network = network | {"text": text, "visual": visual | off, "dropout": 0.0, "norm": norm}
    terms = {n: t | ({"masked": 0.0} if "masked" in t else {}) for n, t in job.settings["objectives"].items()}
    settings = job.settings | {"network": network, "objectives": terms, "word_dropout": 0.0, "batch": BATCH}
    return replace(job, settings=settings)


def parts(job):
    """Trainer and data of a job, in float64."""
    texts = read_texts(job)
    tokenizer = train_tokenizer(texts.training(), 100)
    tokens = Tokens(tokenizer, texts.texts, 16, words=True)
    store = open_features(job.inputs["features"]) if "features" in job.inputs else None
    teacher = read_embeddings(job.inputs["teacher"]) if "teacher" in job.inputs else None
    triplets = Triplets(job, texts, store, teacher)
    triplets.teacher = {stream: found.astype(np.float64) for stream, found in triplets.teacher.items()}
    torch.manual_seed(0)
    network = job.settings["network"]
    config = encoder_config(network["text"], tokenizer.get_vocab_size())
    network = DualEncoder(network, config, store.dim if store else None, pretrained=True).double()
    trainer = Trainer(network, job.settings, tokens, store)
    for module in modules(trainer).values():
        module.double()
    return trainer, triplets, Validation(job, texts, store)


def modules(trainer):
    found = {"network": trainer.network}
    for need, provider in trainer.providers.items():
        found |= {f"{need}{number}": module for number, module in enumerate(provider.modules())}
        for name, adversary in getattr(provider, "adversaries", {}).items():
            found[name] = adversary.discriminator
    return found


def twenty_steps(name, norm, data):
    """The values of each step, the validation scores, and all weights afterwards."""
    trainer, triplets, validation = parts(exact(training(name, data, Path("unused")), norm))
    trainer.network.train()
    values = []
    for step in range(STEPS):
        rows = np.random.default_rng(step).permutation(len(triplets))[:BATCH]
        values.append(trainer.update(trainer.batch(triplets, rows), measure=step % 5 == 0))
    weights = {
        f"{part}.{name}": weight.detach()
        for part, module in modules(trainer).items()
        for name, weight in module.state_dict().items()
    }
    return numbers(values), trainer.validate(validation), weights


def one_of_two(rank, data, folder):
    """Run by each of the two processes."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name, norm in CASES:
        torch.save(twenty_steps(name, norm, data), f"{folder}/{name}-{norm}-{rank}.pt")
    job = training("nrccr", data, Path("unused"))
    with pytest.raises(CcrError, match="padded_mean depends on the whole batch"):
        parts(replace(job, settings=job.settings | {"network": job.settings["network"] | {"pooling": "padded_mean"}}))
    trainer, triplets, validation = parts(exact(job, "layer"))
    validation.groups = [[part[:1] for part in validation.groups[0]]]
    with pytest.raises(CcrError, match="train.processes: 2 cannot share batches or val sets of 1 rows"):
        trainer.fit(triplets, validation)
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def both(data, tmp_path_factory):
    """Folder with the results of two processes, rank 0 and 1, for every case."""
    folder = tmp_path_factory.mktemp("both")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=one_of_two, args=(rank, data, folder)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_two_processes_do_what_one_does(data, both, name, norm):
    values, scores, weights = twenty_steps(name, norm, data)
    found = [torch.load(f"{both}/{name}-{norm}-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for other_values, other_scores, other_weights in found:
        assert [list(step) for step in other_values] == [list(step) for step in values]
        for step, other in zip(values, other_values, strict=True):
            assert other == pytest.approx(step, rel=1e-8, abs=1e-8)
        assert other_scores == pytest.approx(scores)
        assert max(float((other_weights[n] - w).abs().max()) for n, w in weights.items()) < 1e-8
    assert all(torch.equal(found[0][2][name], found[1][2][name]) for name in weights)


# --- torchrun ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_of_two_processes_is_launched_stopped_and_goes_on(data, tmp_path, capfd):
    whole, job = (training("nrccr", data, tmp_path / name, processes=2, epochs=4) for name in ("whole", "run"))
    train.run(whole)
    stopper = threading.Thread(target=stop_after_the_first_step)
    long = replace(job, checkpoint_minutes=1e-6)
    stopper.start()
    with pytest.raises(SystemExit) as ended:
        train.run(long)
    stopper.join()
    assert ended.value.code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in capfd.readouterr().err and not Path(job.outputs["model"]).exists()
    train.run(job)
    assert "Going on after step" in capfd.readouterr().err
    assert content_hash(job.outputs["model"]) == content_hash(whole.outputs["model"])
    assert not any(CHECKPOINTS.iterdir())


def stop_after_the_first_step():
    while not list(CHECKPOINTS.rglob("*.safetensors")):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("written", [True, False])
def test_a_signal_that_comes_when_all_is_written_is_no_interruption(data, tmp_path, monkeypatch, written):
    def signalled(*_):
        raise SignalException("", signal.SIGTERM)

    monkeypatch.setattr(api, "elastic_launch", lambda *_: signalled)
    job = training("teacher", data, data / "teacher" if written else tmp_path)
    job = replace(job, settings=job.settings | {"processes": 2})
    with contextlib.nullcontext() if written else pytest.raises(SystemExit):
        train.run(job)


@pytest.mark.slow
def test_a_killed_process_ends_the_job_and_the_same_job_goes_on(data, tmp_path, capfd):
    whole, job = (training("nrccr", data, tmp_path / name, processes=2, epochs=4) for name in ("whole", "run"))
    train.run(whole)
    killer = threading.Thread(target=kill_one_process_after_the_first_step)
    killer.start()
    with pytest.raises(CcrError, match="one of its 2 processes was killed, most likely because the memory was full"):
        train.run(replace(job, checkpoint_minutes=1e-6))
    killer.join()
    assert not Path(job.outputs["model"]).exists() and not processes_of_this_test()
    train.run(job)
    assert "Going on after step" in capfd.readouterr().err
    assert content_hash(job.outputs["model"]) == content_hash(whole.outputs["model"])


def kill_one_process_after_the_first_step():
    while not list(CHECKPOINTS.rglob("*.safetensors")):
        time.sleep(0.01)
    os.kill(processes_of_this_test()[-1], signal.SIGKILL)


def processes_of_this_test() -> list[int]:
    return [p.pid for p in psutil.Process().children(recursive=True) if "ccr.train" in p.cmdline()]


@pytest.mark.slow
def test_an_error_in_the_processes_is_an_error_of_the_job(data, tmp_path, capfd):
    job = training("baseline", data, tmp_path / "run", processes=2, batch=2)
    job.inputs["features"] = str(tmp_path / "missing.parquet")
    with pytest.raises(CcrError, match="one of its 2 processes failed"):
        train.run(replace(job, key="k"))
    assert "missing.parquet" in capfd.readouterr().err


def test_processes_are_part_of_a_key_and_take_a_gpu_and_threads_each(repository):
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    folder = "results/runs/vatex-synthetic/lexicon/descriptor/zh"
    alone = params.plan(params.validate(raw)).job(f"{folder}/baseline/seed0")
    raw["train"] |= {"processes": 2, "threads": 3}
    plan = params.plan(params.validate(raw))
    job = plan.job(f"{folder}/baseline/seed0")
    assert (job.settings["processes"], job.threads) == (2, 6) and job.digest != alone.digest
    published = plan.job(f"{folder}/nrccr_published/seed0")  # padded batches cannot be shared
    assert (published.settings["processes"], published.threads) == (1, 3)
