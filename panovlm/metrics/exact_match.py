"""Exact match, up to case, outer space and a final stop."""


def normalised(text: str) -> str:
    """Return a text without what exact match ignores."""
    return text.strip().rstrip(".").strip().lower()
