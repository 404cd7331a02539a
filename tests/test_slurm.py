"""The pipeline on a real SLURM of one node, brought up by tests/slurm/cluster.sh.

Most tests end with the tiny table and compare it with the one made by the local profile.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from checkouts import CL2CM, TABLE, Checkout, track

pytestmark = pytest.mark.slurm

STATE = Path("/var/lib/ccr-slurm")
RULES = ("rule_translate", "rule_features", "rule_teacher", "rule_student", "rule_tables", "rule_hungry")
# Jobs that need more than they request, with the workflow's `growing`.
MORE = """
include: "Snakefile"


rule hungry:
    output:
        "hungry.txt",
    resources:
        mem_mb=growing(700),
        runtime=growing(10),
    shell:
        "python3 -c 'import time; eaten = 700_000_000 * str(1); time.sleep(5)'; echo {resources.mem_mb} > {output}"


rule slow:
    output:
        "slow.txt",
    resources:
        mem_mb=growing(700),
        runtime=growing(1),
        slurm_extra="",
    shell:
        "sleep 100; echo {resources.runtime} > {output}"
"""
# Stands in for the start of a teacher's training: the first time it only sleeps, and takes 3 s to save on SIGTERM.
STAND_IN = """
import os, signal, sys, time

def save(*_):
    print("saving", flush=True)
    time.sleep(3)
    print("saved", flush=True)  # fails where nobody reads it any more
    open("saved." + name, "w").close()
    sys.exit(1)

if "train" in sys.orig_argv:
    name = sys.orig_argv[-1].replace("/", ".")
    if "teachers" in name and not os.path.exists("saved." + name):
        signal.signal(signal.SIGTERM, save)
        time.sleep(600)
"""

# Training steps that take five seconds more.
SLOW_STEPS = """
import sys

if "train" in sys.orig_argv:
    import time
    from ccr.train.loop import Trainer

    update = Trainer.update

    def slow(self, *arguments, **options):
        time.sleep(5)
        return update(self, *arguments, **options)

    Trainer.update = slow
"""


def slurm(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture(scope="module", autouse=True)
def cluster(repository):
    """A SLURM that takes jobs; it is taken down at the end if it was not up before."""
    script, was_up = repository / "tests/slurm/cluster.sh", (STATE / "slurmctld.pid").exists()
    up = subprocess.run([script, "up"], capture_output=True, text=True, timeout=300)
    if up.returncode == 77:
        pytest.skip(up.stderr.strip())
    assert up.returncode == 0, up.stderr
    yield
    if not was_up:
        subprocess.run([script, "down"], check=True, timeout=120)


class OnCluster(Checkout):
    """A checkout whose pipeline runs on the cluster."""

    OPTIONS = ()  # no --cores: the profile sets the resources

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.environment = self.environment | {"SNAKEMAKE_PROFILE": "workflow/profiles/slurm"}

    def run(self, *options: str, timeout: float = 900) -> str:
        return super().run(*options, timeout=timeout)

    def jobs(self, states: str = "all") -> list[tuple[str, str, str]]:
        """Id, rule with wildcards, and partition of this checkout's jobs in SLURM."""
        rows = slurm(f"squeue --noheader --array --states={states} --format='%i|%k|%P|%Z'").splitlines()
        return [(id_, made, partition) for id_, made, partition, at in map(split, rows) if at == str(self.folder)]

    def until_it_trains(self, process: subprocess.Popen) -> str:
        """Wait until training has begun in a job; returns its id."""
        while True:
            assert process.poll() is None, process.communicate()[0]
            trainings = [
                id_ for id_, made, _ in self.jobs("running") if made.startswith(("rule_teacher", "rule_student"))
            ]
            if trainings and list(self.folder.glob("logs/train/**/*.log")):
                return trainings[0]
            time.sleep(0.5)


def split(row: str) -> list[str]:
    return row.split("|")


def end(process: subprocess.Popen) -> str:
    output = process.communicate(timeout=900)[0]
    assert process.returncode == 0, output
    return output


def two_seeds(params) -> None:
    params["tables"]["tiny"]["seeds"] = [0, 1]


@pytest.fixture(scope="module")
def local(fresh, tmp_path_factory) -> Checkout:
    """The table with two seeds, made by the local profile."""
    checkout = fresh.copy(tmp_path_factory.mktemp("slurm") / "local")
    checkout.edit(two_seeds)
    checkout.run(timeout=900)
    return checkout


@pytest.fixture
def trains(local, tmp_path) -> OnCluster:
    """A checkout in which everything up to training is made."""
    checkout = OnCluster(local.copy(tmp_path / "trains").folder)
    for made in ("results", "work", "logs"):
        shutil.rmtree(checkout.folder / made)
    return checkout


