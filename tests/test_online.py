"""Online engines: real requests to a server on loopback that fails on purpose."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deep_translator.constants import (
    BASE_URLS,
    DEEPL_LANGUAGE_TO_CODE,
    GOOGLE_LANGUAGES_TO_CODES,
    LIBRE_LANGUAGES_TO_CODES,
    MY_MEMORY_LANGUAGES_TO_CODES,
)
from hand_made import hand_made
from translation_server import FAULTS, TranslationServer, seeded

from ccr.artifacts.jobs import Job, dump_job
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.errors import CcrError
from ccr.registry import ENGINES
from ccr.translate.engine import Refused, Remembered, Unanswered, Withdrawn
from ccr.translate.memory import TM, remembered
from ccr.translate.online import Engine
from ccr.translate.services import SERVICES

LANGS = ("en", "zh", "de", "fr", "cs", "ja")
BARE = "0b5e-not-a-real-key-77"  # the part of a key that any form of quoting leaves unchanged
SECRET = f"{BARE}:fx"
SENTENCES = [f"sentence {n}" for n in range(30)]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An empty folder, no keys, and no proxy between test and server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("DEEPL_API_KEY", "MICROSOFT_API_KEY", "LIBRE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def job(base_url="", source="en", target="zh", direction="forward", inputs=None, outputs=None, **options):
    entry = {name: option.default for name, option in ENGINES["deep_translator"].options.items()}
    quick = {"service": "libretranslate", "base_url": base_url, "requests_per_second": 1000.0, "timeout": 5.0}
    settings = {"direction": direction, "variant": "online", "engine": "deep_translator", "source_lang": source}
    settings |= {"target_lang": target, "options": entry | quick | options}
    return hand_made("translate", "zh.parquet", inputs or {}, outputs or {}, settings)


class Outcomes(dict):
    """What an engine finished; finishing a text twice is an error. Also its past results, by default none."""

    def __init__(self, known=(), withdrawn=()):
        super().__init__()
        self.known, self.withdrawn = dict(known), set(withdrawn)

    def finish(self, text, outcome):
        if isinstance(outcome, Withdrawn):
            self.withdrawn.add(outcome.translation)
            assert (self.pop(text, None) or self.known.pop(text)) == outcome.translation
            return
        assert text not in self, f"{text!r} finished twice"
        self[text] = outcome

    def refused(self):
        return {text: outcome.reason for text, outcome in self.items() if isinstance(outcome, Refused)}

    def unanswered(self):
        return {text: outcome.reason for text, outcome in self.items() if isinstance(outcome, Unanswered)}

    def translations(self):
        return {text: outcome for text, outcome in self.items() if isinstance(outcome, str)}


def translate(texts, base_url="", **options) -> Outcomes:
    """Outcomes of all texts."""
    outcomes = Outcomes()
    Engine(job(base_url, **options)).translate_texts(texts, outcomes.finish, outcomes)
    return outcomes


def unfinished(texts, base_url="", **options) -> tuple[Outcomes, str]:
    """Outcomes of the texts that could be translated, and the error message about the others."""
    outcomes = Outcomes()
    with pytest.raises(CcrError) as error:
        Engine(job(base_url, **options)).translate_texts(texts, outcomes.finish, outcomes)
    return outcomes, str(error.value)


def only(*texts, fault):
    """A server's faults: this one, whenever one of these texts is requested."""
    return lambda text, n: fault if text in texts else None


@pytest.fixture
def every_service(monkeypatch):
    """All five services are one server on loopback, and their keys are set; yields the server."""
    with TranslationServer() as server:
        paths = {"GOOGLE_TRANSLATE": "m", "MYMEMORY": "get", "LIBRE": "", "DEEPL_FREE": "{version}/"}
        for name, path in (paths | {"MICROSOFT_TRANSLATE": "microsoft?api-version=3.0"}).items():
            monkeypatch.setitem(BASE_URLS, name, server.url + path)
        for name in ("DEEPL_API_KEY", "MICROSOFT_API_KEY", "LIBRE_API_KEY"):
            monkeypatch.setenv(name, SECRET)
        yield server


