"""`results/figures/{table}/table.html`: the Markdown table as a page, for Snakemake's report."""

from pathlib import Path

from markdown_it import MarkdownIt

from ccr.artifacts.files import atomic

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<style>
body {{ font: 14px/1.4 sans-serif; margin: 1em; color: #222; background: #fff }}
table {{ border-collapse: collapse; margin: 1em 0 }}
th, td {{ padding: .2em .6em; border-bottom: 1px solid #ddd; white-space: nowrap }}
</style>
{body}</html>
"""


def write(markdown: str, path: str) -> None:
    """Render the file that `as_markdown` wrote."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(Path(markdown).read_text(encoding="utf-8"))
    with atomic(path) as temporary:
        temporary.write_text(PAGE.format(body=body), encoding="utf-8")
