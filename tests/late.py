"""Modules that take seconds to load: each test process imports every test file, but few of them use these."""

from importlib import import_module


class Late:
    """A module that is loaded on first use."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str):
        if attribute.startswith("_"):  # pytest looks up some on every object of a test file
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)
