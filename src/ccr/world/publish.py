"""Write a mini-world as a publisher would: the official files of VATEX or Multi30K, and real media files."""

import gzip
import hashlib
import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
from tqdm import tqdm

from ccr.artifacts.files import atomic_folder, write_json
from ccr.artifacts.jobs import Job
from ccr.artifacts.room import room_for
from ccr.artifacts.schemas import SPLITS
from ccr.errors import CcrError
from ccr.registry import WORLD_LANGUAGES
from ccr.world.captions import describe, realise
from ccr.world.languages import language
from ccr.world.lexicon import lexicon
from ccr.world.render import render, write_image, write_video
from ccr.world.scenes import FAMILY, Scene, family

# item -> language -> captions, for one split
Captions = dict[str, dict[str, list[str]]]


def run(job: Job) -> None:
    """Write the data set into the folder ``job.outputs["root"]``, all or nothing.

    Raises CcrError if the settings are inconsistent or do not fit the layout.
    """
    settings = job.settings
    _check(settings)
    moving = settings["kind"] == "video"
    sizes = {split: settings[split] for split in SPLITS}
    captions: dict[str, Captions] = {split: {} for split in SPLITS}
    shown: set[tuple] = set()
    with atomic_folder(job.outputs["root"]) as root:
        media = root / ("videos" if moving else "images")
        media.mkdir()
        pixels = hashlib.blake2b(digest_size=16)
        every = [
            (split, *one) for split, size in sizes.items() for one in scenes(settings["seed"], split, size, moving)
        ]
        with ProcessPoolExecutor(job.threads) as pool:
            made = pool.map(partial(_write_item, media, settings), every, chunksize=50)
            progress = tqdm(made, "world", len(every), unit="item", mininterval=1)
            for (split, item, scene), (file, texts) in zip(every, progress, strict=True):
                if not captions[split] and split == SPLITS[0]:  # estimated from the first one
                    room_for(root, len(file) * len(every), job.target)
                pixels.update(file)
                captions[split][item] = texts
                shown.add(scene.facts)
        LAYOUTS[settings["layout"]](root, captions, settings["captions"])
        parallel = _parallel(captions, shown, settings)
        for code, sentences in parallel.items():
            if sentences:
                _write_lines(sentences, root / "parallel" / f"{code}.txt")
        write_json(lexicon(settings["langs"]), root / "lexicon.json")
        manifest = {
            "synthetic": True,
            "about": "Synthetic mini-world: drawn shapes and captions from grammars. Not real data.",
            "key": job.key,
            "settings": settings,
            "items": sizes,
            "captions": {
                split: sum(len(c) for item in d.values() for c in item.values()) for split, d in captions.items()
            },
            "content": {
                "media": pixels.hexdigest(),
                "captions": _hash(captions),
                "parallel": _hash(parallel),
                "lexicon": hashlib.blake2b((root / "lexicon.json").read_bytes(), digest_size=16).hexdigest(),
            },
        }
        write_json(manifest, root / "manifest.json")


