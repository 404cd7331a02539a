"""What a translation service may answer instead of a translation, and the expected message for each.

`KINDS`: name -> (how the server answers: a function of its handler and the good body; the reason, as a pattern, why a
sentence that always gets this answer is refused, "" if the answer is good after all).
"""

import gzip
import json
import socket
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import repeat
from typing import Any

from translation_server import PATIENCE, Handler

Answering = Callable[[Handler, bytes], None]
SAME = "请稍后再试，服务器正忙。"
BOMB = gzip.compress(b'{"translatedText": "' + bytes(2**24))  # 16 MiB of zeros in 16 KiB
PAGE = "<!DOCTYPE html><html><body><h1>Just a moment...</h1><p>Checking your browser.</p></body></html>"


def body(data: bytes, **headers: str) -> Answering:
    """HTTP 200 with this body."""
    return lambda handler, good: handler.send(
        200, data, {name.replace("_", "-"): text for name, text in headers.items()}
    )


def says(change: Callable[[str], Any]) -> Answering:
    """The good JSON with its translation changed."""

    def answer(handler: Handler, good: bytes) -> None:
        handler.send(200, json.dumps({"translatedText": change(json.loads(good)["translatedText"])}).encode())

    return answer


def status(code: int, **headers: str) -> Answering:
    """A status, a body with an error, and headers."""
    return lambda handler, good: handler.send(
        code, b'{"error": "no"}', {name.replace("_", "-"): text for name, text in headers.items()}
    )


def raw(
    first: bytes, *, end: Callable[[socket.socket], Any] = lambda sock: sock.shutdown(socket.SHUT_RDWR)
) -> Answering:
    """These bytes instead of HTTP, then the end of the connection."""

    def answer(handler: Handler, good: bytes) -> None:
        handler.close_connection = True
        handler.wfile.write(first)
        handler.wfile.flush()
        end(handler.connection)

    return answer


def forever(first: bytes, piece: bytes, pause: float = 0.0) -> Answering:
    """These bytes, then a piece again and again, until the client hangs up."""

    def answer(handler: Handler, good: bytes) -> None:
        handler.close_connection = True
        try:
            handler.wfile.write(first)
            for more in repeat(piece):
                time.sleep(pause)
                handler.wfile.write(more)
        except OSError:
            pass

    return answer


