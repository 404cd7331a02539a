"""Training throughput at the shapes at which the published NRCCR code was timed.

BERT 256 wide x 4 layers from scratch, common space of 1536, batch 128, three captions a triplet of up to 26/34/25
tokens, up to 20 frames of 1024; lengths uniform from a quarter of the maximum, so that padding would be the 38 % of
the tokens and 37 % of the frames that it was there. Random tokens and features: only the time is looked at.

Prints triplets/s as it is trained here and, in the same run, with every caption and video padded to its stream's
maximum in passes of their own (the naive way), next to the published code's 45 on 2 cores; and the share of time per
part. The published step also has a cross-attention teacher and a discriminator, ours here has three contrastive terms:
the ratio to it says how far one is, not how much faster the same work is done. Writes
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

from ccr.artifacts import write_json
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.text import encoder_config
from ccr.train.loop import Trainer

PUBLISHED = 45.0  # triplets/s of the published code, 2-core CPU
LONGEST = {"source": 26, "target": 34, "back": 25}
FRAMES, DIM, BATCH, STEPS, VOCABULARY = 20, 1024, 128, 12, 8000
NETWORK = {
    "text": {
        "encoder": "scratch", "hidden": 256, "layers": 4, "heads": 4, "feedforward": 1024, "vocabulary": VOCABULARY,
        "max_tokens": 64, "dropout": 0.1, "frozen_layers": 0,
    },
    "visual": {
        "hidden": 1024, "block": True, "heads": 8, "max_frames": 64, "input_dropout": 0.0, "dropout": 0.1,
    },
    "dim": 1536, "norm": "layer", "dropout": 0.2,
}  # fmt: skip
INFONCE = {"objective": "infonce", "weight": 1.0, "tau": None, "mask_same_item": True}
SETTINGS = {
    "lr": 1e-4, "weight_decay": 0.01, "batch": BATCH, "epochs": 1, "warmup": 0.1, "clip_norm": 2.0, "patience": 1,
    "word_dropout": 0.0, "precision": "fp32", "seed": 0,
    "objectives": {
        "vs": INFONCE | {"pair": ["visual", "source"]},
        "vt": INFONCE | {"pair": ["visual", "target"]},
        "back_translation": INFONCE | {"pair": ["source", "back"]},
    },
}  # fmt: skip


class RandomTokens:
    """Stands for `Tokens`: texts of random ids."""

    def __init__(self, length: np.ndarray, rng: np.random.Generator):
        from ccr.networks.tokens import Tokens

        self.length, self.start, self.mask = length, np.cumsum(length) - length, None
        self.ids = rng.integers(5, VOCABULARY, int(length.sum()))
        self.batch = Tokens.batch.__get__(self)


class RandomStore:
    """Stands for `FeatureStore`: items of random features."""

    dim = DIM

    def __init__(self, frames: np.ndarray, rng: np.random.Generator):
        self.frames, self.start = frames, np.cumsum(frames) - frames
        self.array = rng.standard_normal((int(frames.sum()), DIM), dtype=np.float32).astype(np.float16)

    def rows(self, items: np.ndarray, _max_frames: int) -> tuple[np.ndarray, np.ndarray]:
        taken = [np.arange(self.start[i], self.start[i] + self.frames[i]) for i in items]
        return self.array[np.concatenate(taken)], self.frames[items]


def data(padded: bool) -> tuple[RandomTokens, RandomStore, SimpleNamespace]:
    """Tokens, features and triplets; `padded`: every length is its stream's maximum."""
    rng = np.random.default_rng(0)
    number = BATCH * STEPS

    def lengths(longest: int) -> np.ndarray:
        drawn = rng.integers(longest // 4, longest + 1, number)
        return np.full(number, longest) if padded else drawn

    tokens = RandomTokens(np.concatenate([lengths(longest) for longest in LONGEST.values()]), rng)
    store = RandomStore(lengths(FRAMES), rng)
    rows = {stream: n * number + np.arange(number) for n, stream in enumerate(LONGEST)}
    items = np.arange(number)
    triplets = SimpleNamespace(streams=["visual", *LONGEST], rows=rows, items=items, features=items, teacher={})
    return tokens, store, triplets


def timed(clock: Counter, part: str, function: Callable) -> Callable:
    """The function, its time added to a part."""

    def wrapper(*arguments, **options):
        start = time.perf_counter()
        result = function(*arguments, **options)
        clock[part] += time.perf_counter() - start
        return result

    return wrapper


def one_pass_each(network: DualEncoder) -> None:
    """The naive way: every text stream goes through the encoder by itself."""
    together = network.embed_text

    def apart(tokens, ragged):
        from ccr.networks.ragged import Ragged

        lengths = ragged.lengths.split(BATCH)
        parts = tokens.split([int(part.sum()) for part in lengths])
        done = [together(t, Ragged(n)) for t, n in zip(parts, lengths, strict=True)]
        return tuple(torch.cat(x) for x in zip(*done, strict=True))

    network.embed_text = apart


def measure(precision: str, naive: bool) -> tuple[float, dict[str, float]]:
    """Triplets/s and the share of time per part."""
    torch.manual_seed(0)
    tokens, store, triplets = data(padded=naive)
    network = DualEncoder(NETWORK, encoder_config(NETWORK["text"], VOCABULARY), DIM, pretrained=True).train()
    trainer = Trainer(network, copy.deepcopy(SETTINGS) | {"precision": precision}, tokens, store)
    if naive:
        one_pass_each(network)
    clock: Counter = Counter()
    tokens.batch = timed(clock, "token batches", tokens.batch)
    store.rows = timed(clock, "feature batches", store.rows)
    network.embed_text = timed(clock, "text forward", network.embed_text)
    network.embed_visual = timed(clock, "visual forward", network.embed_visual)
    trainer._losses = {name: timed(clock, "objectives", loss) for name, loss in trainer._losses.items()}
    trainer._optimizer.step = timed(clock, "optimiser", trainer._optimizer.step)
    original = torch.Tensor.backward
    torch.Tensor.backward = timed(clock, "backward", original)
    order = np.arange(BATCH * STEPS).reshape(STEPS, BATCH)
    try:
        for batch in order[:2]:
            trainer._step(triplets, batch, "")
        clock.clear()
        start = time.perf_counter()
        for batch in order[2:]:
            trainer._step(triplets, batch, "")
        seconds = time.perf_counter() - start
    finally:
        torch.Tensor.backward = original
    shares = {part: round(100 * value / seconds, 1) for part, value in clock.most_common()}
    shares["rest"] = round(100 - sum(shares.values()), 1)
    return BATCH * (STEPS - 2) / seconds, shares


def device() -> str:
    """The processor's name, where Linux tells it."""
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return names[0] if names else platform.machine()


def main(threads: int = 2) -> None:
    """Measure, print and write."""
    torch.set_num_threads(threads)
    result = {"device": device(), "threads": threads, "torch": torch.__version__}
    for precision in ("fp32", "bf16"):
        naive, _ = measure(precision, naive=True)
        ours, shares = measure(precision, naive=False)
        result[precision] = {
            "triplets_per_s": round(ours, 1),
            "naive_triplets_per_s": round(naive, 1),
            "ratio_to_naive": round(ours / naive, 2),
            "ratio_to_published_45": round(ours / PUBLISHED, 2),
            "percent_of_time": shares,
        }
        print(precision, result[precision], flush=True)
    write_json(result, Path(__file__).parent / "results/throughput.json")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
