"""Tables from evaluations: every format, the paired test, and inputs that do not fit together."""

import contextlib
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hand_made import hand_made, run

from ccr.artifacts.files import write_json
from ccr.artifacts.parquet import write_parquet
from ccr.artifacts.schemas import CAPTIONS, RANKS
from ccr.errors import CcrError
from ccr.retrieval.metrics import METRICS, chance_sumr, metrics
from ccr.retrieval.ranks import Ranks
from ccr.tables import columns, figures
from ccr.tables.comparison import compare
from ccr.tables.figures import colours
from ccr.tables.rows import read_row

N_ITEMS, PER_ITEM = 60, 3


pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")


def evaluation(folder, skill, seed, first_item=0, terms=("vs", "vt")):
    """Write metrics.json and ranks.parquet of a made-up evaluation; a higher skill gives better ranks."""
    generator = np.random.default_rng(seed)
    # the same random numbers for every method of a seed, so that results are paired
    text, visual = (
        np.maximum(1, np.round(generator.exponential(20, n) / skill)).astype(int) for n in (N_ITEMS * PER_ITEM, N_ITEMS)
    )
    none = np.zeros(1)
    items = [f"item{first_item + n:03d}" for n in range(N_ITEMS)]
    numbers = metrics(Ranks(text, none, none), Ranks(visual, none, none))
    counts = {"n_queries": len(text), "n_items": N_ITEMS, "chance_sumr": chance_sumr([PER_ITEM] * N_ITEMS)}
    write_json(numbers | counts | {"key": f"key-{folder}", "terms": list(terms)}, f"{folder}/metrics.json")
    caption_item = [item for item in items for _ in range(PER_ITEM)]
    write_parquet(
        {
            "direction": ["t2v"] * len(text) + ["v2t"] * N_ITEMS,
            "query_id": [f"caption{n}" for n in range(len(text))] + items,
            "item_id": caption_item + items,
            "rank": [*text, *visual],
        },
        f"{folder}/ranks.parquet",
        RANKS,
    )


def history(path, n_epochs, shares):
    """Write a history.csv; `shares`: term -> its share of the gradient."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "loss", *(f"{term}_share" for term in shares), "val_sumr"])
        for epoch in range(1, n_epochs + 1):
            writer.writerow([epoch, 1 / epoch, *shares.values(), 10 * epoch])


def row(
    tmp_path, method, skill, *, seeds=(0, 1), mt="lexicon", trained=True, terms=("vs", "vt"), shares=None, **settings
):
    """A row's settings; its files are written."""
    folders = [f"evaluations/{mt}/{method}/seed{seed}" for seed in seeds]
    for seed, folder in zip(seeds, folders, strict=True):
        evaluation(folder, skill, seed, terms=terms)
        if trained:
            history(tmp_path / folder / "history.csv", 5 + seed, shares or {})
    trained_in = folders if trained else []
    return planned(
        method, seeds, folders, trained_in, **{"data": "synthetic", "dataset": "vatex", "mt": mt, **settings}
    )


def planned(method, seeds, folders, trained_in, **settings):
    """A row's settings, as planned."""
    return {
        "noise_rate": 0.0,
        "visual": "descriptor",
        "text_encoder": "scratch",
        "source_lang": "en",
        "target_lang": "zh",
        "method": method,
        "select_on": "target",
        "seeds": list(seeds),
        "reference": None if method == "baseline" else "baseline",
        "published": None,
        "metrics": [f"{folder}/metrics.json" for folder in folders],
        "ranks": [f"{folder}/ranks.parquet" for folder in folders],
        "history": [f"{folder}/history.csv" for folder in trained_in],
        "reports": [],
        "translations": [],
        **settings,
    }


def job(rows, left_out=()):
    """A table job, as planned."""
    folder = "results/figures/some_table"
    return hand_made(
        stage="tables",
        target="results/some_table.csv",
        inputs={role: [path for r in rows for path in r[role]] for role in ("metrics", "ranks", "history")},
        outputs={
            **{kind: f"results/some_table.{kind}" for kind in ("csv", "json", "md", "tex")},
            "page": f"{folder}/table.html",
            "curves": f"{folder}/training_curves.png",
            "shares": f"{folder}/gradient_shares.png",
            "recall": f"{folder}/recall.png",
            "sumr": f"{folder}/sumr.png",
        },
        settings={"table": "some_table", "rows": rows, "left_out": list(left_out)},
        key="abc123",
    )


