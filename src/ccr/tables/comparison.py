"""The paired test of every row against the baseline of its group (METHODS, "Paired test")."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ccr.errors import CcrError
from ccr.tables.rows import Row
from ccr.tables.significance import LEVEL, holm, sign_flip


def compare(rows: Sequence[Row]) -> list[Row]:
    """The rows with `p`, `difference` and `verdict`. A baseline, and a row without one, keeps None.

    Holm's correction is over all tests of the table.
    """
    pairs = {n: baseline for n, row in enumerate(rows) if (baseline := _baseline(row, rows)) is not None}
    corrected = holm([sign_flip(_difference(rows[n], baseline))[0] for n, baseline in pairs.items()])
    compared = list(rows)
    for (n, baseline), p in zip(pairs.items(), corrected.tolist(), strict=True):
        row = rows[n]
        compared[n] = replace(
            row,
            p=p,
            difference=row.mean["sumr"] - baseline.mean["sumr"],
            verdict=_verdict(row, baseline) if p < LEVEL else "",
        )
    return compared


def _baseline(row: Row, rows: Sequence[Row]) -> Row | None:
    """The baseline of the row's group: of the same translations, else the only one there is."""
    if row.settings["reference"]:
        return None
    candidates = [other for other in rows if other.settings["reference"] and other.group == row.group]
    same_mt = [other for other in candidates if other.settings["mt"] == row.settings["mt"]]
    candidates = same_mt or candidates
    return candidates[0] if len(candidates) == 1 else None


def _difference(row: Row, baseline: Row) -> np.ndarray:
    """(n,) per test item: contribution to SumR, averaged over seeds, minus the baseline's."""
    if not np.array_equal(row.items, baseline.items):
        raise CcrError(
            f"{row.settings['ranks'][0]} and {baseline.settings['ranks'][0]}: a paired test needs the same test "
            f"items on both sides ({len(row.items)} and {len(baseline.items)} found). Evaluate both again."
        )
    return row.scores.mean(axis=0) - baseline.scores.mean(axis=0)


def _verdict(row: Row, baseline: Row) -> str:
    """`higher` or `lower` where the sign of the SumR difference is the same in every seed that both have."""
    sumr, baseline_sumr = (
        dict(zip(side.settings["seeds"], side.scores.sum(axis=1), strict=True)) for side in (row, baseline)
    )
    differences = [sumr[seed] - baseline_sumr[seed] for seed in sumr if seed in baseline_sumr]
    if differences and all(d > 0 for d in differences):
        return "higher"
    if differences and all(d < 0 for d in differences):
        return "lower"
    return ""
