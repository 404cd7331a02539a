"""A step on cached states of the frozen layers against one that computes them, and the memory of a large store.

Step: a pass and its gradients, in interleaved rounds, through a text encoder of multilingual-e5-small's shape (12
layers, 384 wide) with random weights, with 256 pairs of captions of 12 to 26 tokens. Store: random states of the given
number of gigabytes, from which random batches are gathered; memory is that of the process, excluding mapped files.
Prints, and writes benchmarks/results/frozen_prefix.json.

    .venv/bin/python benchmarks/frozen_prefix.py [--gigabytes 1]
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel

from ccr.artifacts.files import write_json
from ccr.networks import pretrained
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.ragged import Ragged
from ccr.store.states import PART_BYTES, StateStore

PAIRS, VOCABULARY, WIDTH = 256, 30_000, 384
SHAPE = {"num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 1536}
BLOCK = {"hidden": WIDTH, "heads": 6, "keys": WIDTH, "input_dropout": 0.1, "dropout": 0.1}
VISUAL = {"max_frames": 1}


def network(folder: str, frozen: int | str) -> DualEncoder:
    """A text-only network with a frozen prefix."""
    text = {"encoder": folder, "max_tokens": 64, "frozen_layers": frozen, "frozen_prefix": "cached", "block": BLOCK}
    settings = {"text": text, "visual": VISUAL, "dim": 512, "norm": "batch", "pooling": "masked_mean", "dropout": 0.1}
    return DualEncoder(settings, pretrained.encoder_config(text, 0), None, pretrained=True).train()


def step(model: DualEncoder, tokens: torch.Tensor, shape: Ragged) -> float:
    """Seconds of a pass and its gradients."""
    start = time.perf_counter()
    model.embed_text(tokens, shape).sum().backward()
    if tokens.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def steps(folder: str, frozen: int | str, rounds: int = 5) -> dict[str, float]:
    """Medians of interleaved rounds, and their ratio."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, generator = network(folder, frozen).to(device), np.random.default_rng(0)
    seconds: dict[str, list[float]] = {"computed": [], "cached": []}
    for _ in range(rounds + 1):
        lengths = np.sort(generator.integers(12, 27, 2 * PAIRS))[::-1].copy()
        shape = Ragged(torch.from_numpy(lengths), device)
        ids = torch.randint(5, VOCABULARY, (int(lengths.sum()),), device=device)
        states = model.text.prefix(ids, shape).half()
        seconds["computed"].append(step(model, ids, shape))
        seconds["cached"].append(step(model, states.float(), shape))
    medians = {kind: statistics.median(values[1:]) for kind, values in seconds.items()}  # the first one warms up
    return {**{k: round(v, 4) for k, v in medians.items()}, "ratio": round(medians["computed"] / medians["cached"], 1)}


def held() -> float:
    """Megabytes of memory, excluding mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def store(gigabytes: float) -> dict[str, float]:
    """Memory used to open a store of random states and gather batches from it, and texts gathered per second."""
    generator, length = np.random.default_rng(0), 25
    texts = int(gigabytes * 1e9 / (2 * WIDTH * length))
    each = PART_BYTES // (2 * WIDTH * length)
    with tempfile.TemporaryDirectory(dir="work") as root:
        writer = StateStore("random", WIDTH, root)
        keys = [number.to_bytes(16, "big") for number in range(texts)]
        for start in range(0, texts, each):
            some = keys[start : start + each]
            states = (generator.standard_normal((length, WIDTH), dtype=np.float32) for _ in some)
            writer.add(some, np.full(len(some), length), states)
        del writer
        before = held()
        opened = StateStore("random", WIDTH, root)
        parts, starts = opened.places(keys)
        index, begin = held() - before, time.perf_counter()
        for _ in range(20):
            rows = generator.integers(0, texts, 2 * PAIRS)
            opened.gather(parts[rows], starts[rows], np.full(len(rows), length))
        seconds = time.perf_counter() - begin
        return {
            "gigabytes": gigabytes, "texts": texts, "megabytes_held": round(held() - before, 1),
            "of_which_index": round(index, 1), "texts_per_second": round(20 * 2 * PAIRS / seconds),
        }  # fmt: skip


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=1.0)
    options = parser.parse_args()
    torch.manual_seed(0)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    found = {"device": device, "cores": len(os.sched_getaffinity(0)), "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as folder:
        BertModel(BertConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, **SHAPE)).save_pretrained(folder)
        for frozen in (6, 10, "all"):
            found[f"frozen_{frozen}"] = steps(folder, frozen)
            print(frozen, found[f"frozen_{frozen}"], flush=True)
    os.makedirs("work", exist_ok=True)
    found["store"] = store(options.gigabytes)
    print(found["store"])
    write_json(found, "benchmarks/results/frozen_prefix.json")


if __name__ == "__main__":
    main()
