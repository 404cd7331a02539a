"""`python -m ccr.parity DIR`: exit status 0 when everything agrees."""

import signal
import sys

from ccr.errors import CcrError
from ccr.parity import run

signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` may close the pipe
if len(sys.argv) != 2:
    sys.exit("usage: python -m ccr.parity DIR")
try:
    lines = run(sys.argv[1])
except CcrError as error:
    sys.exit(f"ccr: {error}")
agreeing = sum(line.status == "ok" for line in lines)
print(*lines, f"{agreeing} of {len(lines)} ok", sep="\n")
sys.exit(int(agreeing != len(lines)))
