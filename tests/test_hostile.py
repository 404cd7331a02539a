"""Files made to do harm: they are refused with a message, or do no harm."""

import contextlib
import csv
import gzip
import json
import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hand_made import run
from late import Late
from media_files import job as features_job
from media_files import run as features_run
from media_files import write_video
from mutations import bounded
from PIL import Image
from safetensors.torch import load_file
from test_tables import job as table_job
from test_tables import row
from tiny_encoders import text_encoder
from toy_trainings import trained

from ccr.artifacts.contents import content_hash
from ccr.artifacts.hashes import bytes_hash
from ccr.artifacts.parquet import computed_content, read_parquet
from ccr.artifacts.runs import run_files
from ccr.artifacts.schemas import CAPTIONS, FEATURES
from ccr.captions.dataset import with_media
from ccr.errors import CcrError
from ccr.features import published
from ccr.features.items import Item, items_of
from ccr.media.decoding import Unreadable, read_image, read_video
from ccr.media.sampling import Sampling
from ccr.networks.checkpoint import load_network, load_text_encoder
from ccr.networks.tokens import pretrained_tokenizer
from ccr.store import open_features
from ccr.tables import as_csv
from ccr.texts import files

pretrained = Late("ccr.networks.pretrained")
pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")

# --- weights -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return trained(tmp_path_factory.mktemp("runs"), ["baseline"]) / "baseline"


def headed(change, size=None):
    """A weights file with another header, which `change` makes from the old one; `size`: the header size it states."""

    def make(data: bytes) -> bytes:
        length = struct.unpack("<Q", data[:8])[0]
        text = change(json.loads(data[8 : 8 + length]))
        text = text.encode() if isinstance(text, str) else json.dumps(text).encode()
        return struct.pack("<Q", len(text) if size is None else size) + text + data[8 + length :]

    return make


def of_first(**values):
    def change(header: dict) -> dict:
        name = next(name for name, entry in header.items() if entry.get("dtype") == "F32")
        return header | {name: header[name] | values}

    return change


def twice(header: dict) -> str:
    """The first float32 name again, with the same bytes as integers; JSON readers take the last one."""
    name = next(name for name, entry in header.items() if entry.get("dtype") == "F32")
    return json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(header[name] | {'dtype': 'I32'})}}}"


HEADERS = {
    "of 2^63 bytes": headed(dict, 2**63),
    "of a gigabyte": headed(dict, 10**9),
    "none": headed(lambda _: ""),
    "nested": headed(lambda _: "[" * 200_000),
    "offsets beyond the file": headed(of_first(data_offsets=[0, 2**60])),
    "offsets before the file": headed(of_first(data_offsets=[-1, 64])),
    "a shape that no memory holds": headed(of_first(shape=[2**40, 2**40])),
    "an unknown type": headed(of_first(dtype="F99")),
    "whole numbers": headed(of_first(dtype="I32")),
    "a name twice": headed(twice),
}


@pytest.mark.parametrize("name", HEADERS)
def test_weights_with_an_absurd_header(student, name):
    shutil.copytree(student, "run")
    files = run_files("run")
    network, _ = load_network(files["model"], files["config"])
    model = Path(files["model"])
    model.write_bytes(HEADERS[name](model.read_bytes()))
    with bounded(), pytest.raises(CcrError, match=r"^run/model.safetensors: does not fit|is cut off"):
        load_network(files["model"], files["config"])
    if name not in ("whole numbers", "a name twice"):
        with bounded(), pytest.raises(CcrError, match="^run/model.safetensors: "):
            load_text_encoder(network, files["model"])


