"""Records: what is read, what is refused and with which words."""

import json

import pytest

from panovlm.data.record_files import MAX_ERRORS_SHOWN, read_records
from panovlm.data.records import Message, Needs, Record, marked
from panovlm.errors import PanoVLMError

USER = {"role": "user", "content": "Where is it?"}
ASSISTANT = {"role": "assistant", "content": "left"}
WHOLE = {"image": "pictures/a.jpg", "messages": [USER, ASSISTANT]}


@pytest.fixture
def write(tmp_path):
    def write_lines(*lines):
        file = tmp_path / "records.jsonl"
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        file.write_text("\n".join(texts) + "\n", encoding="utf-8")
        return file

    return write_lines


def test_pictures_are_relative_to_the_file(write, tmp_path):
    (record,) = read_records(write(WHOLE), Needs(text=True, image=True))
    assert record.image == tmp_path / "pictures/a.jpg"
    absolute = read_records(write({**WHOLE, "image": "/data/a.jpg"}), Needs(text=True, image=True))[
        0
    ]
    assert str(absolute.image) == "/data/a.jpg"


def test_every_field_is_read(write):
    extra = {"kind": "what", "yaw_deg": -92.5, "crosses_seam": False}
    extra["rolled_responses"] = ["left", "back-left"]
    (record,) = read_records(write(WHOLE | extra), Needs(text=True, image=True))
    assert record.response == "left"
    assert (record.kind, record.yaw_deg, record.crosses_seam) == ("what", -92.5, False)
    assert record.rolled_responses == ("left", "back-left")


def test_empty_lines_are_skipped_and_counted(write):
    file = write("", WHOLE, "  ", "{")
    with pytest.raises(PanoVLMError, match="line 4: not JSON"):
        read_records(file, Needs(text=True, image=True))


def test_a_line_ends_at_a_newline_and_nowhere_else(write):
    """JSON texts may hold Unicode's line separators as they are."""
    odd = {**USER, "content": "one\u2028two\u0085three\x0cfour"}
    line = json.dumps({**WHOLE, "messages": [odd, ASSISTANT]}, ensure_ascii=False)
    (record,) = read_records(write(line), Needs(text=True, image=True))
    assert record.messages[0].content == odd["content"]


def test_windows_line_ends_are_read(tmp_path):
    file = tmp_path / "records.jsonl"
    file.write_bytes(b"\r\n".join([json.dumps(WHOLE).encode()] * 2))
    assert len(read_records(file, Needs(text=True, image=True))) == 2


def test_pictures_alone_are_enough_without_text(write):
    assert read_records(write({"image": "a.jpg"}), Needs(text=False, image=True))[0].messages == ()


TEXT_ERRORS = [
    ("{", "line 1: not JSON (Expecting property name", "write one object a line"),
    ("[1]", "line 1: field 'record': found [1]", "valid dictionary"),
    (
        {"messages": [USER, ASSISTANT]},
        "line 1: field 'image' is missing",
        "needs it here",
    ),
    ({**WHOLE, "imgae": "b"}, "line 1: unknown field 'imgae'", "remove or rename it"),
    ({**WHOLE, "image": 3}, "line 1: field 'image': found 3", "expected: "),
    ({**WHOLE, "yaw_deg": 400}, "line 1: field 'yaw_deg': found 400", "less than or equal to 360"),
    ({**WHOLE, "rolled_responses": []}, "line 1: field 'rolled_responses': found []", "at least 1"),
    (
        {**WHOLE, "messages": [{"role": "human", "content": "x"}]},
        "line 1: field 'messages.0.role': found 'human'",
        "'system', 'user' or 'assistant'",
    ),
    (
        {**WHOLE, "messages": [{"role": "user"}]},
        "line 1: field 'messages.0.content' is missing",
        "",
    ),
    (
        {**WHOLE, "messages": [{**USER, "content": "<image> and <image>"}, ASSISTANT]},
        "line 1: found 2 <image> marks for 1 picture",
        "keep one mark a picture",
    ),
    ({**WHOLE, "messages": [ASSISTANT]}, "line 1: found no user message", "add one to messages"),
    ({"image": "a.jpg"}, "line 1: found no user message", "add one to messages"),
    ({**WHOLE, "messages": [USER]}, "line 1: found no supervised token", "add the response"),
    (
        {**WHOLE, "messages": [USER, {**ASSISTANT, "content": " "}]},
        "line 1: found no supervised token",
        "not empty",
    ),
]


@pytest.mark.parametrize(("line", "found", "fix"), TEXT_ERRORS)
def test_every_error_says_its_line_what_was_found_and_the_fix(write, line, found, fix):
    file = write(line)
    with pytest.raises(PanoVLMError) as caught:
        read_records(file, Needs(text=True, image=True))
    message = str(caught.value)
    assert message.startswith(f"{file} has 1 error(s):")
    assert found in message
    assert fix in message


def test_all_errors_are_told_at_once(write):
    with pytest.raises(PanoVLMError) as caught:
        read_records(write("{", WHOLE, {"image": 3, "x": 1}), Needs(text=True, image=True))
    message = str(caught.value)
    assert "has 3 error(s)" in message
    for error in ("line 1: not JSON", "line 3: field 'image'", "line 3: unknown field 'x'"):
        assert error in message


