"""When requests to a service may go out: never faster than allowed, whoever sends them."""

import threading
import time


class Stopped(Exception):
    """The crew has stopped while one of its workers waited."""


class Pace:
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
        raise Stopped

    def pause(self, seconds: float) -> None:
        """No request for so long, by nobody."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
