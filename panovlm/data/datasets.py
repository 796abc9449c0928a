"""What a stage trains on: panoramas alone, or panoramas with conversations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from panovlm.data.conversations import ConversationTokenizer, RecordSampler, num_bytes
from panovlm.data.mixture import MixturePart, MixtureSchedule
from panovlm.data.packing import PackedSequence, collate
from panovlm.data.record_files import raise_errors
from panovlm.data.records import Record
from panovlm.model.processing import PanoVLMProcessor
from panovlm.pictures.declaring import PictureFile
from panovlm.stages import Supervision

TOO_LONG_FIX = "shorten the text, or lower token_rows, token_columns or num_views"
NUM_PACKED_FIRST = 256
"""Examples packed before training: enough to meet what a tokenizer or a chat template does."""


class Source(Protocol):
    """Loads the model's input for a picture."""

    def load(self, picture: PictureFile) -> Tensor:
        """Return the views of a picture, or the frozen encoder's outputs for them, [V, ...]."""


class Example(TypedDict):
    """One sequence of a batch: the views of its panoramas or their patch tokens, and its text.

    There is a tensor [V, ...] for each panorama, in the order of their marks.
    """

    views: list[Tensor]
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
        truncate_to: Tokens that are kept of a longer conversation; None keeps all.
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
        truncate_to: int | None = None,
    ) -> None:
        grouped = [_by_picture(part.records) for part in parts]
        self.groups = [group for groups in grouped for group in groups]
        weights = [part.weight for part in parts]
        self.schedule = MixtureSchedule([*map(len, grouped)], weights, seed)
        self.sources = sources
        self.layout = processor.image_processor.layout
        self.tokenizer = ConversationTokenizer(processor, supervision, truncate_to)
        self.sampler = RecordSampler(self.tokenizer, per_panorama, roll, len(sources))
        self.supervision = supervision
        self.seed = seed
        self.epoch = 0
        self.record_bytes = [[num_bytes(record) for record in group] for group in self.groups]

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
        return self.example(index, self.epoch)

    def example(self, index: int, epoch: int) -> Example:
        """Return an example as it is in an epoch."""
        record, step = self.groups[self._place(index)][0], self._step(index, epoch)
        num_strides, fine_step = divmod(step, len(self.sources))
        loaded = [self.sources[fine_step].load(picture) for picture in record.pictures]
        order = list(self.layout.order_after(num_strides))
        views = [each[order] for each in loaded]
        return {"views": views, "conversations": self.conversations(index, epoch)}

    def conversations(self, index: int, epoch: int) -> PackedSequence | None:
        """Return the text of an example in an epoch; no picture is read."""
        records, key = self.groups[self._place(index)], (self.seed, epoch, index)
        num_steps = self.layout.num_strides * len(self.sources)
        return self.sampler.packed(records, key, self._step(index, epoch), num_steps)

    def _step(self, index: int, epoch: int) -> int:
        """Sample how far the camera turns right, in fine steps."""
        records = self.groups[self._place(index)]
        if not records[0].paths:
            return 0
        return self.sampler.step(records, (self.seed, epoch, index), self.layout.num_strides)

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
                name = record.shown or f"text {record.messages[0].content[:40]!r}"
                errors.append(f"{name}: {excess} tokens too many for {longest}")
        fix = f"{TOO_LONG_FIX}, or set too_long: truncate or drop"
        raise_errors(f"lengths ({fix})", errors)


def _by_picture(records: Sequence[Record]) -> list[list[Record]]:
    """Return the records of the same pictures together, in the order of the first ones."""
    groups: dict[tuple[PictureFile, ...] | int, list[Record]] = {}
    for number, record in enumerate(records):
        groups.setdefault(record.pictures or number, []).append(record)
    return list(groups.values())


def _one_of_each_order(groups: Sequence[Sequence[Record]]) -> list[Record]:
    """Return a record of each order of roles, as system, user, assistant."""
    records = (record for group in groups for record in group)
    return list({tuple(m.role for m in each.messages): each for each in records}.values())


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
        views = [each for example in examples for each in example["views"]]
        batch = {self.views_key: torch.stack(views)} if views else {}
        packed = [e["conversations"] for e in examples if e["conversations"] is not None]
        return batch | (collate(packed, self.pad_id) if packed else {})
