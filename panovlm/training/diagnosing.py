"""Diagnoses stage 1 on held-out panoramas while it trains, and stops it if features collapse."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState

from panovlm.data.cache import PatchTokenCache, ViewSource
from panovlm.data.records import Record
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import PictureFile
from panovlm.training import ranks
from panovlm.training.overlap.diagnostics import collapse, diagnose
from panovlm.training.overlap.modeling import PanoVLMForOverlapPretraining

MAX_PICTURES = 64  # that are diagnosed; more would hardly change the figures
BATCH = 8


def hold_out(records: Sequence[Record], share: float, seed: int) -> list[PictureFile]:
    """Sample panoramas that are not trained on.

    Args:
        records: All of the stage.
        share: Of the panoramas, [0, 1); at least one is held out unless it is 0.
        seed: Of the sampling.

    Returns:
        The held-out pictures.

    Raises:
        PanoVLMError: If nothing would be left to train on.
    """
    pictures = list(dict.fromkeys(record.shown for record in records))
    count = max(round(share * len(pictures)), 1) if share else 0
    if count >= len(pictures):
        raise PanoVLMError(
            f"found {len(pictures)} panorama(s), of which {count} would be held out, expected some "
            f"to train on; add panoramas, or lower overlap.held_out (0 holds none out)"
        )
    order = np.random.default_rng(seed).permutation(len(pictures))
    held = {pictures[place] for place in order[:count]}
    return sorted((each for each in held if each), key=lambda each: (Path(each), repr(each)))


@dataclass(eq=False)
class Diagnosis(TrainerCallback):
    """Adds the figures of `diagnose` to the log at the first, each n-th and the last step."""

    scalars: dict[str, list[float]]  # in which the trainer collects what it logs next
    pictures: Sequence[PictureFile]  # held-out panoramas
    source: PatchTokenCache | ViewSource
    every: int  # n, in steps

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Diagnose, log the figures, and stop on a collapse; every rank finds the same."""
        step = state.global_step
        if step != 1 and step % self.every and step != state.max_steps:
            return
        control.should_log = True
        with ranks.synchronized():
            figures = self._figures(kwargs["model"])
            for name, figure in figures.items():
                self.scalars[name].append(figure)
            if cause := collapse(figures):
                raise PanoVLMError(
                    f"the features collapsed at step {step}: on {len(self.pictures)} held-out "
                    f"panorama(s) {cause}; lower learning_rate.resampler and "
                    f"learning_rate.vicreg_projector, raise batch_size or warmup, or check that "
                    f"the panoramas differ"
                )

    @torch.no_grad()
    def _figures(self, model: PanoVLMForOverlapPretraining) -> dict[str, float]:
        was_training = model.training
        model.eval()
        starts = range(0, len(self.pictures), BATCH)
        latents = torch.cat([self._latents(model, start) for start in starts])
        figures = diagnose(latents, model.vicreg_projector(latents), model.pairs("rays"))
        model.train(was_training)
        return figures

    def _latents(self, model: PanoVLMForOverlapPretraining, start: int) -> Tensor:
        pictures = self.pictures[start : start + BATCH]
        views = torch.stack([self.source.load(picture) for picture in pictures])
        return model.latents(**{self.source.key: views.to(model.device)})
