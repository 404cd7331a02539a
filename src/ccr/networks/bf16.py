"""Whether bf16 pays off on this machine's CPU. Does not import torch, because `ccr doctor` uses it too."""

import re
from contextlib import suppress
from pathlib import Path


def cpu_has_bf16() -> bool:
    """Whether the CPU has instructions for bf16 (Linux, x86 or ARM). Without them, bf16 is slower than float32."""
    with suppress(OSError):
        return bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", Path("/proc/cpuinfo").read_text()))
    return False
