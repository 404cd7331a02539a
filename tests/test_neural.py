"""Engine transformers: models of three kinds, from a folder and by hub name; batches that do not affect the result."""

import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
import tiny_models
import torch
import transformers
from hand_made import hand_made, run
from safetensors.torch import load_file, save_file

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.errors import CcrError
from ccr.translate.engine import Refused
from ccr.translate.neural import Engine

OPTIONS = {
    "model": "", "revision": "main", "beams": 1, "max_length_ratio": 0.5, "precision": "fp32", "batch_tokens": 512,
    "on_failure": "error",
}  # fmt: skip
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WORDS = " ".join(tiny_models.CAPTIONS[:5]).split()


def sentences(number: int, longest: int = 12) -> list[str]:
    """Different sentences of one word and more."""
    rng = random.Random(0)
    found = {}
    while len(found) < number:
        found[" ".join(rng.choices(WORDS, k=rng.randint(1, longest)))] = None
    return list(found)


def job(model, source="en", target="zh", direction="forward", threads=1, **options) -> Job:
    settings = {"direction": direction, "variant": "opus", "engine": "transformers"}
    settings |= {"source_lang": source, "target_lang": target, "options": OPTIONS | {"model": str(model)} | options}
    return hand_made("translate", "zh.parquet", {}, {}, settings, threads=threads)


def translated(engine: Engine, texts: list[str]) -> dict:
    found = {}
    engine.translate_texts(texts, found.__setitem__)
    assert set(found) == set(texts)
    return found


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder of a model of each kind; `twins`: Marian in which every word is a tie decided by rounding."""
    top = tmp_path_factory.mktemp("models")
    codes = ("cmn_Hans", "deu", "ces")
    made = {
        "marian": tiny_models.marian(top / "opus-mt-en-mul", codes, target="mul"),
        "nllb": tiny_models.nllb(top / "nllb"),
        "m2m_100": tiny_models.m2m_100(top / "m2m"),
        "twins": tiny_models.with_twins(tiny_models.marian(top / "twins", codes)),
    }
    return made.__getitem__


# --- what it translates ------------------------------------------------------------------------------------


class ByHand:
    """One `generate` call per sentence, in float64, with none of our code."""

    def __init__(self, folder: Path, kind: str, beams: int):
        self.model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float64)
        self.options = {"num_beams": beams, "do_sample": False}
        self.before, self.start = "", 2
        if kind == "marian":
            self.tokenizer = transformers.MarianTokenizer.from_pretrained(folder)
            self.before, self.start = ">>cmn_Hans<< ", 1
        elif kind == "nllb":
            self.tokenizer = transformers.NllbTokenizer.from_pretrained(folder, src_lang="eng_Latn")
            self.options["forced_bos_token_id"] = self.tokenizer.convert_tokens_to_ids("zho_Hans")
        else:
            self.tokenizer = transformers.M2M100Tokenizer.from_pretrained(folder, src_lang="en")
            self.options["forced_bos_token_id"] = self.tokenizer.get_lang_id("zh")

    def __call__(self, text: str) -> tuple[str, bool]:
        """The translation, and whether any of its words was nearly a tie."""
        inputs = self.tokenizer(self.before + text, return_tensors="pt")
        columns = (inputs["input_ids"].shape[1] // 8 + 1) * 8
        limit = int(OPTIONS["max_length_ratio"] * columns) + 10
        found = self.model.generate(
            **inputs, **self.options, max_new_tokens=limit, output_scores=True, return_dict_in_generate=True
        )
        gap = min(step.topk(2, dim=-1).values.diff().abs().min().item() for step in found.scores)
        return self.tokenizer.decode(found.sequences[0, self.start :], skip_special_tokens=True), gap < 1e-4


@pytest.mark.filterwarnings("ignore:Recommended")
@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("kind", ["marian", "nllb", "m2m_100"])
def test_a_batch_gives_what_one_generate_per_sentence_gives(folder, kind, beams, capsys):
    texts = sentences(24)
    found = translated(Engine(job(folder(kind), beams=beams)), texts)
    assert "24/24" in capsys.readouterr().err  # the progress bar
    by_hand = ByHand(folder(kind), kind, beams)
    certain = 0
    for text in texts:
        expected, tie = by_hand(text)
        if not tie:
            certain += 1
            assert found[text] == expected or (isinstance(found[text], Refused) and not expected.strip()), text
    assert certain > 12
    assert len(set(found.values())) > 8


def test_each_language_has_its_own_translation(folder):
    texts = sentences(4)
    found = [translated(Engine(job(folder("marian"), target=target)), texts) for target in ("zh", "de", "cs")]
    assert found[0] != found[1] != found[2] != found[0]


def test_the_length_of_a_translation_is_bounded_by_its_sentence(folder):
    text = sentences(1)[0]
    short = translated(Engine(job(folder("nllb"), max_length_ratio=0.1)), [text])[text]
    long = translated(Engine(job(folder("nllb"), max_length_ratio=2.0)), [text])[text]
    assert len(short) < len(long)
    assert long.startswith(short)


# --- the batch does not matter -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "beams", "precision"),
    [
        ("twins", 1, "fp32"),
        ("twins", 4, "fp32"),
        ("twins", 1, "bf16"),
        ("twins", 4, "bf16"),
        ("nllb", 4, "fp32"),
        ("m2m_100", 4, "bf16"),
    ],
)
def test_a_translation_does_not_depend_on_its_neighbours(folder, kind, beams, precision):
    """`twins` reacts to a change of shape: with another `batch_tokens`, four in five of its translations change."""
    texts = sentences(30)
    engine = Engine(job(folder(kind), beams=beams, precision=precision))
    every = translated(engine, texts)
    shuffled = random.Random(1).sample(texts, len(texts))
    assert translated(engine, shuffled) == every
    two_threads = Engine(job(folder(kind), beams=beams, precision=precision, threads=2))
    assert translated(two_threads, shuffled[:17]) == {text: every[text] for text in shuffled[:17]}
    for text in texts[:4]:
        assert translated(engine, [text]) == {text: every[text]}


@pytest.fixture
def generate(monkeypatch):
    """Record the arguments of Marian's `generate`; functions appended to `before` are called first."""
    original, calls, before = transformers.MarianMTModel.generate, [], []

    def recorded(model, **options):
        calls.append(options)
        for function in before:
            function()
        return original(model, **options)

    monkeypatch.setattr(transformers.MarianMTModel, "generate", recorded)
    return calls, before


