"""Training steps at the papers' scale: mBERT (random weights), I3D-like features, batch 128. Meant for a GPU.

Steps of NRCCR and of the CL2CM student with the settings of params.yaml, on network `mbert`, with captions and videos
of throughput.py's lengths; tokens, features and embeddings of the CL teacher are random. In the same run, the published
form (`compat: nrccr`: padded, a pass for each stream) in fp32. Prints and writes for each: triplets per second,
milliseconds per step, the share of that time in which the GPU computes (the profiler's kernel times), and peak GPU
memory. Also the cost of deterministic kernels, the savings of slices, how far embeddings in bf16 are from those in
fp32, the time of exact ranks relative to that of the bare product, and photos per second of feature extraction.
On any machine, the demands of a step on the device (`step_counts.py`): operator calls, and waits in ten steps.
Writes benchmarks/results/gpu_DEVICE.json. Takes about four minutes on a GPU.

    .venv/bin/python benchmarks/gpu.py [--steps N] [--batch N] [--counts]

`--counts`: only the counts, which are those of a narrow network of the same layers; for machines without a GPU.
"""

import argparse
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import distillation
import extraction as photo_features
import numpy as np
import throughput
import torch
from big_gallery import product, unit
from PIL import Image
from step_counts import Count, as_on_gpu
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig

from ccr import params
from ccr.artifacts.files import write_json
from ccr.features import network
from ccr.networks.dual_encoder import DualEncoder
from ccr.retrieval.ranks import rank
from ccr.train.batch import Batch
from ccr.train.loop import READ_EVERY, Trainer, ahead, numbers

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
VOCABULARY = 119_547  # mBERT's
PUBLISHED = {"norm": "batch_all_streams", "pooling": "padded_mean"}
FORMS: dict[str, dict[str, Any]] = {
    "published form, fp32": {"precision": "fp32", "form": PUBLISHED},
    "fp32": {"precision": "fp32"},
    "tf32": {"precision": "tf32"},
    "bf16": {"precision": "bf16"},
    "bf16, any kernels": {"precision": "bf16", "deterministic": False},
    "bf16, 8 slices": {"precision": "bf16", "slices": 8},
}
QUERIES, ITEMS, DIM = 10_000, 200_000, 256  # for the ranks
PHOTOS = 2_000
NARROW = {"vocab_size": throughput.VOCABULARY, "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 64}
WARM_UP = 5
NO_FORM: dict[str, str] = {}


class Training:
    """A method's training at the papers' scale, and its batches."""

    def __init__(
        self, method: str, batches: int, batch: int, narrow: bool, precision: str, form: dict = NO_FORM, slices: int = 1
    ):
        plan = params.plan(params.load())
        network = plan.params.networks["mbert"].model_dump() | form
        settings = plan.job(distillation.RUN.format(method)).settings | {"precision": precision, "slices": slices}
        settings |= {"gradient_every": 0}
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
        """The batches as training gets them."""
        makers = (lambda rows=rows: self.trainer.batch(self.triplets, rows) for rows in self._order)
        return ahead(makers, DEVICE)


def counts(method: str) -> dict[str, float]:
    """Operator calls of a bf16 step as on a GPU, and waits in ten steps, including the reading of losses."""
    with as_on_gpu():
        training = Training(method, READ_EVERY + 1, 8, narrow=True, precision="bf16")
        first, *batches = list(training.batches())
        numbers([training.trainer.update(first)])
        with Count() as count:
            found = [training.trainer.update(batch) for batch in batches]
            numbers(found)
    return {"calls": sum(count.calls.values()) / READ_EVERY, "waits": sum(count.waits.values())}


def measure(
    method: str, steps: int, batch: int, narrow: bool = False, deterministic: bool = True, **kind: Any
) -> dict[str, float]:
    """Throughput of one training run; the first steps are not counted."""
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    training = Training(method, WARM_UP + 2 * steps, batch, narrow, **kind)
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


def distance(method: str, batch: int, narrow: bool = False) -> dict[str, float]:
    """Distance (1 - cosine) of unit embeddings in bf16 from those in fp32, of the same untrained network."""
    found = {}
    for precision in ("fp32", "bf16"):
        training = Training(method, 1, batch, narrow, precision)
        training.trainer.network.eval()  # no dropout
        [first] = training.batches()
        with torch.no_grad(), training.trainer._precision():
            found[precision] = training.trainer.forward(first)[0].embeddings
    gaps = [1 - (found["fp32"][stream] * found["bf16"][stream]).sum(1) for stream in found["fp32"]]
    gap = torch.cat(gaps).abs()
    return {"mean": round(gap.mean().item(), 6), "largest": round(gap.max().item(), 6)}


def ranks(queries: int = QUERIES, items: int = ITEMS) -> dict[str, float]:
    """Seconds of exact ranks and of the bare float32 product in the same tiles, best of three."""
    generator = np.random.default_rng(0)
    rows = [unit(generator.standard_normal((number, DIM), dtype=np.float32)) for number in (queries, items)]
    wanted, every = generator.integers(0, items, queries), np.arange(items)
    best = dict.fromkeys(("product", "ranks"), float("inf"))
    for _ in range(3):
        for name, run in (("product", lambda: product(*rows)), ("ranks", lambda: rank(*rows, wanted, every))):
            start = time.perf_counter()
            run()
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            best[name] = min(best[name], time.perf_counter() - start)
    return {f"{name}_s": round(value, 3) for name, value in best.items()} | {
        "ratio": round(best["ranks"] / best["product"], 2)
    }


def extraction(photos: int = PHOTOS) -> dict[str, float]:
    """Photos per second through a CLIP tower in bf16, and the share of the time in which the GPU computes."""
    generator = np.random.default_rng(0)
    network.Network = photo_features.Timed
    with TemporaryDirectory() as name:
        folder = Path(name)
        photo_features.make_model(folder)
        blurred = [Image.fromarray(generator.integers(0, 256, (24, 32, 3), np.uint8)) for _ in range(50)]
        for number, image in enumerate(blurred):
            image.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
        files = sorted(folder.glob("*.jpg")) * (photos // len(blurred))
        rate, share, _ = photo_features.extraction(folder, files, "bf16", len(os.sched_getaffinity(0)), 128)
    return {"photos_per_s": round(rate, 1), "gpu_busy": round(share, 2)}


def main(steps: int, batch: int, only_counts: bool) -> None:
    """Measure, print and write."""
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else throughput.device()
    result: dict[str, Any] = {"device": name, "torch": torch.__version__, "batch": batch, "steps": steps}
    for method in ("nrccr", "cl2cm"):
        result[f"{method}, counts"] = counts(method)
        print(method, result[f"{method}, counts"], flush=True)
        if only_counts:
            continue
        for kind, options in FORMS.items():
            result[f"{method}, {kind}"] = measure(method, steps, batch, **options)
            print(method, kind, result[f"{method}, {kind}"], flush=True)
        rates = {kind: result[f"{method}, {kind}"]["triplets_per_s"] for kind in FORMS}
        result[f"{method}, bf16 over published form"] = round(rates["bf16"] / rates["published form, fp32"], 2)
        result[f"{method}, bf16 from fp32"] = distance(method, batch)
    if not only_counts:
        result["ranks"], result["extraction"] = ranks(), extraction()
        print(result["ranks"], result["extraction"])
    file = f"results/gpu_{re.sub('[^a-z0-9]+', '_', name.lower())}.json"
    write_json(result, Path(__file__).parent / file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=throughput.BATCH)
    parser.add_argument("--counts", action="store_true")
    options = parser.parse_args()
    main(options.steps, options.batch, options.counts)
