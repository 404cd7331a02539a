"""The folder that an export writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccr.artifacts.files import atomic_folder
from ccr.errors import CcrError


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes this name on success; `CcrError` if the name is taken."""
    if folder.exists():
        raise CcrError(f"{folder}: is there already. Name a folder that is not.")
    with atomic_folder(folder) as temporary:
        yield temporary
