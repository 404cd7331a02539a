"""Photo features by a CLIP ViT-B/32: extraction against the naive loop, one photo at a time with nothing overlapped.

The model has random weights; its speed is that of a trained one. The naive loop uses the model's own image processor
and runs with one thread and with all; the faster run counts (on a busy machine, the first). The clock starts once the
weights are loaded; the item cache is not used. On a GPU, the share of the time in which it computes is measured too.
Writes benchmarks/results/extraction.json, on a GPU extraction_gpu.json.

    .venv/bin/python benchmarks/extraction.py [THREADS [PHOTOS [REPEAT]]]

PHOTOS: a folder of JPEGs, by default the 200 of ../shared/real/flickr8k/images; each is read REPEAT times.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image

from ccr.artifacts.files import write_json
from ccr.features import network
from ccr.features.image_model import Extractor
from ccr.media.decoding import File

PHOTOS = Path("../shared/real/flickr8k/images")
SHAPE = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "patch_size": 32, "projection_dim": 512,
}  # fmt: skip
OPTIONS = {"revision": "main", "frames": None, "fps": None, "max_frames": 64}
WARM_UP = 64  # photos before the clock starts


class Timed(network.Network):
    """A network that records when its weights were loaded and how long a GPU took for each batch."""

    latest: "Timed"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.spans: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self.start = time.perf_counter()
        Timed.latest = self

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.device.type == "cpu":
            return super().forward(pixels)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        features = super().forward(pixels)
        end.record()
        self.spans.append((begin, end))
        return features

    def seconds_on_gpu(self) -> float:
        """Sum over the batches."""
        torch.cuda.synchronize()
        return sum(begin.elapsed_time(end) for begin, end in self.spans) / 1000


def make_model(folder: Path) -> None:
    """A CLIP vision tower with random weights and its image processor's settings."""
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(**SHAPE)
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder)
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224},
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    write_json(processor, folder / "preprocessor_config.json")


def naive(folder: Path, photos: list[Path], precision: str, threads: int) -> tuple[float, np.ndarray]:
    """Photos/s one at a time, and their features."""
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = transformers.CLIPVisionModelWithProjection.from_pretrained(folder, dtype=dtype).eval().to(device)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")

    @torch.inference_mode()
    def feature(photo: Path) -> np.ndarray:
        pixels = processor(Image.open(photo), return_tensors="pt")["pixel_values"].to(device, dtype)
        return model(pixel_values=pixels).image_embeds.float().cpu().numpy()

    for photo in photos[:WARM_UP]:
        feature(photo)
    start = time.perf_counter()
    found = np.concatenate([feature(photo) for photo in photos])
    return len(photos) / (time.perf_counter() - start), found


def extraction(
    folder: Path, photos: list[Path], precision: str, threads: int, batch: int
) -> tuple[float, float, np.ndarray]:
    """Photos/s, the share of the time in which a GPU computes, and features."""
    options = OPTIONS | {"model": str(folder), "precision": precision, "batch": batch}
    files = [File(photo, "image") for photo in photos]
    list(Extractor(options, "clip", threads).extract(files[:WARM_UP]))
    found = np.concatenate(list(Extractor(options, "clip", threads).extract(files)))
    seconds = time.perf_counter() - Timed.latest.start
    share = Timed.latest.seconds_on_gpu() / seconds if torch.cuda.is_available() else 0.0
    return len(photos) / seconds, share, found


def decoding(folder: Path, photos: Iterable[Path]) -> float:
    """Photos/s that one thread decodes and crops."""
    extractor = Extractor(OPTIONS | {"model": str(folder), "precision": "fp32", "batch": 1}, "clip", 1)
    photos = list(photos)
    start = time.perf_counter()
    for photo in photos:
        extractor._inputs(File(photo, "image"))
    return len(photos) / (time.perf_counter() - start)


def main(threads: int, folder: Path, repeat: int) -> None:
    """Measure, print and write."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    network.Network = Timed
    gpu = torch.cuda.is_available()
    photos = sorted(folder.glob("*.jpg")) * repeat
    result: dict = {
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "threads": threads,
        "photos": len(photos),
        "torch": torch.__version__,
        "load_average": round(os.getloadavg()[0], 1),
    }
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary)
        make_model(model)
        result["decoded_per_s_by_one_thread"] = round(decoding(model, photos), 1)
        for precision in ("fp32", "bf16"):
            loops = {number: naive(model, photos, precision, number) for number in dict.fromkeys((1, threads))}
            fastest = max(loops, key=lambda number: loops[number][0])
            one, expected = loops[fastest]
            ours, share, found = extraction(model, photos, precision, threads, batch=256 if gpu else 32)
            result[precision] = {
                "photos_per_s": round(ours, 1),
                "naive_photos_per_s": round(one, 1),
                "naive_threads": fastest,
                "ratio": round(ours / one, 2),
                "largest_difference": float(np.abs(found - expected).max() / np.abs(expected).max()),
            } | ({"percent_of_time_gpu_computes": round(100 * share, 1)} if gpu else {})
            print(precision, result[precision], flush=True)
    print(result)
    write_json(result, Path(__file__).parent / f"results/extraction{'_gpu' if gpu else ''}.json")


if __name__ == "__main__":
    threads, folder, repeat = [*sys.argv[1:], *("2", str(PHOTOS), "2")[len(sys.argv) - 1 :]]
    main(int(threads), Path(folder), int(repeat))
