"""Real DVC over real Snakemake on a tiny table: what a change reruns, what a colleague gets, and that the two agree."""

import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_models
import yaml
from checkouts import CAUGHT, CL2CM, DATA, TABLE, Checkout, Tracked, killed_until_done, targets, track
from raw_files import write

from ccr import params, registry
from ccr.artifacts.code import closure
from ccr.artifacts.parquet import read_parquet
from ccr.cli import STAGES

BASELINE = CL2CM.replace("cl2cm", "baseline")
TEACHER = f"results/teachers/{DATA}/lexicon/zh/cl/seed0"
RAW = f"data/raw/{DATA}"
CAPTIONS = f"data/{DATA}/captions.parquet"
TRANSLATION = f"data/{DATA}/translations/lexicon/zh.parquet"
FEATURES = f"data/{DATA}/features/descriptor.parquet"


def trained(*methods: str) -> set[str]:
    """The runs of these methods, their evaluations and the table."""
    return {f"results/{kind}/{method}" for kind in ("runs", "evaluations") for method in methods} | {TABLE}


B, C = f"{BASELINE}/seed0", f"{CL2CM}/seed0"


# --- what a change recomputes ------------------------------------------------------------------------------


def setting(path: str, value):
    """Changes one value of params.yaml."""

    def change(checkout: Checkout) -> None:
        def edit(raw) -> None:
            *above, last = path.split(".")
            for name in above:
                raw = raw[name]
            raw[last] = value

        checkout.edit(edit)

    return change


def line(file: str, text: str):
    """Appends a line to a source file."""

    def change(checkout: Checkout) -> None:
        with (checkout.folder / "src/ccr" / file).open("a") as code:
            code.write(f"\n{text}\n")

    return change


def other_extractor(checkout: Checkout) -> None:
    setting("features.extractors.coarse", {"extractor": "descriptor", "frames": 1, "size": 32, "grid": 1})(checkout)
    setting("datasets.vatex.visual", "coarse")(checkout)


def unused_code(checkout: Checkout) -> None:
    for file in ("objectives/adversarial.py", "translate/online.py", "translate/human.py", "features/published.py"):
        line(file, "REMARK = 1")(checkout)


