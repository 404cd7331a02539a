"""The text side of a ccr student for sentence-transformers: runs in ONNX Runtime, without ccr."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer

try:
    from sentence_transformers.base.modules import InputModule
except ImportError:  # before sentence-transformers 6
    from sentence_transformers.models import InputModule


class Student(InputModule):
    """Texts to unit vectors."""

    save_in_root = True

    def __init__(self, folder: str):
        super().__init__()
        self.folder = Path(folder)
        self.facts = json.loads((self.folder / "ccr.json").read_text(encoding="utf-8"))
        self._tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(self.facts["max_tokens"])
        self._tokenizer.enable_padding(pad_id=self.facts["pad_id"])
        self._session = onnxruntime.InferenceSession(
            str(self.folder / "text.onnx"), providers=onnxruntime.get_available_providers()
        )
        self.max_seq_length = self.facts["max_tokens"]

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    def preprocess(self, inputs, prompt=None, **_) -> dict[str, torch.Tensor]:
        encoded = self._tokenizer.encode_batch([self.facts["prompt"] + (prompt or "") + text for text in inputs])
        ids = torch.tensor([encoding.ids for encoding in encoded])
        return {"input_ids": ids, "attention_mask": torch.tensor([encoding.attention_mask for encoding in encoded])}

    tokenize = preprocess

    def forward(self, features: dict[str, torch.Tensor], **_) -> dict[str, torch.Tensor]:
        given = {name: features[name].cpu().numpy().astype(np.int64) for name in ("input_ids", "attention_mask")}
        [vectors] = self._session.run(["unit_vector"], given)
        features["sentence_embedding"] = torch.from_numpy(vectors).to(features["input_ids"].device)
        return features

    def get_sentence_embedding_dimension(self) -> int:
        return self.facts["dim"]

    get_embedding_dimension = get_sentence_embedding_dimension

    def save(self, output_path: str, *_, **__) -> None:
        for name in ("ccr.json", "tokenizer.json", "text.onnx"):
            Path(output_path, name).write_bytes((self.folder / name).read_bytes())

    @classmethod
    def load(cls, model_name_or_path: str, **_) -> "Student":
        return cls(model_name_or_path)
