"""Malformed data files, made here: each has clear error lines, never a traceback."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from panovlm.data.doctor.run import examine
from panovlm.data.findings import Finding
from panovlm.data.formats.run import WRITERS, convert_data
from panovlm.errors import PanoVLMError

USER = {"role": "user", "content": "Where?"}
ASSISTANT = {"role": "assistant", "content": "left"}
WHOLE = {"image": "a.jpg", "messages": [USER, ASSISTANT]}
HUMAN = {"from": "human", "value": "Where?"}
GPT = {"from": "gpt", "value": "left"}
LLAVA = {"id": "0", "image": "a.jpg", "conversations": [HUMAN, GPT]}
TABLE = "url,query,annotation\n"
WRONG_VALUES = (None, 3, -1.5, True, "", "text", [], [1], {}, {"a": 1}, [[]], "\0", "x" * 100_000)
DEEP = "[" * 100_000


def line(**changes: object) -> bytes:
    return json.dumps(WHOLE | changes).encode() + b"\n"


def texts() -> Iterator[tuple[str, bytes]]:
    """Files that are broken as texts: name and content."""
    whole = json.dumps(WHOLE).encode()
    yield from ((f"cut-{n}.jsonl", whole[:n]) for n in range(1, len(whole), 9))
    yield from ((f"cut-{n}.json", b"[" + whole[:n]) for n in range(1, len(whole), 16))
    for ending in ("jsonl", "json", "csv", "tsv"):
        yield f"empty.{ending}", b""
        yield f"blank.{ending}", b"\n \r\n\n"
        yield f"nul.{ending}", b"\0" * 1000
        yield f"latin1.{ending}", '{"image": "é.jpg"}, é'.encode("latin-1")
        yield f"utf16.{ending}", whole.decode().encode("utf-16")
        yield f"random.{ending}", bytes(range(256)) * 10
        yield f"picture.{ending}", b"\xff\xd8\xff\xe0" + bytes(500)
        yield f"mark-only.{ending}", b"\xef\xbb\xbf"
        yield f"deep.{ending}", DEEP.encode()
        yield f"html.{ending}", b"<!doctype html><p>404</p>\n"
    yield "deep-object.jsonl", b'{"image": ' * 50_000
    yield "deep-but-whole.jsonl", line(kind=json.loads("[" * 500 + "]" * 500))
    yield "long-line.jsonl", line(yaw_deg="9" * 5_000_000)
    yield "long-number.jsonl", b'{"image": "a.jpg", "yaw_deg": ' + b"9" * 5000 + b"}"
    yield "huge-number.jsonl", b'{"image": "a.jpg", "yaw_deg": 1e999}'
    yield "not-a-number.jsonl", b'{"image": "a.jpg", "yaw_deg": NaN}'
    yield "infinite.jsonl", b'{"image": "a.jpg", "yaw_deg": -Infinity}'
    yield "twice.jsonl", b'{"image": "a.jpg", "image": "b.jpg"}'
    yield "twice-inside.jsonl", line().replace(b'"role": "user"', b'"role": "user", "role": "user"')
    yield "half-pair.jsonl", line().replace(b"left", b"\\ud800")
    yield "half-pair-key.jsonl", b'{"\\udfff": 1}'
    yield "two-a-line.jsonl", whole + whole
    yield "old-mac.jsonl", whole + b"\r" + whole
    yield "comments.jsonl", b"// records\n" + whole
    yield "single-quotes.jsonl", str(WHOLE).encode()
    yield "trailing-comma.jsonl", whole + b","
    yield "indented.jsonl", json.dumps(WHOLE, indent=2).encode()
    yield "object.json", json.dumps({"data": [LLAVA]}, indent=2).encode()
    yield "list-of-lists.json", json.dumps([[LLAVA]]).encode()
    yield "nothing-in-list.json", b"[]"
    yield "mixed.json", json.dumps([LLAVA, 3, None, "a", []]).encode()
    yield "unclosed.json", json.dumps([LLAVA]).encode()[:-1]


def values() -> Iterator[tuple[str, bytes]]:
    """Well-formed JSON with a wrong value in one field."""
    for number, value in enumerate(WRONG_VALUES):
        for field in ("image", "messages", "yaw_deg", "rolled_responses", "crosses_seam"):
            if (field, value) not in GOOD:
                yield f"{field}-{number}.jsonl", line(**{field: value})
        yield f"message-{number}.jsonl", line(messages=[value])
        if not isinstance(value, str) or not value.strip():
            yield f"content-{number}.jsonl", line(messages=[USER, ASSISTANT | {"content": value}])
        yield f"role-{number}.jsonl", line(messages=[USER | {"role": value}, ASSISTANT])
        yield f"item-{number}.json", json.dumps([LLAVA, value]).encode()
        if value not in (None, []):  # else a text alone
            yield f"llava-image-{number}.json", json.dumps([LLAVA | {"image": value}]).encode()
        yield (
            f"conversations-{number}.json",
            json.dumps([LLAVA | {"conversations": value}]).encode(),
        )
        yield (
            f"from-{number}.json",
            json.dumps([LLAVA | {"conversations": [{"from": value}]}]).encode(),
        )
    two = {**WHOLE, "images": ["a.jpg", "b.jpg"]}
    yield "two-pictures.json", json.dumps([two]).encode()
    yield "unknown-field.jsonl", line(license="MIT")
    yield "two-marks.jsonl", line(messages=[USER | {"content": "<image><image>"}, ASSISTANT])
    yield "no-answer.jsonl", line(messages=[USER])
    yield "url.jsonl", line(image="https://example.org/a.jpg")
    yield "data-url.jsonl", line(image="data:image/png;base64,AAAA")


GOOD = [("yaw_deg", None), ("yaw_deg", 3), ("yaw_deg", -1.5), ("yaw_deg", True)]
GOOD += [("rolled_responses", None), ("crosses_seam", None), ("crosses_seam", True)]


def tables() -> Iterator[tuple[str, bytes]]:
    """Tables that are none."""
    rows = {
        "no-columns": "a,b\n1,2\n",
        "no-image": "query,annotation\nq,a\n",
        "no-answer": "url,query\na.jpg,q\n",
        "twice": "url,url,query,annotation\na,b,c,d\n",
        "semicolons": "url;query;annotation\na.jpg;q;a\n",
        "too-many": TABLE + "a.jpg,q,a,b\n",
        "too-few": TABLE + "a.jpg,q\n",
        "open-quote": TABLE + 'a.jpg,"q,a\nb.jpg,q,a\n',
        "stray-quote": TABLE + 'a.jpg,"q" x,a\n',
        "head-only": TABLE,
        "bad-yaw": "url,query,annotation,yaw_deg\na.jpg,q,a,north\n",
        "huge-cell": TABLE + f"a.jpg,{'q' * 11_000_000},a\n",
        "no-text": TABLE + "a.jpg,,\n",
        "nul": TABLE + "a\0.jpg,q,a\n",
    }
    yield from ((f"table-{name}.csv", text.encode()) for name, text in rows.items())


CASES = [*texts(), *values(), *tables()]


@pytest.mark.parametrize(("name", "content"), CASES, ids=[name for name, _ in CASES])
def test_every_malformed_file_has_clear_error_lines(
    tmp_path: Path, name: str, content: bytes
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    examination = examine([file], workers=1)
    errors = [finding for finding in examination.findings if finding.is_error]
    assert errors
    for error in errors:
        check_line(error, file)
    out = tmp_path / "out"
    for made in set(WRITERS) - {"datasets"}:
        try:
            convert_data(file, out, out_format=made, overwrite=True)
        except PanoVLMError as error:
            assert str(file) in str(error) or "record 1" in str(error)
    assert not [left for left in tmp_path.iterdir() if left.suffix in (".part", ".old")]


def check_line(error: Finding, file: Path) -> None:
    """One printable line of bearable length that names the file or the picture in its folder."""
    text = str(error)
    text.encode()
    assert str(file.parent) in text
    assert len(text) < 1000
    assert "\n" not in text


def test_there_are_more_than_a_hundred_cases() -> None:
    assert len({name for name, _ in CASES}) == len(CASES) > 150


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xef\xbb\xbf" + line(), None),
        (line().replace(b"\n", b"\r\n"), None),
        ('{"image": "é.jpg"}'.encode("latin-1"), "found the byte 0xe9 in line 1, expected UTF-8"),
        (line().decode().encode("utf-16"), "found UTF-16, expected UTF-8"),
        (b'{"image": "a", "image": "b"}', "line 1: not JSON (the key 'image' twice in one object)"),
        (line() + line().replace(b"left", b"\\ud800"), "line 2: not JSON (half a surrogate pair"),
        (DEEP.encode(), "line 1: not JSON (brackets nested too deep)"),
        (b'{"yaw_deg": NaN}', "line 1: not JSON (NaN, which is no JSON number)"),
        (b'{"yaw_deg": ' + b"9" * 5000 + b"}", "line 1: not JSON (a number that is too long)"),
        (line(license="MIT"), "did you mean 'licence'?"),
        (line(image="https://a.org/b.jpg"), "which is never fetched; download the picture"),
    ],
)
def test_the_words_name_the_cause(tmp_path: Path, content: bytes, words: str | None) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(content)
    text = "\n".join(map(str, examine([file], workers=1).findings))
    if words is None:
        assert text.count("\n") == 0
        assert "found no such file, expected a panorama picture" in text
    else:
        assert words in text
