"""Which models of `transformers` can be extractors, and which output is their feature."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ccr.errors import CcrError


class Family(NamedTuple):
    """`model`: class of `transformers`. `output`: its field, or `first token` or `mean of tokens` of its last states.

    `processor`: a key of `preprocess.PROCESSORS`, used if the model's files name none. `options`: of the class.
    """

    model: str
    output: str
    processor: str
    options: Mapping[str, Any] = {}


_CLIP = Family("CLIPVisionModelWithProjection", "image_embeds", "CLIP")
_SIGLIP = Family("SiglipVisionModel", "pooler_output", "Siglip")
_UNPOOLED = {"add_pooling_layer": False}  # classifiers come without a pooler

# Looked up by the config's `architectures`, then by its `model_type`.
IMAGE = {
    "CLIPVisionModel": Family("CLIPVisionModel", "pooler_output", "CLIP"),  # saved without the projection
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "resnet": Family("ResNetModel", "pooler_output", "ConvNext"),
    "convnext": Family("ConvNextModel", "pooler_output", "ConvNext"),
    "convnextv2": Family("ConvNextV2Model", "pooler_output", "ConvNext"),
    "vit": Family("ViTModel", "first token", "ViT", _UNPOOLED),
    "deit": Family("DeiTModel", "first token", "DeiT", _UNPOOLED),
    "swin": Family("SwinModel", "pooler_output", "ViT"),
    "dinov2": Family("Dinov2Model", "pooler_output", "Bit"),
    "dinov2_with_registers": Family("Dinov2WithRegistersModel", "pooler_output", "Bit"),
}
VIDEO = {
    "videomae": Family("VideoMAEModel", "mean of tokens", "VideoMAE"),
    "timesformer": Family("TimesformerModel", "first token", "VideoMAE"),
}


def family_of(config: Mapping[str, Any], families: Mapping[str, Family], setting: str) -> Family:
    """The family of the model with this config; `CcrError` when it is none of `families`."""
    names = [*(config.get("architectures") or ()), config.get("model_type")]
    for name in names:
        if name in families:
            return families[name]
    raise CcrError(
        f"{setting}: model_type {config.get('model_type')!r} is not known to this extractor; known: "
        f"{', '.join(families)}."
    )
