"""Several panoramas in a conversation are read one after the other, and once."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from panovlm.inference import assistant as assistants
from panovlm.inference.answers import SamplingParams
from panovlm.inference.assistant import Assistant, Question
from panovlm.inference.batches import Batch
from panovlm.inference.prefixes import PrefixStore

SHORT = SamplingParams(max_tokens=8)
Shown = str | int
"""A text, or the number of a picture."""
MESSAGES: dict[str, list[list[Shown]]] = {
    "both in one message": [[0, 1, "What differs?"]],
    "text before, between and after": [["First: ", 0, " Second: ", 1, " What differs?"]],
    "one in a later message": [[0, "What is behind me?"], ["A red box."], [1, "And here?"]],
    "one two messages later": [["Hi"], ["Hello."], [2, "Left?"], ["No."], ["Sure?"], ["Yes."], [0]],
    "the same one twice": [[1, 1, "Are they the same?"]],
    "three, asked about later": [[2, 0], ["Yes?"], [1, "Compare."], ["Hm."], ["What differs?"]],
}


def conversation(messages: list[list[Shown]], pictures: list[Path]) -> list[dict[str, Any]]:
    """Write messages of a user and an assistant, with each picture's path for the processor."""

    def part(shown: Shown) -> dict[str, str]:
        if isinstance(shown, str):
            return {"type": "text", "text": shown}
        return {"type": "image", "path": str(pictures[shown])}

    return [
        {"role": ("user", "assistant")[place % 2], "content": [part(shown) for shown in message]}
        for place, message in enumerate(messages)
    ]


def asked(assistant: Assistant, messages: list[list[Shown]], pictures: list[Path]) -> Question:
    shown = [pictures[each] for message in messages for each in message if isinstance(each, int)]
    panoramas = [assistant.open(picture) for picture in shown]
    return Question(conversation(messages, pictures), panoramas, SHORT)


def plain_inputs(assistant: Assistant, messages: list[list[Shown]], pictures: list[Path]) -> Any:
    """Return the whole prompt as `generate` takes it."""
    return assistant.processor.apply_chat_template(
        conversation(messages, pictures),
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=True,
    )


def plain_answer(assistant: Assistant, inputs: Any) -> str:
    output = assistant.model.generate(**inputs, max_new_tokens=SHORT.max_tokens, do_sample=False)
    generated = output[0, inputs["input_ids"].shape[1] :]
    text: str = assistant.processor.tokenizer.decode(generated, skip_special_tokens=True)
    return text.strip()


def scores_of_first_token(assistant: Assistant, question: Question) -> torch.Tensor:
    with torch.inference_mode():
        return Batch(assistant.model, [assistant.row(question)])._prefill()[0]


def check_equals_plain(
    assistant: Assistant, messages: list[list[Shown]], pictures: list[Path]
) -> None:
    question = asked(assistant, messages, pictures)
    inputs = plain_inputs(assistant, messages, pictures)
    assert list(assistant.prompt(question).ids) == inputs["input_ids"][0].tolist()
    with torch.inference_mode():
        plain = assistant.model(**inputs, logits_to_keep=1).logits[0, -1]
    own = scores_of_first_token(assistant, question)
    torch.testing.assert_close(own, plain, atol=1e-4, rtol=1e-4)
    assert assistant.answer([question])[0].text == plain_answer(assistant, inputs)


@pytest.mark.parametrize("name", MESSAGES)
def test_answers_equal_those_of_a_plain_generate_over_the_whole_prompt(
    name: str, assistant: Assistant, pictures: list[Path]
) -> None:
    check_equals_plain(assistant, MESSAGES[name], pictures)


@pytest.mark.parametrize("kind", ["gemma3_text", "qwen3_sliding", "phi3", "smollm3"])
def test_windows_and_layers_without_positions_see_what_they_see_in_a_plain_generate(
    kind: str,
    assistant_of: Callable[..., Assistant],
    pictures: list[Path],
) -> None:
    assistant = assistant_of(kind)
    for messages in MESSAGES.values():
        check_equals_plain(assistant, messages, pictures)


def test_the_order_of_the_pictures_matters(assistant: Assistant, pictures: list[Path]) -> None:
    one, other = (
        scores_of_first_token(assistant, asked(assistant, [[*order, "?"]], pictures))
        for order in ([0, 1], [1, 0])
    )
    assert (one - other).abs().max() > 1e-2


