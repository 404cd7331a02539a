"""Tables of word alignment."""

from ccr.artifacts.jobs import Job
from ccr.tables import alignments, as_csv, as_json, as_markdown, figures


def run(job: Job) -> None:
    """Write a table of word alignment. Settings: `table`, `rows` (see `alignments.read_row`), `solver`, `left_out`."""
    rows = [alignments.read_row(settings) for settings in job.settings["rows"]]
    as_csv.write(alignments.CSV, map(alignments.values, rows), job.outputs["csv"])
    as_json.write(map(alignments.values, rows), alignments.IDENTITY, job.outputs["json"], job.key)
    as_markdown.write_alignments(rows, job.settings, job.outputs["md"], job.key)
    figures.aer(rows, job.outputs["aer"])