# --- services, languages, keys -----------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_translates_between_all_our_languages(every_service, service):
    chinese = {"google": "zh-CN", "mymemory": "zh-CN", "libretranslate": "zh", "deepl": "ZH", "microsoft": "zh-Hans"}
    for source, target in zip(LANGS, LANGS[1:] + LANGS[:1], strict=True):
        outcome = translate(["a dog"], service=service, source=source, target=target)["a dog"]
        request = every_service.log.requests[-1]
        assert outcome == f"{request.target}译:a dog"
        for ours, its in ((source, request.source), (target, request.target)):
            assert its == chinese[service] if ours == "zh" else its.lower().startswith(ours)
        assert request.key == (None if service in ("google", "mymemory") else SECRET)
    assert len(every_service.log.requests) == len(LANGS)  # no request for anything but the translation


@pytest.mark.parametrize(
    ("service", "known"),
    [
        ("google", GOOGLE_LANGUAGES_TO_CODES.values()),
        ("mymemory", MY_MEMORY_LANGUAGES_TO_CODES.values()),
        ("libretranslate", LIBRE_LANGUAGES_TO_CODES.values()),
        ("deepl", [code.upper() for code in DEEPL_LANGUAGE_TO_CODE.values()]),
    ],
)
def test_a_service_has_every_language_that_the_library_knows_of_it(service, known):
    assert set(known) - {"ar-EG"} <= set(SERVICES[service].codes)


@pytest.mark.parametrize(
    ("service", "lang", "its"),
    [
        ("google", "he", "iw"),
        ("google", "zh-Hant", "zh-TW"),
        ("google", "nb", "no"),
        ("libretranslate", "zh-Hant", "zt"),
        ("mymemory", "sw", "sw-KE"),
        ("mymemory", "ar", "ar-SA"),
        ("microsoft", "sr-Latn", "sr-Latn"),
        ("deepl", "pt-PT", "PT"),
    ],
)
def test_a_language_is_asked_for_by_the_name_that_the_service_has_for_it(every_service, service, lang, its):
    translate(["dog, كلب, כלב"], service=service, source="en", target=lang)  # letters of every requested script
    assert every_service.log.requests[-1].target == its


def test_a_pair_that_a_service_lacks_is_refused_with_the_services_that_have_it():
    message = "deepl does not translate from 'en' to 'sw'. Services that do: google, mymemory, microsoft"
    with pytest.raises(CcrError, match=message):
        Engine(job(service="deepl", source="en", target="sw"))


def test_the_way_back_and_the_queries_go_from_target_to_source():
    with TranslationServer() as server:
        for direction in ("back", "queries"):
            translate(["狗"], server.url, direction=direction)
        assert {(request.source, request.target) for request in server.log.requests} == {("zh", "en")}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("source", "target"), [("en", "en"), ("en", "qaa"), ("qaa", "zh")])
def test_an_impossible_pair_is_refused_before_any_request(every_service, service, source, target):
    pair = f"translate.variants.online: {service} does not translate from '{source}' to '{target}'. No other service"
    with pytest.raises(CcrError, match=pair):
        Engine(job(service=service, source=source, target=target))
    assert not every_service.log.requests


@pytest.mark.parametrize(("service", "variable"), [("deepl", "DEEPL_API_KEY"), ("microsoft", "MICROSOFT_API_KEY")])
def test_a_service_that_needs_a_key_says_where_it_belongs(monkeypatch, service, variable):
    with pytest.raises(CcrError, match=f"{service} needs a key: set the environment variable {variable}"):
        Engine(job(service=service))
    monkeypatch.setenv(variable, "kéy")
    with pytest.raises(CcrError, match=f"{variable} holds characters that no key has") as error:
        Engine(job(service=service))
    assert "kéy" not in str(error.value)
    monkeypatch.setenv(variable, SECRET + "\n")
    assert BARE not in json.dumps(Engine(job(service=service)).identity)


@pytest.mark.parametrize(("key", "name"), [(SECRET, "DEEPL_FREE"), (BARE, "DEEPL")])
def test_deepl_has_another_address_for_keys_that_are_paid_for(monkeypatch, key, name):
    monkeypatch.setenv("DEEPL_API_KEY", key)
    with TranslationServer(key=key) as server:
        monkeypatch.setitem(BASE_URLS, name, server.url + "{version}/")
        assert translate(["a dog"], service="deepl") == {"a dog": "ZH译:a dog"}


