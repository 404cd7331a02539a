"""`results/{table}.md`: the human-readable table, with everything needed to interpret it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import regex

from ccr.artifacts.files import atomic
from ccr.tables import alignments, columns, translations
from ccr.tables.rows import Base, Row
from ccr.tables.significance import DRAWS

SELECTED_ON = {
    "source": "human-written validation captions of the source language",
    "target": "human-written validation captions of the target language",
    "mt": "machine-translated validation captions",
}
SHOWN, LISTED = 200, 2000  # most letters shown of a sentence; of a longer list
RIGHT_TO_LEFT = regex.compile(r"[\p{Bidi_Class=R}\p{Bidi_Class=AL}]")


def write(name: str, rows: Sequence[Row], left_out: Sequence[str], path: str, key: str) -> None:
    """Write the table: a part per group, the rows that cannot exist, notes, and where each row comes from.

    Groups that differ only in their target language are preceded by a part with all of their languages side by side.
    """
    parts = [
        _heading(name, rows),
        *(part for panel in columns.panels(rows) for part in _panel(panel)),
        _left_out(left_out),
        _notes(rows),
        _sources(rows, key),
    ]
    _write(parts, path)


def write_alignments(rows: Sequence[alignments.Row], settings: Mapping[str, Any], path: str, key: str) -> None:
    """Write a table of word alignment. `settings`: those of its job."""
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
        _bullets(notes),
        _sources(rows, key),
    ]
    _write(parts, path)


def write_translations(rows: Sequence[translations.Row], settings: Mapping[str, Any], path: str, key: str) -> None:
    """Write a table of translation quality, and the worst sentences of each row. `settings`: those of its job."""
    notes = [
        "Back: the back-translations of train and val against their source captions. Human: the translations of all "
        "splits against what people made of the same source captions. An empty cell: nothing to measure.",
        "Length: characters of the translations by those of their sources, white space not counted. Empty: percent of "
        "the captions that the engine refused; of the others: copied: equal to the source text; repeated: equal to "
        "the translation of another source text; script: most letters are not of the target language's script; "
        "language: more like the source language to py3langid, an estimate, where both share a script.",
        *_signatures(rows),
        *_refused(rows),
    ]
    parts = [
        _heading(settings["table"], rows),
        *(_translated(group) for group in columns.groups(rows)),
        _left_out(settings["left_out"]),
        _bullets(notes),
        *(_worst(row) for row in rows if row.quality["worst"]),
        _sources(rows, key),
    ]
    _write(parts, path)


def _write(parts: Sequence[str], path: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def _bullets(notes: Sequence[str]) -> str:
    return "\n".join(["## Notes", "", *(f"- {note}" for note in notes)])


def _translated(group: list[translations.Row]) -> str:
    head = ["mt", "engine", "noise rate", "captions"]
    for against in ("back", "human"):
        head += [f"{against}: n", f"{against}: BLEU", f"{against}: chrF"]
    head += ["length", "empty", "copied", "repeated", "script", "language"]
    lines = [_line(head), _line(["---"] * 2 + ["---:"] * (len(head) - 2))]
    for row in group:
        numbers = translations.values(row)
        cells = [
            row.settings["mt"],
            _data(numbers["engine"] or ""),
            f"{row.settings['noise_rate']:g}",
            str(numbers["n"]),
        ]
        for name in translations.COMPARED:
            cells.append(_number(numbers[name], "{}" if name.endswith("_n") else "{:.1f}"))
        cells.append(_number(numbers["length_ratio"], "{:.2f}"))
        cells += [_number(row.quality["shares"][name], "{:.2%}") for name in translations.SHARES]
        lines.append(_line(cells))
    return "\n".join([f"## {columns.title(group)}", "", *lines])


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _signatures(rows: Sequence[translations.Row]) -> list[str]:
    """A note for each sacreBLEU signature."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for comparison, against in zip(translations.COMPARISONS, ("back", "human"), strict=True):
            for metric, signature in (row.quality[comparison] or {"signatures": {}})["signatures"].items():
                what = f"{against} ({row.settings['source_lang']} to {row.settings['target_lang']})"
                found.setdefault(f"{metric}: `{signature}`", []).append(what)
    return [f"sacreBLEU, {signature}: {', '.join(dict.fromkeys(what))}." for signature, what in found.items()]


