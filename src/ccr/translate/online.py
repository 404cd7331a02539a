"""Engine deep_translator: online services, queried politely; a translated sentence is sent again only as a check.

A crew of workers shares one pace. Each finishes a sentence before it takes the next, so that whatever ends the process
costs only the requests under way.
"""

import logging
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

from deep_translator.base import BaseTranslator
from deep_translator.exceptions import NotValidLength
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_after_delay,
)
from tenacity.wait import wait_random_exponential
from tqdm import tqdm

from ccr.artifacts.jobs import Job
from ccr.errors import CcrError
from ccr.pairs.services import codes
from ccr.translate.engine import Outcome, Past, Refused, Unanswered, Withdrawn, languages
from ccr.translate.pace import Pace, Stopped
from ccr.translate.services import MODULES, SERVICES, base_url_of, key_of, plain
from ccr.translate.suspicion import Answers, suspicion
from ccr.translate.text import clean
from ccr.translate.transport import LONGEST_PAUSE, Denied, Failed, Transport, Trouble

BACK_OFF = wait_random_exponential(multiplier=0.5, max=60)  # seconds before another attempt, with full jitter
DOWN = 3  # failures in a row, per worker, before checking if the service is down; a denial counts as this many

Finish = Callable[[str, Outcome | Unanswered | Withdrawn], None]

logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # its messages contain URLs, and these the text and the key


class Engine:
    """Translates through one online service (option `service`) with the library deep-translator.

    Keys come from the environment. `CcrError` if the service cannot translate the pair or a key is missing.
    """

    def __init__(self, job: Job):
        self.options = job.settings["options"]
        self.name = self.options["service"]
        where = f"translate.variants.{job.settings['variant']}"
        self.service = SERVICES[self.name]
        self.target = languages(job)[1]
        self._pair = codes(self.name, *languages(job), where)
        self.key = key_of(self.name, where)
        self._base_url = base_url_of(self.name, self.options["base_url"], self.key, where)
        self.identity: dict[str, Any] = {"service": self.name, "base_url": self._base_url}

    def translate_texts(self, texts: list[str], finish: Finish, past: Past) -> None:
        """Translate the texts; see `Remembered`. `CcrError` at the end if the service does not translate now."""
        _Crew(self, texts, finish, past).work()

    def translator(self) -> BaseTranslator:
        """The library's object. It keeps the state of its request, so each thread needs its own."""
        translator = self.service.translator(self.key, self._base_url)
        translator.source, translator.target = self._pair
        return translator


class _Translated(NamedTuple):
    """A translation, and when it was requested (monotonic seconds)."""

    text: str
    sent: float


