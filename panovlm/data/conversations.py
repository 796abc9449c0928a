"""Conversations as token sequences: how they are tokenised, sampled, rotated and packed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from panovlm.data.packing import IGNORED, PackedSequence, TokenSequence, pack
from panovlm.data.records import Record
from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.model.processing import PanoVLMProcessor
from panovlm.stages import Supervision

MARKUP_BYTES = 64
"""More than any chat template writes around a message."""


@dataclass(frozen=True)
class RecordSampler:
    """Samples conversations and yaw rotations for a panorama; each result depends on its key alone.

    Attributes:
        tokenizer: Of the conversations.
        per_panorama: Conversations sampled for one panorama.
        roll: Whether to yaw-rotate panoramas whose records all have rotated responses.
        steps_per_view: Fine steps of a rotation by one stride.
    """

    tokenizer: "ConversationTokenizer"
    per_panorama: int
    roll: bool
    steps_per_view: int = 1

    @property
    def supervision(self) -> Supervision:
        """Which tokens carry the loss."""
        return self.tokenizer.supervision

    @cached_property  # the processor builds it anew at each call
    def layout(self) -> ViewLayout:
        """The views of a panorama."""
        return self.tokenizer.processor.image_processor.layout

    @property
    def num_steps(self) -> int:
        """Fine steps of a whole rotation."""
        return self.layout.num_strides * self.steps_per_view

    def step(self, records: Sequence[Record], key: tuple[int, ...]) -> int:
        """Sample how far the camera turns right, in fine steps, of which a stride has several.

        It turns by whole strides alone where the records hold no responses for finer ones, and to
        nowhere where no record has a response, or a picture.
        """
        if not self.roll or not records[0].paths:
            return 0
        rng, count = np.random.default_rng(key), self.num_steps
        # Without text any rotation is right; with text, only if each record knows its responses.
        if self.supervision is Supervision.NONE:
            return int(rng.integers(count))
        unit = 1 if all(record.has_rotations(count) for record in records) else self.steps_per_view
        if not all(record.has_rotations(self.layout.num_strides) for record in records):
            return 0
        known = [step for step in range(0, count, unit) if _known(records, step, count)]
        return known[int(rng.integers(len(known)))]

    def chosen(self, records: Sequence[Record], key: tuple[int, ...]) -> list[int]:
        """Sample which of a panorama's conversations are used, all with one beginning.

        Only those that begin alike can share the picture's tokens. Of several beginnings each is
        taken as often as it has conversations, the others in other epochs.
        """
        places = _of_one_beginning(records, key)
        if len(places) <= self.per_panorama:
            return places
        rng = np.random.default_rng((*key, 1))
        order = rng.permutation(len(places))[: self.per_panorama]
        return sorted(places[place] for place in order)

    def packed(
        self,
        records: Sequence[Record],
        key: tuple[int, ...],
        reword: Callable[[Record], Record] | None = None,
    ) -> tuple[int, PackedSequence | None]:
        """Sample how far the camera turns, and conversations with a response after that.

        Args:
            records: Of one panorama, or one text.
            key: Of the random choices.
            reword: Changes the conversations that were sampled.

        Returns:
            The step, as of `step`, and the conversations packed; None without supervision.

        Raises:
            PanoVLMError: If a tokenizer joins the picture's end with the texts behind it.
        """
        step, num_steps = self.step(records, key), self.num_steps
        if self.supervision is Supervision.NONE:
            return step, None
        known = _known(records, step, num_steps)
        chosen = [known[i] for i in self.chosen(known, key)]
        sequences = [self.tokenizer(record) for record in self.rotated(chosen, step, reword)]
        packed, image = pack(sequences), self.tokenizer.processor.image_token_id
        if packed.ids.count(image) != sequences[0].ids.count(image):
            raise PanoVLMError(
                f"{records[0].paths[0]}: found conversations whose tokens differ before the end of "
                "the picture, though their texts do not, expected a chat template and a tokenizer "
                "that keep what stands before the end of the picture alike; set "
                "questions_per_panorama: 1"
            )
        return step, packed

    def rotated(
        self,
        records: Sequence[Record],
        step: int,
        reword: Callable[[Record], Record] | None = None,
    ) -> list[Record]:
        """Return those records whose response is known after a step, as they are then, reworded."""
        rotated = [
            record.yaw_rotated(step * len(record.rolled_responses or ()) // self.num_steps)
            for record in _known(records, step, self.num_steps)
        ]
        if reword is None:
            return rotated
        # Responses after other rotations are many, and needed no more.
        return [reword(each.model_copy(update={"rolled_responses": None})) for each in rotated]


def _of_one_beginning(records: Sequence[Record], key: tuple[int, ...]) -> list[int]:
    """Sample the beginning of a record; return the places of all records that have it."""
    beginnings = [record.beginning for record in records]
    if len(set(beginnings)) == 1:
        return list(range(len(records)))
    sampled = beginnings[int(np.random.default_rng((*key, 2)).integers(len(records)))]
    return [place for place, beginning in enumerate(beginnings) if beginning == sampled]


def _known(records: Sequence[Record], step: int, num_steps: int) -> list[Record]:
    """Return the records whose response is known after a step to the right."""
    return [each for each in records if each.response_after(step, num_steps) is not None]


def num_bytes(record: Record) -> int:
    """Return more bytes than a record's conversation has in a chat template."""
    return sum(len(message.content.encode()) + MARKUP_BYTES for message in record.messages)


