# All functions of the workflow. They ask the plan what a job reads, requests and depends on.
import json
import os
import platform
import re
import shlex
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import ccr
import yaml
from ccr.artifacts.contents import content_hash
from ccr.artifacts.files import atomic
from ccr.artifacts.hashes import digest
from ccr.artifacts.refusals import writing
from ccr.artifacts.seals import seal_path
from ccr.notes import noted
from ccr import params as settings
from ccr.errors import CcrError
from snakemake.pathvars import PATHVAR_REGEX


wildcard_constraints:
    data=r"[^/]+",
    encoder=r"[0-9a-f]+",
    texts=r".+",
    mt=r"[^/]+",
    parallel=r"[^/]+",
    visual=r"[^/]+(?<!\.rejected)",
    lang=r"[A-Za-z0-9-]+",
    direction=r"|\.back|\.queries",
    shard=r"\d+of\d+",
    langs=r"[A-Za-z0-9+-]+",
    teacher=r"[^/]+",
    method=r"[^/]+",
    seed=r"\d+",
    table=r"[^/]+",


def for_people(function, *arguments):
    """Ends Snakemake with the message, and only the message, of a CcrError: nothing else helps to fix it."""
    try:
        with writing(Path.cwd()):
            return function(*arguments)
    except CcrError as error:
        sys.exit(str(error))


def check_code():
    """Ends Snakemake if it would run the code of another folder, such as the one that this folder was copied from."""
    code, here = Path(ccr.__file__).parents[1], Path(workflow.basedir, "src")
    named = [Path(folder).resolve() for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    if here.exists() and not code.samefile(here) and code.resolve() not in named:
        sys.exit(
            f"{here}: {sys.executable} runs the code in {code} instead. `make .venv && source .venv/bin/activate` here "
            "makes and takes an environment of this folder's own; without make: `pip install -e . -c constraints.txt`."
        )


check_code()
# a job that waited in a queue obeys the settings that it was submitted with, not a later edit of params.yaml
SETTINGS = os.environ.get("CCR_SETTINGS", "params.yaml")
for_people(settings.read, SETTINGS)  # refuses what Snakemake's own reader accepts, such as duplicate keys


configfile: SETTINGS


def snapshot(config):
    """Writes the settings of this run under their hash, so that its jobs obey `--config` and ignore later edits."""
    path = f"work/params/{digest(config)}.yaml"
    if not Path(path).exists():
        with atomic(path) as temporary:
            temporary.write_text(yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False))
    return path


class Planned:
    """A kind of job, given by the patterns of its targets and logs: functions of the wildcards, answered by the plan."""

    def __init__(self, target, log):
        self.target = target
        self.log = f"{log}.log"
        self.benchmark = f"{log}.tsv"

    def job(self, wildcards):
        return for_people(PLAN.job, self.target.format(**dict(wildcards.items())))

    def inputs(self, wildcards):
        """The plan's inputs, each replaced by the file that stands for it: the manifest, which is written last, for
        files of the mini-world's raw data, the translations for their alignment and weights. And the note of what made
        the outputs, newer than these if other settings or code made them, so that Snakemake runs the job again."""
        job = self.job(wildcards)
        if job.target not in NOTES:  # its inputs first
            for need in PLAN.needs(job.target):
                if need.target not in NOTES:
                    NOTES[need.target] = for_people(noted, need, CONTENT)
        # Snakemake counts the benchmark file among the outputs, but DVC does not restore it with them
        with suppress(OSError):  # either is missing, or it is another user's
            made = os.stat(seal_path(job))
            os.utime(self.benchmark.format(**dict(wildcards.items())), ns=(made.st_atime_ns, made.st_mtime_ns))
        paths = sorted({made_or_found(path) for path in job.prerequisites()})
        for path in filter(PATHVAR_REGEX.search, paths):
            sys.exit(f"{path}: Snakemake puts something else in the place of `<name>` in a path. Rename the folder.")
        return [*paths, NOTES[job.target]]

    def threads(self, wildcards):
        return self.job(wildcards).threads

    def gpus(self, wildcards):
        return self.job(wildcards).gpus

    def arguments(self, wildcards, output):
        """Arguments of `ccr STAGE`. Taking `output` keeps them out of what Snakemake compares with the last run."""
        return shlex.join(["--params", PARAMS, self.job(wildcards).target])


def aside(wildcards, output):
    """With a logger that shows progress, the output of jobs goes only to their logs. `output`: see `arguments`."""
    return "> /dev/null" if "--logger" in sys.argv else ""


def growing(amount, times=lambda wildcards: 1):
    """A resource of which a job gets more with each retry: a lack of it may have ended the job."""
    return lambda wildcards, attempt: amount * times(wildcards) * attempt


@cache
def made_or_found(path):
    jobs = (PLAN.jobs.get(str(root)) for root in (path, *Path(path).parents))
    world = next((job.target for job in jobs if job and job.stage == "world"), None)
    return f"{world}/manifest.json" if world else re.sub(r"\.(alignment|weights)\.parquet$", ".parquet", path)


# says what a job killed by the kernel cannot say itself
shell.prefix(
    "set -euo pipefail; "
    """trap '[ $? != 137 ] || echo "ccr: killed (SIGKILL), most likely because the memory was full (dmesg tells). """
    """End other programs, or run fewer jobs at a time: make CORES=1. The same command resumes." >&2' EXIT; """
)

PLAN = for_people(settings.plan, for_people(settings.validate, config))
PARAMS = for_people(snapshot, config)
NOTES, CONTENT = {}, cache(content_hash)  # each input is looked at once
# jobs find the `ccr` of this Python, whether or not its environment is activated
PATH = os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
os.environ.update(PATH=PATH, CCR_SETTINGS=PARAMS)


# for workflow/pipeline.py, which cannot see whether the holder of a lock still runs on another machine
onstart:
    if workflow.is_main_process:
        for_people(Path("work/pipeline.host").write_text, f"{platform.node()} {os.getpid()}\n")
