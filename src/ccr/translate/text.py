"""What a text is, for the engines and the memory alike."""

import re
import unicodedata

from ccr.texts.cleaning import INVISIBLE


def clean(text: str) -> str:
    """A text as captions are stored, and by which they are compared: NFC, one space between words, nothing invisible.

    Joiners stay: they belong to the spelling of Persian and Hindi.
    """
    return unicodedata.normalize("NFC", " ".join(re.sub(INVISIBLE, "", text).split()))