def test_a_flood_of_errors_is_cut(write):
    with pytest.raises(PanoVLMError) as caught:
        read_records(write(*["{"] * (MAX_ERRORS_SHOWN + 5)), Needs(text=True, image=True))
    assert str(caught.value).count("not JSON") == MAX_ERRORS_SHOWN
    assert str(caught.value).endswith("... and 5 more")


def test_a_file_must_be_there_and_hold_records(write, tmp_path):
    with pytest.raises(PanoVLMError, match=r"cannot read the records .*missing\.jsonl"):
        read_records(tmp_path / "missing.jsonl", Needs(text=True, image=True))
    with pytest.raises(PanoVLMError, match="found no records, expected one JSON object a line"):
        read_records(write(""), Needs(text=True, image=True))
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(PanoVLMError, match="cannot read the records"):
        read_records(binary, Needs(text=True, image=True))


def test_a_yaw_rotation_takes_the_rotated_response():
    record = Record.model_validate(
        {**WHOLE, "messages": [USER, ASSISTANT] * 2, "rolled_responses": ["left", "front", "right"]}
    )
    assert record.yaw_rotated(1).response == "front"
    assert record.yaw_rotated(4).response == "front"
    assert record.yaw_rotated(1).messages[:-1] == record.messages[:-1]
    assert record.yaw_rotated(0) is record


IMAGE_QUESTION = {"role": "user", "content": "<image>\nWhere is it?"}


@pytest.mark.parametrize(
    ("messages", "beginning"),
    [
        ([USER], ("user", "", "")),
        ([IMAGE_QUESTION], ("user", "", "\n")),
        ([{"role": "user", "content": "Look: <image> now"}], ("user", "Look: ", " ")),
        ([{"role": "system", "content": "s"}, USER], ("system", "s", "user", "", "")),
        ([USER, ASSISTANT, IMAGE_QUESTION], ("user", "Where is it?", "assistant", "left")),
    ],
)
def test_a_beginning_is_all_before_the_picture(messages, beginning):
    record = Record.model_validate({**WHOLE, "messages": messages})
    assert record.beginning[: len(beginning)] == beginning


def test_a_text_without_a_picture_has_no_beginning():
    assert Record.model_validate({"messages": [USER, ASSISTANT]}).beginning == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"messages": [USER, {"role": "assistant", "content": "<image>"}]},
            r"<image> in a message of the assistant.*move it to a message of the user",
        ),
        (
            {"messages": [USER, ASSISTANT] * 2, "rolled_responses": ["left", "right"]},
            r"rolled_responses beside 2 messages of the assistant, expected one.*make a record",
        ),
    ],
)
def test_what_training_would_learn_wrongly_is_refused(tmp_path, change, said):
    file = tmp_path / "records.jsonl"
    file.write_text(json.dumps(WHOLE | change) + "\n")
    with pytest.raises(PanoVLMError, match=f"line 1: found {said}"):
        read_records(file, Needs(text=True, image=True))


def test_where_no_response_is_certain_there_is_none():
    rotated = ["left", None, "front", "right"]
    content = {**WHOLE, "messages": [USER, ASSISTANT], "rolled_responses": rotated}
    record = Record.model_validate(content)
    assert [record.response_after(step, 4) for step in range(5)] == [*rotated, "left"]
    assert [record.response_after(step, 2) for step in range(2)] == ["left", "front"]
    assert record.has_rotations(4) and record.has_rotations(2) and not record.has_rotations(8)
    with pytest.raises(ValueError, match="found no response 1 steps on"):
        record.yaw_rotated(1)


def test_records_that_do_not_know_stay_as_they_are():
    record = Record.model_validate(WHOLE)
    assert record.yaw_rotated(3) is record


def test_the_mark_goes_to_the_front_of_the_first_user_message():
    system = Message(role="system", content="s")
    messages = (system, Message(**USER), Message(**ASSISTANT), Message(**USER))
    texts = [message.content for message in marked(messages)]
    assert texts == ["s", "<image>Where is it?", "left", "Where is it?"]
    assert marked(()) == ()


def test_a_mark_that_is_there_stays():
    messages = (Message(role="user", content="Look: <image>"), Message(**ASSISTANT))
    assert marked(messages) is messages


def test_the_prompt_is_all_but_the_response():
    prompt = Record.model_validate(WHOLE).prompt
    assert [(message.role, message.content) for message in prompt] == [
        ("user", "<image>Where is it?")
    ]


def test_a_text_may_stand_without_a_picture_where_pictures_are_not_needed(write):
    text = {"messages": [USER, ASSISTANT]}
    (record,) = read_records(write(text), Needs(text=True, image=False))
    assert record.image is None
    assert [message.content for message in record.marked_messages] == [
        USER["content"],
        ASSISTANT["content"],
    ]
    pointing = {"messages": [{"role": "user", "content": "<image> Where?"}, ASSISTANT]}
    with pytest.raises(PanoVLMError, match=r"found 1 <image> mark.*but no picture"):
        read_records(write(pointing), Needs(text=True, image=False))
