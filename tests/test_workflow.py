"""Real Snakemake on a tiny synthetic table: what runs again after which change, and what a kill leaves behind."""

import csv
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from urllib.parse import unquote

import pytest
import yaml
from checkouts import CL2CM, DATA, TABLE, Checkout, check_out, killed_until_done
from tiny_encoders import text_encoder
from translation_server import TranslationServer

from ccr import params

PAIR = {"tables": {"pair": {"data": ["vatex", "msrvtt_cn"], "methods": ["baseline"], "seeds": [0]}}, "run": ["pair"]}


def test_a_dry_run_lists_the_jobs_and_makes_none(fresh):
    rules = {"world", "captions", "translate", "features", "teacher", "student", "evaluate", "tables"}
    assert fresh.planned() == rules
    assert not (fresh.folder / "results").exists()
    assert not (fresh.folder / "data").exists()


def test_every_job_reads_the_note_of_what_made_its_outputs(fresh):
    """The note tells Snakemake when existing outputs were made by other settings or other code."""
    output = fresh.run("--dry-run", "--forceall", "--nocolor", "--quiet", "host")
    jobs = re.findall(r"^rule (\w+):\n((?: .*\n)+)", output, re.M)
    assert len(jobs) >= 8
    assert [rule for rule, job in jobs if "work/made/" not in job] == ["all"]


