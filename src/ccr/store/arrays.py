"""Arrays in .npy files: memory-mapped, written as a stream."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from ccr.errors import CcrError


def read_array(path: Path) -> np.ndarray:
    """The array in a third-party .npy file, memory-mapped, so that no header can make it allocate memory.

    Raises `CcrError` if it is not a complete array; `FileNotFoundError`.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # numpy's reader raises whatever Python's own parser does
        raise CcrError(f"{path}: not a whole .npy array ({error}). Fetch it again.") from error


def start_float16(stream: BinaryIO, shape: tuple[int, int]) -> None:
    """Write the header of an .npy file of float16; `shape[0]` rows of little-endian bytes must follow."""
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
