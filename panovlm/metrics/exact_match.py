"""Exact match, up to case, outer space and a final stop."""

import unicodedata

_STOPS = ".。．｡।"
"""Full stops of Latin, Chinese and Japanese, and Indian scripts."""


def normalised(text: str) -> str:
    """Return a text without what exact match ignores, its letters composed (NFC)."""
    composed = unicodedata.normalize("NFC", text)
    return unicodedata.normalize("NFC", composed.strip().rstrip(_STOPS).strip().lower())
