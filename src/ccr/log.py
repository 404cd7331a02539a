"""The log of a command: plain lines on stderr; warnings say that they are."""

import logging


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"WARNING: {text}" if record.levelno >= logging.WARNING else text


def start_log() -> None:
    """Write all messages from INFO up to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