def test_a_config_that_describes_no_network(student):
    shutil.copytree(student, "run")
    files = run_files("run")
    for content in ([], {"settings": 3}, {"settings": {"network": "big"}, "text_config": {}, "feature_dim": "x"}):
        Path(files["config"]).write_text(json.dumps(content))
        with pytest.raises(CcrError, match="^run/config.json: "):
            load_network(files["model"], files["config"])


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_a_pickle_as_text_encoder_is_read_as_weights_alone():
    folder = text_encoder(Path("model"))
    settings = {"encoder": folder, "frozen_layers": 1, "frozen_prefix": "computed"}
    config = pretrained.encoder_config(settings, 0)
    weights = load_file(Path(folder, "model.safetensors"))
    Path(folder, "model.safetensors").unlink()
    torch.save(weights, Path(folder, "pytorch_model.bin"))
    honest = pretrained.Encoder(settings, config, pretrained=True).state_dict()
    assert any(torch.equal(tensor, weight) for tensor in honest.values() for weight in weights.values())
    torch.save({**weights, "evil": Evil()}, Path(folder, "pytorch_model.bin"))
    with pytest.raises(CcrError, match="could not be loaded"):
        pretrained.Encoder(settings, config, pretrained=True)
    assert not Path("evil").exists()


def test_a_tokenizer_that_is_none():
    folder = text_encoder(Path("model"))
    Path(folder, "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "?"}}')
    with pytest.raises(CcrError, match="no tokenizer for"):
        pretrained_tokenizer(folder)


# --- bombs -------------------------------------------------------------------------------------------------


def repeated_text(path: str) -> None:
    """The same long sentence a million times, stored once."""
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, np.int32)), pa.array(["a" * 100_000]))
    pq.write_table(pa.table({"text": text}), path, compression="zstd", store_schema=False)


def repeated_features(path: str) -> None:
    """An item with three million equal values, stored in few bytes."""
    values = pa.array(np.zeros(3_000_000, np.float16))
    table = pa.table({"item_id": ["a"], "frames": pa.array([1], pa.int32())})
    features = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
    pq.write_table(table.append_column("features", features).cast(FEATURES), path, compression="zstd")


def many_rows(path: str) -> None:
    pq.write_table(pa.table({"text": pa.nulls(5_000_000, pa.string())}), path, compression="zstd")


@pytest.mark.parametrize("bomb", [repeated_text, many_rows])
def test_a_parquet_file_that_unpacks_to_gigabytes(bomb):
    bomb("bomb.parquet")
    assert Path("bomb.parquet").stat().st_size < 1_000_000
    for read in (read_parquet, computed_content, content_hash):
        with bounded(), pytest.raises(CcrError, match="^bomb.parquet: its .* bytes would unpack to more"):
            read("bomb.parquet")


def test_features_that_unpack_to_far_more(monkeypatch):
    monkeypatch.setattr("ccr.artifacts.parquet.LARGE", 1 << 21)
    repeated_features("bomb.parquet")
    with bounded(), pytest.raises(CcrError, match="bomb.parquet"):
        open_features("bomb.parquet")


def test_an_honest_file_of_much_repetition_is_read():
    rows = 200_000
    columns = {name: ["x"] * rows for name in CAPTIONS.names} | {"caption_id": [f"item{n}#en" for n in range(rows)]}
    pq.write_table(pa.table(columns, CAPTIONS), "captions.parquet", compression="zstd")
    assert len(read_parquet("captions.parquet", CAPTIONS)) == rows


def test_columns_of_another_type_are_named():
    columns = {name: ["x"] for name in CAPTIONS.names}
    pq.write_table(pa.table(columns | {"text": [7]}), "captions.parquet")
    with pytest.raises(CcrError, match="^captions.parquet: column 'text' holds int64, expected string"):
        read_parquet("captions.parquet", CAPTIONS)


def square(path: Path) -> np.ndarray:
    return read_image(path, lambda image: np.asarray(image.resize((16, 16), Image.Resampling.BOX)))


