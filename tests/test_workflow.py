"""Real Snakemake on a tiny synthetic table: what runs again after which change, and what a kill leaves behind."""

import csv
import fcntl
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ccr import params

TABLE = "results/tiny.csv"
DATA = "vatex-synthetic"
CL2CM = f"{DATA}/lexicon/descriptor/zh/cl2cm"
TINY = {"tables": {"tiny": {"data": ["vatex"], "methods": ["baseline", "cl2cm"], "seeds": [0]}}, "run": ["tiny"]}
WORLD = {"train": 40, "val": 12, "test": 16, "captions": 2, "frames": 4, "size": 32, "seed": 0}
NETWORK = {
    "text": {
        "encoder": "scratch", "hidden": 16, "layers": 1, "heads": 2, "feedforward": 16, "vocabulary": 300,
        "max_tokens": 32, "dropout": 0.0, "frozen_layers": 0,
        "block": {"hidden": 16, "heads": 2, "keys": 16, "input_dropout": 0.0, "dropout": 0.0},
    },
    "visual": {
        "hidden": 16, "layer_norm": True, "max_frames": 8, "input_dropout": 0.0, "dropout": 0.0,
        "block": {"heads": 2, "keys": 16},
    },
    "dim": 16,
    "norm": "layer",
    "pooling": "masked_mean",
    "dropout": 0.0,
}  # fmt: skip


class Checkout:
    """A copy of the project with a tiny table, in which Snakemake is run."""

    OPTIONS = ("--cores", "2")

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = os.environ | {"PYTHONPATH": str(folder / "src")}

    def copy(self, folder: Path) -> "Checkout":
        shutil.copytree(self.folder, folder)  # keeps the times that Snakemake looks at
        return Checkout(folder)

    def start(self, *options: str) -> subprocess.Popen:
        """The pipeline in a session of its own, so that it can be killed with all its jobs."""
        return subprocess.Popen(
            [sys.executable, "workflow/pipeline.py", *self.OPTIONS, *options],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *options: str, timeout: float = 300) -> str:
        process = self.start(*options)
        output = process.communicate(timeout=timeout)[0]
        assert process.returncode == 0, output
        return output

    def computed(self) -> set[str]:
        """Runs the pipeline; returns the targets that were computed, not copied from the memo."""
        return set(re.findall(r"(\S+): computed in", self.run()))

    def planned(self) -> set[str]:
        """Rules that a dry run would run."""
        output = self.run("--dry-run", "--quiet", "host")
        stats = output.split("Job stats:")[1].split("total")[0] if "Job stats:" in output else ""
        return set(re.findall(r"^(\w+) +\d+$", stats, re.M)) - {"all"}

    def edit(self, change) -> None:
        file = self.folder / "params.yaml"
        params = yaml.safe_load(file.read_text())
        change(params)
        file.write_text(yaml.safe_dump(params, sort_keys=False))

    def read(self, path: str = TABLE) -> bytes:
        return (self.folder / path).read_bytes()


def check_out(repository: Path, folder: Path) -> Checkout:
    """The project without what it has made."""
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("src", "workflow"):
        shutil.copytree(repository / name, folder / name, ignore=skip)
    for name in ("Snakefile", "params.yaml", "environment.yml"):
        shutil.copy(repository / name, folder / name)
    return Checkout(folder)


@pytest.fixture(scope="module")
def fresh(repository, tmp_path_factory) -> Checkout:
    """Nothing made yet."""

    def make_tiny(params):
        params.update(TINY)
        params["networks"]["tiny"] = NETWORK
        for role in ("student", "teacher"):
            params["train"][role] |= {"network": "tiny", "batch": 32, "epochs": 1}
        params["datasets"]["vatex"] |= {"source": "synthetic", "world": WORLD}
        params["datasets"]["vatex"].pop("train", None)
        params["features"]["extractors"]["descriptor"] = {"frames": 2, "size": 32, "grid": 2}

    checkout = check_out(repository, tmp_path_factory.mktemp("workflow") / "fresh")
    checkout.edit(make_tiny)
    return checkout


