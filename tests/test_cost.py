"""What a job cost: its memory, that of its child processes, and the energy that counters have measured."""

import shutil
import subprocess
import sys

import pytest

from ccr.artifacts import energy
from ccr.artifacts.cost import measured
from ccr.artifacts.energy import metered

# NVML's interface: two GPUs, each of which has used another 1,500 mJ at every query
NVML = """
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *number) { *number = 2; return 0; }
static unsigned long long used[2] = {7000, 9000};
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu) { *gpu = &used[index]; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *gpu, unsigned long long *joules) {
    *joules = *(unsigned long long *)gpu += 1500; return 0; }
"""


@pytest.fixture(autouse=True)
def no_counters(monkeypatch, tmp_path):
    """A machine without counters, whatever the real one has."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "powercap")
    monkeypatch.setattr(energy, "NVML", str(tmp_path / "libnvidia-ml.so"))


@pytest.fixture
def zones(tmp_path):
    """Two packages, a part of one of them, and the whole platform, as Linux shows them; folders by name."""
    folders = {}
    for zone, name in (("0", "package-0"), ("0:0", "core"), ("1", "package-1"), ("2", "psys")):
        folder = folders[name] = tmp_path / f"powercap/intel-rapl:{zone}"
        folder.mkdir(parents=True)
        for file, text in (("name", name), ("max_energy_range_uj", "262143000000"), ("energy_uj", "1000000")):
            (folder / file).write_text(f"{text}\n")
    return folders


def test_the_memory_of_a_process_that_it_started_counts():
    with measured() as cost:
        subprocess.run([sys.executable, "-c", "b'x' * 700_000_000"], check=True)
    assert cost["peak_mb"] > 660 and cost["cpu_seconds"] > 0 and cost["seconds"] > 0
    assert cost["joules"] is None


def test_packages_are_summed_and_a_counter_may_start_again(zones):
    with metered() as joules:
        (zones["package-0"] / "energy_uj").write_text("4500000\n")  # 3.5 J
        (zones["package-1"] / "energy_uj").write_text("0\n")  # wrapped around: 262,143 J less 1 J
        (zones["core"] / "energy_uj").write_text("9000000\n")
        (zones["psys"] / "energy_uj").write_text("9000000\n")
    assert joules() == 262145.5


def test_a_counter_that_starts_again_several_times_is_watched(zones, monkeypatch):
    file = zones["package-0"] / "energy_uj"
    monkeypatch.setattr(energy, "EVERY", 0.0)
    seen = []
    update = energy.Counter.update
    monkeypatch.setattr(energy.Counter, "update", lambda self: (update(self), seen.append(1)))
    with metered() as joules:
        for text in ("0\n", "1000000\n") * 2:
            replaced = file.with_suffix(".new")
            replaced.write_text(text)
            replaced.rename(file)
            before = len(seen)
            while len(seen) < before + 6:  # at least one complete update of each counter after the change
                pass
    assert joules() == 2 * 262143.0


def test_counters_that_cannot_be_read_measure_nothing(zones):
    shutil.rmtree(zones["package-1"])
    (zones["package-0"] / "energy_uj").unlink()
    with metered() as joules:
        pass
    assert joules() is None


def test_a_counter_that_goes_away_leaves_no_sum_and_harms_nobody(zones):
    with metered() as joules:
        (zones["package-1"] / "energy_uj").unlink()
    assert joules() is None


def test_gpus_are_asked_by_nvmls_interface(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    (tmp_path / "nvml.c").write_text(NVML)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "libnvidia-ml.so", tmp_path / "nvml.c"], check=True)
    with metered() as joules:
        pass
    assert joules() == 2 * 1.5
