"""What identifies the content of a file that a job reads."""

import os
from pathlib import Path

from ccr.artifacts.files import read_json
from ccr.artifacts.hashes import bytes_hash, digest, once, once_of_bytes
from ccr.artifacts.parquet import computed_content, recorded_content
from ccr.errors import CcrError


def content_hash(path: str | os.PathLike) -> str:
    """Hash of a file's content: of the rows and metadata of our own Parquet files, otherwise of the bytes.

    For a folder: of what its `manifest.json` says about the content if a job sealed it (raw data of the mini-world),
    otherwise of the names and bytes of all its files (other raw data, models).

    Raises `CcrError` if a Parquet file is torn, or its rows are not those that its metadata were written for.
    """
    path = Path(path)
    if (path / "manifest.json").exists() and (path / "seal.json").exists():
        return digest({name: value for name, value in read_json(path / "manifest.json").items() if name != "key"})
    if path.suffix == ".parquet" and (recorded := once(path, "recorded", lambda _: recorded_content(path) or "")):
        if once_of_bytes(path, "content", computed_content) != recorded:
            raise CcrError(
                f"{path}: its rows are not those that were written there: its content hash is another one than its "
                "metadata name. Delete it and run its job again."
            )
        return recorded
    return bytes_hash(path)
