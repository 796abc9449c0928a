"""What a stage trains on: panoramas alone, or panoramas with conversations."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from panovlm.data.packing import IGNORED, PackedSequence, TokenSequence, collate, pack
from panovlm.data.records import Record, raise_errors
from panovlm.model.processing import PanoVLMProcessor
from panovlm.stages import Supervision

TOO_LONG_FIX = "shorten the text, or lower token_rows, token_columns or num_views"
MARKUP_BYTES = 64
"""More than any chat template writes around a turn."""


class Source(Protocol):
    """Gives what the model sees of a picture."""

    def load(self, picture: Path) -> Tensor:
        """Give the views of a picture, or what the frozen encoder made of them, [V, ...]."""


class Example(TypedDict):
    """One sequence of a batch: views or their patch tokens, [V, ...], and what is said, if any."""

    views: Tensor | None
    conversations: PackedSequence | None


class PanoramaDataset(Dataset[Example]):
    """Panoramas with their records, and texts; every draw depends on (seed, epoch, index) alone.

    Args:
        records: What to train on; those of one picture are put together, texts stand alone.
        source: Gives the views of a picture, or the patch tokens kept of them.
        processor: Tokenises conversations.
        supervision: Which tokens carry the loss; `NONE` leaves conversations out.
        per_panorama: Conversations drawn for one panorama.
        roll: Whether to turn panoramas whose records all say their turned responses.
        seed: Of the draws.
    """

    def __init__(
        self,
        records: Sequence[Record],
        source: Source,
        processor: PanoVLMProcessor,
        supervision: Supervision,
        per_panorama: int,
        *,
        roll: bool,
        seed: int,
    ) -> None:
        groups: dict[Path | int, list[Record]] = {}
        for number, record in enumerate(records):
            groups.setdefault(record.image or number, []).append(record)
        self.groups = list(groups.values())
        self.source = source
        self.tokenizer = ConversationTokenizer(processor, supervision)
        self.sampler = RecordSampler(self.tokenizer, per_panorama, roll)
        self.supervision = supervision
        self.seed = seed
        self.epoch = 0
        self.record_bytes = [[_num_bytes(record) for record in told] for told in self.groups]

    def __len__(self) -> int:
        return len(self.groups)

    def set_epoch(self, epoch: int) -> None:
        """Make the draws of another epoch (the data loader calls it)."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> Example:
        records, key = self.groups[index], (self.seed, self.epoch, index)
        if records[0].image is None:
            return {"views": None, "conversations": self.sampler.packed(records, key)}
        views = self.source.load(records[0].image)
        num_strides = self.sampler.num_strides(records, key, len(views))
        packed = self.sampler.packed(records, key, num_strides, len(views))
        return {"views": views.roll(-num_strides, dims=0), "conversations": packed}

    def text_bytes(self, index: int) -> int:
        """Say how long the text of an example is in this epoch, in bytes; no picture is read."""
        if self.supervision is Supervision.NONE:
            return 0
        chosen = self.sampler.chosen(len(self.groups[index]), (self.seed, self.epoch, index))
        return sum(self.record_bytes[index][i] for i in chosen)

    def check_lengths(self, longest: int) -> None:
        """Check that every conversation fits the language model; image tokens are never cut.

        Args:
            longest: Tokens the language model reads at most.

        Raises:
            PanoVLMError: Listing every record that does not fit, by how much, and the knobs.
        """
        if self.supervision is Supervision.NONE:
            return
        errors = []
        for record in (record for records in self.groups for record in records):
            excess = self.tokenizer.excess(record, longest)
            if excess > 0:
                name = record.image or f"text {record.messages[0].content[:40]!r}"
                errors.append(f"{name}: {excess} tokens too many for {longest}")
        raise_errors(f"lengths ({TOO_LONG_FIX})", errors)


