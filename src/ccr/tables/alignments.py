"""How well teachers align words: rows of `results/{table}.csv` and .md, from the jobs that evaluated them."""

from dataclasses import dataclass
from typing import Any

from ccr.artifacts.files import read_json
from ccr.artifacts.hashes import digest
from ccr.errors import CcrError
from ccr.tables.rows import Base, over_seeds

METRICS = ("precision", "recall", "aer")
COUNTS = ("n_pairs", "n_phrases")
IDENTITY = ("data", "dataset", "mt", "noise_rate", "source_lang", "target_lang", "teacher")
CSV = (*IDENTITY, "n_seeds", *COUNTS, *(name for metric in METRICS for name in (metric, f"{metric}_std")), "key")
DECIMALS = 4


@dataclass(frozen=True)
class Row(Base):
    """One row.

    `mean`, `std`: metric -> value over seeds (sample deviation; None for one seed). `counts`: number of sentence pairs
    and linked phrases that they were measured on.
    """

    mean: dict[str, float]
    std: dict[str, float] | None
    counts: dict[str, int]


def read_row(settings: dict[str, Any]) -> Row:
    """Read a row's files: `metrics`, one per seed in `seeds`."""
    measured = [read_json(path) for path in settings["metrics"]]
    for numbers, path in zip(measured, settings["metrics"], strict=True):
        missing = [name for name in (*METRICS, *COUNTS, "key") if name not in numbers]
        if missing:
            raise CcrError(f"{path}: no {missing[0]!r}; it must hold {', '.join((*METRICS, *COUNTS))}. Evaluate again.")
        if any(numbers[name] != measured[0][name] for name in COUNTS):
            raise CcrError(f"{path}: measured on other pairs than {settings['metrics'][0]}; evaluate both again.")
    mean, std = over_seeds(measured, METRICS)
    keys = [str(numbers["key"]) for numbers in measured]
    return Row(
        settings=settings,
        mean=mean,
        std=std,
        counts={name: measured[0][name] for name in COUNTS},
        key=digest(keys)[:12],
        seed_keys=keys,
    )


def values(row: Row) -> dict[str, str | float | int | None]:
    """Every column of the csv for one row; None is an empty cell."""
    return {
        **{name: row.settings[name] for name in IDENTITY},
        "n_seeds": len(row.settings["seeds"]),
        **row.counts,
        **{name: round(row.mean[name], DECIMALS) for name in METRICS},
        **{f"{name}_std": None if row.std is None else round(row.std[name], DECIMALS) for name in METRICS},
        "key": row.key,
    }


def number(row: Row, metric: str) -> str:
    """Mean, with the deviation if there is one."""
    return f"{row.mean[metric]:.3f}" + ("" if row.std is None else f" ± {row.std[metric]:.3f}")
