"""Training throughput at the papers' scale: mBERT (random weights), I3D-like features, batch 128. Meant for a GPU.

Steps of NRCCR and of the CL2CM student as params.yaml has them, on network `mbert`, with captions and videos of
throughput.py's lengths: in fp32 and bf16, as they are and with `torch.compile` of the encoders. Random tokens, features
and embeddings of the CL teacher. Prints and writes, for each: triplets and real tokens per second, floating-point
operations per second and their share of what a bare matrix product reaches here in the same precision, and the most
GPU memory that was held. Writes benchmarks/results/paper_scale_DEVICE.json. Smaller batches only try the script out.

    .venv/bin/python benchmarks/paper_scale.py [--steps N] [--batch N]
"""

import argparse
import re
import time
from pathlib import Path
from typing import Any

import distillation
import numpy as np
import throughput
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig

from ccr import params
from ccr.artifacts.files import write_json
from ccr.networks.dual_encoder import DualEncoder
from ccr.train.loop import Trainer

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
METHODS = ("nrccr", "cl2cm")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
VOCABULARY = 119_547  # mBERT's
WARM_UP = 3


def wait() -> None:
    """Until the GPU has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def product_flops(dtype: torch.dtype) -> float:
    """Operations per second of a square matrix product, the best of five."""
    side = 8192 if DEVICE.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=DEVICE, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(5):
        wait()
        start = time.perf_counter()
        left @ right
        wait()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)


def measure(method: str, precision: str, compiled: bool, steps: int, batch: int) -> dict[str, float]:
    """Throughput of one training; the first steps are not counted."""
    plan = params.plan(params.load())
    network_settings = plan.params.networks["mbert"].model_dump()
    settings = plan.job(distillation.RUN.format(method)).settings | {"precision": precision, "gradient_every": 0}
    tokens, store, triplets = throughput.data(batch * (WARM_UP + steps + 1))
    if method == "cl2cm":
        triplets.streams = ["visual", "source", "target"]
        shape = len(triplets.items), network_settings["dim"]
        embeddings = (np.random.default_rng(n).standard_normal(shape, dtype=np.float32) for n in range(2))
        rows = (e / np.linalg.norm(e, axis=1, keepdims=True) for e in embeddings)
        triplets.teacher = dict(zip(("source", "target"), rows, strict=True))
    torch.manual_seed(0)
    config = BertConfig(vocab_size=VOCABULARY, attention_probs_dropout_prob=0.0).to_dict()
    network = DualEncoder(network_settings, config, store.dim, pretrained=False).to(DEVICE).train()
    if compiled:
        for part in (network.text.model, network.text_layers, network.visual):
            part.compile(dynamic=True)
    trainer = Trainer(network, settings, tokens, store)
    batches = iter(np.arange(len(triplets.items)).reshape(-1, batch))
    for _ in range(WARM_UP):
        trainer.update(trainer.batch(triplets, next(batches)))
    wait()
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start, n_tokens = time.perf_counter(), 0
    for _ in range(steps):
        rows = next(batches)
        trainer.update(trainer.batch(triplets, rows))
        n_tokens += sum(tokens.length[triplets.rows[stream][rows]].sum() for stream in triplets.streams[1:])
    wait()
    seconds = time.perf_counter() - start
    found = {
        "triplets_per_s": round(steps * batch / seconds, 1),
        "tokens_per_s": round(float(n_tokens) / seconds),
        "seconds_per_step": round(seconds / steps, 4),
    }
    if DEVICE.type == "cuda":
        found["peak_memory_mb"] = torch.cuda.max_memory_allocated() >> 20
    if not compiled:  # what is compiled cannot be counted, and does the same
        with FlopCounterMode(display=False) as counter:
            trainer.update(trainer.batch(triplets, next(batches)))
        found["tflop_per_step"] = round(counter.get_total_flops() / 1e12, 3)
    return found


def main(steps: int, batch: int) -> None:
    """Measure, print and write."""
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else throughput.device()
    result: dict[str, Any] = {"device": name, "torch": torch.__version__, "batch": batch, "steps": steps}
    peaks = {precision: product_flops(dtype) for precision, dtype in PRECISIONS.items()}
    result["product_tflop_per_s"] = {precision: round(peak / 1e12, 2) for precision, peak in peaks.items()}
    for method in METHODS:
        for precision, peak in peaks.items():
            plain = measure(method, precision, False, steps, batch)
            compiled = measure(method, precision, True, steps, batch)
            for found in (plain, compiled):
                speed = 1e12 * plain["tflop_per_step"] / found["seconds_per_step"]
                found |= {"tflop_per_s": round(speed / 1e12, 2), "share_of_product": round(speed / peak, 3)}
            result[f"{method}, {precision}"], result[f"{method}, {precision}, compiled"] = plain, compiled
            print(method, precision, plain, "compiled:", compiled, flush=True)
        rates = {p: result[f"{method}, {p}"]["triplets_per_s"] for p in PRECISIONS}
        result[f"{method}, bf16 over fp32"] = round(rates["bf16"] / rates["fp32"], 2)
    file = f"results/paper_scale_{re.sub('[^a-z0-9]+', '_', name.lower())}.json"
    write_json(result, Path(__file__).parent / file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=throughput.BATCH)
    options = parser.parse_args()
    main(options.steps, options.batch)
