"""Training throughput at the shapes at which the published NRCCR code was timed.

BERT 256 wide x 4 layers from scratch, common space of 1536, batch 128, three captions per triplet of up to 26/34/25
tokens, up to 20 frames of 1024; lengths are uniform from a quarter of the maximum, so that padding would be 38 % of the
tokens and 37 % of the frames, as it was there. Tokens and features are random, since only time is measured.

Every step is a full NRCCR step: cross-attention teacher, discriminator, six terms. Prints triplets/s of this project's
training and, in the same run, of the published form (`compat: nrccr`: every caption and video padded, a separate pass
for each stream), next to the published code's 45 on 2 cores, and the share of time per part. Writes
benchmarks/results/throughput.json.

    .venv/bin/python benchmarks/throughput.py [THREADS]
"""

import copy
import platform
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from ccr.artifacts.files import write_json
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.scratch import encoder_config
from ccr.networks.tokens import Tokens
from ccr.train.loop import Trainer

PUBLISHED = 45.0  # triplets/s of the published code on a 2-core CPU
LONGEST = {"source": 26, "target": 34, "back": 25}
FRAMES, DIM, BATCH, STEPS, VOCABULARY = 20, 1024, 128, 12, 8000
NETWORK = {
    "text": {
        "encoder": "scratch", "hidden": 256, "layers": 4, "heads": 4, "feedforward": 1024, "vocabulary": VOCABULARY,
        "max_tokens": 64, "dropout": 0.1, "frozen_layers": 0, "frozen_prefix": "computed", "prompt": "",
        "block": {"hidden": 768, "heads": 8, "keys": 512, "input_dropout": 0.1, "dropout": 0.1},
    },
    "visual": {
        "hidden": 1024, "layer_norm": True, "max_frames": 64, "input_dropout": 0.1, "dropout": 0.1,
        "block": {"heads": 8, "keys": 512},
    },
    "dim": 1536, "norm": "layer", "pooling": "masked_mean", "dropout": 0.2,
}  # fmt: skip
PUBLISHED_FORM = {"norm": "batch", "pooling": "padded_mean"}
TRIPLET = {"objective": "triplet", "margin": 0.2, "negatives": "hardest", "scale": "mean", "mask_same_item": True}
SETTINGS = {
    "lr": 1e-4, "weight_decay": 0.0, "batch": BATCH, "epochs": 1, "warmup": 0.0, "clip_norm": 2.0, "patience": 1,
    "word_dropout": 0.0, "encoder_lr": None, "precision": "fp32", "slices": 1, "seed": 0,
    "objectives": {
        "vs": TRIPLET | {"weight": 1.0, "pair": ["visual", "source"]},
        "vt": TRIPLET | {"weight": 0.6, "pair": ["visual", "target"]},
        "soft_similarity": {
            "objective": "soft_similarity", "weight": 0.4, "pair": ["visual", "target"], "tau": 0.07,
            "cut_visual": True, "cut_teacher": True,
        },
        "feature_regression": {
            "objective": "feature_regression", "weight": 0.1, "pair": ["source", "target"], "beta": 4.0,
            "reduction": "sum", "cut_teacher": True,
        },
        "back_translation": TRIPLET | {"weight": 0.5, "pair": ["source", "back"]},
        "adversarial": {
            "objective": "adversarial", "weight": 0.001, "pair": ["source", "target"], "discriminator": "mlp",
            "lr": 1e-3,
        },
    },
}  # fmt: skip


class RandomTokens(Tokens):
    """Texts of random ids."""

    def __init__(self, length: np.ndarray, rng: np.random.Generator):
        self.length, self.start, self.mask, self.pad = length, np.cumsum(length) - length, None, 0
        self.ids = rng.integers(5, VOCABULARY, int(length.sum()))


