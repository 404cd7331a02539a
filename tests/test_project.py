"""The project itself: pins, the design rules that import-linter checks, light imports, locks left by dead runs."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain

import pytest
import yaml


def run(*command, cwd, **options):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, **options)


def test_environment_yml_has_the_pins_of_constraints_txt(repository):
    pins = (repository / "constraints.txt").read_text().split()
    conda = yaml.safe_load((repository / "environment.yml").read_text())["dependencies"]
    assert conda[-1]["pip"] == pins
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)


def test_every_direct_dependency_is_pinned(repository):
    def normal(name):
        return re.sub("[-_.]+", "-", name).lower()

    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    direct = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    direct.remove("ccr[export,tracking]")  # extras within another extra
    direct = [name for name in direct if "==" not in name]  # others are pinned in pyproject.toml
    pins = {normal(pin.split("==")[0]) for pin in (repository / "constraints.txt").read_text().split()}
    assert not {normal(re.match(r"[A-Za-z0-9_.-]+", name)[0]) for name in direct} - pins
    assert "torch==2.13.0" in (repository / "constraints.txt").read_text().split()


def test_the_design_rules_that_imports_show(repository):
    linted = run(sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", cwd=repository)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("statement", ["import ccr.params, ccr.artifacts, ccr.registry", "import ccr.cli"])
def test_light_modules_do_not_import_heavy_ones(repository, statement):
    heavy = "{'torch', 'transformers', 'tokenizers', 'pandas', 'matplotlib', 'cv2', 'av', 'snakemake', 'dvc'}"
    result = run(sys.executable, "-c", f"{statement}; import sys; print({heavy} & set(sys.modules))", cwd=repository)
    assert result.stdout.strip() == "set()", result.stderr


ARROW = {"numpy", "pyarrow"}
NETWORK = ARROW | {"torch", "safetensors", "tokenizers", "tqdm"}
LOADED = {
    "ccr.world.publish": ARROW | {"av", "cv2", "tqdm"},
    "ccr.captions.dataset": ARROW,
    "ccr.captions.parallel": ARROW,
    "ccr.translate.machine": ARROW,
    "ccr.translate.quality": ARROW | {"pandas", "sacrebleu", "py3langid"},
    "ccr.features.extracted": ARROW | {"av", "PIL", "tqdm"},
    "ccr.features.imported": ARROW | {"tqdm"},
    "ccr.train": NETWORK | {"pandas"},
    "ccr.evaluate.retrieval": NETWORK | {"pandas"},
    "ccr.evaluate.alignment": NETWORK | {"pandas"},
    "ccr.evaluate.encoder": NETWORK,
    "ccr.alignment.sentences": NETWORK | {"matplotlib"},
    "ccr.tables.retrieval_table": ARROW | {"matplotlib", "markdown_it"},
}
DEAR = {
    "torch", "transformers", "tokenizers", "safetensors", "sympy", "scipy", "sklearn", "pandas", "numpy", "pyarrow",
    "cv2", "av", "PIL", "matplotlib", "markdown_it", "sacrebleu", "py3langid", "tqdm", "huggingface_hub", "pydantic",
    "typer", "snakemake", "dvc", "requests",
}  # fmt: skip
COMPILER = ("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "sympy", "transformers")


@pytest.mark.parametrize("module", LOADED)
def test_a_stage_loads_what_it_uses_and_no_more(repository, module):
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    result = run(sys.executable, "-c", code, cwd=repository)
    assert set(result.stdout.split()) & DEAR - {"PIL"} <= LOADED[module], result.stderr
    assert LOADED[module] <= set(result.stdout.split()) | {"cv2"}


def test_a_training_from_scratch_loads_neither_transformers_nor_the_compiler(repository, tmp_path):
    code = (
        "import sys; from pathlib import Path; from toy_trainings import trained; "
        f"trained(Path({str(tmp_path)!r}), ['teacher', 'nrccr', 'cl2cm']); "
        f"print([name for name in {COMPILER} if name in sys.modules])"
    )
    result = run(sys.executable, "-c", code, cwd=repository / "tests")
    assert result.stdout.splitlines()[-1] == "[]", result.stderr


def test_the_log_is_ours_and_has_the_warnings_of_libraries(repository):
    code = (
        "import logging; from ccr.log import start_log; start_log(); "
        "[logging.getLogger(name).log(n, f'{name} {n}') for name in ('fontTools', 'ccr.tables') for n in (20, 30)]"
    )
    result = run(sys.executable, "-c", code, cwd=repository)
    assert result.stderr.splitlines() == ["WARNING: fontTools 30", "ccr.tables 20", "WARNING: ccr.tables 30"]


def test_help_does_not_import_torch(repository):
    result = run(sys.executable, "-X", "importtime", "-m", "ccr", "--help", cwd=repository)
    assert result.returncode == 0
    assert "captions" in result.stdout
    assert not re.search(r"\b(torch|transformers|pandas)\b", result.stderr)


@pytest.fixture
def folder(repository, tmp_path):
    """A folder with the Makefile and a tiny workflow instead of the real one."""
    for file in ("Makefile", "pyproject.toml", "constraints.txt", "workflow/pipeline.py", "workflow/snakemake"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(repository / file, tmp_path / file)
    profile = tmp_path / "workflow/profiles/local"
    shutil.copytree(repository / "workflow/profiles/local", profile)
    (tmp_path / "Snakefile").write_text('rule a:\n    output: "results/{x}.csv"\n    shell: "echo made > {output}"\n')
    return tmp_path


def pipeline(folder, *arguments):
    return run(sys.executable, "workflow/pipeline.py", "--cores", "1", *arguments, cwd=folder)


def test_pipeline_removes_the_lock_of_a_killed_one(folder):
    locks = folder / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text(str(folder / "results/a.csv"))
    result = pipeline(folder, "--", "results/a.csv")
    assert result.returncode == 0, result.stderr
    assert "was killed" in result.stderr
    assert (folder / "results/a.csv").exists()


def test_pipeline_leaves_the_lock_of_another_machine(folder):
    locks = folder / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text(str(folder / "results/a.csv"))
    (folder / "work").mkdir()
    (folder / "work/pipeline.host").write_text("login2 17\n")
    for _ in range(2):
        result = pipeline(folder, "--", "results/a.csv")
        assert result.returncode != 0
        assert "started on login2 (process 17)" in result.stderr and "snakemake --unlock" in result.stderr
    assert run(sys.executable, "-m", "snakemake", "--unlock", "--cores", "1", cwd=folder).returncode == 0
    assert pipeline(folder, "--", "results/a.csv").returncode == 0


def changed(change):
    """A command that changes the pipeline before it starts it."""
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, 'workflow'); import pipeline; {change}"]


def test_a_disk_without_locks_is_one_message(folder):
    error = "import errno; no = lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, 'No locks available'))"
    result = run(*changed(f"{error}; pipeline.fcntl.flock = no; pipeline.main()"), cwd=folder)
    assert result.returncode == 1
    assert result.stderr.startswith("work/pipeline.lock: this disk locks no files (No locks available)")
    assert len(result.stderr.splitlines()) == 1


ON_GPUS = """
rule a:
    output: "results/{x}.csv"
    resources: gpu=lambda wildcards: int(wildcards.x)
    shell: "mkdir alone; sleep 1; rmdir alone; touch {output}"
