"""Settings tried on validation: every try is a training run, scored by the SumR of its best epoch on the val split.

    .venv/bin/python benchmarks/search.py benchmarks/searches/flickr8k_e5.yaml [--only TRY ...] [--processes 2]

The file gives the `data` set, the `seeds`, the `edits` to params.yaml that all tries share (dotted key -> value;
mappings are merged) and `tries`: name -> {method, edits}. All tries have the same budget: one training run per seed.
Teachers are trained first, each once. Test captions are not used. Runs are in work/search; results/ is left alone.
Prints, and writes benchmarks/results/search_{name of the file}.csv, in which the rows of other tries are kept.
"""

import argparse
import csv
import multiprocessing
import os
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from ccr import params
from ccr.artifacts.hashes import digest
from ccr.artifacts.jobs import Job
from ccr.params.plan import Plan
from ccr.running import execute

RESULTS = Path(__file__).parent / "results"
FOLDER = Path("work/search")
COLUMNS = ("try", "method", "seed", "val_sumr", "epoch", "epochs", "minutes", "edits")


def edited(edits: Mapping[str, Any]) -> dict[str, Any]:
    """params.yaml with these edits."""
    settings = params.read("params.yaml")
    for path, value in edits.items():
        *above, last = path.split(".")
        section = settings
        for name in above:
            section = section.setdefault(name, {})
        merged = isinstance(value, Mapping) and isinstance(section.get(last), Mapping)
        section[last] = {**section[last], **value} if merged else value
    return settings


def planned(data: str, method: str, seed: int, edits: Mapping[str, Any]) -> Plan:
    """The plan of one try: a table of one row."""
    settings = edited(edits) | {"alignments": {}, "translations": {}, "run": ["search"]}
    settings["tables"] = {"search": {"data": [data], "methods": [method], "seeds": [seed]}}
    return params.plan(params.validate(settings))


def prepare(plan: Plan, made: dict[str, str], name: str) -> None:
    """Make the inputs of the training runs before these start, so that no two of them make the same file.

    `made`: the key of each file made so far. A try that needs another file of the same name (its edits change the data,
    not only the training) is refused: the runs of all tries start afterwards and would read the last one.
    """
    for job in plan.needs("results/search.csv"):
        if job.module == "ccr.train" or job.stage in ("evaluate", "tables"):
            continue
        job = plan.keyed(job.target)
        if made.setdefault(job.target, job.key) != job.key:
            raise SystemExit(
                f"search: {name} needs another {job.target} than the tries before it. All tries of a search share "
                "their data; put this one into a search of its own, or run it alone with --only."
            )
        execute(job)


def trainings(plan: Plan) -> list[Job]:
    """The student's training job, after its teacher's; output folders are named by a digest of settings and inputs."""
    jobs, made = [], {}
    for job in plan.needs("results/search.csv"):
        if job.module != "ccr.train":
            continue
        read = {
            role: made.get(path, path) if isinstance(path, str) else [made.get(one, one) for one in path]
            for role, path in job.inputs.items()
        }
        key = digest([job.settings, read])
        outputs = {role: str(FOLDER / key / Path(path).name) for role, path in job.outputs.items()}
        made |= dict(zip(job.outputs.values(), outputs.values(), strict=True))
        jobs.append(replace(job, outputs=outputs, inputs=read, key=key))
    return jobs


def train(job: Job) -> float:
    """Train one network; returns the minutes it took."""
    start = time.monotonic()
    Path(job.outputs["model"]).parent.mkdir(parents=True, exist_ok=True)
    import_module(job.module).run(job)
    return (time.monotonic() - start) / 60


def main() -> None:
    """Run the tries, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("search", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    search = yaml.safe_load(options.search.read_text())
    tries = {name: entry for name, entry in search["tries"].items() if not options.only or name in options.only}
    path = RESULTS / f"search_{options.search.stem}.csv"
    kept = list(csv.DictReader(path.open(newline=""))) if path.exists() else []
    tries = [
        (name, entry["method"], seed, search["edits"] | entry.get("edits", {}))
        for name, entry in tries.items()
        for seed in search["seeds"]
    ]
    shutil.rmtree(FOLDER, ignore_errors=True)
    students, teachers, made = [], {}, {}
    for name, *one in tries:
        plan = planned(search["data"], *one)
        prepare(plan, made, name)
        *above, student = trainings(plan)
        students.append(student)
        teachers |= {job.key: job for job in above}
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = []
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(train, teachers.values()))
        for (name, method, seed, edits), job, minutes in zip(tries, students, pool.map(train, students), strict=True):
            with open(job.outputs["history"], newline="") as file:
                history = [float(row["val_sumr"]) for row in csv.DictReader(file)]
            best = max(history)
            values = (
                name,
                method,
                seed,
                round(best, 1),
                history.index(best) + 1,
                len(history),
                round(minutes, 1),
                edits,
            )
            rows.append(dict(zip(COLUMNS, values, strict=True)))
            print({key: rows[-1][key] for key in COLUMNS[:-1]}, flush=True)
    done = {row["try"] for row in rows}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows([row for row in kept if row["try"] not in done] + rows)


if __name__ == "__main__":
    main()
