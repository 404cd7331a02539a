"""Training and validation data as index arrays: the texts and the item of each row."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet, refused_of
from ccr.artifacts.schemas import CAPTIONS, WEIGHTS
from ccr.errors import CcrError
from ccr.registry import distilled, streams_of
from ccr.store import FeatureStore

TEXT_STREAMS = ("source", "target", "back")

log = logging.getLogger(__name__)


def with_terms_in_force(job: Job) -> Job:
    """The job as it can be trained: if back-translations are missing, without the terms that compare them.

    Raises `CcrError` instead of dropping terms unless `on_missing: drop_term` allows it (a teacher's terms are never
    dropped), and when no term with the stream `visual` would remain.
    """
    settings = job.settings
    empty = [p for p in job.inputs.get("back", []) if not len(read_parquet(p, columns=["caption_id"]))]
    off = [name for name, term in settings["objectives"].items() if "back" in term["pair"]]
    if not (empty and off):
        return job
    missing = f"{job.target}: no back-translations in {', '.join(empty)}; needed by {', '.join(off)}."
    if settings.get("on_missing", "error") == "error":
        raise CcrError(
            f"{missing} Provide back-translations with the captions, choose a translation variant whose engine "
            "translates back, give such terms weight 0, or let them be dropped (a student's on_missing: drop_term)."
        )
    kept = {name: term for name, term in settings["objectives"].items() if name not in off}
    if not any("visual" in term["pair"] for term in kept.values()):
        raise CcrError(
            f"{missing} Without them (on_missing: drop_term) no term with the stream 'visual' remains. Provide "
            "back-translations, or choose a translation variant whose engine translates back."
        )
    log.warning("%s Trained without (on_missing: drop_term).", missing)
    inputs = {role: paths for role, paths in job.inputs.items() if role != "back"}
    return replace(job, inputs=inputs, settings={**settings, "objectives": kept})


@dataclass
class Texts:
    """Every caption of a job, one row each, in a fixed order.

    Attributes:
        table: caption_id, item_id, split, lang, origin, parent_id, text, role (captions, translations, back, parallel).
    """

    table: pd.DataFrame

    @property
    def texts(self) -> list[str]:
        """The texts, row by row."""
        return self.table["text"].tolist()

    def training(self) -> Iterable[str]:
        """The texts of the train split: all that a tokenizer may see."""
        return self.table.loc[self.table["split"] == "train", "text"]

    def select(self, **values: str) -> pd.DataFrame:
        """Rows in which every named column has the given value."""
        mask = np.ones(len(self.table), dtype=bool)
        for column, value in values.items():
            mask &= (self.table[column] == value).to_numpy()
        return self.table[mask]


def read_texts(job: Job) -> Texts:
    """Source captions of train, validation captions, and the translations and parallel text that the job reads.

    Human target captions of the train split are not included unless a translation variant provides them. Where
    back-translations are read, translations whose back-translation was refused are left out.
    """
    captions = read_parquet(job.inputs["captions"], CAPTIONS).to_pandas()
    captions = captions[captions["origin"] == "human"]
    source = job.settings["source_lang"]
    usable = ((captions["lang"] == source) & captions["split"].isin(["train", "val"])) | (
        captions["lang"].isin(job.settings["langs"]) & (captions["split"] == "val")
    )
    tables = [captions[usable].assign(role="captions")]
    langs = job.settings["langs"]
    refused: set[str] = set()
    for role in ("translations", "back", "parallel"):
        for lang, path in zip(langs, job.inputs.get(role, []), strict=False):
            read = read_parquet(path, CAPTIONS)
            table = read.to_pandas()
            # translations of one caption have the same id in every language, as do the source sides of parallel text
            prefix = f"{lang}/" if len(langs) > 1 else ""
            for column in ["caption_id"] if role == "translations" else ["caption_id", "parent_id"]:
                table[column] = prefix + table[column]
            if role == "back":
                refused |= {prefix + i for i in refused_of(read)} - set(table["parent_id"])
            tables.append(table[table["split"].isin(["train", "val"])].assign(role=role))
    table = pd.concat(tables, ignore_index=True)
    if refused:
        table = table[~(table["caption_id"].isin(refused) & (table["role"] == "translations"))].reset_index(drop=True)
    for column in ("split", "lang", "origin"):
        table[column] = table[column].astype(str)
    return Texts(table)


def _positions(values: pd.Series, wanted: pd.Series, what: str, path: str) -> np.ndarray:
    """Row numbers (from the index of `values`) of the `wanted` values."""
    index = pd.Index(values)
    if not index.is_unique:
        repeated = index[index.duplicated()][0]
        raise CcrError(f"{path}: {what} {repeated!r} stands twice; caption ids are unique.")
    found = index.get_indexer(wanted)
    if (found < 0).any():
        first = wanted.iloc[int((found < 0).argmax())]
        raise CcrError(f"{path}: no {what} {first!r} ({int((found < 0).sum())} such). Run its job again.")
    return values.index.to_numpy()[found]


class Triplets:
    """The training rows: v_i, s_i, t_i (and b_i), as indices; after them the pairs s, t of parallel text.

    Attributes:
        streams: the streams that the objectives compare, in the order visual, source, target, back.
        rows: text stream -> (T,) row of the texts.
        items: (T,) number of the item, 0 to the number of items - 1.
        features: (items,) row of the feature store per item, None without a store.
        teacher: text stream -> (T, d) float32 embeddings by the teacher, of the streams that it distils.
        weights: (T,) float32 weights of the translations, None if all are equal.
    """

    def __init__(
        self, job: Job, texts: Texts, store: FeatureStore | None, teacher: tuple[list[str], np.ndarray] | None
    ):
        used = streams_of(job.settings["objectives"])
        self.streams = [stream for stream in ("visual", *TEXT_STREAMS) if stream in used]
        source = texts.select(split="train", role="captions")
        if source.empty:
            raise CcrError(f"{job.inputs['captions']}: no {job.settings['source_lang']} captions in the train split.")
        self.rows = {"source": source.index.to_numpy()}
        if "target" in used and "translations" not in job.inputs:  # a teacher of parallel text only
            self.rows = {stream: np.empty(0, np.int64) for stream in ("source", "target")}
        elif {"target", "back"} & used:
            target = texts.select(split="train", role="translations")
            paths = ", ".join(job.inputs["translations"])
            self.rows["target"] = target.index.to_numpy()
            self.rows["source"] = _positions(source["caption_id"], target["parent_id"], "source caption", paths)
        if "back" in used:
            back = texts.select(split="train", role="back")
            paths = ", ".join(job.inputs["back"])
            self.rows["back"] = _positions(back["parent_id"], target["caption_id"], "back-translation of", paths)
        if "parallel" in job.inputs:
            parallel = texts.select(split="train", role="parallel")
            is_source = parallel["lang"] == job.settings["source_lang"]
            for stream, rows in (("source", parallel[is_source]), ("target", parallel[~is_source])):
                self.rows[stream] = np.concatenate([self.rows[stream], rows.index.to_numpy()])
        names, self.items = np.unique(
            texts.table["item_id"].to_numpy(dtype=str)[self.rows["source"]], return_inverse=True
        )
        self.features = store.index(list(names)) if store is not None else None
        if len(self) < 2:
            pairs = job.inputs.get("translations") or job.inputs.get("parallel")
            paths = ", ".join(pairs if "target" in self.rows else [job.inputs["captions"]])
            raise CcrError(f"{paths}: texts to train on: {len(self)}, but contrastive terms need two or more.")
        self.teacher = {} if teacher is None else self._teacher(job, texts, *teacher)
        self.weights = self._weights(job, texts) if "weights" in job.inputs else None

    def _weights(self, job: Job, texts: Texts) -> np.ndarray:
        tables = [read_parquet(path, WEIGHTS).to_pandas() for path in job.inputs["weights"]]
        if len(tables) > 1:
            for lang, table in zip(job.settings["langs"], tables, strict=True):
                table["caption_id"] = f"{lang}/" + table["caption_id"]
        given = pd.concat(tables).set_index("caption_id")["weight"]
        ids = texts.table["caption_id"].iloc[self.rows["target"]]
        return given.reindex(ids).fillna(1.0).to_numpy(np.float32)  # parallel text has none

    def _teacher(self, job: Job, texts: Texts, ids: list[str], embeddings: np.ndarray) -> dict[str, np.ndarray]:
        where, path = pd.Series(ids), job.inputs["teacher"]
        wanted = {
            s: texts.table["caption_id"].iloc[self.rows[s]] for s in sorted(distilled(job.settings["objectives"]))
        }
        return {s: embeddings[_positions(where, wanted[s], "embedding of", path)] for s in wanted}

    def __len__(self) -> int:
        return len(self.items)


class Validation:
    """The data a network is selected on: captions of the val split and what each must find.

    See docs/methods.md, "A fair table".

    Attributes:
        groups: one (captions, gallery, relevant) per language: rows of the texts; rows of the texts (teacher) or of
            the feature store (student); for each caption the position of its partner in the gallery.
    """

    def __init__(self, job: Job, texts: Texts, store: FeatureStore | None):
        self.groups = []
        for lang in self._langs(job):
            captions = self._captions(job, texts, lang)
            if captions.empty:
                raise CcrError(f"{job.inputs['captions']}: no {self._missing(job, lang)}")
            rows = captions.index.to_numpy()
            if store is None:
                role = "parallel" if job.settings["select_on"] == "parallel" else "captions"
                parents = texts.select(split="val", role=role, lang=job.settings["source_lang"])
                path = ", ".join(job.inputs["parallel" if role == "parallel" else "translations"])
                gallery = _positions(parents["caption_id"], captions["parent_id"], "source caption", path)
                self.groups.append((rows, gallery, np.arange(len(rows))))
            else:
                names, relevant = np.unique(captions["item_id"].to_numpy(dtype=str), return_inverse=True)
                self.groups.append((rows, store.index(list(names)), relevant))

    @staticmethod
    def _missing(job: Job, lang: str) -> str:
        if job.settings["role"] == "teacher":
            source = job.settings["source_lang"]
            return (
                f"{lang} translations in the val split, and a teacher is selected on these. Add {source} captions of "
                "val items, with translations, or leave out the methods that have a teacher."
            )
        how = job.settings["select_on"]
        return f"{lang} captions in the val split to select on (select_on: {how}). Add some, or set another select_on."

    @staticmethod
    def _langs(job: Job) -> list[str]:
        source = job.settings["select_on"] == "source"
        return [job.settings["source_lang"]] if source else job.settings["langs"]

    @staticmethod
    def _captions(job: Job, texts: Texts, lang: str) -> pd.DataFrame:
        role = {"mt": "translations", "parallel": "parallel"}.get(job.settings["select_on"], "captions")
        return texts.select(split="val", role=role, lang=lang)
