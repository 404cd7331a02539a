"""The common part of extractors that run a model: its files, options, and decoding while computing."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
from av import VideoFrame
from PIL import Image

from ccr.errors import CcrError
from ccr.features.checkpoint import find
from ccr.features.families import Family, family_of
from ccr.features.pool import in_order
from ccr.features.preprocess import preprocess_of
from ccr.media.decoding import File, Unreadable, read_image, read_video, upright
from ccr.media.sampling import Sampling


class ModelExtractor(ABC):
    """`threads` threads decode and crop pictures while the model computes the previous batch.

    Options: `model`, `revision`; `frames`, evenly spaced, or `fps` with at most `max_frames`; `batch`; `precision`.
    """

    kind: str  # the extractor's name in the registry
    families: Mapping[str, Family]

    def __init__(self, options: dict[str, Any], name: str, threads: int):
        """Without torch. `CcrError` for contradictory options, and for missing or unknown models."""
        setting = f"features.extractors.{name}"
        if options["frames"] and options["fps"]:
            raise CcrError(f"{setting}: it has `frames` and `fps`; give one of the two.")
        self._setting, self._options, self._threads = setting, options, threads
        self._checkpoint = find(options["model"], options["revision"], f"{setting}.model")
        self._config = self._checkpoint.config
        self._family = family_of(self._config, self.families, f"{setting}.model")
        self._preprocess = preprocess_of(
            self._checkpoint.preprocessing, self._family.processor, str(self._checkpoint.folder)
        )
        frames = None if options["fps"] else options["frames"] or self._usual_frames()
        self._sampling = Sampling(frames, options["fps"], options["max_frames"])
        self.metadata = {
            "extractor": self.kind,
            "weights": f"{self._checkpoint}, {self._family.model} {self._family.output}, {options['precision']}",
            "preprocess": str(self._preprocess),
            "frame_sampling": self._sampled(),
        }

    @abstractmethod
    def _usual_frames(self) -> int:
        """The default number of frames of a video."""

    @abstractmethod
    def _sampled(self) -> str:
        """What is sampled from a file, in words."""

    @abstractmethod
    def _inputs(self, file: File) -> np.ndarray:
        """The model's inputs from a file, uint8, one per feature; raises `Unreadable`."""

    def extract(self, files: Iterable[File]) -> Iterator[np.ndarray | Unreadable]:
        """Float32 (frames or clips, dim) of every file, in order."""
        from ccr.features.network import Network  # imports torch, needed only if there is something to extract

        options = self._options
        network = Network(
            self._checkpoint.weights(), self._family, self._preprocess,
            options["batch"], options["precision"], self._threads,
        )  # fmt: skip
        read: deque[int | Unreadable] = deque()  # per pending file: number of features, or why there are none
        rows = network.rows(self._read(files, read))
        for first in rows:
            while isinstance(read[0], Unreadable):
                yield read.popleft()
            yield np.stack([first, *islice(rows, read.popleft() - 1)])
        yield from read

    def _read(self, files: Iterable[File], read: deque[int | Unreadable]) -> Iterator[np.ndarray]:
        most = self._sampling.most
        results = in_order(
            self._decode, files, self._threads,
            ahead=2 * self._options["batch"] + self._threads * most, size=lambda f: 1 if f.kind == "image" else most,
        )  # fmt: skip
        for result in results:
            read.append(result if isinstance(result, Unreadable) else len(result))
            if not isinstance(result, Unreadable):
                yield from result

    def _decode(self, file: File) -> np.ndarray | Unreadable:
        try:
            return self._inputs(file)
        except Unreadable as error:
            return error

    def _picture(self, file: File) -> np.ndarray:
        return read_image(file.path, self._preprocess.pixels)

    def _frames(self, file: File) -> np.ndarray:
        def convert(frame: VideoFrame) -> np.ndarray:
            return self._preprocess.pixels(Image.fromarray(upright(frame.to_ndarray(format="rgb24"), frame)))

        return read_video(file.path, self._sampling, convert)
