"""Helpers of the importers' tests: write raw data and count rows."""

import gzip
from collections import Counter


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def counts(rows, *names):
    return Counter(tuple(row[name] for name in names) for row in rows)
