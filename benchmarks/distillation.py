"""The cost that distillation adds to a student's training step when its CL teacher's embeddings are cached.

Steps of the baseline and of the CL2CM student, with the settings of params.yaml for the mini-world, on the same batches
and in turns, so that both see the same machine: at the mini-world's shapes (its lengths of English and Chinese
captions, 8 frames of 1344, five captions per item) and at the published ones of throughput.py. Tokens, features and
embeddings are random, since only time is measured: processor time, which other jobs affect less than wall-clock time.
Prints the median seconds of a step, their ratio, and the quartiles of the ratio of neighbouring steps. Writes
benchmarks/results/distillation.json.

    .venv/bin/python benchmarks/distillation.py [THREADS]
"""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import throughput
import torch

from ccr import params
from ccr.artifacts.files import write_json
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.scratch import encoder_config
from ccr.train.loop import Trainer

RUN = "results/runs/vatex-synthetic/lexicon/descriptor/zh/{}/seed0"
METHODS = ("baseline", "cl2cm")
PAIRS = {"mini-world": 200, "published": 12}  # timed pairs of steps
ROWS = 1536
LENGTHS = {"source": (13.7, 3.7, 5, 28), "target": (24.9, 7.9, 6, 62)}  # tokens: mean, deviation, minimum, maximum


def world() -> tuple[throughput.RandomTokens, throughput.RandomStore, SimpleNamespace]:
    """Tokens, features and triplets of the mini-world's shapes."""
    rng = np.random.default_rng(0)
    lengths = [rng.normal(mean, std, ROWS).clip(*ends).astype(int) for mean, std, *ends in LENGTHS.values()]
    tokens = throughput.RandomTokens(np.concatenate(lengths), rng)
    items = np.arange(ROWS) // 5
    store = throughput.RandomStore(np.full(items[-1] + 1, 8), 1344, rng)
    rows = {stream: n * ROWS + np.arange(ROWS) for n, stream in enumerate(LENGTHS)}
    return tokens, store, SimpleNamespace(rows=rows, items=items, features=np.unique(items), weights=None)


def trainer(settings: dict[str, Any], tokens: throughput.RandomTokens, store: throughput.RandomStore) -> Trainer:
    """A trainer with its own network."""
    torch.manual_seed(0)
    text_config = encoder_config(settings["network"]["text"], throughput.VOCABULARY)
    network = DualEncoder(settings["network"], text_config, store.dim, pretrained=False).train()
    return Trainer(network, settings, tokens, store)


def measure(shapes: str) -> dict[str, Any]:
    """Medians, ratio and spread at these shapes."""
    plan = params.plan(params.load())
    tokens, store, triplets = world() if shapes == "mini-world" else throughput.data()
    trainers = []
    for method in METHODS:
        settings = plan.job(RUN.format(method)).settings
        if shapes == "published":
            settings = settings | {"network": throughput.NETWORK}
        trainers.append(trainer(settings, tokens, store))
    triplets.streams = ["visual", "source", "target"]
    shape = len(triplets.items), settings["network"]["dim"]
    embeddings = {stream: np.random.default_rng(1).standard_normal(shape, dtype=np.float32) for stream in LENGTHS}
    teachers = [{}, {stream: e / np.linalg.norm(e, axis=1, keepdims=True) for stream, e in embeddings.items()}]
    rng = np.random.default_rng(2)
    seconds = np.zeros((PAIRS[shapes] + 2, 2))
    for n in range(len(seconds)):
        rows = rng.permutation(len(triplets.items))[: settings["batch"]]
        for which in (0, 1) if n % 2 else (1, 0):  # neither always goes first
            triplets.teacher = teachers[which]
            start = time.process_time()
            trainers[which].update(trainers[which].batch(triplets, rows))
            seconds[n, which] = time.process_time() - start
    medians = np.median(seconds[2:], axis=0)
    quartiles = np.quantile(seconds[2:, 1] / seconds[2:, 0], [0.25, 0.75])
    return {
        "pairs_of_steps": PAIRS[shapes],
        **{f"{method}_seconds": round(float(s), 4) for method, s in zip(METHODS, medians, strict=True)},
        "ratio_of_medians": round(float(medians[1] / medians[0]), 3),
        "ratio_quartiles": [round(float(q), 3) for q in quartiles],
    }


def main(threads: int = 1) -> None:
    """Measure, print and write."""
    torch.set_num_threads(threads)
    result = {"device": throughput.device(), "threads": threads, "torch": torch.__version__}
    for shapes in PAIRS:
        result[shapes] = measure(shapes)
        print(shapes, result[shapes], flush=True)
    write_json(result, Path(__file__).parent / "results/distillation.json")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
