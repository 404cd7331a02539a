"""Arrays that are written as a stream and memory-mapped afterwards."""

from typing import BinaryIO

import numpy as np


def start_float16(stream: BinaryIO, shape: tuple[int, int]) -> None:
    """Write the header of an .npy file of float16; `shape[0]` rows of little-endian bytes are to follow."""
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
