"""Asks a model the questions of records: on pictures as they are, turned, blanked or in part."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from panovlm.data.cache import PatchTokenCache
from panovlm.data.records import Record, raise_errors
from panovlm.errors import PanoVLMError
from panovlm.evaluation.answers import MAX_NEW_TOKENS, Answerer, Prompt
from panovlm.evaluation.journal import Journal
from panovlm.evaluation.latents import LatentTokens
from panovlm.evaluation.on_seam import on_the_edge
from panovlm.evaluation.scoring import Prediction
from panovlm.evaluation.squeezing import squeeze
from panovlm.geometry.cutting import required_width
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.cached_folders import token_cache_folder
from panovlm.runtime.progress import progress_bar
from panovlm.training import ranks
from panovlm.training.sources import fill_caches

GROUP = 256
"""Questions whose patch tokens are in memory at once, and which a kill may cost at most."""

Load = Callable[[Record], Tensor]
"""Gives the latent tokens shown for a question: one tensor for all questions shown the same."""


class Evaluator:
    """Asks a model the questions of records.

    Args:
        model: In eval mode.
        processor: The model's.
        records: Questions with their right answers.
        use_bf16: Whether the views are encoded in bf16, as they were in training.
        max_new_tokens: Where an answer is cut off.
        journal: Where answers are kept as they are given; None keeps none.

    Raises:
        PanoVLMError: Listing every picture that cannot be read.
    """

    def __init__(
        self,
        model: PanoVLMForConditionalGeneration,
        processor: PanoVLMProcessor,
        records: Sequence[Record],
        *,
        use_bf16: bool,
        max_new_tokens: int = MAX_NEW_TOKENS,
        journal: Journal | None = None,
    ) -> None:
        self.records = list(records)
        self.answerer = Answerer(model, processor, max_new_tokens)
        self.journal = journal
        self.cache = PatchTokenCache(
            token_cache_folder(),
            model.model.vision_encoder,
            processor.image_processor,
            use_bf16=use_bf16,
        )
        pictures = [record.picture for record in self.records]
        errors = fill_caches({self.cache: pictures}, "vision encoder")
        with ranks.synchronized():
            raise_errors("pictures", errors)
        self.latents = LatentTokens(model, self.cache)

    @property
    def num_views(self) -> int:
        """Views of the model's ring."""
        num_views: int = self.answerer.model.config.num_views
        return num_views

    def predict(self, label: str) -> list[Prediction]:
        """Ask every question about its picture."""
        return self._predict(label, self.records, _by_picture(self.latents.of))

    def predict_blind(self, label: str) -> list[Prediction]:
        """Ask every question about a blank picture: what can be guessed without looking.

        All pictures are alike then, so equal questions are asked once.
        """
        blank, distinct = self.latents.blank, {record.prompt: record for record in self.records}
        said = self._ask(label, [*distinct.values()], lambda _: blank)
        answers = dict(zip(distinct, said, strict=True))
        return [Prediction(record, answers[record.prompt]) for record in self.records]

    def predict_single_view(self, label: str) -> list[Prediction]:
        """Ask every question with all views blank but the one to the front."""
        blank = self.latents.blank

        def load(picture: Path) -> Tensor:
            return torch.cat([self.latents.of(picture)[:1], blank[1:]])

        return self._predict(label, self.records, _by_picture(load))

    def predict_squeezed(self, label: str) -> list[Prediction]:
        """Ask every question with views cut from a panorama of as many pixels as one view."""
        cache = self.cache.with_transform(squeeze(self.answerer.model.config.view_size))
        pictures = [record.picture for record in self.records]
        wanted = {self.cache: pictures, cache: pictures}  # what is kept of both stays for now
        errors = fill_caches(wanted, "squeezed pictures")
        with ranks.synchronized():
            raise_errors("pictures", errors)
        latents = LatentTokens(self.answerer.model, cache)
        return self._predict(label, self.records, _by_picture(latents.of))

    def predict_without_view(
        self, label: str, records: Sequence[Record], view: int
    ) -> list[Prediction]:
        """Ask questions about pictures of which one view of the ring is blank."""
        blank = self.latents.blank[view]

        def load(picture: Path) -> Tensor:
            latents = self.latents.of(picture).clone()
            latents[view] = blank
            return latents

        return self._predict(label, records, _by_picture(load))

    def predict_on_seam(self, label: str, records: Sequence[Record]) -> list[Prediction]:
        """Ask questions about pictures that are turned until what they ask about is on the edge.

        The picture itself is turned, by whole pixels, and encoded anew.

        Args:
            label: Of the progress bar.
            records: Questions whose direction is known; predictions hold their answers as they are.
        """
        processor = self.cache.image_processor

        @lru_cache(maxsize=GROUP)
        def turned(picture: Path, yaw_deg: float) -> Tensor:
            pixels = load_panorama(picture, required_width(processor.layout))
            views = processor(on_the_edge(pixels, yaw_deg), return_tensors="pt")["pixel_values"][0]
            return self.latents.resampled(torch.from_numpy(self.cache.encode(views)))

        def load(record: Record) -> Tensor:
            if record.yaw_deg is None:
                raise ValueError(f"found no direction of {record.image} to turn to the edge")
            return turned(record.picture, record.yaw_deg)

        return self._predict(label, records, load)

    def check_turnable(self) -> None:
        """Check that tokens of a turned panorama are those at hand in another order.

        Raises:
            PanoVLMError: If the model has a global view.
        """
        if self.answerer.model.config.global_view:
            raise PanoVLMError(
                "found a model with a global view, which cannot be turned without encoding it "
                "again; leave rotation consistency out (--turned 0)"
            )

    def turnable(self) -> list[int]:
        """Give the places of the records that know their turned answers."""
        return [i for i, record in enumerate(self.records) if record.can_rotate(self.num_views)]

    def predict_turned(
        self, label: str, records: Sequence[Record], strides: int
    ) -> list[Prediction]:
        """Ask questions about pictures turned right by so many strides of the ring.

        Args:
            label: Of the progress bar.
            records: Questions; where they know their turned answers, predictions hold them.
            strides: Whole strides, in [0, V).

        Raises:
            PanoVLMError: Of `check_turnable`.
        """
        self.check_turnable()

        def load(picture: Path) -> Tensor:
            return self.latents.of(picture).roll(-strides, dims=0)

        answers = self._ask(label, records, _by_picture(load))
        return [
            Prediction(
                record, answer, strides * len(record.rolled_responses or ()) // self.num_views
            )
            for record, answer in zip(records, answers, strict=True)
        ]

    def _predict(self, label: str, records: Sequence[Record], load: Load) -> list[Prediction]:
        answers = self._ask(label, records, load)
        return [Prediction(*pair) for pair in zip(records, answers, strict=True)]

    def _ask(self, label: str, records: Sequence[Record], load: Load) -> list[str]:
        """Ask a group of questions at a time, so that memory stays small; ranks take them in turn.

        After each round all ranks know all its answers, and the first one keeps them.
        """
        groups = [records[start : start + GROUP] for start in range(0, len(records), GROUP)]
        answers: list[str] = []
        with progress_bar(label, len(records)) as advance:
            for first in range(0, len(groups), ranks.number()):
                own = first + ranks.own()
                with ranks.synchronized():
                    said = self._answered(label, own, groups, load, advance)
                for number, given in enumerate(ranks.gathered(said), first):
                    self._keep(label, number, given)
                    answers += given
                    advance(len(given) if number != own else 0)
        return answers

    def _answered(
        self,
        label: str,
        number: int,
        groups: Sequence[Sequence[Record]],
        load: Load,
        advance: Callable[[int], None],
    ) -> list[str]:
        """Answer one group, or give what was kept of it; there may be none for the last ranks."""
        group = groups[number] if number < len(groups) else []
        kept = self.journal.find(label, number) if self.journal else None
        if kept is None:
            return self.answerer([Prompt(load(each), each.prompt) for each in group], advance)
        advance(len(kept))
        return kept

    def _keep(self, label: str, number: int, answers: list[str]) -> None:
        is_new = self.journal and answers and self.journal.find(label, number) is None
        if self.journal and is_new and ranks.is_first():
            self.journal.keep(label, number, answers)


def _by_picture(load: Callable[[Path], Tensor]) -> Load:
    """Show the same tensor for all questions of a group about one picture."""
    kept = lru_cache(maxsize=GROUP)(load)
    return lambda record: kept(record.picture)


def drawn(places: Sequence[int], count: int, seed: int) -> list[int]:
    """Draw `count` of the places (all, if there are no more), and give them in order."""
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    return sorted(places[i] for i in chosen)