def test_a_batch_has_the_shape_of_its_length_and_padding_in_every_row(folder, generate):
    """On GPUs `transformers` uses another kernel for a batch without padding; on a CPU it makes no difference."""
    translated(Engine(job(folder("marian"), batch_tokens=96)), sentences(60))
    shapes = {tuple(options["attention_mask"].shape) for options in generate[0]}
    assert {rows * columns for rows, columns in shapes} == {96}
    assert len({columns for _, columns in shapes}) == len(shapes) > 2
    assert not any(options["attention_mask"][:, -1].any() for options in generate[0])


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 4])
def test_neighbours_do_not_matter_to_a_wide_model(tmp_path, beams):
    folder = tiny_models.with_twins(tiny_models.marian(tmp_path / "wide", width=512))
    engine = Engine(job(folder, beams=beams, batch_tokens=2048))
    texts = sentences(200)
    every = translated(engine, texts)
    for part in (texts[::-1], texts[::3], texts[5:6]):
        assert translated(engine, part) == {text: every[text] for text in part}


def test_sentences_are_finished_batch_by_batch_and_a_full_gpu_says_what_to_do(folder, generate):
    engine = Engine(job(folder("marian"), batch_tokens=64))
    calls, before = generate

    def full_at_the_third():
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    before.append(full_at_the_third)
    found = {}
    with pytest.raises(CcrError, match=r"GPU's memory is full with \d+ sentences.*Lower batch_tokens \(now 64\)"):
        engine.translate_texts(sentences(40), found.__setitem__)
    assert len(found) == len(calls[0]["input_ids"]) + len(calls[1]["input_ids"])


def test_no_batch_is_begun_after_an_error(folder, generate):
    def full_disk(*_):
        raise CcrError("no room")

    with pytest.raises(CcrError, match="no room"):
        Engine(job(folder("marian"), batch_tokens=8, threads=2)).translate_texts(sentences(60), full_disk)
    assert len(generate[0]) < 30