def _refused(rows: Sequence[translations.Row]) -> list[str]:
    """A note for each row and direction with refused captions, with the recorded reasons."""
    notes = []
    for row in rows:
        for role, way in (("refused", "forward"), ("refused_back", "back")):
            refused = row.quality[role]
            if refused["n"]:
                reasons = "; ".join(f"{_data(caption)}: {_data(why)}" for caption, why in refused["reasons"].items())
                more = "; ..." if refused["n"] > len(refused["reasons"]) else "."
                what = f"{columns.title([row])}, {row.settings['mt']}, {way}"
                notes.append(f"Refused, {what}: {refused['n']:,} captions. {reasons}{more}")
    return notes


def _worst(row: translations.Row) -> str:
    """The worst sentences, as data: none of their characters is interpreted as Markdown."""
    shown = ["source", "translation", "back" if row.quality["worst_by"] == "round_trip" else "human"]
    lines = [_line(["chrF", "caption", *shown]), _line(["---:"] + ["---"] * 4)]
    for caption in row.quality["worst"]:
        texts = [_data(caption[name]) for name in ("caption_id", *shown)]
        lines.append(_line([f"{caption['score']:.1f}", *texts]))
    return "\n".join([f"## Worst sentences: {columns.title([row])}, {row.settings['mt']}", "", *lines])


def _data(text: str, shown: int = SHOWN) -> str:
    letters = regex.findall(r"\X", " ".join(text.split()))  # a combining mark stays with its letter
    text = "".join(letters if len(letters) <= shown else [*letters[: shown - 1], "…"])
    text = re.sub(r"([\\`*_\[\]<>&~$])", r"\\\1", text)
    # isolates right-to-left text: its full stop stays with it, and the text around it keeps its order
    return f"\u2068{text}\u2069" if RIGHT_TO_LEFT.search(text) else text


def _aligned(group: list[alignments.Row]) -> str:
    head = ["teacher", "mt", "noise rate", "seeds", "precision", "recall", "AER"]
    lines = [_line(head), _line(["---"] * 2 + ["---:"] * 5)]
    for row in group:
        facts = [row.settings["teacher"], row.settings["mt"], f"{row.settings['noise_rate']:g}"]
        numbers = [alignments.number(row, metric) for metric in alignments.METRICS]
        lines.append(_line([*facts, str(len(row.settings["seeds"])), *numbers]))
    counts = "{n_pairs} sentence pairs, {n_phrases} linked pairs of phrases.".format(**group[0].counts)
    return "\n".join([f"## {columns.title(group)}", "", counts, "", *lines])


def _heading(name: str, rows: Sequence[Base]) -> str:
    synthetic = sorted({row.settings["dataset"] for row in rows if row.synthetic})
    if not synthetic:
        return f"# {name}"
    part = "" if all(row.synthetic for row in rows) else "partly "
    return (
        f"# {name} ({part}SYNTHETIC data)\n\n"
        f"**{', '.join(synthetic)}: SYNTHETIC data**, a made-up mini-world in that data set's layout. These numbers "
        "cannot be compared with published ones."
    )


def _panel(panel: list[list[Row]]) -> list[str]:
    groups = [_group(group) for group in panel]
    return groups if len(panel) == 1 else [_overview(panel), *groups]


