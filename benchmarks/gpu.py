"""Training steps at the papers' scale: mBERT (random weights), I3D-like features, batch 128. Meant for a GPU.

Steps of NRCCR and of the CL2CM student as params.yaml has them, on network `mbert`, with captions and videos of
throughput.py's lengths; random tokens, features and embeddings of the CL teacher. In the same run the published form
(`compat: nrccr`: padded, a pass for each stream) in fp32. Prints and writes for each: triplets per second, milliseconds
a step, the share of them in which the GPU computes (the profiler's kernel times), the most GPU memory that was held.
And what a step asks of the device (`step_counts.py`), on any machine: operator calls, and waits in ten steps.
Writes benchmarks/results/gpu_DEVICE.json. Some two minutes on a GPU.

    .venv/bin/python benchmarks/gpu.py [--steps N] [--batch N] [--counts]

`--counts`: no times, and a narrow network of the same layers, for machines without a GPU.
"""

import argparse
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distillation
import numpy as np
import throughput
import torch
from step_counts import Count, as_on_gpu
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig

from ccr import params
from ccr.artifacts.files import write_json
from ccr.networks.dual_encoder import DualEncoder
from ccr.train.batch import Batch
from ccr.train.loop import READ_EVERY, Trainer, ahead, numbers

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
VOCABULARY = 119_547  # mBERT's
PUBLISHED = {"norm": "batch_all_streams", "pooling": "padded_mean"}
FORMS: dict[str, tuple[str, dict[str, str]]] = {
    "published form, fp32": ("fp32", PUBLISHED),
    "fp32": ("fp32", {}),
    "bf16": ("bf16", {}),
}
NARROW = {"vocab_size": throughput.VOCABULARY, "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 64}
WARM_UP = 5


class Training:
    """A method's training at the papers' scale, and its batches."""

    def __init__(self, method: str, precision: str, form: dict[str, str], batches: int, batch: int, narrow: bool):
        plan = params.plan(params.load())
        network = plan.params.networks["mbert"].model_dump() | form
        settings = plan.job(distillation.RUN.format(method)).settings | {"precision": precision, "gradient_every": 0}
        tokens, store, self.triplets = throughput.data(batch * batches)
        if method == "cl2cm":
            self.triplets.streams = ["visual", "source", "target"]
            shape = len(self.triplets.items), network["dim"]
            drawn = (np.random.default_rng(n).standard_normal(shape, dtype=np.float32) for n in range(2))
            rows = (e / np.linalg.norm(e, axis=1, keepdims=True) for e in drawn)
            self.triplets.teacher = dict(zip(("source", "target"), rows, strict=True))
        torch.manual_seed(0)
        size = NARROW if narrow else {"vocab_size": VOCABULARY}
        config = BertConfig(attention_probs_dropout_prob=0.0, **size).to_dict()
        model = DualEncoder(network, config, store.dim, pretrained=False).to(DEVICE).train()
        self.trainer = Trainer(model, settings, tokens, store)
        self._order = np.arange(len(self.triplets.items)).reshape(-1, batch)

    def batches(self) -> Iterator[Batch]:
        """As a training gets them."""
        makers = (lambda rows=rows: self.trainer.batch(self.triplets, rows) for rows in self._order)
        return ahead(makers, DEVICE)


def counts(method: str) -> dict[str, float]:
    """Operator calls of a bf16 step as a GPU computes it, and waits in ten steps, the reading of losses included."""
    with as_on_gpu():
        training = Training(method, "bf16", {}, READ_EVERY + 1, 8, narrow=True)
        first, *batches = list(training.batches())
        numbers([training.trainer.update(first)])
        with Count() as count:
            found = [training.trainer.update(batch) for batch in batches]
            numbers(found)
    return {"calls": sum(count.calls.values()) / READ_EVERY, "waits": sum(count.waits.values())}


def measure(method: str, precision: str, form: dict[str, str], steps: int, batch: int) -> dict[str, float]:
    """Throughput of one training; the first steps are not counted."""
    training = Training(method, precision, form, WARM_UP + 2 * steps, batch, narrow=False)
    batches, trainer = training.batches(), training.trainer
    numbers([trainer.update(next(batches)) for _ in range(WARM_UP)])
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    numbers([trainer.update(next(batches)) for _ in range(steps)])
    seconds = (time.perf_counter() - start) / steps
    found = {"triplets_per_s": round(batch / seconds, 1), "ms_per_step": round(1000 * seconds, 1)}
    if DEVICE.type == "cuda":
        found["peak_memory_mb"] = torch.cuda.max_memory_allocated() >> 20
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            numbers([trainer.update(next(batches)) for _ in range(steps)])
        busy = sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6 / steps
        found["gpu_busy"] = round(busy / seconds, 2)
    return found


def main(steps: int, batch: int, only_counts: bool) -> None:
    """Measure, print and write."""
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else throughput.device()
    result: dict[str, Any] = {"device": name, "torch": torch.__version__, "batch": batch, "steps": steps}
    for method in ("nrccr", "cl2cm"):
        result[f"{method}, counts"] = counts(method)
        print(method, result[f"{method}, counts"], flush=True)
        if only_counts:
            continue
        for kind, (precision, form) in FORMS.items():
            result[f"{method}, {kind}"] = measure(method, precision, form, steps, batch)
            print(method, kind, result[f"{method}, {kind}"], flush=True)
        rates = {kind: result[f"{method}, {kind}"]["triplets_per_s"] for kind in FORMS}
        result[f"{method}, bf16 over published form"] = round(rates["bf16"] / rates["published form, fp32"], 2)
    file = f"results/gpu_{re.sub('[^a-z0-9]+', '_', name.lower())}.json"
    write_json(result, Path(__file__).parent / file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=throughput.BATCH)
    parser.add_argument("--counts", action="store_true")
    options = parser.parse_args()
    main(options.steps, options.batch, options.counts)
