"""A trained network on disk: `model.safetensors`, `config.json`, `tokenizer.json`. No pickle."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from ccr.artifacts.files import atomic, read_json
from ccr.errors import CcrError
from ccr.networks.dual_encoder import DualEncoder


def save_weights(state: Mapping[str, torch.Tensor], path: str | PathLike) -> None:
    """Write a state dict as safetensors, atomically."""
    with atomic(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)


def load_network(model: str | PathLike, config: str | PathLike) -> tuple[DualEncoder, dict[str, Any]]:
    """The network in eval mode and its config. `CcrError` when a file is missing, damaged or of another shape."""
    description = read_json(config)
    try:
        settings = description["settings"]
        frozen = description.get("frozen_weights")  # hash of the named model's; the run has no copy
        network = DualEncoder(
            settings["network"], description["text_config"], description["feature_dim"], pretrained=frozen is not None
        )
    except KeyError as error:
        raise CcrError(f"{config}: has no {error}: another version of ccr wrote it. Train the run again.") from error
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:  # values that no network has
        raise CcrError(f"{config}: describes no network ({error}). Train the run again.") from error
    if frozen is not None and network.text.frozen_hash != frozen:
        raise CcrError(
            f"{settings['network']['text']['encoder']}: its weights are not those that {model} was trained on. "
            "Give the model back its former weights, or train the run again."
        )
    try:
        weights = _weights(model, network)
        if missing := set(network.own_state()) - set(weights):
            raise RuntimeError(f"no {min(missing)!r}")
        network.load_state_dict(weights, strict=frozen is None)
    except FileNotFoundError as error:
        raise CcrError(f"{model}: no such file. Train the run first.") from error
    except (SafetensorError, RuntimeError) as error:
        raise CcrError(f"{model}: does not fit {config} or is cut off ({error}). Train the run again.") from error
    return network.eval(), description


def _weights(model: str | PathLike, network: DualEncoder) -> dict[str, torch.Tensor]:
    """The tensors of a file; `RuntimeError` if one has another type than the network's: numbers would change."""
    weights = load_file(model)
    for name, tensor in network.own_state().items():
        if name in weights and weights[name].dtype != tensor.dtype:
            raise RuntimeError(f"{name!r} is {weights[name].dtype}, expected {tensor.dtype}")
    return weights


def load_text_encoder(network: DualEncoder, model: str | PathLike) -> None:
    """Load the text encoder and the text head of another network (a CL teacher) into this one, in place.

    Raises `CcrError` when the file is missing or damaged, or when the two have different shapes.
    """
    try:
        weights = _weights(model, network)
        own = {name for name in network.own_state() if name.startswith("text")}
        missing, _ = network.load_state_dict({n: w for n, w in weights.items() if n in own}, strict=False)
    except FileNotFoundError as error:
        raise CcrError(f"{model}: no such file. Train the teacher first.") from error
    except (SafetensorError, RuntimeError) as error:
        raise CcrError(f"{model}: cut off, or of another network than its student's ({error}).") from error
    if own & set(missing):
        raise CcrError(f"{model}: has no {min(own & set(missing))!r}; teacher and student must share their network.")


def load_tokenizer(path: str | PathLike) -> Tokenizer:
    """The tokenizer of a run; `CcrError` when it is missing or damaged."""
    try:
        return Tokenizer.from_str(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CcrError(f"{path}: no such file. Train the run first.") from error
    except Exception as error:  # the tokenizers library raises bare Exception
        raise CcrError(f"{path}: not a tokenizer ({error}). Train the run again.") from error
