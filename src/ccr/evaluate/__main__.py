"""`python -m ccr.evaluate JOB.json`: run a resolved job (a line of `ccr plan --json`) where only torch is installed."""

import sys
from importlib import import_module

from ccr.artifacts.jobs import load_job
from ccr.artifacts.refusals import for_people
from ccr.log import start_log

start_log()
with for_people():
    job = load_job(sys.argv[1])
    import_module(job.module).run(job)
