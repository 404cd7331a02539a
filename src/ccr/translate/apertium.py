"""Engine apertium: offline rule-based translation with the command of that name (Forcada et al. 2011)."""

import logging
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from ccr.artifacts.contents import content_hash
from ccr.artifacts.hashes import digest
from ccr.artifacts.jobs import Job
from ccr.errors import CcrError
from ccr.pairs import apertium as installed
from ccr.translate.engine import Outcome, Past, Refused, languages

BATCH = 1000  # texts translated by one process of a mode: what a kill costs
PROBE = "1, 2, 3"  # any mode can translate this
END = ".[]"  # text ending as in apertium-destxt: a full stop, which completes the last sentence, and a blank

# special characters of the stream format: those outside words, escaped by a backslash; those that mark unknown or
# joined words, which only a blank in brackets can hide; the pattern that reads both back
_FORMAT = re.compile(r"([\^$\[\]{}/\\<>])")
_MARKS = re.compile(r"([*#@~])")
_WRITTEN = re.compile(r"\\(.)|\[(.*?)\]|([*#@])(?=\w)", re.DOTALL)

log = logging.getLogger(__name__)


class Engine:
    """Translates with the installed mode for a pair or, if there is none, with two modes through `pivot`.

    A word that a mode does not know is left as it is; the marks that Apertium puts before such words (`*`, `@`, `#`)
    are removed and counted for the log. `CcrError` if the command or a mode is missing.
    """

    def __init__(self, job: Job):
        where = f"translate.variants.{job.settings['variant']}"
        self._target = job.target
        self._modes = installed.chain(*languages(job), job.settings["options"]["pivot"], where)
        self.name = f"apertium {' '.join(self._modes)}"
        files = [content_hash(path) for path in installed.files(self._modes)]
        self.identity: dict[str, Any] = {"modes": self._modes, "files": digest(files)}

    def translate_texts(
        self, texts: list[str], finish: Callable[[str, Outcome], None], past: Past | None = None
    ) -> None:
        """Translate the texts, `BATCH` at a time; see `Remembered`.

        Refused: texts that cannot be sent, crash a process of the pipeline, or get an empty translation. `CcrError` if
        a mode translates nothing at all.
        """
        counts = {"words": 0, "unknown": 0}
        interval = 0.1 if sys.stderr.isatty() else 10.0
        with tqdm(total=len(texts), unit="sentence", desc=self.name, mininterval=interval, dynamic_ncols=True) as bar:
            for start in range(0, len(texts), BATCH):
                batch = texts[start : start + BATCH]
                for text, outcome in zip(batch, self._translated(batch, counts), strict=True):
                    finish(text, outcome)
                bar.update(len(batch))
        if counts["words"]:
            share = 100 * counts["unknown"] / counts["words"]
            log.info("%s: %.1f %% of the words unknown to %s", self._target, share, self.name)

    def _translated(self, texts: list[str], counts: dict[str, int]) -> list[Outcome]:
        """Outcomes of the texts after all modes."""
        outcomes: list[Outcome] = [_unfit(text) or text for text in texts]
        for mode in self._modes:
            rows = [row for row, outcome in enumerate(outcomes) if isinstance(outcome, str)]
            for row, made in zip(rows, _through(mode, [outcomes[row] for row in rows]), strict=True):
                counts["words"] += len(outcomes[row].split())
                outcomes[row] = made if isinstance(made, Refused) else _read(made, counts)
        return outcomes


def _unfit(text: str) -> Refused | None:
    """The reason why a text cannot be sent, if any."""
    if "\0" in text:
        return Refused("it holds a NUL, which ends a text for Apertium")
    try:
        text.encode()
    except UnicodeEncodeError:
        return Refused("it holds lone surrogates, which are no characters and cannot be sent")
    return None


def _through(mode: str, texts: list[str]) -> list[str | Refused]:
    """The texts as a mode returns them, in Apertium's stream format.

    A text that crashes a process of the pipeline is the first one without an answer, and is tried again on its own.
    """
    made: list[str | Refused] = []
    while len(made) < len(texts):
        answers, trouble = _run(mode, texts[len(made) :])
        made += answers
        if len(made) < len(texts) and not answers:
            alone, trouble = _run(mode, texts[len(made) : len(made) + 1])
            if not alone and not _run(mode, [PROBE])[0]:
                raise CcrError(
                    f"apertium {mode}: it translates nothing: {trouble}. Try `echo test | apertium {mode}`, and "
                    "install its package again."
                )
            made += alone or [Refused(f"apertium {mode} ends at this text: {trouble}")]
    return made


def _run(mode: str, texts: list[str]) -> tuple[list[str], str]:
    """The answers of one process, as far as it got, and the last line of its error output."""
    sent = "".join(_MARKS.sub(r"[\1]", _FORMAT.sub(r"\\\1", text)) + END + "\0" for text in texts)
    command = ["apertium", "-f", "none", "-z", mode]
    done = subprocess.run(command, input=sent.encode(), capture_output=True, check=False)
    answers = done.stdout.decode(errors="replace").split("\0")[: len(texts)]
    whole = next((n for n, answer in enumerate(answers) if not answer.endswith(END[1:])), len(answers))
    lines = done.stderr.decode(errors="replace").split("\n")
    return answers[:whole], next((line.strip() for line in reversed(lines) if line.strip()), "no message")


def _read(made: str, counts: dict[str, int]) -> str:
    """Decode a text from the stream format; marks are removed and counted."""
    counts["unknown"] += sum(1 for match in _WRITTEN.finditer(made) if match[3])
    text = _WRITTEN.sub(lambda match: match[1] or match[2] or "", made.removesuffix(END[1:]))
    return text.removesuffix(END[0])
