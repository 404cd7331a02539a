"""How many good translations `ccr.translate.suspicion` would hold back: human ones, or published machine translations.

Takes two line-aligned files (.gz or not) and the second one's language; an id of the form `NAME#N` followed by a space
or tab is removed from the start of a line.

    .venv/bin/python benchmarks/suspicion.py data/raw/multi30k/task1/raw/train.{en,de}.gz de
"""

import gzip
import random
import re
import sys
from collections import Counter
from pathlib import Path

from ccr.translate.services import plain
from ccr.translate.suspicion import Answers, suspicion
from ccr.translate.text import clean


def lines(path: str) -> list[str]:
    """A file's texts."""
    data = Path(path).read_bytes()
    text = (gzip.decompress(data) if path.endswith(".gz") else data).decode()
    return [clean(re.sub(r"^\S+#\d+\s", "", line)) for line in text.splitlines()]


sources, targets, lang = lines(sys.argv[1]), lines(sys.argv[2]), sys.argv[3]
pairs = dict(zip(sources, targets, strict=True))
reasons = Counter()
answers = Answers({}, ())
for text, answer in random.Random(0).sample(list(pairs.items()), len(pairs)):
    answer = plain(text, answer)
    if reason := suspicion(text, answer, lang):
        reasons[reason] += 1
        print(f"{reason}: {text} | {answer}")
    elif (others := answers.add(text, answer)) or answers.notorious(answer):
        reasons["one answer for everything"] += 1 + len(others)
        print(f"one answer for everything: {text}, {', '.join(others)} | {answer}")
print(f"{len(pairs):,} different sentences, {reasons.total():,} held back {dict(reasons)}")
