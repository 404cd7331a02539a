"""`results/{table}.md`: the table for people, with all that is needed to read it rightly."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ccr.artifacts import atomic
from ccr.tables import alignments, columns
from ccr.tables.rows import Row
from ccr.tables.significance import DRAWS

SELECTED_ON = {
    "target": "human-written validation captions of the target language",
    "mt": "machine-translated validation captions",
}


def write(name: str, rows: Sequence[Row], left_out: Sequence[str], path: str, key: str) -> None:
    """Write the table: a part per group, the rows that cannot exist, notes, and where each row comes from."""
    parts = [
        _heading(name, rows),
        *(_group(group) for group in columns.groups(rows)),
        _left_out(left_out),
        _notes(rows),
        _sources(rows, key),
    ]
    with atomic(path) as temporary:
        temporary.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def write_alignments(rows: Sequence[alignments.Row], settings: Mapping[str, Any], path: str, key: str) -> None:
    """Write a table of word alignment. Settings: those of its job."""
    solver = ", ".join(f"{name} {value}" for name, value in settings["solver"].items())
    notes = [
        "Words are linked that are each other's first choice in the plan of transport between the states of a val "
        "caption's words and of its clean translation's. A link is right when it lies in a pair of phrases that the "
        "true alignment links; precision: share of links that are right; recall: share of linked phrases in which a "
        "link lies; AER: 1 - (right links + phrases found) / (links + phrases).",
        f"Plans, the same for all teachers: {solver}.",
        "a ± b: mean and sample standard deviation over seeds; no deviation for one seed.",
    ]
    parts = [
        _heading(settings["table"], rows),
        *(_aligned(group) for group in columns.groups(rows)),
        _left_out(settings["left_out"]),
        "\n".join(["## Notes", "", *(f"- {note}" for note in notes)]),
        _sources(rows, key),
    ]
    with atomic(path) as temporary:
        temporary.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def _aligned(group: list[alignments.Row]) -> str:
    head = ["teacher", "mt", "noise rate", "seeds", "precision", "recall", "AER"]
    lines = [_line(head), _line(["---"] * 2 + ["---:"] * 5)]
    for row in group:
        facts = [row.settings["teacher"], row.settings["mt"], f"{row.settings['noise_rate']:g}"]
        numbers = [alignments.number(row, metric) for metric in alignments.METRICS]
        lines.append(_line([*facts, str(len(row.settings["seeds"])), *numbers]))
    counts = "{n_pairs} sentence pairs, {n_phrases} linked pairs of phrases.".format(**group[0].counts)
    return "\n".join([f"## {columns.title(group)}", "", counts, "", *lines])


def _heading(name: str, rows: Sequence[Row]) -> str:
    synthetic = sorted({row.settings["dataset"] for row in rows if row.synthetic})
    if not synthetic:
        return f"# {name}"
    part = "" if all(row.synthetic for row in rows) else "partly "
    return (
        f"# {name} ({part}SYNTHETIC data)\n\n"
        f"**{', '.join(synthetic)}: SYNTHETIC data**, a made-up mini-world in that data set's layout. These numbers "
        "cannot be compared with published ones."
    )


def _group(group: list[Row]) -> str:
    metrics = {**columns.TEXT_TO_VISUAL, **columns.VISUAL_TO_TEXT}
    directions = [f"{'t2v' if metric in columns.TEXT_TO_VISUAL else 'v2t'} {name}" for metric, name in metrics.items()]
    published = any(row.published for row in group)
    references = columns.references(group)
    head = ["method", "mt", "terms", "seeds", *directions, "SumR"]
    head += ["compared with"] if len(references) > 1 else []
    head += [f"vs {references[0]}" if len(references) == 1 else "difference", "p"]
    head += ["published SumR"] if published else []
    lines = [_line(head), _line(["---"] * 4 + ["---:"] * (len(head) - 4))]
    for row in group:
        cells = [
            row.settings["method"],
            row.settings["mt"],
            columns.terms(row),
            str(len(row.settings["seeds"])),
        ]
        cells += [columns.number(row, metric) for metric in columns.MAIN]
        cells += [row.compared_with or ""] if len(references) > 1 else []
        cells += ["" if row.difference is None else f"{row.difference:+.1f}", columns.p_value(row)]
        cells += [f"{row.published['sumr']:.1f}" if row.published else ""] if published else []
        lines.append(_line(cells))
    encoders = ", ".join(dict.fromkeys(row.settings["text_encoder"] for row in group))
    first = group[0]
    size = (
        f"Test set: {first.n_items} items, {first.n_queries} captions. Text encoder: {encoders}. "
        f"**Chance level: SumR {first.chance:.1f}** (a random order)."
    )
    return "\n".join([f"## {columns.title(group)}", "", size, "", *lines])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _left_out(left_out: Sequence[str]) -> str:
    return "\n".join(["## Rows that cannot exist", "", *(f"- {line}" for line in left_out)]) if left_out else ""


def _notes(rows: Sequence[Row]) -> str:
    references = columns.references(rows)
    reference = f"`{references[0]}`" if len(references) == 1 else "the method that the row is compared with,"
    chosen: dict[str, list[str]] = {}
    for row in rows:
        methods = chosen.setdefault(row.settings["select_on"], [])
        if row.settings["method"] not in methods:
            methods.append(row.settings["method"])
    notes = [
        "R@k, mAP: percent. SumR: the sum of R@1, R@5 and R@10 of both directions, at most 600. t2v: captions look "
        "for items; v2t: items look for captions. Ties count against the method.",
        "a ± b: mean and sample standard deviation over seeds; no deviation for one seed.",
        f"p: two-sided paired sign-flip permutation test against {reference} of the same data, features and language "
        f"(of the same translations where there are several); unit: the test item, score: its contribution to SumR, "
        f"averaged over seeds; {DRAWS:,} draws; Holm's correction over the table. It speaks about other test items, "
        f"not about other trainings. (higher) and (lower) stand where p < .05 and the sign is the same in every seed.",
    ]
    for select_on, methods in chosen.items():
        where = SELECTED_ON.get(select_on, select_on)
        notes.append(f"Models were selected on {where}" + (f": {', '.join(methods)}." if len(chosen) > 1 else "."))
    sources = dict.fromkeys(row.published["source"] for row in rows if row.published)
    if sources:
        notes.append(f"Published figures: {'; '.join(sources)}.")
    return "\n".join(["## Notes", "", *(f"- {note}" for note in notes)])


def _sources(rows: Sequence[Row], key: str) -> str:
    lines = [_line(["key", "metrics", "key of the evaluation"]), _line(["---"] * 3)]
    for row in rows:
        for path, seed_key in zip(row.settings["metrics"], row.seed_keys, strict=True):
            lines.append(_line([row.key, path, seed_key]))
    return "\n".join(["## Where the numbers come from", "", f"Key of this table: {key or 'none'}.", "", *lines])
