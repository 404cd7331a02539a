"""The notebook of the documentation, run by Jupyter's own client on the tiny table."""

import ast
import json

import nbformat
import pytest
from checkouts import CL2CM
from nbclient import NotebookClient


@pytest.fixture(scope="module")
def notebook(repository) -> nbformat.NotebookNode:
    return nbformat.read(repository / "docs/notebook.ipynb", as_version=4)


def test_it_is_kept_without_outputs(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(not cell.outputs and cell.execution_count is None for cell in code)


def test_it_runs_and_its_recalls_are_those_of_the_evaluation(made, notebook, tmp_path):
    project = made.copy(tmp_path / "project")
    for cell in notebook.cells:
        cell.source = cell.source.replace("/nrccr/", "/cl2cm/").replace("vatex_table", "tiny")
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(project.folder)}}).execute()
    pictures, recalls, table = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"][2:]
    assert "image/png" in pictures[-1].data
    found = ast.literal_eval(recalls[-1].data["text/plain"])
    metrics = json.loads(project.read(f"results/evaluations/{CL2CM}/seed0/metrics.json"))
    assert found == {name: pytest.approx(metrics[name], abs=1e-3) for name in found} and len(found) == 15
    assert "cl2cm" in table[-1].data["text/plain"] and "baseline" in table[-1].data["text/html"]
