"""The cost of a big table before anything runs: 5 data sets x 50 methods x 10 seeds, planned, and `snakemake -n`.

In a temporary copy of the project, where nothing is made yet. Prints seconds, writes benchmarks/results/planning.json.

    .venv/bin/python benchmarks/planning.py
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from ccr import params
from ccr.artifacts.files import write_json

REPOSITORY = Path(__file__).parents[1]
DATASETS, METHODS, SEEDS = 5, 50, 10


def settings() -> dict:
    """params.yaml with one table of that size; a third of the methods is like each of baseline, nrccr and cl2cm."""
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    vatex = raw["datasets"]["vatex"]
    raw["datasets"] = {f"vatex{n}": vatex | {"world": vatex["world"] | {"seed": n}} for n in range(DATASETS)}
    parents = ("baseline", "nrccr", "cl2cm")
    others = {
        f"variant{n}": {"like": parents[n % 3], "objectives": {"vs": {"weight": 0.5 + n / 100}}}
        for n in range(METHODS - 1)
    }
    raw["methods"] |= others
    table = {"data": [*raw["datasets"]], "methods": ["baseline", *others], "seeds": [*range(SEEDS)]}
    return raw | {"tables": {"big": table}, "alignments": {}, "translations": {}, "run": ["big"]}


def main() -> None:
    """Measure, print and write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("src", "workflow"):
            shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("Snakefile", "environment.yml"):
            shutil.copy(REPOSITORY / file, folder)
        (folder / "params.yaml").write_text(yaml.safe_dump(settings(), sort_keys=False, allow_unicode=True))
        start = time.perf_counter()
        plan = params.plan(params.load(folder / "params.yaml"))
        planning = time.perf_counter() - start
        command = [
            sys.executable,
            "workflow/pipeline.py",
            "--cores",
            "2",
            "--dry-run",
            "--quiet",
            "--",
            "results/big.csv",
        ]
        environment = os.environ | {"PYTHONPATH": str(folder / "src")}
        seconds = []
        for _ in range(2):  # without any notes, then with them
            start = time.perf_counter()
            subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
            seconds.append(round(time.perf_counter() - start, 1))
    result = {
        "jobs": len(plan.jobs),
        "planning_seconds": round(planning, 2),
        "dry_run_seconds": seconds[0],
        "second_dry_run_seconds": seconds[1],
    }
    print(result)
    write_json(result, Path(__file__).parent / "results/planning.json")


if __name__ == "__main__":
    main()
