"""Requests as clients write them: every spelling of a picture, every option, every interface."""

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
import torch
from asking import LIMITS, PATH, Ask, TestClient, listening

from panovlm.inference.assistant import Assistant
from panovlm.serving.app import create_app

openai = pytest.importorskip("openai")


def choices(client: TestClient, asked: dict[str, Any]) -> Any:
    reply = client.post(PATH, json=asked)
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"]


def spellings(url: str) -> dict[str, str]:
    """The same picture in other data URLs."""
    data = url.partition(",")[2]
    assert data.endswith("=")
    return {
        "no padding": f"data:image/png;base64,{data.rstrip('=')}",
        "lines": "data:image/png;base64,"
        + "\r\n".join(data[i : i + 76] for i in range(0, 900, 76))
        + data[912:],
        "escaped": f"data:image/png;base64,{quote(data, safe='')}",
        "parameters": f"DATA:image/png;name=a.png;charset=utf-8;BASE64,{data}",
        "no type": f"data:;base64,{data}",
        "octets": f"data:application/octet-stream;base64,{data}",
        "not base64": "data:image/png," + quote(base64.b64decode(data)),
    }


@pytest.mark.parametrize("spelling", spellings("data:,AA=="))
def test_data_urls_are_read_as_browsers_read_them(
    client: TestClient, body: Ask, picture_url: str, spelling: str
) -> None:
    if not picture_url.endswith("="):  # the decoder ignores what follows a PNG
        data = base64.b64decode(picture_url.partition(",")[2]) + b"\0"
        picture_url = "data:image/png;base64," + base64.b64encode(data).decode()
    url = spellings(picture_url)[spelling]
    assert choices(client, body(url=url)) == choices(client, body())


def test_pictures_are_named_in_any_of_the_usual_ways(
    client: TestClient, body: Ask, picture_url: str
) -> None:
    plain = choices(client, body())
    for part in (
        {"type": "image_url", "image_url": picture_url},
        {"type": "image_url", "image_url": {"url": picture_url, "detail": "high"}},
        {"type": "input_image", "image_url": picture_url, "detail": "auto"},
    ):
        asked = body()
        asked["messages"][0]["content"][0] = part
        asked["messages"][0]["content"][1]["type"] = "input_text"
        assert choices(client, asked) == plain


def test_tool_messages_and_unknown_roles_have_a_clear_answer(client: TestClient, body: Ask) -> None:
    for role, words in (("tool", "the model calls no tools"), ("narrator", "expected system")):
        asked = body()
        asked["messages"].append({"role": role, "content": "x", "tool_call_id": "1"})
        error = client.post(PATH, json=asked).json()["error"]
        assert words in error["message"]
        assert error["param"] == "messages.1.role"


def test_an_assistants_calls_of_tools_have_a_clear_answer(client: TestClient, body: Ask) -> None:
    asked = body()
    said = {"role": "assistant", "content": None, "tool_calls": None}
    asked["messages"] += [said, *body(url=None)["messages"]]
    assert client.post(PATH, json=asked).status_code == 200
    said["tool_calls"] = [{"id": "1", "type": "function", "function": {"name": "look"}}]
    error = client.post(PATH, json=asked).json()["error"]
    assert error["param"] == "messages.1.tool_calls"
    assert "the model calls none" in error["message"]


COMPLETION, RESPONSE = "/v1/completions", "/v1/responses"


@pytest.fixture
def minimal(body: Ask) -> dict[str, dict[str, Any]]:
    """The least that is asked at each path."""
    return {
        PATH: body(),
        COMPLETION: {"model": "panovlm", "prompt": "Where?"},
        RESPONSE: {"model": "panovlm", "input": "Where?"},
    }


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (PATH, "truncate_prompt_tokens", 3),
        (PATH, "skip_special_tokens", False),
        (PATH, "add_generation_prompt", False),
        (PATH, "include_stop_str_in_output", True),
        (PATH, "web_search_options", {"search_context_size": "low"}),
        (PATH, "mirostat", 2),
        (PATH, "tools", [{"type": "function"}]),
        (COMPLETION, "grounded", True),
        (COMPLETION, "max_completion_tokens", 3),
        (COMPLETION, "echo", True),
        (RESPONSE, "top_logprobs", 3),
        (RESPONSE, "prompt", {"id": "pmpt_1"}),
        (RESPONSE, "previous_response_id", "resp_1"),
    ],
)
def test_what_would_change_an_answer_is_refused_by_name(
    client: TestClient, minimal: dict[str, Any], path: str, name: str, value: Any
) -> None:
    reply = client.post(path, json=minimal[path] | {name: value})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", name)


