"""Attention over short captions on a CPU: forward and backward, torch's fused kernel against the explicit form.

Prints the milliseconds of each and their ratio, and writes them to benchmarks/results/attention.json.

    .venv/bin/python benchmarks/attention.py
"""

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ccr.artifacts.files import write_json

CAPTIONS, HEADS, WIDTH = 64, 6, 64
LENGTHS = (12, 24, 64)


def written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = (query @ key.transpose(-1, -2) * WIDTH**-0.5).masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ value


def milliseconds(attend: Callable[..., Tensor], parts: list[Tensor], mask: Tensor) -> float:
    """Median of 20 forward and backward passes."""
    times = []
    for _ in range(22):
        start = time.perf_counter()
        attend(*parts, mask).sum().backward()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def main() -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = {
        "machine": platform.processor() or platform.machine(),
        "captions": CAPTIONS,
        "heads": HEADS,
        "width": WIDTH,
    }
    for precision in (torch.float32, torch.bfloat16):
        for length in LENGTHS:
            shape = (CAPTIONS, HEADS, length, WIDTH)
            parts = [torch.randn(shape, dtype=precision, requires_grad=True) for _ in range(3)]
            mask = (torch.arange(length) < torch.randint(length // 2, length + 1, (CAPTIONS, 1)))[:, None, None, :]
            fused = milliseconds(functional.scaled_dot_product_attention, parts, mask)
            plain = milliseconds(written_out, parts, mask)
            name = f"{str(precision).removeprefix('torch.')}, {length} tokens"
            found[name] = {
                "fused_ms": round(fused, 2),
                "written_out_ms": round(plain, 2),
                "ratio": round(fused / plain, 2),
            }
            print(name, found[name])
    write_json(found, Path(__file__).parent / "results/attention.json")


if __name__ == "__main__":
    main()
