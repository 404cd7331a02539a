"""A translation model in memory: texts to tokens, batches of tokens to translations."""

import os
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

from ccr.errors import CcrError
from ccr.translate.checkpoint import Languages
from ccr.translate.engine import Refused

TOKENIZERS = {"marian": "MarianTokenizer", "nllb": "NllbTokenizer", "m2m_100": "M2M100Tokenizer"}
STEP = 8  # tokens between successive batch lengths


class Decoder:
    """A model and its tokenizer.

    A translation is exactly the same whatever else is in its batch, although matrix kernels round differently for
    different shapes: texts are padded to the next of the lengths 8, 16, 24, ... (`columns`), each length has a fixed
    number of rows, and missing rows are filled with copies. Every text is followed by at least one padding token,
    because `transformers` drops the mask, and so uses other kernels, when a batch has no padding. A batch is computed
    by one thread: if several share a product, a row's rounding depends on which thread computes it.
    """

    def __init__(self, folder: Path, kind: str, languages: Languages, options: dict[str, Any]):
        """Load a checkpoint's `folder`; `CcrError` if the weights are incomplete or unreadable."""
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # same result in every run, also on a GPU
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a job uses only its own threads
        torch.set_num_threads(1)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._beams, self._ratio = options["beams"], options["max_length_ratio"]
        self._batch_tokens = options["batch_tokens"]
        self._model = _model(folder, options["precision"]).to(self.device)
        self._tokenizer = _tokenizer(folder, kind, languages)
        self._prefix = languages.prefix
        self._first = self._tokenizer.convert_tokens_to_ids(languages.first) if languages.first else None
        self._positions = self._model.config.max_position_embeddings
        self._longest = min(self._positions - 1, self._tokenizer.model_max_length)
        self._nothing = {self._tokenizer.unk_token_id, self._tokenizer.convert_tokens_to_ids("▁")}
        self._nothing |= set(self._ids(self._prefix))

    def tokens(self, text: str) -> list[int] | Refused:
        """The model's tokens of a text; refused if the model knows none of it or it is too long."""
        try:
            text.encode()
        except UnicodeEncodeError:
            return Refused("not valid text: it holds half of a surrogate pair")
        ids = self._ids(self._prefix + text)
        if set(ids) <= self._nothing:
            return Refused("the model knows none of its characters")
        if len(ids) > self._longest:
            return Refused(f"too long: {len(ids):,} tokens, the model takes {self._longest:,}")
        return ids

    def _ids(self, text: str) -> list[int]:
        # `</s>` in a caption is plain text, not the special token
        return self._tokenizer(text, split_special_tokens=True)["input_ids"]

    def columns(self, length: int) -> int:
        """The number of tokens to which texts of `length` tokens are padded."""
        return min((length // STEP + 1) * STEP, self._positions)

    def rows(self, columns: int) -> int:
        """The number of texts in a batch of this length; every beam counts as a text."""
        return max(1, self._batch_tokens // (columns * self._beams))

    def translate(self, batch: list[list[int]]) -> list[str]:
        """Translations of texts of similar length, at most `rows` of them; threads may share the decoder.

        `CcrError` if the GPU's memory is full.
        """
        columns = self.columns(max(map(len, batch)))
        rows = self.rows(columns)
        copies = [batch[row % len(batch)] for row in range(rows)]
        lengths = torch.tensor([len(ids) for ids in copies])
        mask = torch.arange(columns) < lengths[:, None]
        ids = torch.full((rows, columns), self._tokenizer.pad_token_id)
        ids[mask] = torch.tensor([token for ids in copies for token in ids])
        try:
            with torch.inference_mode():
                found = self._model.generate(
                    input_ids=ids.to(self.device),
                    attention_mask=mask.long().to(self.device),
                    num_beams=self._beams,
                    do_sample=False,
                    forced_bos_token_id=self._first,
                    max_new_tokens=min(int(self._ratio * columns) + 10, self._positions - 1),
                )
        except torch.OutOfMemoryError as error:
            raise CcrError(
                f"The GPU's memory is full with {rows} sentences of {columns} tokens, {self._beams} beams each. Lower "
                f"batch_tokens (now {self._batch_tokens}). What was translated before is kept."
            ) from error
        start = 1 if self._first is None else 2  # where the model's own output starts
        return self._tokenizer.batch_decode(found[: len(batch), start:].tolist(), skip_special_tokens=True)


def _model(folder: Path, precision: str) -> transformers.PreTrainedModel:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    try:
        model, found = transformers.AutoModelForSeq2SeqLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa", output_loading_info=True
        )
    except Exception as error:  # a truncated file, a refused pickle, weights of another model
        raise _unreadable(folder, "weights", error) from error
    if found["missing_keys"]:
        raise CcrError(
            f"{folder}: {len(found['missing_keys'])} weights are missing, {sorted(found['missing_keys'])[0]} for one. "
            "Fetch the model again."
        )
    return model


def _tokenizer(folder: Path, kind: str, languages: Languages) -> transformers.PreTrainedTokenizerBase:
    settings = {"src_lang": languages.source} if languages.source else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # recommends a package that transformers no longer uses
            return getattr(transformers, TOKENIZERS[kind]).from_pretrained(folder, **settings)
    except Exception as error:  # tokenizer files have their own readers, with their own errors
        raise _unreadable(folder, "tokenizer", error) from error


def _unreadable(folder: Path, part: str, error: Exception) -> CcrError:
    reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
    return CcrError(f"{folder}: the model's {part} cannot be read ({reason}). Fetch the model again.")
