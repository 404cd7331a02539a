"""How much faster two processes train than one, on two cores.

Full NRCCR training steps at the shapes of throughput.py on the same global batches, by one process and by two that
share each batch, one thread per process, in turns, so that both see the same machine. Efficiency is the speed of two
divided by twice that of one. By the clock it includes waiting, and is meaningful only if both cores are free (the
result records the share that was idle beforehand). By the processor time of both it shows the cost of duplicated work
(the heads, the losses, the optimiser) and of communication. Writes benchmarks/results/data_parallel.json.

    .venv/bin/python benchmarks/data_parallel.py
"""

import copy
import multiprocessing
import tempfile
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import throughput
import torch
from torch import distributed

from ccr.artifacts.files import write_json
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.scratch import encoder_config
from ccr.train.loop import Trainer

STEPS = 8  # the first of them warms up


def idle() -> float:
    """Share of the cores' time that was idle, over a second (Linux)."""

    def times() -> np.ndarray:
        return np.array(Path("/proc/stat").read_text().splitlines()[0].split()[1:], float)

    before = times()
    time.sleep(1)
    spent = times() - before
    return float(spent[3] / spent.sum())


class Steps:
    """A trainer and its batches."""

    def __init__(self):
        torch.set_num_threads(1)
        torch.manual_seed(0)
        tokens, store, self.triplets = throughput.data()
        config = encoder_config(throughput.NETWORK["text"], throughput.VOCABULARY)
        network = DualEncoder(throughput.NETWORK, config, throughput.DIM, pretrained=True).train()
        self.trainer = Trainer(network, copy.deepcopy(throughput.SETTINGS), tokens, store)

    def step(self, number: int) -> tuple[float, float]:
        """Wall-clock and processor seconds of the step on batch `number`."""
        start, work = time.perf_counter(), time.process_time()
        rows = np.arange(throughput.BATCH) + number * throughput.BATCH
        self.trainer.update(self.trainer.batch(self.triplets, rows))
        return time.perf_counter() - start, time.process_time() - work


def one_of_two(rank: int, folder: str, turn: Barrier, found: Queue) -> None:
    """The steps of one of the two processes."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    steps = Steps()
    for number in range(STEPS):
        turn.wait()
        found.put((number, *steps.step(number)))
        turn.wait()


def main() -> None:
    """Measure, print and write."""
    context = multiprocessing.get_context("spawn")
    turn, found = context.Barrier(3), context.Queue()
    result = {"device": throughput.device(), "torch": torch.__version__, "idle_before": round(idle(), 2)}
    clock, work = np.zeros((STEPS, 2)), np.zeros((STEPS, 2))  # by one process, by two
    with tempfile.TemporaryDirectory() as folder:
        both = [context.Process(target=one_of_two, args=(rank, folder, turn, found)) for rank in (0, 1)]
        for process in both:
            process.start()
        alone = Steps()
        for number in range(STEPS):
            turn.wait()
            turn.wait()
            clock[number, 0], work[number, 0] = alone.step(number)
        for process in both:
            process.join()
    for _ in range(2 * STEPS):
        number, seconds, worked = found.get()
        clock[number, 1] = max(clock[number, 1], seconds)
        work[number, 1] += worked
    clock, work = np.median(clock[1:], axis=0), np.median(work[1:], axis=0)
    result |= {"clock_seconds": clock.round(3).tolist(), "processor_seconds": work.round(3).tolist()}
    result |= {"clock_efficiency": round(float(clock[0] / clock[1]) / 2, 3)}
    result["work_efficiency"] = round(float(work[0] / work[1]), 3)
    print(result)
    write_json(result, Path(__file__).parent / "results/data_parallel.json")


if __name__ == "__main__":
    main()
