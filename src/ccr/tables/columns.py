"""What a table shows: the one place to add, drop or rename a column."""

from collections.abc import Iterable

from ccr.retrieval.metrics import METRICS
from ccr.tables.rows import Base, Row

# what a row is; all of them but the terms are settings of the row
IDENTITY = (
    "data",
    "dataset",
    "mt",
    "visual",
    "text_encoder",
    "source_lang",
    "target_lang",
    "method",
    "terms",
)

# the csv: identity, every metric with its deviation over seeds, and these
EVIDENCE = ("noise_rate", "n_seeds", "compared_with", "p_vs_baseline", "published_sumr", "published_source", "key")
CSV = (*IDENTITY, *(name for metric in METRICS for name in (metric, f"{metric}_std")), *EVIDENCE)

# metrics shown to people, in .md and .tex: name, heading
TEXT_TO_VISUAL = {"t2v_r1": "R@1", "t2v_r5": "R@5", "t2v_r10": "R@10", "t2v_map": "mAP"}
VISUAL_TO_TEXT = {"v2t_r1": "R@1", "v2t_r5": "R@5", "v2t_r10": "R@10", "v2t_map": "mAP"}
MAIN = (*TEXT_TO_VISUAL, *VISUAL_TO_TEXT, "sumr")

DECIMALS = 4  # of metrics in .csv and .json
P_DECIMALS = 6


def values(row: Row) -> dict[str, str | float | int | None]:
    """Every column of the csv for one row; None is an empty cell."""
    published = row.published or {"sumr": None, "source": None}
    identity = {**row.settings, "terms": terms(row)}
    return {
        **{name: identity[name] for name in IDENTITY},
        **{name: round(row.mean[name], DECIMALS) for name in METRICS},
        **{f"{name}_std": None if row.std is None else round(row.std[name], DECIMALS) for name in METRICS},
        "noise_rate": row.settings["noise_rate"],
        "n_seeds": len(row.settings["seeds"]),
        "compared_with": row.compared_with,
        "p_vs_baseline": None if row.p is None else round(row.p, P_DECIMALS),
        "published_sumr": published["sumr"],
        "published_source": published["source"],
        "key": row.key,
    }


def terms(row: Row) -> str:
    """The terms that a row was trained on: `vs+vt`."""
    return "+".join(row.terms)


def references(rows: Iterable[Row]) -> list[str]:
    """The methods that rows are compared with, each once."""
    return list(dict.fromkeys(row.compared_with for row in rows if row.compared_with))


def groups(rows: Iterable[Base]) -> list[list[Base]]:
    """Rows that one panel or sub-table holds: the same data set, features and languages, in table order."""
    found: dict[tuple, list[Base]] = {}
    for row in rows:
        found.setdefault(row.group, []).append(row)
    return list(found.values())


def title(group: list[Base]) -> str:
    """Heading of a group: `vatex (SYNTHETIC), en to zh, descriptor`; without features where a table has none."""
    settings = group[0].settings
    data = "SYNTHETIC" if group[0].synthetic else settings["data"]
    languages = f"{settings['source_lang']} to {settings['target_lang']}"
    return ", ".join([f"{settings['dataset']} ({data})", languages, *filter(None, [settings.get("visual")])])


def labels(group: list[Row]) -> list[str]:
    """Name of each row in its group: the method, with its translations where the method stands there twice."""
    methods = [row.settings["method"] for row in group]
    return [
        method if methods.count(method) == 1 else f"{method} ({row.settings['mt']})"
        for method, row in zip(methods, group, strict=True)
    ]


def number(row: Row, metric: str, plus_minus: str = " ± ") -> str:
    """Mean, and deviation where there is one, with one decimal."""
    spread = "" if row.std is None else f"{plus_minus}{row.std[metric]:.1f}"
    return f"{row.mean[metric]:.1f}{spread}"


def p_value(row: Row) -> str:
    """p with the direction, where that may be claimed; empty for a row that has none."""
    if row.p is None:
        return ""
    return f"{row.p:.4f}" + (f" ({row.verdict})" if row.verdict else "")
