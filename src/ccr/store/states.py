"""Outputs of an encoder's frozen layers (states) for texts: computed once, memory-mapped, shared by all training runs.

A cache: `work/states/{encoder}/{part}.npy`, float16 (tokens, width), and next to it `{part}.npz` with the texts' keys
and the hash of the file; it is written last, so a part without it does not count. A text is identified by its token
ids, the encoder by what `encoder_hash` covers. Each part holds texts of similar length. Deleting any of it costs time
but loses no result.
"""

import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path

import numpy as np

from ccr.artifacts.files import atomic, make_folder
from ccr.artifacts.hashes import bytes_hash, read_hash
from ccr.artifacts.refusals import writing
from ccr.store.arrays import start_float16

STATES = Path("work/states")
PART_BYTES = 128 << 20  # of states in a part: what an interruption may cost

log = logging.getLogger(__name__)


class StateStore:
    """All parts of one encoder.

    Args:
        encoder: its hash. width: the width of its states.
    """

    def __init__(self, encoder: str, width: int, root: str | PathLike = STATES):
        self.folder = Path(root) / encoder
        self.width = width
        self._names: set[str] = set()
        self._arrays: list[np.ndarray] = []
        self._places: dict[bytes, tuple[int, int, int]] = {}
        with writing(self.folder):
            make_folder(self.folder)
        self.refresh()

    def refresh(self) -> None:
        """Add parts written since the last call. A truncated or damaged one is skipped, and the log says so."""
        for index in sorted(self.folder.glob("*.npz")):
            if index.stem in self._names:
                continue
            self._names.add(index.stem)
            file = index.with_suffix(".npy")
            try:
                with np.load(index, allow_pickle=False) as known:
                    keys, lengths, recorded = known["keys"], known["lengths"], str(known["hash"])
                array = np.load(file, mmap_mode="r", allow_pickle=False)
                whole = bytes_hash(file) == recorded and array.shape == (lengths.sum(), self.width)
            except Exception as error:  # numpy's reader raises whatever zip files and Python's own parser do
                log.warning("%s: cannot be read (%s); its states are computed again.", index, error)
                continue
            if not whole:
                log.warning("%s: is damaged; its states are computed again.", file)
                continue
            starts = np.cumsum(lengths) - lengths
            part = len(self._arrays)
            self._arrays.append(array)
            found = zip(keys, starts.tolist(), lengths.tolist(), strict=True)
            self._places |= {key.tobytes(): (part, start, length) for key, start, length in found}

    def remove_leftovers(self) -> None:
        """Delete what a killed process left half-written. A file that another one is writing is under an hour old."""
        for file in self.folder.glob(".*.tmp"):
            with suppress(OSError):  # gone, or another user's
                if time.time() - file.stat().st_mtime > 3600:
                    file.unlink()

    def missing(self, keys: Sequence[bytes]) -> np.ndarray:
        """(n,) bool: which of these texts have no states."""
        return np.fromiter((key not in self._places for key in keys), bool, len(keys))

    def places(self, keys: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Part and first row in it, int64 (n,) each, of these texts, all of which have states."""
        found = np.array([self._places[key][:2] for key in keys], np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    def gather(self, parts: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """States float16 (sum of lengths, width) of the texts at these `places`, one text after the other."""
        ends = np.cumsum(lengths)
        out = np.empty((int(ends[-1]), self.width), np.float16)
        part = np.repeat(parts, lengths)
        source = np.arange(len(out)) + np.repeat(starts - (ends - lengths), lengths)
        for number in np.unique(parts):
            rows = np.flatnonzero(part == number)
            out[rows] = self._arrays[number][source[rows]]
        return out

    def add(self, keys: Sequence[bytes], lengths: np.ndarray, batches: Iterable[np.ndarray]) -> None:
        """Write a part: the states of these texts, one after the other, in batches (n, width) of any float type.

        Raises `CcrError` if it cannot be written; `ValueError` if states are not finite in float16 or do not fit
        `lengths`.
        """
        name = uuid.uuid4().hex[:16]
        file, row = self.folder / f"{name}.npy", 0
        shape = (int(lengths.sum()), self.width)
        with atomic(file) as temporary, temporary.open("wb") as stream:
            start_float16(stream, shape)
            for batch in batches:
                with np.errstate(over="ignore"):
                    batch = batch.astype("<f2")
                if not np.isfinite(batch).all():
                    raise ValueError("states of the frozen layers are NaN or beyond float16")
                stream.write(batch.tobytes())
                row += len(batch)
        if row != shape[0]:
            raise ValueError(f"{row} rows of states for texts of {shape[0]} tokens")
        with atomic(file.with_suffix(".npz")) as temporary, temporary.open("wb") as stream:
            array = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)
            np.savez(stream, keys=array, lengths=lengths, hash=np.array(read_hash(file)))
        self.refresh()
