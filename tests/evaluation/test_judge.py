"""A judge's grades become scores; its failures never do."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.items import Item, Rubric
from panovlm.evaluation.judge import Judge
from panovlm.metrics.scores import NOT_JUDGED, UNREADABLE

RUBRIC = Rubric("Grade it.", lowest=1, highest=5)
REPLIES: dict[str, Any] = {
    "best": {"grade": 5},
    "middle": {"grade": 3},
    "high": {"grade": 6},
    "words": {"grade": "5"},
    "true": {"grade": True},
    "other": {"score": 5},
    "list": [5],
}


class Stub(BaseHTTPRequestHandler):
    """Answers as the graded answer says."""

    asked: ClassVar[list[dict[str, Any]]] = []
    keys: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        self.keys.append(self.headers["Authorization"])
        said = body["messages"][-1]["content"].rsplit(" ", 1)[-1]
        if said == "moved":
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            return
        self.send_response(500 if said == "broken" else 200)
        self.end_headers()
        content = "5!" if said == "chat" else json.dumps(REPLIES.get(said))
        self.wfile.write(json.dumps({"choices": [{"message": {"content": content}}]}).encode())

    def log_message(self, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def judge() -> Iterator[Judge]:
    Stub.asked, Stub.keys = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Judge(f"http://127.0.0.1:{server.server_port}/v1/", "m", "secret", tries=2, wait_s=0.0)
    server.shutdown()
    server.server_close()


def item(*references: str) -> Item:
    return Item("1", Path("p.jpg"), "What is it?", references, "kind")


def test_grades_are_scores_and_the_judge_sees_question_and_both_answers(judge: Judge) -> None:
    done: list[int] = []
    items = [item("a car"), item("a dog")]
    scores = judge.grade(RUBRIC, items, ["best", "middle"], done.append)
    assert [score.value for score in scores] == [1.0, 0.5]
    assert len(done) == 2
    told = {body["messages"][-1]["content"] for body in Stub.asked}
    assert "Question: What is it?\nRight answer: a dog\nAnswer to grade: middle" in told
    assert {body["temperature"] for body in Stub.asked} == {0}
    assert Stub.keys == ["Bearer secret"] * 2


@pytest.mark.parametrize(
    "said", ["broken", "moved", "chat", "high", "words", "true", "other", "list", "null"]
)
def test_whatever_is_no_grade_is_no_score(judge: Judge, said: str) -> None:
    assert judge.grade(RUBRIC, [item("a car")], [said], lambda _: None) == [NOT_JUDGED]
    assert len(Stub.asked) == (1 if said == "moved" else judge.tries)


def test_what_cannot_be_graded_is_not_asked(judge: Judge) -> None:
    scores = judge.grade(RUBRIC, [item("a car"), item()], [" ", "best"], lambda _: None)
    assert scores == [UNREADABLE, NOT_JUDGED]
    assert Stub.asked == []


def test_a_judge_that_is_not_there_fails_and_its_address_is_checked() -> None:
    away = Judge("http://127.0.0.1:9", "m", timeout_s=0.5, tries=1)
    assert away.grade(RUBRIC, [item("a car")], ["best"], lambda _: None) == [NOT_JUDGED]
    with pytest.raises(PanoVLMError, match="change --judge"):
        Judge("file:///etc/passwd", "m")


def test_a_report_can_say_who_judged_and_what_it_was_told(judge: Judge) -> None:
    facts = judge.facts(RUBRIC)
    assert (facts["model"], facts["temperature"]) == ("m", 0)
    assert facts["prompt_sha256"] != judge.facts(Rubric("Else.", 1, 5))["prompt_sha256"]
    assert "secret" not in json.dumps(facts)