@pytest.mark.parametrize(
    ("path", "more", "param"),
    [
        (RESPONSE, {"input": [{"type": "function_call_output", "output": "x"}]}, "input.0.type"),
        (RESPONSE, {"text": {"verbosity": "low"}}, "text.verbosity"),
        (COMPLETION, {"prompt": [1, 2]}, "prompt.0"),
        (COMPLETION, {"images": [{"detail": "low"}]}, "images.0.url"),
        (PATH, {"stop": [1]}, "stop.0"),
        (PATH, {"repetition_penalty": 1e-300}, "repetition_penalty"),
    ],
)
def test_fields_are_named_as_clients_wrote_them(
    client: TestClient, minimal: dict[str, Any], path: str, more: dict[str, Any], param: str
) -> None:
    error = client.post(path, json=minimal[path] | more).json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")


def test_a_message_of_a_response_that_is_refused_is_of_its_input(client: TestClient) -> None:
    given = [{"role": "narrator", "content": "x"}]
    asked = {"model": "panovlm", "instructions": "Look.", "input": given}
    error = client.post("/v1/responses", json=asked).json()["error"]
    assert error["param"] == "input"
    assert error["message"].startswith("input: found another role")


def test_fields_of_parts_are_named_without_pydantics_tags(client: TestClient, body: Ask) -> None:
    asked = body()
    asked["messages"][0]["content"][0]["image_url"] = {"url": 3}
    error = client.post(PATH, json=asked).json()["error"]
    assert error["param"] == "messages.0.content.0.image_url.url"
    asked["messages"][0]["content"][0] = {"type": "image_url", "image_url": "data:image/png,x"}
    error = client.post(PATH, json=asked).json()["error"]
    assert error["param"] == "messages.0.content.0.image_url"


def test_max_tokens_beyond_what_fits_is_clamped(
    client: TestClient, body: Ask, assistant: Assistant
) -> None:
    assistant._end_ids = []
    reply = client.post(PATH, json=body(max_tokens=10**6)).json()
    assert reply["usage"]["completion_tokens"] == LIMITS.max_tokens
    assert reply["choices"][0]["finish_reason"] == "length"
    assistant.max_length = reply["usage"]["prompt_tokens"] + 5
    reply = client.post(PATH, json=body(max_tokens=40)).json()
    assert reply["usage"]["completion_tokens"] == 5
    del reply
    whole = body()
    del whole["max_tokens"]
    assert client.post(PATH, json=whole).json()["usage"]["completion_tokens"] == 5


def test_several_answers_are_sampled_differently_whole_and_streamed(
    client: TestClient, body: Ask
) -> None:
    asked = body(n=3, temperature=1.0, seed=0)
    found = choices(client, asked)
    texts = [choice["message"]["content"] for choice in found]
    assert [choice["index"] for choice in found] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts[1] == choices(client, body(temperature=1.0, seed=1))[0]["message"]["content"]
    streamed = ["", "", ""]
    for line in client.post(PATH, json=asked | {"stream": True}).text.split("\n\n")[:-2]:
        for choice in json.loads(line.removeprefix("data: "))["choices"]:
            streamed[choice["index"]] += choice["delta"].get("content", "")
    assert streamed == texts


def test_tokens_are_biased_penalised_and_ended_as_asked(
    client: TestClient, body: Ask, assistant: Assistant
) -> None:
    def text(**more: Any) -> str:
        (choice,) = choices(client, body(**more))
        return str(choice["message"]["content"])

    plain, letter = text(), assistant.processor.tokenizer.convert_tokens_to_ids("q")
    assert text(logit_bias={str(letter): 100}) == "q" * 12
    assert text(logit_bias={letter: 100}, stop_token_ids=[letter]) == ""
    repeated = text(logit_bias={letter: 20})
    assert text(logit_bias={letter: 20}, frequency_penalty=2).count("q") < repeated.count("q")
    assert text(logit_bias={letter: 20}, presence_penalty=2) != repeated or plain != repeated
    end = assistant._end_ids[0]
    ended = client.post(PATH, json=body(logit_bias={end: 100})).json()
    assert ended["usage"]["completion_tokens"] == 1
    late = client.post(PATH, json=body(logit_bias={end: 100}, min_tokens=4)).json()
    assert late["usage"]["completion_tokens"] == 5
    never = client.post(PATH, json=body(logit_bias={end: 100}, ignore_eos=True)).json()
    assert never["usage"]["completion_tokens"] == 12
    assert never["choices"][0]["finish_reason"] == "length"


