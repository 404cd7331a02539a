"""A data set in a language unknown to the project: from pictures and captions to a table, without touching code."""

import csv
from pathlib import Path

import pytest
from checkouts import Checkout, check_out
from PIL import Image, ImageDraw
from raw_files import write

from ccr import params

# colour -> the word in English, and for a circle and a square in Swahili, where adjectives agree with the noun
COLOURS = {
    (210, 30, 30): ("red", "jekundu", "mwekundu"),
    (250, 250, 250): ("white", "jeupe", "mweupe"),
    (5, 5, 5): ("black", "jeusi", "mweusi"),
    (30, 160, 40): ("green", "la kijani", "wa kijani"),
    (30, 50, 220): ("blue", "la bluu", "wa bluu"),
    (240, 230, 20): ("yellow", "la njano", "wa njano"),
    (110, 70, 30): ("brown", "la kahawia", "wa kahawia"),
    (130, 130, 130): ("grey", "la kijivu", "wa kijivu"),
    (250, 150, 190): ("pink", "la waridi", "wa waridi"),
    (120, 30, 140): ("purple", "la zambarau", "wa zambarau"),
}
SHAPES = {"circle": ("a {} circle on a table", "duara {} juu ya meza"), "square": ("a {} square", "mraba {}")}
SPLITS = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
ENTRY = {
    "kind": "image",
    "importer": "table",
    "root": "data/raw/picha",
    "target_langs": ["sw"],
    "mt": "human",
    "visual": "descriptor",
    "train": {"student": {"network": "small", "epochs": 1}},
}
TABLE = {"data": ["picha"], "methods": ["source_only", "supervised"], "baseline": "source_only"}


def publish(root: Path) -> None:
    """Twenty pictures, each with a caption in English and one in Swahili."""
    (root / "images").mkdir(parents=True)
    pictures = [(shape, rgb) for shape in SHAPES for rgb in COLOURS]
    lines = ["item_id,split,lang,text"]
    for n, ((shape, rgb), split) in enumerate(zip(pictures, SPLITS, strict=True)):
        image = Image.new("RGB", (32, 32), (200, 220, 200))
        draw = ImageDraw.Draw(image)
        (draw.ellipse if shape == "circle" else draw.rectangle)((6, 6, 26, 26), fill=rgb)
        image.save(root / "images" / f"picha{n:02d}.png")
        english, of_circle, of_square = COLOURS[rgb]
        for lang, said, word in zip(
            ("en", "sw"), SHAPES[shape], (english, of_circle if shape == "circle" else of_square), strict=True
        ):
            lines.append(f"picha{n:02d},{split},{lang},{said.format(word)}")
    write(root / "captions.csv", "".join(f"{line}\n" for line in lines))


def add(raw) -> None:
    raw["datasets"]["picha"], raw["tables"]["picha_table"] = ENTRY, TABLE


@pytest.fixture
def checkout(repository, tmp_path) -> Checkout:
    checkout = check_out(repository, tmp_path / "checkout")
    params.use("smoke", checkout.folder / "params.yaml")
    publish(checkout.folder / "data/raw/picha")
    return checkout


@pytest.mark.slow
def test_swahili(checkout):
    said = checkout.ccr("captions", "check", "data/raw/picha").stdout
    assert "sw human: train 12, val 4, test 4" in said
    assert "no data set in params.yaml reads this; that would be NAME: {importer: table" in said
    checkout.edit(add)
    assert "datasets.picha can run on this, with {" in checkout.ccr("captions", "check", "data/raw/picha").stdout
    checkout.run("--", "results/picha_table.csv")
    lines = list(csv.DictReader(checkout.read("results/picha_table.csv").decode().splitlines()))
    assert [(line["target_lang"], line["method"], line["mt"]) for line in lines] == [
        ("sw", "source_only", "none"),
        ("sw", "supervised", "human"),
    ]
    assert all(0 <= float(line["sumr"]) <= 600 for line in lines)


def test_snakemake_takes_the_codes_of_scripts_and_regions(checkout):
    def several(raw) -> None:
        add(raw)
        raw["datasets"]["picha"] = ENTRY | {"target_langs": ["zh-Hant", "pt-PT"]}
        raw["methods"]["together"] = {"like": "supervised", "langs": ["zh-Hant", "pt-PT"]}
        raw["tables"]["picha_table"] = TABLE | {"methods": ["source_only", "supervised", "together"]}

    checkout.edit(several)
    output = checkout.run("--dry-run", "--quiet", "host", "--", "results/picha_table.csv")
    assert "results/runs/picha/human/descriptor/zh-Hant+pt-PT/together/seed0/model.safetensors" in output
    assert "results/evaluations/picha/human/descriptor/pt-PT/supervised/seed0/metrics.json" in output
