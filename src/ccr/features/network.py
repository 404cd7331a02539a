"""Run a vision model: batches of pixels to features."""

import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor

from ccr.errors import CcrError
from ccr.features.families import Family
from ccr.features.pool import in_order
from ccr.features.preprocess import Preprocess


class Network:
    """A model that computes one batch while the next one is filled: on the GPU, or `threads` batches at once.

    A feature depends only on its own pixels, not on the rest of its batch. Matrix kernels round differently for
    different shapes, so all batches have one shape (the last one is padded), and one thread computes a batch.
    """

    def __init__(self, folder: Path, family: Family, preprocess: Preprocess, batch: int, precision: str, threads: int):
        """Load the weights; `CcrError` if they are incomplete or not the model's."""
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # the same features in every run, also on a GPU
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32
        torch.set_num_threads(1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._model = _load(folder, family, self._dtype).eval().to(self.device)
        self._output, self._batch, self._threads = family.output, batch, threads
        self._scale = preprocess.scale
        self._mean, self._std = (torch.tensor(each, device=self.device) for each in (preprocess.mean, preprocess.std))

    def rows(self, pixels: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Features, float32 (dim,), of pictures (height, width, 3) or clips (frames, height, width, 3), all uint8.

        Raises `CcrError` when the GPU's memory is full.
        """
        pixels = iter(pixels)
        batches = iter(lambda: [*islice(pixels, self._batch)], [])
        if self.device.type == "cuda":
            return chain.from_iterable(self._on_gpu(batches))
        return chain.from_iterable(in_order(self._on_cpu, batches, self._threads, ahead=self._threads))

    def _on_cpu(self, batch: list[np.ndarray]) -> np.ndarray:
        filled = np.zeros((self._batch, *batch[0].shape), np.uint8)
        np.stack(batch, out=filled[: len(batch)])
        return self.forward(torch.from_numpy(filled))[: len(batch)].numpy()

    def _on_gpu(self, batches: Iterable[list[np.ndarray]]) -> Iterator[np.ndarray]:
        """Fill one buffer while the other one is being copied and computed."""
        buffers: list[Tensor] = []
        before: tuple[Tensor, torch.cuda.Event] | None = None
        for number, batch in enumerate(batches):
            if len(buffers) < 2:
                buffers.append(torch.zeros((self._batch, *batch[0].shape), dtype=torch.uint8, pin_memory=True))
            buffer = buffers[number % 2]
            np.stack(batch, out=buffer.numpy()[: len(batch)])
            try:
                features = self.forward(buffer.to(self.device, non_blocking=True))[: len(batch)]
                copy = torch.empty(features.shape, pin_memory=True).copy_(features, non_blocking=True)
            except torch.OutOfMemoryError as error:
                raise CcrError(
                    f"The GPU's memory is full with a batch of {self._batch}. Lower the extractor's `batch`; what was "
                    "extracted before is kept."
                ) from error
            done = torch.cuda.Event()
            done.record()
            if before:
                yield _arrived(*before)
            before = copy, done
        if before:
            yield _arrived(*before)

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> Tensor:
        """Float32 (batch, dim) of uint8 (batch, ..., height, width, 3)."""
        scaled = (pixels.float() * self._scale - self._mean) / self._std
        found = self._model(pixel_values=scaled.movedim(-1, -3).to(self._dtype))
        if self._output == "first token":
            features = found.last_hidden_state[:, 0]
        elif self._output == "mean of tokens":
            features = found.last_hidden_state.mean(dim=1)
        else:
            features = found[self._output]
        return features.flatten(1).float()


def _arrived(copy: Tensor, done: torch.cuda.Event) -> np.ndarray:
    done.synchronize()
    return copy.numpy()


def _load(folder: Path, family: Family, dtype: torch.dtype) -> transformers.PreTrainedModel:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model, found = getattr(transformers, family.model).from_pretrained(
            folder, dtype=dtype, output_loading_info=True, **family.options
        )
    except Exception as error:  # truncated files, a refused pickle, weights of another model
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CcrError(f"{folder}: the model's weights cannot be read ({reason}). Fetch the model again.") from error
    if found["missing_keys"]:
        raise CcrError(
            f"{folder}: {len(found['missing_keys'])} weights of {family.model} are missing, "
            f"{sorted(found['missing_keys'])[0]} for one. Fetch the model again."
        )
    return model
