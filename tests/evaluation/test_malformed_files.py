"""Whatever is wrong with a file, it is named, or what cannot be scored has a reason and no score.

Files are right ones with one thing changed: a field taken away or holding something else, the file
cut off anywhere, or bytes that are no text.
"""

import copy
import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.files import is_there
from panovlm.evaluation.benchmarks.names import BENCHMARKS
from panovlm.evaluation.compare import compare
from panovlm.evaluation.report import describe
from panovlm.evaluation.scoring import Prediction
from panovlm.metrics.scores import Score

RIGHT: dict[str, tuple[str, Any]] = {
    "quic-360": ("a.tsv", [{"url": "p.png", "query": "sky", "annotation": "Grey."}]),
    "osr-bench": (
        "a_qa.json",
        {
            "image_id": "p.png",
            "conversation": [
                {"turn_id": 0, "question": "Draw.", "answer": [[["bed"]] * 10] * 10},
                {"turn_id": 1, "question": "How many?", "answer": "2"}
                | {"skills_tested": "object_counting"},
            ],
        },
    ),
    "hstar-bench": ("annotation.json", [{"task": "Go.", "yaw": [1, 2], "pitch": [0, 5]}]),
    "panoenv": (
        "a.jsonl",
        [
            {
                "conversations": [{"from": "human", "value": "<image>\nHow far?"}],
                "image": "p.png",
                "question_type": "open_ended",
                "accu_reward_method": "distance",
                "expected_answer": "<Answer>3 m</Answer>",
            }
        ],
    ),
    "360bench": (
        "a.tsv",
        [
            {
                "image_file": "p.png",
                "question": "Where?",
                "category": "c",
                "l2-category": "d",
                "bbox": '[{"bbox_2d": [1, 2, 3, 4]}]',
                "index": "1",
                "multi-choice options": "['A. left', 'B. right']",
                "answer": "A",
            }
        ],
    ),
    "omnicot": (
        "a.json",
        [{"question": "?", "answer": "Yes", "type": "move_x", "image": "p.png"}],
    ),
    "panovqa": (
        "a.json",
        [{"id": "N_1", "image": "p.png", "conversations": [{"value": "?"}, {"value": "A."}]}],
    ),
    "refer360": (
        "a.json",
        [
            {
                "refexp": [["go", "left"]],
                "annotationid": 1,
                "xlng_deg": 10.0,
                "ylat_deg": -5.0,
                "img_src": "p.png",
                "img_cat": "indoor",
            }
        ],
    ),
    "directions": (
        "a.jsonl",
        [
            {"image": "p.png", "name": "it", "yaw_deg": 10.0, "pitch_deg": -5.0, "kind": "k"},
            {"image": "p.png", "question": "Where?", "yaw_deg": 10},
        ],
    ),
    "labels": (
        "a.jsonl",
        [
            {"image": "p.png", "label": "hall", "options": ["hall", "roof"]},
            {"image": "p.png", "label": "roof"},
        ],
    ),
}
CHANGES: list[Any] = [
    None,
    True,
    -3,
    1e999,
    "",
    "\x00",
    "\ud800",
    "x" * 300,
    [],
    [None],
    {},
    {"a": 1},
]
ANSWERS = [
    "",
    "B",
    "<answer>5</answer>",
    "submit(10,-5)",
    '{"bed": [[1, 2], [0.5, "x"]]}',
    "\ud800",
]
BYTES = [
    b"",
    b"\xff\xfe\x00",
    b"\x00" * 9,
    b"[" * 100_000,
    b'[{"a": ' + b"9" * 5000 + b"}]",
    b"null",
]


def changed(content: Any) -> Iterator[Any]:
    """Return copies with one value taken away or changed, down to the values of values of rows."""
    rows = content["conversation"] if isinstance(content, dict) else content
    for place, row in enumerate(rows):
        for key in row:
            for other in CHANGES:
                new = copy.deepcopy(content)
                (new["conversation"] if isinstance(new, dict) else new)[place][key] = other
                yield new
            new = copy.deepcopy(content)
            del (new["conversation"] if isinstance(new, dict) else new)[place][key]
            yield new
    if isinstance(content, dict):
        yield from (content | {key: other} for key in content for other in CHANGES)
    yield from ([other] for other in CHANGES)


