"""Engine deep_translator: online services, asked politely and never twice for the same sentence.

A crew of workers shares one pace. Each finishes a sentence before it takes the next, so that whatever ends the
process costs the requests under way and no more.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from deep_translator.base import BaseTranslator
from deep_translator.exceptions import NotValidLength
from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event, stop_after_attempt
from tenacity.wait import wait_random_exponential
from tqdm import tqdm

from ccr.artifacts.jobs import Job
from ccr.errors import CcrError
from ccr.pairs.services import codes
from ccr.translate.engine import Outcome, Refused, languages
from ccr.translate.services import SERVICES, Denied, Failed, Transport, Trouble, Unfit, base_url_of, key_of

BACK_OFF = wait_random_exponential(multiplier=0.5, max=60)  # seconds before another attempt, with full jitter
DOWN = 3  # sentences in a row and worker that cannot be done: the service is down
PROBE = "1, 2, 3"  # what a service that is alive translates from any language

logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # its messages hold URLs, and these the text and the key


class Engine:
    """Translates through one online service (option `service`) with the library deep-translator.

    Keys come from the environment. `CcrError` when the service cannot translate the pair or a key is missing.
    """

    def __init__(self, job: Job):
        self.options = job.settings["options"]
        self.name = self.options["service"]
        where = f"translate.variants.{job.settings['variant']}"
        self.service = SERVICES[self.name]
        self._pair = codes(self.name, *languages(job), where)
        self.key = key_of(self.name, where)
        self._base_url = base_url_of(self.name, self.options["base_url"], self.key, where)
        self.identity: dict[str, Any] = {"service": self.name, "base_url": self._base_url}

    def translate_texts(self, texts: list[str], finish: Callable[[str, Outcome], None]) -> None:
        """Translate the texts; see `Remembered`. `CcrError` at the end when some could not be translated now."""
        _Crew(self, texts, finish).work()

    def translator(self) -> BaseTranslator:
        """The library's object. It keeps the state of its request: one for each thread."""
        translator = self.service.translator(self.key, self._base_url)
        translator.source, translator.target = self._pair
        return translator


class _Stopped(Exception):
    """The crew has stopped while this worker waited."""


class _Pace:
    """When the next request may go out, whichever worker sends it."""

    def __init__(self, per_second: float, stop: threading.Event):
        self._interval, self._stop = 1 / per_second, stop
        self._next = 0.0
        self._lock = threading.Lock()

    def turn(self) -> None:
        """Wait until a request may go out; it counts as sent."""
        while not self._stop.is_set():
            with self._lock:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + self._interval
                    return
                wait = self._next - now
            self._stop.wait(wait)  # then look again: meanwhile there may be a pause
        raise _Stopped

    def pause(self, seconds: float) -> None:
        """No request for so long, by nobody."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class _Crew:
    """The workers that translate the texts of one call."""

    def __init__(self, engine: Engine, texts: list[str], finish: Callable[[str, Outcome], None]):
        options = engine.options
        self._engine, self._finish = engine, finish
        self._texts, self._total = iter(texts), len(texts)
        self._size = max(1, min(options["concurrency"], len(texts)))
        self._lock = threading.Lock()  # of what follows
        self._stop = threading.Event()
        self._finished, self._in_a_row, self._reason = 0, 0, ""
        self._pace = _Pace(options["requests_per_second"], self._stop)
        self._transport = Transport(engine.service, engine.key, options["timeout"], self._pace.turn)
        self._retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, Failed) and error.again),
            stop=stop_after_attempt(options["attempts"]),
            wait=self._wait,
            sleep=sleep_using_event(self._stop),
            reraise=True,
        )
        interval = 0.1 if sys.stderr.isatty() else 10.0
        self._bar = tqdm(total=len(texts), unit="sentence", desc=engine.name, mininterval=interval, dynamic_ncols=True)

    def work(self) -> None:
        """Translate everything, or raise the `CcrError` that says what is left and why."""
        self._transport.install()
        with self._bar, ThreadPoolExecutor(self._size) as pool:
            workers = [pool.submit(self._worker) for _ in range(self._size)]
            try:
                for worker in as_completed(workers):
                    worker.result()
            finally:  # also when `finish` has failed, or at Ctrl-C
                self._stop.set()
        if self._finished < self._total:
            raise CcrError(
                f"{self._engine.name}: {self._total - self._finished:,} of {self._total:,} sentences are not "
                f"translated: {self._reason}. What is translated is kept; the next run goes on from there."
            )

    def _worker(self) -> None:
        translator = self._engine.translator()
        try:
            while (text := self._next()) is not None:
                self._settle(text, self._outcome(translator, text))
        except _Stopped:
            pass
        except Denied as denied:
            self._give_up(denied.reason, at_once=True)

    def _next(self) -> str | None:
        with self._lock:
            return None if self._stop.is_set() else next(self._texts, None)

    def _outcome(self, translator: BaseTranslator, text: str) -> Outcome | Failed:
        """What becomes of a text; `Failed` when it cannot be translated now. Raises `Denied`."""
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            return Refused("it holds lone surrogates, which are no characters and cannot be sent")
        longest = self._engine.service.longest
        if longest and size > longest:
            return Refused(f"too long for {self._engine.name}: {size:,} bytes, it takes {longest:,}")
        try:
            return self._retrying(self._ask, translator, text)
        except Unfit as unfit:
            return Refused(unfit.reason)
        except Failed as error:
            failed = error
        return Refused(failed.reason) if failed.doubtful and self._alive(translator) else failed

    def _alive(self, translator: BaseTranslator) -> bool:
        """Whether the service translates at all: then a sentence that it does not translate is at fault."""
        try:
            return bool(self._retrying(self._ask, translator, PROBE))
        except (Failed, Unfit):
            return False

    def _ask(self, translator: BaseTranslator, text: str) -> str:
        """One request. Raises `Trouble`."""
        try:
            translation = translator.translate(text)
            if translation.strip():
                return translation
        except (Trouble, _Stopped):
            raise
        except NotValidLength:
            raise Unfit(f"too long for {self._engine.name}: {len(text):,} characters") from None
        except ValueError:
            raise Failed("an answer that is not JSON") from None
        except Exception:  # the library stumbles over an answer of another shape in many ways, and is not to be quoted
            raise Failed("an answer without a translation", doubtful=True) from None
        raise Failed("an empty translation", doubtful=True)

    def _wait(self, state: RetryCallState) -> float:
        """Seconds before the next attempt; where the service asks for a pause, it is everybody's."""
        failed = state.outcome.exception()
        seconds = max(BACK_OFF(state), failed.pause or 0.0)
        with self._lock:
            self._bar.set_postfix_str(f"last trouble: {failed.reason}, waits {seconds:.0f} s", refresh=False)
        if failed.pause is None:
            return seconds
        self._pace.pause(seconds)
        return 0.0

    def _settle(self, text: str, outcome: Outcome | Failed) -> None:
        if isinstance(outcome, Failed):
            self._give_up(outcome.reason)
            return
        self._finish(text, outcome)
        with self._lock:
            self._in_a_row = 0
            self._finished += 1
            self._bar.update()

    def _give_up(self, reason: str, at_once: bool = False) -> None:
        """Leave a sentence for the next run, and all others too when the service is down or says no (`at_once`)."""
        with self._lock:
            self._in_a_row += 1
            if not self._stop.is_set():
                self._reason = reason
            if at_once or self._in_a_row >= DOWN * self._size:
                self._stop.set()