@dataclass(frozen=True)
class RecordSampler:
    """What is drawn of a panorama's records; each draw depends on its key alone.

    Attributes:
        tokenizer: Of the conversations.
        per_panorama: Conversations drawn for one panorama.
        roll: Whether to turn panoramas whose records all say their turned responses.
    """

    tokenizer: "ConversationTokenizer"
    per_panorama: int
    roll: bool

    def num_strides(self, records: Sequence[Record], key: tuple[int, ...], num_views: int) -> int:
        """Draw by how many strides to the right the camera turns, in [0, num_views)."""
        rng = np.random.default_rng(key)
        return (
            int(rng.integers(num_views))
            if self.roll and self._can_rotate(records, num_views)
            else 0
        )

    def chosen(self, count: int, key: tuple[int, ...]) -> list[int]:
        """Draw which of a panorama's conversations are told."""
        if count <= self.per_panorama:
            return list(range(count))
        rng = np.random.default_rng((*key, 1))
        return sorted(map(int, rng.permutation(count)[: self.per_panorama]))

    def packed(
        self,
        records: Sequence[Record],
        key: tuple[int, ...],
        num_strides: int = 0,
        num_views: int = 1,
    ) -> PackedSequence | None:
        """Give the conversations drawn, after the camera has turned; None without supervision."""
        if self.tokenizer.supervision is Supervision.NONE:
            return None
        chosen = [
            _yaw_rotated(records[i], num_strides, num_views) for i in self.chosen(len(records), key)
        ]
        return pack([self.tokenizer(record) for record in chosen])

    def _can_rotate(self, records: Sequence[Record], num_views: int) -> bool:
        """Without text any turn is right; with text, only if each record knows its responses."""
        if self.tokenizer.supervision is Supervision.NONE:
            return True
        return all(record.can_rotate(num_views) for record in records)


def _num_bytes(record: Record) -> int:
    """Give more bytes than a record's conversation has with a chat template's marks."""
    return sum(len(message.content.encode()) + MARKUP_BYTES for message in record.messages)


def _yaw_rotated(record: Record, num_strides: int, num_views: int) -> Record:
    """Give the record after so many strides to the right, of which V make a full turn."""
    if record.rolled_responses is None:
        return record
    return record.yaw_rotated(num_strides * len(record.rolled_responses) // num_views)


class ConversationTokenizer:
    """Tokenises conversations with their labels, remembering those that recur.

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
        """Give how many tokens too long a conversation is; at most 0 where it fits."""
        return 0 if self.surely_fits(record, longest) else len(self(record).ids) - longest

    def surely_fits(self, record: Record, longest: int) -> bool:
        """Say without tokenising that a conversation fits: no text has more tokens than bytes."""
        words = _num_bytes(record)
        expansion = self.processor.expand_image()
        image_tokens = expansion.count(self.processor.image_token)
        around = len(expansion) - image_tokens * len(self.processor.image_token)
        return words + image_tokens + around <= longest

    def _tokenize_messages(self, messages: tuple[tuple[str, str], ...]) -> TokenSequence:
        chat = [{"role": role, "content": content} for role, content in messages]
        ids, said = self.processor.tokenize(chat)
        if self.supervision is Supervision.ALL_TEXT:
            said = self._follows_picture(ids)
        labels = [token if by else IGNORED for token, by in zip(ids, said, strict=True)]
        return TokenSequence(ids, labels)

    def _follows_picture(self, ids: list[int]) -> list[int]:
        """Mark all text after the image tokens; what stands before them cannot depend on them.

        That leaves out the direction words between views: an LM that cannot foresee them would
        bend the image tokens until they foretell the next word instead of showing the picture.
        """
        image = self.processor.image_token_id
        last = max((place for place, token in enumerate(ids) if token == image), default=-1)
        return [int(place > last) for place in range(len(ids))]


class PanoramaCollator:
    """Stacks examples into a batch for either kind of model.

    Args:
        views_key: Name under which the model takes the views: `pixel_values` or `patch_tokens`.
        pad_id: Token id to fill short sequences with.
    """

    def __init__(self, views_key: str, pad_id: int) -> None:
        self.views_key = views_key
        self.pad_id = pad_id

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Give the views [N, V, ...], if any, and, with text, what `packing.collate` gives."""
        views = [e["views"] for e in examples if e["views"] is not None]
        batch = {self.views_key: torch.stack(views)} if views else {}
        packed = [e["conversations"] for e in examples if e["conversations"] is not None]
        return batch | (collate(packed, self.pad_id) if packed else {})
