"""Asks a model the questions of records: on pictures as they are, turned, blanked or in part."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from panovlm.backbones.folders import token_cache_folder
from panovlm.data.cache import PatchTokenCache
from panovlm.data.records import Record, raise_faults
from panovlm.evaluation.answers import MAX_NEW_TOKENS, Answerer, Prompt
from panovlm.evaluation.journal import Journal
from panovlm.evaluation.scoring import Prediction
from panovlm.evaluation.squeezing import squeezed
from panovlm.model.errors import PanoVLMError
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.model.vision import encode_views
from panovlm.progress import progress_bar
from panovlm.training.sources import fill_caches

GROUP = 256
"""Questions whose patch tokens are in memory at once, and which a kill may cost at most."""

Load = Callable[[Path], Tensor]


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
        raise_faults("pictures", fill_caches({self.cache: pictures}, "vision encoder"))

    @property
    def num_views(self) -> int:
        """Views of the model's ring."""
        num_views: int = self.answerer.model.config.num_views
        return num_views

    def predict(self, label: str) -> list[Prediction]:
        """Ask every question about its picture."""
        return self._predict(label, self.records, self.cache.load)

    def predict_blind(self, label: str) -> list[Prediction]:
        """Ask every question about a blank picture: what can be guessed without looking."""
        blank = self._blank()
        return self._predict(label, self.records, lambda _: blank)

    def predict_single_view(self, label: str) -> list[Prediction]:
        """Ask every question with all views blank but the one to the front."""
        blank = self._blank()

        def load(picture: Path) -> Tensor:
            return torch.cat([self.cache.load(picture)[:1], blank[1:].to(torch.float16).cpu()])

        return self._predict(label, self.records, load)

    def predict_squeezed(self, label: str) -> list[Prediction]:
        """Ask every question with views cut from a panorama of as many pixels as one view."""
        return self._predict(label, self.records, self._load_squeezed)

    def predict_without_view(
        self, label: str, records: Sequence[Record], view: int
    ) -> list[Prediction]:
        """Ask questions about pictures of which one view of the ring is blank."""
        blank = self._blank()[view].to(torch.float16).cpu()

        def load(picture: Path) -> Tensor:
            views = self.cache.load(picture).clone()
            views[view] = blank
            return views

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
        return [i for i, record in enumerate(self.records) if record.knows_turns(self.num_views)]

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
            return self.cache.load(picture).roll(-strides, dims=0)

        answers = self._ask(label, records, load)
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
        """Ask panorama by panorama, a group at a time, so that memory stays small."""
        answers: list[str] = []
        with progress_bar(label, len(records)) as advance:
            for number, start in enumerate(range(0, len(records), GROUP)):
                group = records[start : start + GROUP]
                kept = self.journal.find(label, number) if self.journal else None
                if kept is None:
                    views = {picture: load(picture) for picture in {r.picture for r in group}}
                    prompts = [Prompt(views[record.picture], record.prompt) for record in group]
                    kept = self.answerer(prompts, advance)
                    if self.journal:
                        self.journal.keep(label, number, kept)
                else:
                    advance(len(group))
                answers += kept
        return answers

    @torch.inference_mode()
    def _blank(self) -> Tensor:
        model = self.answerer.model
        config = model.config
        shape = (config.layout.num_views, 3, config.view_size, config.view_size)
        return encode_views(model.model.vision_encoder, torch.zeros(shape, device=model.device))

    @torch.inference_mode()
    def _load_squeezed(self, picture: Path) -> Tensor:
        model, image_processor = self.answerer.model, self.cache.image_processor
        small = squeezed(picture, model.config.view_size)
        views = image_processor(small, return_tensors="pt")["pixel_values"][0]
        tokens = encode_views(model.model.vision_encoder, views.to(model.device))
        return tokens.to(torch.float16).cpu()


def drawn(places: Sequence[int], count: int, seed: int) -> list[int]:
    """Draw `count` of the places (all, if there are no more), and give them in order."""
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    return sorted(places[i] for i in chosen)
