"""What a stage trains on: panoramas alone, or panoramas with conversations."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from panovlm.data.mixture import MixturePart, MixtureSchedule
from panovlm.data.packing import IGNORED, PackedSequence, TokenSequence, collate, pack
from panovlm.data.record_files import raise_errors
from panovlm.data.records import Record
from panovlm.errors import PanoVLMError
from panovlm.model.processing import PanoVLMProcessor
from panovlm.pictures.declaring import PictureFile
from panovlm.stages import Supervision

TOO_LONG_FIX = "shorten the text, or lower token_rows, token_columns or num_views"
NUM_PACKED_FIRST = 256
"""Examples packed before training: enough to meet what a tokenizer or a chat template does."""
MARKUP_BYTES = 64
"""More than any chat template writes around a message."""


class Source(Protocol):
    """Loads the model's input for a picture."""

    def load(self, picture: PictureFile) -> Tensor:
        """Return the views of a picture, or the frozen encoder's outputs for them, [V, ...]."""


class Example(TypedDict):
    """One sequence of a batch: views or their patch tokens, [V, ...], and conversations, if any."""

    views: Tensor | None
    conversations: PackedSequence | None


class PanoramaDataset(Dataset[Example]):
    """Panoramas with their records, and texts; sampling depends on (seed, epoch, index) alone.

    Args:
        parts: What to train on; a part's records of one picture make one example, texts stand
            alone.
        sources: Load the views of a picture, or their cached patch tokens: as it is, and after the
            camera has turned right by each further fine step within a stride.
        processor: Tokenises conversations.
        supervision: Which tokens carry the loss; `NONE` leaves conversations out.
        per_panorama: Conversations sampled for one panorama.
        roll: Whether to yaw-rotate panoramas whose records all have rotated responses.
        seed: Of the sampling.
    """

    def __init__(
        self,
        parts: Sequence[MixturePart],
        sources: Sequence[Source],
        processor: PanoVLMProcessor,
        supervision: Supervision,
        per_panorama: int,
        *,
        roll: bool,
        seed: int,
    ) -> None:
        grouped = [_by_picture(part.records) for part in parts]
        self.groups = [group for groups in grouped for group in groups]
        weights = [part.weight for part in parts]
        self.schedule = MixtureSchedule([*map(len, grouped)], weights, seed)
        self.sources = sources
        self.num_views = processor.image_processor.layout.num_views
        self.tokenizer = ConversationTokenizer(processor, supervision)
        self.sampler = RecordSampler(self.tokenizer, per_panorama, roll, len(sources))
        self.supervision = supervision
        self.seed = seed
        self.epoch = 0
        self.record_bytes = [[_num_bytes(record) for record in group] for group in self.groups]

    def __len__(self) -> int:
        """Return the number of examples in an epoch."""
        return self.schedule.per_epoch

    def set_epoch(self, epoch: int) -> None:
        """Sample for another epoch (the data loader calls it)."""
        self.epoch = epoch

    def examples(self) -> np.ndarray:
        """Return the indices of this epoch's examples; of repeated ones each has its own."""
        return self.schedule.examples(self.epoch)

    def __getitem__(self, index: int) -> Example:
        records, key = self.groups[self._place(index)], (self.seed, self.epoch, index)
        if records[0].shown is None:
            return {"views": None, "conversations": self.sampler.packed(records, key)}
        step = self.sampler.step(records, key, self.num_views)
        num_strides, fine_step = divmod(step, len(self.sources))
        views = self.sources[fine_step].load(records[0].shown)
        packed = self.sampler.packed(records, key, step, self.num_views * len(self.sources))
        return {"views": views.roll(-num_strides, dims=0), "conversations": packed}

    def _place(self, index: int) -> int:
        """Return the place of an example's group, whichever its repetition."""
        if index >= self.schedule.end:
            raise IndexError(index)  # what ends a loop over the dataset
        return index % len(self.groups)

    def text_bytes(self, index: int) -> int:
        """Return about the bytes of an example's text in this epoch; no picture is read."""
        if self.supervision is Supervision.NONE:
            return 0
        place = self._place(index)
        chosen = self.sampler.chosen(self.groups[place], (self.seed, self.epoch, index))
        return sum(self.record_bytes[place][i] for i in chosen)

    def check_packing(self) -> None:
        """Pack the first examples, for what no text shows: how a tokenizer takes them.

        Raises:
            PanoVLMError: As `RecordSampler.packed` does.
        """
        for index, records in enumerate(self.groups[:NUM_PACKED_FIRST]):
            self.sampler.packed(records, (self.seed, self.epoch, index))

    def check_lengths(self, longest: int) -> None:
        """Check that every conversation fits the language model; image tokens are never cut.

        Raises:
            PanoVLMError: Listing every record of more than `longest` tokens, and what to change.
        """
        if self.supervision is Supervision.NONE:
            return
        for record in _one_of_each_order(self.groups):
            self.tokenizer(record)  # the chat template takes its roles, or says why not
        errors = []
        for record in (record for records in self.groups for record in records):
            excess = self.tokenizer.excess(record, longest)
            if excess > 0:
                name = record.image or f"text {record.messages[0].content[:40]!r}"
                errors.append(f"{name}: {excess} tokens too many for {longest}")
        raise_errors(f"lengths ({TOO_LONG_FIX})", errors)


