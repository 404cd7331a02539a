"""The item cache: the features that an extractor made of a media file, so that no file is extracted twice.

`work/features/{hash of the extractor's metadata and code}/{first two}/{hash of the file's content}.npy`: float16
(frames, dim), followed by a checksum. Files are renamed into place when complete, but not synced to disk: damage from a
power failure is detected on reading. Deleting any of it costs time but loses no result.
"""

import hashlib
import io
import os
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from ccr.artifacts.files import make_folder, write_json
from ccr.artifacts.hashes import digest
from ccr.artifacts.refusals import writing

FEATURES = Path("work/features")
CHECKSUM = 16  # bytes
# numpy parses headers with `ast`, which occasionally fails when two threads do so at once (CPython 3.11)
_parsing = threading.Lock()


class ItemCache:
    """The features that an extractor with these `metadata` and this hash of its `code` makes of files of one kind."""

    def __init__(self, metadata: Mapping[str, str], kind: str, code: str):
        self._described = {**metadata, "kind": kind, "code": code}
        self.folder = FEATURES / digest(self._described)

    def _path(self, content: str) -> Path:
        return self.folder / content[:2] / f"{content}.npy"

    def get(self, content: str) -> np.ndarray | None:
        """Features float16 (frames, dim) of the file with this content hash; None if absent or damaged."""
        try:
            data = self._path(content).read_bytes()
        except FileNotFoundError:
            return None
        array, checksum = data[:-CHECKSUM], data[-CHECKSUM:]
        if _checksum(array) != checksum:
            return None
        with _parsing:
            return np.load(io.BytesIO(array), allow_pickle=False)

    def put(self, content: str, features: np.ndarray) -> None:
        """Store features float16 (frames, dim); `CcrError` when they cannot be written."""
        buffer = io.BytesIO()
        np.save(buffer, features)
        data = buffer.getvalue()
        path = self._path(content)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        with writing(path):
            if not self.folder.exists():
                write_json(self._described, self.folder / "metadata.json")
            make_folder(path.parent)
            try:
                temporary.write_bytes(data + _checksum(data))
                os.replace(temporary, path)
            finally:
                with suppress(OSError):
                    temporary.unlink()


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=CHECKSUM).digest()