def test_log_probabilities_are_the_models_own(
    client: TestClient, body: Ask, assistant: Assistant
) -> None:
    seen: list[torch.Tensor] = []
    assistant.model.lm_head.register_forward_hook(lambda *given: seen.append(given[2][0, -1]))
    (choice,) = choices(client, body(logprobs=True, top_logprobs=2, max_tokens=3))
    found = choice["logprobs"]["content"]
    assert len(found) == len(seen) == 3
    for each, scores in zip(found, seen, strict=True):
        best = scores.float().log_softmax(-1).topk(2)
        assert each["logprob"] == pytest.approx(float(best.values[0]), abs=1e-4)
        likely = [top["logprob"] for top in each["top_logprobs"]]
        assert likely == pytest.approx(best.values.tolist(), abs=1e-4)
        assert each["top_logprobs"][0]["token"] == each["token"]
    assert choices(client, body())[0]["logprobs"] is None


def test_the_openai_client_gets_completions_and_responses(
    assistant: Assistant, picture_url: str
) -> None:
    question = "What is behind me?"
    parts = [
        {"type": "input_image", "image_url": picture_url, "detail": "auto"},
        {"type": "input_text", "text": question},
    ]
    chat_parts = [
        {"type": "image_url", "image_url": {"url": picture_url}},
        {"type": "text", "text": question},
    ]
    app = create_app(assistant, limits=LIMITS, model_name="mine")
    with (
        listening(app) as (address, _),
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
    ):
        assert [model.id for model in client.models.list()] == ["mine"]
        messages = [{"role": "user", "content": chat_parts}]
        chat = client.chat.completions.create(model="mine", messages=messages, max_tokens=12)
        plain = chat.choices[0].message.content
        given = [{"role": "user", "content": parts}]
        response = client.responses.create(model="mine", input=given, max_output_tokens=12)
        assert response.output_text == plain
        assert response.usage.output_tokens == chat.usage.completion_tokens
        assert response.status in ("completed", "incomplete")
        with client.responses.stream(model="mine", input=given, max_output_tokens=12) as stream:
            events = list(stream)
        assert events[-1].response.output_text == plain
        deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
        assert "".join(deltas) == plain
        assert [event.sequence_number for event in events] == list(range(len(events)))
        more = {"images": [picture_url]}
        completion = client.completions.create(
            model="mine", prompt=question, max_tokens=12, logprobs=1, extra_body=more
        )
        assert completion.choices[0].text == plain
        assert completion.choices[0].logprobs.token_logprobs
        streamed = client.completions.create(
            model="mine", prompt=question, max_tokens=12, stream=True, extra_body=more
        )
        assert "".join(piece.choices[0].text for piece in streamed) == plain
        instructed = client.responses.create(model="mine", input="Hi", instructions="Be short.")
        assert instructed.output[0].content[0].type == "output_text"
        refused: list[tuple[dict[str, Any], str]] = [
            ({"previous_response_id": "resp_1"}, "previous_response_id"),
            ({"tools": [{"type": "web_search"}]}, "tools"),
            ({"input": [{"role": "tool", "content": "x"}]}, "input"),
            ({"temperature": 9}, "temperature"),
            ({"extra_body": {"n": 2}}, "n"),
        ]
        for change, param in refused:
            with pytest.raises(openai.BadRequestError) as error:
                client.responses.create(**{"model": "mine", "input": "Hi", **change})
            assert error.value.param == param
        with pytest.raises(openai.BadRequestError, match="expected one"):
            client.completions.create(model="mine", prompt=["a", "b"])
        with pytest.raises(openai.NotFoundError, match="expected mine"):
            client.completions.create(model="panovlm", prompt="a")


def test_a_response_has_the_form_asked_for(client: TestClient) -> None:
    pytest.importorskip("llguidance")
    schema = {"type": "object", "properties": {"seen": {"type": "boolean"}}}
    schema |= {"required": ["seen"], "additionalProperties": False}
    form = {"type": "json_schema", "name": "answer", "schema": schema}
    asked = {"model": "panovlm", "input": "Is it there?", "text": {"format": form}}
    reply = client.post("/v1/responses", json=asked).json()
    assert set(json.loads(reply["output"][0]["content"][0]["text"])) == {"seen"}


def test_a_completion_has_the_form_asked_for(client: TestClient) -> None:
    pytest.importorskip("llguidance")
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "boolean"}}}
    asked = {"model": "panovlm", "prompt": "Is it there?", "response_format": form}
    reply = client.post("/v1/completions", json=asked).json()
    assert reply["choices"][0]["text"] in ("true", "false")
