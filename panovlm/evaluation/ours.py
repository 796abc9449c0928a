"""Asks a model of ours questions: on pictures as they are, rotated, blanked or in part.

Encoder and resampler read each view by itself. So a panorama that is yaw-rotated by whole strides
has the same latent tokens in another order, and one with a blank view differs in that view alone.

Shapes: V views, T latent tokens of a view.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from panovlm.data.cache import ImageTransform, PatchTokenCache
from panovlm.errors import PanoVLMError
from panovlm.evaluation.asking import EvaluationOptions, Evaluator, Question
from panovlm.evaluation.benchmarks.items import Benchmark, Item
from panovlm.evaluation.shown import Shown, low_resolution
from panovlm.geometry.cutting import required_width
from panovlm.geometry.sphere import Pixels
from panovlm.inference.answerer import MAX_NEW_TOKENS, Answerer, LatentQuestion
from panovlm.inference.likelihood import latents_of
from panovlm.inference.loading import load_model, model_folder
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.pictures.declaring import PictureFile
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.arithmetic import Dtype, uses_bf16
from panovlm.runtime.cached_folders import digests_of, token_cache_folder
from panovlm.training import ranks
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.sources import fill_or_raise

GROUP = 256
"""Questions whose patch tokens are in memory at once, and which a kill may cost at most."""
KEPT_BYTES = 256 * 2**20
"""Latent tokens kept in memory; beyond it, what was used longest ago is resampled when asked for
again."""


class LatentTokens:
    """Computes the latent tokens of pictures whose patch tokens a cache holds, and keeps them.

    Args:
        model: In eval mode.
        cache: Filled with the pictures that will be asked for.
    """

    def __init__(self, model: PanoVLMForConditionalGeneration, cache: PatchTokenCache) -> None:
        self.model = model
        config = model.config
        num_numbers = config.layout.num_views * config.tokens_per_view * config.latent_size
        num_kept = KEPT_BYTES // (num_numbers * model.dtype.itemsize)
        keep = lru_cache(maxsize=max(num_kept, 1))
        self._kept = keep(lambda picture: self.resampled(cache.load(picture)))

    def of(self, picture: PictureFile) -> Tensor:
        """Return the latent tokens of a picture, [V, T, D_latent]; not to be changed in place.

        Raises:
            PanoVLMError: If its patch tokens have been taken away since.
        """
        return self._kept(picture)

    @cached_property
    @torch.inference_mode()
    def blank(self) -> Tensor:
        """Those of a picture that normalises to 0 everywhere."""
        config = self.model.config
        shape = (config.layout.num_views, 3, config.view_size, config.view_size)
        return latents_of(self.model, torch.zeros(shape))

    @torch.inference_mode()
    def resampled(self, patch_tokens: Tensor) -> Tensor:
        """Compute the latent tokens of one picture's patch tokens [V, S, D_vision]."""
        latents: Tensor = self.model.model.resampler(patch_tokens.to(self.model.device))
        return latents


