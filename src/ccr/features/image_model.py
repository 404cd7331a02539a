"""Any image model of `transformers`, by hub name or folder: one feature of a picture or of each frame of a video."""

import numpy as np

from ccr.features.families import IMAGE
from ccr.features.model import ModelExtractor
from ccr.media.decoding import File

FRAMES = 8


class Extractor(ModelExtractor):
    """See `ModelExtractor`. Takes 8 frames of a video by default."""

    kind = "image_model"
    families = IMAGE

    def _usual_frames(self) -> int:
        return FRAMES

    def _sampled(self) -> str:
        return f"{self._sampling}; 1 of an image"

    def _inputs(self, file: File) -> np.ndarray:
        return self._picture(file) if file.kind == "image" else self._frames(file)
