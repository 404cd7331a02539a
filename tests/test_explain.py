"""`ccr explain`: from a key in a table to the settings that made the row."""

import csv
import subprocess
import sys

from checkouts import CAUGHT, CL2CM, TABLE


def explain(checkout, key: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "ccr", "explain", key]
    result = subprocess.run(command, cwd=checkout.folder, env=checkout.environment, **CAUGHT)
    assert result.returncode == status, result.stdout
    assert "Traceback" not in result.stdout
    return result.stdout


def row_key(checkout, method: str) -> str:
    with open(checkout.folder / TABLE, newline="") as file:
        return {row["method"]: row["key"] for row in csv.DictReader(file)}[method]


def weight(value: float):
    def change(raw):
        raw["methods"]["cl2cm"]["objectives"]["relation_distillation"]["weight"] = value

    return change


def test_a_rows_key_leads_to_the_settings_of_all_that_made_it(checkout):
    text = explain(checkout, row_key(checkout, "cl2cm"))
    assert text.startswith(f"{row_key(checkout, 'cl2cm')}: vatex/lexicon/descriptor/zh/cl2cm of {TABLE}")
    for job in (
        f"train results/runs/{CL2CM}/seed0",
        "train results/teachers/vatex-synthetic/lexicon/zh/cl/seed0",
        "translate data/vatex-synthetic/translations/lexicon/zh.parquet",
        "features data/vatex-synthetic/features/descriptor.parquet",
        "world data/raw/vatex-synthetic",
    ):
        assert text.count(job) == 1
    assert '"weight": 0.3' in text
    assert "error_rate" in text
    assert "params.yaml says now" not in text
    baseline = explain(checkout, row_key(checkout, "baseline"))
    assert "teachers" not in baseline


def test_it_says_what_params_yaml_says_otherwise_now(checkout):
    key = row_key(checkout, "cl2cm")
    checkout.edit(weight(0.5))
    assert "params.yaml says now: objectives.relation_distillation.weight: 0.5" in explain(checkout, key)
    with (checkout.folder / "src/ccr/objectives/infonce.py").open("a") as code:
        code.write("\nREMARK = 1\n")
    assert "the code of train has changed since" in explain(checkout, key)


def test_a_key_that_nobody_knows_is_one_message(checkout):
    assert "no result in work/memo has this key" in explain(checkout, "0123456789ab", status=1)
    assert "too short" in explain(checkout, "0", status=1)
