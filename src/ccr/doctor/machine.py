"""Cores, memory, GPUs, and external programs."""

import os
import platform
import shutil
import subprocess
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from ccr.doctor.section import Section
from ccr.networks.bf16 import cpu_has_bf16

CGROUP = Path("/sys/fs/cgroup")  # limits of a container or a cluster job
LEAST_MEMORY = 2.0  # GB: two jobs of the mini-world at a time
PROGRAMS = {
    "make": "--version", "git": "--version", "cc": "--version", "c++": "--version", "nvcc": "--version",
    "sbatch": "--version", "squeue": "--version",
}  # fmt: skip


def machine() -> Section:
    """Cores and memory, with a container's limits."""
    memory = _memory()
    found = Section("machine", {"system": f"{platform.system()} {platform.release()} {platform.machine()}"})
    found.facts |= {"cores": len(os.sched_getaffinity(0)), "cores_limit": _cores_limit(), **memory}
    found.facts["bf16_cpu"] = cpu_has_bf16()
    if "OMP_NUM_THREADS" in os.environ:
        found.facts["OMP_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
    if memory and memory["memory_free_gb"] < LEAST_MEMORY:
        found.wrong.append(
            f"memory: {memory['memory_free_gb']} GB are free; two jobs at a time take {LEAST_MEMORY} GB. End other "
            "programs, or run one job at a time: make CORES=1."
        )
    return found


def _memory() -> dict[str, float]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    size = {name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":") for line in lines)}
    total, free = size["MemTotal"], size["MemAvailable"]
    with suppress(OSError, ValueError):  # no limit, or "max"
        limit = int((CGROUP / "memory.max").read_text())
        total, free = min(total, limit), min(free, limit - int((CGROUP / "memory.current").read_text()))
    return {"memory_gb": round(total / 1e9, 1), "memory_free_gb": round(free / 1e9, 1)}


def _cores_limit() -> str:
    with suppress(OSError, ValueError):
        quota, period = map(int, (CGROUP / "cpu.max").read_text().split())
        return f"{quota / period:g}"
    return "none"


def has_bf16() -> bool:
    """Whether the CPU has bf16 instructions, or there is a GPU (all that torch still supports have them)."""
    return cpu_has_bf16() or any(Path("/dev").glob("nvidia[0-9]*"))


def gpus() -> Section:
    """GPUs and their driver; torch is imported only if there are any, to see whether it can use them."""
    found = Section("gpus")
    lines = _said("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    found.facts["nvidia-smi"] = lines
    if lines or any(Path("/dev").glob("nvidia[0-9]*")):
        torch = import_module("torch")
        usable = torch.cuda.is_available()
        found.facts |= {"torch_cuda": str(torch.version.cuda), "usable": usable}
        found.facts["bf16_gpu"] = usable and torch.cuda.is_bf16_supported()
        if not usable:
            found.wrong.append(
                f"gpus: there is a GPU, but torch {torch.__version__} cannot use it. Install a torch for CUDA, and a "
                "driver that is new enough for it."
            )
    return found


def programs() -> Section:
    """Make, git, compilers, SLURM: the version that each reports, or `no`."""
    found = Section("programs")
    for program, question in PROGRAMS.items():
        found.facts[program] = next(iter(_said(program, question)), "no")
    profile = os.environ.get("SNAKEMAKE_PROFILE", "")
    if profile:
        found.facts["SNAKEMAKE_PROFILE"] = profile
    if "slurm" in profile and found.facts["sbatch"] == "no":
        found.wrong.append("programs: SNAKEMAKE_PROFILE names a profile for SLURM, but there is no sbatch here.")
    return found


def _said(*command: str) -> list[str]:
    """Lines that a program prints; none if it is missing or fails."""
    if not shutil.which(command[0]):
        return []
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
