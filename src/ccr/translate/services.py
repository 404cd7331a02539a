"""Online translation services: their languages and keys, and how each is queried.

The library deep-translator knows how to query each of them. It is changed here where its requests are out of date or
have the key in the URL, and where it misreads answers; `transport` sends the requests.
"""

import html
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from deep_translator import deepl, google, libre, microsoft, mymemory
from deep_translator.base import BaseTranslator
from deep_translator.constants import (
    BASE_URLS,
    DEEPL_ENV_VAR,
    LIBRE_ENV_VAR,
    MSFT_ENV_VAR,
)
from deep_translator.exceptions import NotValidLength

from ccr.errors import CcrError
from ccr.pairs.services import CODES
from ccr.translate.transport import Answer

MODULES = deepl, google, libre, microsoft, mymemory  # modules whose `requests` is replaced
INLINE = re.compile(r"</?(?:b|br|em|font|g|i|mark|p|s|small|span|strong|sub|sup|u|x)(?:\s[^<>]*)?/?>", re.IGNORECASE)
ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[a-zA-Z]{2,8});")


class _DeepL(deepl.DeeplTranslator):
    """Sends the key in a header and the text in the body: the service no longer supports what the library sends."""

    def translate(self, text: str) -> str:
        response = deepl.requests.post(
            f"{self._base_url}translate",
            headers={"Authorization": f"DeepL-Auth-Key {self.api_key}"},
            json={"text": [text], "source_lang": self.source, "target_lang": self.target},
        )
        return response.json()["translations"][0]["text"]


class _Google(google.GoogleTranslator):
    """Reads the page itself: the library drops the spaces around tags, and texts that Google leaves unchanged."""

    def translate(self, text: str) -> str:
        if len(text) >= 5000:
            raise NotValidLength(text, 0, 5000)
        response = google.requests.get(self._base_url, params={"sl": self.source, "tl": self.target, "q": text})
        found = response.text.partition('<div class="result-container">')[2].partition("</div>")
        if not found[1]:
            raise LookupError("no translation in the page")
        return html.unescape(INLINE.sub("", found[0]))


class _Microsoft(microsoft.MicrosoftTranslator):
    """Skips the list of languages that the library requests for every object."""

    def _get_supported_languages(self) -> dict[str, str]:
        return {"english": "en"}


class _Libre(libre.LibreTranslator):
    """Sends the text and the key in the body: the library puts both into the URL, which proxies log."""

    def translate(self, text: str) -> str:
        sent = {"q": text, "source": self.source, "target": self.target, "format": "text"}
        key = {"api_key": self.api_key} if self.api_key else {}
        return libre.requests.post(f"{self._base_url}translate", json=sent | key).json()["translatedText"]


def _libretranslate(key: str | None, base_url: str) -> _Libre:
    """The library insists on a key when the object is created, but not when it sends a request."""
    translator = _Libre(api_key="none", custom_url=base_url)
    translator.api_key = key
    return translator


def _status(response: Answer) -> int:
    return response.status_code


def _mymemory_status(response: Answer) -> int:
    """MyMemory answers 200 with its errors in place of the translation; the true status is next to them."""
    try:
        answer = response.json()
        if answer.get("quotaFinished") or answer["responseData"]["translatedText"].startswith("MYMEMORY WARNING"):
            return 429
        return int(answer["responseStatus"])
    except (ArithmeticError, LookupError, TypeError, AttributeError, ValueError):
        return response.status_code


@dataclass(frozen=True)
class Service:
    """A service: `translator` makes the library's object from (key, base_url), `codes` are its own language codes.

    `key`: environment variable of its key, None if it has none. `longest`: bytes of the longest text, in UTF-8.
    `status`: gives the HTTP status that a response stands for.
    """

    translator: Callable[[str | None, str], BaseTranslator]
    codes: Collection[str]
    key: str | None = None
    longest: int | None = None
    status: Callable[[Answer], int] = _status


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
    """The key of a service, from the environment; `CcrError` if it is required but missing, or malformed."""
    variable = SERVICES[name].key
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key and name in ("deepl", "microsoft"):
        raise CcrError(f"{where}: {name} needs a key: set the environment variable {variable} (never in params.yaml).")
    if not (key.isascii() and key.isprintable()):
        raise CcrError(f"{where}: the environment variable {variable} holds characters that no key has.")
    return key or None


def base_url_of(name: str, base_url: str, key: str | None, where: str) -> str:
    """The address of a LibreTranslate server, "" for every other service; `CcrError` if missing or not allowed."""
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
    """Whether a URL consists only of scheme, host, port and path."""
    try:
        parts = urlsplit(url)
        plain = parts.port != 0 and not any(sign in url for sign in "@?#")
        return parts.scheme in ("http", "https") and bool(parts.hostname) and plain
    except ValueError:  # a port that is not a number, an extra bracket
        return False


def plain(text: str, answer: str) -> str:
    """An answer without HTML entities and inline tags, unless the sentence itself has such."""
    if "<" not in text:
        answer = INLINE.sub("", answer)
    if not ENTITY.search(text):
        for _ in range(2):  # some services encode twice
            answer = html.unescape(answer)
    return answer
