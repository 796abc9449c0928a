"""PanoVLMForOverlapPretraining: the model of stage 1, without language, and what it minimises.

Shape letters: N panoramas, V views, S patch tokens, T = h·w latent tokens of a view, D_* widths.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import AutoModel
from transformers.modeling_outputs import ModelOutput
from transformers.utils import can_return_tuple

from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.modeling import PanoVLMPreTrainedModel
from panovlm.model.resampler import build_resampler
from panovlm.model.vision import patch_tokens_of
from panovlm.training.overlap.gathering import gather_with_gradient
from panovlm.training.overlap.infonce import infonce_loss
from panovlm.training.overlap.pairs import PairIndex, pair_index
from panovlm.training.overlap.vicreg import (
    VICRegProjector,
    VICRegTerms,
    vicreg_loss,
    vicreg_loss_by_pair,
)
from panovlm.training.sections import OverlapSection, Pairing


@dataclass
class OverlapOutput(ModelOutput):
    """What stage 1 returns: the loss, and the scalars worth logging."""

    loss: Tensor | None = None  # of VICReg the weighted sum of its three terms
    invariance: Tensor | None = None  # mean squared distance of partners
    variance: Tensor | None = None  # hinge of the std below 1, both sides
    covariance: Tensor | None = None  # squared off-diagonal covariance, both sides
    feature_std: Tensor | None = None  # mean of the projected dimensions; near 0 means collapse


class OverlapTrunk(PanoVLMPreTrainedModel):
    """Vision encoder and resampler, under the same names as in `PanoVLMModel`."""

    def __init__(self, config: PanoVLMConfig) -> None:
        super().__init__(config)
        self.vision_encoder = AutoModel.from_config(config.vision_config)
        self.resampler = build_resampler(config)
        self.post_init()


class PanoVLMForOverlapPretraining(PanoVLMPreTrainedModel):
    """Vision encoder, resampler and VICReg projector, trained on what views share.

    Args:
        config: Of the whole model.
        overlap: What to minimise; of training alone, so it is not saved with the model. None for
            the defaults.
    """

    main_input_name = "pixel_values"
    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012
        r"^lm_head",
        r"^model\.projection\.",
        r"^model\.language_model\.",
    ]

    def __init__(self, config: PanoVLMConfig, overlap: OverlapSection | None = None) -> None:
        super().__init__(config)
        self.overlap = overlap or OverlapSection()
        self.model = OverlapTrunk(config)
        self.vicreg_projector = VICRegProjector(config.latent_size, config.vicreg_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        patch_tokens: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> OverlapOutput:
        """Compute the loss on what views share, wrap-around included.

        Args:
            pixel_values: Normalised views [N, V, 3, H, W].
            patch_tokens: Instead, the frozen encoder's output [N, V, S, D_vision].
            return_loss: Of the library's protocol; the loss is always computed.
            **kwargs: Of the library's protocol; unused.
        """
        projected = self.vicreg_projector(self.latents(pixel_values, patch_tokens))
        terms = overlap_loss(projected, self.pairs(), self.overlap)
        spread = projected.detach().flatten(0, 1).float().std(dim=0).mean()
        return OverlapOutput(**terms, feature_std=spread)

    def latents(
        self, pixel_values: Tensor | None = None, patch_tokens: Tensor | None = None
    ) -> Tensor:
        """Return the resampler's tokens [N, V·T, D_latent] of pixels or patch tokens."""
        tokens = patch_tokens_of(self.model.vision_encoder, pixel_values, patch_tokens)
        resampler = self.model.resampler
        latents: Tensor = resampler(tokens.flatten(0, 1))
        return latents.unflatten(0, tokens.shape[:2]).flatten(1, 2)

    def pairs(self, pairing: Pairing | None = None) -> PairIndex:
        """Return the pairs of tokens, by the pairing of the recipe unless another is named.

        Raises:
            PanoVLMError: If the views have no such pairs.
        """
        config = self.config
        grid = (config.token_rows, config.token_columns)
        return pair_index(config.layout, *grid, pairing or self.overlap.pairing, self.device)


def overlap_loss(tokens: Tensor, pairs: PairIndex, overlap: OverlapSection) -> dict[str, Tensor]:
    """Compute the loss of paired tokens.

    Args:
        tokens: Projected tokens of B panoramas, [B, V·T, D].
        pairs: Which of them are partners.
        overlap: What to minimise.

    Returns:
        `loss`, and of VICReg the terms it consists of, detached.
    """
    current, following = pairs.pair(tokens)
    if overlap.objective == "infonce":
        arguments = (pairs.view_pair_ids, pairs.weights, overlap.temperature)
        return {"loss": infonce_loss(current, following, *arguments)}
    over = _vicreg_by_pair if overlap.statistics == "pair" else _vicreg_of_batch
    terms = over(current, following, pairs, overlap.vicreg.gamma)
    parts = {name: each.detach() for name, each in vars(terms).items()}
    return {"loss": terms.loss(overlap.vicreg)} | parts


def _vicreg_of_batch(
    current: Tensor, following: Tensor, pairs: PairIndex, gamma: float
) -> VICRegTerms:
    a, b = (gather_with_gradient(side.flatten(0, 1)) for side in (current, following))
    return vicreg_loss(a, b, pairs.weights.repeat(len(a) // len(pairs.weights)), gamma)


def _vicreg_by_pair(
    current: Tensor, following: Tensor, pairs: PairIndex, gamma: float
) -> VICRegTerms:
    count = len(current)
    return vicreg_loss_by_pair(
        pairs.by_view_pair(current),
        pairs.by_view_pair(following),
        pairs.weights[pairs.slots].repeat(count, 1),
        pairs.present.repeat(count, 1),
        gamma,
    )
