"""Where the assistant's messages stand in a conversation whose chat template does not mark them.

The conversation is rendered once as it is and once with a sign in place of each answer. What stands
between the signs is the template's own text, so the answers lie between those pieces. An answer's
span begins where the model starts to write, behind what a prompt ends with, and ends with the
special token behind the answer, by which the model stops.
"""

import re
from collections.abc import Sequence
from typing import Any, Protocol

from panovlm.errors import PanoVLMError

SIGN = "\ue000{}\ue001"
"""Private characters, which no text has."""
MARKS_FIX = (
    "copy the template to a file, write {%- generation %} before the assistant's text and "
    "{%- endgeneration %} behind its end token there, and set model.chat_template to the file"
)
Messages = Sequence[dict[str, Any]]


class Render(Protocol):
    """Applies a chat template."""

    def __call__(self, messages: Messages, *, add_generation_prompt: bool = False) -> str:
        """Return the text of a conversation, up to an answer if one is to be generated."""


def answer_spans(
    render: Render, messages: Messages, special_tokens: Sequence[str]
) -> list[tuple[int, int]]:
    """Find the assistant's messages in a rendered conversation.

    Args:
        render: Applies the chat template.
        messages: With `role`, and texts as `content`.
        special_tokens: Of the tokenizer; one of them ends each answer.

    Returns:
        For each of the assistant's messages its first character in the text and the one behind its
        end token.

    Raises:
        PanoVLMError: If the template writes an answer in another form, or no end token behind it.
    """
    answers = [place for place, each in enumerate(messages) if each["role"] == "assistant"]
    text, pieces = render(messages), _pieces(render, messages, len(answers))
    spans, place = [], len(pieces[0])
    is_split = text.startswith(pieces[0])
    for number, piece in zip(answers, pieces[1:], strict=True):
        answer = messages[number]["content"]
        forms = (form for form in (answer, answer.strip()) if _follows(text, place, form, piece))
        written = next(forms, None)
        if written is None or not is_split:
            raise _unmarked("writes an answer in another form than it was given")
        end = place + len(written)
        prompt = render(messages[:number], add_generation_prompt=True)
        start = len(prompt) if text.startswith(prompt) and len(prompt) <= place else place
        spans.append((start, end + _end_token(piece, special_tokens)))
        place = end + len(piece)
    return spans


def _pieces(render: Render, messages: Messages, count: int) -> list[str]:
    """Return the template's own text around the answers."""
    numbers = iter(range(count))
    signed = [
        {**each, "content": SIGN.format(next(numbers))} if each["role"] == "assistant" else each
        for each in messages
    ]
    pieces, rest = [], render(signed)
    for number in range(count):
        piece, found, rest = rest.partition(SIGN.format(number))
        pieces.append(piece)
        if not found or SIGN.format(number) in rest:
            raise _unmarked("does not write each answer once")
    return [*pieces, rest]


def _follows(text: str, place: int, written: str, piece: str) -> bool:
    return text.startswith(written + piece, place)


def _end_token(piece: str, special_tokens: Sequence[str]) -> int:
    """Return how many characters behind an answer belong to it: its end token's."""
    ends = "|".join(re.escape(each) for each in sorted(special_tokens, key=len, reverse=True))
    found = re.match(rf"\s*(?:{ends})", piece) if ends else None
    if found is None:
        raise _unmarked("writes no special token behind an answer")
    return found.end()


def _unmarked(what: str) -> PanoVLMError:
    return PanoVLMError(
        f"found a chat template that {what}, and does not mark the assistant's messages, expected "
        f"one in which they can be found; {MARKS_FIX}"
    )
