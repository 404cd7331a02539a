"""Texts that others wrote: read from their files (`files`, `tables`) and cleaned (`cleaning`), the same everywhere."""
