"""Snakemake as the only pipeline of this folder: `python workflow/pipeline.py [OPTIONS] [-- TARGETS]`.

Waits for another one that runs here, removes the lock left by a killed one, and becomes
`snakemake --workflow-profile workflow/profiles/local OPTIONS -- TARGETS`; SNAKEMAKE_PROFILE may name another profile.
On a machine with GPUs, jobs that use one run one at a time, unless OPTIONS have `--resources`.
With `--logger stages` it shows one line per stage, and the output of jobs goes only to their logs.
"""

import fcntl
import glob
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

# removed from the environment: jobs inherit that, and their own Snakemake would use the profile, too
LOCAL = "workflow/profiles/local"
PROFILE = os.environ.pop("SNAKEMAKE_PROFILE", "") or LOCAL
SNAKEMAKE = [sys.executable, "workflow/snakemake", "--workflow-profile", PROFILE]
GPUS = "/dev/nvidia[0-9]*"


def take_lock() -> None:
    """Hold `work/pipeline.lock` until this process and what it becomes has ended, in whatever way."""
    try:
        Path("work").mkdir(exist_ok=True)
        lock = os.open("work/pipeline.lock", os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        sys.exit(f"{error.filename}: cannot be written ({error.strerror}). Make room there, or have it made writable.")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another pipeline runs in this folder; waiting for it to end.", file=sys.stderr)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        sys.exit(
            f"work/pipeline.lock: this disk locks no files ({error.strerror}), so two pipelines could run at once. "
            "Have it mounted with locks, move the folder to another disk, or run `snakemake` itself, one at a time."
        )
    os.set_inheritable(lock, True)


def check_temporary_files() -> None:
    """Exit with a message if temporary files cannot be written, as Snakemake's scheduler must."""
    folder = os.environ.get("TMPDIR") or "/tmp"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 20))
    except OSError as error:
        sys.exit(f"{folder}: temporary files cannot be written ({error.strerror}). Make room, or set TMPDIR.")


def snakemake_runs_here() -> bool:
    """Whether a Snakemake that someone started by hand is running in this folder (from /proc, so only on Linux)."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")[:3]
            here = os.readlink(process / "cwd") == os.getcwd() and process.name != str(os.getpid())
        except OSError:  # it ended, or it is another user's
            continue
        if here and any(os.path.basename(word) == b"snakemake" for word in command):
            return True
    return False


def check_host() -> None:
    """Exit with a message if the Snakemake whose lock is here ran on another machine: there it may be alive."""
    try:
        host, process = Path("work/pipeline.host").read_text(encoding="utf-8").split()
    except (OSError, ValueError):  # none has begun a job yet
        return
    if host != platform.node():
        sys.exit(
            f"A pipeline that was started on {host} (process {process}) holds this folder. If `ps {process}` there "
            "says that it has ended, remove its lock with `snakemake --unlock`, and run again."
        )


def one_gpu() -> list[str]:
    """Options that let one job at a time use a GPU, if there is any: each would take the first.

    A training with several processes runs too, alone: Snakemake lowers what a job asks for to what there is.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return ["--resources=gpu=1"] if PROFILE == LOCAL and glob.glob(GPUS) and not hidden else []


def check_profile() -> None:
    """Exit with a message if the profile does not exist; Snakemake would ignore that."""
    if not list(Path(PROFILE).glob("config*.yaml")):
        sys.exit(f"SNAKEMAKE_PROFILE: {PROFILE}: no such profile: a folder with config.yaml, as in workflow/profiles.")


def main() -> None:
    check_profile()
    take_lock()
    check_temporary_files()
    locks = Path(".snakemake/locks")
    if locks.is_dir() and any(locks.iterdir()) and not snakemake_runs_here():
        check_host()
        print("Removing the lock of a pipeline that was killed.", file=sys.stderr)
        subprocess.run([*SNAKEMAKE, "--unlock"], check=True)
    heard = ["--quiet", "host"] if "--logger" in sys.argv else []  # a logger must be told of finished jobs
    os.execv(sys.executable, [*SNAKEMAKE, *one_gpu(), *heard, *sys.argv[1:]])


if __name__ == "__main__":
    main()
