"""`ccr doctor`: what this machine has and what the default run lacks, without secrets."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ccr import doctor, params
from ccr.doctor import machine, needs, packages
from ccr.running import execute

SECRET = "k3y-that-nobody-may-see"


@pytest.fixture
def here(repository, tmp_path, monkeypatch) -> Path:
    """A project folder that holds only the project's params.yaml and pins."""
    for name in ("params.yaml", "constraints.txt"):
        shutil.copy(repository / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edited(change) -> None:
    raw = yaml.safe_load(Path("params.yaml").read_text())
    change(raw)
    Path("params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def asked(*options: str, **environment: str) -> subprocess.CompletedProcess:
    import os

    command = [sys.executable, "-X", "importtime", "-m", "ccr", "doctor", *options]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def missing() -> str:
    return "\n".join(line for section in doctor.examine(Path("params.yaml")) for line in section.missing)


def test_a_whole_machine_lacks_nothing_and_no_secret_is_told(here):
    result = asked("--json", DEEPL_API_KEY=SECRET, HF_TOKEN=SECRET, HOME=str(here.parent))
    assert result.returncode == 0, result.stdout
    told = json.loads(result.stdout)
    assert told["missing"] == []
    assert told["keys"]["DEEPL_API_KEY"] == told["keys"]["HF_TOKEN"] == "set"
    assert told["machine"]["cores"] >= 1 and told["machine"]["memory_gb"] > told["machine"]["memory_free_gb"] > 0
    assert told["run"]["tables"] == ["vatex_table"] and told["run"]["jobs_to_do"] == told["run"]["jobs"] > 40
    assert 0.1 < told["run"]["disk_gb"] < 1
    assert set(told["disks"]) == {"data", "work", "results", "work/memo", "TMPDIR"}
    assert SECRET not in result.stdout and str(here.parent) not in result.stdout
    assert told["hub"]["cache"].startswith("~")
    if not told["gpus"]["nvidia-smi"]:
        assert " torch\n" not in result.stderr


def test_people_read_the_same(here):
    result = asked()
    assert result.returncode == 0, result.stdout
    lines = result.stdout.splitlines()
    assert lines[0] == "machine" and any(line.startswith("  cores ") for line in lines)


def test_what_the_default_run_lacks_is_named_and_is_exit_status_1(here):
    def official(raw):
        raw["run"] = ["flickr8k_e5_table"]

    edited(official)
    result = asked()
    assert result.returncode == 1
    assert "missing:" in result.stdout
    assert "datasets.flickr8k_e5.root: data/raw/flickr8k does not exist" in result.stdout
    assert "data/models/multilingual-e5-small does not exist" in result.stdout
    assert result.stdout.count("data/models/multilingual-e5-small does not exist") == 1


def test_what_other_settings_made_is_still_to_be_done(here):
    def small(raw):
        raw["datasets"]["vatex"]["world"] |= {"train": 4, "val": 2, "test": 2, "frames": 2, "parallel": 0}
        raw |= {"tables": {}, "alignments": {}, "run": ["quality"]}
        raw["translations"] = {"quality": {"data": ["vatex"], "mt": ["lexicon"]}}

    def jobs_to_do() -> int:
        return needs.needs(Path("params.yaml")).facts["jobs_to_do"]

    edited(small)
    plan = params.plan(params.load())
    jobs = plan.needs("results/quality.csv")
    for done, job in enumerate(jobs):
        assert jobs_to_do() == len(jobs) - done
        execute(plan.keyed(job.target))
    assert jobs_to_do() == 0
    edited(lambda raw: raw["translate"]["variants"]["lexicon"].update(error_rate=0.3))
    assert jobs_to_do() == len(jobs) - 2  # all but the mini-world and its captions
    edited(lambda raw: raw["translate"]["variants"]["lexicon"].update(error_rate=0.15))
    assert jobs_to_do() == 0


def test_a_key_that_the_default_run_needs(here, monkeypatch):
    def deepl(raw):
        raw["translate"]["variants"]["deepl"] = {"engine": "deep_translator", "service": "deepl"}
        raw["datasets"]["vatex"]["mt"] = "deepl"

    edited(deepl)
    monkeypatch.delenv("DEEPL_API_KEY", raising=False)
    assert "translate.variants.deepl: deepl needs a key: set the environment variable DEEPL_API_KEY" in missing()
    monkeypatch.setenv("DEEPL_API_KEY", SECRET)
    assert missing() == ""


def test_settings_that_cannot_be_read_are_what_is_missing(here):
    Path("params.yaml").write_text("run: [")
    assert "not valid YAML" in missing()


def test_a_folder_that_cannot_be_written_to(here, monkeypatch):
    Path("work").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "work")
    assert "work: " in missing() and "cannot be written to" in missing()


def test_a_tmpdir_that_is_not_there(here, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(here / "nowhere"))
    assert "TMPDIR: ~/nowhere does not exist" in missing().replace(str(here), "~")


def test_no_room_for_the_run(here, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    assert "it writes about 0." in missing() and "0.0 GB are free" in missing()


def test_packages_that_are_not_the_pinned_ones(here):
    pins = Path("constraints.txt")
    pins.write_text(pins.read_text().replace("numpy==", "numpy==0."))
    found = packages.packages()
    assert len(found.facts["other_than_pinned"]) == 1 and found.facts["other_than_pinned"][0].startswith("numpy ")
    assert "1 packages are not those of constraints.txt" in found.wrong[0]


def test_a_gpu_that_torch_cannot_use(monkeypatch, tmp_path):
    """A driver that reports a GPU, with a torch that sees none."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771 MiB, 570.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = machine.gpus()
    assert found.facts["nvidia-smi"] == ["NVIDIA H200, 143771 MiB, 570.1"]
    assert "cannot use it" in found.wrong[0]


def test_a_profile_for_slurm_where_there_is_none(monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "workflow/profiles/slurm")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "no sbatch" in machine.programs().wrong[0]