SUBSTITUTED = {path.replace("/lexicon/", "/lexicon_substitute20/") for path in (TEACHER, TRANSLATION, *trained(B, C))}
COARSE = {path.replace("/descriptor", "/coarse") for path in (FEATURES, *trained(B, C))}
# the table of docs/dvc.md: what is changed, how, what must be computed
CHANGES = {
    "the mini-world": (
        setting("datasets.vatex.world.seed", 1),
        {RAW, CAPTIONS, TRANSLATION, FEATURES, TEACHER} | trained(B, C),
    ),
    "a weight of the teacher": (
        setting("teachers.cl.objectives.instance_alignment.weight", 0.5),
        {TEACHER} | trained(C),
    ),
    "a weight of the student": (
        setting("methods.cl2cm.objectives.relation_distillation.weight", 0.25),
        trained(C),
    ),
    "a seed added": (
        setting("tables.tiny.seeds", [0, 1]),
        {TEACHER.replace("seed0", "seed1")} | trained(B.replace("seed0", "seed1"), C.replace("seed0", "seed1")),
    ),
    "a method added": (
        setting("tables.tiny.methods", ["baseline", "cl2cm", "pseudo_parallel"]),
        trained(C.replace("cl2cm", "pseudo_parallel")),
    ),
    "an option of the engine": (
        setting("translate.variants.lexicon.error_rate", 0.3),
        {TRANSLATION, TEACHER} | trained(B, C),
    ),
    "the beam of an engine that the table does not use": (setting("translate.variants.opus.beams", 2), set()),
    "the noise rate, from none to .2": (setting("datasets.vatex.mt", "lexicon_substitute20"), SUBSTITUTED),
    "the extractor": (other_extractor, COARSE),
    "frames per video": (setting("features.extractors.descriptor.frames", 3), {FEATURES} | trained(B, C)),
    "the batch size of evaluation": (
        setting("evaluate.batch", 256),
        {f"results/evaluations/{method}" for method in (B, C)} | {TABLE},
    ),
    "a column of the table: what it compares with": (setting("tables.tiny.baseline", "cl2cm"), {TABLE}),
    "a comment in the code of tables": (line("tables/rows.py", "# a remark"), set()),
    "the code of an objective": (line("objectives/relation_distillation.py", "REMARK = 1"), trained(C)),
    "the code of an objective that all use": (line("objectives/infonce.py", "REMARK = 1"), {TEACHER} | trained(B, C)),
    "the code of an objective, an engine, an extractor that the table does not use": (unused_code, set()),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_redoes_what_it_touches(reproduced, tmp_path, change):
    redoes(reproduced, tmp_path, *CHANGES[change])


@pytest.mark.slow
def test_the_beam_of_a_neural_engine_redoes_what_it_translates(reproduced, tmp_path):
    model = tiny_models.marian(tmp_path / "model")
    variant = {"engine": "transformers", "model": str(model), "on_failure": "keep_source"}

    def neural(raw) -> None:
        raw["translate"]["variants"]["neural"] = variant
        raw["datasets"]["vatex"]["mt"] = "neural"

    checkout = reproduced.copy(tmp_path / "neural")
    checkout.edit(neural)
    expected = {path.replace("/lexicon/", "/neural/") for path in (TRANSLATION, TEACHER, *trained(B, C))}
    assert checkout.repro()[0] == expected
    redoes(checkout, tmp_path, setting("translate.variants.neural.beams", 2), expected)


def redoes(made: Tracked, tmp_path: Path, change, expected: set[str]) -> None:
    """After the change, DVC and Snakemake, each in a copy, compute the expected targets and the same table."""
    by_dvc, by_snakemake = (made.copy(tmp_path / name) for name in ("dvc", "snakemake"))
    change(by_dvc)
    computed, _ = by_dvc.repro()
    assert computed == expected
    assert "Nothing to be done" in by_dvc.run()
    change(by_snakemake)
    assert by_snakemake.computed() == expected
    assert by_snakemake.read() == by_dvc.read()


@pytest.mark.slow
def test_repro_does_nothing_twice_and_snakemake_agrees(reproduced, made, tmp_path):
    checkout = reproduced.copy(tmp_path / "again")
    assert checkout.read() == made.read()
    assert "Data and pipelines are up to date" in checkout.dvc("repro")
    assert "Nothing to be done" in checkout.run()


@pytest.mark.slow
def test_metrics_and_figures_are_known_to_dvc(reproduced):
    assert "vatex/lexicon/descriptor/zh/cl2cm" in reproduced.dvc("metrics", "show")
    assert "training_curves.png" in reproduced.dvc("plots", "show", "--out", "work/plots", "--json")


# --- a colleague -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_colleague_pulls_changes_one_weight_and_trains_one_method(colleague):
    assert "up to date" in colleague.dvc("status")
    assert "Nothing to be done" in colleague.run("--dry-run")
    CHANGES["a weight of the student"][0](colleague)
    # Snakemake was never run here, yet knows that these results belong to other settings
    assert colleague.planned() == {"student", "evaluate", "tables"}
    colleague.command(sys.executable, "-m", "ccr", "memo", "adopt")
    computed, copied = colleague.repro()
    assert computed == trained(C)
    assert {TEACHER, f"results/runs/{B}"} <= copied
    assert "Nothing to be done" in colleague.run()


@pytest.mark.slow
def test_results_of_other_settings_that_are_put_back_are_not_taken_for_fresh(reproduced, tmp_path):
    """Files newer than everything they were made from, under settings that did not make them."""
    checkout = reproduced.copy(tmp_path / "back")
    CHANGES["a column of the table: what it compares with"][0](checkout)
    assert checkout.computed() == {TABLE}
    checkout.dvc("checkout", "--force")
    assert checkout.planned() == {"tables"}


@pytest.mark.slow
def test_results_that_dvc_restores_next_to_old_logs_are_up_to_date(reproduced, tmp_path):
    """Without dvc.lock, DVC takes every stage's outputs out of its cache, with new times."""
    checkout = reproduced.copy(tmp_path / "restored")
    assert list((checkout.folder / "logs").rglob("*.tsv"))
    (checkout.folder / "dvc.lock").unlink()
    assert checkout.repro() == (set(), set())
    shutil.rmtree(checkout.folder / "work/memo")
    assert "Nothing to be done" in checkout.run()


@pytest.mark.slow
def test_twenty_clones_have_nothing_to_do(reproduced, tmp_path):
    for number in range(20):
        clone = type(reproduced)(tmp_path / str(number))
        reproduced.command("git", "clone", "--quiet", str(reproduced.folder), str(clone.folder))
        clone.dvc("remote", "modify", "--local", "shared", "url", str(reproduced.folder.parent / "remote"))
        clone.dvc("pull")
        shuffle_times(clone, random.Random(number))
        assert "up to date" in clone.dvc("status")
        assert "Nothing to be done" in clone.run("--dry-run")
        shutil.rmtree(clone.folder)


def shuffle_times(checkout: Checkout, order: random.Random) -> None:
    """Set file times in random order, as a parallel download leaves them."""
    files = [file for top in ("data", "results") for file in (checkout.folder / top).rglob("*") if file.is_file()]
    order.shuffle(files)
    for number, file in enumerate(files):
        os.utime(file, (time.time() - number, time.time() - number))


@pytest.mark.slow
def test_a_seed_in_a_pulled_clone_trains_only_the_new_runs(colleague):
    colleague.command(sys.executable, "-m", "ccr", "memo", "adopt")
    change, expected = CHANGES["a seed added"]
    change(colleague)
    assert colleague.repro()[0] == expected


@pytest.mark.slow
def test_raw_data_of_ones_own_can_be_tracked(reproduced, tmp_path):
    checkout = reproduced.copy(tmp_path / "raw")
    folder = checkout.folder / "data/raw/mine"
    folder.mkdir(parents=True)
    (folder / "captions.tsv").write_text("a photo\n")
    checkout.dvc("add", "data/raw/mine")
    assert checkout.git("status", "--short", "--untracked-files=all").split() == ["??", "data/raw/mine.dvc"]


def test_data_sets_that_dvc_yaml_does_not_name_are_one_message(fresh, repository, tmp_path):
    checkout = fresh.copy(tmp_path / "names")
    shutil.copy(repository / "dvc.yaml", checkout.folder)
    checkout.edit(lambda raw: raw["tables"]["tiny"].update(data=["vatex", "msrvtt_cn"]))
    result = subprocess.run(["workflow/run", "captions", DATA], cwd=checkout.folder, env=checkout.environment, **CAUGHT)
    assert result.returncode == 1
    assert "write `data: [msrvtt_cn-synthetic, vatex-synthetic]`" in result.stdout
    assert "results/runs/msrvtt_cn-synthetic" in result.stdout
    assert "Traceback" not in result.stdout


@pytest.mark.slow
def test_a_data_set_is_tested_with_the_runs_of_another(reproduced, tmp_path):
    checkout, file = reproduced.copy(tmp_path / "elsewhere"), "data/raw/elsewhere/captions.csv"
    captions = read_parquet(checkout.folder / CAPTIONS).to_pylist()
    rows = [c for c in captions if (c["split"], c["lang"], c["origin"]) == ("test", "zh", "human")]
    lines = [f"{row['item_id']},test,zh,{row['text']}" for row in rows]
    write(checkout.folder / file, "\n".join(["item_id,split,lang,text", *lines]))
    shutil.copytree(checkout.folder / f"data/raw/{DATA}/videos", checkout.folder / "data/raw/elsewhere/videos")

    def add(raw) -> None:
        about = {"kind": "video", "importer": "table", "root": "data/raw/elsewhere", "target_langs": ["zh"]}
        raw["datasets"]["elsewhere"] = about | {"trained_on": "vatex", "mt": "lexicon", "visual": "descriptor"}
        raw["tables"]["tiny"]["data"].append("elsewhere")

    checkout.edit(add)
    message = checkout.says("dvc", "repro").stderr
    for deps in ("evaluate: data/elsewhere/items.parquet, results/runs/elsewhere", "tables: results/evaluations/else"):
        assert f"add to the deps of stage {deps}" in message
    stages = checkout.folder / "dvc.yaml"
    text = stages.read_text().replace(f"data: [{DATA}]", f"data: [{DATA}, elsewhere]")
    for path in ("data/{}/items.parquet", "results/runs/{}", "results/evaluations/{}"):
        line = f"      - {path}\n"
        text = text.replace(line.format(DATA), line.format(DATA) + line.format("elsewhere"))
    stages.write_text(text)
    computed, _ = checkout.repro()
    assert {target.split("/")[1] for target in computed if "elsewhere" in target} == {"elsewhere", "evaluations"}
    assert not any("/runs/" in target for target in computed)
    assert checkout.repro() == (set(), set())
    assert b",elsewhere,lexicon," in checkout.read()


# --- experiments -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_experiments(reproduced, tmp_path):
    checkout = reproduced.copy(tmp_path / "experiments")
    weight = "methods.cl2cm.objectives.relation_distillation.weight"
    output = checkout.dvc("exp", "run", "--temp", "--name", "light", "--set-param", f"{weight}=0.1")
    assert targets("computed", output) == trained(C)  # the rest comes from the workspace's memo
    assert "up to date" in checkout.dvc("status")  # the workspace itself is untouched
    output = checkout.dvc("exp", "run", "--name", "heavy", "--set-param", f"{weight}=0.2")
    assert targets("computed", output) == trained(C)
    assert "Nothing to be done" in checkout.run()
    checkout.dvc("exp", "run", "--queue", "--name", "queued", "--set-param", f"{weight}=0.3,0.4")
    checkout.dvc("queue", "start")
    finished = time.monotonic() + 300
    while time.monotonic() < finished and checkout.dvc("queue", "status").count("Success") < 2:
        time.sleep(2)
    shown = checkout.dvc("exp", "show", "--csv", "--only-changed")
    assert shown.count("queued") == 2
    for value in ("0.1", "0.2", "0.3", "0.4"):
        assert value in shown
    assert weight in checkout.dvc("params", "diff")
    assert "cl2cm" in checkout.dvc("metrics", "diff")


# --- what happens when things die --------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_in_any_stage_and_reproduced_it_makes_the_same_table(fresh, repository, made, tmp_path):
    checkout = track(fresh.copy(tmp_path / "killed"), repository)

    def look() -> None:
        if list((checkout.folder / ".dvc/cache/files/md5").glob("??/*")):
            assert checkout.broken() == []
        delete_torn_files(checkout)

    kills = killed_until_done(lambda: checkout.launch("-m", "dvc", "repro"), (2.0, 15.0), look)
    assert kills >= 5
    assert checkout.read() == made.read()
    assert checkout.broken() == []
    assert "Data and pipelines are up to date" in checkout.dvc("repro")
    assert "Nothing to be done" in checkout.run()


# what DVC writes in place, by what it says if such a file is torn
IN_PLACE = {"Unable to read RWLock-file": ".dvc/tmp/rwlock", "dvc.lock": "dvc.lock"}


def torn_file(checkout: Tracked) -> str | None:
    """The file that DVC refuses to read because it was stopped while it wrote it."""
    command = [sys.executable, "-m", "dvc", "status"]
    result = subprocess.run(command, cwd=checkout.folder, env=checkout.environment, **CAUGHT)
    if result.returncode == 0:
        return None
    (file,) = (file for message, file in IN_PLACE.items() if message in result.stdout)
    return file


def delete_torn_files(checkout: Tracked) -> list[str]:
    """Do what docs/dvc.md says."""
    deleted = []
    while file := torn_file(checkout):
        (checkout.folder / file).unlink()
        deleted.append(file)
    return deleted


@pytest.mark.slow
def test_what_a_kill_left_half_written_is_in_no_output(reproduced, tmp_path):
    checkout = reproduced.copy(tmp_path / "left")
    left = checkout.folder / f"results/runs/{CL2CM}/.seed0.0123abcd.tmp"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    (checkout.folder / "results/figures/tiny/.sumr.pdf.0123abcd.tmp").write_bytes(b"")
    assert "up to date" in checkout.dvc("status")
    (checkout.folder / "dvc.lock").unlink()
    assert checkout.repro() == (set(), set())
    assert checkout.git("status", "--short").strip() == ""


@pytest.mark.slow
@pytest.mark.parametrize("share", [0, 0.4])
@pytest.mark.parametrize("file", IN_PLACE.values())
def test_a_torn_file_is_deleted_and_nothing_computed_again(reproduced, tmp_path, file, share):
    checkout = reproduced.copy(tmp_path / "torn")
    assert delete_torn_files(checkout) == []
    torn = checkout.folder / file
    content = torn.read_bytes() if file == "dvc.lock" else b'{"/folder": {"write": {"pid": 1}}}'
    torn.write_bytes(content[: int(share * len(content))])
    deleted = delete_torn_files(checkout)
    # what is left of dvc.lock may be readable, with stages missing
    assert deleted == [file] or (deleted == [] and file == "dvc.lock" and share)
    assert checkout.repro()[0] == set()
    assert checkout.read() == reproduced.read()
    assert checkout.git("status", "--short").strip() == ""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted, which only root may")
@pytest.mark.parametrize("free", [0, 100_000])
def test_a_full_disk_is_an_error_and_nothing_is_recorded(reproduced, tmp_path, free):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", disk], **CAUGHT)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stdout}")
    try:
        checkout = reproduced.copy(disk / "checkout")
        assert checkout.repro() == (set(), set())
        lock = checkout.read("dvc.lock")
        change, expected = CHANGES["a weight of the student"]
        change(checkout)
        room = shutil.disk_usage(disk).free
        with open(disk / "filler", "wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, max(room - free, 1))
        result = subprocess.run(
            [sys.executable, "-m", "dvc", "repro"], cwd=checkout.folder, env=checkout.environment, **CAUGHT
        )
        assert result.returncode != 0
        assert "No space left on device" in result.stdout or "Unable to read RWLock-file" in result.stdout
        recorded, before = (yaml.safe_load(text)["stages"] for text in (checkout.read("dvc.lock"), lock))
        assert recorded[f"train@{DATA}"] == before[f"train@{DATA}"]
        (disk / "filler").unlink()
        assert delete_torn_files(checkout) in ([], [".dvc/tmp/rwlock"])
        checkout.dvc("checkout", "--force")
        assert checkout.repro()[0] == expected
        assert checkout.broken() == []
    finally:
        subprocess.run(["umount", disk], check=True)


# --- two graphs, one truth ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stages(repository) -> dict[str, dict]:
    """dvc.yaml's stages for the tiny table, with names filled in."""
    found = {}
    file = yaml.safe_load((repository / "dvc.yaml").read_text())
    for name, stage in file["stages"].items():
        text = yaml.safe_dump(stage)
        for item, value in {"table": "tiny", "data": "vatex" if name == "world" else DATA}.items():
            text = text.replace(f"${{item.{item}}}", value)
        found[name] = yaml.safe_load(text)
    return found


def snakemakes(checkout: Checkout) -> dict[str, dict[str, set[str]]]:
    """Per stage: what Snakemake's jobs read from outside the stage, and what they write."""
    code = (checkout.folder / "workflow/run").read_text()
    rules = yaml.safe_load(re.search(r"RULES = (\{.*?\n\})", code, re.S)[1])
    stage_of = {rule: stage for stage, names in rules.items() for rule in names}
    output = checkout.run("--dry-run", "--forceall", "--nocolor", "--quiet", "host")
    found = {stage: {"input": set(), "output": set()} for stage in rules}
    for block in re.split(r"\n(?=(?:local)?rule )", output):
        if (rule := re.match(r"(?:local)?rule (\w+):", block)) and rule[1] in stage_of:
            for kind, files in re.findall(r"^    (input|output): (.*)$", block, re.M):
                found[stage_of[rule[1]]][kind] |= set(files.split(", "))
    for both in found.values():
        both["input"] = {path for path in both["input"] - both["output"] if not path.startswith("work/made/")}
    return found


def under(path: str, folders) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def test_dvc_and_snakemake_read_and_write_the_same(fresh, stages):
    by_snakemake = snakemakes(fresh)
    assert set(by_snakemake) == set(stages)
    # this table's teacher uses no additional text, its methods no translated queries
    optional = {"train": {f"data/{DATA}/parallel"}, "evaluate": {f"data/{DATA}/translations"}}
    optional["captions"] = optional["train"]
    for name, stage in stages.items():
        read, written = by_snakemake[name]["input"], by_snakemake[name]["output"]
        deps = {dep for dep in stage["deps"] if not dep.startswith("src/")}
        outs = {*stage.get("outs", ()), *stage.get("metrics", ()), *stage.get("plots", ())}
        assert {path for path in read if not under(path, deps)} == set(), name
        assert {path for path in written if not under(path, outs)} == set(), name
        unread = {dep for dep in deps if not any(under(path, [dep]) for path in read)}
        unwritten = {out for out in outs if not any(under(path, [out]) for path in written)}
        assert unread | unwritten == optional.get(name, set()), name


def test_dvc_watches_all_code_that_is_in_a_jobs_key(stages, repository):
    """By folder: a job whose key does not include what changed is then copied from the memo."""
    plan = params.plan(params.load(repository / "params.yaml"))
    tables = {"captions": "IMPORTERS", "translate": "ENGINES", "features": "EXTRACTORS", "train": "OBJECTIVES"}
    for name, stage in stages.items():
        watched = {dep.removeprefix("src/ccr/").removesuffix(".py") for dep in stage["deps"] if dep.startswith("src/")}
        modules = {job.module for job in plan.jobs.values() if job.stage == name}
        modules |= {entry.module for entry in getattr(registry, tables.get(name, ""), {}).values()}
        used = {part.split(".")[1] for module in modules for part in closure(module) if part != "ccr"}
        # and the code that turns params.yaml into settings, which enters the key through them
        assert watched - {"params", "registry"} == used - {"registry"}, name
        assert "params" in watched


EDITS = {  # one that takes effect, for each section
    "datasets": ("datasets.vatex.world.seed", 7),
    "translate": ("translate.variants.lexicon.error_rate", 0.5),
    "features": ("features.extractors.descriptor.grid", 3),
    "networks": ("networks.small.dim", 8),
    "train": ("train.student.lr", 0.5),
    "train.teacher": ("train.teacher.lr", 0.5),
    "train.threads": ("train.threads", 2),
    "evaluate": ("evaluate.batch", 3),
    "parallel": ("parallel.world.on_leak", "drop"),
    "teachers": ("teachers.cl.parallel", "world"),
    "methods": ("methods.cl2cm.mt", "human"),
    "tables": ("tables.tiny.seeds", [0, 1]),
    "run": ("run", ["other"]),
}


@pytest.mark.parametrize("section", EDITS)
def test_a_section_that_reaches_a_stage_is_watched_by_dvc(fresh, stages, section):
    """If a change of params.yaml changes a stage's jobs, DVC watches that section for that stage."""
    raw = yaml.safe_load((fresh.folder / "params.yaml").read_text())
    raw["datasets"]["vatex"]["world"]["parallel"] = 30
    raw["tables"]["other"] = raw["tables"]["tiny"] | {"methods": ["supervised"]}
    if section == "parallel":
        raw["teachers"]["cl"]["parallel"] = "world"
    before = jobs(raw)
    path, value = EDITS[section]
    *above, last = path.split(".")
    at = raw
    for name in above:
        at = at[name]
    at[last] = value
    changed = {stage for stage in stages if jobs(raw)[stage] != before[stage]}
    assert changed
    if section == "run":
        changed.remove("tables")  # that stage runs once per table
    for stage in changed:
        watched = stages[stage]["params"]
        assert any(path == param or path.startswith(f"{param}.") for param in watched), stage


def jobs(raw) -> dict[str, dict[str, str]]:
    """Digests of the jobs of each stage that the tables under `run` need."""
    plan = params.plan(params.validate(raw))
    found = {stage: {} for stage in STAGES}
    for table in plan.run:
        for job in plan.needs(f"results/{table}.csv"):
            found[job.stage][job.target] = job.digest
    return found
