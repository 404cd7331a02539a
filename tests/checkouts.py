"""Tiny copies of the project, in which the real Snakemake and DVC are run."""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import yaml

from ccr import params

TABLE = "results/tiny.csv"
DATA = "vatex-synthetic"
CL2CM = f"{DATA}/lexicon/descriptor/zh/cl2cm"
PICTURES = "multi30k_task2-synthetic"
GERMAN = f"{PICTURES}/lexicon/descriptor/de/baseline"
TINY = {"tables": {"tiny": {"data": ["vatex"], "methods": ["baseline", "cl2cm"], "seeds": [0]}}, "run": ["tiny"]}

WHO = {f"GIT_{role}_{what}": "test@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
CAUGHT = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}


def targets(verb: str, output: str) -> set[str]:
    """The targets that were `computed`, or `copied` from the memo; progress bars may share their lines."""
    return set(re.findall(rf"((?:data|results|work)/[^\s:]+): {verb} ", output))


def heed_ctrl_c() -> None:
    """Restore the default: what a shell starts in the background, such as tests, and its children ignore SIGINT."""
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
        """Start the pipeline."""
        return self.launch("workflow/pipeline.py", *self.OPTIONS, *options)

    def launch(self, *words: str) -> subprocess.Popen:
        """Start Python with these arguments in its own session, so that it can be killed with all its jobs."""
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            start_new_session=True,
            preexec_fn=heed_ctrl_c,
            **CAUGHT,
        )

    def says(self, *words: str) -> subprocess.CompletedProcess:
        """Run a command to its end, whatever its exit status; stdout and stderr are captured separately."""
        return subprocess.run(words, cwd=self.folder, env=self.environment, capture_output=True, text=True)

    def ccr(self, *words: str) -> subprocess.CompletedProcess:
        """Run `ccr` with these arguments, see `says`."""
        return self.says(sys.executable, "-m", "ccr", *words)

    def run(self, *options: str, timeout: float = 300) -> str:
        process = self.start(*options)
        output = process.communicate(timeout=timeout)[0]
        assert process.returncode == 0, output
        return output

    def computed(self) -> set[str]:
        """Runs the pipeline; returns the targets that were computed, not copied from the memo."""
        return targets("computed", self.run())

    def planned(self) -> set[str]:
        """Rules that Snakemake would run, according to a dry run."""
        output = self.run("--dry-run", "--quiet", "host")
        stats = output.split("Job stats:")[1].split("total")[0] if "Job stats:" in output else ""
        return set(re.findall(r"^(\w+) +\d+$", stats, re.M)) - {"all"}

    def edit(self, change) -> None:
        file = self.folder / "params.yaml"
        raw = yaml.safe_load(file.read_text())
        change(raw)
        file.write_text(yaml.safe_dump(raw, sort_keys=False))

    def read(self, path: str = TABLE) -> bytes:
        return (self.folder / path).read_bytes()


def check_out(repository: Path, folder: Path) -> Checkout:
    """A copy of the project without its results."""
    for name in ("src", "workflow"):
        shutil.copytree(repository / name, folder / name)  # with compiled code, or each command would compile it again
    for name in ("Snakefile", "params.yaml", "environment.yml"):
        shutil.copy(repository / name, folder / name)
    return Checkout(folder)


def make_tiny(checkout: Checkout) -> None:
    """Preset `smoke`, with a table of two methods and one seed."""
    params.use("smoke", checkout.folder / "params.yaml")
    checkout.edit(lambda raw: raw.update(TINY))


def killed_until_done(start: Callable[[], subprocess.Popen], seconds: tuple[float, float], look=lambda: None) -> int:
    """Kills all that `start` starts, in its own session, after a random time, and starts it again until it is done.

    `seconds`: range of that time. `look` is called after each kill. Returns the number of kills, 30 at most.
    """
    moments = random.Random(0)
    for kills in count():
        process = start()
        try:
            output = process.communicate(timeout=moments.uniform(*seconds) if kills < 30 else None)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            look()
        else:
            assert process.returncode == 0, output
            return kills


class Tracked(Checkout):
    """A checkout under git and DVC."""

    def command(self, *words: str, timeout: float = 1200) -> str:
        """The output of a command, which must succeed."""
        result = subprocess.run(words, cwd=self.folder, env=self.environment, timeout=timeout, **CAUGHT)
        assert result.returncode == 0, f"{words}: {result.stdout}"
        return result.stdout

    def dvc(self, *words: str) -> str:
        return self.command(sys.executable, "-m", "dvc", *words)

    def git(self, *words: str) -> str:
        return self.command("git", *words)

    def repro(self) -> tuple[set[str], set[str]]:
        """Runs `dvc repro`; returns the targets that were computed, and those that were copied from the memo."""
        output = self.dvc("repro")
        return targets("computed", output), targets("copied", output)

    def copy(self, folder: Path) -> "Tracked":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Tracked(folder)

    def broken(self) -> list[str]:
        """Files in DVC's cache whose bytes do not match their names."""
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
