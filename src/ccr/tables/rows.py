"""Read the evaluations of one row and average them over its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ccr.artifacts.files import read_json
from ccr.artifacts.hashes import digest
from ccr.artifacts.parquet import read_parquet, recorded_refusals
from ccr.artifacts.schemas import RANKS
from ccr.errors import CcrError
from ccr.retrieval.metrics import DIRECTIONS, METRICS
from ccr.tables.significance import contributions

FACTS = ("chance_sumr", "n_queries", "n_items", "terms", "key")


@dataclass(frozen=True)
class Base:
    """What rows have in every kind of table.

    `settings`: as planned. `key`: of the row, derived from `seed_keys`, the keys of the jobs that measured it.
    """

    settings: dict[str, Any]
    key: str
    seed_keys: list[str]

    @property
    def group(self) -> tuple[str, ...]:
        """What a row shares with those it may be compared to; without features if a table has none."""
        names = ("data", "dataset", "visual", "source_lang", "target_lang")
        return tuple(self.settings[name] for name in names if name in self.settings)

    @property
    def synthetic(self) -> bool:
        """Whether its data is synthetic."""
        return self.settings["data"] == "synthetic"


@dataclass(frozen=True)
class Row(Base):
    """One row of a table of retrieval.

    `terms`: those it was trained on, fewer than planned if some were dropped.
    `mean`, `std`: metric -> value over seeds (sample deviation; None for one seed).
    `items` (n,): test item ids, sorted; `scores` (seeds, n): their contributions to SumR.
    `compared_with`: the method of the row that this one is compared with; `difference`: SumR minus that row's; `p`:
    Holm-corrected p against it, None for one seed. All are None without such a row. `p_is_bound`: p is the smallest
    value that this number of draws can show. `verdict`: higher, lower, or empty if neither may be claimed. `leaks`:
    what the splits of its data set share, by the report of its import. `refused`: file of translations -> caption
    without a translation -> reason.
    """

    terms: tuple[str, ...]
    mean: dict[str, float]
    std: dict[str, float] | None
    chance: float
    n_queries: int
    n_items: int
    items: np.ndarray
    scores: np.ndarray
    compared_with: str | None = None
    p: float | None = None
    p_is_bound: bool = False
    difference: float | None = None
    verdict: str = ""
    leaks: tuple[str, ...] = ()
    refused: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def published(self) -> dict[str, Any] | None:
        """The published figure {sumr, source}; None unless the data are official."""
        return self.settings.get("published") if self.settings["data"] == "official" else None

    @property
    def trained_on(self) -> dict[str, Any] | None:
        """{dataset, langs, zero_shot} for runs that were trained on another data set, else None."""
        return self.settings.get("trained_on")


def read_row(settings: dict[str, Any]) -> Row:
    """Read a row's files.

    Args:
        settings: identity (`columns.IDENTITY` without `terms`), `select_on`, `seeds`, `reference` (the method
            to compare it with, or None), `published` ({sumr, source} or None), `trained_on` (for runs of another data
            set: its name `dataset`, the `langs` of the training, and `zero_shot`, whether the target is none of these),
            and per seed: `metrics`, `ranks`, `history` (may be empty); `reports`: import reports of its data set;
            `translations`: files that the runs were trained on.
    """
    seeds = settings["seeds"]
    for role in ("metrics", "ranks"):
        if len(settings[role]) != len(seeds):
            raise CcrError(
                f"Row {settings['method']} of {settings['dataset']}: {len(seeds)} seeds but "
                f"{len(settings[role])} {role} files; it needs one for each seed."
            )
    measured = [_read_metrics(path) for path in settings["metrics"]]
    scored = [_read_scores(path) for path in settings["ranks"]]
    for (items, scores), numbers, path in zip(scored, measured, settings["ranks"], strict=True):
        if abs(scores.sum() - numbers["sumr"]) > 1e-3:
            raise CcrError(
                f"{path}: its ranks give SumR {scores.sum():.3f}, metrics.json next to it says "
                f"{numbers['sumr']:.3f}. They are of different evaluations: delete both and evaluate again."
            )
        if not np.array_equal(items, scored[0][0]):
            raise CcrError(f"{path}: other test items than {settings['ranks'][0]}; evaluate both again.")
    for numbers, path in zip(measured, settings["metrics"], strict=True):
        if numbers["terms"] != measured[0]["terms"]:
            raise CcrError(
                f"{path}: trained on the terms {', '.join(numbers['terms'])}, the first seed "
                f"({settings['metrics'][0]}) on {', '.join(measured[0]['terms'])}. Train and evaluate both again."
            )
    mean, std = over_seeds(measured, METRICS)
    keys = [str(seed["key"]) for seed in measured]
    return Row(
        settings=settings,
        terms=tuple(measured[0]["terms"]),
        mean=mean,
        std=std,
        chance=float(np.mean([seed["chance_sumr"] for seed in measured])),
        n_queries=measured[0]["n_queries"],
        n_items=measured[0]["n_items"],
        key=digest(keys)[:12],
        seed_keys=keys,
        leaks=tuple(leak for path in settings["reports"] for leak in read_json(path)["leaks"]),
        refused={path: refused for path in settings["translations"] if (refused := recorded_refusals(path))},
        items=scored[0][0],
        scores=np.stack([scores for _, scores in scored]),
    )


def over_seeds(
    measured: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> tuple[dict[str, float], dict[str, float] | None]:
    """Mean and sample deviation of these numbers; no deviation for one seed."""
    numbers = np.array([[seed[name] for name in names] for seed in measured])
    mean = dict(zip(names, numbers.mean(axis=0).tolist(), strict=True))
    if len(measured) == 1:
        return mean, None
    return mean, dict(zip(names, numbers.std(axis=0, ddof=1).tolist(), strict=True))


def _read_metrics(path: str | Path) -> dict[str, Any]:
    numbers = read_json(path)
    missing = [name for name in (*METRICS, *FACTS) if name not in numbers]
    if missing:
        raise CcrError(f"{path}: no {missing[0]!r}; it must hold {', '.join((*METRICS, *FACTS))}. Evaluate again.")
    return numbers


def _read_scores(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Sorted item ids (n,) and their contributions to SumR (n,) from a ranks.parquet."""
    table = read_parquet(path, RANKS)
    items, item = np.unique(table["item_id"].to_numpy(), return_inverse=True)
    rank = table["rank"].to_numpy()
    direction = pc.cast(table["direction"], "string").to_numpy()
    sides = [direction == name for name in DIRECTIONS]
    if not all(side.any() for side in sides) or sum(side.sum() for side in sides) != len(rank):
        raise CcrError(f"{path}: `direction` must hold {' and '.join(DIRECTIONS)}, both and nothing else.")
    text, visual = sides
    return items, contributions(rank[text], item[text], rank[visual], item[visual], len(items))
