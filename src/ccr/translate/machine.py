"""Machine translation of one direction of a language pair, with any engine."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.room import room_for
from ccr.artifacts.schemas import ALIGNMENT, CAPTIONS
from ccr.errors import CcrError
from ccr.registry import ENGINES
from ccr.translate.engine import Aligning, Engine, Outcome, Publishing, Refused, Remembered
from ccr.translate.memory import LISTED, absorb, remembered
from ccr.translate.text import clean
from ccr.translate.writing import warn_of_no_way_back, write_translations

log = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Translate one direction of one language pair with one engine, in the order of the captions translated.

    Directions: `forward`: source captions into the target language; `back`: the forward translations of train
    and val into the source language; `queries`: human target captions of test into the source language.
    If the engine cannot translate back, `back` has no rows and the log says so; training decides what happens to the
    terms that need it (`on_missing`).
    `CcrError` if there is nothing to translate or a caption is left without a translation.
    """
    for shard in job.after:
        absorb(Path(shard))
    parents, engine = parents_of(job), engine_of(job)
    size = pc.sum(pc.binary_length(parents["text"])).as_py() or 0
    room_for(Path(job.target).parent, size / 4, "the translations")  # they compress
    outcomes = translate(engine, parents, job)
    kept, texts, refused = without_refused(parents, outcomes, job)
    kept, texts, lacking = without_holes(engine.name, kept, texts, job)
    if not texts:
        warn_of_no_way_back(engine.name, job)
    write_translations(translations(engine, kept, texts, job.settings), refused | lacking, job)
    if "alignment" in job.outputs:
        if not isinstance(engine, Aligning):
            raise CcrError(f"engine {job.settings['engine']!r} provides no word alignment.")
        write_parquet(engine.alignment(kept), job.outputs["alignment"], ALIGNMENT, key=job.key)


def engine_of(job: Job) -> Engine | Remembered:
    """The engine of a job, ready to work."""
    return ENGINES[job.settings["engine"]].load().Engine(job)


def parents_of(job: Job) -> pa.Table:
    """The captions that the job's direction translates (schema CAPTIONS). `CcrError` if there are none."""
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


def translate(engine: Engine | Remembered, parents: pa.Table, job: Job) -> list[Outcome | None]:
    """The outcome of each parent: its translation, a refusal, or None if a publisher has none.

    Identical texts are translated once, unless the engine goes by caption id.
    """
    if isinstance(engine, Publishing):
        return _checked(engine.translate(parents), len(parents))
    codes = parents["text"].combine_chunks().dictionary_encode().indices.to_numpy()
    first = parents.take(pa.array(np.unique(codes, return_index=True)[1]))
    log.info("%s captions, %s of them different", f"{len(parents):,}", f"{len(first):,}")
    if isinstance(engine, Remembered):
        unique = remembered(engine, first["text"].to_pylist(), job)
    else:
        unique = _checked(engine.translate(first), len(first))
    return [unique[code] for code in codes]


def _checked(texts: list[str | None], size: int) -> list[str | None]:
    if len(texts) != size:
        raise ValueError(f"the engine was given {size} captions and returned {len(texts)} translations")
    return [clean(text) or None if text else None for text in texts]


def without_refused(
    parents: pa.Table, outcomes: list[Outcome | None], job: Job
) -> tuple[pa.Table, list[str | None], Mapping[str, str]]:
    """Parents and texts after applying `on_failure`, and the reasons for refusals by caption id.

    error: `CcrError`. drop: refused captions are left out, except test queries, of which none may be missing: these
    stay untranslated. keep_source: the text itself stands in for its translation.
    """
    refused = [isinstance(outcome, Refused) for outcome in outcomes]
    if not any(refused):
        return parents, outcomes, {}
    ids, texts = parents["caption_id"].to_pylist(), parents["text"].to_pylist()
    reasons = {ids[i]: outcomes[i].reason for i in np.flatnonzero(refused)}
    settings = job.settings
    what = "".join(f"\n  {caption}: {reason}" for caption, reason in list(reasons.items())[:LISTED])
    if settings["options"]["on_failure"] == "error":
        raise CcrError(
            f"{job.target}: {len(reasons):,} of {len(ids):,} captions were refused:{what}\nMend them in the "
            f"raw data, or set translate.variants.{settings['variant']}.on_failure: drop or keep_source. `ccr tm "
            "forget-refused` lets them be tried again."
        )
    if settings["options"]["on_failure"] == "drop" and settings["direction"] != "queries":
        log.warning("%s: %s captions refused and left out:%s", job.target, f"{len(reasons):,}", what)
        kept = np.flatnonzero(~np.array(refused))
        return parents.take(pa.array(kept)), [outcomes[i] for i in kept], reasons
    log.warning("%s: %s captions refused and left untranslated:%s", job.target, f"{len(reasons):,}", what)
    kept = [text if bad else outcome for text, bad, outcome in zip(texts, refused, outcomes, strict=True)]
    return parents, kept, reasons


def without_holes(
    name: str, parents: pa.Table, texts: list[str | None], job: Job
) -> tuple[pa.Table, list[str], dict[str, str]]:
    """Parents and texts without those that the publisher `name` has no translation of, and the reasons by caption id.

    Forward translations of test captions only serve quality figures, so a publisher that has none of them is no error,
    nor is one without any back-translation (then no rows are left). Other captions without a translation are left out
    if they are at most the share `lacking` of the captions, except test queries, of which none may be missing: these
    stay untranslated. More than that is a `CcrError`, and so is any such caption with an engine without this option.
    """
    holes = np.array([text is None for text in texts], dtype=bool)
    if job.settings["direction"] == "back" and holes.all():
        return parents.slice(0, 0), [], {}
    test = pc.equal(parents["split"], "test").to_numpy()
    if job.settings["direction"] == "forward" and test.any() and holes[test].all() and not test.all():
        log.warning("%s has no translation of the test captions: no quality figures for them", name)
        kept = np.flatnonzero(~test)
        parents, texts, holes = parents.take(pa.array(kept)), [texts[i] for i in kept], holes[kept]
    if not holes.any():
        return parents, texts, {}
    names = parents["caption_id"].filter(pa.array(holes)).to_pylist()
    allowed = job.settings["options"].get("lacking")
    what = f"{job.target}: {name!r} has no translation of {len(names):,} of {len(texts):,} captions"
    shown = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
    if len(names) > (allowed or 0) * len(texts):
        variant = f"translate.variants.{job.settings['variant']}"
        more = "" if allowed is None else f" {variant}.lacking: {allowed:g} lets this share of them be left out."
        raise CcrError(f"{what}: {shown}. Complete the translations, or choose another engine for {variant}.{more}")
    reasons = dict.fromkeys(names, "none is published")
    if job.settings["direction"] == "queries":
        log.warning("%s, left untranslated: %s", what, shown)
        sources = parents["text"].to_pylist()
        return parents, [source if text is None else text for source, text in zip(sources, texts, strict=True)], reasons
    log.warning("%s, left out: %s", what, shown)
    kept = np.flatnonzero(~holes)
    return parents.take(pa.array(kept)), [texts[i] for i in kept], reasons


def translations(engine: Engine | Remembered, parents: pa.Table, texts: list[str], settings: dict) -> pa.Table:
    """The rows to write: schema CAPTIONS, one per parent, in order."""
    ids = pc.binary_join_element_wise(parents["caption_id"], settings["variant"], "@")
    if isinstance(engine, Publishing):
        ids = pc.coalesce(pa.array(engine.caption_ids(parents), pa.string()), ids.combine_chunks())
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
