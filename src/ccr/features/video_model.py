"""Any video model of `transformers`, by hub name or folder: a feature of each clip of consecutive sampled frames."""

import numpy as np

from ccr.errors import CcrError
from ccr.features.families import VIDEO
from ccr.features.model import ModelExtractor
from ccr.media.decoding import File


class Extractor(ModelExtractor):
    """See `ModelExtractor`. By default one clip, over the whole video."""

    kind = "video_model"
    families = VIDEO

    def _usual_frames(self) -> int:
        return self._config["num_frames"]

    def _sampled(self) -> str:
        return f"{self._sampling}; clips of {self._config['num_frames']} consecutive ones"

    def _inputs(self, file: File) -> np.ndarray:
        if file.kind == "image":
            raise CcrError(f"{self._setting}: {file.path} is a picture, and this is for videos. Use an image_model.")
        frames = self._frames(file)
        return frames[clips(len(frames), self._config["num_frames"])]


def clips(frames: int, length: int) -> np.ndarray:
    """Frame positions of the fewest clips that cover all frames, (clips, length).

    Clips that do not fit end to end overlap; a video shorter than a clip repeats its frames.
    """
    if frames < length:
        return (2 * np.arange(length)[None] + 1) * frames // (2 * length)
    number = -(-frames // length)
    first = np.arange(number) * (frames - length) // max(number - 1, 1)
    return first[:, None] + np.arange(length)
