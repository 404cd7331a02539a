"""NRCCR's published checkpoints: their layout, a reader that executes none of their code, and their import as a run.

A checkpoint is a torch file (`model_best.pth.tar`) with five state dicts in a list under `model` and an
`argparse.Namespace` under `opt`. It is a pickle and thus a program, so only torch's restricted unpickler reads it here.
"""

import argparse
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ccr.artifacts.contents import content_hash
from ccr.artifacts.files import atomic_folder, write_json
from ccr.artifacts.hashes import digest
from ccr.errors import CcrError
from ccr.networks.checkpoint import save_weights
from ccr.networks.dual_encoder import DualEncoder
from ccr.networks.pretrained import encoder_config
from ccr.networks.tokens import pretrained_tokenizer

PARTS = ("vid_encoding", "text_encoding", "vid_mapping", "text_mapping", "AdvAgent")

_STACK = {
    "input_proj_layer.LayerNorm.": "input.norm.",
    "input_proj_layer.net.1.": "input.linear.",
    "pos_embed_layer.position_embeddings.": "block.positions.",
    "pos_embed_layer.LayerNorm.": "block.position_norm.",
    "encoder_layer.self.query.": "block.query.",
    "encoder_layer.self.key.": "block.key.",
    "encoder_layer.self.value.": "block.value.",
    "encoder_layer.output.dense.": "block.out.",
    "encoder_layer.output.LayerNorm.": "block.norm.",
}
_PREFIXES = {
    "text_encoding.text_bert.text_bert.pooler.": None,  # token states are pooled by a mean
    "text_encoding.text_bert.text_bert.embeddings.position_ids": None,  # 0, 1, 2, ...: a buffer of old `transformers`
    "text_encoding.text_bert.text_bert.": "text.model.",
    **{f"text_encoding.{published}": f"text_layers.{ours}" for published, ours in _STACK.items()},
    **{f"vid_encoding.{published}": f"visual.{ours}" for published, ours in _STACK.items()},
    "vid_encoding.proj.": "visual.input.linear.",  # image mode
    "text_mapping.mapping.fc1.": "text_head.linear.",
    "text_mapping.mapping.bn_1.": "text_head.norm.",
    "vid_mapping.mapping.fc1.": "visual_head.linear.",
    "vid_mapping.mapping.bn_1.": "visual_head.norm.",
    "AdvAgent.discriminator.model.": "classify.",
    "AdvAgent.discriminator.convolve.": "convolutions.",
}
_CONVOLUTION = {".conv1.": ".first.", ".conv2.": ".second."}


