"""The sections of a recipe but its stages: strict typed models with their defaults."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from panovlm.geometry.layouts import ViewLayout

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Angles = Annotated[list[float], Field(min_length=4, max_length=4)]
LAYOUT_KEYS = ("pitches_deg", "cubemap", "angles_deg")
"""Keys of views that are no level ring."""
Weight = Annotated[float, Field(ge=0)]
Pairing = Literal["columns", "rays"]
Tracker = Literal["trackio", "tensorboard", "wandb", "mlflow"]
Schedule = Literal[
    "cosine",
    "linear",
    "constant",
    "constant_with_warmup",
    "polynomial",
    "inverse_sqrt",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "warmup_stable_decay",
]
"""Names of the library transformers."""


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ViewsSection(Section):
    """The views cut from every panorama: a ring, rows, a cube or free ones, and a global one."""

    num_views: Annotated[int, Field(ge=2, le=64)] = 8
    """Views of the ring, or of each row of several."""
    fov_deg: Annotated[float, Field(gt=0, lt=180)] = 90.0
    """Field of view of each, in degrees."""
    view_size: Annotated[int, Field(ge=16, le=2048)] = 224
    """Height and width of each view in pixels; most encoders read one size only."""
    pitches_deg: Annotated[list[float], Field(min_length=1, max_length=16)] | None = None
    """Pitch of each row of `num_views` views, as in `[0, 55, -55]`; one level row if left out."""
    cubemap: bool = False
    """The six faces of a cube in place of rows, each `fov_deg` wide."""
    angles_deg: Annotated[list[Angles], Field(min_length=1, max_length=64)] | None = None
    """Free views in place of rows: `[yaw, pitch, roll, field of view]` of each."""
    global_view: bool = False
    """Whether the whole panorama follows the others as one more view."""

    @property
    def layout(self) -> ViewLayout:
        """All views."""
        return ViewLayout.of_settings(**self.model_dump())

    @model_validator(mode="after")
    def _check_layout(self) -> Self:
        _ = self.layout
        return self

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the keys of other layouts: runs from before they came stay the same."""
        return {k: v for k, v in write(self).items() if k not in LAYOUT_KEYS or v}


class ResamplerSection(Section):
    """The module between the vision encoder and the projection."""

    type: Literal["conv", "mlp", "perceiver", "pool"] = "conv"
    """`conv` mixes neighbouring tokens, `mlp` treats each alone, `perceiver` reads by attention,
    `pool` keeps the largest of each feature in a place."""
    num_layers: Annotated[int, Field(ge=0)] = 2
    """Blocks of the resampler."""
    latent_size: Count = 512
    """Width of the latent tokens; a multiple of 8 for `perceiver`."""
    token_rows: Count = 7
    """Rows of latent tokens per view; divides the encoder's rows unless it is `perceiver`."""
    token_columns: Count = 7
    """Columns of latent tokens per view; divides the encoder's unless it is `perceiver`."""
    vicreg_size: Count = 512
    """Width of stage 1's projector."""


class ModelSection(Section):
    """The backbones and what connects them."""

    vision_encoder: str
    """A folder, a hub id, or one of the packaged backbones (`panovlm backbones`)."""
    language_model: str
    """A folder, a hub id, or one of the packaged backbones (`panovlm backbones`)."""
    views: ViewsSection = ViewsSection()
    resampler: ResamplerSection = ResamplerSection()
    pooling: Literal["concat", "mean", "stitch", "slots"] = "concat"
    """How the latent tokens of all views become the image tokens of one panorama. `mean` knows no
    directions: it needs `roll: false` in stages with text."""
    slots: Count = 4
    """Image tokens of each view, for `pooling: slots`."""
    projection: Literal["linear", "mlp"] = "linear"
    """From latent tokens to image tokens: one linear map, or a perceptron whose tokens have the
    length of the language model's own embeddings."""
    view_words: bool = True
    """Whether a direction word stands before each view's tokens."""
    chat_template: Literal["own"] | Path | None = None
    """`own` for the language model's own template, or a Jinja file. By default ChatML where the
    language model knows it, else its own."""


