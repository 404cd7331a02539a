"""Modules that take seconds to load: each test process reads every test file, and few of them use these."""

from importlib import import_module


class Late:
    """A module that is loaded where it is first used."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str):
        if attribute.startswith("_"):  # pytest asks every object of a test file for some
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)
