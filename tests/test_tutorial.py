"""The tutorial's commands and settings, as written, on photos that a user might have."""

import csv
import re
import shlex
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageDraw

COLOURS = {
    "red": "roter",
    "green": "grüner",
    "blue": "blauer",
    "yellow": "gelber",
    "white": "weißer",
    "black": "schwarzer",
}
PLACES = {"left": "links", "right": "rechts"}
GROUNDS = {"grey": "grauem", "pink": "rosa", "brown": "braunem"}
COLUMNS = ("item_id", "split", "lang", "text", "caption_id", "origin", "engine", "parent_id")


def photos(root: Path) -> dict[str, str]:
    """Write photos and their table as the tutorial describes them; returns a German caption for each test photo."""
    (root / "images").mkdir(parents=True)
    rows, asked = [], {}
    kinds = [(c, p, g) for c in COLOURS for p in PLACES for g in GROUNDS]
    for number, (colour, place, ground) in enumerate(kinds * 3):
        item, split = f"photo_{number:03d}", ("train", "train", "test")[number // len(kinds)]
        split = "val" if split == "test" and number % 3 == 0 else split
        image = Image.new("RGB", (96, 64), ground)
        x = (8 if place == "left" else 56) + number % 5
        ImageDraw.Draw(image).ellipse((x, 16, x + 30, 46), fill=colour)
        image.save(root / f"images/{item}.png")
        english, german = (
            f"a {colour} ball on the {place}, {ground} ground",
            f"ein {COLOURS[colour]} Ball {PLACES[place]}",
        )
        german += f" auf {GROUNDS[ground]} Grund"
        if split != "test":
            rows.append((item, split, "en", english, f"{item}#1", "human", "", ""))
            rows.append((item, split, "de", german, f"{item}#1#de", "mt", "web", f"{item}#1"))
        if split != "train":
            rows.append((item, split, "de", german, f"{item}#0", "human", "", ""))
            asked |= {item: german} if split == "test" else {}
    with (root / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return asked


@pytest.mark.slow
def test_the_tutorial_as_written(fresh, repository, tmp_path):
    checkout = fresh.copy(tmp_path / "tutorial")
    asked = photos(checkout.folder / "data/raw/mine")
    text = (repository / "docs/tutorial.md").read_text()
    [entries] = re.findall(r"```yaml\n(.*?)```", text, re.S)

    def add(raw: dict) -> None:
        new = yaml.safe_load(entries)
        raw["datasets"] |= new["datasets"]
        raw["tables"] |= new["tables"]
        raw["translate"]["variants"] |= new["translate"]["variants"]

    checkout.edit(add)
    printed = []
    for block in re.findall(r"```bash\n(.*?)```", text, re.S):
        for line in block.strip().splitlines():
            done = checkout.says(*shlex.split(line))
            assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
            printed.append(done.stdout)
    assert "datasets.mine can run on this" in printed[0] and "mine_table" in printed[0]
    assert (checkout.folder / "results/report/mine_table.html").stat().st_size > 10_000
    assert len(printed[-1].splitlines()) == 10
    item, caption = next(iter(asked.items()))
    search = shlex.split(re.findall(r"^ccr search .*$", text, re.M)[0])
    search[4] = caption
    found = checkout.says(*search)
    assert item in found.stdout and f"data/raw/mine/images/{item}.png" in found.stdout
