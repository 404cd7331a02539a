"""A translation service on loopback that speaks five APIs and fails on purpose."""

import html
import json
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

Fault = str | tuple[int, dict[str, str]] | bytes | Callable[["Handler", bytes], None] | None
PATIENCE = 15.0  # seconds after which a client that has not timed out gets its answer
FAULTS = ("429", "500", "503", "time-out", "reset", "truncated", "cut", "empty", "page")


@dataclass
class Request:
    """A request, when it arrived (monotonic seconds), and the fault of its answer (None: answered well).

    `line`: the request line, which proxies log.
    """

    text: str
    source: str
    target: str
    key: str | None
    arrived: float
    fault: Fault
    line: str
    answered: float = 0.0


@dataclass
class Log:
    """All requests in the order of their arrival, and the most that were under way at once."""

    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    under_way: int = 0
    peak: int = 0

    def texts(self) -> list[str]:
        return [request.text for request in self.requests]


class TranslationServer(ThreadingHTTPServer):
    """Translates `text` into `{target}译:{text}`, which has letters of all our languages, or with `translate`.

    `fault(text, n)` says what is wrong with the answer to the n-th request (from 0) for a text: one of FAULTS, a
    (status, headers), the body of a 200, or a function that answers, given the handler and the good body. `key`: the
    one that requests must carry. `seconds`: how long an answer takes.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        fault: Callable[[str, int], Fault] = lambda text, n: None,
        translate: Callable[[str, str], str] = lambda text, target: f"{target}译:{text}",
        key: str | None = None,
        seconds: float = 0.0,
        port: int = 0,
    ):
        super().__init__(("127.0.0.1", port), Handler)
        self.fault, self.translate, self.key, self.seconds = fault, translate, key, seconds
        self.log = Log()
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def __enter__(self) -> "TranslationServer":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Report nothing: a killed client closes its connections."""


def seeded(seed: int, rate: float) -> Callable[[str, int], Fault]:
    """Random faults of all kinds, the same for the same seed; a text's fifth request is answered well."""

    def fault(text: str, n: int) -> Fault:
        chance = random.Random(f"{seed} {n} {text}")
        return chance.choice(FAULTS) if n < 4 and chance.random() < rate else None

    return fault


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Log nothing to stderr."""

    def do_GET(self) -> None:
        self._handle(b"")

    def do_POST(self) -> None:
        self._handle(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _handle(self, body: bytes) -> None:
        log = self.server.log
        request = self._parse(body)
        with log.lock:
            seen = log.texts().count(request.text)
            request.fault = self.server.fault(request.text, seen)
            if self.server.key is not None and request.key != self.server.key:
                request.fault = (403, {})
            log.requests.append(request)
            log.under_way += 1
            log.peak = max(log.peak, log.under_way)
        time.sleep(self.server.seconds)
        with log.lock:
            log.under_way -= 1
        request.answered = time.monotonic()
        self._answer(request)

    def _parse(self, body: bytes) -> Request:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        self.api = url.path
        if url.path == "/m":  # Google
            found = query["q"], query["sl"], query["tl"], None
        elif url.path == "/get":  # MyMemory
            found = query["q"], *query["langpair"].split("|"), None
        elif url.path == "/v2/translate":  # DeepL
            sent = json.loads(body)
            key = self.headers["Authorization"].removeprefix("DeepL-Auth-Key ")
            found = sent["text"][0], sent["source_lang"], sent["target_lang"], key
        elif url.path == "/microsoft":
            key = self.headers["Ocp-Apim-Subscription-Key"]
            found = json.loads(body)[0]["text"], query["from"], query["to"], key
        else:  # LibreTranslate
            sent = json.loads(body)
            found = sent["q"], sent["source"], sent["target"], sent.get("api_key")
        return Request(*found, arrived=time.monotonic(), fault=None, line=self.requestline)

    def _answer(self, request: Request) -> None:
        fault = request.fault
        good = self._good("" if fault == "empty" else self.server.translate(request.text, request.target))
        if fault is None or fault == "empty":
            self.send(200, good)
        elif callable(fault):
            fault(self, good)
        elif isinstance(fault, bytes):
            self.send(200, fault)
        elif isinstance(fault, tuple):
            self.send(fault[0], b'{"error": "no"}', fault[1])
        elif fault == "429":
            self.send(429, b'{"error": "Slowdown"}', {"Retry-After": "1"})
        elif fault in ("500", "503"):
            self.send(int(fault), b'{"error": "no"}')
        elif fault == "page":
            self.send(200, b"<!DOCTYPE html><html><body>Please accept our cookies.</body></html>")
        elif fault == "truncated":
            self.send(200, good[: len(good) // 2])
        else:
            self.close_connection = True
            self._break(fault, good)

    def _break(self, fault: str, good: bytes) -> None:
        if fault == "time-out":
            if not select.select([self.connection], [], [], PATIENCE)[0]:  # the client has not given up
                self.send(200, good)
        elif fault == "cut":
            self.send(200, good[: len(good) // 2], {"Content-Length": str(len(good))})
        else:  # reset: closing with a linger time of 0 sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _good(self, translation: str) -> bytes:
        if self.api == "/m":
            return f'<html><body><div class="result-container">{html.escape(translation)}</div></body></html>'.encode()
        if self.api == "/get":
            answer = {"responseData": {"translatedText": translation}, "responseStatus": 200, "matches": []}
        elif self.api == "/v2/translate":
            answer = {"translations": [{"text": translation}]}
        elif self.api == "/microsoft":
            answer = [{"translations": [{"text": translation}]}]
        else:
            answer = {"translatedText": translation}
        return json.dumps(answer).encode()

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Answer; the given headers override the `Content-Length` of the body."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
