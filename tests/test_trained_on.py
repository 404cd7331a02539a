"""A data set without training data is tested with the runs of another."""

import copy
import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from checkouts import Checkout

from ccr import params
from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.schemas import CAPTIONS, ITEMS
from ccr.errors import CcrError
from ccr.retrieval.metrics import METRICS

FILE = Path(__file__).parents[1] / "params.yaml"
ELSEWHERE = {
    "kind": "image",
    "importer": "xm3600",
    "root": "data/raw/elsewhere",
    "trained_on": "multi30k_task1",
    "target_langs": ["de", "de-AT", "sw"],
    "mt": "lexicon",
    "visual": "descriptor",
}


@pytest.fixture
def raw():
    raw = copy.deepcopy(yaml.safe_load(FILE.read_text()))
    raw["datasets"]["elsewhere"] = ELSEWHERE.copy()
    raw["tables"]["elsewhere"] = {"data": ["elsewhere"], "methods": ["source_only", "baseline", "baseline_multi"]}
    return raw


# --- the plan ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"trained_on": "vatexx"}, "datasets.elsewhere.trained_on: unknown data set 'vatexx'; did you mean 'vatex'"),
        ({"trained_on": "elsewhere"}, "nothing is trained on 'elsewhere', which has a trained_on of its own"),
        ({"source": "synthetic"}, "the synthetic mini-world has a train split; take source: official"),
        ({"visual": "mobilenet_v2"}, "datasets.elsewhere.visual: 'mobilenet_v2', but datasets.multi30k_task1, which"),
        ({"source_lang": "fr"}, "datasets.elsewhere.source_lang: 'fr', but datasets.multi30k_task1, which it is"),
        ({"mt": "google"}, "datasets.elsewhere: there are no published translations"),
    ],
)
def test_a_data_set_that_cannot_be_tested_with_these_runs(raw, edits, message):
    raw["datasets"]["elsewhere"] |= edits
    with pytest.raises(CcrError) as error:
        params.validate(raw)
    assert message in str(error.value)


def rows(raw, table="elsewhere"):
    """(language, method) -> row, and the lines about rows that cannot exist."""
    settings = params.plan(params.validate(raw)).jobs[f"results/{table}.csv"].settings
    return {(row["target_lang"], row["method"]): row for row in settings["rows"]}, settings["left_out"]


def runs(row):
    return row["history"][0].removeprefix("results/runs/").rsplit("/", 3)[0]


def test_which_runs_are_tested_in_which_language(raw):
    found, left_out = rows(raw)
    folder = "multi30k_task1-synthetic"
    assert {row: runs(settings) for row, settings in found.items()} == {
        **{(lang, "source_only"): f"{folder}/none/descriptor/en" for lang in ("de", "de-AT", "sw")},
        **{(lang, "baseline"): f"{folder}/lexicon/descriptor/de" for lang in ("de", "de-AT")},
        **{(lang, "baseline_multi"): f"{folder}/lexicon/descriptor/de+fr+cs" for lang in ("de", "de-AT", "sw")},
    }
    assert left_out == [
        "elsewhere, sw, baseline: multi30k_task1 has a run for each of de, fr, cs alone; `langs` of a method train one "
        "for all"
    ]
    said = {row: settings["trained_on"] for row, settings in found.items()}
    assert all(about["dataset"] == "multi30k_task1" for about in said.values())
    assert said["de-AT", "baseline"] == {"dataset": "multi30k_task1", "langs": ["en", "de"], "zero_shot": False}
    assert {row for row, about in said.items() if about["zero_shot"]} == {
        *((lang, "source_only") for lang in ("de", "de-AT", "sw")),
        ("sw", "baseline_multi"),
    }
    assert {settings["data"] for settings in found.values()} == {"synthetic"}  # like the runs


def test_runs_of_one_target_language_are_tested_in_all(raw):
    raw["datasets"]["multi30k_task1"]["target_langs"] = ["de"]
    raw["tables"]["elsewhere"]["methods"] = ["baseline", "cl2cm"]
    found, left_out = rows(raw)
    assert {row for row, settings in found.items() if settings["trained_on"]["zero_shot"]} == {
        ("sw", "baseline"),
        ("sw", "cl2cm"),
    }
    assert {runs(settings).rsplit("/", 1)[1] for settings in found.values()} == {"de"} and not left_out


def test_queries_are_translated_by_an_engine_that_knows_them(raw):
    raw["methods"] |= {
        "queries": {"uses": "source_only", "mt": "opus", "queries": {"translated": 1}},
        "not_these": {"uses": "source_only", "queries": {"translated": 1}},
    }
    raw["tables"]["elsewhere"] |= {"methods": ["queries", "not_these"], "baseline": "queries"}
    found, left_out = rows(raw)
    assert {row: settings["mt"] for row, settings in found.items()} == {
        (lang, "queries"): "opus" for lang in ("de", "de-AT", "sw")
    }
    assert len(left_out) == 3 and "knows only the synthetic mini-world" in left_out[0]


