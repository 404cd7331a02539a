"""A model card, generated from what is known about a run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ccr.artifacts.files import read_json

CARD = """---
language: [{languages}]
license: unknown # fill in: that of the captions, pictures and models that it was trained on
tags: [cross-lingual, cross-modal-retrieval]
---
# {title}

A dual encoder for retrieving pictures and clips with sentences in {targets}, trained with ccr
on {source} captions and their translations.

| | |
|---|---|
| trained on | {target} |
| terms | {terms} |
| text encoder | {encoder} |
| features | {dim} dimensions a frame |
| embedding | {width} dimensions, unit length; similarity is the dot product |
| made | {made} |

{scores}
To fill in: licence, intended use, known limits. Texts in languages that it was not trained on give embeddings
without meaning.
"""


def card(files: Mapping[str, str], description: Mapping[str, Any], evaluations: list[Path]) -> str:
    """README.md of an exported run. `evaluations`: folders, each with a metrics.json."""
    settings = description["settings"]
    network, folder = settings["network"], Path(files["model"]).parent
    made = "unknown"
    if (folder / "provenance.json").is_file():
        note = read_json(folder / "provenance.json")
        made = f"{note.get('finished', '')}, code {note.get('code', 'unknown')}, {note.get('device', '')}"
    source, targets = settings["source_lang"], settings["langs"]
    lines = ["| evaluation | t2v R@1 | t2v R@10 | v2t R@1 | v2t R@10 | SumR |", "|---|---:|---:|---:|---:|---:|"]
    for path in evaluations:
        found = read_json(path / "metrics.json")
        numbers = (f"{found[name]:.1f}" for name in ("t2v_r1", "t2v_r10", "v2t_r1", "v2t_r10", "sumr"))
        lines.append(f"| {path} | {' | '.join(numbers)} |")
    return CARD.format(
        languages=", ".join(json.dumps(lang) for lang in sorted({source, *targets})),  # YAML reads no as false
        title=", ".join(folder.parts[-2:]),
        source=source,
        targets=", ".join(targets),
        target=folder,
        terms=", ".join(description.get("terms", [])) or "unknown",
        encoder=network["text"]["encoder"],
        dim=description["feature_dim"] or "no",
        width=network["dim"],
        made=made,
        scores="\n".join(lines) + "\n" if evaluations else "Not evaluated.\n",
    )
