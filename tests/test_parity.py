"""Parity with the published code: on the authors' numbers, and on small ones that `nrccr_by_hand` derives."""

import json
import re
import runpy
import shutil
import signal
import subprocess
import sys

import nrccr_by_hand
import numpy as np
import pytest
import torch
from late import Late
from safetensors.torch import load_file, save_file

from ccr.errors import CcrError
from ccr.retrieval.ranks import rank_similarity

parity = Late("ccr.parity")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A directory in the reference layout, with other sizes than the authors' numbers."""
    folder = tmp_path_factory.mktemp("reference")
    nrccr_by_hand.write_losses(folder)
    nrccr_by_hand.write_metrics(folder)
    for mode in nrccr_by_hand.MODES:
        nrccr_by_hand.write_model(folder, mode)
    return folder


@pytest.fixture
def part(whole, tmp_path):
    """A copy of the losses and metrics, to be damaged."""
    for file in [*whole.glob("losses*"), *whole.glob("metrics*")]:
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.fixture
def image(whole, tmp_path):
    """A copy of the image model, to be damaged."""
    for file in whole.glob("image_*"):
        shutil.copy(file, tmp_path)
    return tmp_path


def command(folder, capsys, monkeypatch):
    """Exit status, lines and messages of `python -m ccr.parity`, in this process."""
    monkeypatch.setattr(sys, "argv", ["ccr.parity", str(folder)])
    handler = signal.getsignal(signal.SIGPIPE)
    try:
        with pytest.raises(SystemExit) as stop:
            runpy.run_module("ccr.parity", run_name="__main__")
    finally:
        signal.signal(signal.SIGPIPE, handler)  # as the command sets it, a closed socket would end this process
    return stop.value.code, capsys.readouterr().out.splitlines()


def edit(path, name, change):
    """Change one array of an archive; None removes it."""
    arrays = dict(np.load(path))
    changed = change(arrays.pop(name))
    np.savez(path, **arrays, **({} if changed is None else {name: changed}))


def off(folder):
    """The lines that are not ok, by name, except those about missing files."""
    return {line.name: line for line in parity.run(folder) if line.status != "ok" and line.note != "no such file"}


