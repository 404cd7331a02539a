"""Loading features for training: a store of VATEX's size, 35,000 items x 32 frames x 1024, float16 (2.3 GB).

Measures the time to the first batch (once with decoding, then from the memory map), random batches of 128 items per
second, and memory; against `np.load` of a file per item, and against VisualSearch's layout read the way its code does,
frame by frame, float32. Each is measured in a separate process. The files (12 GB, made in work/) are removed
afterwards; as they have just been written, all layouts are equally in the system's cache, as far as they fit into it.
Writes benchmarks/results/feature_store.json.

    .venv/bin/python benchmarks/feature_store.py [ITEMS]
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ccr.artifacts.files import write_json
from ccr.store import open_features, write_features

ITEMS, FRAMES, DIM, BATCH = 35_000, 32, 1024, 128
SECONDS = 10.0  # of random batches
METADATA = dict.fromkeys(("extractor", "weights", "preprocess", "frame_sampling"), "random")
Load = Callable[[np.ndarray], np.ndarray]


def random_items(number: int) -> Iterator[tuple[str, np.ndarray]]:
    """(item id, float16 (frames, dim)), ascending."""
    generator = np.random.default_rng(0)
    block = generator.standard_normal((1024, FRAMES, DIM), dtype=np.float32).astype(np.float16)
    for item in range(number):
        yield f"video{item:06d}", np.roll(block[item % 1024], item // 1024, axis=1)


def make(folder: Path, number: int) -> dict[str, float]:
    """Write the three layouts; returns the seconds for the store."""
    seconds = {}
    start = time.perf_counter()
    write_features(folder / "features.parquet", random_items(number), metadata=METADATA)
    seconds["store"] = round(time.perf_counter() - start, 1)
    (folder / "files").mkdir()
    with (folder / "feature.bin").open("wb") as binary:
        for item, features in random_items(number):
            np.save(folder / f"files/{item}.npy", features)
            features.astype(np.float32).tofile(binary)
    return seconds


def of_store(folder: Path, _: int) -> Load:
    """The store, opened as in training."""
    store = open_features(folder / "features.parquet", folder / "arrays")
    return lambda items: store.rows(items)[0]


def of_files(folder: Path, _: int) -> Load:
    """A file per item."""
    return lambda items: np.concatenate([np.load(folder / f"files/video{item:06d}.npy") for item in items])


def of_frames(folder: Path, number: int) -> Load:
    """VisualSearch: a name for every frame; for each, its row is looked up and `feature.bin` opened and read."""
    rows = {f"video{item:06d}_{frame}": item * FRAMES + frame for item in range(number) for frame in range(FRAMES)}

    def frame(name: str) -> np.ndarray:
        with (folder / "feature.bin").open("rb") as file:
            file.seek(4 * DIM * rows[name])
            return np.fromfile(file, np.float32, DIM)

    return lambda items: np.stack([frame(f"video{item:06d}_{k}") for item in items for k in range(FRAMES)])


LAYOUTS = {"store": of_store, "file_per_item": of_files, "frame_by_frame": of_frames}


def measure(layout: str, folder: Path, number: int) -> dict[str, float]:
    """Seconds to the first batch, batches/s, memory in MB."""
    generator = np.random.default_rng(0)
    start = time.perf_counter()
    load = LAYOUTS[layout](folder, number)
    load(generator.integers(0, number, BATCH))
    result = {"seconds_to_first_batch": round(time.perf_counter() - start, 2), "peak_mb_until_then": memory("VmHWM")}
    batches, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        load(generator.integers(0, number, BATCH))
        batches += 1
    result["batches_per_s"] = round(batches / (time.perf_counter() - start), 1)
    return result | {"mb_without_mapped_files": memory("RssAnon"), "peak_mb": memory("VmHWM")}


def memory(kind: str) -> int:
    """MB. VmHWM: the peak so far, including pages of mapped files, which the system reclaims when it needs them;
    RssAnon: the current value, without these.
    """
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index(f"{kind}:") + 1]) // 1024


def main(number: int) -> None:
    """Make the files, measure each layout (the store twice), print and write."""
    Path("work").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="benchmark_store_", dir="work"))
    result: dict = {"items": number, "frames": FRAMES, "dim": DIM, "batch": BATCH}
    try:
        result["seconds_to_write"] = make(folder, number)
        result["load_average"] = round(os.getloadavg()[0], 1)
        for name, layout in (("store_first_time", "store"), *zip(LAYOUTS, LAYOUTS, strict=True)):
            command = [sys.executable, __file__, layout, str(folder), str(number)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            result[name] = json.loads(output)
            print(name, result[name], flush=True)
    finally:
        shutil.rmtree(folder)
    write_json(result, Path(__file__).parent / "results/feature_store.json")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else ITEMS)
