r"""`results/{table}.tex`: the table for papers; needs `\usepackage{booktabs}`."""

from collections.abc import Sequence

from ccr.artifacts import atomic
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
    """Write a `table` environment per group; rows that cannot exist are named under the last."""
    parts = [
        f"% {name}, key {key or 'none'}. Made by ccr: do not edit.",
        *(_group(name, group) for group in columns.groups(rows)),
    ]
    if left_out:
        parts.append(_left_out(left_out))
    with atomic(path) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _group(name: str, group: list[Row]) -> str:
    n_text, n_visual = len(columns.TEXT_TO_VISUAL), len(columns.VISUAL_TO_TEXT)
    published = any(row.published for row in group)
    references = columns.references(group)
    reference = escape(references[0]) if len(references) == 1 else "the method that the row is compared with"
    head = ["method", "mt", *columns.TEXT_TO_VISUAL.values(), *columns.VISUAL_TO_TEXT.values(), "SumR"]
    head += ["compared with", "$p$"] if len(references) > 1 else ["$p$"]
    head += ["published"] if published else []
    lines = []
    for row in group:
        cells = [escape(row.settings["method"]), escape(row.settings["mt"])]
        cells += [f"${columns.number(row, metric, PLUS_MINUS)}$" for metric in columns.MAIN]
        cells += [escape(row.compared_with or "")] if len(references) > 1 else []
        cells += [columns.p_value(row)]
        cells += [f"{row.published['sumr']:.1f}" if row.published else ""] if published else []
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
            rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
            r"\toprule",
            rf"& & \multicolumn{{{n_text}}}{{c}}{{text to visual}} & "
            rf"\multicolumn{{{n_visual}}}{{c}}{{visual to text}} {'& ' * (len(head) - 2 - n_text - n_visual)}\\",
            rf"\cmidrule(lr){{3-{2 + n_text}}} \cmidrule(lr){{{3 + n_text}-{2 + n_text + n_visual}}}",
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
    """`text` with LaTeX's special characters made harmless."""
    return text.translate(_SPECIAL)
