"""Copies of the project, tiny ones, in which the real Snakemake and DVC are run."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import yaml

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

WHO = {f"GIT_{role}_{what}": "test@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
CAUGHT = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}


def targets(verb: str, output: str) -> set[str]:
    """The targets that were `computed`, or `copied` from the memo; progress bars may stand in the same line."""
    return set(re.findall(rf"((?:data|results|work)/[^\s:]+): {verb} ", output))


def heed_ctrl_c() -> None:
    """Commands that a shell puts into the background, such as tests, and all that they start ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Checkout:
    """A copy of the project with a tiny table, in which Snakemake is run."""

    OPTIONS = ("--cores", "2")

    def __init__(self, folder: Path):
        self.folder = folder
        path = os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
        self.environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder / "src")} | WHO

    def copy(self, folder: Path) -> "Checkout":
        shutil.copytree(self.folder, folder)  # keeps the times that Snakemake looks at
        return Checkout(folder)

    def start(self, *options: str) -> subprocess.Popen:
        """The pipeline in a session of its own, so that it can be killed with all its jobs."""
        return subprocess.Popen(
            [sys.executable, "workflow/pipeline.py", *self.OPTIONS, *options],
            cwd=self.folder,
            env=self.environment,
            start_new_session=True,
            preexec_fn=heed_ctrl_c,
            **CAUGHT,
        )

    def run(self, *options: str, timeout: float = 300) -> str:
        process = self.start(*options)
        output = process.communicate(timeout=timeout)[0]
        assert process.returncode == 0, output
        return output

    def computed(self) -> set[str]:
        """Runs the pipeline; returns the targets that were computed, not copied from the memo."""
        return targets("computed", self.run())

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


def make_tiny(params) -> None:
    """Settings of a table that takes seconds."""
    params.update(TINY)
    params["networks"]["tiny"] = NETWORK
    for role in ("student", "teacher"):
        params["train"][role] |= {"network": "tiny", "batch": 32, "epochs": 1}
    params["datasets"]["vatex"] |= {"source": "synthetic", "world": WORLD}
    params["datasets"]["vatex"].pop("train", None)
    params["features"]["extractors"]["descriptor"] = {"frames": 2, "size": 32, "grid": 2}


class Tracked(Checkout):
    """A checkout under git and DVC."""

    def command(self, *words: str, timeout: float = 600) -> str:
        """What a command prints; it must succeed."""
        result = subprocess.run(words, cwd=self.folder, env=self.environment, timeout=timeout, **CAUGHT)
        assert result.returncode == 0, f"{words}: {result.stdout}"
        return result.stdout

    def dvc(self, *words: str) -> str:
        return self.command(sys.executable, "-m", "dvc", *words)

    def git(self, *words: str) -> str:
        return self.command("git", *words)

    def repro(self) -> tuple[set[str], set[str]]:
        """`dvc repro`: the targets that were computed, and those that were copied from the memo."""
        output = self.dvc("repro")
        return targets("computed", output), targets("copied", output)

    def copy(self, folder: Path) -> "Tracked":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Tracked(folder)

    def broken(self) -> list[str]:
        """Files of DVC's cache whose bytes are not what their names say."""
        cache = self.folder / ".dvc/cache/files/md5"
        files = [file for file in cache.glob("??/*") if file.is_file()]
        assert files
        return [
            str(file)
            for file in files
            if hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
            != file.parent.name + file.name.removesuffix(".dir")
        ]


def track(checkout: Checkout, repository: Path) -> Tracked:
    """Puts a checkout under git and DVC."""
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(repository / name, checkout.folder / name)
    skip = shutil.ignore_patterns("tmp", "cache", "config.local")
    shutil.copytree(repository / ".dvc", checkout.folder / ".dvc", ignore=skip)
    tracked = Tracked(checkout.folder)
    tracked.git("init", "--quiet")
    tracked.git("add", "--all")
    tracked.git("commit", "--quiet", "--message", "settings")
    return tracked
