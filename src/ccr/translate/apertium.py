"""Engine apertium: rule-based translation by the command of that name, offline (Forcada et al. 2011)."""

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

BATCH = 1000  # texts that one process of a mode translates: what a kill costs
PROBE = "1, 2, 3"  # what any mode translates
END = ".[]"  # as apertium-destxt ends a text: a full stop, so that the last sentence is whole, and a blank

# what means something in the stream format: outside of words, which takes a backslash; before words that a mode does
# not know, and where words are joined, which only a blank in brackets hides; how both come back
_FORMAT = re.compile(r"([\^$\[\]{}/\\<>])")
_MARKS = re.compile(r"([*#@~])")
_WRITTEN = re.compile(r"\\(.)|\[(.*?)\]|([*#@])(?=\w)", re.DOTALL)

log = logging.getLogger(__name__)


class Engine:
    """Translates through the installed mode of a pair; where there is none, through two and the language `pivot`.

    A word that a mode does not know stays as it is; the marks that Apertium puts before such words (`*`, `@`, `#`) are
    taken off and counted for the log. `CcrError` where the command or a mode is missing.
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

        Refused: texts that end a process of the pipeline, and of which nothing is left. `CcrError` where a mode
        translates nothing at all.
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
        """Outcomes of the texts, through all modes."""
        outcomes: list[Outcome] = [_unfit(text) or text for text in texts]
        for mode in self._modes:
            rows = [row for row, outcome in enumerate(outcomes) if isinstance(outcome, str)]
            for row, made in zip(rows, _through(mode, [outcomes[row] for row in rows]), strict=True):
                counts["words"] += len(outcomes[row].split())
                outcomes[row] = made if isinstance(made, Refused) else _read(made, counts)
        return outcomes


def _unfit(text: str) -> Refused | None:
    """Why a text cannot be sent."""
    if "\0" in text:
        return Refused("it holds a NUL, which ends a text for Apertium")
    try:
        text.encode()
    except UnicodeEncodeError:
        return Refused("it holds lone surrogates, which are no characters and cannot be sent")
    return None


def _through(mode: str, texts: list[str]) -> list[str | Refused]:
    """The texts as a mode gives them back, in Apertium's stream format.

    A text that ends a process of the pipeline is found as the first without an answer, and tried again alone.
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
    """The answers of one process, as far as it came, and its last words."""
    sent = "".join(_MARKS.sub(r"[\1]", _FORMAT.sub(r"\\\1", text)) + END + "\0" for text in texts)
    command = ["apertium", "-f", "none", "-z", mode]
    done = subprocess.run(command, input=sent.encode(), capture_output=True, check=False)
    answers = done.stdout.decode(errors="replace").split("\0")[: len(texts)]
    whole = next((n for n, answer in enumerate(answers) if not answer.endswith(END[1:])), len(answers))
    lines = done.stderr.decode(errors="replace").split("\n")
    return answers[:whole], next((line.strip() for line in reversed(lines) if line.strip()), "no message")


def _read(made: str, counts: dict[str, int]) -> str:
    """A text out of the stream format, without the marks, which are counted."""
    counts["unknown"] += sum(1 for match in _WRITTEN.finditer(made) if match[3])
    text = _WRITTEN.sub(lambda match: match[1] or match[2] or "", made.removesuffix(END[1:]))
    return text.removesuffix(END[0])
