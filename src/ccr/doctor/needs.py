"""What the tables under `run` in params.yaml need of this machine: raw data, models, keys, disk."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from ccr import params
from ccr.artifacts.contents import content_hash
from ccr.artifacts.jobs import Job
from ccr.artifacts.room import free_bytes
from ccr.doctor.estimate import Estimate
from ccr.doctor.machine import has_bf16
from ccr.doctor.section import Section
from ccr.doctor.services import is_cached
from ccr.errors import CcrError
from ccr.notes import key_of_outputs, present_key
from ccr.params.plan import Plan


def needs(file: Path) -> Section:
    """The jobs of the default run, those that still have to run, and what they lack."""
    found = Section("run")
    try:
        plan = params.plan(params.load(file))
        found.facts["tables"] = plan.run
        jobs = {job.target: job for table in plan.run for job in plan.needs(f"results/{table}.csv")}
    except CcrError as error:
        found.missing.append(str(error))
        return found
    to_do = _to_do(plan, jobs.values())
    found.facts |= {"jobs": len(jobs), "jobs_to_do": len(to_do)}
    found.missing += dict.fromkeys(_lacking(plan, to_do))
    models = {model for job in to_do for model in _models(job)}
    absent = sorted(model for model in models if not Path(model).expanduser().is_dir() and not is_cached(model))
    found.facts |= {"models": sorted(models)}
    found.wrong += [f"run: the model {model} is not on this machine; it is fetched when needed." for model in absent]
    if any(job.settings.get("precision") == "bf16" for job in to_do) and not has_bf16():
        found.wrong.append("run: it trains in bf16, which is slow here: neither CPU nor GPU has instructions for it.")
    _add_disk(found, to_do, jobs)
    return found


def _to_do(plan: Plan, jobs: Iterable[Job]) -> list[Job]:
    """Those of the jobs, in their order, whose outputs are not what they would make now, or read such outputs."""
    content, found = cache(content_hash), {}
    for job in jobs:
        behind = (plan.makers[path].target for path in job.input_paths() if path in plan.makers)
        if any(target in found for target in behind) or not _is_made(job, content):
            found[job.target] = job
    return list(found.values())


def _is_made(job: Job, content: Callable[[str], str]) -> bool:
    """Whether a job's outputs carry its present key."""
    key = key_of_outputs(job)
    return key is not None and key == present_key(job, content)


def _lacking(plan: Plan, jobs: list[Job]) -> Iterator[str]:
    """Missing raw data, encoder folders and keys."""
    for job in jobs:
        try:
            plan.job(job.target)
            if job.settings.get("engine") == "deep_translator":
                _check_key(job)
        except CcrError as error:
            yield str(error)


def _check_key(job: Job) -> None:
    from ccr.translate.services import key_of  # needs a separate library

    key_of(job.settings["options"]["service"], f"translate.variants.{job.settings['variant']}")


def _models(job: Job) -> Iterator[str]:
    """Names of the models that a job uses."""
    if job.stage == "train" and job.module == "ccr.train":
        text = job.settings["network"]["text"]
        if text["kind"] == "pretrained":
            yield text["encoder"]
    elif model := job.settings.get("options", {}).get("model"):
        yield model.format(source=job.settings.get("source_lang"), target=job.settings.get("target_lang"))


def _add_disk(found: Section, to_do: list[Job], jobs: dict[str, Job]) -> None:
    estimate = Estimate(jobs.values())
    sizes = {job.target: estimate.bytes(job) for job in to_do}
    total = sum(size or 0.0 for size in sizes.values())
    found.facts["disk_gb"] = round(total / 1e9, 2)
    unknown = sorted(target for target, size in sizes.items() if size is None)
    if unknown:
        found.facts["disk_unknown"] = [f"{len(unknown)} jobs, whose data are not imported yet"]
    free = min(free_bytes(folder) for folder in ("data", "work", "results"))
    if total > free:
        found.missing.append(
            f"run: it writes about {total / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free. Make room, or make data, "
            "work and results links to another disk."
        )