class ConversationTokenizer:
    """Tokenises conversations with their labels, and caches the results.

    Args:
        processor: Expands `<image>` and applies the chat template.
        supervision: Which tokens carry the loss.
        longest: Tokens of a conversation at most; None sets no limit.
        truncates: Whether the end of longer ones is cut off.
    """

    def __init__(
        self,
        processor: PanoVLMProcessor,
        supervision: Supervision,
        longest: int | None = None,
        truncates: bool = False,
    ) -> None:
        self.processor = processor
        self.supervision = supervision
        self.longest = longest
        self.truncates = truncates
        self._tokenize = lru_cache(maxsize=20_000)(self._tokenize_messages)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be built anew in another process, whichever way it starts; the cache stays behind."""
        facts = (self.processor, self.supervision, self.longest, self.truncates)
        return ConversationTokenizer, facts

    def __call__(self, record: Record) -> TokenSequence:
        """Tokenise a record's conversation; the pictures themselves are not read."""
        whole = self._whole(record)
        if not self.truncates:
            return whole
        return TokenSequence(whole.ids[: self.longest], whole.labels[: self.longest])

    def _whole(self, record: Record) -> TokenSequence:
        return self._tokenize(
            tuple((message.role, message.content) for message in record.marked_messages)
        )

    def excess(self, record: Record) -> int:
        """Return how many tokens too long a conversation is; at most 0 where it fits.

        One that is truncated fits if that leaves all image tokens and something supervised.
        """
        beyond = self.num_beyond(record)
        return 0 if beyond > 0 and self._fits_truncated(record) else beyond

    def num_beyond(self, record: Record) -> int:
        """Return how many tokens a whole conversation has beyond `longest`; below 0 if fewer."""
        if self.longest is None:
            return 0
        # No text has more tokens than bytes, so most conversations need not be tokenised.
        pictures = self.picture_tokens * max(len(record.paths), 1)
        most = self._most_tokens(record) + pictures - self.longest
        return most if most <= 0 else len(self._whole(record).ids) - self.longest

    def _most_tokens(self, record: Record) -> int:
        """Return more tokens than a record's conversation has, its picture apart."""
        contents = sum(len(message.content.encode()) for message in record.messages)
        return contents + len(record.messages) * self.markup_bytes

    @cached_property
    def picture_tokens(self) -> int:
        """More tokens than a picture has in a conversation, the words for its views among them."""
        expansion, token = self.processor.expand_image(), self.processor.image_token
        return expansion.count(token) + len(expansion.replace(token, ""))

    @cached_property
    def markup_bytes(self) -> int:
        """More bytes than the chat template writes around a message; some write a system prompt."""
        chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]
        written: str = self.processor.tokenizer.apply_chat_template(
            chat, chat_template=self.processor.chat_template, tokenize=False
        )
        return max(len(written.encode()), MARKUP_BYTES)

    def _fits_truncated(self, record: Record) -> bool:
        if not self.truncates:
            return False
        whole, cut, image = self._whole(record), self(record), self.processor.image_token_id
        has_pictures = whole.ids.count(image) == cut.ids.count(image)
        return has_pictures and any(label != IGNORED for label in cut.labels[1:])

    def _tokenize_messages(self, messages: tuple[tuple[str, str], ...]) -> TokenSequence:
        chat = [{"role": role, "content": content} for role, content in messages]
        ids, is_supervised = self.processor.tokenize(chat)
        if self.supervision is Supervision.ALL_TEXT:
            is_supervised = self._follows_picture(ids)
        pairs = zip(ids, is_supervised, strict=True)
        return TokenSequence(ids, [token if carries else IGNORED for token, carries in pairs])

    def _follows_picture(self, ids: list[int]) -> list[int]:
        """Mark all text after the image tokens; text before them cannot depend on them.

        That leaves out the direction words between views: to predict those, the image tokens would
        learn to encode the next word instead of the picture.
        """
        image = self.processor.image_token_id
        last = max((place for place, token in enumerate(ids) if token == image), default=-1)
        return [int(place > last) for place in range(len(ids))]