def test_libretranslate_needs_an_address_or_a_key_for_the_public_server(monkeypatch):
    with pytest.raises(CcrError, match=r"online.base_url: the address .* is missing, .* needs a key in LIBRE_API_KEY"):
        Engine(job())
    monkeypatch.setenv("LIBRE_API_KEY", SECRET)
    assert Engine(job()).identity == {"service": "libretranslate", "base_url": "https://libretranslate.com/"}
    with pytest.raises(CcrError, match="base_url: only libretranslate takes one"):
        Engine(job("http://127.0.0.1:5000/", service="google"))


@pytest.mark.parametrize(
    "address",
    ["localhost:5000", "ftp://host/", "http://", "http://user:pass@host/", "http://h/?key=pass", "http://h:x/"],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused_and_not_repeated(address):
    with pytest.raises(CcrError, match="base_url: expected an address such as") as error:
        Engine(job(address))
    assert "pass@" not in str(error.value) and "=pass" not in str(error.value)


def test_identity_holds_what_a_translation_depends_on_and_no_more():
    engine = Engine(job("http://127.0.0.1:5000", concurrency=9, requests_per_second=1.0, attempts=3, timeout=2.0))
    assert isinstance(engine, Remembered)
    assert engine.name == "libretranslate"
    assert engine.identity == {"service": "libretranslate", "base_url": "http://127.0.0.1:5000/"}
    assert Engine(job(service="google")).identity == {"service": "google", "base_url": ""}


# --- what comes back ---------------------------------------------------------------------------------------

INJECTED = {
    "shell": '"; rm -rf ~',
    "long": "a dog runs " * 909 + "!",
    "emoji": "🐕🐈🏃🏽‍♀️",
    "right to left": "كلب يجري في الحديقة",
    "nul": "a dog\x00runs",
    "entities": "&lt;b&gt; dogs &amp; cats &#39;&quot; <script>alert(1)</script>",
    "url": "a&q=b&api_key=c#d?e=%00+%s {q} ../../etc/passwd",
    "digits": "12345",
}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("copied", [False, True])
def test_injected_captions_come_back_as_data_or_as_one_refusal(every_service, service, copied):
    every_service.translate = lambda text, target: text if copied else f"{target}译:{text}"
    outcomes = translate(["a dog", *INJECTED.values(), "a \ud800 dog"], service=service, attempts=1)
    refused = outcomes.refused()
    assert refused.pop("a \ud800 dog") == "it holds lone surrogates, which are no characters and cannot be sent"
    if service in ("google", "mymemory"):
        assert f"too long for {service}: 10,000" in refused.pop(INJECTED["long"])
    assert not refused
    held = outcomes.unanswered()
    assert set(held.values()) <= {
        f"a suspicious answer: {what}" for what in ("an echo of the sentence", "another script")
    }
    assert {INJECTED[name] for name in ("right to left", "entities", "url")} <= set(held) if copied else not held
    sent = {request.text: request.target for request in every_service.log.requests}
    assert outcomes.translations() == {
        text: text if copied else f"{target}译:{text}" for text, target in sent.items() if text not in held
    }


def test_a_sentence_that_the_service_finds_too_long_fails_and_the_others_go_on():
    with TranslationServer(fault=only("long", fault=(413, {}))) as server:
        outcomes = translate([*SENTENCES, "long"], server.url)
        assert server.log.texts().count("long") == 1
    assert outcomes.unanswered() == {"long": "too long for the service (HTTP 413)"}
    assert outcomes["sentence 7"] == "zh译:sentence 7"


def test_mymemory_counts_bytes(every_service):
    outcomes = translate(["狗" * 166, "狗" * 167], service="mymemory")
    assert outcomes.refused() == {"狗" * 167: "too long for mymemory: 501 bytes, it takes 500"}


SHAPES = {
    "empty": ("empty", "an empty translation"),
    "blank": (b'{"translatedText": " \\n"}', "an empty translation"),
    "null": (b"null", "an answer without a translation"),
    "list": (b'["a"]', "an answer without a translation"),
    "number": (b"7", "an answer without a translation"),
    "error": (b'{"error": "I do not know"}', "an answer without a translation"),
    "no text": (b'{"translatedText": 7}', "an answer without a translation"),
    "bad request": ((400, {}), "HTTP 400 (a language it does not know, or a key it wants?)"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_the_service_cannot_do_with_one_sentence_is_held_against_it_if_it_does_others(shape):
    fault, reason = SHAPES[shape]
    with TranslationServer(fault=only("odd", fault=fault)) as server:
        outcomes = translate([*SENTENCES, "odd"], server.url, attempts=2)
        assert outcomes.unanswered() == {"odd": reason} and not outcomes.refused()
        assert server.log.texts().count("odd") == (1 if shape == "bad request" else 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_held_against_sentences_by_a_service_that_does_none(shape):
    fault, reason = SHAPES[shape]
    with TranslationServer(fault=lambda text, n: fault) as server:
        outcomes, error = unfinished(SENTENCES, server.url, attempts=1)
        assert not outcomes
        assert f"libretranslate: 30 of 30 sentences are not translated: {reason}. What is translated is kept" in error


def test_a_page_in_place_of_googles_answer_refuses_nothing(every_service):
    every_service.fault = lambda text, n: "page"
    outcomes, error = unfinished(SENTENCES, service="google", attempts=1)
    assert not outcomes and "an answer without a translation" in error


@pytest.mark.parametrize("status", [200, "429"])
def test_mymemorys_warning_is_no_translation(every_service, status):
    warning = "MYMEMORY WARNING: YOU USED ALL AVAILABLE FREE TRANSLATIONS FOR TODAY."
    answer = json.dumps({"responseData": {"translatedText": warning}, "responseStatus": status, "matches": []})
    every_service.fault = lambda text, n: answer.encode() if text == "sentence 3" else None
    outcomes = translate(SENTENCES, service="mymemory", attempts=1)
    assert outcomes.unanswered() == {"sentence 3": "HTTP 429"}


@pytest.mark.parametrize("different", [True, False])
def test_one_answer_for_many_sentences_is_remembered_for_none(different):
    words = "river lamp owl stone glass bread cloud rope coin leaf drum pearl tower nest"
    spell = (
        (lambda n: " ".join(random.Random(n).sample(words.split(), 5))) if different else (lambda n: f"a dog runs {n}")
    )
    fooled, others = [spell(n) for n in range(100)], [f"sentence {n}" for n in range(50)]
    with TranslationServer(translate=lambda text, target: "请稍后" if text in fooled else f"zh译:{text}") as server:
        outcomes = translate([*fooled, *others], server.url)
        assert outcomes.translations() == {text: f"zh译:{text}" for text in others}
        assert outcomes.withdrawn == {"请稍后"}
        again = Outcomes(known=outcomes.translations(), withdrawn=outcomes.withdrawn)
        Engine(job(server.url)).translate_texts(fooled[:2], again.finish, again)  # recognised from the earlier run
    assert set(again.unanswered().values()) == {"a suspicious answer: the same as for other sentences"}


def test_sentences_that_mean_the_same_may_have_one_translation():
    same = [
        "A dog runs.",
        "a dog runs .",
        "A dog is running.",
        "The dog runs.",
        "The dog is running .",
        "A dog runs there.",
    ]
    with TranslationServer(translate=lambda text, target: "狗跑" if text in same else f"zh译:{text}") as server:
        outcomes = translate([*same, *SENTENCES], server.url)
    assert {outcomes[text] for text in same} == {"狗跑"}


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_written_as_html_is_read_as_text(every_service, service):
    answers = {
        "it's": "译 c&#39;est &amp;quot;oui&amp;quot;",
        "<b>": "译 <b>",
        "a dog": "译 <b>ein <i>Hund</i></b> läuft",
    }
    every_service.translate = lambda text, target: answers[text]
    assert translate(list(answers), service=service).translations() == {
        "it's": '译 c\'est "oui"',
        "<b>": "译 <b>",
        "a dog": "译 ein Hund läuft",
    }


# --- trouble -----------------------------------------------------------------------------------------------


def test_bad_sentences_in_front_do_not_keep_a_job_from_the_others():
    bad = [f"a dog runs {n}" for n in range(40)]
    with TranslationServer(fault=only(*bad, fault="500")) as server:
        outcomes = translate([*bad, *(f"sentence {n}" for n in range(200))], server.url, attempts=1)
        assert len(outcomes.translations()) == 200 and set(outcomes.unanswered()) == set(bad)


@pytest.mark.parametrize("status", [401, 402, 403, 456])
def test_a_firewall_that_denies_one_sentence_does_not_stop_the_others(status):
    with TranslationServer(fault=only("sentence 7", fault=(status, {}))) as server:
        outcomes = translate(SENTENCES, server.url)
    assert set(outcomes.unanswered()) == {"sentence 7"} and len(outcomes.translations()) == 29


@pytest.mark.parametrize("fault", FAULTS)
def test_trouble_that_passes_is_overcome(fault):
    with TranslationServer(fault=lambda text, n: fault if n == 0 and text.endswith("7") else None) as server:
        outcomes = translate(SENTENCES, server.url, timeout=1.0)
        assert outcomes == {text: f"zh译:{text}" for text in SENTENCES}
        assert len(server.log.requests) == len(SENTENCES) + 3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("503", "HTTP 503"),
        ("429", "HTTP 429"),
        ("time-out", "time-out after 1 s"),
        ("reset", "connection reset by peer"),
        ("truncated", "an answer that is not JSON"),
        ("page", "an answer that is not JSON"),
        ("cut", "answer cut short"),
    ],
)
def test_trouble_that_stays_is_held_against_a_sentence(fault, reason):
    with TranslationServer(fault=only("sentence 7", fault=fault)) as server:
        outcomes = translate(SENTENCES, server.url, timeout=1.0, attempts=2)
        assert outcomes.unanswered() == {"sentence 7": reason}
        assert set(outcomes.translations()) == set(SENTENCES) - {"sentence 7"}
        assert server.log.texts().count("sentence 7") == 2


def test_a_service_that_is_down_stops_the_run_early_and_costs_nothing_that_was_done():
    down = TranslationServer(fault=lambda text, n: "503" if len(down.log.requests) >= 20 else None)
    with down, pytest.raises(CcrError, match=r"80 of 100 sentences are not translated: HTTP 503\."):
        remembered(Engine(the_job := job(down.url, attempts=2)), [f"sentence {n:03}" for n in range(100)], the_job)
    # attempts x (sentences in a row + those under way) x workers, plus those for a sentence that worked before
    assert len(down.log.requests) <= 20 + 2 * 4 * 4 + 2
    with pytest.raises(CcrError, match=r"80 of 80 sentences are not translated: connection refused\."):
        remembered(Engine(the_job), [f"sentence {n:03}" for n in range(100)], the_job)
    with TranslationServer(port=down.server_port) as up:
        texts = [f"sentence {n:03}" for n in range(100)]
        assert remembered(Engine(the_job), texts, the_job) == [f"zh译:{text}" for text in texts]
        assert len(up.log.requests) == 80


def test_a_service_that_fails_now_and_then_is_not_down():
    with TranslationServer(fault=lambda text, n: "503" if int(text.split()[1]) % 2 else None) as server:
        outcomes = translate([f"sentence {n}" for n in range(60)], server.url, attempts=1)
        assert len(outcomes.translations()) == len(outcomes.unanswered()) == 30


def test_a_disk_that_is_full_stops_the_run():
    finished = []

    def finish(text, outcome):
        finished.append(text)
        if len(finished) == 5:
            raise CcrError("the disk is full")

    with TranslationServer(seconds=0.05) as server, pytest.raises(CcrError, match="the disk is full"):
        Engine(job(server.url)).translate_texts(SENTENCES, finish, Outcomes())
    assert len(server.log.requests) <= 5 + 2 * 4


# --- politeness --------------------------------------------------------------------------------------------


def test_no_more_sentences_under_way_than_allowed():
    with TranslationServer(seconds=0.05) as server:
        translate(SENTENCES, server.url, concurrency=3)
        assert server.log.peak == 3


def test_the_rate_is_that_of_all_workers_together():
    with TranslationServer() as server:
        translate(SENTENCES, server.url, concurrency=8, requests_per_second=40.0)
        arrived = [request.arrived for request in server.log.requests]
        assert arrived[-1] - arrived[0] > 0.9 * (len(SENTENCES) - 1) / 40


@pytest.mark.parametrize(("status", "date"), [(429, False), (503, True)])
def test_retry_after_is_honoured_by_all_workers(status, date):
    def fault(text, n):
        if len(server.log.requests) != 10:
            return None
        when = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True) if date else "2"
        return status, {"Retry-After": when}

    with TranslationServer(fault=fault) as server:
        translate([f"sentence {n:03}" for n in range(150)], server.url, requests_per_second=100.0)
        requests = server.log.requests
        told = next(request.answered for request in requests if request.fault)
        # Requests that were under way when the service asked for the pause may still arrive.
        assert not [r.text for r in requests if told + 0.5 < r.arrived < told + 1.9]
        assert len([r for r in requests if r.arrived > told + 1.9]) > 80


def test_a_pause_that_is_none_or_too_long():
    asked = (429, {"Retry-After": "86400"})
    with TranslationServer(fault=only("sentence 7", fault=asked)) as server:
        outcomes = translate(SENTENCES, server.url)
        assert outcomes.unanswered() == {"sentence 7": "HTTP 429, and it asks to wait for 24.0 hours"}
        assert server.log.texts().count("sentence 7") == 1
    with TranslationServer(fault=lambda text, n: asked if len(server.log.requests) >= 10 else None) as server:
        outcomes, error = unfinished(SENTENCES, server.url)
        assert len(outcomes) == 10 and len(server.log.requests) <= 10 + 3 * 4 + 1
        assert "20 of 30 sentences are not translated: HTTP 429, and it asks to wait for 24.0 hours. What" in error
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    for value in ("soon", "-1", "1e3", "٣", "Mon, 99 Xyz 99999 99:99:99 +9999", "", past):
        faults = {0: (429, {"Retry-After": value})}
        with TranslationServer(fault=lambda text, n, faults=faults: faults.get(n)) as server:
            assert translate(["a dog"], server.url) == {"a dog": "zh译:a dog"}


# --- keys --------------------------------------------------------------------------------------------------


def everything_said(error: BaseException | None) -> str:
    """Everything that an exception and its causes could write to a log."""
    said = ""
    while error is not None:
        said += "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
        error = error.__cause__ or error.__context__
    return said


@pytest.mark.parametrize("service", ["libretranslate", "deepl", "microsoft"])
@pytest.mark.parametrize("status", [401, 403, 456])
def test_a_wrong_key_stops_everything_and_is_never_told(every_service, capfd, caplog, service, status):
    caplog.set_level("DEBUG")
    every_service.fault = lambda text, n: (status, {}) if len(every_service.log.requests) >= 5 else None
    outcomes = Outcomes()
    with pytest.raises(CcrError) as error:
        Engine(job(service=service)).translate_texts([f"sentence {n}" for n in range(200)], outcomes.finish, outcomes)
    what = "the quota is used up" if status == 456 else f"access denied: check the key in {SERVICES[service].key}"
    assert f"{service}: 195 of 200 sentences are not translated: HTTP {status}, {what}. What" in str(error.value)
    assert len(outcomes) == 5 and not outcomes.refused()
    # at most this many are under way before and during the request for a sentence that worked before
    assert len(every_service.log.requests) <= 5 + 3 * 4 + 1
    out, err = capfd.readouterr()
    assert BARE not in out + err + caplog.text + everything_said(error.value)


@pytest.mark.parametrize("service", SERVICES)
def test_a_redirect_is_not_followed(every_service, service):
    with TranslationServer() as other:
        for status in (301, 302, 303, 307, 308):
            every_service.fault = lambda text, n, status=status: (status, {"Location": f"{other.url}{service}"})
            outcomes, error = unfinished(["a dog"], service=service, attempts=1)
            assert not outcomes and f"HTTP {status}, a redirect, which is not followed" in error
        assert not other.log.requests


def test_a_redirect_that_passes_costs_another_attempt():
    there = (307, {"Location": "/elsewhere"})
    with TranslationServer(fault=lambda text, n: there if n == 0 and text.endswith("7") else None) as server:
        assert set(translate(SENTENCES, server.url).translations()) == set(SENTENCES)


@pytest.mark.parametrize("service", SERVICES)
def test_no_address_holds_a_key(every_service, service):
    translate(SENTENCES, service=service)
    assert {request.key for request in every_service.log.requests} == {SECRET if SERVICES[service].key else None}
    assert not [request.line for request in every_service.log.requests if BARE in request.line]


# --- the whole stage, killed -------------------------------------------------------------------------------

STAGE = """
import json, logging, sys
from ccr.artifacts.jobs import Job
from ccr.translate.machine import run
logging.basicConfig(level=logging.DEBUG)
run(Job(**json.load(open(sys.argv[1]))))
"""


def start_stage(the_job: Job, stage: str = STAGE, *arguments: str) -> subprocess.Popen:
    """The stage in a separate process; its output is appended to `log`."""
    Path("job.json").write_text(json.dumps(dump_job(the_job)))
    path = os.pathsep.join(p for p in sys.path if p)
    with open("log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", stage, "job.json", *arguments],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": path},
        )


