"""Stage translate: captions -> their translations, forward, back, or of the test queries."""

import logging
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ccr.artifacts import ALIGNMENT, CAPTIONS, Job, read_parquet, write_parquet
from ccr.errors import CcrError
from ccr.registry import ENGINES
from ccr.translate.engine import Aligning, Engine, Publishing
from ccr.translate.human import pair
from ccr.translate.noise import corrupted

log = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Translate one direction of one language pair with one engine; same order as the captions translated.

    Directions: `forward`: source captions into the target language; `back`: the forward translations of train
    and val into the source language; `queries`: human target captions of test into the source language.
    `back` has no rows, and the log says so, where the engine has no way back: what becomes of the terms that need
    it is for the training to decide (`on_missing`).
    With `noise` in the settings nothing is translated again: `forward` is the clean variant's with noise in the train
    split, `back` the clean variant's but for what noise has changed.
    `CcrError` when there is nothing to translate or a caption is left without translation.
    """
    settings = job.settings
    if settings["engine"] == "none":
        _write(_human(job), job)
        return
    if "noise" in settings:
        clean = read_parquet(job.inputs["clean"], CAPTIONS)
        forward = settings["direction"] == "forward"
        _write(corrupted(clean, **settings["noise"]) if forward else _noisy_back(clean, job), job)
        return
    parents = _parents(job)
    engine: Engine = ENGINES[settings["engine"]].load().Engine(job)
    texts = _translate(engine, parents)
    parents, texts = _complete(engine, parents, texts, job)
    _write(_translations(engine, parents, texts, settings), job)
    if "alignment" in job.outputs:
        if not isinstance(engine, Aligning):
            raise CcrError(f"engine {settings['engine']!r} knows no word alignment.")
        write_parquet(engine.alignment(parents), job.outputs["alignment"], ALIGNMENT, key=job.key)


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


def _noisy_back(clean: pa.Table, job: Job) -> pa.Table:
    """Back-translations of a noisy variant: the clean variant's, but for captions whose text noise has changed.

    A back-translation belongs to its text. A text taken from another caption (`swap`) brings its own along; a text
    that is new is translated by the engine. Where it has none, because others published its translations or nothing
    can be made of the text, the clean one stays: no caption loses its back-translation.
    """
    back = read_parquet(job.inputs["clean_back"], CAPTIONS)
    if not len(back):
        _warn_of_no_way_back(job.settings["engine"], job)
        return back
    before = dict(zip(clean["caption_id"].to_pylist(), clean["text"].to_pylist(), strict=True))
    texts = dict(zip(back["parent_id"].to_pylist(), back["text"].to_pylist(), strict=True))
    known = {before[caption]: text for caption, text in texts.items()}
    forward = _parents(job)
    new = []
    for row, (caption, text) in enumerate(zip(*(forward[c].to_pylist() for c in ("caption_id", "text")), strict=True)):
        if text != before[caption] and text in known:
            texts[caption] = known[text]
        elif text != before[caption]:
            new.append(row)
    parents = forward.take(pa.array(new, pa.int64()))
    found = _translate(ENGINES[job.settings["engine"]].load().Engine(job), parents)
    texts |= {caption: text for caption, text in zip(parents["caption_id"].to_pylist(), found, strict=True) if text}
    column = pa.array([texts[caption] for caption in back["parent_id"].to_pylist()], pa.string())
    return back.set_column(back.schema.get_field_index("text"), "text", column)


def _warn_of_no_way_back(engine: str, job: Job) -> None:
    log.warning(
        "%s: %r has no back-translation; the file has no rows, and terms that need it are off or an error (on_missing)",
        job.target, engine,
    )  # fmt: skip


def _write(table: pa.Table, job: Job) -> None:
    write_parquet(table, job.outputs["translations"], CAPTIONS, key=job.key)
    log.info("%s: %s captions", job.target, f"{len(table):,}")


def _parents(job: Job) -> pa.Table:
    """The captions that the job's direction translates."""
    direction, source, target = (job.settings[name] for name in ("direction", "source_lang", "target_lang"))
    path = job.inputs["forward" if direction == "back" else "captions"]
    table = read_parquet(path, CAPTIONS)
    human = pc.equal(table["origin"], "human")
    if direction == "forward":
        chosen, what = pc.and_(human, pc.equal(table["lang"], source)), f"human captions in {source!r}"
    elif direction == "back":
        chosen, what = pc.is_in(table["split"], pa.array(["train", "val"])), "translations of train or val"
    else:
        chosen = pc.and_(pc.and_(human, pc.equal(table["lang"], target)), pc.equal(table["split"], "test"))
        what = f"human test captions in {target!r}"
    if not (pc.sum(chosen).as_py() or 0):
        raise CcrError(f"{path}: nothing to translate for direction {direction!r}: it holds no {what}.")
    return table.filter(chosen)


