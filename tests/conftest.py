"""What all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline for an example: a loaded machine is no fault.
settings.register_profile("ccr", deadline=None)
settings.load_profile("ccr")

# One thread for each test process, before anything imports torch: two that both take all cores slow each other tenfold.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top folder of the project."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real() -> Path:
    """Real data beside the checkout; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / "shared" / "real"
    if not folder.is_dir():
        pytest.skip("real data (../shared/real) is not here")
    return folder


@pytest.fixture(scope="session")
def reference() -> Path:
    """Numbers by the authors' code beside the checkout; tests that need them skip where they are absent."""
    folder = REPOSITORY.parent / "shared" / "reference" / "nrccr"
    if not folder.is_dir():
        pytest.skip("the authors' numbers (../shared/reference/nrccr) are not here")
    return folder


@pytest.fixture
def in_a_folder_of_its_own(tmp_path, monkeypatch) -> None:
    """The test runs in an empty folder; paths of jobs are relative."""
    monkeypatch.chdir(tmp_path)
