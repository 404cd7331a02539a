"""The paired test of every row against its reference (docs/methods.md, "Metrics and the paired test")."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ccr.errors import CcrError
from ccr.tables.rows import Row
from ccr.tables.significance import LEVEL, SMALLEST, holm, sign_flip


def compare(rows: Sequence[Row]) -> list[Row]:
    """The rows with `compared_with`, `difference`, `p` and `verdict`. A row without a reference keeps None.

    One seed gives no p: the test is over test items and cannot see how training runs differ. Holm's correction is over
    all tests of the table.
    """
    pairs = {n: reference for n, row in enumerate(rows) if (reference := _reference(row, rows)) is not None}
    differences = {n: _difference(rows[n], reference) for n, reference in pairs.items()}
    tested = [n for n, reference in pairs.items() if min(len(rows[n].scores), len(reference.scores)) > 1]
    raw = [sign_flip(differences[n])[0] for n in tested]
    p_values = dict(zip(tested, holm(raw).tolist(), strict=True))
    at_most = {n for n, p in zip(tested, raw, strict=True) if p <= SMALLEST}
    compared = list(rows)
    for n, reference in pairs.items():
        row, p = rows[n], p_values.get(n)
        compared[n] = replace(
            row,
            compared_with=reference.settings["method"],
            difference=row.mean["sumr"] - reference.mean["sumr"],
            p=p,
            p_is_bound=n in at_most,
            verdict=_verdict(row, reference) if p is not None and p < LEVEL else "",
        )
    return compared


def _reference(row: Row, rows: Sequence[Row]) -> Row | None:
    """The row of the group that `row` is compared with: the one with the same translations, else the only one."""
    name = row.settings["reference"]
    candidates = [other for other in rows if other.settings["method"] == name and other.group == row.group]
    same_mt = [other for other in candidates if other.settings["mt"] == row.settings["mt"]]
    candidates = same_mt or candidates
    return candidates[0] if len(candidates) == 1 else None


def _difference(row: Row, reference: Row) -> np.ndarray:
    """(n,) per test item: contribution to SumR, averaged over seeds, minus the reference's."""
    if not np.array_equal(row.items, reference.items):
        raise CcrError(
            f"{row.settings['ranks'][0]} and {reference.settings['ranks'][0]}: a paired test needs the same test "
            f"items on both sides ({len(row.items)} and {len(reference.items)} found). Evaluate both again."
        )
    return row.scores.mean(axis=0) - reference.scores.mean(axis=0)


def _verdict(row: Row, reference: Row) -> str:
    """`higher` or `lower` if the sign of the SumR difference is the same in every seed that both have; else empty."""
    sumr, reference_sumr = (
        dict(zip(side.settings["seeds"], side.scores.sum(axis=1), strict=True)) for side in (row, reference)
    )
    differences = [sumr[seed] - reference_sumr[seed] for seed in sumr if seed in reference_sumr]
    if differences and all(d > 0 for d in differences):
        return "higher"
    if differences and all(d < 0 for d in differences):
        return "lower"
    return ""
