"""A file that is not as published is named with its entry, whatever is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.files import read_objects, read_table
from panovlm.evaluation.benchmarks.names import BENCHMARKS

OMNICOT = {"question": "?", "answer": "a", "type": "move", "image": "a.png"}
PANOENV = {
    "conversations": [],
    "image": "a.png",
    "question_type": "true_false",
    "accu_reward_method": "yes_no",
    "expected_answer": "No",
}
REFER = {
    "refexp": [["find"]],
    "annotationid": 1,
    "xlng_deg": "east",
    "ylat_deg": 0,
    "img_src": "a",
    "img_cat": "b",
}
OSR = {
    "turn_id": 1,
    "question": "?",
    "answer": "many",
    "skills_tested": "object_counting",
}
INVALID: list[tuple[str, Any]] = [
    ("omnicot", [OMNICOT, OMNICOT | {"random_objects": 3}]),
    ("panoenv", [PANOENV]),
    ("panovqa", [{"id": "N1_a", "image": "a.jpg", "conversations": [{"value": "?"}]}]),
    ("refer360", [REFER]),
    ("osr-bench", {"image_id": "a", "conversation": [OSR]}),
]


@pytest.mark.parametrize(("name", "content"), INVALID, ids=[name for name, _ in INVALID])
def test_an_entry_of_another_form_is_named(name: str, content: Any, tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text(json.dumps(content))
    number = len(content) if isinstance(content, list) else 1
    with pytest.raises(PanoVLMError, match=rf"data\.json, entry {number}: found another form"):
        BENCHMARKS[name].read(file, tmp_path)


@pytest.mark.parametrize(
    ("read", "name", "text", "error"),
    [
        (read_objects, "a.json", "{", "not JSON"),
        (read_objects, "a.json", "[]", "found no list of objects"),
        (read_objects, "a.json", '[{"k": 1}, {}]', r"entry 2: found \[\], expected \['k'\] too"),
        (read_objects, "a.jsonl", '{"k": 1}\n\n{', "line 3: not JSON"),
        (read_objects, "a.json", "[3]", "found int, expected an object"),
        (read_table, "a.tsv", "k\n", "found no rows"),
        (read_table, "a.tsv", "j\n1\n", r"expected \['k'\] too"),
        (read_table, "a.tsv", "j\tk\n1\t2\n1\n", "row 2: found fewer columns"),
    ],
)
def test_a_broken_file_is_named(
    read: Callable[..., Any], name: str, text: str, error: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PanoVLMError, match=error):
        read(tmp_path / name, ("k",))
    with pytest.raises(PanoVLMError, match="cannot read"):
        read(tmp_path / "none.json", ("k",))


def test_rare_line_ends_stay_inside_a_cell(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("j\tk\n1\ta\u2028b\n", encoding="utf-8")
    assert read_table(tmp_path / "a.tsv", ("k",)) == [{"j": "1", "k": "a\u2028b"}]
