"""The engines apertium and dictionary on real captions: speed, and quality according to the project's quality stage.

English captions of Flickr8k's train split, drawn at random. Apertium translates them into Spanish and back:
`round_trip` compares the back-translations with the captions; `one_process_each` translates one sentence in a hundred
as a script that calls `echo ... | apertium eng-spa` would. CC-CEDICT (if data/dictionaries/cedict_ts.u8 exists)
translates them into Chinese word by word: `against_google` compares the result with the Google translations published
with the captions. Prints and writes benchmarks/results/offline_engines.json.

    .venv/bin/python benchmarks/offline_engines.py [SENTENCES]
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import throughput

from ccr.artifacts.files import read_json, write_json
from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import write_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.translate import machine, quality

TEXTS = Path(__file__).parents[1].resolve() / "data/raw/flickr8k/TextData"
CEDICT = Path(__file__).parents[1].resolve() / "data/dictionaries/cedict_ts.u8"
RESULT = Path(__file__).parent.resolve() / "results/offline_engines.json"
ALONE = 100  # one sentence in this many gets its own process


def read(name: str) -> dict[str, str]:
    """Item and number of a caption -> its text, from one of Flickr8k's files."""
    lines = (TEXTS / name).read_text().splitlines()
    heads, texts = zip(*(line.split(" ", 1) for line in lines), strict=True)
    return {"#".join(head.split("#")[::2]): text for head, text in zip(heads, texts, strict=True)}


def write_captions(english: dict[str, str], chinese: dict[str, str]) -> None:
    """Write captions.parquet: English captions, and for each the text to compare its translation with."""
    rows = [{"caption_id": name, "lang": "en", "text": text, "parent_id": None} for name, text in english.items()] + [
        {"caption_id": f"{n}@", "lang": "zh", "text": chinese[n], "parent_id": n} for n in english
    ]
    for row in rows:
        row |= {"item_id": row["caption_id"].split("#")[0], "split": "train", "origin": "human", "engine": None}
    write_parquet(pa.Table.from_pylist(rows, CAPTIONS), "captions.parquet", CAPTIONS)


def translate(engine: str, lang: str, direction: str, **options: Any) -> float:
    """Seconds of a job of the stage."""
    settings = {"direction": direction, "variant": engine, "engine": engine, "source_lang": "en", "target_lang": lang}
    inputs = {"captions": "captions.parquet", "forward": f"{engine}.forward.parquet"}
    outputs = {"translations": f"{engine}.{direction}.parquet"}
    settings["options"] = options
    start = time.perf_counter()
    machine.run(Job("translate", outputs["translations"], inputs, outputs, settings, "ccr.translate.machine"))
    return time.perf_counter() - start


def measure(engine: str, lang: str) -> dict[str, Any]:
    """The figures of the quality stage."""
    inputs = {"captions": "captions.parquet"}
    inputs |= {role: f"{engine}.{role}.parquet" for role in ("forward", "back")}
    settings = {"variant": engine, "source_lang": "en", "target_lang": lang}
    outputs = {"quality": f"{engine}.json"}
    quality.run(Job("translate", outputs["quality"], inputs, outputs, settings, "ccr.translate.quality"))
    return read_json(outputs["quality"])


def rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """BLEU and chrF, and the number of captions."""
    return {"n": figures["n"], "bleu": round(figures["bleu"], 1), "chrf": round(figures["chrf"], 1)}


def apertium(texts: list[str]) -> dict[str, Any]:
    """English to Spanish and back."""
    options = {"pivot": "", "on_failure": "error"}
    there = len(texts) / translate("apertium", "es", "forward", **options)
    back = len(texts) / translate("apertium", "es", "back", **options)
    some = texts[::ALONE]
    start = time.perf_counter()
    for text in some:
        subprocess.run(["apertium", "eng-spa"], input=text, text=True, capture_output=True, check=True)
    alone = len(some) / (time.perf_counter() - start)
    measured = measure("apertium", "es")
    return {
        "there_sentences_per_s": round(there),
        "back_sentences_per_s": round(back),
        "one_process_each_sentences_per_s": round(alone, 1),
        "ratio": round(there / alone, 1),
        "round_trip": rounded(measured["round_trip"]),
        "wrong_language_percent": round(100 * measured["shares"]["wrong_language"], 2),
    }


def dictionary(texts: list[str]) -> dict[str, Any]:
    """English to Chinese and back, word by word."""
    seconds = translate("dictionary", "zh", "forward", path=str(CEDICT))
    translate("dictionary", "zh", "back", path=str(CEDICT))
    measured = measure("dictionary", "zh")
    return {
        "there_sentences_per_s": round(len(texts) / seconds),  # including the reading of the dictionary
        "against_google": rounded(measured["forward"]),
        "round_trip": rounded(measured["round_trip"]),
    }


def main(sentences: int = 5000) -> None:
    """Measure, print and write."""
    if not TEXTS.is_dir():
        sys.exit(f"{TEXTS} is not here: nothing is measured without real captions.")
    english, chinese = read("flickr8ktrain.caption.txt"), read("flickr8ktrain_google_enc2zh.caption.txt")
    names = sorted(english)
    chosen = [names[i] for i in np.random.default_rng(0).permutation(len(names))[:sentences]]
    texts = [english[name] for name in chosen]
    result: dict[str, Any] = {"device": throughput.device(), "sentences": len(texts)}
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        write_captions({name: english[name] for name in chosen}, chinese)
        result["apertium, en to es"] = apertium(texts)
        if CEDICT.exists():
            result["CC-CEDICT, en to zh"] = dictionary(texts)
        os.chdir(RESULT.parent)
    print(result)
    write_json(result, RESULT)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
