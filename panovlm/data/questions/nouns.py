"""Labels in sentences: with their article, and in the plural."""

IRREGULAR = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "foot": "feet",
    "mouse": "mice",
    "knife": "knives",
    "shelf": "shelves",
    "leaf": "leaves",
    "sheep": "sheep",
    "aircraft": "aircraft",
    "scissors": "scissors",
    "skis": "skis",
    "stairs": "stairs",
}
"""Last words of labels whose plural no rule of `plural` makes."""


def with_article(label: str) -> str:
    """Return a label with its indefinite article, as in "an orange cube"."""
    return f"an {label}" if label[0].lower() in "aeiou" else f"a {label}"


def plural(label: str) -> str:
    """Return a label in the plural: that of its last word."""
    *before, last = label.split(" ")
    return " ".join([*before, IRREGULAR.get(last) or _regular(last)])


def _regular(word: str) -> str:
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"