def rename(name: str) -> str | None:
    """Our name for a published weight: in a `DualEncoder`, or for `AdvAgent[...]` in a `Discriminator`.

    Args:
        name: `{part}.{name in the part's state dict}`, the part one of `PARTS` or `AdvAgent[kind]`.
    Returns:
        None for a weight without counterpart, which no result depends on. Raises `CcrError` for an unknown name.
    """
    bare = re.sub(r"^AdvAgent\[[\w-]+\]", "AdvAgent", name)
    prefix = next((prefix for prefix in _PREFIXES if bare.startswith(prefix)), None)
    if prefix is None:
        raise CcrError(f"{name}: NRCCR as published has no such weight.")
    if _PREFIXES[prefix] is None:
        return None
    rest = bare.removeprefix(prefix)
    if prefix == "AdvAgent.discriminator.convolve.":
        rest = re.sub(r"\.conv[12]\.", lambda match: _CONVOLUTION[match[0]], rest)
    return _PREFIXES[prefix] + rest


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint: weights under their published names (`{part}.{name}`), options, epoch (if it says so)."""

    weights: dict[str, Tensor]
    options: dict[str, Any]
    epoch: int | None


def read_checkpoint(path: str | PathLike) -> Checkpoint:
    """Read a published checkpoint without executing any of it.

    Raises `CcrError` when the file is missing or damaged, holds anything but tensors, containers and a Namespace, or
    does not have the published layout.
    """
    content = _unpickle(path)
    if not isinstance(content, dict) or not {"model", "opt"} <= content.keys():
        raise CcrError(f"{path}: expected a dict with `model` and `opt`, as NRCCR's training writes it.")
    parts, options, epoch = content["model"], content["opt"], content.get("epoch")
    if not isinstance(options, argparse.Namespace):
        raise CcrError(f"{path}: `opt` is a {type(options).__name__}, expected an argparse.Namespace.")
    if not isinstance(parts, list | tuple) or len(parts) != len(PARTS) or not all(map(_is_state_dict, parts)):
        raise CcrError(f"{path}: `model` is not a list of five state dicts ({', '.join(PARTS)}).")
    weights = {
        f"{part}.{name.removeprefix('module.')}": tensor  # encoders that were trained on several GPUs are wrapped
        for part, state in zip(PARTS, parts, strict=True)
        for name, tensor in state.items()
    }
    return Checkpoint(weights, vars(options), epoch if isinstance(epoch, int) else None)


def _unpickle(path: str | PathLike) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch asks for bug reports about foreign pickles
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text recommends reading the file without protection: not passed on
        name = re.search(r"GLOBAL (\S+)", str(error))
        asks = f"asks for `{name[1]}`" if name else "is not one that torch.save writes"
        raise CcrError(
            f"{path}: refused. Its pickle {asks}; a checkpoint holds tensors, containers and an argparse.Namespace, "
            "nothing else. Nothing of it was run. Do not trust this file; if you made it, save it again without that."
        ) from error
    except FileNotFoundError as error:
        raise CcrError(f"{path}: no such file. Expected an NRCCR checkpoint (model_best.pth.tar).") from error
    except Exception as error:  # truncated, or no torch file at all: anything from EOFError to KeyError
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise CcrError(f"{path}: not a whole torch file ({reason}). Fetch it again.") from error


def _is_state_dict(state: Any) -> bool:
    return isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())


def import_checkpoint(path: str | PathLike, folder: str | PathLike, text_encoder: str) -> None:
    """Write a published checkpoint as a run directory that `ccr evaluate --run` scores (`compat: nrccr`).

    Args:
        path: the checkpoint. folder: the run directory, which must not exist yet.
        text_encoder: name or folder of the transformer that was fine-tuned: its config and tokenizer are used.

    Raises `CcrError` for what `read_checkpoint` refuses, for weights that are not those of NRCCR on top of
    `text_encoder`, and for a folder that exists.
    """
    if Path(folder).exists():
        raise CcrError(f"{folder}: exists already. Delete it, or name another folder for the imported run.")
    checkpoint = read_checkpoint(path)
    if text_encoder == "scratch":
        raise CcrError("--text-encoder: give the name or folder of a transformer; `scratch` has no tokenizer.")
    try:
        text_config, tokenizer = encoder_config({"encoder": text_encoder}, 0), pretrained_tokenizer(text_encoder)
    except CcrError as error:
        raise CcrError(
            f"{path}: its transformer's config and tokenizer are missing (--text-encoder): {error}"
        ) from error
    try:
        network, feature_dim = _network_settings(checkpoint, text_encoder, text_config)
        model = DualEncoder(network, text_config, feature_dim, pretrained=False)
    except KeyError as error:
        raise CcrError(f"{path}: it has no {error.args[0]}, which every NRCCR checkpoint has.") from error
    except (ValueError, RuntimeError) as error:  # sizes that are impossible, or too large for the memory
        raise CcrError(f"{path}: {error}") from error
    _load(model, checkpoint, path, text_encoder)

    content = content_hash(path)
    settings = {"network": network}
    facts = {"key": digest([content, settings]), "file": Path(path).name, "blake2b": content}
    if checkpoint.epoch is not None:
        facts["epoch"] = checkpoint.epoch
    description = {"key": facts["key"], "settings": settings, "text_config": text_config, "feature_dim": feature_dim}
    with atomic_folder(folder) as temporary:
        save_weights(model.state_dict(), temporary / "model.safetensors")
        write_json(description | {"terms": ["imported NRCCR checkpoint"]}, temporary / "config.json")
        write_json(json.loads(tokenizer.to_str()), temporary / "tokenizer.json")
        write_json(facts, temporary / "provenance.json")


def _network_settings(
    checkpoint: Checkpoint, text_encoder: str, text_config: Mapping[str, Any]
) -> tuple[dict[str, Any], int]:
    """Settings (`networks.*`) of the checkpoint's network and the dimension of its features.

    Raises `KeyError` for a missing weight or option, `ValueError` for an impossible one.
    """
    weights, options = checkpoint.weights, checkpoint.options
    image = "vid_encoding.proj.weight" in weights
    if not image and (options.get("video_layer", 1), options.get("video_pooling", "mean")) != (1, "mean"):
        raise ValueError(
            "opt.video_layer and opt.video_pooling: only 1 and 'mean' exist here."
        )  # further layers are not saved
    text_hidden, _ = _shape(weights, "text_encoding.input_proj_layer.net.1.weight")
    text_positions, _ = _shape(weights, "text_encoding.pos_embed_layer.position_embeddings.weight")
    dim, _ = _shape(weights, "text_mapping.mapping.fc1.weight")
    if image:
        visual_hidden, feature_dim = _shape(weights, "vid_encoding.proj.weight")
        frames = 1
    else:
        visual_hidden, feature_dim = _shape(weights, "vid_encoding.input_proj_layer.net.1.weight")
        frames, _ = _shape(weights, "vid_encoding.pos_embed_layer.position_embeddings.weight")
    undropped = {"input_dropout": 0.0, "dropout": 0.0}  # dropout is for training
    text = {
        "encoder": text_encoder,
        "max_tokens": min(text_positions, text_config.get("max_position_embeddings", text_positions)),
        "frozen_layers": 0,
        "frozen_prefix": "computed",
        "prompt": "",
        **dict.fromkeys(("hidden", "layers", "heads", "feedforward", "vocabulary", "dropout")),
        "block": {"hidden": text_hidden, **_heads(checkpoint, "text"), **undropped},
    }
    visual = {
        "hidden": visual_hidden,
        "layer_norm": not image,
        **undropped,
        "max_frames": min(frames, 64),  # the published limit; the table has a few more positions
        "block": None if image else _heads(checkpoint, "video"),
    }
    return {
        "text": text,
        "visual": visual,
        "dim": dim,
        "norm": "batch_all_streams",
        "pooling": "padded_mean",
        "dropout": 0.0,
    }, feature_dim


def _shape(weights: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    shape = tuple(weights[name].shape)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{name} has shape {shape}, expected a matrix.")
    return shape


def _heads(checkpoint: Checkpoint, side: str) -> dict[str, int]:
    """`heads` and `keys` of the attention block of `text` or `video`."""
    heads = checkpoint.options[f"{side}_num_attention"]
    encoder = {"text": "text_encoding", "video": "vid_encoding"}[side]
    keys, hidden = _shape(checkpoint.weights, f"{encoder}.encoder_layer.self.query.weight")
    if not isinstance(heads, int) or heads < 1 or keys % heads or hidden % heads:
        raise ValueError(f"opt.{side}_num_attention is {heads!r}, expected a divisor of {keys} and {hidden}.")
    return {"heads": heads, "keys": keys}


def _load(model: DualEncoder, checkpoint: Checkpoint, path: str | PathLike, text_encoder: str) -> None:
    """Load the checkpoint's weights; every weight of the network must be there, and every one in the file must fit."""
    published, state = {}, {"log_tau": model.log_tau.detach()}  # NRCCR has fixed temperatures
    for name, tensor in checkpoint.weights.items():
        try:
            ours = rename(name)
        except CcrError as error:
            raise CcrError(f"{path}: {error}") from error
        if ours is not None and not name.startswith("AdvAgent"):  # a run has no discriminator
            published[ours], state[ours] = name, tensor
    for ours, block in (("text_layers", model.text_layers.block), ("visual", model.visual.block)):
        if block is not None:
            name = f"{ours}.block.positions.weight"
            state[name] = state[name][: len(block.positions.weight)]
    expected, found = ({name: tuple(t.shape) for name, t in s.items()} for s in (model.state_dict(), state))
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        transformer = name.startswith("text.model.")
        raise CcrError(
            f"{path}: {len(wrong)} weights do not fit, first {published.get(name, name)}: the file has "
            f"{found.get(name, 'none')}, {text_encoder if transformer else 'NRCCR'} has {expected.get(name, 'none')}. "
            + ("Give the transformer it was trained with (--text-encoder)." if transformer else "Fetch it again.")
        )
    model.load_state_dict(state)
