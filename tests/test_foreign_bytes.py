"""Damaged files from others: every reader returns a table, or fails with one message that names the file."""

import gzip
import json
import tracemalloc
from random import Random
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_files import drawn, film
from mishaps import mutated
from raw_files import write

from ccr.captions.checks import checked
from ccr.captions.likeness import hashes
from ccr.captions.parallel import read_pairs
from ccr.captions.rows import row_hashes
from ccr.errors import CcrError
from ccr.evaluate.encoder import queries
from ccr.params.entries import options_of
from ccr.registry import IMPORTERS
from ccr.texts import files

# decoders and numpy warn about damaged files in addition to their errors
pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = [
    {
        "item_id": f"{split}{n}",
        "split": split,
        "lang": lang,
        "text": f'a "{split}" dog, {n} &amp; 狗',
        "origin": "human",
    }
    for split in ("train", "val", "test")
    for n in range(2)
    for lang in ("en", "zh")
]


def visualsearch(root):
    for split in ("train", "val", "test"):
        write(root / f"TextData/{split}.ids.txt", f"{split}0\n{split}1\n")
        for name, tag in {"": "enc", "_zh": "zh", "_google_enc2zh": "enc2zh"}.items():
            lines = "".join(f"{split}{n}#{tag}#0 a dog {n} 狗\n" for n in range(2))
            write(root / f"TextData/toy{split}{name}.caption.txt", lines)


def vatex(root):
    def records(*ids):
        return json.dumps([{"videoID": i, "enCap": [f"{i} ran"] * 10, "chCap": [f"{i} 跑"] * 10} for i in ids])

    write(root / "vatex_training_v1.0.json", records("t1", "t2"))
    write(root / "vatex_validation_v1.0.json", records("v1", "v2"))
    write(root / "val_ids.txt", "v2\n")
    write(root / "test_ids.txt", "v1\n")


def multi30k(root):
    for part, names in {"train": "12", "val": "3", "test_2016_flickr": "4"}.items():
        write(root / f"task1/image_splits/{part}.txt", "".join(f"{n}.jpg\n" for n in names))
        for lang in ("en", "zh"):
            write(root / f"task1/raw/{part}.{lang}.gz", "".join(f"{lang} {n} &amp; 狗\n" for n in names))


def mscoco(root):
    images = [
        {"filename": f"{n}.jpg", "split": split, "sentences": [{"raw": f"en {n}"}], "cocoid": n}
        for n, split in enumerate(["train", "restval", "val", "test"])
    ]
    write(root / "dataset_coco.json", json.dumps({"images": images}))
    japanese = [{"image_id": n, "caption": f"日 {n}"} for n in range(4)]
    write(root / "stair_captions_v1.2_train.json", json.dumps({"annotations": japanese}))
    for n, split in {0: "train", 2: "val", 3: "test"}.items():
        write(root / f"coco-cn-version1805v1.1/coco-cn_{split}.txt", f"{n}\n")
    lines = "".join(f"{n}#0\t中 {n}\n" for n in (0, 2, 3))
    write(root / "coco-cn-version1805v1.1/imageid.human-written-caption.txt", lines)


def xm3600(root):
    said = {"en": {"caption": ["a dog"]}, "zh": {"caption": ["一只狗", "狗"]}}
    write(root / "captions.jsonl", "".join(json.dumps({"image/key": key, **said}) + "\n" for key in "ab"))


def xtd10(root):
    write(root / "XTD10/test_image_names.txt", "a.jpg\nb.jpg\n")
    write(root / "XTD10/test_1kcaptions_zh.txt", "狗\n两只狗\n")
    write(root / "MIC/test_1kcaptions_en.txt", "a dog\ntwo dogs\n")


def text_table(mark, name):
    def make(root):
        lines = [list(ROWS[0]), *(row.values() for row in ROWS)]
        text = "".join(mark.join('"' + value.replace('"', '""') + '"' for value in line) + "\r\n" for line in lines)
        write(root / name, text)

    return make


def parquet(root):
    pq.write_table(pa.Table.from_pylist(ROWS), root / "captions.parquet")


def lines(root):
    write(root / "queries.txt", "ein Hund\nzwei\u2028Hunde\n狗 &amp; 猫\n")


def pairs(root):
    write(root / "en.txt", "a#enc#0 a dog\nb#enc#0 two dogs\n")
    write(root / "zh.txt", "a#zh#0 一只狗\nb#zh#0 两只狗\n")


