"""Optional filter: training pairs whose round trip fails are left out or weighted less."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet, refused_of, write_parquet
from ccr.artifacts.schemas import CAPTIONS, WEIGHTS
from ccr.errors import CcrError
from ccr.translate import chrf
from ccr.translate.writing import write_translations


def run(job: Job) -> None:
    """Write the translations, or back-translations, of a variant with a filter."""
    write_translations(*_filtered(job), job)


def _filtered(job: Job) -> tuple[pa.Table, dict[str, str]]:
    """Filtered translations or back-translations (schema CAPTIONS) of a variant, and the unfiltered one's refusals.

    A pair of the train split is bad if the sentence-level chrF of its back-translation against its source caption is
    below `min_chrf`; a pair whose back-translation was refused scores 0. Bad pairs have the weight `weight` in
    training; at 0 they are left out. Validation and test stay as they are. `forward` also writes the weights (output
    `weights`). `CcrError` if back-translations are missing.
    """
    if job.settings["direction"] == "back":
        kept = read_parquet(job.inputs["forward"], CAPTIONS)["caption_id"].combine_chunks()
        back = read_parquet(job.inputs["whole_back"], CAPTIONS)
        return back.filter(pc.is_in(back["parent_id"], kept)), refused_of(back)
    forward = read_parquet(job.inputs["whole"], CAPTIONS)
    weights = _weights(forward, job)
    write_parquet(weights, job.outputs["weights"], WEIGHTS, key=job.key)
    left_out = weights.filter(pc.equal(weights["weight"], 0.0))["caption_id"].combine_chunks()
    return forward.filter(pc.invert(pc.is_in(forward["caption_id"], left_out))), refused_of(forward)


def _weights(forward: pa.Table, job: Job) -> pa.Table:
    """Round-trip chrF and weight of the translations of the train split (schema WEIGHTS)."""
    train = forward.filter(pc.equal(forward["split"], "train"))
    captions, back = (read_parquet(job.inputs[role], CAPTIONS) for role in ("captions", "whole_back"))
    sources = dict(zip(captions["caption_id"].to_pylist(), captions["text"].to_pylist(), strict=True))
    returned = dict(zip(back["parent_id"].to_pylist(), back["text"].to_pylist(), strict=True))
    ids, parents = train["caption_id"].to_pylist(), train["parent_id"].to_pylist()
    refused = refused_of(back)
    missing = [caption for caption in ids if caption not in returned and caption not in refused]
    if missing:
        raise CcrError(
            f"{job.inputs['whole_back']}: no back-translation of {len(missing):,} of {len(ids):,} train captions "
            f"({', '.join(missing[:3])}, ...), which translate.variants.{job.settings['variant']}.filter judges. "
            "Remove the filter, or use an engine that translates back."
        )
    pairs = [returned.get(i, "") for i in ids], [sources[parent] for parent in parents]
    scores = chrf.score(chrf.statistics(*pairs))
    weights = np.where(scores < job.settings["filter"]["min_chrf"], job.settings["filter"]["weight"], 1.0)
    return pa.table({"caption_id": ids, "chrf": scores, "weight": weights}, schema=WEIGHTS)