@pytest.fixture(scope="module")
def of_five_rows(tmp_path_factory):
    """The folder of a finished job of five rows, and the job."""
    folder = tmp_path_factory.mktemp("five")
    with contextlib.chdir(folder):
        rows = [
            row(folder, "baseline", 5, shares={"vs": 0.6, "vt": 0.4}),
            row(folder, "same_as_baseline", 5),
            row(folder, "much_better", 15, terms=("vs", "vt", "tv"), shares={"vs": 0.9, "vt": 0.1, "tv": 1e-9}),
            row(folder, "supervised", 5.2, mt="human"),
            row(folder, "one_seed", 2, seeds=(0,), trained=False),
        ]
        made = job(rows, ["vatex, zh, nrccr: no engine for the way back"])
        run(made)
    return folder, made


@pytest.fixture
def small_table(of_five_rows, monkeypatch):
    folder, made = of_five_rows
    monkeypatch.chdir(folder)
    return made


def read_csv(made):
    with open(made.outputs["csv"], newline="") as file:
        return {line["method"]: line for line in csv.DictReader(file)}


def test_csv_holds_means_deviations_and_p_values(small_table):
    lines = read_csv(small_table)
    assert tuple(lines["baseline"]) == columns.CSV
    assert list(lines) == [r["method"] for r in small_table.settings["rows"]]
    measured = [json.loads(Path(path).read_text()) for path in small_table.settings["rows"][0]["metrics"]]
    for name in METRICS:
        values = [seed[name] for seed in measured]
        assert float(lines["baseline"][name]) == pytest.approx(np.mean(values), abs=1e-4)
        assert float(lines["baseline"][f"{name}_std"]) == pytest.approx(np.std(values, ddof=1), abs=1e-4)
        assert lines["one_seed"][f"{name}_std"] == ""
    assert lines["baseline"]["p_vs_baseline"] == lines["baseline"]["compared_with"] == ""
    assert {lines[name]["compared_with"] for name in lines if name != "baseline"} == {"baseline"}
    assert float(lines["same_as_baseline"]["p_vs_baseline"]) == 1
    assert float(lines["much_better"]["p_vs_baseline"]) == pytest.approx(3 / 10_001, abs=1e-6)  # Holm: three tests
    assert lines["supervised"]["p_vs_baseline"] != ""  # other translations, but the only baseline there is
    assert lines["one_seed"]["n_seeds"] == "1"
    assert lines["one_seed"]["p_vs_baseline"] == ""  # one training run says nothing about the next
    assert lines["baseline"]["key"] != lines["much_better"]["key"]


def test_json_is_the_csv_nested_by_row(small_table):
    made = json.loads(Path(small_table.outputs["json"]).read_text())
    assert made.pop("key") == "abc123"
    lines = read_csv(small_table)
    assert sorted(made) == sorted(f"vatex/{line['mt']}/descriptor/zh/{name}" for name, line in lines.items())
    baseline = made["vatex/lexicon/descriptor/zh/baseline"]
    assert baseline["sumr"] == float(lines["baseline"]["sumr"])
    assert "p_vs_baseline" not in baseline