def written(name: str, content: Any) -> bytes:
    """Write rows in the format that a file's name says."""
    if name.endswith(".tsv"):
        out = io.StringIO()
        writer = csv.DictWriter(out, [*content[0]] if content[0] else ["a"], delimiter="\t")
        writer.writeheader()
        writer.writerows(content)
        return out.getvalue().encode("utf-8", "surrogatepass")
    if name.endswith(".jsonl"):
        return "\n".join(map(json.dumps, content)).encode()
    return json.dumps(content).encode()


def files_of(name: str, content: Any) -> Iterator[bytes]:
    """Return malformed files, and the right one first."""
    right = written(name, content)
    yield right
    yield from BYTES
    yield from (right[: len(right) * part // 12] for part in range(12))
    for other in changed(content):
        if not name.endswith(".tsv") or isinstance(other[0], dict):
            yield written(name, other)


@pytest.mark.parametrize("benchmark", RIGHT)
def test_a_malformed_benchmark_is_named_or_scored_with_reasons(
    benchmark: str, tmp_path: Path
) -> None:
    name, content = RIGHT[benchmark]
    (tmp_path / "p.png").touch()
    errors = 0
    for number, data in enumerate(files_of(name, content)):
        (tmp_path / name).write_bytes(data)
        try:
            items = BENCHMARKS[benchmark].read(tmp_path / name, tmp_path)
        except PanoVLMError as error:
            assert number, f"the right file is refused: {error}"
            assert 10 < len(str(error)) < 1000
            errors += 1
            continue
        assert len([item for item in items if is_there(item.image)]) <= len(items)
        for answer in ANSWERS:
            scores = BENCHMARKS[benchmark].score(items, [answer] * len(items))
            assert all(is_sound(score) for score in scores), (data[:200], answer, scores)
        predictions = [*map(Prediction, items, [ANSWERS[0]] * len(items), scores)]
        described = describe(BENCHMARKS[benchmark], predictions)
        json.dumps(described, ensure_ascii=False).encode()
    assert errors > 20


def is_sound(score: Score) -> bool:
    return score.missing is not None or math.isfinite(score.value or 0.0)


ITEM: dict[str, Any] = {
    "image": "a/p.png",
    "question": "?",
    "references": ["x"],
    "answer": "x",
    "score": 1.0,
    "missing": None,
    "kind": "k",
    "yaw_deg": None,
}
REPORT: dict[str, Any] = {
    "benchmark": "labels",
    "metric": "share",
    "unit": "share",
    "less_is_better": False,
    "judge": None,
    "settings": {"model": "m", "show": "views", "images": "a"},
    "predictions": [ITEM, ITEM | {"score": None, "missing": "the answer could not be read"}],
}


def reports(report: dict[str, Any]) -> Iterator[bytes]:
    right = json.dumps(report).encode()
    yield right
    yield from BYTES
    yield from (right[: len(right) * part // 12] for part in range(12))
    for place, row in enumerate(report["predictions"]):
        for key in row:
            for other in CHANGES:
                new = copy.deepcopy(report)
                new["predictions"][place][key] = other
                yield json.dumps(new).encode()
    for key in report:
        for other in CHANGES:
            yield json.dumps(report | {key: other}).encode()


def test_a_malformed_report_is_named_or_compared_by_what_it_says(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(REPORT))
    errors = 0
    for data in reports(REPORT):
        bad.write_bytes(data)
        try:
            compared = compare(good, bad)
        except PanoVLMError as error:
            assert 10 < len(str(error)) < 1000
            errors += 1
            continue
        second = compared["overall"]["second"]
        assert second is None or 0.0 <= second <= 180.0
    assert errors > 40


def test_there_are_more_than_three_hundred_malformed_files() -> None:
    counts = [sum(1 for _ in files_of(*right)) - 1 for right in RIGHT.values()]
    assert sum(counts) + sum(1 for _ in reports(REPORT)) - 1 > 300
