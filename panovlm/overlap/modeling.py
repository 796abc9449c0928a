"""PanoVLMForOverlapPretraining: the model of stage 1, which knows no language.

Shape letters: N panoramas, V views, S patch tokens, T = h·w latent tokens of a view.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel
from transformers.modeling_outputs import ModelOutput
from transformers.utils import can_return_tuple

from panovlm.model.configuration import PanoVLMConfig
from panovlm.model.modeling import PanoVLMPreTrainedModel
from panovlm.model.resampler import Resampler
from panovlm.model.vision import patch_tokens_of
from panovlm.overlap.pairs import overlap_pairs
from panovlm.overlap.vicreg import VICRegProjector, effective_rank, vicreg_loss


@dataclass
class OverlapOutput(ModelOutput):
    """What stage 1 returns: the loss, and the scalars worth logging.

    Attributes:
        loss: Weighted sum of the three terms.
        invariance: Mean squared distance of partners.
        variance: Hinge of the std below 1, both sides.
        covariance: Squared off-diagonal covariance, both sides.
        feature_std: Mean std of the projected dimensions; near 0 means collapse.
        effective_rank: Of the projected tokens; near 1 means collapse.
    """

    loss: Tensor | None = None
    invariance: Tensor | None = None
    variance: Tensor | None = None
    covariance: Tensor | None = None
    feature_std: Tensor | None = None
    effective_rank: Tensor | None = None


class OverlapTrunk(PanoVLMPreTrainedModel):
    """Vision encoder and resampler, under the same names as in `PanoVLMModel`."""

    def __init__(self, config: PanoVLMConfig) -> None:
        super().__init__(config)
        self.vision_encoder = AutoModel.from_config(config.vision_config)
        self.resampler = Resampler(config)
        self.post_init()


class PanoVLMForOverlapPretraining(PanoVLMPreTrainedModel):
    """Vision encoder, resampler and VICReg projector, trained on what neighbours share."""

    main_input_name = "pixel_values"
    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012
        r"^lm_head",
        r"^model\.projection\.",
        r"^model\.language_model\.",
    ]

    def __init__(self, config: PanoVLMConfig) -> None:
        super().__init__(config)
        self.shared_columns = config.layout.overlap_columns(config.token_columns)
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
        """Compute VICReg on the overlap of neighbouring views, wrap-around included.

        Args:
            pixel_values: Normalised views [N, V, 3, H, W].
            patch_tokens: Instead, the frozen encoder's output [N, V, S, D_vision].
            return_loss: Of the library's protocol; the loss is always computed.
            **kwargs: Of the library's protocol; unused.
        """
        config, resampler = self.config, self.model.resampler
        tokens = patch_tokens_of(self.model.vision_encoder, pixel_values, patch_tokens)
        latents = resampler(tokens.flatten(0, 1).to(resampler.norm_in.weight.dtype))
        grid = latents.reshape(
            *tokens.shape[:2], config.token_rows, config.token_columns, config.latent_size
        )
        current, following = overlap_pairs(self.vicreg_projector(grid), self.shared_columns)
        terms = vicreg_loss(current, following)
        return OverlapOutput(
            loss=terms.loss,
            invariance=terms.invariance.detach(),
            variance=terms.variance.detach(),
            covariance=terms.covariance.detach(),
            **_health(current.detach()),
        )


def _health(tokens: Tensor) -> dict[str, Tensor]:
    flat = tokens.flatten(0, -2).float()
    rank = torch.tensor(effective_rank(flat))
    return {"feature_std": flat.std(dim=0).mean(), "effective_rank": rank}
