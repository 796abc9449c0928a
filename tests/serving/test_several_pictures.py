"""A conversation may show several pictures, in one message or later, within limits."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import LIMITS, PATH, TestClient, data_url, listening

from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant, Question
from panovlm.serving.app import create_app

Message = tuple[str, list[Any]]
"""A role, and texts or numbers of pictures."""
Talk = Callable[..., dict[str, Any]]
TWO: list[Message] = [("user", [0, 1, "What differs?"])]
LATER: list[Message] = [
    ("user", [0, "What is behind me?"]),
    ("assistant", ["A red box."]),
    ("user", [1, "And here?"]),
]


@pytest.fixture
def talk(scenes_file: Path) -> Talk:
    """Returns the body of a request with such messages."""
    urls = [data_url(file.read_bytes()) for file in sorted(scenes_file.parent.glob("*.png"))]

    def part(shown: Any) -> dict[str, Any]:
        if isinstance(shown, str):
            return {"type": "text", "text": shown}
        return {"type": "image_url", "image_url": {"url": urls[shown]}}

    def make(messages: list[Message], **more: Any) -> dict[str, Any]:
        written = [{"role": role, "content": [*map(part, parts)]} for role, parts in messages]
        return {"model": "panovlm", "messages": written, "max_tokens": 12, **more}

    return make


def expected(assistant: Assistant, messages: list[Message], scenes_file: Path) -> str:
    """Return the assistant's own answer."""
    shown = [each for _, parts in messages for each in parts if isinstance(each, int)]
    panoramas = [assistant.open(scenes_file.parent / f"{number}.png") for number in shown]
    conversation = [
        {
            "role": role,
            "content": [
                {"type": "text", "text": each} if isinstance(each, str) else {"type": "image"}
                for each in parts
            ],
        }
        for role, parts in messages
    ]
    question = Question(conversation, panoramas, SamplingParams(max_tokens=12))
    return assistant.answer([question])[0].text


def error_of(reply: Any) -> dict[str, Any]:
    assert reply.status_code == 400
    error: dict[str, Any] = reply.json()["error"]
    return error


@pytest.mark.parametrize("messages", [TWO, LATER])
def test_the_answer_is_the_assistants_whole_and_streamed(
    client: TestClient, talk: Talk, assistant: Assistant, scenes_file: Path, messages: list[Message]
) -> None:
    whole = client.post(PATH, json=talk(messages)).json()["choices"][0]["message"]["content"]
    assert whole == expected(assistant, messages, scenes_file)
    stream = client.post(PATH, json=talk(messages, stream=True)).text
    events = [json.loads(line[6:]) for line in stream.split("\n\n") if line[6:7] == "{"]
    pieces = [event["choices"][0]["delta"].get("content", "") for event in events]
    assert "".join(pieces) == whole


def test_a_further_question_reads_no_picture_and_a_further_picture_that_alone(
    client: TestClient, talk: Talk, assistant: Assistant
) -> None:
    runs: list[int] = []
    assistant.model.model.vision_encoder.register_forward_hook(lambda *_: runs.append(1))
    counts = []
    for messages in (TWO, [("user", [0, 1, "Which is brighter?"])], [("user", [0, 1, 2, "And?"])]):
        assert client.post(PATH, json=talk(messages)).status_code == 200
        counts.append((len(runs), len(assistant.prefixes)))
    assert counts == [(2, 2), (2, 2), (3, 3)]


def test_questions_about_none_one_and_several_at_once_get_what_each_would_alone(
    client: TestClient, talk: Talk
) -> None:
    text: list[Message] = [("user", ["No picture"])]
    all_messages = [TWO, LATER, text, [("user", [2, "Left?"])], [("user", [1, 0, 2, "All?"])]]

    def complete(messages: list[Message]) -> str:
        answer: str = client.post(PATH, json=talk(messages)).json()["choices"][0]["message"][
            "content"
        ]
        return answer

    alone = [complete(messages) for messages in all_messages]
    with ThreadPoolExecutor(5) as threads:
        assert list(threads.map(complete, all_messages * 2)) == alone * 2
    assert len(set(alone)) > 2


def test_more_pictures_than_allowed_are_refused_before_any_is_opened(
    assistant: Assistant, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TestClient(create_app(assistant, limits=replace(LIMITS, max_pictures=2))) as client:
        assert client.post(PATH, json=talk(LATER)).status_code == 200
        monkeypatch.setattr(assistant, "open", lambda file: pytest.fail("opened"))
        error = error_of(client.post(PATH, json=talk([("user", [0]), *LATER])))
    assert error["code"] == "too_many_images"
    assert "found 3 pictures in the conversation, expected at most 2" in error["message"]
    assert "--max-pictures" in error["message"]


@pytest.mark.parametrize("option", [{"grounded": True}, {"yaw_shift_deg": 90.0}])
def test_directions_are_of_one_picture_alone(
    client: TestClient, talk: Talk, option: dict[str, Any]
) -> None:
    (name,) = option
    error = error_of(client.post(PATH, json=talk(TWO, **option)))
    assert (error["code"], error["param"]) == ("too_many_images", name)
    assert f"found {name} and 2 pictures, expected one" in error["message"]
    assert client.post(PATH, json=talk([("user", [0, "?"])], **option)).status_code == 200


def test_pictures_longer_together_than_the_model_reads_are_refused_with_what_to_change(
    assistant: Assistant, talk: Talk
) -> None:
    with TestClient(create_app(assistant, limits=LIMITS)) as client:
        usage = client.post(PATH, json=talk(TWO)).json()["usage"]
        assistant.max_length = length = usage["prompt_tokens"] + 12
        assert client.post(PATH, json=talk(TWO)).status_code == 200
        error = error_of(client.post(PATH, json=talk([("user", [0, 1, 2, "What differs?"])])))
    assert f"expected at most {length} together; shorten the text, leave out" in error["message"]


def test_each_picture_is_held_to_the_limits_of_one(
    client: TestClient, talk: Talk, assistant: Assistant
) -> None:
    asked = talk(TWO)
    asked["messages"][0]["content"][1]["image_url"]["url"] = data_url(b"no picture")
    assert error_of(client.post(PATH, json=asked))["code"] == "invalid_image"
    asked["messages"][0]["content"][1]["image_url"]["url"] = data_url(b"0" * (1 << 20))
    assert client.post(PATH, json=asked).status_code == 413
    assert len(assistant.prefixes) == 0


def test_the_openai_client_shows_two_pictures(
    assistant: Assistant, talk: Talk, scenes_file: Path
) -> None:
    openai = pytest.importorskip("openai")
    with listening(create_app(assistant, limits=LIMITS)) as (address, _):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        pieces = client.chat.completions.create(**talk(TWO, stream=True))
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == expected(assistant, TWO, scenes_file)
