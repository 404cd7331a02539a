"""Seconds that Snakemake and SLURM add to a job, on the one-node SLURM of the tests.

The same jobs, which only sleep, run with both profiles of the project on four CPUs: many at once, submitted one by one
and as an array, and one after another. The overhead is the time minus the sleep, divided by the number of jobs; that of
a chain is the cost of a level of the pipeline. Both include the start of Snakemake itself. Starts the cluster and
leaves it running (to stop it: tests/slurm/cluster.sh down). Prints and writes benchmarks/results/slurm_overhead.json.

    .venv/bin/python benchmarks/slurm_overhead.py [JOBS]
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import throughput

from ccr.artifacts.files import write_json

REPOSITORY = Path(__file__).parents[1].resolve()
CPUS, SLEEP, LEVELS = 4, 1, 4
# the profile submits `student` jobs as arrays, `single` jobs not
SNAKEFILE = f"""
rule single:
    output: "single/{{number}}"
    resources: mem_mb=500, runtime=5
    shell: "sleep {SLEEP}; touch {{output}}"

rule student:
    output: "student/{{number}}"
    resources: mem_mb=500, runtime=5
    shell: "sleep {SLEEP}; touch {{output}}"

rule chain:
    input: lambda wildcards: [] if wildcards.number == "0" else f"chain/{{int(wildcards.number) - 1}}"
    output: "chain/{{number}}"
    resources: mem_mb=500, runtime=5
    shell: "sleep {SLEEP}; touch {{output}}"
"""


def seconds(profile: str, targets: list[str]) -> float:
    """Wall-clock seconds that Snakemake takes to make the targets in an empty folder."""
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", f"workflow/profiles/{profile}"]
    with TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        Path(folder, "Snakefile").write_text(SNAKEFILE)
        Path(folder, "workflow").symlink_to(REPOSITORY / "workflow")
        start = time.perf_counter()
        subprocess.run([*command, "--cores", str(CPUS), "--", *targets], cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - start


def compare(targets: list[str], at_once: int) -> dict[str, float]:
    """Overhead with each profile, in seconds per job; `at_once`: jobs that can run at the same time."""
    ideal = SLEEP * len(targets) / at_once
    local, slurm = ((seconds(profile, targets) - ideal) / len(targets) for profile in ("local", "slurm"))
    return {
        "jobs": len(targets),
        "local_s_per_job": round(local, 2),
        "slurm_s_per_job": round(slurm, 2),
        "ratio": round(slurm / local, 1),
    }


def main(jobs: int = 8) -> None:
    """Measure, print and write."""
    subprocess.run([REPOSITORY / "tests/slurm/cluster.sh", "up"], check=True)
    cases = {
        "at once, each by itself": ([f"single/{n}" for n in range(jobs)], CPUS),
        "at once, an array": ([f"student/{n}" for n in range(jobs)], CPUS),
        "one after another": ([f"chain/{n}" for n in range(LEVELS)], 1),
    }
    result = {"device": throughput.device(), "cores": os.cpu_count(), "cpus_of_the_node": CPUS, "sleep_s": SLEEP}
    for name, (targets, at_once) in cases.items():
        result[name] = compare(targets, at_once)
        print(name, result[name], flush=True)
    write_json(result, Path(__file__).parent / "results/slurm_overhead.json")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
