"""The state of an unfinished training run on disk.

One safetensors file below `work/checkpoints/`, in a folder named by the job's key, so that it is never used with other
settings, code or data. It stores the tensors as they are and everything else as JSON in its header, with a hash of
both: training does not resume from a truncated or damaged file. No part of it is a pickle.
"""

import hashlib
import json
import logging
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ccr.artifacts.files import atomic
from ccr.train import processes

CHECKPOINTS = Path("work/checkpoints")

log = logging.getLogger(__name__)


class Checkpoint:
    """One training run's file.

    Args:
        key: of the job. device: its type. Another type of device or version of torch computes different bits, and a
            result names only one of each: training does not resume from their states.
    """

    def __init__(self, key: str, device: str):
        self.path = CHECKPOINTS / key / "state.safetensors"
        self._of = {"key": key, "device": device, "torch": torch.__version__}

    def save(self, state: Any) -> None:
        """Write nested dicts, lists and tuples of tensors, numbers, strings and None, atomically."""
        tensors: dict[str, Tensor] = {}
        text = json.dumps({"of": self._of, "state": _packed(state, tensors)})
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with atomic(self.path) as temporary:
            save_file(tensors, temporary, {"text": text, "digest": _digest(text, tensors)})

    def load(self) -> Any | None:
        """The saved state; None if there is none to resume from, with a warning if the file cannot be used."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                # copies: the computation must not depend on where in a mapped file a tensor lies
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                text, digest = (file.metadata()[name] for name in ("text", "digest"))
            if _digest(text, tensors) != digest:
                raise ValueError("its content does not have the hash that it names")
            content = json.loads(text)
            if content["of"] != self._of:
                raise ValueError(f"it is of {content['of']}, not of {self._of}")
        except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s: cannot be gone on from (%s). Training starts at the beginning.", self.path, error)
            return None
        return _unpacked(content["state"], tensors)

    def remove(self) -> None:
        """Delete the file and its folder, if they exist."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


def _packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON form of a state; its tensors are added to `tensors`. JSON has neither tuples nor keys that are numbers."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[key, _packed(part, tensors)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_packed(part, tensors) for part in value]}
    return value


def _unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpacked(part, tensors) for key, part in content}
    parts = [_unpacked(part, tensors) for part in content]
    return tuple(parts) if kind == "tuple" else parts


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    content = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        content.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)} ".encode())
        content.update(tensors[name].flatten().view(torch.uint8).numpy())
    return content.hexdigest()


def random_state() -> dict[str, Any]:
    """State of every random generator that training may draw from; torch's in every process."""
    cuda = torch.cuda.is_available()
    return {
        "python": random.getstate(),
        "numpy": {**(state := np.random.get_state(legacy=False)), "state": _listed(state["state"])},
        "torch": processes.gather(torch.get_rng_state()[None]),
        "cuda": processes.gather(torch.cuda.get_rng_state()[None]) if cuda else None,
    }


def _listed(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in state.items()}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore every random generator to what `random_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    rank = processes.rank()
    torch.set_rng_state(state["torch"][rank].clone())  # torch crashes if a tensor is part of another one
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"][rank].clone())
