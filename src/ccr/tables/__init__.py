"""The last room: the evaluations that a table names become `results/{table}.csv`, .json, .md, .tex and figures.

`columns` says what a table shows; `rows` reads the files; `comparison` is the paired test; `alignments` and
`translations` are all of these for tables of word alignment and of translation quality; each `as_*` module writes one
format.
"""

from ccr.artifacts import Job
from ccr.tables import alignments, as_csv, as_html, as_json, as_latex, as_markdown, columns, figures, translations
from ccr.tables.comparison import compare
from ccr.tables.rows import read_row


def run(job: Job) -> None:
    """Write every output of a table job: of the kind that its figure, `aer` or `translation`, says, else retrieval."""
    kinds = {"aer": _alignments, "translation": _translations}
    next((make for figure, make in kinds.items() if figure in job.outputs), _retrieval)(job)


def _alignments(job: Job) -> None:
    """Settings: `table`, `rows` (see `alignments.read_row`), `solver` of all plans, `left_out`."""
    rows = [alignments.read_row(settings) for settings in job.settings["rows"]]
    as_csv.write(alignments.CSV, map(alignments.values, rows), job.outputs["csv"])
    as_json.write(map(alignments.values, rows), alignments.IDENTITY, job.outputs["json"], job.key)
    as_markdown.write_alignments(rows, job.settings, job.outputs["md"], job.key)
    figures.aer(rows, job.outputs["aer"])


def _translations(job: Job) -> None:
    """Settings: `table`, `rows` (see `translations.read_row`), `left_out`."""
    rows = [translations.read_row(settings) for settings in job.settings["rows"]]
    as_csv.write(translations.CSV, map(translations.values, rows), job.outputs["csv"])
    as_json.write(map(translations.values, rows), translations.IDENTITY, job.outputs["json"], job.key)
    as_markdown.write_translations(rows, job.settings, job.outputs["md"], job.key)
    as_html.write(job.outputs["md"], job.outputs["page"])
    figures.translation(rows, job.outputs["translation"])


def _retrieval(job: Job) -> None:
    """Write a table of retrieval.

    Settings: `table` (its name), `rows` (one dict per row: identity, seeds, files, published figure; see
    `rows.read_row`), `left_out` (rows that cannot exist: a line each, with the reason).
    Raises `CcrError` for files that are missing, torn, or do not belong together.
    """
    name = job.settings["table"]
    left_out = job.settings["left_out"]
    rows = compare([read_row(settings) for settings in job.settings["rows"]])
    as_csv.write(columns.CSV, map(columns.values, rows), job.outputs["csv"])
    as_json.write(map(columns.values, rows), columns.IDENTITY, job.outputs["json"], job.key)
    as_markdown.write(name, rows, left_out, job.outputs["md"], job.key)
    as_html.write(job.outputs["md"], job.outputs["page"])
    as_latex.write(name, rows, left_out, job.outputs["tex"], job.key)
    figures.training_curves(rows, job.outputs["curves"])
    figures.gradient_shares(rows, job.outputs["shares"])
    figures.recall(rows, job.outputs["recall"])
    figures.sumr(rows, job.outputs["sumr"])
