"""Teachers behind an endpoint: what they do wrong is a finding, and the rest counts."""

import base64
import io
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from panovlm.annotating.endpoint import EndpointTeacher
from panovlm.annotating.teachers import ViewResult
from panovlm.annotating.views import overlapping_views
from panovlm.errors import PanoVLMError
from panovlm.runtime.endpoints import Endpoint

SIZE = 40
LAYOUT = overlapping_views(view_size=SIZE)
SIDES = {"left": 100, "top": 200, "right": 300, "bottom": 600}
CAR = {"label": "Car", **SIDES, "score": 0.8, "text": None}
VIEW = np.full((SIZE, SIZE, 3), (200, 100, 50), np.uint8)


class Stub(BaseHTTPRequestHandler):
    """Replies with what the test sets."""

    replies: ClassVar[list[tuple[int, Any]]] = []
    asked: ClassVar[list[dict[str, Any]]] = []
    keys: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.keys.append(self.headers["Authorization"])
        status, content = self.replies[min(len(self.asked), len(self.replies)) - 1]
        self.send_response(status)
        self.end_headers()
        text = content if isinstance(content, str) else json.dumps(content)
        self.wfile.write(json.dumps({"choices": [{"message": {"content": text}}]}).encode())

    def log_message(self, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def teacher() -> Iterator[EndpointTeacher]:
    Stub.asked, Stub.keys = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = Endpoint(
        f"http://127.0.0.1:{server.server_port}/v1", "seer", "secret", 5.0, wait_s=0.0
    )
    yield EndpointTeacher(endpoint)
    server.shutdown()
    server.server_close()


def one_view(teacher: EndpointTeacher, *replies: tuple[int, Any]) -> ViewResult:
    Stub.replies = [*replies]
    (result,) = teacher.annotate(VIEW[None], replace(LAYOUT, views=LAYOUT.views[:1]))
    return result


def test_objects_texts_and_the_caption_are_read(teacher: EndpointTeacher) -> None:
    sign = {**CAR, "label": " exit  sign ", "text": " WAY\nOUT ", "score": None}
    result = one_view(teacher, (200, {"objects": [CAR, sign], "caption": " A street. "}))
    car, exit_sign = result.detections
    assert (car.label, car.score, car.text) == ("car", 0.8, None)
    sides = car.box.left, car.box.top, car.box.width, car.box.height
    assert sides == pytest.approx((4, 8, 8, 16))
    assert (exit_sign.label, exit_sign.score, exit_sign.text) == ("exit sign", 1.0, "WAY OUT")
    assert (result.caption, result.findings, result.failed) == ("A street.", (), False)


def test_a_request_holds_the_view_the_schema_and_the_key(teacher: EndpointTeacher) -> None:
    one_view(replace(teacher, labels=("car",)), (200, {"objects": [], "caption": ""}))
    (body,) = Stub.asked
    picture, text = body["messages"][0]["content"]
    data = base64.b64decode(picture["image_url"]["url"].split(",")[1])
    pixel = np.asarray(Image.open(io.BytesIO(data)))[20, 20]
    assert np.abs(pixel.astype(int) - VIEW[0, 0]).max() < 6
    assert "under these labels: car." in text["text"]
    form = body["response_format"]
    assert form["type"] == "json_schema"
    items = form["json_schema"]["schema"]["properties"]["objects"]["items"]
    assert items["properties"]["label"]["enum"] == ["car"]
    assert (body["model"], Stub.keys) == ("seer", ["Bearer secret"])


@pytest.mark.parametrize(
    ("wrong", "finding"),
    [
        ({"left": 300}, r"left out 'car': found the box \(300, 200, 300, 600\), expected sides"),
        ({"bottom": 1001}, r"found the box \(100, 200, 300, 1001\)"),
        ({"left": -1}, r"found the box \(-1, 200, 300, 600\)"),
        ({"left": "far"}, "left out an object: found left: Input should be a valid number"),
        ({"score": 1.5}, "found the score 1.5, expected 0 to 1"),
        ({"score": 0}, "found the score 0, expected 0 to 1"),
        ({"label": "dog"}, "left out 'dog': found no label of --labels"),
        ({"label": " "}, "left out ' ': found no label of --labels"),
    ],
)
def test_what_is_wrong_with_an_object_is_a_finding_and_the_others_count(
    teacher: EndpointTeacher, wrong: dict[str, Any], finding: str
) -> None:
    answer = {"objects": [{**CAR, **wrong}, CAR], "caption": ""}
    result = one_view(replace(teacher, labels=("car", "Door")), (200, answer))
    assert [each.label for each in result.detections] == ["car"]
    (only,) = result.findings
    assert re.search(finding, only)
    assert not result.failed


@pytest.mark.parametrize(
    ("reply", "reason", "num_asked"),
    [
        ((200, "I see a car."), "the answer is no JSON: 'I see a car.'", 3),
        ((200, [CAR]), "the answer is no JSON object", 3),
        ((200, {"things": []}), "the answer has no list under 'objects'", 3),
        ((500, ""), "it answered HTTP 500", 3),
        ((429, ""), "it answered HTTP 429", 3),
        ((401, ""), "it answered HTTP 401", 1),
    ],
)
def test_an_endpoint_without_an_answer_is_a_finding(
    teacher: EndpointTeacher, reply: tuple[int, Any], reason: str, num_asked: int
) -> None:
    result = one_view(teacher, reply)
    assert result.failed and result.detections == ()
    assert result.findings[0].startswith(f"no annotation, because {reason}")
    assert len(Stub.asked) == num_asked


def test_another_try_makes_up_for_a_passing_failure(teacher: EndpointTeacher) -> None:
    result = one_view(teacher, (503, ""), (200, "{"), (200, {"objects": [CAR]}))
    assert len(result.detections) == 1 and not result.failed


def test_an_endpoint_that_is_not_there_or_slow_is_a_finding() -> None:
    away = EndpointTeacher(Endpoint("http://127.0.0.1:9/v1", "m", None, 0.5, 1))
    result = one_view(away, (200, ""))
    assert result.failed and "it cannot be reached or is too slow" in result.findings[0]


def test_the_key_is_in_no_description(teacher: EndpointTeacher) -> None:
    assert "secret" not in teacher.description.model_dump_json() + repr(teacher)


def test_an_address_of_no_web_is_refused() -> None:
    with pytest.raises(PanoVLMError, match=r"'ftp://a', expected .* change --endpoint"):
        Endpoint("ftp://a", "m")
