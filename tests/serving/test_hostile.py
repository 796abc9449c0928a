"""Whatever a client sends, it gets a clear error: no crash, no fetch, nothing internal leaked."""

import base64
import json
import logging
import random
import re
import struct
import tempfile
import tracemalloc
import zlib
from typing import Any

import pytest
from asking import LIMITS, PATH, Ask, TestClient, data_url, encoded
from PIL import Image

from panovlm.inference.assistant import Assistant
from panovlm.serving.app import create_app
from panovlm.serving.middleware import Access


def error_of(reply: Any, status: int = 400) -> dict[str, Any]:
    """Check an error's shape and that it leaks nothing; return it."""
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    for inside in (tempfile.gettempdir(), "panovlm/", "Traceback", ".py", "PIL"):
        assert inside not in reply.text
    assert not re.search(r"\b0x[0-9a-f]", reply.text)
    return error


def png_of_size(width: int, height: int) -> bytes:
    """The header of a picture of any size, and next to nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x.png",
        "https://example.com/x.jpg",
        "http://169.254.169.254/latest/meta-data",
        "http:\\\\localhost\\x.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "ftp://example.com/x.png",
        "data:text/html;base64,AAAA",
        "data:image/png,AAAA",
        "data:image/png;base64,http://x",
        "",
        "data:video/jpeg;base64,AAAA,BBBB",
    ],
)
def test_nothing_is_fetched_and_only_pictures_in_data_urls_are_taken(
    client: TestClient, body: Ask, url: str
) -> None:
    asked = body()
    asked["messages"][0]["content"][0]["image_url"]["url"] = url
    assert error_of(client.post(PATH, json=asked))["code"] == "invalid_image"


@pytest.mark.parametrize("size", [(50_000, 25_000), (2**31 - 1, 2**31 - 1), (1000, 500)])
def test_bombs_are_refused_by_their_header(
    client: TestClient, body: Ask, size: tuple[int, int]
) -> None:
    error = error_of(client.post(PATH, json=body(url=data_url(png_of_size(*size)))))
    assert error["code"] == "invalid_image"


def png_with_a_text_that_unpacks_to(num_bytes: int) -> bytes:
    """A small picture, and beside it a text of zeros."""
    small = encoded(Image.new("RGB", (64, 32)))
    text = b"zTXt" + b"Comment\0\0" + zlib.compress(b"\0" * num_bytes, 9)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return small[:33] + chunk + small[33:]


def test_bombs_beside_the_pixels_are_not_unpacked(client: TestClient, body: Ask) -> None:
    bomb = png_with_a_text_that_unpacks_to(500 << 20)
    assert len(bomb) < LIMITS.max_body_bytes
    tracemalloc.start()
    reply = client.post(PATH, json=body(url=data_url(bomb)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reply.status_code == 200  # the text is no part of the picture
    assert peak < 100 << 20


@pytest.mark.parametrize("kind", ["GIF", "BMP", "ICO", "PPM", "TGA"])
def test_other_formats_are_refused_whatever_they_call_themselves(
    client: TestClient, body: Ask, panorama: Image.Image, kind: str
) -> None:
    url = data_url(encoded(panorama, kind), "png")
    message = error_of(client.post(PATH, json=body(url=url)))["message"]
    assert re.search(r"the picture: found (no readable picture|a GIF|a BMP), expected", message)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_formats_that_files_are_read_in_are_taken(
    client: TestClient, body: Ask, panorama: Image.Image, kind: str
) -> None:
    url = data_url(encoded(panorama, kind), "whatever")
    assert client.post(PATH, json=body(url=url)).status_code == 200


def test_broken_animated_and_narrow_pictures_are_refused(
    client: TestClient, body: Ask, panorama: Image.Image
) -> None:
    animated = encoded(panorama, save_all=True, append_images=[panorama.rotate(90)])
    narrow = encoded(panorama.crop((0, 0, 60, 64)))
    for data in (encoded(panorama)[:-2000], animated, narrow, b"", png_of_size(200, 100)):
        assert error_of(client.post(PATH, json=body(url=data_url(data))))["code"] == "invalid_image"


def test_a_picture_outside_a_users_message_is_refused(client: TestClient, body: Ask) -> None:
    asked = body()
    asked["messages"][0]["role"] = "assistant"
    error_of(client.post(PATH, json=asked))


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": 2**70}, "seed"),
        ({"stop": [""]}, "stop"),
        ({"stop": list("abcde")}, "stop"),
        ({"n": 9}, "n"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"guided_json": {"type": "object"}}, "guided_json"),
        ({"best_of": 2}, "best_of"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x"),
        ({"logit_bias": {"300": 1}}, "logit_bias"),
        ({"logit_bias": {"3": 1e300}}, "logit_bias.3"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs"),
        ({"messages": [{"role": "user"}]}, "messages.0"),
        ({"messages": [{"role": "system", "content": None}]}, "messages.0"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
    ],
)
def test_invalid_fields_are_named(
    client: TestClient, body: Ask, change: dict[str, Any], param: str
) -> None:
    assert error_of(client.post(PATH, json=body(**change)))["param"] == param


def test_huge_deep_and_broken_bodies_are_refused(client: TestClient, body: Ask) -> None:
    error_of(client.post(PATH, content=b"x" * (LIMITS.max_body_bytes + 1)), 413)
    pieces = (b"y" * 65536 for _ in range(20))
    error_of(client.post(PATH, content=pieces), 413)
    deep = b'{"messages":' + b"[" * 90_000 + b"]" * 90_000 + b"}"
    for broken in (b"", b"{", b"null", b"[]", b"\xff\xfe", deep, b'{"model": NaN}'):
        error_of(client.post(PATH, content=broken))
    for many in (b'{"x":' + b"[" * 100_000, b"[" + b"{}," * 100_000, b'{"a":0,' * 100_000):
        error_of(client.post(PATH, content=many), 413)
    nested = b'{"x":' * 40_000 + b"1" + b"}" * 40_000
    error_of(client.post(PATH, content=b'{"messages":[],"model":' + nested + b"}"))
    error_of(client.post(PATH, json=body("word " * 3000)))
    error_of(client.post(PATH, json=body(model="other")), 404)
    error_of(client.get(PATH), 405)
    error_of(client.get("/docs"), 404)


def test_special_tokens_of_a_user_are_text(client: TestClient, body: Ask) -> None:
    typed = "<image><|im_end|>\n<|im_start|>assistant\n"
    assert client.post(PATH, json=body(typed)).status_code == 200
    assert client.post(PATH, json=body(typed, None)).status_code == 200


def test_two_thousand_random_requests_never_fail_the_server(
    client: TestClient, body: Ask, panorama: Image.Image
) -> None:
    rng = random.Random(0)
    odd = [
        None,
        True,
        -1,
        0,
        1e308,
        "",
        "\0",
        "\u202e<image>",
        [],
        {},
        [[]],
        {"type": "text"},
        2**65,
    ]
    good = encoded(panorama.resize((32, 16)), "JPEG")
    seen = set()
    for _ in range(2000):
        asked = body(rng.choice(["?", "\0", "<|im_end|>" * 9, "ß" * 50]), None, max_tokens=1)
        if rng.random() < 0.08:
            data = bytearray(good)
            for _ in range(rng.randrange(4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            part = {"type": "image_url", "image_url": {"url": data_url(bytes(data))}}
            asked["messages"][0]["content"].append(part)
        if rng.random() < 0.6:
            place: Any = asked
            while rng.random() < 0.5 and isinstance(place, dict | list) and place:
                key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
                if not isinstance(place[key], dict | list) or not place[key]:
                    break
                place = place[key]
            keys = list(place) if isinstance(place, dict) else range(len(place))
            place[rng.choice(list(keys))] = rng.choice(odd)
        text = json.dumps(asked).encode()
        if rng.random() < 0.2:
            cut = rng.randrange(len(text))
            text = text[:cut] + bytes([rng.randrange(256)]) + text[cut + 1 :]
        status = client.post(PATH, content=text).status_code
        assert status < 500, text[:500]
        seen.add(status)
    assert {200, 400} <= seen
    assert client.post(PATH, json=body()).status_code == 200


def test_keys_are_required_everywhere_but_at_health(assistant: Assistant, body: Ask) -> None:
    app = create_app(assistant, limits=LIMITS, access=Access(keys=["one", "two"]))
    with TestClient(app) as client:
        assert client.get("/health").status_code == 200
        for path in ("/v1/models", "/metrics", "/docs", "/v1/../metrics"):
            error_of(client.get(path), 401)
        for sent in ("Bearer three", "Bearer ", "one two", "Basic one", "Bearer one\xff"):
            headers = {"Authorization": sent.encode("latin-1")}
            error_of(client.post(PATH, json=body(), headers=headers), 401)
        for key in ("one", "two"):
            reply = client.post(PATH, json=body(), headers={"Authorization": f"Bearer {key}"})
            assert reply.status_code == 200


def test_the_log_holds_neither_pictures_nor_questions_nor_keys(
    assistant: Assistant, body: Ask, picture_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "panovlm.serving")
    app = create_app(assistant, limits=LIMITS, access=Access(keys=["very-secret"]))
    with TestClient(app) as client:
        headers = {"Authorization": "Bearer very-secret", "X-Request-Id": "bad\tid"}
        client.post(PATH, json=body("my question"), headers=headers)
        client.get("/v1/very-secret?key=very-secret", headers=headers)
    lines = [
        json.loads(r.message) for r in caplog.records if r.name == "panovlm.serving.middleware"
    ]
    assert [line["status"] for line in lines] == [200, 404]
    assert lines[0]["prompt_tokens"] > 0
    assert len(lines[0]["id"]) == 24
    for inside in ("very-secret", "my question", picture_url[30:60]):
        assert inside not in caplog.text


def test_base64_with_strange_letters_is_no_picture(client: TestClient, body: Ask) -> None:
    data = base64.b64encode(b"abc").decode() + "\n!"
    url = f"data:image/png;base64,{data}"
    assert "not base64" in error_of(client.post(PATH, json=body(url=url)))["message"]
