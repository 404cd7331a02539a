"""Jobs from the memo, and evaluations that the training process computes ahead of their own jobs."""

import json
import shutil
from types import SimpleNamespace

import pytest
from checkouts import CL2CM, TABLE
from hand_made import hand_made

from ccr.errors import CcrError
from ccr.running import evaluate_ahead


def test_an_evaluation_ahead_is_what_its_own_job_makes(checkout):
    target = f"results/evaluations/{CL2CM}/seed0"
    names = ("metrics.json", "ranks.parquet", "seal.json")
    ahead = {name: checkout.read(f"{target}/{name}") for name in names}
    table = checkout.read()
    (entry,) = (
        record.parent
        for record in checkout.folder.glob("work/memo/??/*/job.json")
        if json.loads(record.read_text())["target"] == target
    )
    shutil.rmtree(entry)
    shutil.rmtree(checkout.folder / target)
    (checkout.folder / TABLE).unlink()
    assert checkout.computed() == {target}
    assert {name: checkout.read(f"{target}/{name}") for name in names} == ahead
    assert checkout.read() == table


@pytest.mark.usefixtures("in_a_folder_of_its_own")
def test_an_evaluation_that_fails_ahead_is_left_to_its_own_job(tmp_path, caplog):
    caplog.set_level("INFO")
    files = {role: str(tmp_path / role) for role in ("model", "features")}
    for file in files.values():
        open(file, "w").close()
    run = hand_made("train", "results/runs/a/seed0", {}, {"model": files["model"]}, {})
    evaluation = hand_made("evaluate", "results/evaluations/a/seed0", files, {"metrics": "m.json"}, {})

    def keyed(target: str):
        raise CcrError("no test captions")

    evaluate_ahead(SimpleNamespace(jobs={evaluation.target: evaluation}, keyed=keyed), run)
    assert f"{evaluation.target}: left to its own job (no test captions)" in caplog.text
    assert not (tmp_path / "m.json").exists()