"""


def test_jobs_that_use_a_gpu_run_one_at_a_time(folder):
    """All take the first GPU; a training with two processes asks for both."""
    (folder / "Snakefile").write_text(ON_GPUS)
    for device in ("nvidia0", "nvidia1"):
        (folder / device).touch()
    command = changed("pipeline.GPUS = 'nvidia[0-9]*'; pipeline.main()")
    result = run(*command, "--cores", "2", "--", "results/1.csv", "results/2.csv", cwd=folder)
    assert result.returncode == 0, result.stderr


NO_LIMIT = {
    "no GPU": ("none[0-9]*", {}),
    "GPUs hidden": ("nvidia[0-9]*", {"CUDA_VISIBLE_DEVICES": ""}),
    "a cluster": ("nvidia[0-9]*", {"SNAKEMAKE_PROFILE": "workflow/profiles/slurm"}),
}


@pytest.mark.parametrize("case", NO_LIMIT)
def test_elsewhere_jobs_are_not_limited_by_gpus(folder, case):
    pattern, environment = NO_LIMIT[case]
    (folder / "nvidia0").touch()
    command = changed(f"pipeline.GPUS = {pattern!r}; print(pipeline.one_gpu())")
    result = run(*command, cwd=folder, env=os.environ | environment)
    assert result.stdout == "[]\n", result.stderr


@pytest.mark.slow
def test_pipeline_leaves_the_lock_of_a_living_snakemake(folder):
    (folder / "Snakefile").write_text(
        'rule a:\n    output: "results/{x}.csv"\n'
        '    shell: "touch started; until [ -e end ]; do sleep 0.1; done; touch {output}"\n'
    )
    by_hand = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "1", "--", "results/a.csv"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (folder / "started").exists():
        assert by_hand.poll() is None
    try:
        result = pipeline(folder, "--", "results/a.csv")
    finally:
        (folder / "end").touch()
    assert result.returncode != 0
    assert "LockException" in result.stderr + result.stdout
    assert by_hand.wait() == 0


@pytest.mark.slow
def test_two_pipelines_run_one_after_the_other(folder):
    (folder / "Snakefile").write_text(
        'rule a:\n    output: "results/{x}.csv"\n    shell: "mkdir alone; sleep 1; rmdir alone; touch {output}"\n'
    )
    command = [sys.executable, "workflow/pipeline.py", "--cores", "1", "--"]
    both = [subprocess.Popen([*command, f"results/{x}.csv"], cwd=folder) for x in "ab"]
    assert [process.wait() for process in both] == [0, 0]


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_make_refuses_an_old_python_in_words(folder):
    old = "import sys; sys.version_info = (3, 9, 2); exec(sys.argv[1])"
    script(folder / "python3.9", f"exec '{sys.executable}' -c '{old}' \"$2\"")
    result = run("make", "results/a.csv", "PYTHON=./python3.9", cwd=folder)
    assert result.returncode != 0
    assert "ccr needs Python 3.11 or newer, ./python3.9 is 3.9" in result.stderr


@pytest.fixture
def stand_in(folder):
    """The folder with a Python that notes how it is called, and installs packages unless there is a file `offline`."""
    log = 'echo "$@" >> calls; mkdir -p .venv/bin; cp python .venv/bin/python'
    script(folder / "python", f'{log}; case "$*" in *"pip install"*) [ ! -e offline ];; esac')
    return folder


def test_make_makes_a_half_made_venv_again_and_a_whole_one_once(stand_in):
    folder = stand_in
    (folder / ".venv").mkdir()
    (folder / ".venv/half").touch()
    for _ in range(2):
        assert run("make", ".venv", "PYTHON=./python", cwd=folder).returncode == 0
    assert not (folder / ".venv/half").exists()
    assert [call.split()[:3] for call in (folder / "calls").read_text().splitlines()[-2:]] == [
        ["-m", "venv", ".venv"],
        ["-m", "pip", "install"],
    ]
    assert (folder / "calls").read_text().count("pip install") == 1


def test_make_installs_again_what_it_could_not_into_the_same_venv(stand_in):
    (stand_in / "offline").touch()
    failed = run("make", ".venv", "PYTHON=./python", cwd=stand_in)
    assert failed.returncode != 0 and "The same command tries again" in failed.stderr
    (stand_in / "offline").unlink()
    assert run("make", ".venv", "PYTHON=./python", cwd=stand_in).returncode == 0
    calls = (stand_in / "calls").read_text()
    assert (calls.count("-m venv"), calls.count("pip install")) == (1, 2)


@pytest.mark.parametrize("place", [shutil.copytree, shutil.move])
def test_make_makes_the_venv_of_a_copied_or_moved_folder_again(stand_in, tmp_path_factory, place):
    assert run("make", ".venv", "PYTHON=./python", cwd=stand_in).returncode == 0
    there = tmp_path_factory.mktemp("elsewhere") / "there"
    place(stand_in, there)
    first, second = (run("make", ".venv", "PYTHON=./python", cwd=there) for _ in range(2))
    assert f"It replaces one that was made in {stand_in}" in first.stderr and second.stderr == ""
    assert (there / "calls").read_text().count("-m venv") == 2


STAGES = """
rule teacher:
    output: "results/a/seed0/model"
    log: "logs/{}.log"
    shell: "echo first >> {log}; echo 'WARNING: odd data' >> {log}; {}touch {output}"
