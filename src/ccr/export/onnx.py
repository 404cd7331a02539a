"""A run as ONNX: `text.onnx`, `visual.onnx`, `tokenizer.json`, `ccr.json`, `README.md`."""

import json
import logging
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from ccr.errors import CcrError
from ccr.export.card import card
from ccr.export.folder import new_folder
from ccr.export.towers import TextTower, VisualTower
from ccr.networks.checkpoint import load_network, load_tokenizer

INSTALL = "ccr export needs onnx and onnxscript: pip install -e '.[export]' -c constraints.txt"


def export(files: Mapping[str, str], folder: Path, evaluations: list[Path]) -> None:
    """Write a run for ONNX Runtime into a new folder.

    `text.onnx`: `input_ids`, `attention_mask` (B, L) int64 -> `unit_vector` (B, dim) float32. `visual.onnx`, of a
    student: `features` (B, F, feature_dim) float32, `frame_mask` (B, F) int64 -> `unit_vector`. `ccr.json`:
    `max_tokens`, `max_frames`, `prompt`, `pad_id`, `dim`.

    Args:
        files: the run's, by role. evaluations: folders of its evaluations, for the model card.
    Raises:
        CcrError: a run whose embeddings depend on their batch; a folder that already exists; a missing package.
    """
    with new_folder(folder) as temporary:
        write(files, temporary, evaluations, visual=True)


def write(files: Mapping[str, str], folder: Path, evaluations: list[Path], visual: bool) -> None:
    """Write the files of `export` into an existing folder, with or without the visual side."""
    if find_spec("onnxscript") is None:
        raise CcrError(INSTALL)
    network, description = load_network(files["model"], files["config"])
    settings = description["settings"]["network"]
    length, frames = settings["text"]["max_tokens"], settings["visual"]["max_frames"]
    _trace(TextTower(network), _text_example(length), ("input_ids", "attention_mask"), length, folder / "text.onnx")
    if visual and network.visual is not None:
        shown = min(2, frames)
        example = torch.rand(3, shown, description["feature_dim"]), torch.ones(3, shown).long()
        _trace(VisualTower(network), example, ("features", "frame_mask"), frames, folder / "visual.onnx")
    tokenizer = load_tokenizer(files["tokenizer"])
    tokenizer.no_padding()
    tokenizer.no_truncation()
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    facts = {"max_tokens": length, "max_frames": frames, "prompt": settings["text"]["prompt"]}
    facts |= {"pad_id": _pad_id(tokenizer), "dim": settings["dim"]}
    (folder / "ccr.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    (folder / "README.md").write_text(card(files, description, evaluations), encoding="utf-8")


def _text_example(length: int) -> tuple[Tensor, Tensor]:
    tokens = min(7, length)
    mask = torch.ones(3, tokens).long()
    mask[0, -1] = 0
    return torch.ones(3, tokens).long(), mask


def _trace(tower: nn.Module, example: tuple[Tensor, ...], names: tuple[str, ...], longest: int, path: Path) -> None:
    batch, length = Dim("batch"), Dim("length", max=longest) if longest > 1 else None
    shapes: Any = tuple({0: batch, 1: length} if length else {0: batch} for _ in example)
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):  # they log every step
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            tower.eval(),
            example,
            dynamic_shapes=shapes,
            input_names=list(names),
            output_names=["unit_vector"],
            dynamo=True,
            verbose=False,
        )
    program.save(str(path))


def _pad_id(tokenizer) -> int:
    found = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>"))
    return next((number for number in found if number is not None), 0)