class _Crew:
    """The workers that translate the texts of one call.

    A failure counts against its sentence only once others are translated after it: until then the sentence is a
    suspect, and so is the service.
    """

    def __init__(self, engine: Engine, texts: list[str], finish: Finish, past: Past):
        options = engine.options
        self._engine, self._finish = engine, finish
        # in a different order in every run: a series of bad sentences must not keep the others from being reached
        self._texts, self._total = iter(random.sample(texts, len(texts))), len(texts)
        self._size = max(1, min(options["concurrency"], len(texts)))
        self._lock = threading.Lock()  # guards what follows
        self._checking = threading.Lock()  # guards the check of the service
        self._stop = threading.Event()
        self._done: set[str] = set()
        self._suspects: list[tuple[float, str, str]] = []  # when a sentence failed, the sentence, the reason
        self._in_a_row, self._many = 0, DOWN * self._size
        self._reason, self._down = "", False
        translations = {text: known for text, known in past.known.items() if isinstance(known, str)}
        self._answers = Answers(translations, past.withdrawn)
        self._witnesses = list(translations)
        self._pace = Pace(options["requests_per_second"], self._stop)
        service = engine.service
        self._transport = Transport(service.status, service.key, options["timeout"], self._pace.turn)
        self._retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, Failed) and error.again),
            stop=stop_after_attempt(options["attempts"]) | stop_after_delay(LONGEST_PAUSE),
            wait=self._wait,
            sleep=sleep_using_event(self._stop),
            reraise=True,
        )
        interval = 0.1 if sys.stderr.isatty() else 10.0
        self._bar = tqdm(total=len(texts), unit="sentence", desc=engine.name, mininterval=interval, dynamic_ncols=True)

    def work(self) -> None:
        """Translate everything, or raise a `CcrError` that says what is left and why."""
        self._transport.install(*MODULES)
        with self._bar, ThreadPoolExecutor(self._size) as pool:
            workers = [pool.submit(self._worker) for _ in range(self._size)]
            try:
                for worker in as_completed(workers):
                    worker.result()
                if self._suspects and not self._stop.is_set():
                    self._translates(self._engine.translator())
            finally:  # also when `finish` has failed, or on Ctrl-C
                self._stop.set()
        if self._suspects or self._down:
            raise CcrError(
                f"{self._engine.name}: {self._total - len(self._done):,} of {self._total:,} sentences are not "
                f"translated: {self._reason}. What is translated is kept; the next run resumes from there."
            )

    def _worker(self) -> None:
        translator = self._engine.translator()
        try:
            while (text := self._next()) is not None:
                self._settle(text, self._outcome(translator, text))
                self._ask_if_down(translator)
        except Stopped:
            pass

    def _next(self) -> str | None:
        with self._checking, self._lock:
            return None if self._stop.is_set() else next(self._texts, None)

    def _outcome(self, translator: BaseTranslator, text: str) -> _Translated | Refused | Trouble:
        """The outcome of a text; `Trouble` if it is not translated now."""
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            return Refused("it holds lone surrogates, which are no characters and cannot be sent")
        longest = self._engine.service.longest
        if longest and size > longest:
            return Refused(f"too long for {self._engine.name}: {size:,} bytes, it takes {longest:,}")
        try:
            return self._retrying(self._ask, translator, text)
        except NotValidLength:
            return Refused(f"too long for {self._engine.name}: {len(text):,} characters")
        except (Failed, Denied) as trouble:
            return trouble

    def _translates(self, translator: BaseTranslator) -> bool:
        """Whether the service translates a sentence that it has translated before; if so, the suspects are at fault."""
        if not self._witnesses:
            return False
        try:
            translated = self._retrying(self._ask, translator, random.choice(self._witnesses))
        except (Failed, Denied):
            return False
        with self._lock:
            if self._answers.notorious(translated.text):
                return False
            self._accuse(translated.sent)
        return True

    def _ask(self, translator: BaseTranslator, text: str) -> _Translated:
        """Send one request. Raises `Trouble`, or `NotValidLength` without sending it."""
        sent = time.monotonic()
        try:
            answer = plain(text, translator.translate(text))
        except (Trouble, Stopped, NotValidLength):
            raise
        except ValueError:
            raise Failed("an answer that is not JSON") from None
        except Exception:  # the library fails in many ways on unexpected answers, and must not be quoted
            raise Failed("an answer without a translation") from None
        if not answer.strip():
            raise Failed("an empty translation")
        if reason := suspicion(text, answer, self._engine.target):
            raise Failed(f"a suspicious answer: {reason}")
        return _Translated(clean(answer), sent)

    def _wait(self, state: RetryCallState) -> float:
        """Seconds before the next attempt; a pause that the service asks for applies to all workers."""
        failed = state.outcome.exception()
        seconds = max(BACK_OFF(state), failed.pause or 0.0)
        with self._lock:
            self._bar.set_postfix_str(f"last trouble: {failed.reason}, waits {seconds:.0f} s", refresh=False)
        if failed.pause is None:
            return seconds
        self._pace.pause(seconds)
        return 0.0

    def _settle(self, text: str, outcome: _Translated | Refused | Trouble) -> None:
        with self._lock:
            if isinstance(outcome, Trouble):
                # a denial is likely to apply to everything, but a firewall denies single sentences too
                self._suspect(text, outcome.reason, weight=DOWN if isinstance(outcome, Denied) else 1)
            elif isinstance(outcome, Refused):
                self._finished(text, outcome)
            else:
                self._translated(text, outcome)

    def _translated(self, text: str, outcome: _Translated) -> None:
        for other in self._answers.add(text, outcome.text):
            self._finish(other, Withdrawn(outcome.text))
            self._done.discard(other)
            self._witnesses.remove(other)
        if self._answers.notorious(outcome.text):
            self._suspect(text, "a suspicious answer: the same as for other sentences")
            return
        self._finished(text, outcome.text)
        self._witnesses.append(text)
        self._in_a_row, self._many = 0, DOWN * self._size
        self._accuse(outcome.sent)

    def _finished(self, text: str, outcome: Outcome) -> None:
        self._finish(text, outcome)
        self._done.add(text)
        self._bar.update()

    def _suspect(self, text: str, reason: str, weight: int = 1) -> None:
        self._suspects.append((time.monotonic(), text, reason))
        self._in_a_row += weight
        if not self._stop.is_set():
            self._reason = reason

    def _accuse(self, sent: float) -> None:
        """The service has translated a request sent at this time, so earlier failures are not its fault."""
        for failed, text, reason in self._suspects:
            if failed <= sent:
                self._finish(text, Unanswered(reason))
        self._suspects = [suspect for suspect in self._suspects if suspect[0] > sent]

    def _ask_if_down(self, translator: BaseTranslator) -> None:
        """After many failures in a row, stop if the service is down; no worker begins a sentence meanwhile."""
        with self._checking:
            if self._in_a_row < self._many:
                return
            self._in_a_row, self._many = 0, 2 * self._many  # if it works, the sentences are bad: check less often
            if not self._translates(translator):
                self._down = True
                self._stop.set()
