"""The translation memory: nothing is translated twice, no finished work is lost, whatever happens to the process."""

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pyarrow as pa
import pytest
from hand_made import hand_made, run
from hypothesis import given
from hypothesis import strategies as st

from ccr.artifacts.parquet import read_parquet, refused_of, write_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.errors import CcrError
from ccr.registry import ENGINES, Entry
from ccr.translate import evidence, memory
from ccr.translate.engine import Refused, Unanswered, Withdrawn
from ccr.translate.evidence import APART, COUNTS_FOR, REFUSED_FOR, counted
from ccr.translate.memory import MEMORY, Memory, remembered

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")

INJECTED = [
    '"; rm -rf ~',
    "x" * 10_000,
    "🦊🎈",
    "كلب أحمر",
    "a\0b",
    "&lt;b&gt; &amp; <i>",
    "line\u2028two",
    '{"text": 1}',
]


class Careful:
    """An engine that records its requests and refuses texts with an exclamation mark."""

    name = "careful-1"
    seen: list[str] = []

    def __init__(self, job):
        self.identity = {"beams": job.settings["options"].get("beams", 1)}

    def translate_texts(self, texts, finish, past):
        for text in texts:
            Careful.seen.append(text)
            finish(text, Refused("too loud") if "!" in text else f"<{text}>")


@pytest.fixture(autouse=True)
def careful(monkeypatch):
    module = ModuleType("careful")
    module.Engine = Careful
    monkeypatch.setitem(sys.modules, "careful", module)
    monkeypatch.setitem(ENGINES, "careful", Entry("careful", remembered=True))
    Careful.seen = []


def captions(texts, path="captions.parquet", split="train"):
    rows = [
        {
            "item_id": f"i{n}",
            "caption_id": f"i{n}#0",
            "split": split,
            "lang": "en",
            "origin": "human",
            "engine": None,
            "parent_id": None,
            "text": text,
        }
        for n, text in enumerate(texts)
    ]
    write_parquet(pa.Table.from_pylist(rows, CAPTIONS), path, CAPTIONS)
    return path


def job(path="captions.parquet", direction="forward", out="zh.parquet", after=(), shard=None, **options):
    settings = {"direction": direction, "variant": "mt", "engine": "careful", "source_lang": "en", "target_lang": "zh"}
    settings["options"] = {"on_failure": "error", **options}
    outputs = {"shard" if shard else "translations": out}
    inputs = {"forward": path} if direction == "back" else {"captions": path}
    return hand_made(
        "translate", out, inputs, outputs, settings | ({"shard": shard} if shard else {}), after=after, key="k"
    )


def translated(**given):
    made = job(**given)
    run(made)
    return read_parquet(made.outputs["translations"], CAPTIONS)


def answer_with(monkeypatch, outcomes):
    """Let the engine finish each text with its outcome given here."""
    answer = lambda self, texts, finish, past: [finish(text, outcomes[text]) for text in texts]  # noqa: E731
    monkeypatch.setattr(Careful, "translate_texts", answer)


class Clock(SimpleNamespace):
    """The time at which failures and refusals are recorded; only `wait` advances it."""

    def wait(self, seconds):
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock(seconds=1.8e9)
    monkeypatch.setattr(evidence, "now", lambda: clock.seconds)
    return clock


def stored():
    """Every line of the memory's files."""
    return [json.loads(line) for file in Path("work/tm").rglob("*.jsonl") for line in file.read_text().splitlines()]


def test_a_sentence_is_translated_once_and_never_again():
    captions(["a dog", "a cat", "a dog", "a  cat "])
    assert translated()["text"].to_pylist() == ["<a dog>", "<a cat>", "<a dog>", "<a cat>"]
    assert Careful.seen == ["a dog", "a cat"]
    captions(["a cat", "a bird"], "others.parquet")
    assert translated(path="others.parquet", out="others.zh.parquet")["text"].to_pylist() == ["<a cat>", "<a bird>"]
    assert Careful.seen == ["a dog", "a cat", "a bird"]
    assert Counter(line["text"] for line in stored()) == Counter(["a dog", "a cat", "a bird"])