def _by_picture(records: Sequence[Record]) -> list[list[Record]]:
    """Return the records of each picture together, in the order of the first ones."""
    groups: dict[PictureFile | int, list[Record]] = {}
    for number, record in enumerate(records):
        groups.setdefault(record.shown or number, []).append(record)
    return list(groups.values())


def _one_of_each_order(groups: Sequence[Sequence[Record]]) -> list[Record]:
    """Return a record of each order of roles, as system, user, assistant."""
    records = (record for group in groups for record in group)
    return list({tuple(m.role for m in each.messages): each for each in records}.values())


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

    def step(self, records: Sequence[Record], key: tuple[int, ...], num_views: int) -> int:
        """Sample how far the camera turns right, in fine steps, of which a stride has several.

        It turns by whole strides alone where the records hold no responses for finer ones, and to
        nowhere where no record has a response.
        """
        if not self.roll:
            return 0
        rng, count = np.random.default_rng(key), num_views * self.steps_per_view
        # Without text any rotation is right; with text, only if each record knows its responses.
        if self.tokenizer.supervision is Supervision.NONE:
            return int(rng.integers(count))
        unit = 1 if all(record.has_rotations(count) for record in records) else self.steps_per_view
        if not all(record.has_rotations(num_views) for record in records):
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
        self, records: Sequence[Record], key: tuple[int, ...], step: int = 0, num_steps: int = 1
    ) -> PackedSequence | None:
        """Return conversations sampled among those with a response after a step, and packed.

        None without supervision.

        Raises:
            PanoVLMError: If a tokenizer joins the picture's end with the texts behind it.
        """
        if self.tokenizer.supervision is Supervision.NONE:
            return None
        known = _known(records, step, num_steps)
        rotated = []
        for record in (known[i] for i in self.chosen(known, key)):
            num_own_steps = step * len(record.rolled_responses or ()) // num_steps
            rotated.append(record.yaw_rotated(num_own_steps))
        sequences = [self.tokenizer(record) for record in rotated]
        packed, image = pack(sequences), self.tokenizer.processor.image_token_id
        if packed.ids.count(image) != sequences[0].ids.count(image):
            raise PanoVLMError(
                f"{records[0].image}: found conversations whose tokens differ before the end of "
                "the picture, though their texts do not, expected a chat template and a tokenizer "
                "that keep what stands before the end of the picture alike; set "
                "questions_per_panorama: 1"
            )
        return packed


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


def _num_bytes(record: Record) -> int:
    """Return more bytes than a record's conversation has in a chat template."""
    return sum(len(message.content.encode()) + MARKUP_BYTES for message in record.messages)


class ConversationTokenizer:
    """Tokenises conversations with their labels, and caches the results.

    Args:
        processor: Expands `<image>` and applies the chat template.
        supervision: Which tokens carry the loss.
    """

    def __init__(self, processor: PanoVLMProcessor, supervision: Supervision) -> None:
        self.processor = processor
        self.supervision = supervision
        self._tokenize = lru_cache(maxsize=20_000)(self._tokenize_messages)

    def __call__(self, record: Record) -> TokenSequence:
        """Tokenise a record's conversation; the picture itself is not read."""
        return self._tokenize(
            tuple((message.role, message.content) for message in record.marked_messages)
        )

    def excess(self, record: Record, longest: int) -> int:
        """Return how many tokens too long a conversation is; at most 0 where it fits."""
        expansion = self.processor.expand_image()
        image_tokens = expansion.count(self.processor.image_token)
        around = len(expansion) - image_tokens * len(self.processor.image_token)
        # No text has more tokens than bytes, so most conversations need not be tokenised.
        most = self._most_tokens(record) + image_tokens + around - longest
        return most if most <= 0 else len(self(record).ids) - longest

    def _most_tokens(self, record: Record) -> int:
        """Return more tokens than a record's conversation has, its picture apart."""
        contents = sum(len(message.content.encode()) for message in record.messages)
        return contents + len(record.messages) * self.markup_bytes

    @cached_property
    def markup_bytes(self) -> int:
        """More bytes than the chat template writes around a message; some write a system prompt."""
        chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]
        written: str = self.processor.tokenizer.apply_chat_template(
            chat, chat_template=self.processor.chat_template, tokenize=False
        )
        return max(len(written.encode()), MARKUP_BYTES)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be built anew in another process, whichever way it starts; the cache stays behind."""
        return ConversationTokenizer, (self.processor, self.supervision)

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


@dataclass(frozen=True)
class PanoramaCollator:
    """Stacks examples into a batch for either kind of model.

    Attributes:
        views_key: The model's argument for the views: `pixel_values` or `patch_tokens`.
        pad_id: Token id to fill short sequences with.
    """

    views_key: str
    pad_id: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return the views [N, V, ...], if any, and, with text, the result of `packing.collate`."""
        views = [e["views"] for e in examples if e["views"] is not None]
        batch = {self.views_key: torch.stack(views)} if views else {}
        packed = [e["conversations"] for e in examples if e["conversations"] is not None]
        return batch | (collate(packed, self.pad_id) if packed else {})
