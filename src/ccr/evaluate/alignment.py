"""A teacher's word alignment, judged on the val split of translations whose true alignment is known."""

import logging

import numpy as np
import pandas as pd
import torch

from ccr.alignment.aligner import Aligner
from ccr.alignment.quality import Quality, judge
from ccr.artifacts.files import write_json
from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.schemas import ALIGNMENT, CAPTIONS
from ccr.errors import CcrError

log = logging.getLogger(__name__)
SPANS = ["source_start", "source_end", "target_start", "target_end"]


def run(job: Job) -> None:
    """Align each source caption of the val split with its translation; write `metrics.json`.

    Raises `CcrError` if there is no such pair, or if none has a true alignment.
    """
    torch.set_num_threads(job.settings["threads"])
    pairs = _pairs(job)
    phrases = read_parquet(job.inputs["alignment"], ALIGNMENT).to_pandas()
    phrases = {caption: rows.to_numpy() for caption, rows in phrases.groupby("caption_id")[SPANS]}
    if not pairs["parent_id"].isin(phrases).any():
        raise CcrError(
            f"{job.inputs['alignment']}: no alignment of any val caption of {job.inputs['translations']}. Delete both "
            "and translate again."
        )
    aligner = Aligner(*(job.inputs[role] for role in ("model", "config", "tokenizer")), job.settings["solver"])
    spans = [phrases.get(caption, np.empty((0, 4), int)) for caption in pairs["parent_id"]]
    aligned = aligner.align(pairs["source"].tolist(), pairs["target"].tolist(), job.settings["batch"])
    quality = sum(map(judge, (alignment.links for alignment in aligned), spans), Quality())
    numbers = {"precision": quality.precision, "recall": quality.recall, "aer": quality.aer}
    counts = {"n_pairs": len(pairs), "n_predicted": quality.predicted, "n_phrases": quality.phrases}
    write_json({"key": job.key, **numbers, **counts}, job.outputs["metrics"])
    log.info("%s: alignment error rate %.3f", job.target, quality.aer)


def _pairs(job: Job) -> pd.DataFrame:
    """parent_id, source, target of each val translation."""
    captions, translations = (
        read_parquet(job.inputs[role], CAPTIONS).to_pandas() for role in ("captions", "translations")
    )
    translations = translations[translations["split"] == "val"].rename(columns={"text": "target"})
    sources = captions[["caption_id", "text"]].rename(columns={"caption_id": "parent_id", "text": "source"})
    pairs = translations[["parent_id", "target"]].merge(sources, on="parent_id")
    if pairs.empty:
        raise CcrError(f"{job.inputs['translations']}: no translation of a val caption; there is nothing to align.")
    return pairs
