"""From a conversation to token ids, in which what a user typed is only text.

Special tokens in a user's text ("<image>", "<|im_end|>") would otherwise end messages or stand for
pictures.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError

from panovlm.errors import PanoVLMError
from panovlm.model.processing import PanoVLMProcessor

Conversation = Sequence[Mapping[str, Any]]
"""Messages with `role`, and `content`: a text, or a list of images and texts by their `type`."""


@dataclass(frozen=True)
class Prompt:
    """A conversation as the language model reads it, up to the header of the assistant's answer.

    Attributes:
        ids: All tokens.
        ends: For each picture, the number of tokens up to its last image token.
    """

    ids: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def num_prefix(self) -> int:
        """Leading tokens that all questions about the same pictures share; 0 without a picture."""
        return self.ends[-1] if self.ends else 0

    @property
    def pieces(self) -> list[tuple[int, ...]]:
        """These tokens, cut behind each picture."""
        return [self.ids[start:end] for start, end in pairwise((0, *self.ends))]


def about_panorama(question: str, num_panoramas: int = 1) -> Conversation:
    """Return the conversation that asks one question about a panorama, or about several."""
    pictures = [{"type": "image"}] * num_panoramas
    return [{"role": "user", "content": [*pictures, {"type": "text", "text": question}]}]


def texts_of(conversation: Conversation) -> list[str]:
    """Return all texts of a conversation."""
    contents = [message["content"] for message in conversation]
    parts = [part for content in contents if not isinstance(content, str) for part in content]
    texts = [content for content in contents if isinstance(content, str)]
    return [*texts, *(part["text"] for part in parts if part["type"] == "text")]


def write_prompt(processor: PanoVLMProcessor, conversation: Conversation) -> Prompt:
    """Tokenise a conversation.

    Without special tokens in the users' text, the ids are those of the processor's own
    `apply_chat_template`.

    Raises:
        PanoVLMError: If the chat template refuses the roles.
    """
    texts: dict[str, str] = {}
    messages = [
        {"role": message["role"], "content": _marked(processor, message["content"], texts)}
        for message in conversation
    ]
    try:
        rendered: str = processor.tokenizer.apply_chat_template(
            messages,
            chat_template=processor.chat_template,
            tokenize=False,
            add_generation_prompt=True,
        )
    except TemplateError as error:  # some templates accept certain orders only
        raise PanoVLMError(
            "found roles in an order that the model's chat template refuses, expected user and "
            "assistant to alternate; change the roles"
        ) from error
    ids = tuple(_tokenize(processor, rendered, texts))
    ends = [place for place, token in enumerate(ids, 1) if token == processor.image_token_id]
    per_image = processor.expand_image().count(processor.image_token)
    return Prompt(ids, tuple(ends[per_image - 1 :: per_image]))


def _marked(processor: PanoVLMProcessor, content: Any, texts: dict[str, str]) -> str:
    """Write a message's content with each of its texts replaced by an unguessable mark."""
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
    """Insert the texts and tokenise; special tokens are recognised between the texts only."""
    tokenizer = processor.tokenizer
    special = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
    any_special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))))
    if not any(any_special.search(text) for text in texts.values()):
        return list(tokenizer(_filled(rendered, texts), add_special_tokens=False)["input_ids"])
    ids: list[int] = []
    start = 0
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
    """Tokenise a text in which special tokens are only text."""
    options = {"add_special_tokens": False, "split_special_tokens": True}
    return list(tokenizer(text, **options)["input_ids"]) if text else []
