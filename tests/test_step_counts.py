"""The demands of a training step on a GPU, counted without one: benchmarks/step_counts.py."""

import sys
from pathlib import Path

import pytest
import torch
from late import Late

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from step_counts import Count, as_on_gpu  # noqa: E402

from ccr.networks.ragged import Ragged  # noqa: E402

gpu = Late("gpu")


@pytest.mark.parametrize(("method", "most"), [("nrccr", 900), ("cl2cm", 665)])
def test_a_step_of_the_papers_network_is_few_calls_and_ten_steps_are_one_wait(method, most):
    found = gpu.counts(method)
    assert 0.9 * most < found["calls"] <= most
    assert found["waits"] == 1


def test_calls_and_waits_are_counted():
    rows = torch.ones(4, 3)
    with Count() as count:
        rows.T.view(3, 4)
        (rows + 1).sum().item()
        rows.nonzero()
        rows.sum().tolist()
    assert count.calls == {"add": 1, "sum": 2, "_local_scalar_dense": 1, "nonzero": 1}
    assert sum(count.waits.values()) == 3


def test_what_stands_for_a_gpus_attention_is_attention_with_its_gradients():
    shape = Ragged(torch.tensor([5, 3, 1]))
    inputs = [torch.randn(9, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    outputs = [shape.attend(*inputs, 0.0, 0.7)]
    with as_on_gpu():
        outputs.append(shape.attend(*inputs, 0.0, 0.7))
    given = torch.randn(9, 2, 4, dtype=torch.float64)
    gradients = [torch.autograd.grad(out, inputs, given) for out in outputs]
    assert torch.allclose(*outputs)
    assert all(map(torch.allclose, *gradients))
