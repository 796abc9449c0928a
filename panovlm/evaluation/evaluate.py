"""Asks a model of ours questions: on pictures as they are, rotated, blanked or in part."""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache

from torch import Tensor

from panovlm.data.cache import ImageTransform, PatchTokenCache
from panovlm.evaluation.answers import MAX_NEW_TOKENS, Answerer, Prompt
from panovlm.evaluation.asking import Question
from panovlm.evaluation.journal import Journal
from panovlm.evaluation.latents import LatentTokens
from panovlm.evaluation.shown import Shown, low_resolution
from panovlm.geometry.cutting import required_width
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.pictures.declaring import PictureFile
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.cached_folders import token_cache_folder
from panovlm.runtime.progress import progress_bar
from panovlm.training import ranks
from panovlm.training.sources import fill_or_raise

GROUP = 256
"""Questions whose patch tokens are in memory at once, and which a kill may cost at most."""


class Evaluator:
    """Asks a model questions about pictures.

    Args:
        model: In eval mode.
        processor: The model's.
        pictures: All that will be asked about.
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
        pictures: Sequence[PictureFile],
        *,
        use_bf16: bool,
        max_new_tokens: int = MAX_NEW_TOKENS,
        journal: Journal | None = None,
    ) -> None:
        self.pictures = [*dict.fromkeys(pictures)]
        self.answerer = Answerer(model, processor, max_new_tokens)
        self.journal = journal
        self.cache = PatchTokenCache(
            token_cache_folder(),
            model.model.vision_encoder,
            processor.image_processor,
            use_bf16=use_bf16,
        )
        fill_or_raise({self.cache: self.pictures}, "the evaluation")
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

    def answer(self, label: str, questions: Sequence[Question]) -> list[str]:
        """Answer questions that are shown in one way; ranks take groups of them in turn.

        After each round all ranks know all its answers, and the first one keeps them.
        """
        if any(shown.way == "low_resolution" for shown, _ in questions):
            _ = self._low_resolution  # all ranks encode before any of them answers
        groups = [questions[start : start + GROUP] for start in range(0, len(questions), GROUP)]
        answers: list[str] = []
        with progress_bar(label, len(questions)) as advance:
            for first in range(0, len(groups), ranks.world_size()):
                own = first + ranks.rank()
                with ranks.synchronized():
                    texts = self._answered(label, own, groups, advance)
                for number, given in enumerate(ranks.all_gather(texts), first):
                    self._keep(label, number, given)
                    answers += given
                    advance(len(given) if number != own else 0)
        return answers

    def latents_of(self, shown: Shown) -> Tensor:
        """Return the latent tokens of a picture as it is shown, [V, T, D_latent]."""
        if shown.picture is None:
            return self.latents.blank
        if shown.way == "low_resolution":
            return self._low_resolution.of(shown.picture)
        latents, blank = self.latents.of, self.latents.blank
        if shown.way == "original":
            return latents(shown.picture)
        if shown.way == "single_view":
            front = self._front()
            alone = blank.clone()
            alone[front] = latents(shown.picture)[front]
            return alone
        if shown.way == "without_view":
            rest = latents(shown.picture).clone()
            rest[shown.number] = blank[shown.number]
            return rest
        if shown.way == "yaw_rotated":
            order = self.answerer.model.config.layout.order_after(shown.number)
            return latents(shown.picture)[list(order)]
        return self._moved(shown.picture, shown)

    def _front(self) -> int:
        """Return which view is nearest to the front."""
        ahead = self.answerer.model.config.perspective.rays(1, 1)[:, 0, 0, 2]
        return int(ahead.round(9).argmax())

    def _moved(self, picture: PictureFile, shown: Shown) -> Tensor:
        """Encode a picture anew as a probe shows it."""
        processor = self.cache.image_processor
        pixels = load_panorama(picture, required_width(processor.layout))
        views = processor(shown.moved(pixels), return_tensors="pt")["pixel_values"][0]
        return self.latents.resampled(self.cache.encode(views))

    @cached_property
    def _low_resolution(self) -> LatentTokens:
        """Those of views cut from panoramas of as many pixels as one view."""
        view_size = self.answerer.model.config.view_size
        transform = ImageTransform("low_resolution", lambda each: low_resolution(each, view_size))
        cache = self.cache.with_transform(transform)
        # What is kept of both stays for now.
        fill_or_raise({self.cache: self.pictures, cache: self.pictures}, "low resolution")
        return LatentTokens(self.answerer.model, cache)

    def _answered(
        self,
        label: str,
        number: int,
        groups: Sequence[Sequence[Question]],
        advance: Callable[[int], None],
    ) -> list[str]:
        """Answer one group, or return what was kept of it; the last ranks may have none."""
        group = groups[number] if number < len(groups) else []
        kept = self.journal.find(label, number) if self.journal else None
        if kept is None:
            load = lru_cache(maxsize=GROUP)(self.latents_of)  # one tensor for each picture shown
            return self.answerer([Prompt(load(shown), prompt) for shown, prompt in group], advance)
        advance(len(kept))
        return kept

    def _keep(self, label: str, number: int, answers: list[str]) -> None:
        is_new = self.journal and answers and self.journal.find(label, number) is None
        if self.journal and is_new and ranks.is_first():
            self.journal.keep(label, number, answers)
