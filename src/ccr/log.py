"""The log of a command: plain lines on stderr; warnings are marked as such."""

import logging


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"WARNING: {text}" if record.levelno >= logging.WARNING else text


def start_log() -> None:
    """Write our own messages to stderr from INFO up, and those of libraries from WARNING up."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("ccr").setLevel(logging.INFO)
