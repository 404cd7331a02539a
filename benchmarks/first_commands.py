"""How long a newcomer waits: set-up, the main job, a second call of it, and the start-up of each stage.

Clones the repository and runs the commands of its README: `make .venv/.ready`, `make results/vatex_table.csv` twice,
and with `--tests` also `make test`. Start-up is the processor time of importing a stage's module, relative to that of
`import torch` in the same run.
Prints, and writes benchmarks/results/first_commands.json.

    .venv/bin/python benchmarks/first_commands.py [--runs 3] [--tests]
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ccr.artifacts.files import write_json

REPOSITORY = Path(__file__).parents[1]
TABLE = "results/vatex_table.csv"
MODULES = (
    "ccr.cli",
    "ccr.world.publish",
    "ccr.captions.dataset",
    "ccr.translate.machine",
    "ccr.features.extracted",
    "ccr.train",
    "ccr.evaluate.retrieval",
    "ccr.evaluate.encoder",
    "ccr.alignment.sentences",
    "ccr.tables.retrieval_table",
)


def seconds(command: list[str], folder: Path) -> tuple[float, float]:
    """Wall-clock and processor seconds of a command that must succeed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def newcomer(tests: bool) -> dict[str, float]:
    """One clone: wall-clock seconds of each command."""
    steps = {"set_up": ".venv/.ready", "main_job": TABLE, "second_call": TABLE, **({"tests": "test"} if tests else {})}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "ccr"
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
        return {step: round(seconds(["make", target], folder)[0], 1) for step, target in steps.items()}


def starts() -> dict[str, float]:
    """Processor seconds of `import torch` and, relative to it, of importing each stage's module: medians of five."""
    spent = {
        module: statistics.median(seconds([sys.executable, "-c", f"import {module}"], REPOSITORY)[1] for _ in range(5))
        for module in ("torch", *MODULES)
    }
    torch = spent.pop("torch")
    return {"torch_seconds": round(torch, 2), **{module: round(value / torch, 2) for module, value in spent.items()}}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tests", action="store_true")
    options = parser.parse_args()
    found = {"cores": len(os.sched_getaffinity(0)), "machine": platform.processor() or platform.machine()}
    found["start_up"] = starts()
    print(found["start_up"], flush=True)
    runs = []
    for _ in range(options.runs):
        runs.append(newcomer(options.tests))
        print(runs[-1], flush=True)
    found["runs"] = runs
    found["medians"] = {step: statistics.median(run[step] for run in runs) for step in runs[0]}
    print(found["medians"])
    write_json(found, REPOSITORY / "benchmarks/results/first_commands.json")


if __name__ == "__main__":
    main()