def reset(sock: socket.socket) -> None:
    """Close without lingering, which sends RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def silence(handler: Handler, good: bytes) -> None:
    """No answer until the client hangs up."""
    handler.close_connection = True
    handler.connection.settimeout(PATIENCE)
    handler.connection.recv(1)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PAST = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
TIME_OUT, RESET, NOT_JSON, NO_TRANSLATION = "time-out", "connection reset|broken", "not JSON", "without a translation"
SUSPICIOUS, DENIED, REDIRECT = "suspicious answer: ", "access denied|quota", "a redirect, which is not followed"

KINDS: dict[str, tuple[Answering, str]] = {
    # time
    "drip": (forever(HEAD + b"\r\n{", b" ", 0.1), TIME_OUT),
    "slow headers": (forever(HEAD, b"X", 0.1), TIME_OUT),
    "continue for ever": (forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01), TIME_OUT),
    "silence": (silence, TIME_OUT),
    "half an answer, then silence": (forever(HEAD + b'Content-Length: 99\r\n\r\n{"tr', b"", 0.2), TIME_OUT),
    # size
    "flood": (forever(HEAD + b"Content-Length: 52428800\r\n\r\n", b"x" * 65536), "more than .* KiB"),
    "flood in chunks": (
        forever(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n"),
        "KiB",
    ),
    "gzip bomb": (body(BOMB, Content_Encoding="gzip"), "KiB"),
    "long translation": (says(lambda good: "狗在跑。" * 2000), f"{SUSPICIOUS}8,000 characters"),
    "header without end": (forever(HEAD + b"X-Long: ", b"x" * 65536), RESET),
    "headers without end": (forever(HEAD, b"X-More: 1\r\n" * 1000), RESET),
    # connections
    "reset": (raw(b"", end=reset), RESET),
    "closed without a word": (raw(b""), RESET),
    "half close": (raw(HEAD, end=lambda sock: sock.shutdown(socket.SHUT_WR)), NOT_JSON),
    "body cut short": (raw(HEAD + b'Content-Length: 99\r\n\r\n{"translatedText"'), "cut short"),
    "chunks cut short": (raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nfff\r\n{"), "cut short"),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), RESET),
    "not gzip": (body(b'{"translatedText": "x"}', Content_Encoding="gzip"), "ContentDecodingError"),
    # redirects
    "redirect to another host": (status(302, Location="http://192.0.2.1/translate"), REDIRECT),
    "redirect to itself": (status(307, Location="/translate"), REDIRECT),
    "redirect to nowhere": (status(301), REDIRECT),
    # bodies
    "page": (body(PAGE.encode()), NOT_JSON),
    "no body": (body(b""), NOT_JSON),
    "JSON cut short": (lambda handler, good: handler.send(200, good[: len(good) // 2]), NOT_JSON),
    "deep JSON": (body(b"[" * 100_000), NO_TRANSLATION),
    "long number": (body(b'{"translatedText": ' + b"9" * 5000 + b"}"), NOT_JSON),
    "list": (body(b'["a"]'), NO_TRANSLATION),
    "number": (says(lambda good: 7), NO_TRANSLATION),
    "null": (says(lambda good: None), NO_TRANSLATION),
    "error": (body(b'{"error": "no"}'), NO_TRANSLATION),
    "Latin-1": (body('{"translatedText": "zh译é"}'.encode()[:-3] + b'\xe9"}'), "not text"),
    "UTF-16": (lambda handler, good: handler.send(200, good.decode().encode("utf-16")), "not text"),
    "unknown charset": (body(b'{"translatedText": "x"}', Content_Type="application/json; charset=klingon"), "not text"),
    # translations
    "empty": (says(lambda good: ""), "empty"),
    "blank": (says(lambda good: " \n\t\u3000"), "empty"),
    "NUL": (says(lambda good: good.replace(" ", "\0")), f"{SUSPICIOUS}control characters"),
    "half a surrogate pair": (says(lambda good: f"{good}\ud83d"), f"{SUSPICIOUS}control characters"),
    "misread": (says(lambda good: good.encode().decode("latin-1")), f"{SUSPICIOUS}a wrong encoding|control"),
    "page as translation": (says(lambda good: PAGE), f"{SUSPICIOUS}markup"),
    "captcha": (says(lambda good: "Please verify that you are human."), f"{SUSPICIOUS}another script"),
    "echo": (says(lambda good: good.partition(":")[2]), f"{SUSPICIOUS}an echo"),
    "same": (says(lambda good: SAME), f"{SUSPICIOUS}the same as for other sentences"),
    "one word": (says(lambda good: "狗"), f"{SUSPICIOUS}1 characters"),
    "loop": (says(lambda good: "一只狗" * 40), f"{SUSPICIOUS}it repeats itself"),
    # statuses
    "400": (status(400), "HTTP 400"),
    "403": (status(403), DENIED),
    "402": (status(402), DENIED),
    "413": (status(413), "too long for the service"),
    "500": (status(500), "HTTP 500"),
    "503": (status(503, Retry_After=PAST), "HTTP 503"),
    "429": (status(429, Retry_After="1"), "HTTP 429"),
    "429, -1": (status(429, Retry_After="-1"), "HTTP 429"),
    "429, soon": (status(429, Retry_After="soon"), "HTTP 429"),
    "429, for ever": (status(429, Retry_After="9" * 400), "asks to wait"),
    # good after all
    "entities": (says(lambda good: good.replace(" ", "&#32;", 1).replace(":", "&amp;#58;")), ""),
    "tags": (says(lambda good: f"<b>{good}</b>"), ""),
    "gzip": (lambda handler, good: body(gzip.compress(good), Content_Encoding="gzip")(handler, good), ""),
    "mark of byte order": (lambda handler, good: handler.send(200, b"\xef\xbb\xbf" + good), ""),
    "cookies": (lambda handler, good: handler.send(200, good, {"Set-Cookie": f"{time.monotonic()}={'x' * 4000}"}), ""),
}
