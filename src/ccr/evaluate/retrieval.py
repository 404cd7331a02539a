"""A trained network on the human test captions of one language."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from ccr.artifacts.files import atomic, write_json
from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import CAPTIONS, ITEMS, RANKS
from ccr.errors import CcrError
from ccr.evaluate.encoder import Encoder
from ccr.retrieval.fusion import rank_fused
from ccr.retrieval.metrics import chance_sumr, metrics
from ccr.retrieval.ranks import Ranks, rank_both

log = logging.getLogger(__name__)


@dataclass
class TestSet:
    """Captions (caption_id, item_id, text), item ids in order, and the item number of each caption."""

    captions: pd.DataFrame
    items: np.ndarray
    caption_item: np.ndarray


def run(job: Job) -> None:
    """Embed the test captions and items, rank in both directions, write `metrics.json` and `ranks.parquet`.

    If the job asks for them, also the embeddings: float32 tensors `items` (N, dim) and, by query, `target` or
    `translated` (C, dim), and `caption_item` (C,) int64, the row of `items` that a caption describes; captions and
    items in the order of `ranks.parquet`.

    Raises `CcrError` for an empty test set, test items that the run of another data set was trained or selected on,
    missing translations, and non-finite embeddings.
    """
    torch.set_num_threads(job.settings["threads"])
    test = _test_set(job)
    if "trained_items" in job.inputs:
        _check_unseen(job, test)
    encoder = Encoder(job.inputs, job.settings["batch"], keep_states=True)
    visual = encoder.items(job.inputs["features"], test.items)
    captions = {query: encoder.texts(_query_texts(job, test, query)) for query in job.settings["queries"]}
    parts = [(weight, captions[query]) for query, weight in job.settings["queries"].items()]
    t2v, v2t = _ranks(parts, visual, test.caption_item, job.settings["fusion"])
    if "embeddings" in job.outputs:
        tensors = {"items": visual, "caption_item": torch.from_numpy(test.caption_item), **captions}
        with atomic(job.outputs["embeddings"]) as temporary:
            save_file(tensors, temporary, {"ccr.key": job.key})
    _write(job, test, t2v, v2t, encoder.description.get("terms", []))


def _test_set(job: Job) -> TestSet:
    path, lang = job.inputs["captions"], job.settings["lang"]
    captions = read_parquet(path, CAPTIONS).to_pandas()
    chosen = (captions["split"] == "test") & (captions["lang"] == lang) & (captions["origin"] == "human")
    captions = captions.loc[chosen, ["caption_id", "item_id", "text"]].reset_index(drop=True)
    if captions.empty:
        raise CcrError(f"{path}: no human {lang} captions in the test split; there is nothing to evaluate on.")
    items, caption_item = np.unique(captions["item_id"].to_numpy(dtype=str), return_inverse=True)
    return TestSet(captions, items, caption_item)


def _check_unseen(job: Job, test: TestSet) -> None:
    path = job.inputs["trained_items"]
    items = read_parquet(path, ITEMS).to_pandas()
    seen = np.intersect1d(test.items, items.loc[items["split"] != "test", "item_id"].to_numpy(dtype=str))
    if len(seen):
        raise CcrError(
            f"{job.inputs['captions']}: {len(seen):,} of {len(test.items):,} test items are in train or val of {path}, "
            f"the first is {seen[0]!r}: the run has seen them. Take them out of one of the two; if they are other "
            "pictures of the same name, rename them."
        )


def _query_texts(job: Job, test: TestSet, query: str) -> list[str]:
    """The texts to embed for the test captions: themselves, or their translations into the source language."""
    if query == "target":
        return test.captions["text"].tolist()
    path = job.inputs["queries"]
    translated = read_parquet(path, CAPTIONS).to_pandas().set_index("parent_id")["text"]
    texts = translated.reindex(test.captions["caption_id"])
    if texts.isna().any():
        raise CcrError(
            f"{path}: {int(texts.isna().sum())} test captions have no translation, the first is "
            f"{texts.index[int(texts.isna().to_numpy().argmax())]!r}. Translate them, or leave the row out."
        )
    return texts.tolist()


def _ranks(
    parts: list[tuple[float, torch.Tensor]], visual: torch.Tensor, caption_item: np.ndarray, fusion: str
) -> tuple[Ranks, Ranks]:
    items = np.arange(len(visual))
    if len(parts) == 1:
        return rank_both(parts[0][1], visual, caption_item)
    return (
        rank_fused([(weight, captions, visual) for weight, captions in parts], caption_item, items, fusion),
        rank_fused([(weight, visual, captions) for weight, captions in parts], items, caption_item, fusion),
    )


def _write(job: Job, test: TestSet, t2v: Ranks, v2t: Ranks, terms: list[str]) -> None:
    values = metrics(t2v, v2t)
    table = {
        "direction": ["t2v"] * len(t2v.first) + ["v2t"] * len(v2t.first),
        "query_id": [*test.captions["caption_id"], *test.items],
        "item_id": [*test.captions["item_id"], *test.items],
        "rank": np.concatenate([t2v.first, v2t.first]),
    }
    write_parquet(table, job.outputs["ranks"], RANKS, key=job.key)
    facts = {"key": job.key, "terms": terms, "n_queries": len(t2v.first), "n_items": len(v2t.first)}
    facts["chance_sumr"] = chance_sumr(np.bincount(test.caption_item))
    write_json(values | facts, job.outputs["metrics"])
    log.info("%s: SumR %.1f (chance %.1f)", job.target, values["sumr"], facts["chance_sumr"])
