"""The command of one task of an array: `python array_task.py SCRIPT TASK` prints it.

SCRIPT is what snakemake-executor-plugin-slurm sends to SLURM: the first task's command, with the others' in its last
option: base64 of a JSON object from task number to the command, compressed and in hexadecimal digits.
"""

import base64
import json
import re
import sys
import zlib
from pathlib import Path


def command(script: str, task: str) -> str:
    """What a task would run if it had been sent alone."""
    first, payload = re.split(r"\s+--slurm-jobstep-array-execs[=\s]", script)
    others = json.loads(base64.b64decode(payload.strip().strip("'")))
    return zlib.decompress(bytes.fromhex(others[task])).decode() if task in others else first


if __name__ == "__main__":
    print(command(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[2]))
