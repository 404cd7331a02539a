"""Captions as token ids, tokenised once: all texts of a job in one flat array."""

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Encoding, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from ccr.errors import CcrError
from ccr.networks.ragged import Ragged, WordPlaces
from ccr.networks.transfer import to_device

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SOUTH_EAST_ASIAN = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
STACKER = r"[\u1039\u17d2]"  # put the next consonant of Burmese and Khmer below this one
# letters of scripts written without spaces: those above, Chinese characters, kana
UNSPACED = re.compile(rf"[{SOUTH_EAST_ASIAN}\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A WordPiece tokenizer of about `vocabulary` pieces: NFC, lower case, accents and joiners kept.

    Chinese, Japanese and South East Asian scripts are split into characters, each with its marks. The same texts give
    the same tokenizer.
    """
    texts = list(texts)
    tokenizer = _word_piece({})
    tokenizer.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            # The trainer numbers continuations in the random order of a hash map and breaks ties by number:
            # listed beforehand, they have fixed numbers.
            special_tokens=[*SPECIAL, *(f"##{c}" for c in _alphabet(tokenizer, texts))],
            show_progress=False,
        ),
    )
    tokenizer = _word_piece(tokenizer.get_vocab())
    tokenizer.add_special_tokens(list(SPECIAL))
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    return tokenizer


def _word_piece(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace("İ", "i"),  # lower-casing would turn it into two characters; Turkish has one
            # clean_text would remove the joiners of Indic and Arabic scripts
            normalizers.BertNormalizer(
                clean_text=False, strip_accents=False, lowercase=True, handle_chinese_chars=True
            ),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rf"(?=[{SOUTH_EAST_ASIAN}])(?:\X(?<={STACKER}))*\X"), "isolated"),
            pre_tokenizers.BertPreTokenizer(),
        ]
    )
    return tokenizer


def _alphabet(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Characters that continue a word, sorted."""
    words = {word for word in " ".join(map(tokenizer.normalizer.normalize_str, texts)).split()}
    return sorted({c for word in words for c in word[1:]})


def pretrained_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a named model; `CcrError` when it cannot be loaded or has no fast form."""
    from transformers import AutoTokenizer  # takes seconds, and only named models need it

    try:
        return AutoTokenizer.from_pretrained(name).backend_tokenizer
    except Exception as error:  # the tokenizers library raises bare Exception
        raise CcrError(
            f"networks.*.text.encoder: no tokenizer for {name!r} ({error}). Expected a folder with tokenizer.json, or "
            f"a model name that this machine can download."
        ) from error


def word_places(encoding: Encoding, text: str, prompt: int = 0) -> list[int]:
    """Index of each token's word in the text, -1 for special tokens and those of the first `prompt` characters.

    Words are the tokenizer's pre-tokens; where one of them is a whole clause of a script written without spaces (as
    with SentencePiece in Chinese or Japanese), each of the clause's tokens is a word.
    """
    places, place, last = [], -1, None
    for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
        word = None if end <= prompt else word
        if word is not None and (word != last or UNSPACED.search(text, start, end)):
            place += 1
        places.append(-1 if word is None else place)
        last = word
    return places


class Tokens:
    """Tokenised texts, special tokens included, truncated to `max_tokens`; row i is text i.

    Args:
        words: find out which tokens form a word.
        prompt: prepended to each text; it forms no word.

    Attributes:
        ids: (total,) int64 token ids, text after text.
        places: (total,) int64 of each token, see `word_places`; None without `words`.
        mask, pad: ids of the mask and the padding token, None if the tokenizer has none.
        start, length: (texts,) int64.
    """

    def __init__(
        self, tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int, words: bool = False, prompt: str = ""
    ):
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a job keeps to its threads
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
        encode = tokenizer.encode_batch if words else tokenizer.encode_batch_fast  # without places in the text
        encoded, places = [], []
        for first in range(0, len(texts), 4096):  # an Encoding is large: a few at a time
            some = [prompt + text for text in texts[first : first + 4096]]
            for text, encoding in zip(some, encode(some), strict=True):
                encoded.append(np.array(encoding.ids))
                places += word_places(encoding, text, len(prompt)) if words else []
        self.mask = _first_id(tokenizer, "[MASK]", "<mask>")
        self.pad = _first_id(tokenizer, "[PAD]", "<pad>")
        self.length = np.fromiter(map(len, encoded), np.int64, len(encoded))
        self.start = np.cumsum(self.length) - self.length
        self.ids = np.concatenate(encoded).astype(np.int64)
        self.places = np.array(places, np.int64) if words else None

    def __len__(self) -> int:
        return len(self.length)

    def batch(self, rows: np.ndarray, device: Any = "cpu", shape: type[Ragged] = Ragged) -> tuple[Tensor, Ragged]:
        """Token ids (N,) of these texts, one after the other, and their shape (of class `shape`)."""
        batch = shape(torch.from_numpy(self.length[rows]), device)
        return batch.fill(to_device(self.ids[self._flat(rows)], device), self.pad), batch

    def words(self, rows: np.ndarray, shape: Ragged) -> WordPlaces:
        """Where the words of `batch`'s texts are, see `word_places`."""
        return shape.words(torch.from_numpy(self.places[self._flat(rows)]))

    def _flat(self, rows: np.ndarray) -> np.ndarray:
        """Indices of the tokens of these texts, one text after the other."""
        length = self.length[rows]
        shift = np.repeat(self.start[rows] - (np.cumsum(length) - length), length)
        return shift + np.arange(len(shift))


def _first_id(tokenizer: Tokenizer, *names: str) -> int | None:
    return next((number for number in map(tokenizer.token_to_id, names) if number is not None), None)
