"""Tables of translation quality."""

from ccr.artifacts.jobs import Job
from ccr.tables import as_csv, as_html, as_json, as_markdown, figures, translations


def run(job: Job) -> None:
    """Write a table of translation quality. Settings: `table`, `rows` (see `translations.read_row`), `left_out`."""
    rows = [translations.read_row(settings) for settings in job.settings["rows"]]
    as_csv.write(translations.CSV, map(translations.values, rows), job.outputs["csv"])
    as_json.write(map(translations.values, rows), translations.IDENTITY, job.outputs["json"], job.key)
    as_markdown.write_translations(rows, job.settings, job.outputs["md"], job.key)
    as_html.write(job.outputs["md"], job.outputs["page"])
    figures.translation(rows, job.outputs["translation"])