class RandomStore:
    """Stands in for `FeatureStore`: items of random features."""

    def __init__(self, frames: np.ndarray, dim: int, rng: np.random.Generator):
        self.dim, self.frames, self.start = dim, frames, np.cumsum(frames) - frames
        self.array = rng.standard_normal((int(frames.sum()), dim), dtype=np.float32).astype(np.float16)

    def rows(self, items: np.ndarray, _max_frames: int) -> tuple[np.ndarray, np.ndarray]:
        taken = [np.arange(self.start[i], self.start[i] + self.frames[i]) for i in items]
        return self.array[np.concatenate(taken)], self.frames[items]


def data(number: int = BATCH * STEPS) -> tuple[RandomTokens, RandomStore, SimpleNamespace]:
    """Tokens, features and `number` triplets."""
    rng = np.random.default_rng(0)

    def lengths(longest: int) -> np.ndarray:
        return rng.integers(longest // 4, longest + 1, number)

    tokens = RandomTokens(np.concatenate([lengths(longest) for longest in LONGEST.values()]), rng)
    store = RandomStore(lengths(FRAMES), DIM, rng)
    rows = {stream: n * number + np.arange(number) for n, stream in enumerate(LONGEST)}
    items = np.arange(number)
    streams = ["visual", *LONGEST]
    triplets = SimpleNamespace(streams=streams, rows=rows, items=items, features=items, teacher={}, weights=None)
    return tokens, store, triplets


def timed(clock: Counter, part: str, function: Callable) -> Callable:
    """The function, wrapped to add its time to a part."""

    def wrapper(*arguments, **options):
        start = time.perf_counter()
        result = function(*arguments, **options)
        clock[part] += time.perf_counter() - start
        return result

    return wrapper


def measure(precision: str, form: dict[str, str]) -> tuple[float, dict[str, float]]:
    """Triplets/s and the share of time per part; `form` changes the network's settings."""
    torch.manual_seed(0)
    tokens, store, triplets = data()
    network = DualEncoder(NETWORK | form, encoder_config(NETWORK["text"], VOCABULARY), DIM, pretrained=True).train()
    trainer = Trainer(network, copy.deepcopy(SETTINGS) | {"precision": precision}, tokens, store)
    clock: Counter = Counter()
    tokens.batch = timed(clock, "token batches", tokens.batch)
    store.rows = timed(clock, "feature batches", store.rows)
    network.encode_text = timed(clock, "text forward", network.encode_text)
    network.pool_cross = timed(clock, "teacher forward", network.pool_cross)
    network.pool_visual = timed(clock, "visual forward", network.pool_visual)
    trainer._losses = {name: timed(clock, "objectives", loss) for name, loss in trainer._losses.items()}
    trainer._optimizer.step = timed(clock, "optimiser", trainer._optimizer.step)
    original = torch.Tensor.backward
    torch.Tensor.backward = timed(clock, "backward", original)
    order = np.arange(BATCH * STEPS).reshape(STEPS, BATCH)
    try:
        for batch in order[:2]:
            trainer.update(trainer.batch(triplets, batch))
        clock.clear()
        start = time.perf_counter()
        for batch in order[2:]:
            trainer.update(trainer.batch(triplets, batch))
        seconds = time.perf_counter() - start
    finally:
        torch.Tensor.backward = original
    shares = {part: round(100 * value / seconds, 1) for part, value in clock.most_common()}
    shares["rest"] = round(100 - sum(shares.values()), 1)
    return BATCH * (STEPS - 2) / seconds, shares


def device() -> str:
    """The processor's name, if Linux reports it; otherwise the machine's architecture."""
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return names[0] if names else platform.machine()


def main(threads: int = 2) -> None:
    """Measure, print and write."""
    torch.set_num_threads(threads)
    result = {"device": device(), "threads": threads, "torch": torch.__version__}
    for precision in ("fp32", "bf16"):
        padded, _ = measure(precision, PUBLISHED_FORM)
        ours, shares = measure(precision, {})
        result[precision] = {
            "triplets_per_s": round(ours, 1),
            "published_form_triplets_per_s": round(padded, 1),
            "ratio_to_published_form": round(ours / padded, 2),
            "ratio_to_published_45": round(ours / PUBLISHED, 2),
            "percent_of_time": shares,
        }
        print(precision, result[precision], flush=True)
    write_json(result, Path(__file__).parent / "results/throughput.json")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