@pytest.fixture
def reads(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Notes each run of the encoder, and the tokens of each piece the language model reads."""
    noted: dict[str, list[int]] = {"encoder": [], "language model": []}
    encoder = assistant.model.model.vision_encoder
    encoder.register_forward_hook(lambda *_: noted["encoder"].append(1))
    read_pieces = assistants.read_pieces

    def read(model: Any, ids: list[tuple[int, ...]], *more: Any) -> Any:
        noted["language model"] += map(len, ids)
        return read_pieces(model, ids, *more)

    monkeypatch.setattr(assistants, "read_pieces", read)
    return noted


def test_a_further_question_reads_no_picture_again(
    assistant: Assistant, pictures: list[Path], reads: dict[str, list[int]]
) -> None:
    opened = [assistant.open(picture) for picture in pictures]
    for text in ("What differs?", "Which is brighter?"):
        assistant.ask(opened[:2], text, SHORT)
    assert (len(reads["encoder"]), len(reads["language model"])) == (2, 2)


def test_a_picture_in_a_later_turn_is_read_on_from_what_was_read_before(
    assistant: Assistant, pictures: list[Path], reads: dict[str, list[int]]
) -> None:
    later = MESSAGES["one in a later message"]
    first, whole = (asked(assistant, messages, pictures) for messages in (later[:1], later))
    assistant.answer([first])
    assistant.answer([whole])
    assert len(reads["encoder"]) == 2
    assert sum(reads["language model"]) == assistant.prompt(whole).num_prefix
    # What is compared with the first picture shares it.
    assistant.answer([asked(assistant, [[0, 2, "What differs?"]], pictures)])
    assert (len(reads["encoder"]), len(reads["language model"])) == (3, 3)


def test_a_panorama_after_other_text_is_read_again_but_not_encoded(
    assistant: Assistant, pictures: list[Path], reads: dict[str, list[int]]
) -> None:
    for messages in ([[0, 1, "?"]], [[1, 0, "?"]], [["Look: ", 1, "?"]], [[1, 1, "?"]]):
        check_equals_plain(assistant, messages, pictures)
    plain_runs = 4
    assert len(reads["encoder"]) == 2 + 2 * plain_runs
    assert len(reads["language model"]) == 2 + 2 + 1 + 1


def test_nothing_held_continues_a_dropped_prefix_and_all_bytes_are_counted(
    assistant: Assistant, pictures: list[Path]
) -> None:
    opened = [assistant.open(picture) for picture in pictures]
    store = assistant.prefixes = PrefixStore(max_count=4)
    rng = random.Random(0)
    for _ in range(60):
        shown = rng.choices(opened, k=rng.randrange(1, 4))
        assistant.row(Question.about(shown, "?"))
        held = store._held
        assert len(held) <= 4
        assert all(len(key) == 1 or held[key[:-1]] is held[key].before for key in held)
        assert store.num_bytes == sum(prefix.num_bytes for prefix in held.values())
    own = next(iter(store._held.values())).num_bytes
    assistant.prefixes = PrefixStore(max_bytes=int(2.5 * own))
    assistant.row(Question.about(opened, "?"))
    assert [len(key) for key in assistant.prefixes._held] == [2, 1]


def test_any_number_of_pictures_in_a_batch_answers_each_question_as_if_alone(
    assistant: Assistant, pictures: list[Path]
) -> None:
    assistant._end_ids = []  # so that each answer has its length
    questions = [asked(assistant, messages, pictures) for messages in MESSAGES.values()]
    questions.append(asked(assistant, [["No picture at all"]], pictures))
    questions.append(asked(assistant, [[2, "x" * 200]], pictures))
    alone = [assistant.answer([question])[0].text for question in questions]
    assert [answer.text for answer in assistant.answer(questions)] == alone
    rows = [assistant.row(question) for question in questions]
    batch = Batch(assistant.model)
    for row in rows:
        batch.join([row])
        batch.step()
    while batch.step():
        pass
    assert [row.answer.text for row in rows] == alone
    assert len(set(alone)) > 3


def test_streamed_pieces_about_two_pictures_are_the_answer(
    assistant: Assistant, pictures: list[Path]
) -> None:
    opened = [assistant.open(picture) for picture in pictures[:2]]
    pieces = list(assistant.stream(opened, "What differs?", SHORT))
    assert "".join(pieces) == assistant.ask(opened, "What differs?", SHORT)
