"""Noisy variants: the translations of the clean variant, some of them corrupted (see `noise`)."""

import pyarrow as pa

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet, refused_of
from ccr.artifacts.schemas import CAPTIONS
from ccr.translate import machine
from ccr.translate.noise import corrupted
from ccr.translate.writing import warn_of_no_way_back, write_translations


def run(job: Job) -> None:
    """Write one direction of a noisy variant. Only texts that noise created are translated again."""
    write_translations(*_noisy(job), job)


def _noisy(job: Job) -> tuple[pa.Table, dict[str, str]]:
    """`forward`: the clean variant's with noise in the train split; `back`: the clean variant's, adapted to it."""
    clean = read_parquet(job.inputs["clean"], CAPTIONS)
    if job.settings["direction"] == "forward":
        return corrupted(clean, **job.settings["noise"]), refused_of(clean)
    back = read_parquet(job.inputs["clean_back"], CAPTIONS)
    if not len(back):
        warn_of_no_way_back(job.settings["engine"], job)
        return back, {}
    return _noisy_back(clean, back, job), refused_of(back)


def _noisy_back(clean: pa.Table, back: pa.Table, job: Job) -> pa.Table:
    """Back-translations of a noisy variant: the clean variant's, except for captions whose text noise has changed.

    A back-translation belongs to its text. A text taken from another caption (`swap`) brings its own along; a new text
    is translated by the engine. If the engine gives none, because its translations were published by others or it
    refuses the text, the clean one stays: no caption loses its back-translation.
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
