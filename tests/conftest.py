"""Settings and fixtures that all tests share."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from checkouts import CL2CM, GERMAN, Checkout, Tracked, check_out, make_tiny, track
from hypothesis import settings

# No deadline for examples: slowness on a loaded machine is not a failure.
settings.register_profile("ccr", deadline=None)
settings.load_profile("ccr")

# One thread per test process, set before torch is imported: two that each use all cores slow each other down tenfold.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

REPOSITORY = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that run whole pipelines come first, so that no process is left with one of them at the end.

    The other pipeline files wait for what the first one makes, so the file that waits for servers comes after the
    first. Among the rest, long files come first.
    """
    pipelines = sorted({item.path for item in items if "fresh" in item.fixturenames})
    first = [*pipelines[:1], REPOSITORY / "tests/test_online.py", *pipelines[1:]]
    others = {item.path for item in items} - {*first}
    order = [*first, *sorted(others, key=lambda path: path.stat().st_size, reverse=True)]
    items.sort(key=lambda item: order.index(item.path))


@pytest.fixture
def ascii_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose text files are ASCII unless an encoding is given, as with LC_ALL=C in older Pythons."""
    monkeypatch.setattr("io.text_encoding", lambda encoding, *_: encoding or "ascii")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top folder of the project."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real() -> Path:
    """Real data next to the checkout; tests that need them are skipped if they are absent."""
    folder = REPOSITORY.parent / "shared" / "real"
    if not folder.is_dir():
        pytest.skip("real data (../shared/real) is not here")
    return folder


@pytest.fixture(scope="session")
def reference() -> Path:
    """Numbers from the authors' code, next to the checkout; tests that need them are skipped if they are absent."""
    folder = REPOSITORY.parent / "shared" / "reference" / "nrccr"
    if not folder.is_dir():
        pytest.skip("the authors' numbers (../shared/reference/nrccr) are not here")
    return folder


@pytest.fixture
def in_a_folder_of_its_own(tmp_path, monkeypatch) -> None:
    """The test runs in an empty folder; paths of jobs are relative."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory) -> Checkout:
    """The project with a tiny table; nothing made yet."""
    checkout = check_out(REPOSITORY, tmp_path_factory.mktemp("workflow") / "fresh")
    make_tiny(checkout)
    return checkout


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Makes a folder once for all test processes: `once(name, make)` returns it, made by `make(folder)`."""
    top = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        top = top.parent

    def make_once(name: str, make: Callable[[Path], None]) -> Path:
        with open(top / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (top / name).exists():
                make(top / f"{name}.making")
                (top / f"{name}.making").rename(top / name)
        return top / name

    return make_once


@pytest.fixture(scope="session")
def made(fresh, once) -> Checkout:
    """A checkout in which Snakemake has made the tiny table."""

    def make(folder: Path) -> None:
        assert f"results/runs/{CL2CM}/seed0" in fresh.copy(folder).computed()

    return Checkout(once("made", make))


@pytest.fixture(scope="session")
def german(fresh, once) -> Checkout:
    """A checkout in which Snakemake has made a run on pictures with German captions, and its table."""

    def edit(raw: dict) -> None:
        raw["datasets"]["multi30k_task2"]["target_langs"] = ["de"]
        raw["tables"]["tiny"] = {"data": ["multi30k_task2"], "methods": ["baseline"], "seeds": [0]}

    def make(folder: Path) -> None:
        checkout = fresh.copy(folder)
        checkout.edit(edit)
        assert f"results/runs/{GERMAN}/seed0" in checkout.computed()

    return Checkout(once("german", make))


@pytest.fixture
def checkout(made, tmp_path) -> Checkout:
    """A copy of `made` that a test may damage."""
    return made.copy(tmp_path / "checkout")


@pytest.fixture(scope="session")
def reproduced(made, once) -> Tracked:
    """The tiny table, made by `dvc repro` from the memo, committed, and pushed to the folder `remote` next to it."""

    def make(folder: Path) -> None:
        folder.mkdir()
        checkout = track(check_out(REPOSITORY, folder / "clone"), REPOSITORY)
        make_tiny(checkout)
        shutil.copytree(made.folder / "work/memo", checkout.folder / "work/memo")
        checkout.dvc("remote", "add", "--default", "shared", "../remote")
        assert checkout.repro()[0] == set()
        checkout.git("add", "--all")
        checkout.git("commit", "--quiet", "--message", "results")
        checkout.dvc("push")

    return Tracked(once("reproduced", make) / "clone")


@pytest.fixture
def colleague(reproduced, tmp_path) -> Tracked:
    """A colleague's clone, with the results pulled."""
    clone = Tracked(tmp_path / "colleague")
    reproduced.command("git", "clone", "--quiet", str(reproduced.folder), str(clone.folder))
    clone.dvc("remote", "modify", "--local", "shared", "url", str(reproduced.folder.parent / "remote"))
    clone.dvc("pull")
    return clone
