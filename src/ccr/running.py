"""Making one job's outputs: from the memo if it has them, else with the job's module."""

import logging
import os
import time
from importlib import import_module
from pathlib import Path

from ccr.artifacts.cost import measured
from ccr.artifacts.jobs import Job
from ccr.artifacts.memo import compute_into, is_kept, recall, remember
from ccr.artifacts.room import room_for
from ccr.params.plan import Plan

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

log = logging.getLogger(__name__)


def execute(job: Job) -> None:
    """Copy the job's result from the memo, or compute it and remember it."""
    if recall(job):
        log.info("%s: copied from the memo (key %s)", job.target, job.key[:12])
        return
    for path in job.outputs.values():
        room_for(Path(path).parent, 0, job.target)  # before hours of work
    os.environ.update(dict.fromkeys(THREADS, str(job.threads)))
    with measured() as cost:
        import_module(job.module).run(job)
    remember(job, cost)
    log.info("%s: computed in %.1f s (key %s)", job.target, cost["seconds"], job.key[:12])


def evaluate_ahead(plan: Plan, run: Job) -> None:
    """Compute the evaluations of a newly trained student into the memo, where their own jobs find them.

    Each is a second of work, and a separate process would first take seconds to start. What goes wrong is left to those
    jobs, which report it.
    """
    for job in list(plan.jobs.values()):
        inputs = job.input_paths() if job.module == "ccr.evaluate.retrieval" else []
        if run.outputs.get("model") not in inputs or not all(Path(path).exists() for path in inputs):
            continue
        try:
            job = plan.keyed(job.target)
            if not is_kept(job.key):
                start = time.perf_counter()
                compute_into(job, import_module(job.module).run)
                log.info("%s: computed in %.1f s, into the memo", job.target, time.perf_counter() - start)
        except Exception as error:  # the training is done and must not fail because of this
            log.info("%s: left to its own job (%s)", job.target, error)