# --- what it refuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["marian", "nllb", "m2m_100"])
def test_strange_captions_come_back_as_data_or_as_a_refusal(folder, kind):
    captions = {
        '"; rm -rf ~': str,
        "a dog " * 2000: r"too long: [\d,]+ tokens, the model takes 63",
        "🦊🎈": "knows none of its characters",
        "كلب أحمر": "knows none of its characters",
        "\u2028": "knows none of its characters",
        "": "knows none of its characters",
        "a\0dog": str,
        "&lt;b&gt; a dog &amp;": str,
        "a dog </s> <pad> zho_Hans __zh__": str,
        ">>deu<< a dog": str,
        "a \ud800 dog": "not valid text",
    }
    found = translated(Engine(job(folder(kind))), [*captions, "a dog runs"])
    for caption, expected in captions.items():
        if expected is str:
            assert isinstance(found[caption], str) and found[caption], caption[:20]
        else:
            assert isinstance(found[caption], Refused), caption[:20]
            assert re.search(expected, found[caption].reason), found[caption]
    assert found["a dog runs"] == translated(Engine(job(folder(kind))), ["a dog runs"])["a dog runs"]


@pytest.mark.parametrize("kind", ["marian", "nllb", "m2m_100"])
def test_special_tokens_in_a_caption_are_letters(folder, kind):
    engine = Engine(job(folder(kind)))
    engine.translate_texts([], None)
    tokenizer = engine._decoder._tokenizer
    tokens = engine._decoder.tokens("a </s> dog <pad> zho_Hans")
    assert tokens.count(tokenizer.eos_token_id) == 1
    assert tokens.count(tokenizer.pad_token_id) == 0
    assert kind != "nllb" or tokens.count(tokenizer.convert_tokens_to_ids("zho_Hans")) == 0


def test_the_longest_text_that_fits(folder):
    engine = Engine(job(folder("marian")))
    texts = [" ".join(["a"] * n) for n in (61, 62)]  # plus the language and the end; one place stays empty
    found = translated(engine, texts)
    assert isinstance(found[texts[0]], str)
    assert found[texts[1]] == Refused("too long: 64 tokens, the model takes 63")


def test_a_model_that_says_nothing(folder, tmp_path):
    silent = shutil.copytree(folder("marian"), tmp_path / "silent")
    weights = load_file(silent / "model.safetensors")
    weights["final_logits_bias"] = torch.zeros_like(weights["final_logits_bias"])
    weights["final_logits_bias"][0, 0] = 1e6  # the end token
    save_file(weights, silent / "model.safetensors", {"format": "pt"})
    assert translated(Engine(job(silent)), ["a dog"]) == {"a dog": Refused("the model's output is empty")}


# --- before any work ---------------------------------------------------------------------------------------


def test_an_impossible_pair(folder, tmp_path):
    with pytest.raises(CcrError, match=r"opus-mt-en-mul cannot translate from 'en' into 'fr': it translates into ces"):
        Engine(job(folder("marian"), target="fr"))
    with pytest.raises(CcrError, match="from 'zh' into 'en': it translates from 'eng'"):
        Engine(job(folder("marian"), direction="back"))
    with pytest.raises(CcrError, match=r"its languages \(2 of FLORES-200\) lack 'fr'"):
        Engine(job(folder("nllb"), target="fr"))
    wmt21 = tiny_models.m2m_100(tmp_path / "wmt21", codes="wmt21")
    Engine(job(wmt21, target="ja"))
    with pytest.raises(CcrError, match=r"its languages \(wmt21\) lack 'fr'"):
        Engine(job(wmt21, target="fr"))
    single = tiny_models.marian(tmp_path / "single", source="deu_eng", target="cs")
    Engine(job(single, target="cs"))
    Engine(job(single, source="de", target="cs"))
    with pytest.raises(CcrError, match="translate.variants.opus.model: single .* it translates into 'cs'"):
        Engine(job(single, target="zh"))


def test_a_model_of_another_kind(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CcrError, match=r"model_type 'bert'. The engine runs MarianMT .* translate.variants.opus.model"):
        Engine(job(tmp_path))


def test_the_folder_lacks_files(folder, tmp_path):
    torn = shutil.copytree(folder("marian"), tmp_path / "torn")
    for file in ("model.safetensors", "source.spm"):
        (torn / file).unlink()
    with pytest.raises(CcrError, match=r"torn: source.spm; model.safetensors or pytorch_model.bin\. .*/path/to/folder"):
        Engine(job(torn))
    (torn / "config.json").write_text("{")
    with pytest.raises(CcrError, match="config.json: not valid JSON"):
        Engine(job(torn))


