"""A question that joins running ones is answered as if alone, and so are the others."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant, Question
from panovlm.inference.batches import Batch, Row, generate

TEXTS = ["Left?", "What is behind me?", "Where is the red box? " * 9]
LENGTHS = [6, 3, 9]


@pytest.fixture
def questions(assistant: Assistant, pictures: list[Path]) -> list[Question]:
    """Short and long ones, about three panoramas and none, with answers of several lengths."""
    return questions_for(assistant, pictures)


def questions_for(assistant: Assistant, pictures: list[Path]) -> list[Question]:
    assistant._end_ids = []  # so that each answer has its length
    opened = [assistant.open(picture) for picture in pictures]
    asked = [
        Question.about(opened[place], text, SamplingParams(max_tokens=LENGTHS[place]))
        for place, text in enumerate(TEXTS)
    ]
    for text in ("No picture at all", "x" * 300):
        asked.append(
            Question([{"role": "user", "content": text}], (), SamplingParams(max_tokens=5))
        )
    return asked


def tokens_of(row: Row) -> list[int]:
    return row.answer._ids


def alone(assistant: Assistant, question: Question) -> list[int]:
    row = assistant.row(question)
    generate(assistant.model, [row])
    assert len(tokens_of(row)) == question.sampling.max_tokens
    return tokens_of(row)


def finish(batch: Batch) -> None:
    while batch.step():
        pass


def joined_at(assistant: Assistant, questions: list[Question], step: int) -> list[list[int]]:
    """Tokens of all answers, each but the first joining some steps after the one before."""
    first, *others = rows = [assistant.row(question) for question in questions]
    batch = Batch(assistant.model, [first])
    for row in others:
        for _ in range(step):
            batch.step()
        batch.join([row])
    finish(batch)
    return [tokens_of(row) for row in rows]


@pytest.mark.parametrize("step", [0, 1, 2, 5])
def test_joining_at_any_step_changes_no_token_of_any_answer(
    assistant: Assistant, questions: list[Question], step: int
) -> None:
    expected = [alone(assistant, question) for question in questions]
    assert joined_at(assistant, questions, step) == expected
    assert joined_at(assistant, questions[::-1], step) == expected[::-1]


@pytest.mark.parametrize("kind", ["gemma3_text", "qwen3_sliding", "phi3", "smollm3"])
def test_windows_and_layers_without_positions_see_what_they_see_alone(
    kind: str,
    assistant_of: Callable[..., Assistant],
    pictures: list[Path],
) -> None:
    assistant = assistant_of(kind)
    questions = questions_for(assistant, pictures)
    expected = [alone(assistant, question) for question in questions]
    assert joined_at(assistant, questions, 2) == expected


def test_rows_join_together_leave_and_are_cancelled_in_any_order(
    assistant: Assistant, questions: list[Question]
) -> None:
    expected = {id(question): alone(assistant, question) for question in questions}
    rng = random.Random(0)
    batch = Batch(assistant.model)
    rows: list[tuple[Row, Question]] = []
    cancelled = 0
    for _ in range(40):
        act = rng.random()
        if act < 0.3:
            asked = rng.sample(questions, rng.randrange(1, 4))
            joining = [assistant.row(question) for question in asked]
            pieces = batch.join(joining)
            assert [row for row, _ in pieces] == joining
            rows += zip(joining, asked, strict=True)
        elif act < 0.4 and len(batch._rows):
            rng.choice([row for row, _ in rows if row.is_running]).is_cancelled = True
            cancelled += 1
        else:
            batch.step()
    finish(batch)
    assert cancelled
    for row, question in rows:
        whole = expected[id(question)]
        assert tokens_of(row) == (whole[: len(tokens_of(row))] if row.is_cancelled else whole)


def test_a_batch_that_never_ends_does_not_grow(
    assistant: Assistant, questions: list[Question]
) -> None:
    row = assistant.row(questions[0])
    batch = Batch(assistant.model, [row])
    widest = max(len(assistant.prompt(q).ids) + q.sampling.max_tokens for q in questions)
    for place in range(25):
        batch.step()
        batch.join([assistant.row(questions[place % len(questions)])])
        assert batch._mask.shape[1] <= widest
        assert batch._states()[0][0].shape[2] == batch._mask.shape[1]
    finish(batch)
    assert len(batch._rows) == 0
    assert batch._cache is None


def test_a_joining_row_that_fails_leaves_the_others_as_they_were(
    assistant: Assistant, questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = alone(assistant, questions[0])
    row = assistant.row(questions[0])
    batch = Batch(assistant.model, [row])
    batch.step()
    with monkeypatch.context() as broken:
        broken.setattr(Batch, "_prefill", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            batch.join([assistant.row(questions[1])])
    finish(batch)
    assert tokens_of(row) == expected


def test_rows_that_end_with_their_first_token_or_are_cancelled_before_it_leave_nothing(
    assistant: Assistant, questions: list[Question]
) -> None:
    brief = Question(
        questions[1].conversation, questions[1].panoramas, SamplingParams(max_tokens=1)
    )
    gone = assistant.row(questions[2])
    gone.is_cancelled = True
    batch = Batch(assistant.model)
    assert batch.step() == []
    assert len(batch.join([assistant.row(brief), gone])) == 1
    assert tokens_of(gone) == []
    assert len(batch._rows) == 0
    row = assistant.row(questions[0])
    batch.join([row])
    batch.join([assistant.row(brief)])
    assert len(batch._rows) == 1
    finish(batch)
    assert tokens_of(row) == alone(assistant, questions[0])
