"""What a stage trains on: panoramas alone, or panoramas with conversations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from panovlm.data.augmentation import ClassSwap, ColourJitter
from panovlm.data.cache import FeatureSource
from panovlm.data.conversations import RecordSampler, num_bytes
from panovlm.data.mixture import MixturePart, MixtureSchedule
from panovlm.data.packing import IGNORED, PackedSequence, collate, join
from panovlm.data.record_files import raise_errors
from panovlm.data.records import Record
from panovlm.metrics.listings import is_listing
from panovlm.pictures.declaring import PictureFile
from panovlm.stages import Supervision

TOO_LONG_FIX = "shorten the text, or lower token_rows, token_columns or num_views"
BYTES_PER_TOKEN = 4
"""Of text, about."""
NUM_PACKED_FIRST = 256
"""Examples packed before training: enough to meet what a tokenizer or a chat template does."""


class SequenceKey(NamedTuple):
    """The examples of one sequence: their indices in an epoch."""

    epoch: int
    indices: tuple[int, ...]


@dataclass(frozen=True)
class ViewsAsWords:
    """Replaces the image tokens of some examples by the words that they are to stand for.

    Image tokens that were taught words (steps on words) are read like these. Words are never wrong
    and need no picture, so that adapters learn from them how to look something up.

    Attributes:
        share: Of the examples that are changed, in (0, 1).
        image_id: The id of image tokens.
        words: Returns the words of all image tokens of a panorama from its listing.
    """

    share: float
    image_id: int
    words: Callable[[str], list[int]]

    def takes(self, key: tuple[int, ...]) -> bool:
        """Sample whether an example is changed."""
        return bool(np.random.default_rng((*key, 5)).random() < self.share)

    def __call__(self, packed: PackedSequence, listing: str) -> PackedSequence | None:
        """Return a text with words in place of its picture; None where a view has no word.

        Args:
            packed: With the image tokens of one panorama.
            listing: Of the panorama as it is shown.
        """
        words = iter(self.words(listing))
        ids = [next(words, IGNORED) if id == self.image_id else id for id in packed.ids]
        return None if IGNORED in ids else replace(packed, ids=ids)


class SampledText(NamedTuple):
    """What was sampled for an example, but for its pictures.

    Attributes:
        step: How far the camera turns, in fine steps.
        conversations: None without supervision.
        class_order: Which class each one becomes; None if it stays.
        is_spoken: Whether words stand in place of the views.
    """

    step: int
    conversations: PackedSequence | None
    class_order: list[int] | None
    is_spoken: bool


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
            camera has turned right by each further fine step within a stride. None where only
            texts are read.
        sampler: Chooses conversations and yaw rotations.
        seed: Of the sampling.
        jitter: Changes the colours of views, where the sources load pixels.
        class_swap: Changes which class is which, where the sources load the tokens of an encoder of
            classes.
        views_as_words: Replaces the views of some examples by words.
    """

    def __init__(
        self,
        parts: Sequence[MixturePart],
        sources: Sequence[FeatureSource],
        sampler: RecordSampler,
        *,
        seed: int,
        jitter: ColourJitter | None = None,
        class_swap: ClassSwap | None = None,
        views_as_words: ViewsAsWords | None = None,
    ) -> None:
        grouped = [_by_picture(part.records) for part in parts]
        self.groups = [group for groups in grouped for group in groups]
        weights = [part.weight for part in parts]
        self.schedule = MixtureSchedule([*map(len, grouped)], weights, seed)
        self.sources = sources
        self.sampler = sampler
        self.seed = seed
        self.jitter = jitter
        self.class_swap = class_swap
        self.views_as_words = views_as_words
        self.record_bytes = [[num_bytes(record) for record in group] for group in self.groups]

    def __len__(self) -> int:
        """Return the number of examples in an epoch."""
        return self.schedule.per_epoch

    def examples(self, epoch: int) -> np.ndarray:
        """Return the indices of an epoch's examples; of repeated ones each has its own."""
        return self.schedule.examples(epoch)

    def __getitem__(self, key: SequenceKey) -> Example:
        """Return a sequence: one example, or several one after the other."""
        found = [self.example(index, key.epoch) for index in key.indices]
        texts = [each["conversations"] for each in found if each["conversations"] is not None]
        views = [view for each in found for view in each["views"]]
        return {"views": views, "conversations": join(texts) if texts else None}

    def example(self, index: int, epoch: int = 0) -> Example:
        """Return an example as it is in an epoch."""
        step, conversations, class_order, is_spoken = self._sampled(index, epoch)
        if is_spoken:
            return {"views": [], "conversations": conversations}
        num_strides, fine_step = divmod(step, self.sampler.steps_per_view)
        pictures = self._group(index)[0].pictures
        loaded = [self.sources[fine_step].load(picture) for picture in pictures]
        if self.jitter is not None:
            rng = np.random.default_rng((self.seed, epoch, index, 3))
            loaded = [self.jitter(each, rng) for each in loaded]
        if self.class_swap and class_order:
            loaded = [self.class_swap.tokens(each, class_order) for each in loaded]
        order = list(self.sampler.layout.order_after(num_strides))
        views = [each[order] for each in loaded]
        return {"views": views, "conversations": conversations}

    def conversations(self, index: int, epoch: int) -> PackedSequence | None:
        """Return the text of an example in an epoch; no picture is read."""
        return self._sampled(index, epoch).conversations

    def _sampled(self, index: int, epoch: int) -> SampledText:
        records, key = self._group(index), (self.seed, epoch, index)
        class_order, reword = None, None
        if self.class_swap and (class_order := self.class_swap.order(key)):
            reword = partial(self.class_swap.record, order=class_order)
        step, packed = self.sampler.packed(records, key, reword)
        spoken = None
        if self.views_as_words and packed and self.views_as_words.takes(key):
            listings = [record for record in records if is_listing(record.response)]
            rotated = self.sampler.rotated(listings[:1], step, reword)
            spoken = self.views_as_words(packed, rotated[0].response if rotated else "")
        return SampledText(step, spoken or packed, class_order, spoken is not None)

    def _group(self, index: int) -> list[Record]:
        """Return the records of an example, whichever its repetition."""
        return self.groups[index % len(self.groups)]

    def num_tokens(self, index: int, epoch: int) -> int:
        """Return the tokens of an example's text in an epoch."""
        packed = self.conversations(index, epoch)
        return len(packed.ids) if packed else 0

    def estimated_tokens(self, index: int, epoch: int) -> float:
        """Return about the tokens of an example in an epoch; nothing is tokenised."""
        if self.sampler.supervision is Supervision.NONE:
            return 0.0
        records = self._group(index)
        chosen = self.sampler.chosen(records, (self.seed, epoch, index))
        text = sum(self.record_bytes[index % len(self.groups)][i] for i in chosen)
        pictures = len(records[0].pictures) * self.sampler.tokenizer.picture_tokens
        return text / BYTES_PER_TOKEN + pictures

    def check_packing(self) -> None:
        """Pack the first examples, for what no text shows: how a tokenizer takes them.

        Raises:
            PanoVLMError: As `RecordSampler.packed` does.
        """
        for index, records in enumerate(self.groups[:NUM_PACKED_FIRST]):
            self.sampler.packed(records, (self.seed, 0, index))

    def check_lengths(self) -> None:
        """Check that every conversation fits the language model; image tokens are never cut.

        Raises:
            PanoVLMError: Listing every record of more tokens than it takes, and what to change.
        """
        tokenizer = self.sampler.tokenizer
        if tokenizer.supervision is Supervision.NONE:
            return
        for record in _one_of_each_order(self.groups):
            tokenizer(record)  # the chat template takes its roles, or says why not
        errors = []
        for record in (record for records in self.groups for record in records):
            excess = tokenizer.excess(record)
            if excess > 0:
                name = record.shown or f"text {record.messages[0].content[:40]!r}"
                errors.append(f"{name}: {excess} tokens too many for {tokenizer.longest}")
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

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Return the views [N, V, ...], if any, and, with text, the result of `packing.collate`."""
        views = [each for example in examples for each in example["views"]]
        batch: dict[str, Any] = {self.views_key: torch.stack(views)} if views else {}
        packed = [e["conversations"] for e in examples if e["conversations"] is not None]
        return batch | (collate(packed, self.pad_id) if packed else {})
