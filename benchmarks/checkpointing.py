"""The cost of checkpointing, in percent of the training time.

Alternates, in one process, a training step of the baseline and writing the whole training state (weights, those of the
best epoch, Adam's moments), and times both; the interval is that of params.yaml (`train.checkpoint_minutes`). Shapes:
those of the mini-world in distillation.py, and network `mbert` of params.yaml with a BERT of mBERT's size (random
weights and tokens; embeddings and layers 0-4 frozen). Writing ends when the data is on disk (fsync). Also prints the
time of a training step of that size, because a signal that stops training takes effect only after the current step.
Writes benchmarks/results/checkpointing.json.

    .venv/bin/python benchmarks/checkpointing.py [THREADS]
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import distillation
import numpy as np
import throughput
import torch
from transformers import BertConfig

from ccr import params
from ccr.artifacts.files import write_json
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.scratch import encoder_config
from ccr.train.checkpoint import Checkpoint
from ccr.train.loop import Progress, Trainer
from ccr.train.schedule import Schedule

BATCH = {"mini-world": 128, "mBERT": 8}  # large steps only cost time on a CPU: the size of the state is what counts
VOCABULARY = 119_547  # mBERT's
REPEATS = 5


def trainer(size: str, plan: Any) -> Trainer:
    """A trainer of this size after two steps, so that its optimiser has moments."""
    settings = plan.job(distillation.RUN.format("baseline")).settings
    tokens, store, triplets = distillation.world()
    if size == "mBERT":
        network = plan.params.networks["mbert"].model_dump()
        network["text"]["encoder"] = "scratch"  # nothing to download: random weights of the same shapes
        settings = settings | {"network": network}
        config = BertConfig(vocab_size=VOCABULARY).to_dict()
    else:
        config = encoder_config(settings["network"]["text"], throughput.VOCABULARY)
    torch.manual_seed(0)
    network = DualEncoder(settings["network"], config, store.dim, pretrained=True).train()
    made = Trainer(network, settings, tokens, store)
    made.best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    triplets.streams, triplets.teacher = ["visual", "source", "target"], {}
    made.step = lambda: made.update(made.batch(triplets, np.arange(BATCH[size])))
    made.step(), made.step()
    return made


def measure(size: str, plan: Any) -> dict[str, Any]:
    """Median seconds of a step and of writing the state, and the latter's share of the training time."""
    made = trainer(size, plan)
    schedule = Schedule("cosine", made._optimizer, 1e-3, 0, 100)
    checkpoint = Checkpoint(size, "cpu")
    steps, writings = [], []
    for _ in range(REPEATS):
        start = time.perf_counter()
        made.step()
        middle = time.perf_counter()
        checkpoint.save(made._state(Progress(), schedule))
        steps.append(middle - start)
        writings.append(time.perf_counter() - middle)
    step, writing = float(np.median(steps)), float(np.median(writings))
    interval = 60 * plan.params.train.checkpoint_minutes
    return {
        "megabytes": round(checkpoint.path.stat().st_size / 1e6, 1),
        "seconds_to_write": round(writing, 3),
        "seconds_of_a_step": round(step, 3),
        "rows_of_a_step": BATCH[size],
        "percent_of_time": round(100 * writing / (interval + writing), 3),
    }


def main(threads: int = 1) -> None:
    """Measure, print and write."""
    torch.set_num_threads(threads)
    plan = params.plan(params.load())
    result = {"device": throughput.device(), "threads": threads, "torch": torch.__version__}
    result["checkpoint_minutes"] = plan.params.train.checkpoint_minutes
    here, results = os.getcwd(), Path(__file__).parent.resolve() / "results"
    with tempfile.TemporaryDirectory(dir=".") as folder:
        os.chdir(folder)
        for size in BATCH:
            result[size] = measure(size, plan)
            print(size, result[size], flush=True)
        os.chdir(here)
    write_json(result, results / "checkpointing.json")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
