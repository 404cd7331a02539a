"""Several processes that train one network, one GPU each: every process encodes its slice of each batch.

What a loss compares is gathered before the heads, so that all see the whole batch: the losses, the statistics of
BatchNorm heads and the gradients are those of one process, up to rounding. With one process, nothing here has effect.
"""

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from ccr.artifacts.files import read_json, write_json
from ccr.artifacts.jobs import Job, dump_job
from ccr.artifacts.refusals import MEMORY
from ccr.errors import CcrError


def count() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process; process 0 writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


# --- starting ----------------------------------------------------------------------------------------------


def to_be_launched(job: Job) -> bool:
    """Whether a job asks for processes that nobody has started yet."""
    return job.settings["processes"] > 1 and "TORCHELASTIC_RUN_ID" not in os.environ


def launch(job: Job) -> None:
    """Run a job under torchrun, on this machine.

    SIGTERM and SIGINT reach the processes, which have half a minute to save their state; then raises `SystemExit`.
    Raises `CcrError` when one of them fails.
    """
    # slow to import, and the processes themselves do not need it
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    number = job.settings["processes"]
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=number, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        write_json(dump_job(replace(job, key="")), path)
        try:
            elastic_launch(config, sys.executable)("-m", "ccr.train", str(path))
        except SignalException as error:
            if not _is_written(job):  # else the signal came when all was done
                raise SystemExit(128 + error.sigval) from error
        except ChildFailedError as error:
            if any(failure.exitcode == -signal.SIGKILL for failure in error.failures.values()):
                why = f"was killed, most likely because the memory was full. {MEMORY}, or lower train.processes"
            else:
                why = "failed; above stands what it said"
            raise CcrError(f"{job.target}: one of its {number} processes {why}.") from error


def _is_written(job: Job) -> bool:
    path = Path(job.outputs["provenance"])  # written last
    return path.exists() and read_json(path)["key"] == job.key


@contextmanager
def joined(number: int) -> Iterator[torch.device]:
    """Join as one of `number` processes; yields the device to train on.

    Raises `CcrError` when torchrun started a different number, or when there are GPUs but fewer than processes.
    """
    cuda = torch.cuda.is_available()
    if number == 1:
        yield torch.device("cuda" if cuda else "cpu")
        return
    local, started = int(os.environ["LOCAL_RANK"]), int(os.environ["WORLD_SIZE"])
    if started != number:
        raise CcrError(f"train.processes is {number}, but torchrun started {started}. Give it as many.")
    if cuda and torch.cuda.device_count() <= local:
        raise CcrError(f"train.processes: {number} processes need a GPU each; here are {torch.cuda.device_count()}.")
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    if rank():
        logging.disable(logging.WARNING)  # what concerns all of them is logged once
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def draw_apart(seed: int) -> None:
    """From now on, each process draws its own random numbers, the first as if it were the only one."""
    if rank():
        torch.manual_seed(int(np.random.SeedSequence([seed, rank()]).generate_state(1, np.uint64)[0]))


def full(states: Tensor) -> Tensor:
    """Convert to float32; float64 stays."""
    return states if states.dtype == torch.float64 else states.float()


# --- sharing -----------------------------------------------------------------------------------------------


def mine(rows: np.ndarray) -> np.ndarray:
    """This process's slice; all slices, in the order of their ranks, make up the whole."""
    return np.array_split(rows, count())[rank()]


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes, by rank: (b, ...) -> (B, ...), further dimensions padded with zeros to the longest.

    A row's gradient is the sum of its gradients in all processes; `average` then gives that of the mean loss.
    """
    if count() == 1:
        return rows
    return _Gather.apply(rows.float() if rows.dtype == torch.bfloat16 else rows)  # sums in bf16 lose precision


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        shape = torch.tensor(rows.shape)
        shapes = torch.stack(_all(shape))
        filled = rows.new_zeros(shapes.amax(0).tolist())
        ctx.inside = tuple(slice(size) for size in rows.shape)
        filled[ctx.inside] = rows
        ctx.first = int(shapes[: rank(), 0].sum())
        # bool is not supported everywhere
        parts = [part.to(rows.dtype) for part in _all(filled.byte() if rows.dtype == torch.bool else filled)]
        return torch.cat([part[:number] for part, number in zip(parts, shapes[:, 0].tolist(), strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        return gradient[ctx.first :][ctx.inside]


def _all(tensor: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(count())]
    distributed.all_gather(parts, tensor)
    return parts


def average(tensors: Iterable[Tensor | None]) -> None:
    """Replace each tensor by its mean over the processes, in place; None is skipped."""
    tensors = [tensor for tensor in tensors if tensor is not None]
    if count() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= count()
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def averaged(values: Tensor) -> Tensor:
    """The mean over the processes."""
    means = values.clone()
    average([means])
    return means


def largest(*numbers: int) -> list[int]:
    """The maximum of each number over the processes."""
    if count() == 1:
        return list(numbers)
    found = torch.tensor(numbers)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return found.tolist()


def wait() -> None:
    """Wait until all processes have reached this point."""
    if count() > 1:
        distributed.all_reduce(torch.zeros(1))