def test_nothing_is_trained_on_it(raw):
    raw["alignments"]["words"] = {"data": ["elsewhere"], "teachers": ["cl"]}
    raw["translations"]["made"] = {"data": ["elsewhere"]}
    plan = params.plan(params.validate(raw))
    assert not [job.target for job in plan.jobs.values() if job.stage == "train" and "elsewhere" in job.target]
    for table in ("words", "made"):
        (line,) = plan.jobs[f"results/{table}.csv"].settings["left_out"]
        assert "nothing is trained on it" in line or "does not exist" in line


# --- the numbers -------------------------------------------------------------------------------------------

MAKE = """
import sys
from ccr import params
from ccr.running import execute
plan = params.plan(params.load())
for job in plan.needs(sys.argv[1]):
    execute(plan.keyed(job.target))
"""


def publish(folder: Path, split: str = "test") -> None:
    """Write items of the mini-world in XM3600's format, with the Chinese captions also as Japanese ones."""
    root, lines = folder / "data/raw/elsewhere", []
    captions = read_parquet(folder / "data/vatex-synthetic/captions.parquet", CAPTIONS).to_pylist()
    for item in read_parquet(folder / "data/vatex-synthetic/items.parquet", ITEMS).to_pylist():
        if item["split"] == split:
            (root / item["path"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / "data/raw/vatex-synthetic" / item["path"], root / item["path"])
            said = {
                tag: [
                    c["text"]
                    for c in captions
                    if (c["item_id"], c["lang"], c["origin"]) == (item["item_id"], lang, "human")
                ]
                for tag, lang in (("en", "en"), ("zh", "zh"), ("ja", "zh"))
            }
            line = {"image/key": item["item_id"], "image/locale": "en"}
            lines.append(json.dumps(line | {tag: {"caption": texts} for tag, texts in said.items()}))
    (root / "captions.jsonl").write_text("\n".join(reversed(lines)))


def add(raw) -> None:
    raw["datasets"]["elsewhere"] = ELSEWHERE | {"kind": "video", "trained_on": "vatex", "target_langs": ["zh", "ja"]}
    raw["tables"]["both"] = {"data": ["vatex", "elsewhere"], "methods": ["baseline", "cl2cm"]}


@pytest.fixture(scope="module")
def tested(made, tmp_path_factory) -> Checkout:
    """A table of the mini-world's test set and of the same test set as data set `elsewhere`."""
    checkout = made.copy(tmp_path_factory.mktemp("tested") / "checkout")
    publish(checkout.folder)
    checkout.edit(add)
    made = checkout.says(sys.executable, "-c", MAKE, "results/both.csv")
    assert made.returncode == 0, made.stderr
    assert "/runs/" not in made.stderr  # nothing is trained again
    return checkout


def lines_of(checkout: Checkout, table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(checkout.read(f"results/{table}.csv").decode().splitlines()))


@pytest.mark.slow
def test_the_same_test_set_elsewhere_has_the_same_numbers(tested):
    lines = lines_of(tested, "both")
    own = {line["method"]: line for line in lines if line["dataset"] == "vatex"}
    others = [line for line in lines if line["dataset"] == "elsewhere"]
    assert [(line["target_lang"], line["method"], line["zero_shot"]) for line in others] == [
        ("zh", "baseline", "no"),
        ("zh", "cl2cm", "no"),
        ("ja", "baseline", "yes"),
        ("ja", "cl2cm", "yes"),
    ]
    for line in others:
        assert [line[metric] for metric in METRICS] == [own[line["method"]][metric] for metric in METRICS]
        assert (line["trained_on"], line["trained_langs"], line["data"]) == ("vatex", "en+zh", "synthetic")
    assert {line["trained_on"] for line in own.values()} == {""}


@pytest.mark.slow
def test_the_table_says_whose_runs_they_are(tested):
    markdown, latex = (tested.read(f"results/both.{form}").decode() for form in ("md", "tex"))
    assert "## elsewhere (SYNTHETIC), en to ja, descriptor, trained on vatex" in markdown
    assert "| baseline | lexicon | vatex: en, zh (zero-shot) | vs+vt |" in markdown
    assert "- trained on: the data set and the languages of runs" in markdown
    assert "baseline & lexicon & vatex: en, zh (zero-shot) & $" in latex
    assert "trained_on" not in lines_of(tested, "tiny")[0]  # that table has no such rows


@pytest.mark.slow
def test_report_and_explanation(tested):
    report = tested.ccr("report", "both")
    assert report.returncode == 0, report.stderr
    assert "<td>vatex: en, zh (zero-shot)</td>" in tested.read("results/report/both.html").decode()
    explained = tested.ccr("explain", lines_of(tested, "both")[-1]["key"])
    assert "results/runs/vatex-synthetic/lexicon/descriptor/zh/cl2cm/seed0" in explained.stdout


def test_items_that_the_run_was_trained_on_are_no_test(checkout):
    publish(checkout.folder, "train")
    checkout.edit(add)
    made = checkout.says(sys.executable, "-c", MAKE, "results/both.csv")
    assert made.returncode != 0
    assert "test items are in train or val of data/vatex-synthetic/items.parquet" in made.stderr
