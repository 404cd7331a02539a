"""What only a GPU can show: the same bits twice and after a stop, and a CPU's results up to rounding.

The same code is tested on the CPU everywhere; `make test` runs these tests if there is a GPU.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_trainings import training, write_data

from ccr import train
from ccr.artifacts.files import read_json
from ccr.networks.checkpoint import load_network
from ccr.networks.ragged import Ragged
from ccr.retrieval.ranks import rank
from ccr.train.loop import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
    pytest.mark.usefixtures("in_a_folder_of_its_own"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Captions, translations and features, without the results of any training run."""
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


def model(data, folder, name, **settings):
    """Run a training job; returns the bytes of its weights."""
    job = training(name, data, folder, **settings)
    train.run(job)
    return Path(job.outputs["model"]).read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("name", ["nrccr", "teacher"])
def test_the_same_seed_gives_the_same_bits(data, tmp_path, name, precision):
    first, second = (model(data, tmp_path / run, name, precision=precision) for run in ("first", "second"))
    assert first == second
    assert first != model(data, tmp_path / "other", name, precision=precision, seed=1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_that_was_stopped_ends_with_the_same_bits(data, tmp_path, monkeypatch, precision):
    whole = model(data, tmp_path / "whole", "nrccr", precision=precision)
    update, steps = Trainer.update, []

    def stop(self, *arguments, **options):
        steps.append(None)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return update(self, *arguments, **options)

    job = training("nrccr", data, tmp_path / "stopped", precision=precision, minutes=0.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "update", stop)
        train.run(job)
    train.run(job)
    assert Path(job.outputs["model"]).read_bytes() == whole


def test_auto_is_bf16_where_the_gpu_has_it(data, tmp_path):
    job = training("baseline", data, tmp_path / "run", precision="auto")
    train.run(job)
    expected = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    assert read_json(job.outputs["provenance"])["precision"] == expected


def test_slices_learn_what_the_whole_batch_learns(data, tmp_path):
    for slices in (1, 4):
        train.run(training("baseline", data, tmp_path / f"{slices}", precision="bf16", slices=slices))
    whole, sliced = (np.genfromtxt(tmp_path / f"{n}/history.csv", delimiter=",", names=True) for n in (1, 4))
    assert sliced["loss"][-1] < sliced["loss"][0]
    assert abs(sliced["val_sumr"][-1] - whole["val_sumr"][-1]) < 0.25 * whole["val_sumr"][-1]  # dropout differs


def test_a_run_embeds_on_a_gpu_what_it_embeds_on_a_cpu(data, tmp_path):
    job = training("baseline", data, tmp_path / "run")
    train.run(job)
    network, _ = load_network(job.outputs["model"], job.outputs["config"])
    network.eval()
    shape, tokens = Ragged(torch.tensor([4, 3])), torch.arange(5, 12)
    with torch.inference_mode():
        slow = network.embed_text(tokens, shape)
        fast = network.cuda().embed_text(tokens.cuda(), Ragged(torch.tensor([4, 3]), "cuda")).cpu()
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)


def test_ranks_are_those_of_a_cpu(monkeypatch):
    generator = np.random.default_rng(0)
    queries, gallery = (generator.standard_normal((n, 64), dtype=np.float32) for n in (700, 5000))
    wanted = generator.integers(0, 5000, 700)
    fast = rank(queries, gallery, wanted, np.arange(5000))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    slow = rank(queries, gallery, wanted, np.arange(5000))
    np.testing.assert_array_equal(fast.first, slow.first)
    np.testing.assert_array_equal(fast.ap, slow.ap)
