"""What a text is, for the engines and the memory alike."""

import unicodedata


def clean(text: str) -> str:
    """A text as captions are stored, and by which they are compared: NFC, one space between words."""
    return unicodedata.normalize("NFC", " ".join(text.split()))