def test_markdown_says_what_one_must_know(small_table):
    text = Path(small_table.outputs["md"]).read_text()
    assert text.startswith("# some_table (SYNTHETIC data)")
    assert f"Chance level: SumR {chance_sumr([PER_ITEM] * N_ITEMS):.1f}" in text
    assert "0.0003 (higher)" in text
    assert "| vs baseline | p |" in text and "compared with |" not in text
    assert "- vatex, zh, nrccr: no engine for the way back" in text
    assert "selected on human-written validation captions of the target language" in text
    assert "evaluations/lexicon/baseline/seed1/metrics.json | key-evaluations/lexicon/baseline/seed1" in text
    assert "published" not in text.lower().replace("compared with published ones", "")
    widths = {line.count("|") for line in text.split("## Rows")[0].splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_a_note_names_what_the_splits_share(tmp_path):
    shared = "3 of 60 items of test look like an item of train (a_1 that of b)"
    write_json({"leaks": [shared, "left in (on_leak: keep)"], "notes": []}, "shared.json")
    write_json({"leaks": [], "notes": ["zero-width characters"]}, "clean.json")
    rows = [
        row(tmp_path, name, 5, dataset=dataset, data="official", reports=[report])
        for dataset, report in {"mine": "shared.json", "other": "clean.json"}.items()
        for name in ("baseline", "better")
    ]
    run(made := job(rows))
    notes = Path(made.outputs["md"]).read_text().split("## Notes")[1]
    said = "In two splits of mine: " + shared.replace("_", r"\_") + r"; left in (on\_leak: keep)."
    assert notes.count(said) == 1 and "two splits of other" not in notes


def test_a_note_names_the_captions_without_a_translation(tmp_path):
    for name, refused in {"some": {"a#enc#0": "HTTP 500 (in 3 runs or more)"}, "none": {}}.items():
        metadata = {"refused": json.dumps(refused)} if refused else {}
        write_parquet({column: [] for column in CAPTIONS.names}, f"{name}.parquet", CAPTIONS, metadata=metadata)
    rows = [
        row(tmp_path, "baseline", 5, translations=["some.parquet"]),
        row(tmp_path, "better", 6, translations=["some.parquet", "none.parquet"]),
    ]
    run(made := job(rows))
    notes = Path(made.outputs["md"]).read_text().split("## Notes")[1]
    assert notes.count("Captions without a translation in some.parquet: 1. a#enc#0: HTTP 500 (in 3 runs or more)") == 1
    assert "none.parquet" not in notes


def test_page_is_the_markdown_as_html(small_table):
    page = Path(small_table.outputs["page"]).read_text()
    assert "<td>baseline</td>" in page
    assert "SYNTHETIC" in page


def test_latex_has_whole_lines_and_no_bare_underscore(small_table):
    text = Path(small_table.outputs["tex"]).read_text()
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == 5
    assert {line.count("&") for line in body} == {text.split(r"\begin{tabular}{")[1].split("}")[0].count("r") + 1}
    assert r"much\_better" in text
    assert "against baseline, Holm" in text and "compared with &" not in text
    assert text.count("{") == text.count("}")
    assert "SYNTHETIC" in text and "no engine for the way back" in text


def test_the_same_job_gives_the_same_bytes(small_table):
    before = {path: Path(path).read_bytes() for path in small_table.outputs.values()}
    run(small_table)
    assert {path: Path(path).read_bytes() for path in small_table.outputs.values()} == before
    assert before[small_table.outputs["curves"]].startswith(b"\x89PNG")


def test_published_figures_stand_beside_official_data_only(tmp_path):
    published = {"sumr": 366.5, "source": "the authors' page"}
    rows = [
        row(tmp_path, "baseline", 5, data="official", published=published),
        row(tmp_path, "other", 6, dataset="vatex2", published=published),
    ]
    made = job(rows)
    run(made)
    lines = read_csv(made)
    assert lines["baseline"]["published_sumr"] == "366.5"
    assert lines["baseline"]["published_source"] == "the authors' page"
    assert lines["other"]["published_sumr"] == lines["other"]["published_source"] == ""
    text = Path(made.outputs["md"]).read_text()
    assert text.startswith("# some_table (partly SYNTHETIC data)")
    assert text.count("366.5") == 1
    assert lines["other"]["p_vs_baseline"] == lines["other"]["compared_with"] == ""  # its group has no baseline


def test_baseline_of_the_same_translations_is_preferred(tmp_path):
    rows = [
        row(tmp_path, "baseline", 5, mt="clean"),
        row(tmp_path, "baseline", 2, mt="noisy"),
        row(tmp_path, "cl2cm", 5, mt="clean"),
        row(tmp_path, "cl2cm", 2, mt="noisy"),
        row(tmp_path, "supervised", 5, mt="human"),
    ]
    made = job(rows)
    run(made)
    with open(made.outputs["csv"], newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["p_vs_baseline"] for line in lines] == ["", "", "1.0", "1.0", ""]
    assert [line["compared_with"] for line in lines] == ["", "", "baseline", "baseline", ""]
    assert columns.labels(columns.groups([read_row(r) for r in rows])[0])[0] == "baseline (clean)"


@pytest.fixture
def ablation(tmp_path):
    """Rows that are not all compared with the baseline."""
    return [
        row(tmp_path, "baseline", 5),
        row(tmp_path, "cl2cm", 15),
        row(tmp_path, "cl2cm_no_words", 15, reference="cl2cm"),
        row(tmp_path, "nrccr", 5),
    ]


def test_rows_may_be_compared_with_others_than_the_baseline(ablation):
    made = job(ablation)
    run(made)
    lines = read_csv(made)
    assert [line["compared_with"] for line in lines.values()] == ["", "baseline", "cl2cm", "baseline"]
    assert float(lines["cl2cm_no_words"]["p_vs_baseline"]) == 1  # as good as the row it is compared with
    assert float(lines["cl2cm"]["p_vs_baseline"]) == pytest.approx(3 / 10_001, abs=1e-6)  # Holm: all three tests
    for role, mark in (("md", "|"), ("tex", "&")):
        text = Path(made.outputs[role]).read_text()
        cells = [[cell.strip() for cell in line.strip("|").split(mark)] for line in text.splitlines()]
        (place,) = [line.index("compared with") for line in cells if "compared with" in line]
        shown = {line[0].replace("\\", ""): line[place] for line in cells if len(line) > place}
        assert (shown["baseline"], shown["cl2cm"], shown["cl2cm_no_words"]) == ("", "baseline", "cl2cm")
        assert "against the method that the row is compared with" in text and "vs baseline" not in text


def test_the_one_method_that_all_are_compared_with_stands_in_the_heading(ablation):
    rows = [r | {"reference": None if r["method"] == "cl2cm" else "cl2cm"} for r in ablation]
    made = job(rows)
    run(made)
    text = Path(made.outputs["md"]).read_text()
    assert "| vs cl2cm | p |" in text and "test against `cl2cm` of the same data" in text
    assert "against cl2cm, Holm" in Path(made.outputs["tex"]).read_text()


def test_nothing_is_claimed_when_the_seeds_disagree(tmp_path):
    # far better in seed 0, a little worse in seed 1
    better, worse = row(tmp_path, "mixed", 40, seeds=(0,)), row(tmp_path, "mixed", 4.8, seeds=(1,))
    mixed = better | {"seeds": [0, 1]}
    mixed |= {role: better[role] + worse[role] for role in ("metrics", "ranks", "history")}
    _, compared = compare([read_row(r) for r in (row(tmp_path, "baseline", 5), mixed)])
    assert compared.p < 0.05 and compared.verdict == ""


def test_a_table_without_training_has_a_figure_too(tmp_path):
    made = job([row(tmp_path, "baseline", 5, trained=False)])
    run(made)
    for role in ("curves", "shares"):
        assert Path(made.outputs[role]).read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def drawn(monkeypatch):
    """The panels of the last figure, by title."""
    panels = {}

    def keep(figure, path):
        panels.clear()
        panels.update({axes.get_title(): axes for axes in figure.axes})

    monkeypatch.setattr(figures, "_save", keep)
    return panels


def test_shares_of_gradient_have_a_panel_for_every_method_of_several_terms(tmp_path, drawn):
    rows = [
        row(tmp_path, "nrccr", 5, terms=("vs", "vt", "dead"), shares={"vs": 0.7, "vt": 0.3, "dead": 0}),
        row(tmp_path, "one_term", 5, terms=("vs",), shares={"vs": 1}),
        row(tmp_path, "without_shares", 5),
        row(tmp_path, "not_trained", 5, trained=False),
    ]
    figures.gradient_shares([read_row(r) for r in rows], "")
    ((title, axes),) = drawn.items()
    assert "SYNTHETIC" in title and "nrccr" in title
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["vs", "vt", "dead", "1 %"]
    assert list(lines["vs"].get_xdata()) == [1, 2, 3, 4, 5]  # the longer seed has 6 epochs
    assert list(lines["vt"].get_ydata()) == pytest.approx([30] * 5)
    assert axes.get_yscale() == "log" and axes.get_ylim()[0] < min(lines["dead"].get_ydata()) < 0.01


def test_sumr_is_a_curve_where_translations_differ_in_noise_and_bars_where_not(tmp_path, drawn):
    rates = {"lexicon": 0.0, "noisy20": 0.2, "noisy40": 0.4}
    rows = [
        row(tmp_path, method, skill - rate, mt=mt, noise_rate=rate)
        for method, skill in (("baseline", 0.6), ("nrccr", 0.7))
        for mt, rate in reversed(rates.items())
    ]
    read = [read_row(r) for r in rows]
    figures.sumr(read, "")
    ((title, curves),) = drawn.items()
    assert "SYNTHETIC" in title and "chance" in curves.get_legend_handles_labels()[1]
    drawn_rates = {line.get_label(): list(line.lines[0].get_xdata()) for line in curves.containers}
    assert drawn_rates == {"baseline": [0.0, 0.2, 0.4], "nrccr": [0.0, 0.2, 0.4]}
    assert [columns.values(r)["noise_rate"] for r in read] == [0.4, 0.2, 0.0] * 2
    figures.sumr([r for r in read if r.settings["noise_rate"] == 0], "")
    (bars,) = drawn.values()
    assert [label.get_text() for label in bars.get_yticklabels()] == ["baseline", "nrccr"]
    drawn.clear()
    other = read_row(row(tmp_path, "baseline", 0.5, mt="swapped20", noise_rate=0.2))
    figures.sumr([*read, other], "")  # two variants with the same rate are not one curve
    (bars,) = drawn.values()
    assert len(bars.get_yticklabels()) == 7


def test_shares_that_nobody_logged_give_a_figure_that_says_so(tmp_path, drawn):
    figures.gradient_shares([read_row(row(tmp_path, "baseline", 5))], "")
    assert "no method" in drawn[""].texts[0].get_text()


def test_a_term_that_was_dropped_is_not_in_the_table(tmp_path):
    made = job([row(tmp_path, "baseline", 5, terms=("vs", "vt")), row(tmp_path, "nrccr", 6, terms=("vs", "tv"))])
    run(made)
    lines = read_csv(made)
    assert lines["baseline"]["terms"] == "vs+vt"
    assert lines["nrccr"]["terms"] == "vs+tv"
    assert "vs+tv" in Path(made.outputs["md"]).read_text()


def golden_row(dataset, lang, method, shift, seeds=(0, 1), **settings):
    """A row's settings; its files are written, with ranks from a formula that no library version changes."""
    folders = [f"evaluations/{dataset}/{lang}/{method}/seed{seed}" for seed in seeds]
    none, items = np.zeros(1), [f"item{n:02d}" for n in range(20)]
    captions = [item for item in items for _ in range(2)]
    for seed, folder in zip(seeds, folders, strict=True):
        text, visual = (np.maximum(1, np.arange(n) % 14 + 2 + seed - shift) for n in (40, 20))
        numbers = metrics(Ranks(text, 1 / text, none), Ranks(visual, 1 / visual, none))
        counts = {"n_queries": 40, "n_items": 20, "chance_sumr": chance_sumr([2] * 20)}
        write_json(numbers | counts | {"key": f"key-{folder}", "terms": ["vs", "vt"]}, f"{folder}/metrics.json")
        ranks = {
            "direction": ["t2v"] * 40 + ["v2t"] * 20,
            "query_id": [f"caption{n}" for n in range(40)] + items,
            "item_id": captions + items,
            "rank": [*text, *visual],
        }
        write_parquet(ranks, f"{folder}/ranks.parquet", RANKS)
    about = {"data": "official", "dataset": dataset, "mt": "opus", "visual": "clip_b32", "target_lang": lang}
    return planned(method, seeds, folders, [], **about | settings)


def test_markdown_and_latex_are_the_golden_files(repository):
    """After an intended change of layout: check the files in the test's folder and copy them to tests/golden."""
    published = {"sumr": 450.7, "source": "a paper & its page"}
    rows = [
        golden_row("multi30k_task1", "de", "baseline", 0),
        golden_row("multi30k_task1", "de", "nrccr_fusion", 9, published=published),
        golden_row("multi30k_task1", "fr", "baseline", 0),
        golden_row("multi30k_task1", "fr", "nrccr_fusion", 0),
        golden_row("multi30k_task1", "fr", "source_only", -9, seeds=(0,), mt="none", select_on="source"),
        golden_row("multi30k_task2", "de", "baseline", 0, data="synthetic", visual="descriptor"),
        golden_row("multi30k_task2", "de", "nrccr_fusion", 9, data="synthetic", visual="descriptor"),
        golden_row("multi30k_task2", "cs", "baseline", 0, data="synthetic", visual="descriptor"),
        golden_row("vatex", "zh", "baseline", 0, visual="i3d"),
    ]
    made = job(rows, ["multi30k_task1, de, source_only: 100 % made up"])
    run(made)
    for role in ("md", "tex"):
        golden = (repository / f"tests/golden/table.{role}").read_text(encoding="utf-8")
        assert Path(made.outputs[role]).read_text(encoding="utf-8") == golden


def test_seeds_that_trained_on_different_terms_are_refused(tmp_path):
    mixed = row(tmp_path, "nrccr", 5)
    evaluation("evaluations/lexicon/nrccr/seed1", 5, 1, terms=("vs",))
    with pytest.raises(CcrError, match="seed1/metrics.json: trained on the terms vs, the first seed .* on vs, vt"):
        read_row(mixed)


def test_files_of_different_evaluations_are_refused(tmp_path):
    mixed_up = row(tmp_path, "a", 5) | {"ranks": row(tmp_path, "b", 9)["ranks"]}
    with pytest.raises(CcrError, match="different evaluations"):
        run(job([mixed_up]))


def test_a_paired_test_of_different_items_is_refused(tmp_path):
    rows = [row(tmp_path, "baseline", 5, seeds=(0,)), row(tmp_path, "other", 5, seeds=(0,))]
    evaluation("evaluations/lexicon/other/seed0", 5, 0, first_item=1)
    with pytest.raises(CcrError, match="same test items"):
        run(job(rows))


def test_missing_and_incomplete_files_are_named(tmp_path):
    made = job([row(tmp_path, "baseline", 5, seeds=(0,))])
    (path,) = made.inputs["metrics"]
    write_json({"key": "k", "sumr": 3.0}, path)
    with pytest.raises(CcrError, match=f"{path}: no 't2v_r1'"):
        run(made)
    with pytest.raises(CcrError, match="2 seeds but 1 metrics"):
        read_row(made.settings["rows"][0] | {"seeds": [0, 1]})
    (tmp_path / path).unlink()
    with pytest.raises(CcrError, match="no such file"):
        run(made)


def test_a_torn_history_is_named(tmp_path):
    made = job([row(tmp_path, "baseline", 5, seeds=(0,))])
    (tmp_path / made.inputs["history"][0]).write_text("epoch,loss,val_sumr\n1,0.5\n")
    with pytest.raises(CcrError, match=r"history.csv: every line needs"):
        run(made)


def test_tables_do_not_need_torch():
    code = "import sys, ccr.tables.retrieval_table; assert 'torch' not in sys.modules"
    source = str(Path(columns.__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": source})


def test_a_method_keeps_its_colour_and_two_rows_of_it_have_two():
    first, second = colours(["baseline", "nrccr", "cl2cm_init"]), colours(["cl2cm_init", "nrccr", "source_only"])
    assert first[1] == second[1] and len(set(first)) == len(set(second)) == 3
    labels = ["baseline", *(f"nrccr ({mt})" for mt in ("google", "google_swap20", "google_swap40")), "cl2cm_vt"]
    assert len(set(colours(labels))) == 5