def scenes(seed: int, split: str, size: int, moving: bool):
    """Yield (item id, Scene) of one split: families in order, each from its own random stream."""
    for number in range(-(-size // FAMILY)):
        for member, scene in enumerate(family(seed, split, number, moving)):
            index = number * FAMILY + member
            if index < size:
                yield f"synthetic_{split}_{index:05d}", scene


def _write_item(media: Path, settings: dict, one: tuple[str, str, Scene]) -> tuple[bytes, dict[str, list[str]]]:
    """Write an item's file; return its bytes and the item's captions."""
    _, item, scene = one
    return _write_media(scene, media / item, settings), _write_captions(scene, item, settings)


def _write_media(scene: Scene, stem: Path, settings: dict) -> bytes:
    """Render one item to `stem` plus an extension, and return the bytes of its file."""
    clip = render(scene, settings["frames"], settings["size"])
    if settings["kind"] == "video":
        path = stem.with_suffix(".mp4")
        write_video(clip, path)
    else:
        path = stem.with_suffix(".jpg")
        write_image(clip[0], path)
    return path.read_bytes()


def _write_captions(scene: Scene, item: str, settings: dict) -> dict[str, list[str]]:
    """Captions of one item by language, each language with its own random stream.

    Multi30K's task 1 is a translation task: there, all languages say the same; elsewhere each chooses what to say.
    """
    moving = settings["kind"] == "video"
    shared = settings["layout"] == "multi30k_task1"
    result = {}
    for code in settings["langs"]:
        content_rng = _stream(settings["seed"], item, "content" if shared else code + "/content")
        words_rng = _stream(settings["seed"], item, code)
        contents = [describe(scene, content_rng, moving) for _ in range(settings["captions"])]
        result[code] = [realise(content, language(code), words_rng) for content in contents]
    return result


def _parallel(captions: dict[str, Captions], shown: set[tuple], settings: dict) -> dict[str, list[str]]:
    """Parallel sentences in every language, about scenes that no split shows.

    None equals a caption or another sentence, ignoring case and punctuation.
    """
    settings = settings | {"layout": "multi30k_task1", "captions": 1}  # a translation task
    sentences: dict[str, list[str]] = {code: [] for code in settings["langs"]}
    said = {
        _bare(text)
        for split in captions.values()
        for by_language in split.values()
        for texts in by_language.values()
        for text in texts
    }
    for item, scene in scenes(settings["seed"], "parallel", sys.maxsize, settings["kind"] == "video"):
        if len(sentences[settings["langs"][0]]) == settings["parallel"]:
            break
        by_language = _write_captions(scene, item, settings)
        bare = {_bare(text) for (text,) in by_language.values()}
        if scene.facts in shown or bare & said:
            continue
        said |= bare
        for code, (text,) in by_language.items():
            sentences[code].append(text)
    return sentences


def _hash(texts: dict) -> str:
    text = json.dumps(texts, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _bare(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _stream(seed: int, *names: str) -> np.random.Generator:
    return np.random.default_rng([seed, *(crc32(name.encode()) for name in names)])


def _vatex(root: Path, captions: dict[str, Captions], per_item: int) -> None:
    """VATEX: val and test share the validation file; two id lists distinguish them."""
    tags = {"en": "enCap", "zh": "chCap"}
    for name, splits in (("training", ("train",)), ("validation", ("val", "test"))):
        videos = [
            {"videoID": item, **{tags[code]: texts for code, texts in by_language.items()}}
            for split in splits
            for item, by_language in captions[split].items()
        ]
        text = json.dumps(videos, ensure_ascii=False, indent=1)
        (root / f"vatex_{name}_v1.0.json").write_text(text, encoding="utf-8")
    for split in ("val", "test"):
        _write_lines(captions[split], root / f"{split}_ids.txt")


def _multi30k_task1(root: Path, captions: dict[str, Captions], per_item: int) -> None:
    """Multi30K task 1: one caption per image and language."""
    names = {"train": "train", "val": "val", "test": "test_2016_flickr"}
    for split, items in captions.items():
        _write_images(items, root / "task1" / "image_splits" / f"{names[split]}.txt")
        _write_texts(items, 0, root / "task1" / "raw", names[split])


def _multi30k_task2(root: Path, captions: dict[str, Captions], per_item: int) -> None:
    """Multi30K task 2: several captions per image and language, one file for each."""
    names = {"train": "train", "val": "val", "test": "test_2016"}
    for split, items in captions.items():
        _write_images(items, root / "task2" / "image_splits" / f"{names[split]}_images.txt")
        for n in range(per_item):
            _write_texts(items, n, root / "task2" / "raw", f"{names[split]}.{n + 1}")


LAYOUTS: dict[str, Callable[[Path, dict[str, Captions], int], None]] = {
    "vatex": _vatex,
    "multi30k_task1": _multi30k_task1,
    "multi30k_task2": _multi30k_task2,
}


def _write_images(items: Captions, path: Path) -> None:
    _write_lines([f"{item}.jpg" for item in items], path)


def _write_texts(items: Captions, n: int, folder: Path, stem: str) -> None:
    """Write the n-th caption of every item, one gzipped file per language, without a time stamp."""
    folder.mkdir(parents=True, exist_ok=True)
    for code in next(iter(items.values())):
        text = "".join(f"{by_language[code][n]}\n" for by_language in items.values())
        (folder / f"{stem}.{code}.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def _write_lines(lines, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _check(settings: dict) -> None:
    """Refuse settings that the layout cannot represent."""
    layout, kind, langs = settings["layout"], settings["kind"], settings["langs"]
    if layout not in LAYOUTS:
        raise CcrError(f"world: no layout {layout!r}; choose one of {', '.join(LAYOUTS)}.")
    if (kind == "video") != (layout == "vatex"):
        raise CcrError(
            f"world: kind {kind!r} does not go with layout {layout!r}: vatex holds videos, multi30k_* images."
        )
    known = ("en", "zh") if layout == "vatex" else tuple(WORLD_LANGUAGES)
    if unknown := [code for code in langs if code not in known]:
        raise CcrError(f"world: layout {layout} has no language {unknown[0]!r}; it has {', '.join(known)}.")
    if layout == "multi30k_task1" and settings["captions"] != 1:
        raise CcrError(
            f"world.captions is {settings['captions']}: multi30k_task1 holds one caption per image and language. "
            f"Set captions: 1, or use task 2."
        )
    least = {**dict.fromkeys(SPLITS, 1), "captions": 1, "frames": 1, "size": 32}
    for name, minimum in least.items():
        if settings[name] < minimum:
            raise CcrError(f"world.{name} is {settings[name]}; the mini-world needs at least {minimum}.")
