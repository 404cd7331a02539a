"""The report of a table: one self-contained file, with the table's numbers and what the runs retrieve."""

import io
import json
import re
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkouts import CL2CM, DATA
from hand_made import hand_made

from ccr import params
from ccr.report.breakdowns import breakdowns
from ccr.report.costs import costs
from ccr.report.group import Group, units
from ccr.tables import columns
from ccr.tables.comparison import compare
from ccr.tables.rows import read_row

REPORT = "results/report/tiny.html"


@pytest.fixture(scope="module")
def project(made, tmp_path_factory):
    found = made.copy(tmp_path_factory.mktemp("report") / "project")
    done = found.ccr("report", "tiny")
    assert done.returncode == 0, done.stderr
    return found


@pytest.fixture
def page(project) -> str:
    return project.read(REPORT).decode()


@pytest.fixture
def group(project, monkeypatch) -> Group:
    monkeypatch.chdir(project.folder)
    plan = params.plan(params.load(Path("params.yaml")))
    rows = compare([read_row(settings) for settings in plan.job("results/tiny.csv").settings["rows"]])
    return Group(plan, columns.groups(rows)[0])


def test_it_is_one_file_that_asks_for_nothing(page):
    assert len(page) < 5_000_000
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []
    assert "@import" not in page and "url(" not in page.replace("url(#", "")
    assert page.count("data:image/png;base64,") == 4 and page.count("data:image/jpeg;base64,") > 10


def test_the_result_comes_first_and_is_that_of_the_table(project, page):
    table = json.loads(project.read("results/tiny.json"))
    assert page.index("SYNTHETIC data") < page.index("<table") < page.index("data:image/png")
    shown = [float(value) for value in re.findall(r'<td data-value="([\d.]+)"', page)]
    for row in (table[f"vatex/lexicon/descriptor/zh/{method}"] for method in ("baseline", "cl2cm")):
        assert any(abs(value - row["sumr"]) < 1e-3 for value in shown)


def test_what_it_retrieves_is_what_the_evaluation_ranked(project, page):
    ranks = pd.read_parquet(project.folder / f"results/evaluations/{CL2CM}/seed0/ranks.parquet")
    captions = pd.read_parquet(project.folder / f"data/{DATA}/captions.parquet", columns=["caption_id", "text"])
    ranks = ranks[ranks["direction"] == "t2v"].merge(captions, left_on="query_id", right_on="caption_id")
    examples = page.split('<div class="example">')[1:]
    assert len(examples) == 20
    for example in examples:
        query = re.search(r'<p class="query"[^>]*>([^<]*)</p>', example)[1]
        answer = example.split("cl2cm: right item at rank ")[1]
        rank = int(answer.split("<")[0])
        assert rank in set(ranks[ranks["text"] == query]["rank"])
        framed = [("right" in frame) for frame in re.findall(r'<div class="(frame[^"]*)"', answer)]
        assert framed == [rank == place for place in range(1, 6)]


def test_breakdowns_are_averages_of_the_whole(group):
    found = breakdowns(group)
    assert len(found) == 2  # the tiny table has no translated queries
    for breakdown in found:
        assert sum(breakdown.counts) == len(group.captions)
        for label, row in zip(group.labels, group.rows, strict=True):
            weighted = zip(breakdown.counts, breakdown.recall[label], strict=True)
            assert sum(count * value for count, value in weighted) / len(group.captions) == pytest.approx(
                row.mean["t2v_r10"]
            )


def test_words_are_cut_as_the_language_writes_them():
    assert units(["Ein roter Stern"], "de") == [["ein", "roter", "stern"]]
    assert units(["一颗红星。"], "zh") == [["一", "颗", "红", "星"]]
    assert units(["ดำน้ำ กิน"], "th") == [["ดำ", "น้ำ", "กิ", "น"]]


def test_what_the_jobs_took_is_what_the_memo_has(project, page):
    table = pd.read_html(io.StringIO(page), attrs={"id": "costs"})[0].set_index("stage")
    records = [json.loads(path.read_text()) for path in project.folder.glob("work/memo/??/*/job.json")]
    assert set(table.index) == {"world", "captions", "translate", "features", "train", "evaluate", "tables"}
    for stage, shown in table.iterrows():
        costs = [record["cost"] for record in records if record["stage"] == stage]
        assert shown["jobs"] == shown["measured"] == len(costs)
        assert shown["time"] == str(timedelta(seconds=round(sum(cost["seconds"] for cost in costs))))
        assert shown["memory, at most"] == f"{max(cost['peak_mb'] for cost in costs):,} MB"
        measured = all(cost["joules"] is not None for cost in costs)
        assert shown["energy"].startswith("≤ ") if measured else shown["energy"] == "not measured"


def test_what_was_computed_elsewhere_is_not_measured(project):
    job = hand_made("captions", f"data/{DATA}/captions.parquet", {}, {"captions": "nowhere/captions.parquet"}, {})
    [found] = costs([job])
    assert (found.jobs, found.known, found.time, found.memory, found.energy) == (1, [], "", "", "not measured")


def test_the_same_table_makes_the_same_report(project, page):
    assert project.ccr("report", "tiny").returncode == 0
    assert project.read(REPORT).decode() == page


@pytest.mark.slow
def test_captions_are_text_and_no_html(project, tmp_path):
    """The author of a caption must not be able to run a program in a reader's browser."""
    spoiled = project.copy(tmp_path / "spoiled")
    path = spoiled.folder / f"data/{DATA}/captions.parquet"
    table = pq.read_table(path)
    text = pa.repeat(pa.scalar("<script>alert(1)</script>"), len(table))
    pq.write_table(table.set_column(table.schema.get_field_index("text"), table.schema.field("text"), text), path)
    done = spoiled.ccr("report", "tiny")
    assert done.returncode == 0, done.stderr
    page = spoiled.read(REPORT).decode()
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_what_has_no_report_is_one_message(project, tmp_path):
    unmade = project.copy(tmp_path / "unmade")
    (unmade.folder / "results/tiny.csv").unlink()
    for table, message in {
        "tiny": "results/tiny.csv: no such table yet. Make it first: make results/tiny.csv",
        "vatex_alignment": "results/vatex_alignment.csv: no table of retrieval, and only these have a report.",
    }.items():
        failed = unmade.ccr("report", table)
        assert (failed.returncode, failed.stderr) == (1, f"ccr: {message}\n")


def test_numbers_are_not_shown_beside_settings_that_did_not_make_them(project, tmp_path):
    edited = project.copy(tmp_path / "edited")
    edited.edit(lambda raw: raw["evaluate"].update(batch=99))
    failed = edited.ccr("report", "tiny")
    assert failed.returncode == 1
    assert "was made with other settings or code than there are now. First: make results/tiny.csv" in failed.stderr