def test_a_picture_that_unpacks_to_gigabytes():
    Image.MAX_IMAGE_PIXELS, most = None, Image.MAX_IMAGE_PIXELS
    try:
        Image.new("1", (20_000, 20_000)).save("bomb.png")
        Image.new("1", (9_500, 9_500)).save("large.png")
    finally:
        Image.MAX_IMAGE_PIXELS = most
    assert Path("bomb.png").stat().st_size < 100_000
    with bounded(), pytest.raises(Unreadable, match="exceeds limit of"):
        square(Path("bomb.png"))
    with bounded(), pytest.warns(Image.DecompressionBombWarning):
        assert square(Path("large.png")).shape == (1, 16, 16, 3)


def test_a_picture_with_text_that_unpacks_to_gigabytes():
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    Image.new("RGB", (8, 8)).save("picture.png")
    data = Path("picture.png").read_bytes()
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000)))
    Path("picture.png").write_bytes(data[:33] + text + data[33:])
    with bounded(), pytest.raises(Unreadable):
        square(Path("picture.png"))


def test_a_video_whose_header_announces_billions_of_frames():
    write_video(Path("film.avi"), frames=6, size=32)
    data = bytearray(Path("film.avi").read_bytes())
    at = data.index(b"strh") + 8 + 32  # the stream's length in frames
    data[at : at + 4] = struct.pack("<I", 2**31 - 1)
    Path("film.avi").write_bytes(data)
    with av.open("film.avi") as container:
        assert container.streams.video[0].frames > 2_000_000_000
    with bounded(), contextlib.suppress(Unreadable):
        frames = read_video(Path("film.avi"), Sampling(4), lambda frame: frame.to_ndarray(format="rgb24"))
        assert len(frames) == 4


def test_a_video_of_an_unknown_codec():
    write_video(Path("film.avi"), frames=6, size=32)
    data = Path("film.avi").read_bytes()
    Path("film.avi").write_bytes(data.replace(b"H264", b"?!?!"))
    with pytest.raises(Unreadable, match="no decoder"):
        read_video(Path("film.avi"), Sampling(4), lambda frame: frame.to_ndarray(format="rgb24"))


def test_time_stamps_that_span_ages():
    with pytest.raises(ValueError, match="time stamps span"):
        Sampling(fps=8, limit=16).positions(np.array([0.0, 1.0, 1e15]))
    assert len(Sampling(fps=8, limit=16).positions(np.array([0.0, 1.0, 1e7]))) == 16


def test_a_gzip_file_that_unpacks_to_gigabytes(monkeypatch):
    monkeypatch.setattr(files, "LARGEST_UNPACKED", 1 << 20)
    Path("train.en.gz").write_bytes(gzip.compress(bytes(1 << 24)))
    with pytest.raises(CcrError, match="^train.en.gz: more than 1,048,576 bytes of text"):
        files.read_text(Path("train.en.gz"))


# --- paths -------------------------------------------------------------------------------------------------


def media(root: Path) -> list[str | None]:
    return with_media(pa.table({"item_id": ["a", "b"]}), root, "image")[0]["path"].to_pylist()


def test_links_that_lead_in_circles_end():
    for folder in ("raw/images/x", "raw/images/y"):
        Path(folder).mkdir(parents=True)
    Path("raw/images/a.png").touch()
    Path("raw/images/x/b.png").touch()
    for link, target in (("x/up", ".."), ("x/self", "."), ("y/other", "../x"), ("root", "../..")):
        Path("raw/images", link).symlink_to(target)
    assert media(Path("raw")) == ["images/a.png", "images/x/b.png"]
    assert len(bytes_hash(Path("raw"))) == 32


def test_folders_that_each_link_to_the_next_one_twice_end():
    """2^40 paths lead to the last one."""
    for number in range(40):
        Path(f"raw/images/{number:02d}").mkdir(parents=True)
    for number in range(39):
        for name in ("one", "two"):
            Path(f"raw/images/{number:02d}/{name}").symlink_to(f"../{number + 1:02d}")
    Path("raw/images/39/a.png").touch()
    assert media(Path("raw"))[0].endswith("a.png")