def _translate(engine: Engine, parents: pa.Table) -> list[str | None]:
    """One text per parent; identical texts are translated once, unless the engine goes by the caption's id."""
    if isinstance(engine, Publishing):
        return _clean(engine.translate(parents), len(parents))
    codes = parents["text"].combine_chunks().dictionary_encode().indices.to_numpy()
    first = np.unique(codes, return_index=True)[1]
    log.info("%s captions, %s of them different", f"{len(parents):,}", f"{len(first):,}")
    unique = _clean(engine.translate(parents.take(pa.array(first))), len(first))
    return [unique[code] for code in codes]


def _clean(texts: list[str | None], size: int) -> list[str | None]:
    """Texts as captions are stored: NFC, one space between words; an empty one is none."""
    if len(texts) != size:
        raise ValueError(f"the engine was given {size} captions and returned {len(texts)} translations")
    return [unicodedata.normalize("NFC", " ".join(text.split())) or None if text else None for text in texts]


def _complete(
    engine: Engine, parents: pa.Table, texts: list[str | None], job: Job
) -> tuple[pa.Table, list[str | None]]:
    """Parents and texts without holes.

    Forward translations of test serve quality figures only, so a publisher who has none of test is no error, nor is
    one who has no back-translation at all; every other hole is one.
    """
    holes = np.array([text is None for text in texts])
    if job.settings["direction"] == "back" and holes.all():
        _warn_of_no_way_back(engine.name, job)
        return parents.slice(0, 0), []
    test = pc.equal(parents["split"], "test").to_numpy()
    if job.settings["direction"] == "forward" and test.any() and holes[test].all() and not test.all():
        log.warning("%s has no translation of the test captions: no quality figures for them", engine.name)
        kept = np.flatnonzero(~test)
        parents, texts, holes = parents.take(pa.array(kept)), [texts[i] for i in kept], holes[kept]
    if holes.any():
        names = parents["caption_id"].filter(pa.array(holes))[:3].to_pylist()
        raise CcrError(
            f"{job.target}: {engine.name!r} has no translation of {holes.sum():,} of {len(texts):,} captions: "
            f"{', '.join(names)}, ... Complete the translations, or choose another engine for "
            f"translate.variants.{job.settings['variant']}."
        )
    return parents, texts


def _translations(engine: Engine, parents: pa.Table, texts: list[str], settings: dict) -> pa.Table:
    """The rows to write: schema CAPTIONS, one per parent, in order."""
    if isinstance(engine, Publishing):
        ids = pa.array(engine.caption_ids(parents), pa.string())
    else:
        ids = pc.binary_join_element_wise(parents["caption_id"], settings["variant"], "@")
    size, back = len(parents), settings["direction"] == "back"
    lang = settings["target_lang"] if settings["direction"] == "forward" else settings["source_lang"]
    return pa.table(
        {
            "item_id": parents["item_id"],
            "caption_id": ids,
            "split": parents["split"],
            "lang": pa.repeat(pa.scalar(lang), size),
            "origin": pa.repeat(pa.scalar("back" if back else "mt"), size),
            "engine": pa.repeat(pa.scalar(engine.name), size),
            "parent_id": parents["caption_id"],
            "text": pa.array(texts, pa.string()),
        }
    )