def features(root):
    folder = root / "FeatureData" / "x"
    folder.mkdir(parents=True)
    np.save(folder / "features.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    write(folder / "ids.txt", "a\nb\n")
    other = root / "FeatureData" / "y"
    write(other / "feature.bin", np.arange(6, dtype="<f4").tobytes())
    write(other / "shape.txt", "2 3")
    write(other / "id.txt", "a b")


def pictures(root):
    for ending in ("jpg", "png", "webp", "gif", "tiff", "bmp"):
        drawn(1, (64, 48)).save(root / f"a.{ending}")


def videos(root):
    for ending in ("mp4", "mkv"):
        film(root / f"a.{ending}", [1, 2], (64, 48))


def by_importer(name, langs=("en", "zh"), **options):
    """Read as the stage does, and look for files as `ccr captions check` does."""
    module, options = IMPORTERS[name].load(), options_of(IMPORTERS[name], options, "options")
    told = {"importer": name, "data": "toy", "kind": "image", "source": "official", "langs": langs, "options": options}

    def read(root):
        module.layouts(root)
        checked(module.read(root, told))

    return read


def read_sides(root):
    told = {"ids": True, "entities": "decode", "source_lang": "en", "target_lang": "zh"}
    read_pairs(SimpleNamespace(settings=told, inputs={"source": str(root / "en.txt"), "target": str(root / "zh.txt")}))


READERS = {
    "visualsearch": (visualsearch, by_importer("visualsearch")),
    "vatex": (vatex, by_importer("vatex")),
    "multi30k": (multi30k, by_importer("multi30k")),
    "mscoco": (mscoco, by_importer("mscoco", ["en", "ja", "zh"])),
    "xm3600": (xm3600, by_importer("xm3600")),
    "xtd10": (xtd10, by_importer("xtd10")),
    "csv": (text_table(",", "captions.csv"), by_importer("table")),
    "semicolons": (text_table(";", "captions.csv"), by_importer("table")),
    "tsv": (text_table("\t", "captions.tsv"), by_importer("table", file="captions.tsv")),
    "parquet": (parquet, by_importer("table", file="captions.parquet")),
    "queries": (lines, lambda root: queries(root / "queries.txt")),
    "pairs": (pairs, read_sides),
    "pictures": (pictures, lambda root: hashes({path.name: path for path in root.iterdir()}, "image", 1)),
    "videos": (videos, lambda root: hashes({path.name: path for path in root.iterdir()}, "video", 1)),
    "rows of features": (features, lambda root: list(row_hashes(root, ["a", "b", "c"]))),
}


class Damaged:
    """The files of a layout, damaged one at a time."""

    def __init__(self, reader, root):
        make, self._read = READERS[reader]
        make(root)
        self._read(root)  # undamaged, it can be read
        self._root = root
        self._whole = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

    def ends_well(self, seed):
        """Check that the damage of this seed ends in a table or in one message."""
        random = Random(seed)
        path, whole = random.choice([*self._whole.items()])
        if path.suffix == ".gz" and random.random() < 0.5:  # damaged before compression
            path.write_bytes(gzip.compress(mutated(gzip.decompress(whole), random), 1))
        else:
            path.write_bytes(mutated(whole, random))
        try:
            self._read(self._root)
        except CcrError as error:
            message = str(error)
            assert len(message) < 1500
            assert any(file.name in message for file in self._whole) or "is in two splits" in message, message
        finally:
            path.write_bytes(whole)


@pytest.fixture(params=READERS)
def damaged(request, tmp_path_factory):
    return Damaged(request.param, tmp_path_factory.mktemp("raw"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_damaged_file_is_read_or_named(damaged, seed):
    damaged.ends_well(seed)


@pytest.mark.slow
def test_ten_thousand_damaged_files_are_read_or_named(damaged):
    for seed in range(10_000):
        try:
            damaged.ends_well(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_what_unpacks_to_more_than_any_captions_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_UNPACKED", 1 << 20)
    bomb = tmp_path / "train.en.gz"
    bomb.write_bytes(gzip.compress(b"a" * (1 << 26)))
    tracemalloc.start()
    with pytest.raises(CcrError, match="train.en.gz: more than 1,048,576 bytes of text"):
        files.read_lines(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 23


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[" * 100_000, "not the JSON that was expected"),
        (b"[" + b"9" * 5000 + b"]", "not the JSON that was expected"),
        (b"[{]", "line 1, column 3: not valid JSON"),
        (b"\xff\xfe[\0", r"line 1 \(byte 3\): not UTF-16|not valid JSON"),
    ],
)
def test_json_that_is_none(tmp_path, data, message):
    file = write(tmp_path / "a.json", data)
    with pytest.raises(CcrError, match=f"a.json.*{message}"):
        files.read_json(file)


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "train.ids.txt").mkdir()
    with pytest.raises(CcrError, match="train.ids.txt: cannot be read"):
        files.read_ids(tmp_path / "train.ids.txt")
