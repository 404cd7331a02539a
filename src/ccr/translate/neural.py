"""Engine transformers: MarianMT (OPUS-MT), NLLB and M2M100 models, by hub name or from a folder, on CPU or GPU."""

import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tqdm import tqdm

from ccr.artifacts.jobs import Job
from ccr.translate.checkpoint import find
from ccr.translate.engine import Outcome, Past, Refused, languages

if TYPE_CHECKING:
    from ccr.translate.decoder import Decoder

log = logging.getLogger(__name__)


class Engine:
    """Beam search over batches of sentences of similar length, on the GPU or with one batch per thread.

    Deterministic, and a translation depends only on its sentence: see `decoder.Decoder`. `batch_tokens` is not part of
    the identity: it changes the shape of batches and so the rounding, which only a tie between words could reveal.
    """

    def __init__(self, job: Job):
        options, pair = job.settings["options"], languages(job)
        self._checkpoint = find(options["model"], options["revision"], pair, job.settings["variant"])
        self._languages = self._checkpoint.languages(*pair)
        self._options, self._threads = options, job.threads
        self._decoder: Decoder | None = None
        self.name = f"{self._checkpoint.name}@{self._checkpoint.revision[:8]}"
        self.identity = self._checkpoint.identity | {
            name: options[name] for name in ("beams", "max_length_ratio", "precision")
        }

    def translate_texts(
        self, texts: list[str], finish: Callable[[str, Outcome], None], past: Past | None = None
    ) -> None:
        """Translate the texts, longest first, and `finish` those of each batch when it is done.

        Refused: texts that are too long for the model, have no character that it knows, or get an empty translation.
        Raises `CcrError` if the weights cannot be fetched or read, or the GPU's memory is full.
        """
        decoder = self._loaded()
        interval = 0.1 if sys.stderr.isatty() else 10.0
        pool = ThreadPoolExecutor(1 if decoder.device.type == "cuda" else self._threads)
        with tqdm(total=len(texts), unit="sentence", mininterval=interval, dynamic_ncols=True) as bar:

            def done(text: str, outcome: Outcome) -> None:
                finish(text, outcome)
                bar.update()

            try:
                batches = _batches(decoder, texts, done)
                translated = pool.map(decoder.translate, ([tokens for _, tokens in batch] for batch in batches))
                for batch, translations in zip(batches, translated, strict=True):
                    for (text, _), translation in zip(batch, translations, strict=True):
                        done(text, translation if translation.strip() else Refused("the model's output is empty"))
            finally:
                pool.shutdown(cancel_futures=True)

    def _loaded(self) -> "Decoder":
        if self._decoder is None:
            folder = self._checkpoint.weights()
            from ccr.translate.decoder import Decoder  # imports torch: only when there is something to translate

            self._decoder = Decoder(folder, self._checkpoint.kind, self._languages, self._options)
            log.info("%s on %s, %s", self.name, self._decoder.device, self._options["precision"])
        return self._decoder


def _batches(
    decoder: "Decoder", texts: list[str], done: Callable[[str, Outcome], None]
) -> list[list[tuple[str, list[int]]]]:
    """Texts with their tokens, in batches of similar length, longest first; refused texts are passed to `done`."""
    buckets: dict[int, list[tuple[str, list[int]]]] = {}
    for text in texts:
        tokens = decoder.tokens(text)
        if isinstance(tokens, Refused):
            done(text, tokens)
        else:
            buckets.setdefault(decoder.columns(len(tokens)), []).append((text, tokens))
    return [
        bucket[start : start + decoder.rows(columns)]
        for columns, bucket in sorted(buckets.items(), reverse=True)
        for start in range(0, len(bucket), decoder.rows(columns))
    ]