def captions_job(texts: list[str], base_url: str, **options) -> Job:
    rows = [
        {"item_id": f"i{n:04}", "caption_id": f"i{n:04}#0", "split": "train", "lang": "en", "origin": "human"}
        | {"engine": None, "parent_id": None, "text": text}
        for n, text in enumerate(texts)
    ]
    write_parquet(pa.Table.from_pylist(rows, CAPTIONS), Path("captions.parquet"), CAPTIONS)
    inputs, outputs = {"captions": "captions.parquet"}, {"translations": "zh.parquet"}
    return job(base_url, inputs=inputs, outputs=outputs, **options)


def kept() -> list[dict]:
    """Every line of the translation memory's files."""
    return [json.loads(line) for file in TM.rglob("*.jsonl") for line in file.read_text().splitlines()]


@pytest.mark.parametrize("size", [150, pytest.param(2000, marks=pytest.mark.slow)])
def test_killed_three_times_nothing_is_lost_and_nothing_done_twice(monkeypatch, size):
    monkeypatch.setenv("LIBRE_API_KEY", SECRET)
    rng, kills, workers = random.Random(size), 3, 4
    texts = [f"a dog runs {n}" for n in range(size - size // 20)]
    texts += rng.choices(texts, k=size // 20)  # some captions occur twice
    rng.shuffle(texts)
    moments = sorted(rng.sample(range(len(set(texts)) * 9 // 10), kills))
    with TranslationServer(fault=seeded(size, 0.08), key=SECRET) as server:
        the_job = captions_job(texts, server.url, concurrency=workers, timeout=3.0)
        for moment in moments:
            process = start_stage(the_job)
            while len(server.log.requests) < moment and process.poll() is None:
                time.sleep(0.002)
            process.kill()
            assert process.wait() == -signal.SIGKILL
            assert not Path("zh.parquet").exists()
        assert start_stage(the_job).wait() == 0, Path("log").read_text()[-3000:]

        table = read_parquet("zh.parquet", CAPTIONS)
        assert table["parent_id"].to_pylist() == [f"i{n:04}#0" for n in range(size)]
        assert table["text"].to_pylist() == [f"zh译:{text}" for text in texts]
        assert Counter(line["text"] for line in kept()) == Counter(set(texts))
        answered_well = Counter(request.text for request in server.log.requests if request.fault is None)
        assert set(answered_well) == set(texts)
        assert answered_well.total() - len(answered_well) <= kills * workers
        assert server.log.peak <= workers + kills * workers  # the server may not have noticed a kill yet
        failed = Counter(request.fault for request in server.log.requests if request.fault)
        assert set(failed) == set(FAULTS) or size < 1000

        sent = len(server.log.requests)
        Path("zh.parquet").unlink()
        assert start_stage(the_job).wait() == 0
        assert len(server.log.requests) == sent  # all from the translation memory
    written = [path for path in Path().rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {"log", "zh.parquet", "identity.json"}
    assert not [path for path in written if BARE.encode() in path.read_bytes()]
