"""One word for each thing, and it is the field's: the words that others replaced are gone."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    *sorted((ROOT / "panovlm").rglob("*")),
    *sorted((ROOT / "benchmarks").rglob("*")),
    *sorted((ROOT / "docs").rglob("*")),
    *sorted((ROOT / "recipes").rglob("*")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
]
TEXTS = (".py", ".js", ".html", ".css", ".jinja", ".md", ".yaml", ".json")
REPLACED = {
    "encoder, features": r"\bEyes\b|\bSights?\b|\bsights?\b(?! )",
    "low-resolution": r"(?<![.\w])squeez(?:e|ed|es|ing)\b(?!-and)",
    "seam-shifted": r"\bon[_-]seam\b|\bon the seam\b",
    "yaw-rotated, rotation": r"\b\w*_turned\b|\bturned_\w+|\bturned (?:picture|panorama|question)",
    "rendered, sampled": r"\bdrawn (?:scenes?|panoramas?|by chance)|\bdraw(?:_|ing )scenes?\b",
    "error, fix, invalid": r"(?<![A-Za-z])(?:faults?|faulty|cures?|cured)(?![A-Za-z])",
    "a name that says what it holds": r"\bclass (?:Extent|Worth|Done|Kind|Drawn|Change|Draws)\b",
    "SamplingParams, Request, handler ...": r"\b(?:class )?(?:Wishes|Sitting|Desk|Gate|Ticket)\b"
    r"|\bclass Asked\b|\bdef (?:hear|say|sit)\b",
    "recover_output, raise_on_all_ranks ...": r"\b(?:settle|told_once|told_elsewhere|ToldElsewhere"
    r"\w*|hold_everywhere)\b|\bdef together\(\) -> Iterator",
    "Return, Compute": r'"""(?:Give|Say|Tell)s? ',
    "accuracy, faster ...": r"is right for|how true this is|are read sooner|stands? still",
}


@pytest.mark.parametrize("instead", REPLACED)
def test_replaced_words_are_gone(instead: str) -> None:
    pattern = re.compile(REPLACED[instead])
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in SOURCES
        if path.suffix in TEXTS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not found, f"say instead: {instead}\n" + "\n".join(found)


def test_no_file_holds_both_sides_of_a_merge() -> None:
    folders = ("panovlm", "benchmarks", "docs", "recipes", "tests")
    files = [path for name in folders for path in (ROOT / name).rglob("*")]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in [*files, *ROOT.glob("*.*"), ROOT / "Makefile"]
        if path.suffix in (*TEXTS, ".toml", ".txt", "") and path.is_file()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if line.startswith(("<" * 7, ">" * 7))
    ]
    assert not found
