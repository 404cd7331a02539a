"""What a table shows: the only place to add, drop or rename a column."""

from collections.abc import Iterable

from ccr.retrieval.metrics import METRICS
from ccr.tables.rows import Base, Row

# what identifies a row; all except the terms are settings of the row
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

# and these if a row's runs were trained on another data set
ELSEWHERE = ("trained_on", "trained_langs", "zero_shot")

# metrics shown in .md and .tex: name, heading
TEXT_TO_VISUAL = {"t2v_r1": "R@1", "t2v_r5": "R@5", "t2v_r10": "R@10", "t2v_map": "mAP"}
VISUAL_TO_TEXT = {"v2t_r1": "R@1", "v2t_r5": "R@5", "v2t_r10": "R@10", "v2t_map": "mAP"}
MAIN = (*TEXT_TO_VISUAL, *VISUAL_TO_TEXT, "sumr")
# and those shown side by side for several target languages
RECALLS = [[name for name in side if "_r" in name] for side in (TEXT_TO_VISUAL, VISUAL_TO_TEXT)]
OVERVIEW = (*RECALLS[0], *RECALLS[1], "sumr")
HEADINGS = {**TEXT_TO_VISUAL, **VISUAL_TO_TEXT, "sumr": "SumR"}

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
        **dict(zip(ELSEWHERE, _elsewhere(row), strict=False)),
    }


def csv(rows: Iterable[Row]) -> tuple[str, ...]:
    """The columns of the csv."""
    return (*CSV, *ELSEWHERE) if any(row.trained_on for row in rows) else CSV


def _elsewhere(row: Row) -> tuple[str, ...]:
    if row.trained_on is None:
        return ()
    return row.trained_on["dataset"], "+".join(row.trained_on["langs"]), "yes" if row.trained_on["zero_shot"] else "no"


def trained_on(row: Row) -> str:
    """The data set and languages of runs that were trained on another data set: `vatex: en, zh`; empty for others."""
    if row.trained_on is None:
        return ""
    zero_shot = " (zero-shot)" if row.trained_on["zero_shot"] else ""
    return f"{row.trained_on['dataset']}: {', '.join(row.trained_on['langs'])}{zero_shot}"


def terms(row: Row) -> str:
    """The terms that a row was trained on: `vs+vt`."""
    return "+".join(row.terms)


def references(rows: Iterable[Row]) -> list[str]:
    """The methods that rows are compared with, each once."""
    return list(dict.fromkeys(row.compared_with for row in rows if row.compared_with))


def groups(rows: Iterable[Base]) -> list[list[Base]]:
    """The rows of each panel or sub-table: the same data set, features and languages, in table order."""
    found: dict[tuple, list[Base]] = {}
    for row in rows:
        found.setdefault(row.group, []).append(row)
    return list(found.values())


def panels(rows: Iterable[Row]) -> list[list[list[Row]]]:
    """Groups that differ only in their target language, together."""
    found: dict[tuple, list[list[Row]]] = {}
    for group in groups(rows):
        found.setdefault(group[0].group[:-1], []).append(group)
    return list(found.values())


def abreast(panel: list[list[Row]]) -> dict[str, list[Row | None]]:
    """Label -> its row in each group of a panel; None if the group has no such row."""
    labelled = [dict(zip(labels(group), group, strict=True)) for group in panel]
    names = dict.fromkeys(name for rows in labelled for name in rows)
    return {name: [rows.get(name) for rows in labelled] for name in names}


def overview(row: Row | None, published: bool) -> list[str]:
    """Means of the metrics in `OVERVIEW`, then the published SumR if shown; empty where there is no value."""
    cells = [f"{row.mean[metric]:.1f}" if row else "" for metric in OVERVIEW]
    return [*cells, published_sumr(row)] if published else cells


def published_sumr(row: Row | None) -> str:
    """The published SumR; empty if there is none."""
    return f"{row.published['sumr']:.1f}" if row and row.published else ""


def title(group: list[Base]) -> str:
    """Heading of rows: `vatex (SYNTHETIC), en to zh, descriptor`; without features if a table has none.

    Includes the data set that the runs were trained on, if it is another one.
    """
    settings = group[0].settings
    data = "SYNTHETIC" if group[0].synthetic else settings["data"]
    targets = dict.fromkeys(row.settings["target_lang"] for row in group)
    languages = f"{settings['source_lang']} to {', '.join(targets)}"
    home = settings.get("trained_on")
    rest = [settings.get("visual"), home and f"trained on {home['dataset']}"]
    return ", ".join([f"{settings['dataset']} ({data})", languages, *filter(None, rest)])


def labels(group: list[Row]) -> list[str]:
    """Name of each row in its group: the method, with its translations if the method occurs more than once."""
    methods = [row.settings["method"] for row in group]
    return [
        method if methods.count(method) == 1 else f"{method} ({row.settings['mt']})"
        for method, row in zip(methods, group, strict=True)
    ]


def number(row: Row, metric: str, plus_minus: str = " ± ") -> str:
    """Mean, with the deviation if there is one, to one decimal."""
    spread = "" if row.std is None else f"{plus_minus}{row.std[metric]:.1f}"
    return f"{row.mean[metric]:.1f}{spread}"


def p_value(row: Row, at_most: str = "≤ ") -> str:
    """p, or its bound, with the direction if it may be claimed; empty for a row without p."""
    if row.p is None:
        return ""
    return (at_most if row.p_is_bound else "") + f"{row.p:.4f}" + (f" ({row.verdict})" if row.verdict else "")
