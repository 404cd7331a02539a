r"""`results/{table}.tex`: the table for papers; needs `\usepackage{booktabs}`."""

from collections.abc import Sequence
from itertools import accumulate

from ccr.artifacts.files import atomic
from ccr.tables import columns
from ccr.tables.rows import Row

PLUS_MINUS = r" \pm "
_SPECIAL = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)


def write(name: str, rows: Sequence[Row], left_out: Sequence[str], path: str, key: str) -> None:
    """Write a `table` environment per group; rows that cannot exist are named under the last.

    Groups that differ only in their target language are preceded by a `table*` with all of their languages.
    """
    parts = [
        f"% {name}, key {key or 'none'}. Made by ccr: do not edit.",
        *(part for panel in columns.panels(rows) for part in _panel(name, panel)),
    ]
    if left_out:
        parts.append(_left_out(left_out))
    with atomic(path) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _panel(name: str, panel: list[list[Row]]) -> list[str]:
    groups = [_group(name, group) for group in panel]
    return groups if len(panel) == 1 else [_overview(name, panel), *groups]


def _overview(name: str, panel: list[list[Row]]) -> str:
    rows = [row for group in panel for row in group]
    published = any(row.published for row in rows)
    head = [columns.HEADINGS[metric] for metric in columns.OVERVIEW] + (["publ."] if published else [])
    text, visual = map(len, columns.RECALLS)
    sides = [(text, "text to visual"), (visual, "visual to text"), (len(head) - text - visual, "")]
    lines = []
    for label, found in columns.abreast(panel).items():
        cells = [escape(label), *(cell for row in found for cell in columns.overview(row, published))]
        lines.append(f"{' & '.join(cells)} \\\\")
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering\scriptsize\setlength{\tabcolsep}{2pt}",
            rf"\caption{{{escape(columns.title(rows))}. Means over seeds.}}",
            rf"\label{{tab:{name}:{':'.join(rows[0].group[1:-1])}}}",
            rf"\begin{{tabular}}{{l{'r' * len(head) * len(panel)}}}",
            r"\toprule",
            *_spans([(1, ""), *((len(head), group[0].settings["target_lang"]) for group in panel)]),
            *_spans([(1, ""), *sides * len(panel)]),
            rf"{' & '.join(['method', *head * len(panel)])} \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
        ]
    )


def _spans(spans: Sequence[tuple[int, str]]) -> list[str]:
    """A line of headings, each spanning a number of columns, and a line with the rules under the non-empty ones."""
    cells = [rf"\multicolumn{{{width}}}{{c}}{{{text}}}" for width, text in spans]
    ends = list(accumulate(width for width, _ in spans))
    rules = [
        rf"\cmidrule(lr){{{end - width + 1}-{end}}}" for (width, text), end in zip(spans, ends, strict=True) if text
    ]
    return [rf"{' & '.join(cells)} \\", " ".join(rules)]


def _group(name: str, group: list[Row]) -> str:
    n_text, n_visual = len(columns.TEXT_TO_VISUAL), len(columns.VISUAL_TO_TEXT)
    published = any(row.published for row in group)
    references = columns.references(group)
    reference = escape(references[0]) if len(references) == 1 else "the method that the row is compared with"
    elsewhere = any(row.trained_on for row in group)
    names = ["method", "mt", *(["trained on"] if elsewhere else [])]
    head = [*names, *columns.TEXT_TO_VISUAL.values(), *columns.VISUAL_TO_TEXT.values(), "SumR"]
    head += ["compared with", "$p$"] if len(references) > 1 else ["$p$"]
    head += ["published"] if published else []
    n_names, n_rest = len(names), len(head) - len(names) - n_text - n_visual
    lines = []
    for row in group:
        cells = [escape(row.settings["method"]), escape(row.settings["mt"])]
        cells += [escape(columns.trained_on(row))] if elsewhere else []
        cells += [f"${columns.number(row, metric, PLUS_MINUS)}$" for metric in columns.MAIN]
        cells += [escape(row.compared_with or "")] if len(references) > 1 else []
        cells += [columns.p_value(row, r"$\leq$ ")]
        cells += [columns.published_sumr(row)] if published else []
        lines.append(f"{' & '.join(cells)} \\\\")
    caption = (
        f"{escape(columns.title(group))}. Chance level: SumR {group[0].chance:.1f}. "
        f"$p$: paired permutation test over test items against {reference}, Holm-corrected."
    )
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{name}:{':'.join(group[0].group[1:])}}}",
            rf"\begin{{tabular}}{{{'l' * n_names}{'r' * (len(head) - n_names)}}}",
            r"\toprule",
            *_spans([(n_names, ""), (n_text, "text to visual"), (n_visual, "visual to text"), (n_rest, "")]),
            rf"{' & '.join(head)} \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _left_out(left_out: Sequence[str]) -> str:
    return rf"{{\footnotesize Rows that cannot exist: {'; '.join(map(escape, left_out))}.\par}}"


def escape(text: str) -> str:
    """`text` with LaTeX's special characters escaped."""
    return text.translate(_SPECIAL)
