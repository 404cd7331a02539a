"""How good translations are: rows of `results/{table}.csv` and .md, from the jobs that measured them."""

from dataclasses import dataclass
from typing import Any

from ccr.artifacts.files import read_json
from ccr.artifacts.hashes import digest
from ccr.errors import CcrError
from ccr.tables.rows import Base

COMPARISONS = ("round_trip", "forward")
FIGURES = ("n", "bleu", "chrf")
SHARES = ("empty", "copied", "repeated", "wrong_script", "wrong_language")
IDENTITY = ("data", "dataset", "mt", "noise_rate", "source_lang", "target_lang")
COMPARED = tuple(f"{comparison}_{figure}" for comparison in COMPARISONS for figure in FIGURES)
CSV = (*IDENTITY[:3], "engine", *IDENTITY[3:], "n", *COMPARED, "length_ratio", *SHARES, "key")
FACTS = ("engine", "n", *COMPARISONS, "length_ratio", "shares", "worst", "worst_by", "refused", "refused_back", "key")
DECIMALS = 4


@dataclass(frozen=True)
class Row(Base):
    """One row. `quality`: the content of its {lang}.quality.json."""

    quality: dict[str, Any]


def read_row(settings: dict[str, Any]) -> Row:
    """Read a row's only file, `metrics`."""
    (path,) = settings["metrics"]
    quality = read_json(path)
    missing = [name for name in FACTS if name not in quality]
    if missing:
        raise CcrError(f"{path}: no {missing[0]!r}; it must hold {', '.join(FACTS)}. Delete it and measure again.")
    return Row(settings=settings, key=digest([quality["key"]])[:12], seed_keys=[quality["key"]], quality=quality)


def values(row: Row) -> dict[str, str | float | int | None]:
    """Every column of the csv for one row; None is an empty cell: not measurable."""
    quality = row.quality
    measured = {
        f"{comparison}_{figure}": (quality[comparison] or {}).get(figure)
        for comparison in COMPARISONS
        for figure in FIGURES
    }
    measured |= {"length_ratio": quality["length_ratio"], **{name: quality["shares"][name] for name in SHARES}}
    return {
        **{name: row.settings[name] for name in IDENTITY},
        "engine": quality["engine"],
        "n": quality["n"],
        **{name: round(value, DECIMALS) if isinstance(value, float) else value for name, value in measured.items()},
        "key": row.key,
    }
