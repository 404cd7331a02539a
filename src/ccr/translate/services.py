"""Online translation services: their languages and keys, and what their answers mean.

The library deep-translator knows how to ask each of them. What it does not do, pass a time-out, tell one bad status
from another, keep the key out of its messages, is done here, by `Transport`.
"""

import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from deep_translator import deepl, google, libre, microsoft, mymemory
from deep_translator.base import BaseTranslator
from deep_translator.constants import (
    BASE_URLS,
    DEEPL_ENV_VAR,
    LIBRE_ENV_VAR,
    MSFT_ENV_VAR,
)

from ccr.errors import CcrError
from ccr.pairs.services import CODES

LONGEST_PAUSE = 3600.0  # seconds; a service that asks for more is done for today


class Trouble(Exception):
    """A request that brought no translation. `reason`: one line with no text, no URL and no key in it."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Failed(Trouble):
    """It may go better later.

    `again`: another attempt is worth it. `doubtful`: the sentence may be at fault, not the service. `pause`: seconds
    that the service asks everybody to wait, None where it asks for nothing.
    """

    def __init__(self, reason: str, again: bool = True, doubtful: bool = False, pause: float | None = None):
        super().__init__(reason)
        self.again, self.doubtful, self.pause = again, doubtful, pause


class Unfit(Trouble):
    """The service takes no such sentence."""


class Denied(Trouble):
    """The service answers nobody here: wrong key, quota used up."""


# --- the services ------------------------------------------------------------------------------------------


class _DeepL(deepl.DeeplTranslator):
    """With the key in a header and the text in the body: the service has given up what the library sends."""

    def translate(self, text: str) -> str:
        response = deepl.requests.post(
            f"{self._base_url}translate",
            headers={"Authorization": f"DeepL-Auth-Key {self.api_key}"},
            json={"text": [text], "source_lang": self.source, "target_lang": self.target},
        )
        return response.json()["translations"][0]["text"]


class _Google(google.GoogleTranslator):
    """Gives back a text that Google leaves as it is; the library returns None where it holds no letter."""

    def translate(self, text: str) -> str:
        translation = super().translate(text)
        return text if translation is None else translation


class _Microsoft(microsoft.MicrosoftTranslator):
    """Without the list of languages that the library asks for with every object."""

    def _get_supported_languages(self) -> dict[str, str]:
        return {"english": "en"}


def _libretranslate(key: str | None, base_url: str) -> libre.LibreTranslator:
    """The library insists on a key when the object is made, not when it sends it."""
    translator = libre.LibreTranslator(api_key="none", custom_url=base_url)
    translator.api_key = key
    return translator


def _status(response: requests.Response) -> int:
    return response.status_code


def _mymemory_status(response: requests.Response) -> int:
    """MyMemory answers 200 and puts its troubles where the translation would be; the true status stands beside them."""
    try:
        answer = response.json()
        if answer.get("quotaFinished") or answer["responseData"]["translatedText"].startswith("MYMEMORY WARNING"):
            return 429
        return int(answer["responseStatus"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return response.status_code


@dataclass(frozen=True)
class Service:
    """A service: `translator` makes the library's object of (key, base_url), `codes` are its languages, as it
    writes them.

    `key`: environment variable of its key, None where it has none. `longest`: bytes of the longest text, in UTF-8.
    `status`: the HTTP status of a response, as it is meant.
    """

    translator: Callable[[str | None, str], BaseTranslator]
    codes: Collection[str]
    key: str | None = None
    longest: int | None = None
    status: Callable[[requests.Response], int] = _status


SERVICES = {
    "google": Service(lambda key, base_url: _Google(), CODES["google"]),
    "mymemory": Service(
        lambda key, base_url: mymemory.MyMemoryTranslator(target="en-GB"),
        CODES["mymemory"],
        longest=500,
        status=_mymemory_status,
    ),
    "libretranslate": Service(_libretranslate, CODES["libretranslate"], LIBRE_ENV_VAR),
    "deepl": Service(
        lambda key, base_url: _DeepL(api_key=key, use_free_api=key.endswith(":fx")),
        CODES["deepl"],
        DEEPL_ENV_VAR,
    ),
    "microsoft": Service(lambda key, base_url: _Microsoft(api_key=key), CODES["microsoft"], MSFT_ENV_VAR),
}


def key_of(name: str, where: str) -> str | None:
    """The key of a service, from the environment; `CcrError` where one is needed and not there."""
    variable = SERVICES[name].key
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key and name in ("deepl", "microsoft"):
        raise CcrError(f"{where}: {name} needs a key: set the environment variable {variable} (never in params.yaml).")
    if not (key.isascii() and key.isprintable()):
        raise CcrError(f"{where}: the environment variable {variable} holds characters that no key has.")
    return key or None


def base_url_of(name: str, base_url: str, key: str | None, where: str) -> str:
    """The address of a LibreTranslate server, "" for every other service; `CcrError` where it cannot be one."""
    if name != "libretranslate":
        if base_url:
            raise CcrError(f"{where}.base_url: only libretranslate takes one, {name} has a fixed address.")
        return ""
    if not base_url and key:
        return BASE_URLS["LIBRE"]
    if not base_url:
        raise CcrError(
            f"{where}.base_url: the address of the LibreTranslate server is missing, for example "
            f"http://127.0.0.1:5000/. The public one, {BASE_URLS['LIBRE']}, needs a key in {LIBRE_ENV_VAR}."
        )
    if not _is_address(base_url):
        raise CcrError(
            f"{where}.base_url: expected an address such as http://127.0.0.1:5000/, without user, password or query; "
            f"a key belongs in the environment variable {LIBRE_ENV_VAR}."
        )
    return base_url.rstrip("/") + "/"


def _is_address(url: str) -> bool:
    """Whether a URL is scheme, host, port and path and nothing else."""
    try:
        parts = urlsplit(url)
        plain = parts.port != 0 and not any(sign in url for sign in "@?#")
        return parts.scheme in ("http", "https") and bool(parts.hostname) and plain
    except ValueError:  # a port that is no number, a bracket too many
        return False


# --- requests and answers ----------------------------------------------------------------------------------


class Transport(threading.local):
    """Sends the requests of a service: with a time-out, in turn, and with every bad answer told by its kind.

    `install` puts it where the library's modules have `requests`: the library passes no time-out and turns status
    and headers into exceptions that name neither, or name the key. One session, so one open connection, per thread.

    Args:
        timeout: seconds without an answer. turn: waits until the next request may go out.
    """

    exceptions = requests.exceptions  # the library asks `requests` for them

    def __init__(self, service: Service, key: str | None, timeout: float, turn: Callable[[], None]):
        self._service, self._key, self._timeout, self._turn = service, key, timeout, turn
        self._session = requests.Session()

    def install(self) -> None:
        """Let deep-translator send what it sends through this object."""
        for module in (deepl, google, libre, microsoft, mymemory):
            module.requests = self

    def get(self, url: str, **arguments: Any) -> requests.Response:
        """As `requests.get`; raises `Trouble` for every answer that is no success."""
        return self._send("GET", url, **arguments)

    def post(self, url: str, **arguments: Any) -> requests.Response:
        """As `requests.post`; raises `Trouble` for every answer that is no success."""
        return self._send("POST", url, **arguments)

    def _send(self, method: str, url: str, **arguments: Any) -> requests.Response:
        self._turn()
        try:
            response = self._session.request(
                method,
                url,
                timeout=self._timeout,
                allow_redirects=self._key is None,  # a redirect would carry the key to another server
                **arguments,
            )
        except requests.RequestException as error:
            kind = _kind(error, self._timeout)
        else:
            _judge(response, self._service)
            return response
        raise Failed(kind)  # out here, where the exception that holds the URL is no longer its context


def _judge(response: requests.Response, service: Service) -> None:
    """Raise what a response's status means."""
    status, pause = service.status(response), _retry_after(response)
    kind = f"HTTP {status}"
    if status in (401, 403):
        raise Denied(f"{kind}, access denied" + (f": check the key in {service.key}" if service.key else ""))
    if status in (402, 456):
        raise Denied(f"{kind}, the quota is used up")
    if status in (413, 414):
        raise Unfit(f"too long for the service ({kind})")
    if status in (408, 425, 429) or status >= 500:
        if pause is not None and pause > LONGEST_PAUSE:
            raise Denied(f"{kind}, and it asks to wait for {pause / 3600:.1f} hours")
        raise Failed(kind, pause=0.0 if pause is None and status == 429 else pause)
    if status == 400:
        raise Failed(f"{kind} (a language it does not know, or a key it wants?)", again=False, doubtful=True)
    if not 200 <= status < 300:
        raise Failed(kind, again=False, doubtful=True)


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that a response asks to wait, by its Retry-After: a number or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _kind(error: requests.RequestException, timeout: float) -> str:
    """What went wrong, without the exception's own words: they hold the URL, and that the text and the key."""
    causes: list[BaseException] = [error]
    while causes[-1].__context__ is not None:
        causes.append(causes[-1].__context__)
    if any(isinstance(cause, requests.Timeout | TimeoutError) for cause in causes):
        return f"time-out after {timeout:g} s"
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    if isinstance(error, requests.ConnectionError):
        return "connection reset"
    return "answer cut short" if isinstance(error, requests.exceptions.ChunkedEncodingError) else type(error).__name__