def test_only_what_a_translation_depends_on_makes_it_again():
    captions(["a dog"])
    translated()
    translated(batch_tokens=7)
    assert len(Careful.seen) == 1
    translated(beams=4)
    assert len(Careful.seen) == 2
    translated(beams=1)
    assert len(Careful.seen) == 2


def test_directions_do_not_share_a_memory():
    captions(["a dog"])
    translated()
    captions(["a dog"], "forward.parquet")
    translated(path="forward.parquet", direction="back", out="zh.back.parquet")
    assert Careful.seen == ["a dog", "a dog"]
    assert sorted(folder.name for folder in Path("work/tm").glob("*/*-*")) == ["en-zh", "zh-en"]


@pytest.mark.parametrize("text", INJECTED)
def test_whatever_a_caption_holds_comes_back_as_it_is(text):
    assert remembered(Careful(job()), [text], job()) == [f"<{' '.join(text.split())}>"]
    Careful.seen = []
    assert remembered(Careful(job()), [text], job()) == [f"<{' '.join(text.split())}>"]
    assert Careful.seen == []


def test_what_is_no_text_is_refused(monkeypatch):
    answers = {"a": "\ud800", "b": " \n ", "c": "ok"}
    answer_with(monkeypatch, answers)
    outcomes = remembered(Careful(job()), ["a", "b", "c"], job())
    assert outcomes == [Refused("the translation is not valid text"), Refused("the translation is empty"), "ok"]


# --- accidents ---------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from ccr.translate.memory import Memory
with Memory("careful", {"beams": 1}, "en", "zh") as memory:
    for n in range(int(sys.argv[1]), 10**6):
        memory.add(f"text {n}", f"translation {n}")
        print(n, flush=True)
