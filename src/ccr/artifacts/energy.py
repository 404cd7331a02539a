"""Energy from the counters of the machine: RAPL for processors, NVML for GPUs. Nothing is estimated.

The counters cover the whole machine, including whatever else runs at the same time.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"
EVERY = 60.0  # seconds: the RAPL counter of a busy processor wraps around after some ten minutes


class Counter:
    """A counter that grows and wraps around. `read`: its state in joules. `span`: where it wraps around, in joules."""

    def __init__(self, read: Callable[[], float], span: float = float("inf")):
        self._read, self._span = read, span
        self._last, self.joules = read(), 0.0

    def update(self) -> None:
        """Add the use since the last call to `joules`. In between, the counter may wrap around at most once."""
        now = self._read()
        self.joules += now - self._last + (self._span if now < self._last else 0.0)
        self._last = now


def counters() -> list[Counter]:
    """The counters of all processor packages and GPUs; empty if there are none, or this user may not read them."""
    return [*_packages(), *_gpus()]


def _packages() -> Iterator[Counter]:
    """RAPL: `energy_uj`, in microjoules, of each package (`intel-rapl:0`, also on AMD processors)."""
    for zone in sorted(POWERCAP.glob("intel-rapl:*")):
        try:
            if zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package"):
                span = int((zone / "max_energy_range_uj").read_text()) / 1e6
                yield Counter(lambda zone=zone: int((zone / "energy_uj").read_text()) / 1e6, span)
        except (OSError, ValueError):
            continue


def _gpus() -> Iterator[Counter]:
    """NVML: `nvmlDeviceGetTotalEnergyConsumption`, in millijoules since the driver was loaded."""
    try:
        nvml = ctypes.CDLL(NVML)
        number = ctypes.c_uint()
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(number)):
            return
    except (OSError, AttributeError):
        return
    for index in range(number.value):
        gpu, used = ctypes.c_void_p(), ctypes.c_ulonglong()

        def read(gpu=gpu, used=used) -> float:
            if nvml.nvmlDeviceGetTotalEnergyConsumption(gpu, ctypes.byref(used)):
                raise OSError("NVML gives no energy of this GPU")
            return used.value / 1e3

        try:
            if not nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(gpu)):
                yield Counter(read)
        except OSError:
            continue


@contextmanager
def metered() -> Iterator[Callable[[], float | None]]:
    """Yields a function that returns, afterwards, how many joules were used within; None if that is not measured."""
    found, over = counters(), threading.Event()

    def update() -> None:
        try:
            for counter in found:
                counter.update()
        except (OSError, ValueError):  # one can no longer be read: a partial sum is useless
            found.clear()

    def watch() -> None:
        while found and not over.wait(EVERY):
            update()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield lambda: round(sum(counter.joules for counter in found), 1) if found else None
    finally:
        over.set()
        watching.join()
        update()
