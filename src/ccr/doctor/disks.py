"""Folders that the pipeline writes to."""

import os
from pathlib import Path

from ccr.artifacts.memo import MEMO
from ccr.artifacts.room import existing, free_bytes, free_inodes
from ccr.doctor.section import Section

FOLDERS = ("data", "work", "results", str(MEMO))
FEW_INODES = 50_000  # the memo and the item cache have one file per item


def disks() -> Section:
    """Free space of `data`, `work`, `results`, the memo and TMPDIR, and which of them cannot be written to."""
    found = Section("disks")
    folders = {**{folder: Path(folder) for folder in FOLDERS}, "TMPDIR": Path(os.environ.get("TMPDIR") or "/tmp")}
    disks: dict[int, str] = {}
    for name, folder in folders.items():
        place = existing(folder)
        first = disks.setdefault(place.stat().st_dev, name)
        inodes = free_inodes(place)
        told = f"{free_bytes(place) / 1e9:.1f} GB free" if first == name else f"on the disk of {first}"
        found.facts[name] = f"{told}, in {folder.resolve()}" if folder.resolve() != folder.absolute() else told
        if name == "TMPDIR" and not folder.is_dir():
            found.missing.append(f"TMPDIR: {folder} does not exist. Set TMPDIR to a folder that can be written to.")
        if not os.access(place, os.W_OK | os.X_OK):
            found.missing.append(f"{name}: {place} cannot be written to. Let this user write there, or make it a link.")
        if first == name and inodes is not None and inodes < FEW_INODES:
            found.wrong.append(f"{name}: its disk has room for {inodes:,} files only (inodes). Delete files there.")
    return found
