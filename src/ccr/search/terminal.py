"""`ccr search`: a query in the terminal, or the page."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ccr.artifacts.jobs import Job
from ccr.search.collection import open_collection
from ccr.search.searcher import Searcher


def searchers(
    runs: Sequence[Path], files: Sequence[Mapping[str, str]], features: str, job: Job | None, split: str, batch: int
) -> list[Searcher]:
    """Searchers of the runs over one collection, named by the end of their paths, or the whole path if not unique."""
    collection = open_collection(features, job, split)
    return [Searcher(name, of_run, collection, batch) for name, of_run in zip(_names(runs), files, strict=True)]


def _names(runs: Sequence[Path]) -> list[str]:
    short = ["/".join(run.parts[-2:]) for run in runs]
    return short if len(set(short)) == len(runs) else [str(run) for run in runs]


def hits(searchers: Sequence[Searcher], query: str, count: int, as_json: bool) -> list[str]:
    """Lines to print: rank, score, id and path of what each run finds, or one JSON object per line."""
    lines = []
    for searcher in searchers:
        if len(searchers) > 1 and not as_json:
            lines.append(f"{searcher.name}:")
        for rank, hit in enumerate(searcher.search(query, count), start=1):
            file = searcher.collection.file(hit.row)
            if as_json:
                found = {"run": searcher.name, "rank": rank, "score": hit.score, "id": hit.item_id}
                lines.append(json.dumps(found | {"path": str(file) if file else None}, ensure_ascii=False))
            else:
                lines.append(f"{rank:3d}  {hit.score:6.3f}  {hit.item_id}  {_relative(file) if file else ''}".rstrip())
    return lines


def _relative(file: Path) -> str:
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


def page(searchers: Sequence[Searcher], runs: Sequence[Path], port: int) -> None:
    """Serve the search page until Ctrl-C."""
    from ccr.search.server import SearchPage, serve  # a query in the terminal needs no server

    folder = Path(searchers[0].collection.features).parent.parent / "translations"
    mts = {part for run in runs for part in run.parts}
    translations = [str(file) for file in sorted(folder.glob("*/*.queries.parquet")) if file.parent.name in mts]
    try:
        serve(SearchPage(searchers, translations), port)
    except KeyboardInterrupt:
        sys.exit(0)
