"""`python -m ccr.train JOB.json`: run a resolved job (a line of `ccr plan --json`) where only torch is installed."""

import sys

from ccr.artifacts.jobs import load_job
from ccr.artifacts.refusals import for_people
from ccr.log import start_log
from ccr.train import run

start_log()
with for_people():
    run(load_job(sys.argv[1]))