def nudged(array, by=1e-6):
    array = array.copy()
    array.flat[array.size // 2] += by
    return array


def nan(array):
    return nudged(array, np.nan)


@pytest.mark.slow
def test_the_authors_numbers(reference):
    command = [sys.executable, "-m", "ccr.parity", str(reference)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    wrong = [line for line in done.stdout.splitlines()[:-1] if line.split()[3] != "ok"]
    assert not wrong and not done.stderr
    assert re.fullmatch(r"(\d+) of \1 ok", done.stdout.splitlines()[-1])
    assert done.returncode == 0


def test_an_independent_derivation_of_other_sizes(whole, capsys, monkeypatch):
    status, lines = command(whole, capsys, monkeypatch)
    assert [line for line in lines[:-1] if line.split()[3] != "ok"] == []
    assert (status, lines[-1]) == (0, f"{len(lines) - 1} of {len(lines) - 1} ok")
    names = {line.split()[0] for line in lines}
    for file in whole.glob("*_index.json"):
        group = file.name.split("_")[0]
        assert {f"{group}/{name}" for name in json.loads(file.read_text())} <= names
    assert {
        "metrics/a/t2v_r1",
        "metrics/tie_nan/v2t_map",
        "video/f64/step_full/grad_l2/vid_mapping.mapping.fc1.bias",
    } <= names


@pytest.mark.parametrize("change", [nudged, nan, lambda array: -array, lambda array: array[:-1], np.float32])
def test_changed_arrays_are_off(part, change):
    losses = ["c0/f64/dtl/grad_trans", "c0/f64/triplet_mv1_mean/grad_vid", "c0/f32/l2norm/grad", "c0/f64/emb_back"]
    losses = losses if change is nan else losses[:2]  # 1e-6 is within float32 tolerance, and embeddings are also inputs
    names = {"losses": losses, "metrics": ["a_hybrid/errors", "a/norm2"]}
    for file, arrays in names.items():
        for name in arrays:
            edit(part / f"{file}.npz", name, change)
    found = off(part)
    assert {found[f"{file}/{name}"].status for file, arrays in names.items() for name in arrays} == {"OFF"}


def test_a_changed_input_shows_in_what_follows_from_it(part):
    edit(part / "losses.npz", "c0/raw_cap", nudged)
    assert off(part).keys() == {f"losses/c0/f64/{name}" for name in ("emb_cap", "l2norm/out", "l2norm/grad")}


@pytest.mark.parametrize(
    ("file", "name", "also"),
    [
        ("losses", "c0/f64/dtl/grad_vid_targets_detached", set()),
        ("losses", "c0/raw_back", {"losses/c0/f64/emb_back", "losses/c0/f32/emb_back"}),
        ("metrics", "a/errors2", {"metrics/a/norm2", "metrics/a_hybrid/errors"}),
    ],
)
def test_a_removed_array_is_missing_and_what_needs_it_too(part, capsys, monkeypatch, file, name, also):
    edit(part / f"{file}.npz", name, lambda _: None)
    found = off(part)
    assert found.keys() == {f"{file}/{name}", *also}
    assert {line.status for line in found.values()} == {"MISSING"}
    assert all(name in line.note for line in found.values())
    status, lines = command(part, capsys, monkeypatch)
    assert status == 1 and any(line.startswith(f"{file}/{name}  -  -  MISSING  {file}.npz: ") for line in lines)


def test_a_file_that_is_cut_off(part, capsys, monkeypatch):
    path = part / "losses.npz"
    path.write_bytes(path.read_bytes()[:-500])
    status, lines = command(part, capsys, monkeypatch)
    losses = [line for line in lines if line.startswith("losses/")]
    assert status == 1 and len(losses) == len(json.loads((part / "losses_index.json").read_text()))
    assert all(line.endswith("MISSING  losses.npz: not a whole .npz archive.") for line in losses)


def test_a_damaged_array_in_a_whole_file(part):
    path = part / "losses.npz"
    content = bytearray(path.read_bytes())
    start = content.index(b"c0/f64/dtl/grad_vid.npy") + 200
    content[start : start + 8] = b"\x01" * 8
    path.write_bytes(content)
    assert [line.status for line in off(part).values()] == ["MISSING"]


@pytest.mark.parametrize("content", ["{", "[1]", "3"])
def test_an_index_that_is_no_index(part, content):
    (part / "losses_index.json").write_text(content)
    assert {name: line.status for name, line in off(part).items()} == {"losses_index.json": "MISSING"}


def test_missing_groups_are_reported(part, capsys, monkeypatch):
    status, lines = command(part, capsys, monkeypatch)
    missing = {line.split()[0] for line in lines if "MISSING  no such file" in line}
    suffixes = ("forward.npz", "forward_index.json", "weights.safetensors", "config.json")
    assert status == 1 and missing == {f"{mode}_{suffix}" for mode in ("video", "image") for suffix in suffixes}
    assert lines[-1] == f"{len(lines) - 9} of {len(lines) - 1} ok"


def test_a_directory_without_any_file(tmp_path, capsys, monkeypatch):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CcrError, match=re.escape(str(folder))):
            parity.run(folder)
        assert str(command(folder, capsys, monkeypatch)[0]).startswith(f"ccr: {folder}: ")


def test_expected_metrics(part):
    path = part / "metrics_expected.json"
    expected = json.loads(path.read_text())
    expected["a"]["reference"]["t2v_meanr"] += 1e-6
    expected["a"]["reference"]["v2t_r5"] = float("nan")
    for bound in ("rank_best", "rank_worst"):
        expected["tie_round"][bound]["t2v_meanr"] = 1.0
    path.write_text(json.dumps(expected))
    assert {name: line.status for name, line in off(part).items()} == dict.fromkeys(
        ["metrics/a/t2v_meanr", "metrics/a/v2t_r5", "metrics/tie_round/t2v_meanr"], "OFF"
    )


def test_nan_must_be_refused(part, monkeypatch):
    def lenient(similarity, *items):
        return rank_similarity(similarity.nan_to_num(nan=-9.0), *items)

    monkeypatch.setattr(parity.ranking, "rank_similarity", lenient)
    assert {name.split("/")[1] for name in off(part)} == {"tie_nan"}


def test_nan_is_expected_only_where_ranks_are_tied(part):
    edit(part / "metrics.npz", "a_f32/errors", nan)
    found = off(part)
    assert len(found) == 12 and {line.status for line in found.values()} == {"MISSING"}
    assert all("nan" in line.note for line in found.values())


def test_changed_arrays_of_a_model_are_off(image):
    names = [
        "f64/eval/cap_emb_cross",
        "f64/loss/total",
        "f64/adv[weak]/after/discriminator.model.bias",
        "f64/adv[not-so-weak]/gen_grad_tgt",
        "f64/step_frozen/term/Le_tri",
        "f64/step_full/grad/text_encoding.encoder_layer.self.key.weight",
        "f64/step_frozen/after/text_mapping.mapping.bn_1.running_var",
    ]
    for name in names:
        edit(image / "image_forward.npz", name, nudged)
    assert {name: line.status for name, line in off(image).items()} == {f"image/{name}": "OFF" for name in names}


def test_inputs_must_agree(image):
    edit(image / "image_forward.npz", "in/tgt_mask", lambda mask: 1 - mask)
    assert off(image).keys() == {"image/in/tgt_mask"}
    edit(image / "image_forward.npz", "in/tgt_len", lambda length: length.clip(max=3))
    assert "expected" in off(image)["image/f64/eval/cap_emb_trans"].note


def test_changed_norms_are_off(image):
    path = image / "image_config.json"
    config = json.loads(path.read_text())
    run = config["runs"]["f64/step_frozen"]
    run["grad_l2"]["text_mapping.mapping.bn_1.bias"] += 1e-6
    run["change_l2"]["vid_encoding.proj.bias"] += 1e-6
    run["grad_l2"]["text_encoding.text_bert.text_bert.embeddings.LayerNorm.bias"] = 1e-6  # it is frozen
    path.write_text(json.dumps(config))
    assert len(off(image)) == 3


def test_changed_weights_and_options_show(image):
    weights = load_file(image / "image_weights.safetensors")
    weights["vid_encoding.proj.bias"] += 1e-4
    save_file(weights, image / "image_weights.safetensors")
    found = off(image)
    assert "image/f64/eval/vid_emb" in found and "image/f64/eval/cap_emb" not in found
    config = json.loads((image / "image_config.json").read_text())
    config["opt"]["back_w"] *= 1.001
    (image / "image_config.json").write_text(json.dumps(config))
    assert "image/f64/step_full/term/loss_contrastive" in off(image)


@pytest.mark.parametrize("damage", ["cut off", "absent", "of another shape", "without one"])
def test_damaged_weights(image, damage):
    path = image / "image_weights.safetensors"
    weights = load_file(path)
    if damage == "absent":
        path.unlink()
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "of another shape":
        save_file(weights | {"text_mapping.mapping.bn_1.weight": torch.ones(3)}, path)
    else:
        weights.pop("text_mapping.mapping.bn_1.weight")
        save_file(weights, path)
    found = off(image)
    assert {line.status for line in found.values()} == {"MISSING"}
    assert "image/f64/eval/cap_emb" in found and not any("/in/" in name for name in found)


def test_a_config_without_options(image):
    (image / "image_config.json").write_text("{}")
    assert off(image)["image/f32/step_full/loss"].status == "MISSING"