def test_the_identity_is_what_a_translation_depends_on(folder, tmp_path):
    original = folder("marian")
    copy = shutil.copytree(original, tmp_path / "copy")
    (copy / "README.md").write_text("moved")
    identity = Engine(job(original)).identity
    assert Engine(job(copy, batch_tokens=64, on_failure="drop")).identity == identity
    assert json.loads(json.dumps(identity)) == identity
    for change in ({"beams": 2}, {"max_length_ratio": 1.0}, {"precision": "bf16"}):
        assert Engine(job(original, **change)).identity != identity
    assert Engine(job(copy)).name == f"copy@{identity['revision'][:8]}"
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert Engine(job(copy)).identity != identity


def test_the_names_of_helsinki_in_a_path(tmp_path):
    tiny_models.marian(tmp_path / "opus-mt-en-jap", target="jap")
    assert Engine(job(tmp_path / "opus-mt-{source}-{target}", target="ja")).name.startswith("opus-mt-en-jap@")


class Opened:
    def __reduce__(self):
        return (os.mkdir, ("opened",))


def test_weights_are_data(folder, tmp_path, in_a_folder_of_its_own):
    bad = shutil.copytree(folder("marian"), tmp_path / "bad")
    weights = (bad / "model.safetensors").read_bytes()
    (bad / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CcrError, match="the model's weights cannot be read"):
        translated(Engine(job(bad)), ["a dog"])
    tensors = load_file(folder("marian") / "model.safetensors")
    del tensors["model.encoder.layers.0.fc1.weight"]
    save_file(tensors, bad / "model.safetensors", {"format": "pt"})
    with pytest.raises(CcrError, match="1 weights are missing, model.encoder.layers.0.fc1.weight for one"):
        translated(Engine(job(bad)), ["a dog"])
    (bad / "model.safetensors").unlink()
    (bad / "pytorch_model.bin").write_bytes(pickle.dumps(Opened()))
    with pytest.raises(CcrError, match="the model's weights cannot be read"):
        translated(Engine(job(bad)), ["a dog"])
    assert not Path("opened").exists()


def test_weights_of_torch(folder, tmp_path):
    copy = shutil.copytree(folder("nllb"), tmp_path / "bin")
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    texts = sentences(5)
    assert translated(Engine(job(copy)), texts) == translated(Engine(job(folder("nllb"))), texts)


# --- the hub -----------------------------------------------------------------------------------------------

PROGRAM = """
import json, sys
from ccr.artifacts.jobs import Job
from ccr.errors import CcrError
from ccr.translate.neural import Engine

found = []
for settings, texts, offline in json.loads(sys.argv[1]):
    import huggingface_hub.constants
    huggingface_hub.constants.HF_HUB_OFFLINE = offline
    step = {"texts": {}}
    try:
        engine = Engine(Job("translate", "zh.parquet", {}, {}, settings, "ccr.translate.machine"))
        step |= {"torch": "torch" in sys.modules or "transformers" in sys.modules}
        step |= {"name": engine.name, "identity": engine.identity}
        if texts:
            engine.translate_texts(texts, step["texts"].__setitem__)
    except CcrError as error:
        step["error"] = str(error)
    found.append(step)
print(json.dumps(found))
"""


def elsewhere(*steps: tuple[Job, list[str], bool], **environment: str) -> list[dict]:
    """What engines do in a separate process, where `huggingface_hub` has another environment.

    A step: the engine's job, the texts to translate, and whether to work without a network.
    """
    arguments = json.dumps([(job.settings, texts, offline) for job, texts, offline in steps])
    program = [sys.executable, "-c", PROGRAM, arguments]
    done = subprocess.run(program, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_creating_an_engine_does_not_import_torch(folder):
    [found] = elsewhere((job(folder("marian")), [], True))
    assert found["torch"] is False
    assert found["name"].startswith("opus-mt-en-mul@")


def test_without_a_network_the_message_says_what_is_missing(tmp_path):
    opus = job("Helsinki-NLP/opus-mt-{source}-{target}", target="ja")
    steps = (opus, [], True), (job("/no/such/folder"), [], True)
    error, no_name = (step["error"] for step in elsewhere(*steps, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path)))
    assert error.startswith("Helsinki-NLP/opus-mt-en-jap (main): ")
    assert "config.json; source.spm, target.spm, vocab.json (marian)" in error
    assert "model.safetensors or pytorch_model.bin" in error
    assert str(tmp_path) in error
    assert "translate.variants.opus.model: /path/to/folder" in error
    assert no_name == "translate.variants.opus.model: /no/such/folder is no folder, and no name that a hub could know."