def test_a_dry_run_does_not_import_torch(fresh):
    script = (
        "import sys; from snakemake.cli import main\ntry: main(sys.argv[1:])\nfinally: print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", script, "--dry-run", "--quiet", "all", "--cores", "1"]
    result = subprocess.run(command, cwd=fresh.folder, env=fresh.environment, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "False", result.stderr


def test_all_of_a_table_is_made_and_a_second_call_does_nothing(checkout):
    figures = ("figures/tiny/training_curves.png", "figures/tiny/gradient_shares.png")
    for path in ("tiny.csv", "tiny.json", "tiny.md", "tiny.tex", *figures):
        assert (checkout.folder / "results" / path).stat().st_size > 0
    assert "Nothing to be done" in checkout.run()


def test_snakemakes_report_shows_table_and_curves(checkout):
    (checkout.folder / "results/report").mkdir()
    checkout.run("--report", "results/report/tiny.workflow.html", "--", TABLE)
    report = checkout.read("results/report/tiny.workflow.html")
    assert b"table.html" in report
    assert b"training_curves.png" in report
    assert b"gradient_shares.png" in report


@pytest.mark.slow
def test_settings_and_names_are_text_in_snakemakes_report(fresh, tmp_path):
    checkout, script = fresh.copy(tmp_path / "hostile"), "</script><script>alert(1)</script>"
    model = text_encoder(tmp_path / "<img src=x onerror=alert(1)>")

    def named(raw) -> None:
        small = raw["networks"]["small"]
        prefix = {"encoder": model, "max_tokens": 32, "frozen_layers": 0}
        small["text"] = prefix | {"block": small["text"]["block"]}
        raw["datasets"]["elsewhere"] = {"like": "vatex", "root": f"data/raw/{script}"}

    checkout.edit(named)
    checkout.run()
    (checkout.folder / "results/report").mkdir()
    checkout.run("--report", "results/report/tiny.workflow.html", "--", TABLE)
    report = checkout.read("results/report/tiny.workflow.html").decode()
    page = checkout.read("results/figures/tiny/table.html").decode()
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    for text in (report, page, *(unquote(uri) for uri in re.findall(r"data:[^\"\\]+", report))):
        assert script not in text and "<img src=x" not in text


def test_a_weight_of_one_method_trains_that_method_again(checkout):
    def change(params):
        params["methods"]["cl2cm"]["objectives"]["relation_distillation"]["weight"] = 0.25

    checkout.edit(change)
    assert checkout.computed() == {f"results/runs/{CL2CM}/seed0", f"results/evaluations/{CL2CM}/seed0", TABLE}


@pytest.mark.slow
def test_a_setting_given_by_config_reaches_the_job(checkout):
    weight = "methods={cl2cm: {objectives: {relation_distillation: {weight: 0.125}}}}"
    checkout.run("--config", weight)
    config = yaml.safe_load(checkout.read(f"results/runs/{CL2CM}/seed0/config.json"))
    assert "'weight': 0.125" in str(config)


@pytest.mark.slow
def test_a_new_seed_trains_only_the_new_runs(checkout):
    checkout.edit(lambda params: params["tables"]["tiny"].update(seeds=[0, 1]))
    computed = checkout.computed()
    assert f"results/runs/{CL2CM}/seed1" in computed
    assert {target for target in computed if not target.endswith("/seed1")} == {TABLE}


@pytest.mark.slow
def test_deleted_results_come_back_from_the_memo(checkout):
    table = checkout.read()
    shutil.rmtree(checkout.folder / "results")
    assert checkout.computed() == set()
    assert checkout.read() == table


def test_old_logs_run_nothing_and_deleted_results_between_others_are_made_again(checkout):
    """Snakemake counts a job's benchmark file among its outputs."""
    for file in (checkout.folder / "logs").rglob("*.tsv"):
        os.utime(file, (1, 1))
    assert "Nothing to be done" in checkout.run("--dry-run")
    for kind in ("runs", "evaluations"):
        shutil.rmtree(checkout.folder / f"results/{kind}/{CL2CM}/seed0")
    assert checkout.planned() == {"student", "evaluate", "tables"}


def test_a_comment_runs_nothing_and_a_real_change_trains_again(checkout):
    code = checkout.folder / "src/ccr/objectives/infonce.py"
    code.write_text(code.read_text() + "\n# a remark\n")
    assert "Nothing to be done" in checkout.run()
    code.write_text(code.read_text() + "\nREMARK = 1\n")
    assert checkout.planned() == {"teacher", "student", "evaluate", "tables"}


def test_other_pins_or_another_order_of_params_run_nothing(checkout):
    pins = checkout.folder / "environment.yml"
    pins.write_text(pins.read_text() + "      - another==1.0\n")
    checkout.edit(lambda params: params.update(train=params.pop("train")))
    assert "Nothing to be done" in checkout.run()


@pytest.mark.slow
def test_shards_make_the_bytes_of_whole_jobs(fresh, tmp_path):
    checkout = fresh.copy(tmp_path / "shards")
    targets = [f"data/{DATA}/features/descriptor.parquet", f"data/{DATA}/translations/libre/zh.parquet"]
    with TranslationServer() as server:
        libre = {"service": "libretranslate", "base_url": server.url, "requests_per_second": 1000}
        variant = {"engine": "deep_translator", **libre}
        checkout.edit(lambda raw: raw["translate"]["variants"].update(libre=variant))
        checkout.run("--", *targets)
        whole, asked = [checkout.read(target) for target in targets], sorted(server.log.texts())
        server.log.requests.clear()
        for folder in ("features", "memo", "tm"):
            shutil.rmtree(checkout.folder / "work" / folder)
        for target in targets:
            (checkout.folder / target).unlink()
        checkout.edit(lambda raw: [raw[stage].update(shards=2) for stage in ("features", "translate")])
        output = checkout.run("--", *targets)
    assert [checkout.read(target) for target in targets] == whole
    assert sorted(server.log.texts()) == asked and len(asked) > 50  # each by one shard only
    shards = {f"{folder}/{number}of2" for folder in ("vatex-synthetic/descriptor", "libre/zh") for number in (0, 1)}
    assert set(re.findall(r"work/\w+/shards/\S*?(\w[\w-]*/\w+/\dof2).parquet: computed in", output)) == shards


def test_bad_settings_are_one_message_before_any_job(fresh):
    typo = fresh.start("--config", "methods={cl2cm: {teecher: cl}}")
    output = typo.communicate(timeout=60)[0]
    assert typo.returncode != 0
    assert "methods.cl2cm.teecher: unknown key; did you mean 'teacher'?" in output
    assert "Traceback" not in output
    assert ".smk" not in output


def test_a_missing_data_root_is_one_message_before_any_job(fresh):
    official = fresh.start("--config", "datasets={vatex: {source: official, root: nowhere/vatex, mt: human}}")
    output = official.communicate(timeout=60)[0]
    assert official.returncode != 0
    assert "nowhere/vatex" in output
    assert "source: synthetic" in output
    assert "MissingInput" not in output
    assert "Traceback" not in output


def test_a_path_that_snakemake_would_change_is_one_message_before_any_job(fresh, tmp_path):
    root = tmp_path / "<results>"
    root.mkdir()
    official = fresh.start("--config", f"datasets={{vatex: {{source: official, root: '{root}', mt: human}}}}")
    output = official.communicate(timeout=60)[0]
    assert official.returncode != 0
    assert f"{root}: Snakemake puts something else in the place of `<name>`" in output
    assert "Traceback" not in output


def test_a_copied_folder_does_not_run_the_code_of_the_other_one(fresh, repository, tmp_path):
    copy = fresh.copy(tmp_path / "copy")
    command = [sys.executable, "workflow/snakemake", "--dry-run", "--cores", "1"]
    copy.environment.pop("PYTHONPATH")
    copied = copy.says(*command)
    assert copied.returncode != 0
    assert f"{copy.folder}/src: " in copied.stderr and f"runs the code in {repository}/src instead" in copied.stderr
    copy.environment["PYTHONPATH"] = os.pathsep.join(["src", "nowhere"])
    assert copy.says(*command).returncode == 0
    copy.environment["PYTHONPATH"] = str(repository / "src")  # named, so meant
    assert copy.says(*command).returncode == 0


def test_who_holds_the_lock_is_on_record(made):
    assert made.read("work/pipeline.host").decode().split()[0] == platform.node()


def test_the_mini_world_of_a_data_set_in_no_table_is_made(fresh):
    alone = "datasets={alone: {like: vatex}}"
    output = fresh.run("--dry-run", "--quiet", "host", "--config", alone, "--", "data/alone-synthetic/captions.parquet")
    assert re.search(r"^world +1$", output, re.M), output


def test_names_of_tables_are_no_patterns(fresh):
    other = "alignments={t.ny: {data: [vatex], mt: [lexicon], teachers: [cl], seeds: [0], solver: {layer: block}}}"
    output = fresh.run("--dry-run", "--quiet", "host", "--config", other)
    assert re.search(r"^tables +1$", output, re.M), output


def test_a_stage_of_dvc_makes_the_files_of_its_own_data_set(fresh, tmp_path):
    """Though an extractor is called like the data set."""
    checkout, other = fresh.copy(tmp_path / "pair"), "msrvtt_cn-synthetic"

    def named(raw) -> None:
        raw["features"]["extractors"][DATA] = {"extractor": "descriptor", "frames": 1, "size": 32, "grid": 1}
        raw["datasets"]["msrvtt_cn"]["visual"] = DATA
        raw.update(PAIR)

    checkout.edit(named)
    names = [("features", DATA), ("features", other), ("world", DATA), ("tables", "pair"), ("train", other)]
    script = (
        "import runpy; targets = runpy.run_path('workflow/run')['targets']; "
        f"targets.__globals__['check_names'] = print; print([targets(*name) for name in {names}])"
    )
    assert eval(checkout.says(sys.executable, "-c", script).stdout.splitlines()[-1]) == [
        [f"data/{DATA}/features/descriptor.parquet"],
        [f"data/{other}/features/{DATA}.parquet"],
        [f"data/raw/{DATA}/manifest.json"],
        ["results/pair.csv"],
        [f"results/runs/{other}/lexicon/{DATA}/zh/baseline/seed0/model.safetensors"],
    ]


@pytest.fixture
def smoke(repository, tmp_path) -> Checkout:
    """The project with preset `smoke`."""
    checkout = check_out(repository, tmp_path / "smoke")
    params.use("smoke", checkout.folder / "params.yaml")
    return checkout


def languages(checkout: Checkout, table: str) -> set[tuple[str, str, str]]:
    """Data set, target language and source of a table's rows."""
    with open(checkout.folder / f"results/{table}.csv", newline="") as file:
        return {(row["dataset"], row["target_lang"], row["data"]) for row in csv.DictReader(file)}


PAPERS = ("vatex_table", "msrvtt_cn_table", "multi30k_table", "mscoco_table")


@pytest.mark.slow
def test_a_table_of_two_languages(smoke):
    smoke.edit(lambda raw: raw["tables"]["scripts_table"].update(methods=["baseline"]))
    smoke.run("--", "results/scripts_table.csv")
    assert languages(smoke, "scripts_table") == {("multi30k_scripts", lang, "synthetic") for lang in ("ar", "th")}
    assert b"scripts (SYNTHETIC), en to ar, th, descriptor" in smoke.read("results/scripts_table.tex")


@pytest.mark.slow
def test_the_tables_of_the_papers_in_small_with_every_method(smoke):
    smoke.edit(lambda raw: raw["tables"]["vatex_table"].update(seeds=[0]))
    smoke.run("--", "paper", "results/scripts_table.csv", timeout=1800)
    assert languages(smoke, "vatex_table") == {("vatex", "zh", "synthetic")}
    assert languages(smoke, "msrvtt_cn_table") == {("msrvtt_cn", "zh", "synthetic")}
    tasks = ("multi30k_task1", "multi30k_task2")
    all_of_multi30k = {(task, lang, "synthetic") for task in tasks for lang in ("de", "fr", "cs")}
    assert languages(smoke, "multi30k_table") == all_of_multi30k
    assert languages(smoke, "mscoco_table") == {("mscoco", lang, "synthetic") for lang in ("zh", "ja")}
    assert languages(smoke, "scripts_table") == {("multi30k_scripts", lang, "synthetic") for lang in ("ar", "th")}


@pytest.mark.slow
def test_a_table_with_a_cached_prefix(fresh, tmp_path):
    """States of texts have their own jobs; nothing is computed again when the states are deleted."""
    checkout, model = fresh.copy(tmp_path / "cached"), text_encoder(tmp_path / "model")

    def named(raw) -> None:
        prefix = {"encoder": model, "max_tokens": 32, "frozen_layers": "all", "frozen_prefix": "cached"}
        small = raw["networks"]["small"]
        small["text"] = prefix | {"block": small["text"]["block"]}
        raw["teachers"]["cl"]["objectives"]["word_alignment"]["masked"] = 0

    checkout.edit(named)
    computed = checkout.computed()
    assert {f"results/runs/{CL2CM}/seed0", f"results/evaluations/{CL2CM}/seed0", TABLE} <= computed
    assert len([target for target in computed if target.startswith("work/states/")]) == 2
    assert "Nothing to be done" in checkout.run()
    table = checkout.read()
    shutil.rmtree(checkout.folder / "work/states")
    assert checkout.computed() == set()
    assert checkout.read() == table


@pytest.mark.slow
def test_killed_at_any_moment_and_started_again_it_makes_the_same_table(fresh, made, tmp_path):
    checkout = fresh.copy(tmp_path / "killed")
    kills = killed_until_done(checkout.start, (2.0, 8.0))
    assert kills >= 3
    assert checkout.read() == made.read()
    assert "Nothing to be done" in checkout.run()


@pytest.mark.slow
def test_jobs_that_outlive_a_killed_snakemake_do_no_harm(fresh, made, tmp_path):
    checkout = fresh.copy(tmp_path / "orphans")
    process = checkout.start()
    while not list(checkout.folder.glob("logs/train/**/*.log")):
        time.sleep(0.2)
        assert process.poll() is None
    process.kill()  # only Snakemake; its training job continues
    checkout.run()
    process.communicate()
    assert checkout.read() == made.read()


@pytest.mark.slow
def test_two_clones_make_the_same_bytes(made, fresh, tmp_path):
    """All files of the table, and everything sealed except for where and when a training job ran."""
    other = fresh.copy(tmp_path / "other")
    other.run()
    files = {path.relative_to(made.folder) for top in ("data", "results") for path in (made.folder / top).rglob("*")}
    table = {path for path in files if "tiny" in path.as_posix() and (made.folder / path).is_file()}
    assert len(table) == 18
    trained = {path for path in files if path.name == "seal.json" and {"runs", "teachers"} & {*path.parts}}
    for path in files - trained:
        if (made.folder / path).is_file() and path.name != "provenance.json":
            assert (made.folder / path).read_bytes() == (other.folder / path).read_bytes(), path
