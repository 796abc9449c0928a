"""From a conversation to token ids, in which what a user typed is nothing but text.

Special tokens in a user's words ("<image>", "<|im_end|>") would otherwise end turns or stand for
pictures.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from panovlm.model.errors import PanoVLMError
from panovlm.model.processing import PanoVLMProcessor

Conversation = Sequence[Mapping[str, Any]]
"""Turns with `role` and `content`: a text, or a list of {"type": "image"} and {"type": "text"}."""


@dataclass(frozen=True)
class Prompt:
    """A conversation as the language model reads it.

    Attributes:
        ids: All tokens, the assistant's opening words last.
        num_prefix: Leading tokens up to the last image token; 0 without a picture.
    """

    ids: tuple[int, ...]
    num_prefix: int

    @property
    def prefix(self) -> tuple[int, ...]:
        """The tokens that all questions about a panorama share."""
        return self.ids[: self.num_prefix]


def about_panorama(question: str) -> Conversation:
    """Give the conversation in which one question is asked about a panorama."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]


def write_prompt(processor: PanoVLMProcessor, conversation: Conversation) -> Prompt:
    """Tokenise a conversation with at most one picture.

    Without special tokens in the users' words, the ids are those of the processor's own
    `apply_chat_template`.

    Raises:
        PanoVLMError: If there is more than one picture, or the chat template refuses the roles.
    """
    texts: dict[str, str] = {}
    turns = [
        {"role": turn["role"], "content": _marked(processor, turn["content"], texts)}
        for turn in conversation
    ]
    _check_pictures(conversation)
    try:
        rendered: str = processor.tokenizer.apply_chat_template(
            turns,
            chat_template=processor.chat_template,
            tokenize=False,
            add_generation_prompt=True,
        )
    except TemplateError as error:  # some templates want turns in an order of theirs
        raise PanoVLMError(
            "found roles in an order that the model's chat template refuses, expected user and "
            "assistant in turns; change the roles"
        ) from error
    ids = tuple(_tokenize(processor, rendered, texts))
    backwards = ids[::-1]
    image = processor.image_token_id
    return Prompt(ids, len(ids) - backwards.index(image) if image in ids else 0)


def _check_pictures(conversation: Conversation) -> None:
    contents = [turn["content"] for turn in conversation if not isinstance(turn["content"], str)]
    found = sum(part["type"] == "image" for content in contents for part in content)
    if found > 1:
        raise PanoVLMError(f"found {found} pictures, expected one; ask about each by itself")


def _marked(processor: PanoVLMProcessor, content: Any, texts: dict[str, str]) -> str:
    """Write a turn's content with each of its texts replaced by a mark that nobody can guess."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    written = ""
    for part in parts:
        if part["type"] == "image":
            written += processor.expand_image()
        else:
            mark = f"[{secrets.token_hex(16)}]"
            texts[mark] = part["text"]
            written += mark
    return written


def _tokenize(processor: PanoVLMProcessor, rendered: str, texts: dict[str, str]) -> list[int]:
    """Put the texts in their places and tokenise, special tokens between the texts only."""
    tokenizer = processor.tokenizer
    special = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
    any_special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))))
    if not any(any_special.search(text) for text in texts.values()):
        for mark, text in texts.items():
            rendered = rendered.replace(mark, text, 1)
        ids: list[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        return ids
    ids, start = [], 0
    for found in any_special.finditer(rendered):
        ids += plain_ids(tokenizer, _filled(rendered[start : found.start()], texts))
        ids.append(tokenizer.convert_tokens_to_ids(found[0]))
        start = found.end()
    return ids + plain_ids(tokenizer, _filled(rendered[start:], texts))


def _filled(chunk: str, texts: Mapping[str, str]) -> str:
    for mark, text in texts.items():
        chunk = chunk.replace(mark, text, 1)
    return chunk


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Tokenise a text, taking nothing in it for a special token."""
    if not text:
        return []
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
        "input_ids"
    ]
    return ids
