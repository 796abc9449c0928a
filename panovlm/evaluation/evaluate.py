"""Scores a model on records: exact match, the blind baseline, seam stratum, rotation consistency.

A score is a mean over answers that were given; nothing is filled in, and counts stand beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from panovlm.backbones.folders import token_cache_folder
from panovlm.data.cache import PatchTokenCache
from panovlm.data.records import Record, raise_faults
from panovlm.evaluation.answers import MAX_NEW_TOKENS, Answerer, Prompt
from panovlm.metrics.scores import Score, summarise_by
from panovlm.metrics.strata import seam_stratum
from panovlm.model.errors import PanoVLMError
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.model.processing import PanoVLMProcessor
from panovlm.model.vision import encode_views
from panovlm.progress import progress_bar
from panovlm.training.sources import fill_caches


@dataclass(frozen=True)
class Prediction:
    """One answer beside the right one.

    Attributes:
        record: The question, as in the data.
        answer: What the model said.
        turns: Steps the camera had turned right when it was asked.
    """

    record: Record
    answer: str
    turns: int = 0

    @property
    def expected(self) -> str:
        """The right answer as the picture was shown."""
        return self.record.rolled(self.turns).response

    @property
    def is_right(self) -> bool:
        """Exact match up to case, outer space and a final stop."""
        return normalised(self.answer) == normalised(self.expected)


def normalised(text: str) -> str:
    """Give a text without what exact match does not look at."""
    return text.strip().rstrip(".").strip().lower()


class Evaluator:
    """Asks a model the questions of records, on pictures as they are, turned or blanked.

    Args:
        model: In eval mode.
        processor: The model's.
        records: Questions with their right answers.
        use_bf16: Whether the views are encoded in bf16, as they were in training.
        max_new_tokens: Where an answer is cut off.

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
    ) -> None:
        self.records = list(records)
        self.answerer = Answerer(model, processor, max_new_tokens)
        self.cache = PatchTokenCache(
            token_cache_folder(),
            model.model.vision_encoder,
            processor.image_processor,
            use_bf16=use_bf16,
        )
        pictures = [record.picture for record in self.records]
        raise_faults("pictures", fill_caches({self.cache: pictures}, "vision encoder"))

    def predict(self, label: str) -> list[Prediction]:
        """Ask every question about its picture."""
        answers = self._ask(label, self.records, self.cache.load)
        pairs = zip(self.records, answers, strict=True)
        return [Prediction(record, answer) for record, answer in pairs]

    def predict_blind(self, label: str) -> list[Prediction]:
        """Ask every question about a blank picture: what can be guessed without looking."""
        blank = self._blank()
        answers = self._ask(label, self.records, lambda _: blank)
        pairs = zip(self.records, answers, strict=True)
        return [Prediction(record, answer) for record, answer in pairs]

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

    def predict_turned(self, label: str, num_records: int) -> list[Prediction]:
        """Ask questions about pictures turned by every whole stride but 0.

        Args:
            label: Of the progress bar.
            num_records: Records to ask about, spread evenly over those that know their turned
                answers.

        Raises:
            PanoVLMError: Of `check_turnable`.
        """
        self.check_turnable()
        num_views = self.answerer.model.config.num_views
        known = [record for record in self.records if record.knows_turns(num_views)]
        chosen = known[:: max(len(known) // num_records, 1)][:num_records]
        predictions: list[Prediction] = []
        for turns in range(1, num_views):

            def load(picture: Path, turns: int = turns) -> Tensor:
                return self.cache.load(picture).roll(-turns, dims=0)

            answers = self._ask(f"{label} {turns}/{num_views - 1}", chosen, load)
            for record, answer in zip(chosen, answers, strict=True):
                steps = turns * len(record.rolled_responses or ()) // num_views
                predictions.append(Prediction(record, answer, steps))
        return predictions

    def _ask(
        self, label: str, records: Sequence[Record], load: Callable[[Path], Tensor]
    ) -> list[str]:
        """Ask panorama by panorama, some at a time, so that memory stays small."""
        answers: list[str] = []
        with progress_bar(label, len(records)) as advance:
            for start in range(0, len(records), 512):
                group = records[start : start + 512]
                views = {picture: load(picture) for picture in {r.picture for r in group}}
                prompts = [Prompt(views[record.picture], record.prompt) for record in group]
                answers += self.answerer(prompts, advance)
        return answers

    @torch.inference_mode()
    def _blank(self) -> Tensor:
        model = self.answerer.model
        config = model.config
        shape = (config.layout.num_views, 3, config.view_size, config.view_size)
        return encode_views(model.model.vision_encoder, torch.zeros(shape, device=model.device))


def score(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Score predictions by exact match.

    Returns:
        `overall`, `count`; `by_kind` and `count_by_kind`; `seam` and `not_seam` where both strata
        are there; `by_seam_distance` where the direction of what is asked about is known.
    """
    kinds = sorted({p.record.kind or "all" for p in predictions})
    grouped = {k: [p for p in predictions if (p.record.kind or "all") == k] for k in kinds}
    result: dict[str, Any] = {
        "overall": accuracy(predictions),
        "count": len(predictions),
        "by_kind": {kind: accuracy(group) for kind, group in grouped.items()},
        "count_by_kind": {kind: len(group) for kind, group in grouped.items()},
    }
    return result | _seam_strata(predictions) | _seam_distances(predictions)


def accuracy(predictions: Sequence[Prediction]) -> float:
    """Give the share of right answers."""
    return sum(p.is_right for p in predictions) / len(predictions)


def _seam_strata(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Compare questions about objects that cross the seam with those about all other objects."""
    about = [p for p in predictions if p.record.yaw_deg is not None]
    across = [p for p in about if p.record.crosses_seam]
    others = [p for p in about if not p.record.crosses_seam]
    if not across or not others:
        return {}
    return {
        "seam": accuracy(across),
        "not_seam": accuracy(others),
        "count_seam": len(across),
        "count_not_seam": len(others),
    }


def _seam_distances(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Score by how far what is asked about is from the seam, as far as that is known."""
    places = [seam_stratum(p.record.yaw_deg) for p in predictions]
    if not any(places):
        return {}
    groups = summarise_by([Score(float(p.is_right)) for p in predictions], places)
    return {
        "by_seam_distance": {name: group.mean for name, group in groups.items()},
        "count_by_seam_distance": {name: group.count for name, group in groups.items()},
    }
