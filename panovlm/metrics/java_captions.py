"""METEOR and SPICE of captions, by the Java programs in pycocoevalcap, where all of that is there.

Each runs in a process of its own that has so long and no longer. What is not computed says why, and
is never 0.
"""

import contextlib
import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from panovlm.metrics.tokens import caption_tokens

LIMIT_S = 600.0
SCORERS = {
    "METEOR": ("pycocoevalcap.meteor.meteor", "Meteor"),
    "SPICE": ("pycocoevalcap.spice.spice", "Spice"),
}
"""The module and the class that run each program."""
CORE_NLP = Path("spice", "lib", "stanford-corenlp-3.6.0.jar")
"""What SPICE needs and pycocoevalcap would download."""
_PROGRAM = """
import json, sys
from {module} import {name}
given = json.load(sys.stdin)
mean, _ = {name}().compute_score(given["references"], given["candidates"])
print(json.dumps(float(mean)))
"""


@dataclass(frozen=True)
class JavaScore:
    """A corpus's score, or why there is none.

    Attributes:
        mean: In [0, 1].
        missing: The reason, exactly where there is no score.
    """

    mean: float | None
    missing: str | None = None


def java_score(
    name: str,
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    limit_s: float = LIMIT_S,
) -> JavaScore:
    """Score captions by a Java program.

    Args:
        name: A key of `SCORERS`.
        candidates: One caption for each picture; those without words take no part.
        references: Captions by people for each picture; empty ones are left out.
        limit_s: Seconds after which the program is ended.

    Source:
        METEOR 1.5, Denkowski & Lavie, WMT 2014; SPICE 1.0, Anderson et al., ECCV 2016; both as in
        pycocoevalcap 1.2, but for the words, which are cut as in `score_captions`.
    """
    words = [" ".join(caption_tokens(candidate)) for candidate in candidates]
    known = [[w for text in texts if (w := " ".join(caption_tokens(text)))] for texts in references]
    places = [place for place, word in enumerate(words) if word and known[place]]
    if lacking := _lacking(name):
        return JavaScore(None, lacking)
    if not places:
        return JavaScore(None, "no caption has words and a reference")
    given = {
        "candidates": {str(place): [words[place]] for place in places},
        "references": {str(place): known[place] for place in places},
    }
    return _run(_PROGRAM.format(module=SCORERS[name][0], name=SCORERS[name][1]), given, limit_s)


def _lacking(name: str) -> str | None:
    """Say what is not there."""
    if shutil.which("java") is None:
        return "found no java"
    package = importlib.util.find_spec("pycocoevalcap")
    folders = package.submodule_search_locations if package else None
    if not folders:
        return "found no package pycocoevalcap"
    if name == "SPICE" and not any((Path(folder) / CORE_NLP).is_file() for folder in folders):
        return f"found no {CORE_NLP.name}, which pycocoevalcap downloads when it is used itself"
    return None


def _run(program: str, given: object, limit_s: float) -> JavaScore:
    """Run a program and all that it starts, at most so long."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said, complaint = process.communicate(json.dumps(given), timeout=limit_s)
    except subprocess.TimeoutExpired:
        return JavaScore(None, f"was not done after {limit_s:g} s")
    finally:
        _end(process)
    if process.returncode:
        return JavaScore(None, f"failed: {(complaint.strip() or 'no word').splitlines()[-1][:200]}")
    return _read(said)


def _end(process: subprocess.Popen[str]) -> None:
    """End what is left of a process and its children, which live on if only it is ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(said: str) -> JavaScore:
    lines = said.strip().splitlines() or [""]
    try:
        mean = float(json.loads(lines[-1]))
    except (ValueError, TypeError):
        return JavaScore(None, f"said {lines[-1][:80]!r} instead of a score")
    return JavaScore(mean) if math.isfinite(mean) else JavaScore(None, f"said {mean}, no score")
