"""Files of questions: a line out for each line in, resumable, errors beside their lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from panovlm.errors import PanoVLMError
from panovlm.inference import bulk
from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant, Chat

SHORT = SamplingParams(max_tokens=6)


@pytest.fixture
def questions(pictures: list[Path], tmp_path: Path) -> Path:
    good = {"image": str(pictures[0]), "question": "What is behind me?", "id": 7}
    lines: list[Any] = [good, {**good, "image": str(pictures[1]), "question": "Left?"}]
    lines += [
        {**good, "image": "missing.png"},
        {"image": "x"},
        [1],
        {**good, "question": "?" * 999},
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join([*map(json.dumps, lines), "{torn", json.dumps(good)]) + "\n")
    return file


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_each_line_gets_an_answer_or_an_error(
    assistant: Assistant, questions: Path, pictures: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "answers.jsonl"
    done = bulk.answer_file(assistant, questions, out, grounded=True, sampling=SHORT)
    written = read(out)
    assert (done.num_answered, done.num_errors, done.num_present) == (3, 5, 0)
    assert [line["line"] for line in written] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [("answer" in line) for line in written] == [True, True, *[False] * 5, True]
    errors = [line["error"] for line in written if "error" in line]
    parts = ["no such file", "image and question", "no JSON object", "tokens", "not JSON"]
    for error, part in zip(errors, parts, strict=True):
        assert part in error
    alone = assistant.ask(assistant.open(pictures[0]), "What is behind me?", SHORT)
    assert written[0]["answer"] == written[7]["answer"] == alone
    assert written[0]["id"] == 7
    assert {"grounding", "regions"} <= written[0].keys()


def test_a_line_may_show_several_pictures(
    assistant: Assistant, pictures: list[Path], tmp_path: Path
) -> None:
    images = [[str(picture) for picture in each] for each in (pictures[:2], pictures[1::-1])]
    asked = [{"image": each, "question": "What differs?"} for each in (*images, [], ["a", 1])]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in asked))
    bulk.answer_file(assistant, file, tmp_path / "answers.jsonl", sampling=SHORT)
    *answered, empty, number = read(tmp_path / "answers.jsonl")
    opened = [assistant.open(picture) for picture in pictures[:2]]
    for line, panoramas in zip(answered, (opened, opened[::-1]), strict=True):
        assert line["answer"] == assistant.ask(panoramas, "What differs?", SHORT)
    assert "image and question" in empty["error"]
    assert "image and question" in number["error"]
    bulk.answer_file(assistant, file, tmp_path / "grounded.jsonl", grounded=True, sampling=SHORT)
    assert "found grounded and 2 pictures" in read(tmp_path / "grounded.jsonl")[0]["error"]


def test_a_killed_run_resumes(
    assistant: Assistant, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH_SIZE", 2)
    whole, out = tmp_path / "whole.jsonl", tmp_path / "answers.jsonl"
    bulk.answer_file(assistant, questions, whole, sampling=SHORT)
    lines = whole.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:3]) + lines[3][:10])
    done = bulk.answer_file(assistant, questions, out, sampling=SHORT)
    assert out.read_text() == whole.read_text()
    assert done.num_present == 3
    assert bulk.answer_file(assistant, questions, out, sampling=SHORT).num_present == 8


def test_answers_to_other_questions_are_not_extended(
    assistant: Assistant, questions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "answers.jsonl"
    out.write_text('{"line": 1, "question": "Another?", "answer": "Yes"}\n')
    with pytest.raises(PanoVLMError, match="line 1, no answer to that line"):
        bulk.answer_file(assistant, questions, out, sampling=SHORT)
    assert len(read(out)) == 1
    with pytest.raises(PanoVLMError, match="cannot read"):
        bulk.answer_file(assistant, tmp_path / "missing.jsonl", out, sampling=SHORT)


def test_a_conversation_keeps_its_messages_and_reads_the_panorama_once(
    assistant: Assistant, pictures: list[Path]
) -> None:
    runs: list[int] = []
    assistant.model.model.vision_encoder.register_forward_hook(lambda *_: runs.append(1))
    panorama = assistant.open(pictures[0])
    chat = Chat(assistant, [panorama], SHORT)
    "".join(chat.ask("What is behind me?"))
    second = "".join(chat.ask("Left?"))
    assert second != assistant.ask(panorama, "Left?", SHORT)
    assert len(runs) == 1
    with pytest.raises(PanoVLMError, match="tokens"):
        list(chat.ask("?" * 999))
    assert isinstance("".join(chat.ask("Right?")), str)
