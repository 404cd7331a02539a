"""A vision model's files: its config, and how to preprocess pictures. Without torch."""

from typing import Any

from ccr import hub
from ccr.errors import CcrError

PREPROCESSING = ("preprocessor_config.json", "processor_config.json")  # the second nests it under `image_processor`
NEEDED = (("config.json",), PREPROCESSING)
NAMES = [" or ".join(names) for names in NEEDED]


class Checkpoint(hub.Checkpoint):
    """The files of a vision model."""

    def __str__(self) -> str:
        return "{model}@{revision}".format(**self.identity)

    @property
    def config(self) -> dict[str, Any]:
        """The model's config."""
        return self.json("config.json")

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How to preprocess pictures."""
        whole, nested = PREPROCESSING
        return self.json(whole) or self.json(nested).get("image_processor", {})


def find(model: str, revision: str, setting: str) -> Checkpoint:
    """The model's small files, fetched if it is a hub model; a folder must also contain the weights.

    Args:
        model: name on the hub, or folder. revision: branch, tag or commit on the hub.
        setting: the key in params.yaml that names it, for messages.
    Raises `CcrError` when files are missing: which, and how to give a folder.
    """
    if not model:
        files = ", ".join([*NAMES, hub.WEIGHTS_NAMES])
        raise CcrError(f"{setting}: missing. Give a model's name at the hub, or a folder with {files}.")
    found = Checkpoint.find(model, revision, setting, ("config.json", *PREPROCESSING), NAMES)
    found.check(NEEDED)
    return found
