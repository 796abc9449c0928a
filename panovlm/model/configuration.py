"""PanoVLMConfig: everything that fixes the architecture and the views it reads."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from panovlm.errors import PanoVLMError
from panovlm.geometry.layouts import ViewLayout
from panovlm.model.efficientnet_lite_configuration import EfficientNetLiteConfig
from panovlm.model.nanodet_configuration import NanoDetConfig
from panovlm.model.vision import token_grid

AutoConfig.register(EfficientNetLiteConfig.model_type, EfficientNetLiteConfig, exist_ok=True)
AutoConfig.register(NanoDetConfig.model_type, NanoDetConfig, exist_ok=True)


@strict
class PanoVLMConfig(PreTrainedConfig):
    """Configuration of a PanoVLM.

    Attributes:
        vision_config: Any vision encoder `AutoModel` can build.
        text_config: Any causal language model `AutoModelForCausalLM` can build.
        image_token_id: Token of the language model that stands where an image token goes.
        num_views: Views of the ring, or of each row of several.
        fov_deg: Field of view of each, 0 < fov < 180.
        pitches_deg: Pitch of each row of views, None for one level row.
        cubemap: Whether the views are the six faces of a cube, `fov_deg` wide, in place of rows.
        angles_deg: In place of rows, yaw, pitch, roll and field of view of each view.
        view_size: Height and width of each view in pixels.
        global_view: Whether the whole panorama follows them as one more view.
        resampler_type: `conv`, `mlp`, `perceiver` or `pool`.
        resampler_layers: Blocks of the resampler, >= 0.
        token_rows: h, rows of latent tokens of a view; divides the encoder's rows, unless the
            resampler is `perceiver`.
        token_columns: w, columns of latent tokens of a view, likewise.
        latent_size: D_latent, width of the resampler; a multiple of 8 for `perceiver`.
        vicreg_size: D_vicreg, width of stage 1's projector, which answering models do not have.
        pooling: Of all views but the global one: `concat` keeps all V·T tokens, `mean` averages the
            views (T tokens), `stitch` drops the whole columns a view of a ring shares with its left
            neighbour, `slots` makes `slots` tokens of each view, every one of which reads the view
            as a whole. All tokens of a global view follow, with `slots` as many as of the others.
            Stitched tokens go once around the sphere, but what is kept of a view is its right part,
            and may still overlap the left neighbour: 8 views of 90° with 7 columns keep 53° each
            for a stride of 45°, columns centred 0°, 16°, 30° and 41° to the right of the direction
            word that stands before them.
        slots: Image tokens of each view where `pooling` is `slots`. A language model copies what
            it reads in order: as many as an answer about one view has words is a good number.
        projection_type: `linear` or `mlp`, from latent tokens to image tokens.
        position_harmonics: Fourier harmonics of yaw and pitch that encode a token's direction.
    """

    model_type = "panovlm"
    sub_configs_defaults = {  # noqa: RUF012  # transformers' protocol
        "vision_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="siglip_vision_model",
            init_kwargs={"vision_use_head": False},
        ),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }
    # The modules outside the language model stay whole under FSDP: they run inside
    # `get_image_features`, before the root's forward would gather them.
    base_model_fsdp_plan = {  # noqa: RUF012  # transformers' protocol
        "vision_encoder": "free_full_weight",
        "resampler": "free_full_weight",
        "projection": "free_full_weight",
    }

    # A dictionary or a configuration when given; always a configuration afterwards.
    vision_config: Any = None
    text_config: Any = None
    image_token_id: int = 0
    num_views: int = 8
    fov_deg: float = 90.0
    view_size: int = 224
    pitches_deg: list[float] | None = None
    cubemap: bool = False
    angles_deg: list[list[float]] | None = None
    global_view: bool = False
    resampler_type: Literal["conv", "mlp", "perceiver", "pool"] = "conv"
    resampler_layers: int = 2
    token_rows: int = 7
    token_columns: int = 7
    latent_size: int = 512
    vicreg_size: int = 512
    pooling: Literal["concat", "mean", "stitch", "slots"] = "concat"
    slots: int = 4
    projection_type: Literal["linear", "mlp"] = "mlp"
    position_harmonics: int = 8
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the sub-configurations; ties follow the language model's own flag."""
        super().__post_init__(**kwargs)
        self.tie_word_embeddings = self.text_config.tie_word_embeddings

    @property
    def perspective(self) -> ViewLayout:
        """All views but the global one."""
        return ViewLayout.of_settings(
            self.num_views,
            self.fov_deg,
            self.view_size,
            pitches_deg=self.pitches_deg,
            cubemap=self.cubemap,
            angles_deg=self.angles_deg,
        )

    @property
    def layout(self) -> ViewLayout:
        """All views, V: those of a ring or another layout, then the global one if there is one."""
        return self.perspective.with_global() if self.global_view else self.perspective

    @property
    def tokens_per_view(self) -> int:
        """T, latent tokens of one view."""
        return self.token_rows * self.token_columns

    @property
    def kept_columns(self) -> int:
        """Token columns of each view but the global one that reach the language model."""
        if self.pooling != "stitch":
            return self.token_columns
        return self.token_columns - self.perspective.overlap_columns(self.token_columns)

    @property
    def image_tokens_per_view(self) -> int:
        """Image tokens of each view but the global one (`mean` has them once for all)."""
        if self.pooling == "slots":
            return self.slots
        return self.token_rows * self.kept_columns

    @property
    def global_image_tokens(self) -> int:
        """Image tokens of the global view, 0 if there is none."""
        whole = self.slots if self.pooling == "slots" else self.tokens_per_view
        return whole if self.global_view else 0

    @property
    def num_image_tokens(self) -> int:
        """Image tokens of one panorama in the language model's sequence."""
        groups = 1 if self.pooling == "mean" else self.perspective.num_views
        return groups * self.image_tokens_per_view + self.global_image_tokens

    def validate_views(self) -> None:
        """Check that the views can be cut, and that stitched ones are a ring that overlaps."""
        _ = self.layout, self.kept_columns

    def validate_token_grid(self) -> None:
        """Check that the resampler's grid divides the encoder's, where blocks are merged."""
        rows, columns = token_grid(self.vision_config, self.view_size)
        if self.resampler_type == "perceiver":
            return
        if rows % self.token_rows or columns % self.token_columns:
            raise PanoVLMError(
                f"found token_rows x token_columns = {self.token_rows} x {self.token_columns}, "
                f"expected divisors of the vision encoder's {rows} x {columns} tokens at view_size "
                f"{self.view_size}; change token_rows, token_columns or view_size"
            )

    def validate_latent_size(self) -> None:
        """Check that the latent tokens divide into attention heads, where there are any."""
        if self.resampler_type == "perceiver" and self.latent_size % 8:
            raise PanoVLMError(
                f"found latent_size = {self.latent_size}, expected a multiple of 8 for the "
                f"resampler 'perceiver', whose heads are 8 to 64 wide; change latent_size"
            )
