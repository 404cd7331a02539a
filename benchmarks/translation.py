"""Neural translation of real captions in batches, and from the translation memory.

A model of OPUS-MT's size (512 wide, 6 + 6 layers, vocabulary of 65,000; random weights, since only time is measured)
translates Flickr8k's English captions: `naive`, one `generate` call per sentence in the order of arrival, and with the
engine. Every translation has ten tokens, so both do the same work. The naive loop gets the first twentieth of the
sentences and runs with one thread and with all; the faster run counts (on a busy machine, the first). Then the stage
runs on 100,000 captions that are all in the memory. Prints and writes benchmarks/results/translation.json; with a GPU,
everything runs on it, in bf16 too, and the file is translation_gpu.json.

    .venv/bin/python benchmarks/translation.py [THREADS [SENTENCES]]
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import sentencepiece
import throughput
import torch
import transformers

from ccr.artifacts.files import write_json
from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import write_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.translate import run
from ccr.translate.engine import languages
from ccr.translate.memory import Memory
from ccr.translate.neural import Engine

FLICKR8K = Path(__file__).parents[2] / "shared/real/flickr8k/TextData"
VOCABULARY, LENGTH = 65_001, 10
NAIVE = 20  # the naive loop gets one sentence in this many
BATCH_TOKENS = 16_384 if torch.cuda.is_available() else 1024  # more gains nothing on a CPU
REMEMBERED = 100_000


def captions(number: int) -> list[str]:
    """Different English captions, drawn at random."""
    [file] = FLICKR8K.glob("*train.caption.txt")
    texts = sorted({line.split(" ", 1)[1] for line in file.read_text().splitlines()})
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:number]]


def make_model(folder: Path, texts: list[str]) -> None:
    """Write a Marian model with pieces of the captions; the rest of its vocabulary is made-up words."""
    with (folder / "source.spm").open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=stream, vocab_size=4000, hard_vocab_limit=False, minloglevel=2
        )
    (folder / "target.spm").write_bytes((folder / "source.spm").read_bytes())
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    pieces = [processor.id_to_piece(i) for i in range(len(processor))]
    tokens = ["</s>", "<unk>", *(piece for piece in pieces if piece not in ("<s>", "</s>", "<unk>"))]
    tokens += [f"word{i}" for i in range(VOCABULARY - 1 - len(tokens))] + ["<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "tokenizer_config.json").write_text('{"source_lang": "eng", "target_lang": "zho"}')
    sizes = {"layers": 6, "attention_heads": 8, "ffn_dim": 2048}
    config = transformers.MarianConfig(
        vocab_size=VOCABULARY, d_model=512, max_position_embeddings=512, pad_token_id=VOCABULARY - 1, eos_token_id=0,
        decoder_start_token_id=VOCABULARY - 1, forced_eos_token_id=0, activation_function="swish", scale_embedding=True,
        **{f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in sizes.items()},
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.MarianMTModel(config)
    model.generation_config.min_new_tokens = LENGTH
    model.save_pretrained(folder)


def job(folder: Path, threads: int, beams: int, precision: str) -> Job:
    """A job of the stage, on `captions.parquet` in the current folder."""
    options = {
        "model": str(folder), "revision": "main", "beams": beams, "precision": precision,
        "batch_tokens": BATCH_TOKENS, "max_length_ratio": 0.001,  # so the limit is 10 tokens for every sentence
        "on_failure": "error",
    }  # fmt: skip
    settings = {"direction": "forward", "variant": "opus", "engine": "transformers", "options": options}
    settings |= {"source_lang": "en", "target_lang": "zh"}
    inputs, outputs = {"captions": "captions.parquet"}, {"translations": "zh.parquet"}
    return Job("translate", "zh.parquet", inputs, outputs, settings, threads)


def batched(folder: Path, texts: list[str], threads: int, beams: int, precision: str) -> float:
    """Sentences/s of the engine, excluding the loading of the model."""
    engine = Engine(job(folder, threads, beams, precision))
    engine.translate_texts(texts[:1], lambda *_: None)
    start = time.perf_counter()
    engine.translate_texts(texts, lambda *_: None)
    return len(texts) / (time.perf_counter() - start)


def naive(folder: Path, texts: list[str], threads: int, beams: int, precision: str) -> float:
    """Sentences/s of a loop over the sentences, as in the documentation of `transformers`."""
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = transformers.MarianMTModel.from_pretrained(folder, dtype=dtype).to(device)
    tokenizer = transformers.MarianTokenizer.from_pretrained(folder)

    def translate(text: str) -> str:
        inputs = tokenizer(text, return_tensors="pt").to(device)
        found = model.generate(**inputs, num_beams=beams, max_new_tokens=LENGTH)
        return tokenizer.decode(found[0], skip_special_tokens=True)

    translate(texts[0])
    start = time.perf_counter()
    for text in texts:
        translate(text)
    return len(texts) / (time.perf_counter() - start)


def from_memory(folder: Path, texts: list[str], threads: int) -> float:
    """Captions/s of the whole stage, from inputs on disk to output, when all captions are in the memory."""
    job_ = job(folder, threads, 4, "fp32")
    many = [f"{texts[i % len(texts)]} {i}" for i in range(REMEMBERED)]
    rows = [
        {"item_id": str(i), "caption_id": f"{i}#enc#0", "split": "train", "lang": "en", "origin": "human", "text": text}
        for i, text in enumerate(many)
    ]
    write_parquet(pa.Table.from_pylist(rows, CAPTIONS), "captions.parquet", CAPTIONS)
    with Memory("transformers", Engine(job_).identity, *languages(job_)) as memory:
        for text in many:
            memory.add(text, text[::-1])
    start = time.perf_counter()
    run(job_)
    return REMEMBERED / (time.perf_counter() - start)


def main(threads: int = 2, sentences: int = 1000) -> None:
    """Measure, print and write."""
    if not FLICKR8K.is_dir():
        sys.exit(f"{FLICKR8K} is not here: nothing is measured without real captions.")
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    gpu = torch.cuda.is_available()
    target = Path(__file__).parent.resolve() / f"results/translation{'_gpu' if gpu else ''}.json"
    device = torch.cuda.get_device_name() if gpu else throughput.device()
    result: dict[str, Any] = {"device": device, "threads": threads, "torch": torch.__version__, "sentences": sentences}
    texts = captions(sentences)
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        model = Path("model")
        model.mkdir()
        make_model(model, captions(10_000))
        for precision in ("fp32", "bf16") if gpu else ("fp32",):
            for beams in (1, 4):
                ours = batched(model, texts, threads, beams, precision)
                some = texts[: sentences // NAIVE]
                loop = max(naive(model, some, number, beams, precision) for number in {1, threads})
                rates = {"sentences_per_s": round(ours, 1), "naive_sentences_per_s": round(loop, 2)}
                result[f"{precision}, {beams} beams"] = rates | {"ratio": round(ours / loop, 1)}
                print(precision, beams, result[f"{precision}, {beams} beams"], flush=True)
        result["from_memory_captions_per_s"] = round(from_memory(model, texts, threads))
        print("from memory:", result["from_memory_captions_per_s"])
        os.chdir(target.parent)
    write_json(result, target)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
