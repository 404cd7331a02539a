"""A translation service that misbehaves in every way of `KINDS`, and a client that is killed now and then."""

import random
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from misbehaviour import KINDS, SAME
from test_online import SECRET, captions_job, kept, start_stage, translate
from translation_server import TranslationServer

from ccr.artifacts.parquet import read_parquet, refused_of
from ccr.artifacts.schemas import CAPTIONS

WORDS = """
    apple balcony camel dolphin engine feather garden harbour island jacket kitchen ladder mountain notebook orchard
    pencil quarry river shadow tunnel umbrella village window yellow zebra bridge candle dragon evening forest guitar
    hammer insect jungle kettle lemon mirror needle ocean piano rabbit saddle teapot violin walnut climbs carries
    follows paints watches throws builds crosses repairs washes quickly slowly under beside behind above blue
    green heavy narrow
"""


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """In an empty folder, with no proxy between test and server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("LIBRE_API_KEY", SECRET)


def sentences(count: int) -> list[str]:
    """Different sentences of a dozen words."""
    rng = random.Random(count)
    return [f"{' '.join(rng.sample(WORDS.split(), 12))} {n}" for n in range(count)]


def test_every_misbehaviour_is_held_against_its_sentence_alone():
    texts = sentences(200)
    kinds = dict(zip(texts, [*KINDS, "same", "same", "same"], strict=False))
    with TranslationServer(fault=lambda text, n: kinds.get(text) and KINDS[kinds[text]][0], key=SECRET) as server:
        outcomes = translate(texts, server.url, attempts=1, timeout=2.0, concurrency=16)
    good = {text for text in texts if text not in kinds or not KINDS[kinds[text]][1]}
    assert outcomes.translations() == {text: f"zh译:{text}" for text in good}
    unanswered = outcomes.unanswered()
    assert outcomes.withdrawn == {SAME}
    for text, kind in kinds.items():
        if text not in good and (kind != "same" or text in unanswered):
            assert re.search(KINDS[kind][1], unanswered.pop(text, "nothing")), kind
    assert not unanswered


# With short waits, and a clock that is ahead by the hours in argv[2].
STAGE = """
import json, logging, sys, time
from tenacity.wait import wait_random_exponential
from ccr.artifacts.jobs import Job
from ccr.translate import evidence, online
from ccr.translate.machine import run
logging.basicConfig(level=logging.INFO)
online.BACK_OFF = wait_random_exponential(multiplier=0.02, max=0.5)
evidence.now = lambda: time.time() + float(sys.argv[2]) * 3600
run(Job(**json.load(open(sys.argv[1]))))
"""


@pytest.mark.slow
def test_killed_ten_times_every_sentence_is_translated_once_or_refused_for_its_reason():
    rng, texts, kills = random.Random(0), sentences(2000), 10
    always = dict(zip(texts, [*KINDS, *KINDS, "same", "same"], strict=False))  # two sentences or more of each kind
    at_first = dict(zip(texts[len(always) :], [*KINDS] * 12, strict=False))  # on their first request only
    shuffled = rng.sample(texts, len(texts))

    def kind_of(text: str, n: int) -> str | None:
        return always.get(text) or (at_first.get(text) if n == 0 else None)

    def fault(text, n):
        kind = kind_of(text, n)
        return kind and KINDS[kind][0]

    hours, runs = 0.0, 0
    with TranslationServer(fault=fault, key=SECRET, seconds=0.005) as server:
        the_job = captions_job(
            shuffled, server.url, attempts=3, timeout=1.0, requests_per_second=100.0, on_failure="drop"
        )

        def good() -> Counter:
            """How often each sentence got a good answer."""
            bad = {KINDS[kind][0] for kind in KINDS if KINDS[kind][1]}
            return Counter(request.text for request in list(server.log.requests) if request.fault not in bad)

        for kill in range(kills):
            process = start_stage(the_job, STAGE, str(hours))
            while len(good()) < 170 * (kill + 1) and process.poll() is None:
                time.sleep(0.02)
            process.kill()
            assert process.wait() == -signal.SIGKILL, Path("log").read_text()[-3000:]
            assert not Path("zh.parquet").exists()
            hours += 0.5
        while start_stage(the_job, STAGE, str(hours)).wait() != 0:
            hours, runs = hours + 3.1, runs + 1
            assert runs < 6, Path("log").read_text()[-3000:]

    table = read_parquet("zh.parquet", CAPTIONS)
    refused = {text: kind for text, kind in always.items() if KINDS[kind][1]}
    translated = [text for text in shuffled if text not in refused]
    assert table["text"].to_pylist() == [f"zh译:{text}" for text in translated]
    reasons = {shuffled[int(caption[1:5])]: reason for caption, reason in refused_of(table).items()}
    assert set(reasons) == set(refused)
    for text, kind in refused.items():
        assert re.search(KINDS[kind][1], reasons[text]), kind
    kept_well = Counter(line["text"] for line in kept() if line.get("translation") not in (None, SAME))
    assert kept_well == Counter(translated)

    answered = good()
    share = answered.total() / len(translated)
    failed = len(server.log.requests) - answered.total()
    print(
        f"{len(texts):,} sentences, {len(KINDS)} kinds, {kills} kills, {runs + 1} runs to the end: {len(translated):,} "
        f"translated with {share:.4f} good answers each, {len(refused)} refused, {failed:,} answers that were none"
    )
    assert set(answered) == set(translated)
    assert share <= 1.01
    written = [path for path in Path().rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
