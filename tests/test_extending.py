"""The code in docs/extending.md, added unchanged to a copy of the project, makes a table."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from ccr.artifacts.parquet import read_parquet
from ccr.artifacts.schemas import CAPTIONS

COLOURS = {
    "red": ("rot", (200, 30, 30)),
    "green": ("gruen", (30, 180, 30)),
    "blue": ("blau", (30, 30, 220)),
    "white": ("weiss", (250, 250, 250)),
    "black": ("schwarz", (5, 5, 5)),
    "yellow": ("gelb", (230, 230, 20)),
    "grey": ("grau", (120, 120, 120)),
    "pink": ("rosa", (250, 150, 180)),
}
SPLITS = {"train": 6, "val": 1, "test": 1}
RUN = """
from ccr import params
from ccr.running import execute
plan = params.plan(params.load("params.yaml"))
for job in plan.needs("results/pets_table.csv"):
    execute(plan.keyed(job.target))
"""
CHECK = """
from pathlib import Path
from ccr import params
from ccr.captions.inventory import inventory
print(*inventory(Path("data/raw/pets"), params.load("params.yaml")), sep="\\n")
"""


def blocks(document: str, language: str, leader: str) -> list[tuple[str, str]]:
    """(name in the line before it, code) of every code block."""
    return re.findall(rf"^{leader}:\n\n```{language}\n(.*?)^```$", document, re.M | re.S)


def merged(settings: dict, edits: dict) -> dict:
    """Settings with edits merged in at the deepest level."""
    for name, value in edits.items():
        deeper = isinstance(value, dict) and isinstance(settings.get(name), dict)
        settings[name] = merged(settings[name], value) if deeper else value
    return settings


def publish(root: Path) -> None:
    """Write pictures of one colour each, described in two languages."""
    (root / "images").mkdir(parents=True)
    lines = []
    for split, count in SPLITS.items():
        for name, (german, colour) in COLOURS.items():
            for number in range(count):
                item = f"{split}_{name}_{number}"
                Image.new("RGB", (16, 16), colour).save(root / "images" / f"{item}.png")
                row = {"id": item, "split": split}
                lines += [row | {"lang": "en", "caption": f"a {name} picture"}]
                lines += [row | {"lang": "de", "caption": f"a {name} picture, {german}"}]
    (root / "captions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.fixture(scope="module")
def project(repository, tmp_path_factory) -> Path:
    """A copy of the source tree and of params.yaml with everything that the document adds."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(repository / "src/ccr", folder / "src/ccr")
    document = (repository / "docs/extending.md").read_text()
    modules = blocks(document, "python", r"`(src/ccr/\w+/\w+\.py)`")
    assert len(modules) == 5
    for path, code in modules:
        assert not (folder / path).exists()
        (folder / path).write_text(code)
    registry = folder / "src/ccr/registry.py"
    lines = blocks(document, "python", r"In `([A-Z_]+)`")
    assert [name for name, _ in lines] == ["IMPORTERS", "ENGINES", "EXTRACTORS", "TEXT_ENCODERS", "OBJECTIVES"]
    text = registry.read_text()
    for name, line in lines:
        text, count = re.subn(
            rf"^{name} = {{\n?", lambda found, line=line: f"{found[0].rstrip()}\n{line}", text, flags=re.M
        )
        assert count == 1
    registry.write_text(text)
    settings = yaml.safe_load((repository / "params.yaml").read_text())
    for edits in re.findall(r"^In `params.yaml`:\n\n```yaml\n(.*?)^```$", document, re.M | re.S):
        settings = merged(settings, yaml.safe_load(edits))
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    publish(folder / "data/raw/pets")
    return folder


def python(project: Path, code: str) -> str:
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_what_the_document_adds_makes_a_table(project):
    python(project, RUN)
    translations = read_parquet(project / "data/pets/translations/copied/de.parquet", CAPTIONS).to_pylist()
    assert {row["engine"] for row in translations} == {"copied"}
    with (project / "results/pets_table.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {"baseline", "siglip"}
    chance = 100 * sum(k / len(COLOURS) for k in (1, 5, 8)) * 2
    assert all(float(row["sumr"]) > 1.1 * chance for row in rows.values())
    history = next((project / "results/runs/pets").glob("**/siglip/seed0/history.csv"))
    biases = [float(row["sigmoid_bias"]) for row in csv.DictReader(history.open())]
    assert len(set(biases)) == len(biases) > 1


def test_the_folder_of_raw_data_is_recognised(project):
    assert "json_lines" in python(project, CHECK)
