"""The rows of a table about the same test captions, with the files behind them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import regex

from ccr import languages
from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.schemas import CAPTIONS, RANKS
from ccr.params import Plan
from ccr.tables import columns
from ccr.tables.rows import Row


@dataclass(frozen=True)
class Group:
    """Rows of one data set, features and target language.

    `captions`: the test captions in the target language, by caption_id: item_id, text.
    """

    plan: Plan
    rows: Sequence[Row]

    @property
    def title(self) -> str:
        return columns.title(list(self.rows))

    @property
    def labels(self) -> list[str]:
        return columns.labels(list(self.rows))

    def job(self, row: Row, seed: int = 0) -> Job:
        """The evaluation of a row; `seed`: index of the seed, the first by default."""
        return self.plan.job(str(Path(row.settings["metrics"][seed]).parent))

    @cached_property
    def human(self) -> pd.DataFrame:
        """All human captions: caption_id, item_id, split, lang, text."""
        table = read_parquet(self.job(self.rows[0]).inputs["captions"], CAPTIONS).to_pandas()
        return table[table["origin"] == "human"]

    @cached_property
    def captions(self) -> pd.DataFrame:
        lang = self.rows[0].settings["target_lang"]
        chosen = self.human[(self.human["split"] == "test") & (self.human["lang"] == lang)]
        return chosen.set_index("caption_id")[["item_id", "text"]]

    @cached_property
    def translated(self) -> pd.Series | None:
        """Machine translations of the test captions into the source language, by caption_id; None if there are none."""
        paths = [self.job(row).inputs.get("queries") for row in self.rows]
        found = next((path for path in paths if path), None)
        if found is None:
            return None
        return read_parquet(found, CAPTIONS).to_pandas().set_index("parent_id")["text"]

    def ranks(self, row: Row) -> pd.DataFrame:
        """t2v rank of every test caption, a column per seed."""
        return self._ranks[row.key]

    @cached_property
    def _ranks(self) -> dict[str, pd.DataFrame]:
        return {row.key: self._read_ranks(row) for row in self.rows}

    def _read_ranks(self, row: Row) -> pd.DataFrame:
        seeds = {}
        for seed, path in zip(row.settings["seeds"], row.settings["ranks"], strict=True):
            table = read_parquet(path, RANKS).to_pandas()
            seeds[seed] = table[table["direction"] == "t2v"].set_index("query_id")["rank"]
        return pd.DataFrame(seeds).loc[self.captions.index]

    @property
    def compared(self) -> tuple[Row, Row] | None:
        """The baseline, and the best other row with machine translations; both search with the captions themselves."""
        plain = [row for row in self.rows if self.job(row).settings["queries"] == {"target": 1.0}]
        reference = next((row.compared_with for row in self.rows if row.compared_with), None)
        first = next((row for row in plain if row.settings["method"] == reference), None)
        others = [row for row in plain if row is not first and row.settings["mt"] not in ("human", "none")]
        if first is None or not others:
            return None
        return first, max(others, key=lambda row: row.mean["sumr"])


def units(texts: Sequence[str], lang: str) -> list[list[str]]:
    """Each text split at spaces, or, if the language writes none, into its letters with their marks."""
    if languages.spaced(lang):
        return [text.lower().split() for text in texts]
    letter = regex.compile(r"(?=[^\W_])\X")
    return [letter.findall(text) for text in texts]