class LoraSection(Section):
    """Low-rank adapters on linear layers of the language model."""

    rank: Count = 16
    """Rank of the adapters."""
    alpha: Count = 32
    """Scale of the adapters: alpha / rank multiplies their output."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the adapters."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get one, as in `[q_proj, k_proj, v_proj, o_proj]`."""
    modules_to_save: tuple[str, ...] = ()
    """Modules of the language model that train as a whole beside the adapters, as in `[norm]`."""
    variant: Literal["lora", "dora", "rslora"] = "lora"
    """`dora` trains the lengths of the weights apart, `rslora` scales by alpha / sqrt(rank)."""
    quantization: Literal["4bit"] | None = None
    """Hold the frozen language model in 4 bits while adapters train (extra `quantized`)."""


class LearningRates(Section):
    """A learning rate for each module that may train."""

    vision_encoder: Rate = 1e-5
    """For its last layers, where they train."""
    resampler: Rate = 1e-3
    """For the resampler."""
    vicreg_projector: Rate = 1e-3
    """For stage 1's head."""
    projection: Rate = 1e-3
    """For the projection and the sphere position."""
    lora: Rate = 2e-4
    """For the adapters."""
    language_model: Rate = 2e-5
    """For the language model itself, where it trains."""


class OptimizerSection(Section):
    """What takes the steps, by the names of the library transformers."""

    type: Literal["adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit", "adafactor"] = "adamw_torch"
    """`adamw_torch_fused` is faster on a GPU, `adamw_bnb_8bit` (extra `quantized`) and `adafactor`
    need less memory."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """AdamW's decay of the averages of the gradient and of its square."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's smallest divisor."""


class VICRegSection(Section):
    """Weights of the terms of VICReg; by default those of the paper."""

    invariance: Weight = 25.0
    """Of the distance of partners, λ."""
    variance: Weight = 25.0
    """Of what the standard deviations lack, μ."""
    covariance: Weight = 1.0
    """Of the squared covariances, ν."""
    gamma: Annotated[float, Field(gt=0)] = 1.0
    """Standard deviation that each dimension is to reach, γ."""


class ValidationSection(Section):
    """Records that a stage does not train on, and what follows from how well it does on them."""

    data: Path | None = None
    """Records, in the formats of those to train on; either these or `share`."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the stage's own panoramas, with all their records, that is validated on instead of
    trained on: with one seed the same panoramas in every stage."""
    every: Count = 100
    """Steps between two validations; the last step has one too."""
    answers: Annotated[int, Field(ge=0)] = 0
    """Records, spread over the file, that are also answered by generation: the share of answers
    that match exactly, up to case and a final stop. In stages with text."""
    metric: Literal["loss", "accuracy"] = "loss"
    """What tells which step is best; `accuracy` needs `answers`."""
    keep: Literal["best", "last"] = "best"
    """The weights that the stage ends with: of the step that validated best, or the last."""
    patience: Count | None = None
    """Validations without a better one that end the stage early; null for never."""


class OverlapSection(Section):
    """What the stage on overlaps minimises, and how held-out panoramas are diagnosed."""

    pairing: Pairing = "columns"
    """Partners among the tokens of overlapping views: `columns` takes the right columns of a view
    in a level ring and the left columns of the next one by one, `rays`, in any layout, what the
    other view shows at exactly each token's ray."""
    objective: Literal["vicreg", "infonce"] = "vicreg"
    """`vicreg` pulls partners together and keeps features spread, `infonce` has each token find its
    partner among others."""
    statistics: Literal["batch", "pair"] = "batch"
    """Variance and covariance of `vicreg`: over the batches of all processes, or of each pair of
    views alone."""
    vicreg: VICRegSection = VICRegSection()
    overlap_ratio: Share | None = None
    """Share of a view that its right neighbour sees too, (fov - stride) / fov. It follows from the
    views; where it is given, they are checked to have it."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.2
    """Of `infonce`; lower puts more weight on the hardest negatives."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the panoramas (at least one) that is diagnosed instead of trained on; 0 for none."""
    diagnose_every: Count = 100
    """Steps between diagnoses of the held-out panoramas; the first and last step have one too."""
