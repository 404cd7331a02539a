"""Keys by name, never by value, and the hub's cache."""

import os
from importlib import import_module
from pathlib import Path

from ccr.artifacts.room import existing, free_bytes
from ccr.doctor.section import Section


def keys() -> Section:
    """Which keys of translation services and of the hub are set."""
    services = import_module("ccr.translate.services").SERVICES.values()
    names = sorted({service.key for service in services if service.key} | {"HF_TOKEN"})
    return Section("keys", {name: "set" if os.environ.get(name, "").strip() else "not set" for name in names})


def hub() -> Section:
    """Where hub models are cached, which ones are there, and whether the hub may be used."""
    folder = cache()
    models = sorted(path.name.removeprefix("models--").replace("--", "/") for path in folder.glob("models--*/"))
    found = Section("hub", {"cache": str(folder), "free_gb": round(free_bytes(existing(folder)) / 1e9, 1)})
    found.facts |= {"models": models, "offline": os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "True", "ON")}
    return found


def cache() -> Path:
    """The folder in which huggingface_hub keeps models."""
    return Path(import_module("huggingface_hub.constants").HF_HUB_CACHE)


def is_cached(model: str) -> bool:
    """Whether any file of a hub model is in the cache."""
    return any((cache() / f"models--{model.replace('/', '--')}" / "snapshots").glob("*/*"))
