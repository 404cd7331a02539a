"""Vision models of two layers with random weights, as folders that `transformers` loads, and image processors."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers as hf

MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES = LAYERS | {"image_size": 32, "patch_size": 8}
TEXT = LAYERS | {"vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2}
SQUARE = {"size": {"height": 32, "width": 32}}
CLIP = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}, "crop_size": SQUARE["size"]}
SIGLIP = {"image_processor_type": "SiglipImageProcessor", **SQUARE}
OLD_CLIP = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32, "do_center_crop": True}
RESNET = {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 32, "crop_pct": 0.875, "resample": 3}
VIDEO = {"image_processor_type": "VideoMAEImageProcessor", "size": {"shortest_edge": 32}, "crop_size": 32}


def save(model: torch.nn.Module, folder: Path, processor: dict[str, Any], name: str = "preprocessor_config.json"):
    """Save a model and the settings of its image processor."""
    model.save_pretrained(folder)
    (folder / name).write_text(json.dumps(processor | {"image_mean": MEAN, "image_std": STD}))
    return folder


def make(kind: str, folder: Path) -> Path:
    """A model of this kind, a key of `KINDS`."""
    torch.manual_seed(0)
    return save(KINDS[kind][0](), folder, KINDS[kind][1])


def _resnet(model: type) -> torch.nn.Module:
    network = model(hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]))
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.5, 2.0)
    return network


def _convnext(prefix: str) -> torch.nn.Module:
    config = getattr(hf, f"{prefix}Config")(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
    return getattr(hf, f"{prefix}Model")(config)


def _clip(model: type) -> torch.nn.Module:
    return model(hf.CLIPVisionConfig(**SIZES, projection_dim=16))


def _whole(prefix: str) -> torch.nn.Module:
    """With the text encoder, as such models are published."""
    config = getattr(hf, f"{prefix}Config")(vision_config=SIZES | {"projection_dim": 16}, text_config=TEXT)
    config.projection_dim = 16
    return getattr(hf, f"{prefix}Model")(config)


def _videomae(model: type) -> torch.nn.Module:
    decoder = {f"decoder_{name}": LAYERS[name] for name in LAYERS}
    return model(hf.VideoMAEConfig(**SIZES, **decoder, num_frames=4, tubelet_size=2))


KINDS = {
    "clip": (lambda: _clip(hf.CLIPVisionModelWithProjection), CLIP),
    "clip_whole": (lambda: _whole("CLIP"), OLD_CLIP),
    "clip_unprojected": (lambda: _clip(hf.CLIPVisionModel), CLIP),
    "siglip": (lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**SIZES)), SIGLIP),
    "siglip_whole": (lambda: _whole("Siglip"), SQUARE),
    "resnet": (lambda: _resnet(hf.ResNetModel), RESNET),
    "resnet_classifier": (lambda: _resnet(hf.ResNetForImageClassification), RESNET),
    "convnext": (lambda: _convnext("ConvNext"), RESNET),
    "convnextv2": (lambda: _convnext("ConvNextV2"), RESNET),
    "vit_classifier": (lambda: hf.ViTForImageClassification(hf.ViTConfig(**SIZES)), {"size": 32}),
    "deit_classifier": (lambda: hf.DeiTForImageClassification(hf.DeiTConfig(**SIZES)), {"size": 40, "crop_size": 32}),
    "dinov2": (lambda: hf.Dinov2Model(hf.Dinov2Config(**SIZES)), {"size": {"shortest_edge": 40}, "crop_size": 32}),
    "dinov2_registers": (
        lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**SIZES)),
        {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 40}, "crop_size": 32},
    ),
    "swin": (
        lambda: hf.SwinModel(hf.SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 2], image_size=32, window_size=4)),
        SQUARE,
    ),
    "videomae": (lambda: _videomae(hf.VideoMAEModel), VIDEO),
    "videomae_classifier": (lambda: _videomae(hf.VideoMAEForVideoClassification), VIDEO),
    "timesformer_classifier": (
        lambda: hf.TimesformerForVideoClassification(hf.TimesformerConfig(**SIZES, num_frames=4)),
        VIDEO,
    ),
}  # fmt: skip