def test_the_table_is_the_one_that_the_local_profile_makes(local, fresh, tmp_path):
    checkout = OnCluster(fresh.copy(tmp_path / "whole").folder)
    checkout.edit(two_seeds)
    checkout.edit(lambda params: params["features"].update(shards=2))
    settings = checkout.read("params.yaml")
    (checkout.folder / "more.smk").write_text(MORE)
    (checkout.folder / "partitions.yaml").write_text("partitions: {main: {max_gpu: 0}, gpu: {max_gpu: 2}}")
    options = ("--snakefile", "more.smk", "--slurm-partition-config", "partitions.yaml")
    process = checkout.start(*options, "--", TABLE, "hungry.txt")
    while not checkout.jobs():
        assert process.poll() is None, process.communicate()[0]
    # jobs that are still to be submitted use the settings that the pipeline was started with
    checkout.edit(lambda params: params["train"]["student"].update(lr=0.5))
    end(process)
    assert checkout.read() == local.read()
    assert checkout.read("hungry.txt") == b"1400\n"  # MB at the second attempt

    jobs = checkout.jobs()
    arrays = {made.split("_wildcards_")[0] for id_, made, _ in jobs if "_" in id_}
    assert arrays == {"rule_features_shard", "rule_teacher", "rule_student"}
    assert all((partition == "gpu") == made.startswith(("rule_teacher", "rule_student")) for _, made, partition in jobs)
    groups = [made for _, made, _ in jobs if not made.startswith(RULES)]
    assert sorted(groups) == ["rule_evaluation_evaluate", "rule_import_captions_world"]
    (checkout.folder / "params.yaml").write_bytes(settings)
    assert "Nothing to be done" in checkout.run()


@pytest.mark.slow
def test_dvc_repro_runs_on_the_cluster(local, fresh, repository, tmp_path):
    checkout = track(fresh.copy(tmp_path / "dvc"), repository)
    checkout.edit(two_seeds)
    checkout.environment |= {"SNAKEMAKE_PROFILE": "workflow/profiles/slurm"}
    checkout.repro()
    assert checkout.read() == local.read()
    assert {made.split("_wildcards_")[0] for _, made, _ in OnCluster(checkout.folder).jobs()} >= set(RULES[:-1])
    assert "up to date" in checkout.dvc("status")


@pytest.mark.slow
def test_a_job_that_runs_out_of_time_gets_more(trains):
    (trains.folder / "more.smk").write_text(MORE)
    trains.run("--snakefile", "more.smk", "--", "slow.txt")
    assert trains.read("slow.txt") == b"2\n"  # minutes at the second attempt


@pytest.mark.slow
def test_a_training_is_told_before_its_time_is_up_and_can_save_where_it_is(trains, local):
    (trains.folder / "src/sitecustomize.py").write_text(STAND_IN)
    trains.run("--set-resources", "teacher:runtime=3 * attempt - 2", "teacher:slurm_extra='--signal=TERM@20'")
    assert len(list(trains.folder.glob("saved.*"))) == 2
    assert trains.read() == local.read()


@pytest.mark.slow
def test_a_training_longer_than_two_limits_ends_in_a_third_allocation(trains, tmp_path):
    run = f"results/runs/{CL2CM.replace('cl2cm', 'baseline')}/seed0"
    trains.edit(lambda params: params["train"]["student"].update(epochs=30, patience=30))  # of one step each: 150 s
    alone = Checkout(trains.copy(tmp_path / "alone").folder)
    alone.run("--", f"{run}/model.safetensors")
    (trains.folder / "src/sitecustomize.py").write_text(SLOW_STEPS)
    limits = ("--set-resources", "student:runtime=1 * attempt", "student:slurm_extra='--signal=TERM@20'")
    trains.run(*limits, "--", f"{run}/model.safetensors")
    log = trains.read(f"logs/train/runs/{CL2CM.replace('cl2cm', 'baseline')}/seed0.log").decode()
    assert len([made for _, made, _ in trains.jobs() if made.startswith("rule_student")]) == 3
    assert "Going on after step" in log
    assert trains.read(f"{run}/model.safetensors") == alone.read(f"{run}/model.safetensors")
    assert not list(trains.folder.glob("work/checkpoints/*"))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["scancel", "scontrol requeue"])
def test_a_training_that_is_cancelled_or_requeued_runs_again(trains, local, command):
    process = trains.start()
    slurm(f"{command} {trains.until_it_trains(process)}")
    end(process)
    assert trains.read() == local.read()


@pytest.mark.slow
def test_the_controller_may_die_while_jobs_run(trains, local):
    process = trains.start()
    trains.until_it_trains(process)
    os.kill(int((STATE / "slurmctld.pid").read_text()), signal.SIGKILL)
    time.sleep(15)
    slurm("slurmctld")
    end(process)
    assert trains.read() == local.read()


@pytest.mark.slow
def test_a_node_may_be_drained_and_come_back(trains, local):
    process = trains.start()
    trains.until_it_trains(process)
    [node] = slurm("sinfo --noheader --format=%N --partition=main").split()
    slurm(f"scontrol update nodename={node} state=drain reason=test")
    time.sleep(20)
    slurm(f"scontrol update nodename={node} state=resume")
    end(process)
    assert trains.read() == local.read()


@pytest.mark.slow
def test_an_interrupted_pipeline_cancels_its_jobs_and_goes_on_later(trains, local):
    process = trains.start()
    trains.until_it_trains(process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert not trains.jobs("pending,running")
    trains.run()
    assert trains.read() == local.read()


@pytest.mark.slow
def test_after_a_killed_pipeline_its_jobs_are_cancelled_as_the_manual_says(trains, local, repository):
    process = trains.start()
    trains.until_it_trains(process)
    process.kill()
    process.communicate()
    assert trains.jobs("pending,running")  # they outlive it: a new one would submit them again
    [command] = re.findall(r"^squeue .*scancel$", (repository / "docs/slurm.md").read_text(), re.M)
    subprocess.run(command, shell=True, cwd=trains.folder, check=True, timeout=60)
    while trains.jobs("pending,running,completing"):
        time.sleep(0.5)
    trains.run()
    assert trains.read() == local.read()
