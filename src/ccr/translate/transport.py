"""How requests to online services are sent, and what the answers mean.

The library deep-translator sets no time-out, does not distinguish error statuses, follows redirects and puts the key
into its messages. `Transport` takes the place of `requests` in its modules.
"""

import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from types import ModuleType
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError

LONGEST_PAUSE = 3600.0  # seconds; a service that asks for more counts as denying
LARGEST = 256 * 1024, 16  # bytes of an answer: a base, and more for each byte of the request


class Trouble(Exception):
    """A request that brought no translation. `reason`: one line that contains no text, URL or key."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Failed(Trouble):
    """A request that may succeed later, or with another sentence.

    `again`: another attempt is worthwhile. `pause`: seconds that the service asks all workers to wait, None if it asks
    for nothing.
    """

    def __init__(self, reason: str, again: bool = True, pause: float | None = None):
        super().__init__(reason)
        self.again, self.pause = again, pause


class Denied(Trouble):
    """The service refuses to answer at all: wrong key, quota used up."""


@dataclass(frozen=True)
class Answer:
    """A complete answer, with what the library reads of it."""

    status_code: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        """The answer's JSON; `ValueError` if it is not JSON."""
        return json.loads(self.text)

    def close(self) -> None:
        """There is nothing to close."""


class Transport(threading.local):
    """Sends requests: in turn, each within a time limit; bad answers are distinguished by their kind.

    Redirects are not followed: they would carry the sentence and the key to another server. One session, and so one
    open connection, per thread.

    Args:
        status: gives the HTTP status that an answer stands for. key: environment variable of the key, if any.
        timeout: seconds for a whole request, to the last byte of its answer. turn: waits until a request may go out.
    """

    exceptions = requests.exceptions  # the library looks them up in `requests`

    def __init__(self, status: Callable[[Answer], int], key: str | None, timeout: float, turn: Callable[[], None]):
        self._status, self._key, self._timeout, self._turn = status, key, timeout, turn
        self._adapter = _Adapter()
        self._session = requests.Session()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._adapter)

    def install(self, *modules: ModuleType) -> None:
        """Make the library's modules send their requests through this object."""
        for module in modules:
            module.requests = self

    def get(self, url: str, **arguments: Any) -> Answer:
        """Like `requests.get`; raises `Trouble` for every answer that is not a success."""
        return self._send("GET", url, **arguments)

    def post(self, url: str, **arguments: Any) -> Answer:
        """Like `requests.post`; raises `Trouble` for every answer that is not a success."""
        return self._send("POST", url, **arguments)

    def _send(self, method: str, url: str, **arguments: Any) -> Answer:
        self._turn()
        with _Deadline(self._timeout, self._adapter.cut) as deadline:
            try:
                answer = _read(
                    self._session.request(
                        method, url, timeout=self._timeout, allow_redirects=False, stream=True, **arguments
                    )
                )
            except (requests.RequestException, HTTPError, HTTPException, OSError) as error:
                kind = _kind(error, self._timeout)
            else:
                kind = ""
        if deadline.passed:
            kind = _late(self._timeout)
        if kind:
            raise Failed(kind)  # out here, where its context is no longer the exception with the URL
        _judge(self._status(answer), answer.headers, self._key)
        return answer


class _Adapter(HTTPAdapter):
    """Keeps track of the connection in use, and its socket, so that another thread can cut it."""

    connection: HTTPConnection | None = None
    sock: socket.socket | None = None  # the connection itself forgets it when an answer is to be its last

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> PoolManager:
        new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options)
        if new:
            self._watch(manager)
        return manager

    def cut(self) -> None:
        """Shut the connection down; reading from it or writing to it fails."""
        sock = self.connection and self.connection.sock or self.sock
        if sock is not None:
            with suppress(OSError):  # it has already ended
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # TLS's own would say goodbye first

    def _watch(self, manager: PoolManager) -> None:
        adapter = self

        def watched(pool: type) -> type:
            class Connection(pool.ConnectionCls):
                def connect(self) -> None:
                    adapter.connection, adapter.sock = self, None
                    super().connect()
                    adapter.sock = self.sock

            return type(pool.__name__, (pool,), {"ConnectionCls": Connection})

        manager.pool_classes_by_scheme = {
            scheme: watched(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
        }


class _Deadline:
    """Cuts what is still running after so many seconds, repeatedly until it ends: a context manager.

    Socket time-outs apply to each read, so a byte now and then would hold up a worker for ever.
    """

    def __init__(self, seconds: float, cut: Callable[[], None]):
        self.passed = False
        self._seconds, self._cut = seconds, cut
        self._done = threading.Event()

    def __enter__(self) -> "_Deadline":
        threading.Thread(target=self._wait, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def _wait(self) -> None:
        seconds = self._seconds
        while not self._done.wait(seconds):
            self.passed = True
            self._cut()
            seconds = 0.1  # there may have been no connection yet


def _read(response: requests.Response) -> Answer:
    """Read a response to its end. `Failed` if it is too large or not text."""
    request, body = response.request, b""
    largest = LARGEST[0] + LARGEST[1] * (len(request.url) + len(request.body or b""))
    with response:
        for chunk in response.iter_content(16 * 1024):  # decompressed, at most this much at a time
            body += chunk
            if len(body) > largest:
                raise Failed(f"an answer of more than {largest // 1024:,} KiB")
    named = "charset" in response.headers.get("Content-Type", "").lower()
    try:
        text = body.decode((named and response.encoding) or "utf-8-sig", "strict" if response.ok else "replace")
    except (UnicodeError, LookupError):
        raise Failed("an answer that is not text") from None
    return Answer(response.status_code, response.headers, text)


def _judge(status: int, headers: Mapping[str, str], key: str | None) -> None:
    """Raise the exception that a response's status stands for, if any."""
    pause = _retry_after(headers)
    kind = f"HTTP {status}"
    if status in (401, 403):
        raise Denied(f"{kind}, access denied" + (f": check the key in {key}" if key else ""))
    if status in (402, 456):
        raise Denied(f"{kind}, the quota is used up")
    if status in (413, 414):
        raise Failed(f"too long for the service ({kind})", again=False)
    if status in (408, 425, 429) or status >= 500:
        if pause is not None and pause > LONGEST_PAUSE:
            raise Denied(f"{kind}, and it asks to wait for {pause / 3600:,.1f} hours")
        raise Failed(kind, pause=0.0 if pause is None and status == 429 else pause)
    if status == 400:
        raise Failed(f"{kind} (a language it does not know, or a key it wants?)", again=False)
    if 300 <= status < 400:
        raise Failed(f"{kind}, a redirect, which is not followed")
    if not 200 <= status < 300:
        raise Failed(kind, again=False)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response's Retry-After asks to wait: a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:20])
    try:
        date = parsedate_to_datetime(value)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None


def _late(timeout: float) -> str:
    return f"time-out after {timeout:g} s"


def _kind(error: Exception, timeout: float) -> str:
    """What went wrong, without the exception's own message: it contains the URL, and so text and key."""
    causes: list[BaseException] = [error]
    while causes[-1].__context__ is not None:
        causes.append(causes[-1].__context__)
    if any(isinstance(cause, requests.Timeout | TimeoutError) for cause in causes):
        return _late(timeout)
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    if isinstance(error, requests.ConnectionError):
        return "connection reset"
    return "answer cut short" if isinstance(error, requests.exceptions.ChunkedEncodingError) else type(error).__name__