def _overview(panel: list[list[Row]]) -> str:
    rows = [row for group in panel for row in group]
    published = any(row.published for row in rows)
    names = [f"{metric[:3]} {columns.HEADINGS[metric]}" for metric in columns.OVERVIEW[:-1]]
    names += ["SumR", "published SumR"] if published else ["SumR"]
    head = ["method", *(f"{group[0].settings['target_lang']} {name}" for group in panel for name in names)]
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for label, found in columns.abreast(panel).items():
        lines.append(_line([label, *(cell for row in found for cell in columns.overview(row, published))]))
    note = "Means over seeds, all target languages. Below, each with deviations, mAP, tests and chance level."
    return "\n".join([f"## {columns.title(rows)}", "", note, "", *lines])


def _group(group: list[Row]) -> str:
    metrics = {**columns.TEXT_TO_VISUAL, **columns.VISUAL_TO_TEXT}
    directions = [f"{'t2v' if metric in columns.TEXT_TO_VISUAL else 'v2t'} {name}" for metric, name in metrics.items()]
    published = any(row.published for row in group)
    references = columns.references(group)
    elsewhere = any(row.trained_on for row in group)
    head = ["method", "mt", *(["trained on"] if elsewhere else []), "terms", "seeds"]
    text = len(head)
    head += [*directions, "SumR"]
    head += ["compared with"] if len(references) > 1 else []
    head += [f"vs {references[0]}" if len(references) == 1 else "difference", "p"]
    head += ["published SumR"] if published else []
    lines = [_line(head), _line(["---"] * text + ["---:"] * (len(head) - text))]
    for row in group:
        cells = [
            row.settings["method"],
            row.settings["mt"],
            *([columns.trained_on(row)] if elsewhere else []),
            columns.terms(row),
            str(len(row.settings["seeds"])),
        ]
        cells += [columns.number(row, metric) for metric in columns.MAIN]
        cells += [row.compared_with or ""] if len(references) > 1 else []
        cells += ["" if row.difference is None else f"{row.difference:+.1f}", columns.p_value(row)]
        cells += [columns.published_sumr(row)] if published else []
        lines.append(_line(cells))
    encoders = ", ".join(dict.fromkeys(_data(row.settings["text_encoder"]) for row in group))
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
        f"not about other trainings. (higher) and (lower) stand where p < .05 and the sign is the same in every seed. "
        f"≤ stands where no draw was as far out: more draws would give a smaller p.",
    ]
    for select_on, methods in chosen.items():
        where = SELECTED_ON.get(select_on, select_on)
        notes.append(f"Models were selected on {where}" + (f": {', '.join(methods)}." if len(chosen) > 1 else "."))
    if any(row.trained_on for row in rows):
        notes.append(
            "trained on: the data set and the languages of runs that are evaluated on the test set of another one. "
            "zero-shot: the language of the row is none of these."
        )
    notes += _leaks(rows)
    notes += _untranslated(rows)
    sources = dict.fromkeys(row.published["source"] for row in rows if row.published)
    if sources:
        notes.append(f"Published figures: {'; '.join(sources)}.")
    return _bullets(notes)


def _leaks(rows: Sequence[Row]) -> list[str]:
    """A note for each data set whose splits share content."""
    found = {row.settings["dataset"]: row.leaks for row in rows if row.leaks}
    return [f"In two splits of {dataset}: {_data('; '.join(leaks), LISTED)}." for dataset, leaks in found.items()]


def _untranslated(rows: Sequence[Row]) -> list[str]:
    """A note for each file of translations that lacks captions because the engine refused them."""
    found = {path: refused for row in rows for path, refused in row.refused.items()}
    notes = []
    for path, refused in found.items():
        reasons = "; ".join(f"{caption}: {why}" for caption, why in refused.items())
        notes.append(f"Captions without a translation in {path}: {len(refused):,}. {_data(reasons, LISTED)}")
    return notes


def _sources(rows: Sequence[Base], key: str) -> str:
    lines = [_line(["key", "metrics", "key of the evaluation"]), _line(["---"] * 3)]
    for row in rows:
        for path, seed_key in zip(row.settings["metrics"], row.seed_keys, strict=True):
            lines.append(_line([row.key, path, seed_key]))
    return "\n".join(["## Where the numbers come from", "", f"Key of this table: {key or 'none'}.", "", *lines])
