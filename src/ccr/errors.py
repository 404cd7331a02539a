"""The one exception that is meant for users."""


class CcrError(Exception):
    """Bad input or bad settings. The message names the file, the row or key, what was expected and how to fix it."""
