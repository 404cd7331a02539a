"""The form of a text that engines and memory share."""

import re
import unicodedata

from ccr.texts.cleaning import INVISIBLE


def clean(text: str) -> str:
    """A text in the form in which captions are stored and compared: NFC, one space between words, nothing invisible.

    Joiners stay: they belong to the spelling of Persian and Hindi.
    """
    return unicodedata.normalize("NFC", " ".join(re.sub(INVISIBLE, "", text).split()))
