"""Tables of retrieval."""

from ccr.artifacts.jobs import Job
from ccr.tables import as_csv, as_html, as_json, as_latex, as_markdown, columns, figures
from ccr.tables.comparison import compare
from ccr.tables.rows import read_row


def run(job: Job) -> None:
    """Write a table of retrieval.

    Settings: `table` (its name), `rows` (one dict per row: identity, seeds, files, published figure; see
    `rows.read_row`), `left_out` (rows that cannot exist: a line each, with the reason).
    Raises `CcrError` for files that are missing, damaged, or do not match.
    """
    name = job.settings["table"]
    left_out = job.settings["left_out"]
    rows = compare([read_row(settings) for settings in job.settings["rows"]])
    as_csv.write(columns.csv(rows), map(columns.values, rows), job.outputs["csv"])
    as_json.write(map(columns.values, rows), columns.IDENTITY, job.outputs["json"], job.key)
    as_markdown.write(name, rows, left_out, job.outputs["md"], job.key)
    as_html.write(job.outputs["md"], job.outputs["page"])
    as_latex.write(name, rows, left_out, job.outputs["tex"], job.key)
    figures.training_curves(rows, job.outputs["curves"])
    figures.gradient_shares(rows, job.outputs["shares"])
    figures.recall(rows, job.outputs["recall"])
    figures.sumr(rows, job.outputs["sumr"])