def test_pictures_behind_a_link_are_part_of_what_identifies_the_data():
    """Media are often kept on another disk: changed bytes there are changed data."""
    Path("disk").mkdir()
    Path("disk/a.png").write_bytes(b"one")
    Path("raw").mkdir()
    Path("raw/images").symlink_to("../disk")
    before = bytes_hash(Path("raw"), afresh=True)
    Path("disk/a.png").write_bytes(b"other")
    assert bytes_hash(Path("raw"), afresh=True) != before
    assert media(Path("raw")) == ["images/a.png", None]


@pytest.mark.parametrize("path", ["../secret.png", "images/../../secret.png", "/etc/passwd"])
def test_an_item_whose_path_leads_out_of_the_data_set(path, tmp_path):
    Image.new("RGB", (8, 8)).save("secret.png")
    (tmp_path / "data").mkdir()
    job = features_job(tmp_path / "data", [("a", path, "image")])
    with pytest.raises(CcrError, match=r"items.parquet: item 'a' has the path .*, out of the data set"):
        items_of(job)
    with pytest.raises(CcrError, match="out of the data set"):
        features_run(tmp_path / "data", [("a", path, "image")])


def test_an_item_whose_id_leads_out_of_a_dump_has_no_features():
    Path("FeatureData").mkdir()
    np.save("FeatureData/a.npy", np.ones((1, 2, 4), np.float32))
    np.save("secret.npy", np.ones((1, 2, 4), np.float32))
    with pytest.raises(CcrError, match=r"1 of 2 items have no features: '../secret'"):
        published.read([Item("../secret", None, "image"), Item("a", None, "image")], Path(), {"path": "FeatureData"})


# --- tables ------------------------------------------------------------------------------------------------

NASTY = {
    "a formula": "=cmd|' /C calc'!A0",
    "html": "<script>alert(1)</script>",
    "latex": r"\input{/etc/passwd} 50% & $x_1^2$ #1 {~",
}


def made(tmp_path, text: str):
    rows = [row(tmp_path, "baseline", 5, text_encoder=text), row(tmp_path, "much_better", 9, text_encoder=text)]
    job = table_job(rows, [f"vatex, zh, {text}: no such encoder"])
    run(job)
    return job


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_a_spreadsheet_computes_no_text_and_reads_every_number(start):
    as_csv.write(["name", "number", "nothing"], [{"name": start, "number": -1.5, "nothing": None}], "table.csv")
    with open("table.csv", newline="") as file:
        [line] = csv.DictReader(file)
    assert line == {"name": f"'{start}", "number": "-1.5", "nothing": ""}


def test_names_are_harmless_in_every_format(tmp_path):
    text = NASTY["a formula"] + NASTY["html"] + NASTY["latex"]
    job = made(tmp_path, text)
    with open(job.outputs["csv"], newline="") as file:
        for line in csv.DictReader(file):
            assert line["text_encoder"] == f"'{text}"
            assert float(line["sumr"]) > 0 and float(line["p_vs_baseline"] or 0) >= 0
            assert not any(cell.startswith(("=", "+", "@")) for cell in line.values())
    assert json.loads(Path(job.outputs["json"]).read_text())
    assert "<script" not in Path(job.outputs["page"]).read_text()
    assert "alert(1)" in Path(job.outputs["page"]).read_text()
    text = Path(job.outputs["tex"]).read_text()
    assert r"\input" not in text and r"\textbackslash{}input\{/etc/passwd\} 50\% \& \$x\_1" in text


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex (apt-get install texlive-latex-recommended)")
@pytest.mark.parametrize("name", NASTY)
def test_the_table_compiles_whatever_names_hold(tmp_path, name):
    job = made(tmp_path, NASTY[name])
    Path("paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        f"\\input{{{job.outputs['tex']}}}\n\\end{{document}}\n"
    )
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert Path("paper.pdf").stat().st_size > 10_000
    assert "/etc/passwd)" not in done.stdout and "(/etc/passwd" not in done.stdout
