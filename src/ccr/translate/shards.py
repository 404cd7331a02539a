"""Scatter: a part of the sentences of one direction, translated by a separate job.

A shard contains rows of the memory. The gathering job adds its shards to the memory, finds there everything that it
would translate itself, and so writes the same output as without shards, byte for byte.
"""

import logging

from ccr.artifacts.hashes import shard_of
from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import write_parquet
from ccr.translate.engine import languages
from ccr.translate.machine import engine_of, parents_of
from ccr.translate.memory import MEMORY, described, remembered, rows
from ccr.translate.text import clean

log = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Translate the texts of one shard (setting `shard`: {number, of}); a text's shard depends only on the text."""
    shard = job.settings["shard"]
    engine = engine_of(job)
    every = sorted({clean(text) for text in parents_of(job)["text"].to_pylist()})
    texts = [text for text in every if shard_of(text, shard["of"]) == shard["number"]]
    outcomes = remembered(engine, texts, job)
    describes = described(job.settings["engine"], engine.identity, *languages(job))
    write_parquet(rows(describes, zip(texts, outcomes, strict=True)), job.outputs["shard"], MEMORY, key=job.key)
    log.info("%s: %s of %s different texts", job.target, f"{len(texts):,}", f"{len(every):,}")
