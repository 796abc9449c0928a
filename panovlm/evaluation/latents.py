"""Latent tokens of panoramas, kept while questions are asked about them again and again.

Encoder and resampler read each view by itself. So a panorama that is yaw-rotated by whole strides
has the same latent tokens in another order, and one with a blank view differs in that view alone.

Shapes: V views, T latent tokens of a view.
"""

from functools import cached_property, lru_cache

import torch
from torch import Tensor

from panovlm.data.cache import PatchTokenCache
from panovlm.inference.likelihood import latents_of
from panovlm.model.modeling import PanoVLMForConditionalGeneration
from panovlm.pictures.declaring import PictureFile

KEPT_BYTES = 256 * 2**20
"""What is kept in memory; beyond it, what was used longest ago is resampled when next asked for."""


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
    def blank(self) -> Tensor:
        """Those of a picture that normalises to 0 everywhere."""
        return blank_latents(self.model)

    @torch.inference_mode()
    def resampled(self, patch_tokens: Tensor) -> Tensor:
        """Compute the latent tokens of one picture's patch tokens [V, S, D_vision]."""
        latents: Tensor = self.model.model.resampler(patch_tokens.to(self.model.device))
        return latents


@torch.inference_mode()
def blank_latents(model: PanoVLMForConditionalGeneration) -> Tensor:
    """Compute the latent tokens of a picture that normalises to 0 everywhere."""
    config = model.config
    shape = (config.layout.num_views, 3, config.view_size, config.view_size)
    return latents_of(model, torch.zeros(shape))