""".replace("{}.log", "teacher.log")


@pytest.fixture
def logged(folder, repository):
    """The folder with the pipeline's logger."""
    plugin = "workflow/snakemake_logger_plugin_stages"
    shutil.copytree(repository / plugin, folder / plugin, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("fails", [False, True])
def test_a_line_for_each_job_warnings_and_failures_in_full(logged, fails):
    (logged / "Snakefile").write_text(STAGES.replace("{}", "echo no such thing >> {log}; exit 1; " if fails else ""))
    result = pipeline(logged, "--logger", "stages", "--", "results/a/seed0/model")
    assert (result.returncode != 0) is fails
    lines = result.stderr.splitlines()
    assert "jobs: train 1" in lines
    if fails:
        at = lines.index("FAILED train: results/a/seed0")
        assert lines[at + 1 : at + 4] == ["  first", "  WARNING: odd data", "  no such thing"]
        assert "Its whole log: logs/teacher.log" in lines[at + 4]
    else:
        assert "WARNING: odd data" in lines
        assert [line for line in lines if line.startswith("train 1/1: results/a/seed0 (")]


TRIED_TWICE = """
rule teacher:
    output: "results/a"
    retries: 1
    shell: "[ -e tried ] || {{ touch tried; exit 1; }}; touch {output}"

rule student:
    input: "results/a"
    output: "results/b"
    shell: "cat {nobody}"
"""


def test_what_goes_wrong_after_a_retry_is_shown(logged):
    (logged / "Snakefile").write_text(TRIED_TWICE)
    result = pipeline(logged, "--logger", "stages", "--", "results/b")
    assert result.returncode != 0
    assert "FAILED train: results/a" in result.stderr and "train 1/2: results/a" in result.stderr
    assert "nobody" in result.stderr


def test_every_rule_is_shown_under_the_name_of_its_stage(repository):
    code = "from snakemake_logger_plugin_stages import STAGES; print(STAGES)"
    stages = eval(run(sys.executable, "-c", code, cwd=repository / "workflow").stdout)
    commands = {"world": "world"}  # the mini-world is shown by itself
    for file in (repository / "workflow/rules").glob("*.smk"):
        commands |= dict.fromkeys(re.findall(r"^rule (\w+):", file.read_text(), re.M), file.stem) | commands
    assert len(commands) > 10
    assert {rule: stages.get(rule, rule) for rule in commands} == commands


def test_what_snakemake_refuses_is_shown(logged):
    result = pipeline(logged, "--logger", "stages", "--", "results/nothing/makes/this")
    assert result.returncode != 0 and "No rule to produce results/nothing/makes/this" in result.stderr


def test_a_profile_that_is_not_there_is_one_message(folder, monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "workflow/profiles/slrum")
    result = pipeline(folder, "--", "results/a.csv")
    assert result.returncode == 1
    assert result.stderr.startswith("SNAKEMAKE_PROFILE: workflow/profiles/slrum: no such profile")


def test_a_terminal_shows_a_line_for_each_stage(logged):
    (logged / "Snakefile").write_text(STAGES.replace("{}", ""))
    ours, theirs = os.openpty()
    command = [
        sys.executable,
        "workflow/pipeline.py",
        "--cores",
        "1",
        "--logger",
        "stages",
        "--",
        "results/a/seed0/model",
    ]
    with subprocess.Popen(command, cwd=logged, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"}) as run:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is gone once the pipeline has ended
            while part := os.read(ours, 1 << 16):
                shown += part
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert run.returncode == 0, text
    assert re.search(r"train +\S+ 1/1 +0:00:0\d", text)
    assert "WARNING: odd data" in text


def test_the_readme_is_short_and_its_links_lead_somewhere(repository):
    text = (repository / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    links = re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", text)
    assert len(links) > 15
    for path, anchor in links:
        assert (repository / path).exists(), path
        if anchor:
            heads = re.findall(r"^#+ (.*)$", (repository / path).read_text(), re.M)
            assert anchor[1:] in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
