"""Whether two pictures look alike: difference hashes (Krawetz, 2013), compared by Hamming distance.

A picture is reduced to 17 x 16 grey pixels; a bit says whether a pixel is darker than its right neighbour: 256 bits.
They hardly change when the picture is scaled or recompressed, but do when it is cropped or mirrored. A video is
represented by its middle frame. Pillow does the scaling; a hashing library would pull in scipy for the same few lines.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from ccr.artifacts.hashes import bytes_hash, once

SIDE = 16
BITS, NEAR = SIDE * SIDE, 24  # bits of a hash; bits in which look-alikes may differ
BLOCK = 1 << 22  # pairs compared at a time
UNREADABLE = "unreadable"


def hashes(files: Mapping[str, Path], kind: str, threads: int) -> tuple[dict[str, str], dict[str, bytes], list[str]]:
    """For each item the hash of its file's bytes and its difference hash; and notes on files that cannot be decoded.

    A picture with so little content that others match it by chance (a gradient, an object against a white wall) has no
    difference hash. Results are cached in `work/hashes`: a file is not read again until it changes.
    """
    compute = _of_video if kind == "video" else _of_image
    look = partial(once, what=f"difference hash of the {kind}", compute=compute)
    there = {item: file for item, file in files.items() if file.is_file()}  # otherwise a dangling link
    with ThreadPoolExecutor(threads) as pool:
        contents = dict(zip(there, pool.map(bytes_hash, there.values()), strict=True))
        looks = dict(zip(there, pool.map(look, there.values()), strict=True))
    broken = [item for item in files if looks.get(item, UNREADABLE) == UNREADABLE]
    notes = [f"{len(broken):,} {kind}s cannot be decoded, the first is {files[broken[0]]}"] if broken else []
    return contents, {item: bytes.fromhex(s) for item, s in looks.items() if s and s != UNREADABLE}, notes


def near(first: Sequence[tuple[bytes, str]], second: Sequence[tuple[bytes, str]]) -> tuple[list[int], dict[int, int]]:
    """Indices in `first` that look like one in `second`, and such indices in `second` with the nearest in `first`.

    Each entry has its difference hash and the hash of its bytes; files with the same bytes are not compared.
    """
    looks, contents = zip(*(zip(*side, strict=True) for side in (first, second)), strict=True)
    words = [np.frombuffer(b"".join(side), np.uint64).reshape(len(side), -1) for side in looks]
    codes = np.unique([*contents[0], *contents[1]], return_inverse=True)[1]
    one, other = codes[: len(first)], codes[len(first) :]
    matched, partners = np.zeros(len(first), bool), {}
    rows = max(1, BLOCK // len(first))
    for start in range(0, len(second), rows):
        part = slice(start, start + rows)
        distance = np.where(other[part, None] == one[None], BITS, 0).astype(np.uint16)
        for word in range(words[0].shape[1]):
            distance += np.bitwise_count(words[1][part, None, word] ^ words[0][None, :, word])
        matched |= (distance <= NEAR).any(0)
        nearest = distance.argmin(1)
        for n in np.flatnonzero(distance.min(1) <= NEAR).tolist():
            partners[start + n] = int(nearest[n])
    return np.flatnonzero(matched).tolist(), partners


def _of_image(path: Path) -> str:
    from ccr.media.decoding import Unreadable, read_image  # av and Pillow only if there are pictures

    try:
        return _bits(read_image(path, _grey, draft=(4 * SIDE, 4 * SIDE))[0])
    except Unreadable:
        return UNREADABLE


def _of_video(path: Path) -> str:
    from ccr.media.decoding import Unreadable, read_video
    from ccr.media.sampling import Sampling

    try:
        return _bits(read_video(path, Sampling(frames=1), lambda frame: _grey(frame.to_image()))[0])
    except Unreadable:
        return UNREADABLE


def _grey(image) -> np.ndarray:
    """(16, 17) uint8."""
    return np.asarray(image.convert("L").resize((SIDE + 1, SIDE)))


def _bits(grey: np.ndarray) -> str:
    bits = grey[:, :-1] < grey[:, 1:]
    enough = min(bits.sum(), (~bits).sum()) > 2 * NEAR
    return np.packbits(bits).tobytes().hex() if enough else ""
