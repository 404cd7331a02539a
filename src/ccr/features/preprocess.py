"""How a model's pictures are preprocessed, by the preprocessor_config.json next to its weights.

The pixels are those of the model's image processor in `transformers` (its PIL version), but they are cropped as bytes,
in threads and without torch, and scaled on the model's device: only a quarter of the bytes is copied to the GPU.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ccr.errors import CcrError

BICUBIC, BILINEAR = int(Image.Resampling.BICUBIC), int(Image.Resampling.BILINEAR)
# Defaults of the image processors of `transformers`. `edge`: whether a `size` given as one number is that of the
# shorter edge; otherwise it is that of both.
PROCESSORS = {
    "CLIP": {"edge": True, "do_center_crop": True, "resample": BICUBIC},
    "Bit": {"edge": True, "do_center_crop": True, "resample": BICUBIC},
    "VideoMAE": {"edge": True, "do_center_crop": True, "resample": BILINEAR},
    "ConvNext": {"edge": True, "do_center_crop": False, "resample": BICUBIC, "crop_pct": 224 / 256},
    "ViT": {"edge": False, "do_center_crop": False, "resample": BILINEAR},
    "Siglip": {"edge": True, "do_center_crop": False, "resample": BICUBIC},
    "DeiT": {"edge": False, "do_center_crop": True, "resample": BICUBIC},
}
USUAL = {
    **dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "do_convert_rgb"), True),
    "do_center_crop": False,
    "rescale_factor": 1 / 255,
}
SQUEEZED = 384  # pixels from which ConvNext's processor squeezes pictures instead of cropping


Size = tuple[int, int]  # height and width


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop the centre, then (pixel x scale - mean) / std.

    resize: to this size, whatever the shape; or the shorter edge to this length. crop: the size of the crop.
    resample: one of PIL's filters.
    """

    resize: int | Size
    crop: Size
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Uint8 RGB (height, width, 3) of a picture, not yet scaled."""
        width, height = self._resized(*image.size)
        top, left = (height - self.crop[0]) // 2, (width - self.crop[1]) // 2
        resized = image.resize((width, height), self.resample)
        return np.asarray(resized.crop((left, top, left + self.crop[1], top + self.crop[0])))

    def _resized(self, width: int, height: int) -> Size:
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        shorter = min(width, height)
        return int(self.resize * width / shorter), int(self.resize * height / shorter)

    def __str__(self) -> str:
        resized = "{} x {}".format(*self.resize) if isinstance(self.resize, tuple) else f"shorter edge {self.resize}"
        return (
            f"RGB, {resized} {Image.Resampling(self.resample).name.lower()}, middle {self.crop[0]} x {self.crop[1]}, "
            f"x {self.scale:.6g}, mean {list(self.mean)}, std {list(self.std)}"
        )


def preprocess_of(config: Mapping[str, Any], default: str, folder: str) -> Preprocess:
    """The `Preprocess` that a preprocessor_config.json describes.

    Args:
        default: the processor (a key of `PROCESSORS`) if the file names none. folder: the model's, for messages.
    Raises `CcrError` for a processor or step that is not known here, and if pictures would differ in size.
    """
    named = config.get("image_processor_type") or config.get("feature_extractor_type") or default
    processor = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", named)
    if processor not in PROCESSORS:
        raise CcrError(f"{folder}: preprocessing {named!r} is not known here; known: {', '.join(PROCESSORS)}.")
    config = {**USUAL, **PROCESSORS[processor], **config}
    missing = [name for name in ("size", "image_mean", "image_std") if name not in config]
    if missing:
        raise CcrError(f"{folder}: its preprocessing has no {missing[0]!r}.")
    strange = [step for step, on in config.items() if step.startswith("do_") and on and step not in USUAL]
    if strange or not config["do_resize"]:
        raise CcrError(f"{folder}: its preprocessing has {strange[0] if strange else 'no do_resize'}: not known here.")
    return Preprocess(
        *_sizes(config, folder),
        resample=int(config["resample"]),
        scale=float(config["rescale_factor"]) if config["do_rescale"] else 1.0,
        mean=tuple(config["image_mean"]) if config["do_normalize"] else (0.0, 0.0, 0.0),
        std=tuple(config["image_std"]) if config["do_normalize"] else (1.0, 1.0, 1.0),
    )


def _sizes(config: Mapping[str, Any], folder: str) -> tuple[int | Size, Size]:
    """`resize` and `crop` of a `Preprocess`."""
    size = config["size"]
    if isinstance(size, int) and config["edge"]:
        size = {"shortest_edge": size}
    edge = size["shortest_edge"] if isinstance(size, Mapping) and [*size] == ["shortest_edge"] else None
    if edge and "crop_pct" in config:
        return (_pair(edge) if edge >= SQUEEZED else int(edge / config["crop_pct"])), _pair(edge)
    resize, resized = edge or _pair(size), _pair(edge or size)
    crop = _pair(config.get("crop_size")) if config["do_center_crop"] else resize
    if not isinstance(crop, tuple) or not resized or crop[0] > resized[0] or crop[1] > resized[1]:
        raise CcrError(
            f"{folder}: its preprocessing makes no pictures of one size: size {config['size']}, crop_size "
            f"{config.get('crop_size')}."
        )
    return resize, crop


def _pair(size: Any) -> Size | None:
    """(height, width) of a size in the files' notation."""
    if isinstance(size, int):
        return size, size
    return (size["height"], size["width"]) if isinstance(size, Mapping) and size.keys() == {"height", "width"} else None