class Hub(SimpleHTTPRequestHandler):
    """The part of the hub's interface for fetching a model; `fetched`: names of the files fetched."""

    fetched: list[str] = []

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        folder = Path(self.directory)
        path = self.path.partition("?")[0]
        if "opus-mt-en-mul" not in path:
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif "/tree/" in path:
            files = [
                {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name} for f in folder.iterdir()
            ]
            self.answer(200, json.dumps(files).encode())
        elif "/resolve/" in path:
            name = path.rsplit("/", 1)[-1]
            if self.command == "GET":
                Hub.fetched.append(name)
            self.answer(200, (folder / name).read_bytes(), {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})
        else:
            self.answer(200, json.dumps({"id": "Helsinki-NLP/opus-mt-en-mul", "sha": COMMIT}).encode())

    def answer(self, status: int, body: bytes, headers: dict[str, str] = {}):  # noqa: B006
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_a_model_of_the_hub(folder, tmp_path):
    """Creation fetches the small files, the first translation the weights, each once; then no network is needed."""
    published = shutil.copytree(folder("marian"), tmp_path / "published")
    (published / "pytorch_model.bin").write_bytes(b"not fetched, for there is model.safetensors")
    (published / "README.md").write_text("not fetched")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(published)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Hub.fetched = []
    opus, texts = job("Helsinki-NLP/opus-mt-{source}-mul"), sentences(3)
    unknown = job("Helsinki-NLP/opus-mt-{source}-{target}", source="cs")
    steps = (opus, [], False), (opus, texts, True), (unknown, [], False), (opus, texts, False), (opus, texts, True)
    address = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "home")}
    created, without_weights, not_there, online, offline = elsewhere(*steps, **address)
    server.shutdown()
    server.server_close()
    assert created["name"] == "opus-mt-en-mul@01234567"
    assert created["identity"]["model"] == "Helsinki-NLP/opus-mt-en-mul"
    assert created["identity"]["revision"] == COMMIT
    assert re.search(r"Missing in \S+: model.safetensors or pytorch_model.bin\. Run", without_weights["error"])
    assert "the hub has no public model Helsinki-NLP/opus-mt-cs-zh with a revision 'main'" in not_there["error"]
    small = ["config.json", "generation_config.json", "source.spm", "target.spm", "tokenizer_config.json", "vocab.json"]
    assert [*sorted(Hub.fetched[:-1]), Hub.fetched[-1]] == [*small, "model.safetensors"]
    assert online["texts"] == offline["texts"] == translated(Engine(job(folder("marian"))), texts)


# --- in the stage ------------------------------------------------------------------------------------------


def test_the_stage_remembers(folder, in_a_folder_of_its_own):
    texts = ["a dog runs", "a dog runs on the beach", "a dog runs", "🦊"]
    rows = [
        {"item_id": f"i{n}", "caption_id": f"i{n}#0", "split": "train", "lang": "en", "origin": "human", "text": text}
        for n, text in enumerate(texts)
    ]
    write_parquet(pa.Table.from_pylist(rows, CAPTIONS), "captions.parquet", CAPTIONS)

    def stage(**options) -> list[dict]:
        settings = job(folder("nllb"), on_failure="drop", **options).settings
        outputs = {"translations": "zh.parquet"}
        run(hand_made("translate", "zh.parquet", {"captions": "captions.parquet"}, outputs, settings))
        return read_parquet("zh.parquet", CAPTIONS).to_pylist()

    first = stage()
    expected = translated(Engine(job(folder("nllb"))), texts[:2])
    assert [row["text"] for row in first] == [expected[text].strip() for text in texts[:3]]
    assert {row["engine"] for row in first} == {Engine(job(folder("nllb"))).name}
    memory = list(Path("work/tm").rglob("*.jsonl"))
    assert len(memory) == 1 and len(memory[0].read_text().splitlines()) == 3
    assert stage(batch_tokens=64) == first
    assert list(Path("work/tm").rglob("*.jsonl")) == memory
    stage(beams=2)
    assert len(list(Path("work/tm").rglob("*.jsonl"))) == 2
