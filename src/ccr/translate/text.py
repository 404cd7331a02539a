"""What a text is, for the engines and the memory alike."""

import re
import unicodedata

INVISIBLE = re.compile("[\u200b\u2060\ufeff]")  # zero-width space and its like, which engines put between Khmer words


def clean(text: str) -> str:
    """A text as captions are stored, and by which they are compared: NFC, one space between words, nothing invisible.

    Joiners stay: they belong to the spelling of Persian and Hindi.
    """
    return unicodedata.normalize("NFC", " ".join(INVISIBLE.sub("", text).split()))
