"""Fixed descriptors of real pixels, without a download: the distribution of colours and edges over the picture.

A frame is scaled to `size` x `size` pixels, whatever its shape.
- Colours: a joint histogram of hue, saturation and value (12 x 2 x 2 bins) in each of `grid` x `grid` cells:
  shares of the cell, square-rooted so that small things count.
- Edges: a histogram of oriented gradients (9 unsigned orientations, weighted by magnitude) in each of 2 `grid` x
  2 `grid` cells, with the frame as one block, normalised `L1-sqrt` (Dalal and Triggs 2005, section 6.4) and scaled
  so that edges weigh as much as colours.

A frame's feature has grid^2 x 84 values: colours cell by cell, then edges cell by cell. OpenCV does the pixel work
because it releases Python's lock: with scikit-image's `hog`, a second thread was hardly any faster.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import cv2
import numpy as np
from av import VideoFrame
from av.video.reformatter import VideoReformatter
from PIL import Image

from ccr.errors import CcrError
from ccr.features.pool import in_order
from ccr.media.decoding import File, Unreadable, read_image, read_video, upright
from ccr.media.sampling import Sampling

BINS = (12, 2, 2)
ORIENTATIONS = 9
MAX_GRID = 15  # cells are numbered in a uint8 channel


class Extractor:
    """Decodes and describes files with `threads` workers; the features do not depend on the number of workers.

    Options: `frames` per video, `size`, `grid`.
    """

    def __init__(self, options: dict[str, Any], name: str, threads: int):
        frames, size, grid = options["frames"], options["size"], options["grid"]
        where = f"features.extractors.{name}"
        if frames < 1:
            raise CcrError(f"{where}.frames: {frames}; a video needs at least 1 frame.")
        if not 1 <= grid <= MAX_GRID or size < 1 or size % (2 * grid):
            raise CcrError(
                f"{where}: size {size}, grid {grid}; expected a grid of 1 to {MAX_GRID} and a size that 2 x grid "
                "divides."
            )
        self._size, self._grid, self._sampling, self._threads = size, grid, Sampling(frames), threads
        self.metadata = {
            "extractor": "descriptor",
            "weights": "none (fixed descriptors)",
            "preprocess": f"RGB {size}x{size}, area; HSV {BINS} and HOG {ORIENTATIONS}, grid {grid}",
            "frame_sampling": f"{self._sampling}; 1 of an image",
        }

    def extract(self, files: Iterable[File]) -> Iterator[np.ndarray | Unreadable]:
        """Float16 (frames, grid^2 x 84) of every file, in order."""
        cv2.setNumThreads(1)  # the workers already run in parallel
        return in_order(self._describe, files, self._threads, ahead=8 * self._threads)

    def _describe(self, file: File) -> np.ndarray | Unreadable:
        try:
            return describe(self._pixels(file), self._grid)
        except Unreadable as error:
            return error

    def _pixels(self, file: File) -> np.ndarray:
        """Uint8 RGB (frames, size, size, 3), scaled to squares."""
        square = (self._size, self._size)
        if file.kind == "image":
            return read_image(file.path, lambda image: np.asarray(image.resize(square, Image.Resampling.BOX)), square)
        reformatter = VideoReformatter()

        def squeeze(frame: VideoFrame) -> np.ndarray:
            return upright(reformatter.reformat(frame, *square, "rgb24", interpolation="AREA").to_ndarray(), frame)

        return read_video(file.path, self._sampling, squeeze)


def describe(pictures: np.ndarray, grid: int) -> np.ndarray:
    """Descriptors float16 (frames, grid^2 x 84) of uint8 RGB pictures (frames, size, size, 3)."""
    size = pictures.shape[1]
    cells = _cells(size, grid).astype(np.uint8)
    colours = np.stack([_colours(picture, cells) for picture in pictures])
    edges = _edges(pictures, _cells(size, 2 * grid)) * grid
    return np.concatenate([colours, edges], axis=1).astype(np.float16)


def _colours(picture: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Float (cells x 48,): each cell has unit length."""
    count = int(cells[-1, -1]) + 1
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    # OpenCV's hue has 180 steps: shift by half a bin, so that red is the middle of a bin and not an edge.
    hsv[..., 0] = (hsv[..., 0] + 90 // BINS[0]) % 180
    histogram = cv2.calcHist([hsv, cells], [3, 0, 1, 2], None, [count, *BINS], [0, count, 0, 180, 0, 256, 0, 256])
    return np.sqrt(histogram.ravel() * (count / cells.size))


def _edges(pictures: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Float (frames, cells x 9): each frame has unit length, or is zero if it is a uniform grey."""
    gradients = [cv2.spatialGradient(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)) for picture in pictures]
    x, y = np.asarray(gradients, np.float32).swapaxes(0, 1)
    magnitude, angle = cv2.cartToPolar(x.reshape(-1, 1), y.reshape(-1, 1), angleInDegrees=True)
    width = 180 / ORIENTATIONS
    orientation = ((angle.ravel() + width / 2) % 180 // width).astype(np.intp)  # vertical edges: middle of a bin
    frame = np.arange(len(pictures)).repeat(cells.size)
    cell = np.tile(cells.ravel(), len(pictures))
    shape = (len(pictures), int(cells[-1, -1]) + 1, ORIENTATIONS)
    bins = np.ravel_multi_index((frame, cell, orientation), shape)
    histogram = np.bincount(bins, magnitude.ravel(), minlength=np.prod(shape)).reshape(len(pictures), -1)
    return np.sqrt(histogram / np.maximum(histogram.sum(axis=1, keepdims=True), 1e-9))


@cache
def _cells(size: int, grid: int) -> np.ndarray:
    """Number of the cell of each pixel, (size, size): one more axis for the histograms."""
    line = np.arange(size) // (size // grid)
    return line[:, None] * grid + line
