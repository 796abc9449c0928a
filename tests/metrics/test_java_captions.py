"""METEOR and SPICE are computed where Java is, in time, and otherwise say why not.

A stand-in takes the place of `java`, and another that of pycocoevalcap, which runs it.
"""

import os
import sys
import time
from pathlib import Path

import pytest

from panovlm.metrics.java_captions import CORE_NLP, java_score

PACKAGE = """
import json, subprocess
class {name}:
    def compute_score(self, gts, res):
        assert gts.keys() == res.keys()
        said = subprocess.run(["java"], input=json.dumps([gts, res]), text=True,
                              capture_output=True, check=True).stdout
        return float(said), []
"""
JAVA = """#!{python}
import json, sys, time
gts, res = json.load(sys.stdin)
{body}
"""
SHARE = "print(sum(len({*res[k][0].split()} & {*gts[k][0].split()}) for k in res) / 10)"
CANDIDATES = ["A red chair.", "", "The sky!", "cars"]
REFERENCES = [["A red sofa", " "], ["nothing"], ["the grey sky"], []]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pycocoevalcap's stand-in, and a path on which no java is."""
    for module, name in (("meteor", "Meteor"), ("spice", "Spice")):
        folder = tmp_path / "pycocoevalcap" / module
        folder.mkdir(parents=True)
        (folder / f"{module}.py").write_text(PACKAGE.format(name=name))
        for package in (folder, folder.parent):
            (package / "__init__.py").touch()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "pycocoevalcap"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def put_java(place: Path, body: str) -> None:
    java = place / "bin" / "java"
    java.write_text(JAVA.format(python=sys.executable, body=body))
    java.chmod(0o755)


def test_a_score_is_of_the_captions_that_have_words_and_references(place: Path) -> None:
    put_java(place, SHARE)
    found = java_score("METEOR", CANDIDATES, REFERENCES)
    assert found.missing is None
    assert found.mean == 0.4  # "a red" of the first and "the sky" of the third


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("print('Error: heap')", "failed: ValueError"),
        ("sys.exit(3)", "failed: "),
        ("print('nan')", "said nan, no score"),
    ],
)
def test_what_java_does_wrong_is_no_score(place: Path, body: str, reason: str) -> None:
    put_java(place, body)
    found = java_score("METEOR", CANDIDATES, REFERENCES)
    assert found.mean is None
    assert (found.missing or "").startswith(reason)


def test_a_program_that_does_not_end_is_ended_with_all_it_started(place: Path) -> None:
    note = place / "pid"
    put_java(place, f"import os; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    found = java_score("METEOR", CANDIDATES, REFERENCES, limit_s=5.0)
    assert (found.mean, found.missing) == (None, "was not done after 5 s")
    for _ in range(100):  # its parent is gone, so it takes a moment until it is cleared away
        if not is_running(int(note.read_text())):
            return
        time.sleep(0.05)
    pytest.fail("the stand-in for java still runs")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.is_file() or status.read_text().split(")")[1].split()[0] != "Z"


def test_what_is_not_there_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert java_score("METEOR", CANDIDATES, REFERENCES).missing == "found no java"
    put_java(place, SHARE)
    assert java_score("METEOR", ["", "!"], [["a"], ["b"]]).missing == (
        "no caption has words and a reference"
    )
    assert (java_score("SPICE", CANDIDATES, REFERENCES).missing or "").startswith(
        f"found no {CORE_NLP.name}"
    )
    jar = place / "pycocoevalcap" / CORE_NLP
    jar.parent.mkdir(parents=True)
    jar.touch()
    assert java_score("SPICE", CANDIDATES, REFERENCES).mean == 0.4
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert java_score("METEOR", CANDIDATES, REFERENCES).missing == "found no package pycocoevalcap"
