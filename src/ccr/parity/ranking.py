"""Metrics from the stored error matrices, with ground truth from ids, and min-max fusion."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ccr.errors import CcrError
from ccr.parity.reference import Group, Line, Part, compare, double, read_object
from ccr.retrieval.fusion import min_max
from ccr.retrieval.metrics import metrics
from ccr.retrieval.ranks import rank_similarity

EXPECTED = "metrics_expected.json"
INPUTS = r".*/(errors2?|video_ids|caption_ids|V|C)"


def group(folder: Path) -> Group:
    """The files of the metrics."""
    return Group(folder, "metrics", "metrics", EXPECTED)


def arrays(files: Group) -> list[Line]:
    """A line for every array of `metrics_index.json`."""
    return compare(files, INPUTS, _parts(files), lambda _, reference: double(reference))


def values(files: Group) -> list[Line]:
    """A line for every value of `metrics_expected.json`."""
    expected = read_object(files.folder / EXPECTED)
    return [line for case, records in expected.items() for line in _case(files, case, records)]


def _parts(files: Group) -> Iterator[Part]:
    for name in files.index:
        case, _, what = name.rpartition("/")
        base = case.removesuffix("_hybrid")
        if what.startswith("gt_"):
            yield name, partial(_ground_truth, files, case, what)
        elif what.startswith("norm"):
            yield name, partial(_scaled, files, case, what)
        elif what == "errors" and base != case:
            yield name, partial(_fused, files, name, base)
        elif what == "errors" and {f"{case}/V", f"{case}/C"} <= files.index.keys():
            yield name, partial(_cosine, files, case)


def _items(files: Group, case: str) -> np.ndarray:
    """(captions,) column of each caption's video, from the ids; a caption id is `<video id>#enc#<k>`."""
    column = {video: n for n, video in enumerate(files.array(f"{case}/video_ids").tolist())}
    captions = files.array(f"{case}/caption_ids").tolist()
    return np.array([column[caption.rsplit("#", 2)[0]] for caption in captions])


def _ground_truth(files: Group, case: str, what: str) -> Mapping[str, np.ndarray]:
    items = _items(files, case)
    if what == "gt_video_of_caption":
        return {"": items}
    if what == "gt_captions_flat":
        return {"": np.argsort(items, kind="stable")}
    return {"": np.bincount(items, minlength=len(files.array(f"{case}/video_ids")))}


def _norm(errors: torch.Tensor) -> torch.Tensor:
    """Min-max normalisation, negated before and after: the published scores are errors, ours are similarities."""
    return -min_max(-errors)


def _scaled(files: Group, case: str, what: str) -> Mapping[str, torch.Tensor]:
    number, _, twice = what.removeprefix("norm").partition("_")
    scaled = _norm(files.tensor(f"{case}/errors{'' if number == '1' else number}"))
    return {"": _norm(scaled) if twice else scaled}


def _fused(files: Group, name: str, base: str) -> Mapping[str, torch.Tensor]:
    weight = files.number(name, r"(\d*\.?\d+)\s*\*\s*norm", 0.2)
    first, second = (_norm(files.tensor(f"{base}/{errors}")) for errors in ("errors", "errors2"))
    return {"": weight * first + (1 - weight) * second}


def _cosine(files: Group, case: str) -> Mapping[str, torch.Tensor]:
    captions, videos = (torch.nn.functional.normalize(files.tensor(f"{case}/{side}"), dim=-1) for side in "CV")
    return {"": -captions @ videos.T}


def _case(files: Group, case: str, expected: Mapping[str, Any]) -> list[Line]:
    """The published values of a case; within the published bounds if there are ties."""
    names = {name: f"{files.name}/{case}/{name}" for name in expected["reference"]}
    try:
        found = _found(files, case, tied=expected["tied"])
        return [Line.of(label, _outside(name, found[name], expected), 1e-9) for name, label in names.items()]
    except Exception as error:  # as in `compare`
        return [Line.missing(label, error) for label in names.values()]


def _found(files: Group, case: str, tied: bool) -> dict[str, float]:
    """Our metrics of a case, in the units of the published code (mAP in 0..1).

    NaN must be refused; the expected values of such a case are those with all NaN tied in last place.
    """
    similarity, items = -files.tensor(f"{case}/errors"), _items(files, case)
    if tied and similarity.isnan().any():
        _refused(similarity, items)
        last = similarity[~similarity.isnan()]
        similarity = similarity.nan_to_num(nan=float(last.min()) - 1 if len(last) else 0.0)
    found = _metrics(similarity, items)
    return {name: value / 100 if name.endswith("_map") else value for name, value in found.items()}


def _refused(similarity: torch.Tensor, items: np.ndarray) -> None:
    try:
        _metrics(similarity, items)
    except CcrError:
        return
    raise CcrError("NaN was ranked")


def _metrics(similarity: torch.Tensor, items: np.ndarray) -> dict[str, float]:
    columns = np.arange(similarity.shape[1])
    return metrics(rank_similarity(similarity, items, columns), rank_similarity(similarity.T, columns, items))


def _outside(name: str, value: float, expected: Mapping[str, Any]) -> float:
    """How far a value is from what is expected.

    Without ties, all expectations are the same value. With ties, the value lies between the bounds. mAP has no bounds,
    but ours puts irrelevant entries first among equals, so any other order gives at least as much.
    """
    orders = [record[name] for record in expected.values() if isinstance(record, Mapping) and name in record]
    if not expected["tied"]:
        return float(np.abs(np.subtract(orders, value)).max())
    bounds = [expected[bound].get(name) for bound in ("rank_best", "rank_worst")]
    low, high = (0.0, min(orders)) if None in bounds else (min(bounds), max(bounds))
    return max(0.0, low - value, value - high) if np.isfinite([low, high]).all() else float("nan")