"""


def test_kill_9_loses_nothing_that_was_added():
    done = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(done)], stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if int(line) >= done + 50:
                break
        process.send_signal(signal.SIGKILL)
        last = max([int(line), *map(int, process.stdout.read().split())])
        process.wait()
        known = Memory("careful", {"beams": 1}, "en", "zh").known
        assert all(known[f"text {n}"] == f"translation {n}" for n in range(last + 1))
        done = last + 1
    assert len(known) in (done, done + 1)  # the last one may have been added but not yet printed


def test_a_line_cut_short_is_no_translation(caplog):
    with Memory("careful", {}, "en", "zh") as made:
        for text in "abc":
            made.add(text, text.upper())
    (file,) = made.folder.glob("*.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    assert Memory("careful", {}, "en", "zh").known == {"a": "A", "b": "B"}
    assert "1 lines cut short or damaged; what they held is translated again" in caplog.text
    file.write_bytes(whole.replace(b"B", b"\xff"))
    assert Memory("careful", {}, "en", "zh").known == {"a": "A", "c": "C"}


def test_a_full_disk_is_said_and_costs_nothing():
    captions([f"text {n}" for n in range(200)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(CcrError, match="memory cannot be written .* make room and run the job again"):
            run(job())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    kept = len(stored())
    assert 10 < kept < 200
    assert not Path("zh.parquet").exists()
    assert len(translated()) == 200
    assert len(Careful.seen) == 200 + 1  # the text that found the disk full, twice


def test_processes_write_side_by_side():
    writers = [subprocess.Popen([sys.executable, "-c", KILLED.replace("10**6", "200"), "0"], stdout=-3) for _ in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(Memory("careful", {"beams": 1}, "en", "zh").known) == 200


def test_threads_add_side_by_side():
    with Memory("careful", {}, "en", "zh") as made:
        threads = [
            threading.Thread(target=lambda k=k: [made.add(f"{n}", f"{k}") for n in range(300)]) for k in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(stored()) == 300
    assert Memory("careful", {}, "en", "zh").known == made.known


# --- refusals ----------------------------------------------------------------------------------------------


def test_a_refused_sentence_stops_the_job_unless_params_say_otherwise(caplog):
    captions(["a dog", "stop!", "a cat"])
    with pytest.raises(CcrError, match=r"1 of 3 captions were refused:\n  i1#0: too loud\n.*on_failure: drop"):
        translated()
    dropped = translated(on_failure="drop")
    assert dropped["parent_id"].to_pylist() == ["i0#0", "i2#0"]
    assert refused_of(dropped) == {"i1#0": "too loud"}
    assert "1 captions refused and left out" in caplog.text
    kept = translated(on_failure="keep_source")
    assert kept["text"].to_pylist() == ["<a dog>", "stop!", "<a cat>"]
    assert refused_of(kept) == {"i1#0": "too loud"}
    assert Careful.seen == ["a dog", "stop!", "a cat"]  # refused for good: not asked again


def test_a_refused_sentence_may_be_tried_again(monkeypatch):
    captions(["a dog", "stop!"])
    translated(on_failure="drop")
    assert memory.forget_refused() == 1
    answer_with(monkeypatch, {"stop!": "now"})
    assert translated()["text"].to_pylist() == ["<a dog>", "now"]


def test_no_test_query_is_dropped():
    captions(["a dog", "stop!"], split="test")
    table = read_parquet("captions.parquet").to_pandas().assign(lang="zh")
    write_parquet(pa.Table.from_pandas(table, CAPTIONS, preserve_index=False), "captions.parquet", CAPTIONS)
    queries = translated(direction="queries", out="zh.queries.parquet", on_failure="drop")
    assert queries["text"].to_pylist() == ["<a dog>", "stop!"]


def test_a_refusal_by_an_engine_is_for_good(clock):
    captions(["stop!"])
    for _ in range(2):
        translated(on_failure="keep_source")
        clock.wait(1000 * 86400)
    assert Careful.seen == ["stop!"]


# --- failures, and when they count as a refusal ------------------------------------------------------------


@given(failures=st.lists(st.floats(0, 200 * 86400.0)))
def test_failures_count_that_lie_apart_and_are_not_too_old(failures):
    latest = 150 * 86400.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "now", lambda: latest)
        found = counted(failures)
    assert set(found) <= set(failures)
    assert all(latest - COUNTS_FOR <= failure <= latest for failure in found)
    assert all(later - earlier >= APART for earlier, later in pairwise(found))
    recent = [failure for failure in failures if latest - COUNTS_FOR <= failure <= latest]
    assert all(any(0 <= failure - one < APART for one in found) for failure in recent)  # none is left out wrongly


def left(match, **given):
    with pytest.raises(CcrError, match=match):
        translated(**given)


def test_a_sentence_is_refused_when_runs_far_apart_have_failed_at_it(clock, monkeypatch, caplog):
    captions(["a dog", "a cat"])
    answer_with(monkeypatch, {"a dog": "<a dog>", "a cat": Unanswered("HTTP 500")})
    for _ in range(40):  # a user in a hurry
        left(
            r"zh.parquet: 1 of \d sentences are not translated, though others are:\n  'a cat': HTTP 500 \(run 1 of 3\)"
        )
        clock.wait(APART / 50)
    clock.wait(APART)
    left(r"run 2 of 3.*\n.*The next run that counts is one after 20\d\d-", on_failure="drop")
    clock.wait(APART)
    assert translated(on_failure="drop")["parent_id"].to_pylist() == ["i0#0"]
    table = read_parquet("zh.parquet", CAPTIONS)
    assert refused_of(table) == {"i1#0": "HTTP 500 (in 3 runs or more)"}
    assert "1 captions refused and left out:\n  i1#0: HTTP 500 (in 3 runs or more)" in caplog.text

    answer_with(monkeypatch, {})  # it is not asked again
    translated(on_failure="drop")
    clock.wait(REFUSED_FOR - 60)
    translated(on_failure="drop")
    clock.wait(120)
    answer_with(monkeypatch, {"a cat": Unanswered("HTTP 503")})
    assert refused_of(translated(on_failure="drop")) == {"i1#0": "HTTP 503 (in 3 runs or more)"}
    clock.wait(REFUSED_FOR + 60)
    answer_with(monkeypatch, {"a cat": "<a cat>"})
    assert translated()["text"].to_pylist() == ["<a dog>", "<a cat>"]


def test_failures_of_long_ago_are_forgotten(clock, monkeypatch):
    captions(["a cat"])
    answer_with(monkeypatch, {"a cat": Unanswered("HTTP 500")})
    left("run 1 of 3")
    clock.wait(APART)
    left("run 2 of 3")
    clock.wait(COUNTS_FOR + 60)
    left("run 1 of 3")


def test_who_asks_to_forget_refusals_starts_anew(clock, monkeypatch):
    captions(["a dog", "a cat"])
    answer_with(monkeypatch, {"a dog": "<a dog>", "a cat": Unanswered("HTTP 500")})
    for _ in range(2):
        left("'a cat'")
        clock.wait(APART)
    translated(on_failure="drop")
    assert memory.forget_refused() == 1
    left("run 1 of 3")
    assert Counter(line["text"] for line in stored() if "translation" in line) == {"a dog": 1}


def test_a_translation_that_turns_out_to_be_none_is_asked_for_again(clock, monkeypatch, caplog):
    captions(["a dog", "a cat", "a bird"])
    answer_with(monkeypatch, {"a dog": "wait", "a cat": "<a cat>", "a bird": "wait"})
    translated()
    with Memory("careful", {"beams": 1}, "en", "zh") as made:
        made.add("a dog", Withdrawn("wait"))  # and killed before the other one
    assert "withdrawn, for other sentences were given the same: 'a dog'" in caplog.text
    assert Memory("careful", {"beams": 1}, "en", "zh").known == {"a cat": "<a cat>"}
    assert Memory("careful", {"beams": 1}, "en", "zh").withdrawn == {"wait"}
    answer_with(monkeypatch, {"a dog": "<a dog>", "a bird": "<a bird>"})
    assert translated()["text"].to_pylist() == ["<a dog>", "<a cat>", "<a bird>"]


def test_files_of_before_are_read(clock):
    with Memory("careful", {"beams": 1}, "en", "zh") as made:
        made.add("a dog", "<a dog>")
    lines = [{"text": "a cat", "translation": "<a cat>"}, {"text": "a bird", "refused": "too loud"}]
    (made.folder / "before.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    known = Memory("careful", {"beams": 1}, "en", "zh").known
    assert known == {"a dog": "<a dog>", "a cat": "<a cat>", "a bird": Refused("too loud")}


@pytest.mark.parametrize(
    "line", ['{"text": 1}', '{"text": "a", "failed": "x"}', '{"text": ["a"], "translation": "b"}', "7"]
)
def test_a_line_of_another_shape_is_no_translation(line, caplog):
    folder = Memory("careful", {}, "en", "zh").folder
    folder.mkdir(parents=True)
    (folder / "strange.jsonl").write_text(f"{line}\n" + '{"text": "b", "translation": "B"}\n')
    assert Memory("careful", {}, "en", "zh").known == {"b": "B"}
    assert "1 lines cut short or damaged" in caplog.text


# --- scatter and gather, colleagues ------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_shards_make_the_same_bytes(shards, tmp_path, monkeypatch):
    texts = [f"text {n % 40}" for n in range(100)]
    captions(texts)
    translated()
    alone = Path("zh.parquet").read_bytes()
    seen, Careful.seen = Careful.seen, []
    monkeypatch.chdir(_folder(tmp_path / "shards"))
    captions(texts)
    paths = [f"work/tm/shards/{n}of{shards}.parquet" for n in range(shards)]
    for number, path in enumerate(paths):
        run(job(out=path, shard={"number": number, "of": shards}))
    assert sorted(Careful.seen) == sorted(seen)
    assert sum(read_parquet(path, MEMORY).num_rows for path in paths) == 40
    Careful.seen = []
    for file in Path("work/tm").rglob("*.jsonl"):
        file.unlink()  # the shards were translated on other machines
    translated(after=tuple(paths))
    assert Careful.seen == []
    assert Path("zh.parquet").read_bytes() == alone


def _folder(path):
    path.mkdir()
    return path


def test_a_colleague_need_not_translate_again(tmp_path, monkeypatch):
    captions([*INJECTED, "stop!"])
    translated(on_failure="drop")
    translated(on_failure="drop", beams=2)
    assert memory.export(Path("tm.parquet")) == 2 * (len(INJECTED) + 1)
    table = read_parquet("tm.parquet", MEMORY)
    assert set(table["engine"].to_pylist()) == {"careful"}
    monkeypatch.chdir(_folder(tmp_path / "colleague"))
    assert memory.absorb(Path("../tm.parquet")) == 2 * (len(INJECTED) + 1)
    assert memory.absorb(Path("../tm.parquet")) == 0
    assert all(line["until"] > time.time() for line in stored() if "refused" in line)  # a colleague's refusal expires
    Careful.seen = []
    captions([*INJECTED, "stop!"])
    assert len(translated(on_failure="drop", beams=2)) == len(INJECTED)
    assert Careful.seen == []


@pytest.mark.parametrize("pair", [("en", "zh-Hant"), ("pt-PT", "en"), ("zh-Hant", "pt-PT"), ("de-AT", "es-419")])
def test_codes_with_hyphens(pair):
    with Memory("careful", {}, *pair) as made:
        made.add("a dog", "<a dog>")
        made.add("stop!", Refused("too loud"))
    assert memory.export(Path("tm.parquet")) == 2
    (columns,) = {(row["from"], row["to"]) for row in read_parquet("tm.parquet", MEMORY).to_pylist()}
    assert columns == pair
    assert memory.forget_refused() == 1
    assert memory.absorb(Path("tm.parquet")) == 1


def test_a_folder_of_no_pair_is_named():
    with Memory("careful", {}, "en", "zh") as made:
        made.add("a dog", "<a dog>")
    (made.folder.parent / "old-copy").mkdir()
    with pytest.raises(CcrError, match="old-copy: expected a folder named after two languages.* Move it elsewhere"):
        memory.export(Path("tm.parquet"))


def test_what_is_no_memory_is_not_imported():
    Path("torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(CcrError, match="torn.parquet: not a readable Parquet file"):
        memory.absorb(Path("torn.parquet"))
    captions(["a dog"])
    with pytest.raises(CcrError, match="captions.parquet: no column 'identity'"):
        memory.absorb(Path("captions.parquet"))


def test_the_command_line(tmp_path):
    captions(["a dog", "stop!"])
    translated(on_failure="drop")

    def ccr(*arguments):
        command = [sys.executable, "-m", "ccr", "tm", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ)

    assert ccr("export", "tm.parquet").stdout == "2 sentences in tm.parquet\n"
    assert ccr("forget-refused").stdout == "1 refused sentences forgotten\n"
    assert ccr("import", "tm.parquet").stdout == "1 new sentences from tm.parquet\n"
    missing = ccr("import", "none.parquet")
    assert missing.returncode == 1
    assert missing.stderr.startswith("ccr: none.parquet: no such file")


def test_the_log_says_what_is_new(caplog):
    caplog.set_level(logging.INFO)
    captions(["a dog", "a cat"])
    translated()
    assert "zh.parquet: 2 texts, 2 of them new to the memory" in caplog.text
