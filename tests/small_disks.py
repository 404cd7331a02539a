"""Small disks (tmpfs) and one with a quota (btrfs), which only root may mount."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A disk mounted at a new folder, with options such as `size=1m`; the test is skipped if none can be mounted."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def disk_with_quota(folder: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A folder on a disk mounted at a new folder, and a function that sets its quota (bytes, or `none`)."""
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("no mkfs.btrfs here: apt-get install btrfs-progs")
    folder.mkdir(parents=True)
    image, mine = folder.with_suffix(".image"), folder / "mine"
    image.touch()
    os.truncate(image, 500_000_000)
    quiet = {"check": True, "capture_output": True}
    subprocess.run(["mkfs.btrfs", "--quiet", image], **quiet)
    if subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True).returncode:
        pytest.skip("no btrfs can be mounted here")
    try:
        subprocess.run(["btrfs", "quota", "enable", folder], **quiet)
        subprocess.run(["btrfs", "subvolume", "create", mine], **quiet)
        # by its id from outside: a folder at its quota accepts no more changes
        yield mine, lambda limit: subprocess.run(["btrfs", "qgroup", "limit", limit, "0/256", folder], **quiet)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, free: int = 0) -> Path:
    """Fill a disk except for `free` bytes; returns the file that fills it."""
    filler = disk / "filler"
    stat = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(stat.f_bavail * stat.f_frsize - free, 1))
    return filler
