"""How far apart difference hashes of copies and of different photos are: `python benchmarks/look_alikes.py FOLDER`."""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ccr.captions.likeness import BITS, NEAR, hashes

COPIES = {
    "JPEG, quality 30": lambda image: (image, "jpg", {"quality": 30}),
    "JPEG, quality 10": lambda image: (image, "jpg", {"quality": 10}),
    "PNG": lambda image: (image, "png", {}),
    "half the size": lambda image: (image.resize((image.width // 2, image.height // 2)), "jpg", {}),
    "224 x 224": lambda image: (image.resize((224, 224)), "jpg", {"quality": 75}),
    "brighter by 15 %": lambda image: (image.point(lambda value: min(255, int(value * 1.15))), "jpg", {}),
    "cut by 2 % on each side": lambda image: (
        image.crop([round(part * side) for part in (0.02, 0.98) for side in image.size]),
        "jpg",
        {},
    ),
}


def bits(files: dict[str, Path]) -> dict[str, np.ndarray]:
    """The hash of every photo that has one, as 256 zeros and ones."""
    return {item: np.unpackbits(np.frombuffer(look, np.uint8)) for item, look in hashes(files, "image", 1)[1].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=200, help="how many of them")
    arguments = parser.parse_args()
    files = {path.name: path for path in sorted(arguments.folder.iterdir())[: arguments.photos]}
    originals = bits(files)
    looks = np.array([*originals.values()]).astype(np.int16)
    distances = (looks[:, None] != looks[None]).sum(-1)
    nearest = distances[~np.eye(len(looks), dtype=bool)].min()
    print(f"{len(looks)} of {len(files)} photos have a hash; the two nearest differ in {nearest} of {BITS} bits")
    with tempfile.TemporaryDirectory() as folder:
        for name, copy in COPIES.items():
            copies = {}
            for number, (item, path) in enumerate(files.items()):
                image, ending, options = copy(Image.open(path).convert("RGB"))
                copies[item] = Path(folder, f"{name}{number}.{ending}")
                image.save(copies[item], **options)
            far = np.array(
                [(look != originals[item]).sum() for item, look in bits(copies).items() if item in originals]
            )
            print(f"{name}: median {np.median(far):.0f}, most {far.max()}; {(far > NEAR).mean():.1%} beyond {NEAR}")


if __name__ == "__main__":
    main()
