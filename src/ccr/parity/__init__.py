"""Parity with the published NRCCR code: this project's results compared with a directory of the authors' numbers.

`python -m ccr.parity DIR`. The directory holds indexes of arrays, the arrays, weights and options (`losses_index.json`,
`losses.npz`, `video_weights.safetensors`, ...); all sizes and options are read from it.
"""

from os import PathLike
from pathlib import Path

from ccr.errors import CcrError
from ccr.parity import losses, networks, ranking, training
from ccr.parity.reference import Line, compare


def run(directory: str | PathLike) -> list[Line]:
    """A line for every array and every number of the directory, and for every missing file.

    Raises `CcrError` if the directory does not exist or has none of the files.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise CcrError(f"{folder}: no such directory. Give one with the reference numbers (losses.npz, ...).")
    loss, metric = losses.group(folder), ranking.group(folder)
    models = [networks.Model(folder, mode) for mode in ("video", "image")]
    expected = sorted(file.name for group in (loss, metric, *models) for file in group.files)
    if not any((folder / name).is_file() for name in expected):
        raise CcrError(f"{folder}: none of the reference's files is here ({', '.join(expected)}).")
    checks = [(loss, loss.files[1], losses.lines), (metric, metric.files[1], ranking.arrays)]
    checks.append((metric, metric.files[2], ranking.values))
    for model in models:
        checks += [(model, model.files[1], _arrays), (model, model.files[3], training.norms)]
    lines = [
        Line.missing(file.name, "no such file")
        for group in (loss, metric, *models)
        for file in group.files
        if not file.is_file()
    ]
    for group, listing, check in checks:
        if listing.is_file():
            try:
                lines += check(group)
            except Exception as error:  # a damaged or malformed listing
                lines.append(Line.missing(listing.name, error))
    return lines


def _arrays(model: networks.Model) -> list[Line]:
    def tolerance(name, reference):
        return (training if "/step_" in name else networks).tolerance(model, name, reference)

    return compare(model, networks.INPUTS, [*networks.parts(model), *training.parts(model)], tolerance)