class OurEvaluator(Evaluator):
    """Asks a model of ours questions about pictures.

    Args:
        model: In eval mode.
        processor: The model's.
        pictures: All that will be asked about.
        use_bf16: Whether the views are encoded in bf16, as they were in training.
        max_new_tokens: Where an answer is cut off.

    Raises:
        PanoVLMError: Listing every picture that cannot be read.
    """

    group_size = GROUP

    def __init__(
        self,
        model: PanoVLMForConditionalGeneration,
        processor: PanoVLMProcessor,
        pictures: Sequence[PictureFile],
        *,
        use_bf16: bool,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        self.layout, self.perspective = model.config.layout, model.config.perspective
        self.pictures = [*dict.fromkeys(pictures)]
        self.answerer = Answerer(model, processor, max_new_tokens)
        self.cache = PatchTokenCache(
            token_cache_folder(),
            model.model.vision_encoder,
            processor.image_processor,
            use_bf16=use_bf16,
        )
        if self.pictures:
            fill_or_raise({self.cache: self.pictures}, "the evaluation")
        self.latents = LatentTokens(model, self.cache)

    @classmethod
    def load(
        cls, path: Path, benchmark: Benchmark, items: Sequence[Item], options: EvaluationOptions
    ) -> "OurEvaluator":
        """Load a model to ask it questions.

        Args:
            path: Its folder, or a run.
            benchmark: What it is asked.
            items: The questions.
            options: How they are asked.

        Raises:
            PanoVLMError: If there is no model, a picture is invalid, or an option does not apply.
        """
        if options.show != "views" or options.instruction:
            raise PanoVLMError(
                f"found --show {options.show} or --instruction for {path}, which sees the views "
                "that it was trained on; leave them out"
            )
        dtype: Dtype = "bf16" if uses_bf16(options.dtype) else "fp32"
        model, processor = load_model(path, dtype)
        limit = options.max_tokens or benchmark.max_new_tokens or answer_limit(processor, items)
        pictures = [item.picture for item in items]
        evaluator = cls(model, processor, pictures, use_bf16=used_bf16(path), max_new_tokens=limit)
        folder = model_folder(path)
        evaluator.name = str(folder)
        known = {"model": digests_of(folder), "dtype": dtype}
        evaluator.identity = {**known, "max_new_tokens": limit}
        return evaluator

    def answer_groups(
        self, groups: Mapping[int, Sequence[Question]], advance: Callable[[int], None]
    ) -> Iterator[tuple[int, list[str], dict[str, int]]]:
        """Answer groups of questions; ranks take them in turn, and know all answers of a round."""
        if any(shown.way == "low_resolution" for group in groups.values() for shown, _ in group):
            _ = self._low_resolution  # all ranks encode before any of them answers
        numbers = [*groups]
        for first in range(0, len(numbers), ranks.world_size()):
            own = numbers[first + ranks.rank() :][:1]  # the last ranks may have none
            with ranks.synchronized():
                texts = [text for n in own for text in self._answered(groups[n], advance)]
            for number, given in zip(numbers[first:], ranks.all_gather(texts), strict=False):
                yield number, given, {}
                advance(len(given) if number not in own else 0)

    def _answered(self, group: Sequence[Question], advance: Callable[[int], None]) -> list[str]:
        load = lru_cache(maxsize=GROUP)(self.latents_of)  # one tensor for each picture shown
        return self.answerer(
            [LatentQuestion(load(shown), prompt) for shown, prompt in group], advance
        )

    def latents_of(self, shown: Shown) -> Tensor:
        """Return the latent tokens of a picture as it is shown, [V, T, D_latent]."""
        if shown.picture is None:
            return self.latents.blank
        if shown.way == "low_resolution":
            return self._low_resolution.of(shown.picture)
        if shown.is_moved:
            pixels = load_panorama(shown.picture, required_width(self.layout))
            return self.encoded(shown.moved(pixels))
        latents, blank = self.latents.of(shown.picture), self.latents.blank
        views = torch.arange(len(blank), device=blank.device)[:, None, None]
        if shown.way == "single_view":
            return torch.where(views == self._front, latents, blank)
        if shown.way == "without_view":
            return torch.where(views == shown.number, blank, latents)
        if shown.way == "yaw_rotated":
            return latents[list(self.layout.order_after(shown.number))]
        return latents

    @cached_property
    def _front(self) -> int:
        """Which view is nearest to the front."""
        ahead = self.perspective.rays(1, 1)[:, 0, 0, 2]
        return int(ahead.round(9).argmax())

    def encoded(self, panorama: Pixels | Image.Image) -> Tensor:
        """Compute the latent tokens of a panorama that no cache holds, [V, T, D_latent]."""
        process = self.cache.image_processor
        views = process(panorama, strict_aspect=True, return_tensors="pt")["pixel_values"][0]
        return self.latents.resampled(self.cache.encode(views))

    @cached_property
    def _low_resolution(self) -> LatentTokens:
        """Those of views cut from panoramas of as many pixels as one view."""
        model = self.answerer.model
        view_size = model.config.view_size
        transform = ImageTransform("low_resolution", lambda each: low_resolution(each, view_size))
        cache = self.cache.with_transform(transform)
        # What is kept of both stays for now.
        fill_or_raise({self.cache: self.pictures, cache: self.pictures}, "low resolution")
        return LatentTokens(model, cache)


def answer_limit(processor: PanoVLMProcessor, items: Sequence[Item]) -> int:
    """Return where answers to items are cut off, in tokens: never before a correct one ends.

    It lies a quarter behind the longest, so that an answer that goes on is known to be wrong.
    """
    known = ((*item.references, *item.facts.get("rolled_responses", ())) for item in items)
    responses = {text for texts in known for text in texts if text is not None}
    ids = processor.tokenizer(sorted(responses), add_special_tokens=False)["input_ids"]
    return max(MAX_NEW_TOKENS, *(math.ceil(1.25 * len(each)) + 1 for each in ids))


def used_bf16(path: Path) -> bool:
    """Return whether the model was trained on views encoded in bf16; no where nothing tells."""
    facts = model_folder(path) / STAGE_FACTS
    return facts.is_file() and uses_bf16(json.loads(facts.read_text()).get("dtype", "auto"))
