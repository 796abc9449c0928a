"""Asks a model the questions of records: on pictures as they are, rotated, blanked or in part."""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

from torch import Tensor

from panovlm.data.cache import PatchTokenCache
from panovlm.data.record_files import raise_errors
from panovlm.data.records import Record
from panovlm.evaluation.answers import MAX_NEW_TOKENS, Answerer, Prompt
from panovlm.evaluation.journal import Journal
from panovlm.evaluation.latents import LatentTokens
from panovlm.evaluation.low_resolution import to_low_resolution
from panovlm.evaluation.seam_shifted import roll_to_seam
from panovlm.geometry.cutting import required_width
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.pictures.declaring import PictureFile
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.cached_folders import token_cache_folder
from panovlm.runtime.progress import progress_bar
from panovlm.training import ranks
from panovlm.training.sources import fill_caches

GROUP = 256
"""Questions whose patch tokens are in memory at once, and which a kill may cost at most."""

Load = Callable[[Record], Tensor]
"""Returns the latent tokens shown for a question: one tensor for all questions shown the same."""


class Evaluator:
    """Asks a model the questions of records.

    Args:
        model: In eval mode.
        processor: The model's.
        records: Questions.
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
    def can_rotate(self) -> bool:
        """Whether pictures can be yaw-rotated without encoding them again."""
        return self.num_strides > 1

    @property
    def num_views(self) -> int:
        """The model's views without a global one."""
        num_views: int = self.answerer.model.config.perspective.num_views
        return num_views

    @property
    def num_strides(self) -> int:
        """Yaw rotations that only change the order of views."""
        num_strides: int = self.answerer.model.config.layout.num_strides
        return num_strides

    def predict(self, label: str) -> list[str]:
        """Ask every question about its picture."""
        return self._ask_distinct(label, _picture_and_prompt, _by_picture(self.latents.of))

    def predict_blind(self, label: str) -> list[str]:
        """Ask every question about a blank picture: what can be guessed without looking.

        All pictures are alike then, so equal questions are asked once.
        """
        blank = self.latents.blank
        return self._ask_distinct(label, lambda record: record.prompt, lambda _: blank)

    def predict_single_view(self, label: str) -> list[str]:
        """Ask every question with all views blank but the one nearest to the front."""
        blank, layout = self.latents.blank, self.answerer.model.config.perspective
        ahead = layout.rays(1, 1)[:, 0, 0, 2]
        front = int(ahead.round(9).argmax())

        def load(picture: PictureFile) -> Tensor:
            latents = blank.clone()
            latents[front] = self.latents.of(picture)[front]
            return latents

        return self._ask_distinct(label, _picture_and_prompt, _by_picture(load))

    def predict_low_resolution(self, label: str) -> list[str]:
        """Ask every question with views cut from a panorama of as many pixels as one view."""
        view_size = self.answerer.model.config.view_size
        cache = self.cache.with_transform(to_low_resolution(view_size))
        pictures = [record.picture for record in self.records]
        wanted = {self.cache: pictures, cache: pictures}  # what is kept of both stays for now
        errors = fill_caches(wanted, "low-resolution pictures")
        with ranks.synchronized():
            raise_errors("pictures", errors)
        latents = LatentTokens(self.answerer.model, cache)
        return self._ask_distinct(label, _picture_and_prompt, _by_picture(latents.of))

    def predict_without_view(self, label: str, records: Sequence[Record], view: int) -> list[str]:
        """Ask questions about pictures of which one view is blank."""
        blank = self.latents.blank[view]

        def load(picture: PictureFile) -> Tensor:
            latents = self.latents.of(picture).clone()
            latents[view] = blank
            return latents

        return self._ask(label, records, _by_picture(load))

    def predict_seam_shifted(self, label: str, records: Sequence[Record]) -> list[str]:
        """Ask questions about pictures whose left and right edge cuts what they are about.

        The picture itself is rolled, by whole pixels, and encoded anew.

        Args:
            label: Of the progress bar.
            records: Questions whose direction is known.
        """
        processor = self.cache.image_processor

        @lru_cache(maxsize=GROUP)
        def shifted(picture: PictureFile, yaw_deg: float) -> Tensor:
            pixels = load_panorama(picture, required_width(processor.layout))
            views = processor(roll_to_seam(pixels, yaw_deg), return_tensors="pt")["pixel_values"][0]
            return self.latents.resampled(self.cache.encode(views))

        def load(record: Record) -> Tensor:
            if record.yaw_deg is None:
                raise ValueError(f"found no direction of {record.image} to shift to the seam")
            return shifted(record.picture, record.yaw_deg)

        return self._ask(label, records, load)

    def predict_yaw_rotated(
        self, label: str, records: Sequence[Record], num_strides: int
    ) -> list[str]:
        """Ask questions about pictures whose camera turned right by whole strides.

        A model with a global view would have to encode them again and cannot be asked so.

        Args:
            label: Of the progress bar.
            records: Questions.
            num_strides: In [0, `num_strides` of the model's layout).
        """
        order = list(self.answerer.model.config.layout.order_after(num_strides))

        def load(picture: PictureFile) -> Tensor:
            return self.latents.of(picture)[order]

        return self._ask(label, records, _by_picture(load))

    def _ask_distinct(
        self, label: str, key_of: Callable[[Record], Hashable], load: Load
    ) -> list[str]:
        """Ask every question, those with equal keys once."""
        distinct = {key_of(record): record for record in self.records}
        answers = dict(zip(distinct, self._ask(label, [*distinct.values()], load), strict=True))
        return [answers[key_of(record)] for record in self.records]

    def _ask(self, label: str, records: Sequence[Record], load: Load) -> list[str]:
        """Ask a group of questions at a time, so that memory stays small; ranks take them in turn.

        After each round all ranks know all its answers, and the first one keeps them.
        """
        groups = [records[start : start + GROUP] for start in range(0, len(records), GROUP)]
        answers: list[str] = []
        with progress_bar(label, len(records)) as advance:
            for first in range(0, len(groups), ranks.world_size()):
                own = first + ranks.rank()
                with ranks.synchronized():
                    texts = self._answered(label, own, groups, load, advance)
                for number, given in enumerate(ranks.all_gather(texts), first):
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
        """Answer one group, or return what was kept of it; the last ranks may have none."""
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


def _picture_and_prompt(record: Record) -> Hashable:
    return record.picture, record.prompt


def _by_picture(load: Callable[[PictureFile], Tensor]) -> Load:
    """Show the same tensor for all questions of a group about one picture."""
    kept = lru_cache(maxsize=GROUP)(load)
    return lambda record: kept(record.picture)
