"""When requests to a service may go out: never faster than allowed, whichever worker sends them."""

import threading
import time


class Stopped(Exception):
    """The crew stopped while one of its workers was waiting."""


class Pace:
    """Decides when the next request may go out, whichever worker sends it."""

    def __init__(self, per_second: float, stop: threading.Event):
        self._interval, self._stop = 1 / per_second, stop
        self._next = 0.0
        self._lock = threading.Lock()

    def turn(self) -> None:
        """Wait until a request may go out, and count it as sent."""
        while not self._stop.is_set():
            with self._lock:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + self._interval
                    return
                wait = self._next - now
            self._stop.wait(wait)  # then check again: a pause may have been set meanwhile
        raise Stopped

    def pause(self, seconds: float) -> None:
        """Let no worker send a request for this long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