@pytest.fixture(scope="module")
def made(fresh, tmp_path_factory) -> Checkout:
    """The tiny table is made: once for all test processes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with open(folder / "made.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "made").exists():
            return Checkout(folder / "made")
        checkout = fresh.copy(folder / "making")
        assert f"results/runs/{CL2CM}/seed0" in checkout.computed()
        return Checkout(checkout.folder.rename(folder / "made"))


@pytest.fixture
def checkout(made, tmp_path) -> Checkout:
    return made.copy(tmp_path / "checkout")


def test_a_dry_run_lists_the_jobs_and_makes_none(fresh):
    rules = {"world", "captions", "translate", "features", "teacher", "student", "evaluate", "tables"}
    assert fresh.planned() == rules
    assert not (fresh.folder / "results").exists()
    assert not (fresh.folder / "data").exists()


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


def test_the_report_shows_table_and_curves(checkout):
    (checkout.folder / "results/report").mkdir()
    checkout.run("--report", "results/report/tiny.html", "--", TABLE)
    report = checkout.read("results/report/tiny.html")
    assert b"table.html" in report
    assert b"training_curves.png" in report
    assert b"gradient_shares.png" in report


def test_a_weight_of_one_method_trains_that_method_again(checkout):
    def change(params):
        params["methods"]["cl2cm"]["objectives"]["relation_distillation"]["weight"] = 0.25

    checkout.edit(change)
    assert checkout.computed() == {f"results/runs/{CL2CM}/seed0", f"results/evaluations/{CL2CM}/seed0", TABLE}


def test_a_setting_given_by_config_reaches_the_job(checkout):
    weight = "methods={cl2cm: {objectives: {relation_distillation: {weight: 0.125}}}}"
    checkout.run("--config", weight)
    config = yaml.safe_load(checkout.read(f"results/runs/{CL2CM}/seed0/config.json"))
    assert "'weight': 0.125" in str(config)


def test_a_new_seed_trains_only_the_new_runs(checkout):
    checkout.edit(lambda params: params["tables"]["tiny"].update(seeds=[0, 1]))
    computed = checkout.computed()
    assert f"results/runs/{CL2CM}/seed1" in computed
    assert {target for target in computed if not target.endswith("/seed1")} == {TABLE}


def test_deleted_results_come_back_from_the_memo(checkout):
    table = checkout.read()
    shutil.rmtree(checkout.folder / "results")
    assert checkout.computed() == set()
    assert checkout.read() == table


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


MSCOCO = {("mscoco", "zh", "synthetic"), ("mscoco", "ja", "synthetic")}


def test_a_table_of_the_papers_in_small(smoke):
    smoke.edit(lambda raw: raw["tables"]["mscoco_table"].update(methods=["source_only", "baseline"]))
    smoke.run("--", "results/mscoco_table.csv")
    assert languages(smoke, "mscoco_table") == MSCOCO
    assert b"mscoco (SYNTHETIC), en to zh, ja, descriptor" in smoke.read("results/mscoco_table.tex")


@pytest.mark.slow
def test_every_table_of_the_papers_in_small(smoke):
    smoke.edit(lambda raw: raw["tables"]["vatex_table"].update(seeds=[0]))
    smoke.run("--", "paper", timeout=1800)
    assert languages(smoke, "vatex_table") == {("vatex", "zh", "synthetic")}
    assert languages(smoke, "msrvtt_cn_table") == {("msrvtt_cn", "zh", "synthetic")}
    tasks = ("multi30k_task1", "multi30k_task2")
    all_of_multi30k = {(task, lang, "synthetic") for task in tasks for lang in ("de", "fr", "cs")}
    assert languages(smoke, "multi30k_table") == all_of_multi30k
    assert languages(smoke, "mscoco_table") == MSCOCO


@pytest.mark.slow
def test_killed_at_any_moment_and_started_again_it_makes_the_same_table(fresh, made, tmp_path):
    checkout = fresh.copy(tmp_path / "killed")
    moments = random.Random(0)
    kills = 0
    for _ in range(12):
        process = checkout.start()
        try:
            output = process.communicate(timeout=moments.uniform(2.0, 8.0))[0]
            assert process.returncode == 0, output
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
    else:
        checkout.run()
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
    process.kill()  # Snakemake alone; its training goes on
    checkout.run()
    process.communicate()
    assert checkout.read() == made.read()
