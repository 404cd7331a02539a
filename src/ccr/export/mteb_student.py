"""An exported run as an MTEB encoder, for tasks with texts and pictures."""

import io
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Image
from langcodes import Language
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction
from torch.utils.data import DataLoader

from ccr import languages
from ccr.artifacts.contents import content_hash
from ccr.artifacts.files import read_json
from ccr.artifacts.runs import run_files
from ccr.errors import CcrError
from ccr.evaluate.encoder import Encoder
from ccr.export.mteb import EXTRACTOR
from ccr.media.decoding import File, Unreadable
from ccr.registry import EXTRACTORS

BATCH = 256


class Student(AbsEncoder):
    """The output of `ccr export mteb RUN DIR`, for `mteb.evaluate(Student(DIR), tasks)`.

    MTEB stores results under `ccr/{name of the folder}` and the hash of the weights.
    """

    def __init__(self, folder: str | PathLike[str]):
        """Raises `CcrError` if a file is missing or damaged, or the extractor's model is not available."""
        files, made_by = run_files(folder), read_json(Path(folder) / EXTRACTOR)
        self._encoder = Encoder(files, BATCH)
        extractor = EXTRACTORS[made_by["extractor"]].load().Extractor
        self._extractor = extractor(made_by["options"], made_by["name"], torch.get_num_threads())
        settings = self._encoder.description["settings"]
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": f"ccr/{Path(folder).name}",
                "revision": content_hash(files["model"]),
                "languages": [_iso(lang) for lang in sorted({settings["source_lang"], *settings["langs"]})],
                "modalities": ["text", "image"],
                "max_tokens": settings["network"]["text"]["max_tokens"],
                "embed_dim": settings["network"]["dim"],
                "similarity_fn_name": ScoringFunction.DOT_PRODUCT,
                "framework": ["PyTorch"],
            }
        )

    def encode(self, inputs: DataLoader, *, task_metadata, **_: Any) -> np.ndarray:
        """(inputs, dim) float32 unit vectors of texts or of pictures.

        Raises `CcrError` for pictures that cannot be read, and for inputs that combine picture and text.
        """
        columns = {"text", "image"}.intersection(inputs.dataset.column_names)
        if columns == {"text"}:
            return self._encoder.texts([text for batch in inputs for text in batch["text"]]).numpy()
        if columns == {"image"}:
            return self._encoder.extracted(list(self._features(inputs.dataset, task_metadata.name))).numpy()
        raise CcrError(
            f"{task_metadata.name}: a run embeds a text or a picture, and its inputs are {columns or 'none'}."
        )

    def _features(self, dataset: Dataset, task: str) -> Iterator[np.ndarray]:
        """Features (1, feature_dim) of each picture, from the bytes of its file, extracted as for training."""
        pictures = dataset.select_columns(["image"]).cast_column("image", Image(decode=False))
        for number, features in enumerate(self._extractor.extract(_file(row["image"]) for row in pictures)):
            if isinstance(features, Unreadable):
                raise CcrError(f"{task}: picture {number} cannot be read: {features}.")
            yield features


def _file(picture: Mapping[str, Any]) -> File:
    return File(io.BytesIO(picture["bytes"]) if picture["bytes"] else Path(picture["path"]), "image")


def _iso(lang: str) -> str:
    """A language in MTEB's notation: `zh` -> `zho-Hans`."""
    return f"{Language.get(lang).to_alpha3()}-{languages.script(lang)}"
