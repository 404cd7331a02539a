"""A run's text side as a sentence-transformers model."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from ccr.export import onnx
from ccr.export.folder import new_folder

MODULES = [{"idx": 0, "name": "0", "path": "", "type": "ccr_student.Student"}]
CONFIG = {
    "prompts": {},
    "default_prompt_name": None,
    "similarity_fn_name": "cosine",
    "model_type": "SentenceTransformer",
}
MODULE = "ccr_student.py"


def export(files: Mapping[str, str], folder: Path, evaluations: list[Path]) -> None:
    """Write a folder for `SentenceTransformer(folder, trust_remote_code=True)`, which runs in ONNX Runtime.

    Args and raises: see `onnx.export`.
    """
    with new_folder(folder) as temporary:
        onnx.write(files, temporary, evaluations, visual=False)
        for name, content in (("modules.json", MODULES), ("config_sentence_transformers.json", CONFIG)):
            (temporary / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
        shutil.copy(Path(__file__).with_name(MODULE), temporary / MODULE)
