"""Stage translate: captions -> their translations, forward, back, or of the test queries, and how good they are.

`machine` translates, through an engine and the `memory`; `noise` and `filters` make variants of what it wrote, and
`human` puts human captions in its place; `quality` measures.
"""

import json
import logging

import pyarrow as pa

from ccr.artifacts import ALIGNMENT, CAPTIONS, Job, read_parquet, refused_of, write_parquet
from ccr.errors import CcrError
from ccr.translate import filters, machine, shards
from ccr.translate.engine import Aligning
from ccr.translate.human import pair
from ccr.translate.noise import corrupted

log = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Translate one direction of one language pair with one engine; same order as the captions translated.

    Directions: `forward`: source captions into the target language; `back`: the forward translations of train
    and val into the source language; `queries`: human target captions of test into the source language.
    `back` has no rows, and the log says so, where the engine has no way back: what becomes of the terms that need
    it is for the training to decide (`on_missing`).
    With `noise` or `filter` in the settings nothing is translated again: the files of the variant without it are
    changed. With `shard` only a part of the texts is translated, for the job that gathers. An output `quality` asks
    for figures instead.
    `CcrError` when there is nothing to translate or a caption is left without translation.
    """
    settings = job.settings
    if "quality" in job.outputs:
        from ccr.translate import quality  # its libraries would cost every other job a second

        quality.run(job)
    elif "shard" in settings:
        shards.write_shard(job)
    elif settings["engine"] == "none":
        _write(_human(job), {}, job)
    elif "filter" in settings:
        _write(*filters.filtered(job), job)
    elif "noise" in settings:
        _write(*_noisy(job), job)
    else:
        _machine(job)


def _machine(job: Job) -> None:
    shards.absorb_shards(job.after)
    parents, engine = machine.parents_of(job), machine.engine_of(job)
    outcomes = machine.translate(engine, parents, job)
    kept, texts, refused = machine.without_refused(parents, outcomes, job)
    kept, texts = machine.without_holes(engine.name, kept, texts, job)
    if not texts:
        _warn_of_no_way_back(engine.name, job)
    _write(machine.translations(engine, kept, texts, job.settings), refused, job)
    if "alignment" in job.outputs:
        if not isinstance(engine, Aligning):
            raise CcrError(f"engine {job.settings['engine']!r} knows no word alignment.")
        write_parquet(engine.alignment(kept), job.outputs["alignment"], ALIGNMENT, key=job.key)


def _human(job: Job) -> pa.Table:
    """What engine none has for a direction: human captions forward, no rows back."""
    settings = job.settings
    if settings["direction"] == "queries":
        raise CcrError(
            f"translate.variants.{settings['variant']}: engine none translates nothing, so there is no 'queries'. "
            "Take methods that need it out of the table, or choose an engine."
        )
    if settings["direction"] == "back":
        _warn_of_no_way_back("none", job)
        return CAPTIONS.empty_table()
    return pair(read_parquet(job.inputs["captions"], CAPTIONS), settings["source_lang"], settings["target_lang"])


def _noisy(job: Job) -> tuple[pa.Table, dict[str, str]]:
    """`forward`: the clean variant's with noise in the train split; `back`: the clean one's but for that."""
    clean = read_parquet(job.inputs["clean"], CAPTIONS)
    if job.settings["direction"] == "forward":
        return corrupted(clean, **job.settings["noise"]), refused_of(clean)
    back = read_parquet(job.inputs["clean_back"], CAPTIONS)
    if not len(back):
        _warn_of_no_way_back(job.settings["engine"], job)
        return back, {}
    return _noisy_back(clean, back, job), refused_of(back)


def _noisy_back(clean: pa.Table, back: pa.Table, job: Job) -> pa.Table:
    """Back-translations of a noisy variant: the clean variant's, but for captions whose text noise has changed.

    A back-translation belongs to its text. A text taken from another caption (`swap`) brings its own along; a text
    that is new is translated by the engine. Where it has none, because others published its translations or nothing
    can be made of the text, the clean one stays: no caption loses its back-translation.
    """
    before = dict(zip(clean["caption_id"].to_pylist(), clean["text"].to_pylist(), strict=True))
    texts = dict(zip(back["parent_id"].to_pylist(), back["text"].to_pylist(), strict=True))
    known = {before[caption]: text for caption, text in texts.items()}
    forward = machine.parents_of(job)
    new = []
    for row, (caption, text) in enumerate(zip(*(forward[c].to_pylist() for c in ("caption_id", "text")), strict=True)):
        if text != before[caption] and text in known:
            texts[caption] = known[text]
        elif text != before[caption]:
            new.append(row)
    parents = forward.take(pa.array(new, pa.int64()))
    found = machine.translate(machine.engine_of(job), parents, job)
    ids = parents["caption_id"].to_pylist()
    texts |= {caption: text for caption, text in zip(ids, found, strict=True) if isinstance(text, str)}
    column = pa.array([texts[caption] for caption in back["parent_id"].to_pylist()], pa.string())
    return back.set_column(back.schema.get_field_index("text"), "text", column)


def _warn_of_no_way_back(engine: str, job: Job) -> None:
    log.warning(
        "%s: %r has no back-translation; the file has no rows, and terms that need it are off or an error (on_missing)",
        job.target, engine,
    )  # fmt: skip


def _write(table: pa.Table, refused: dict[str, str], job: Job) -> None:
    """Write translations; `refused` (caption id -> reason) goes into the metadata, see `artifacts.refused_of`."""
    metadata = {"refused": json.dumps(refused)} if refused else {}
    write_parquet(table, job.outputs["translations"], CAPTIONS, key=job.key, metadata=metadata)
    log.info("%s: %s captions", job.target, f"{len(table):,}")
