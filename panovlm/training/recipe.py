"""Recipes: a run's YAML file, read into strict typed models."""

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration
from panovlm.stages import STAGES, Objective
from panovlm.training.data_sources import TAGS, Data, DataSource, sources_of

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Pairing = Literal["columns", "rays"]


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ViewsSection(Section):
    """The views cut from every panorama: a ring, and a global one if wanted."""

    num_views: Annotated[int, Field(ge=2, le=64)] = 8
    """Views of the ring."""
    fov_deg: Annotated[float, Field(gt=0, lt=180)] = 90.0
    """Field of view of each, in degrees."""
    view_size: Annotated[int, Field(ge=16, le=2048)] = 224
    """Height and width of each view in pixels; most encoders read one size only."""
    global_view: bool = False
    """Whether the whole panorama follows the ring as one more view. Needs `roll: false` in every
    stage, and `pairing: rays` in the stage on overlaps."""


class ResamplerSection(Section):
    """The module between the vision encoder and the projection."""

    type: Literal["conv", "mlp", "perceiver"] = "conv"
    """`conv` mixes neighbouring tokens, `mlp` treats each alone, `perceiver` reads by attention."""
    num_layers: Count = 2
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
    view_words: bool = True
    """Whether a direction word stands before each view's tokens."""
    chat_template: Path | None = None
    """A Jinja template with {% generation %} marks; by default ChatML."""


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


class OverlapSection(Section):
    """What the stage on overlaps minimises, and how held-out panoramas are diagnosed."""

    pairing: Pairing = "columns"
    """Partners among the tokens of overlapping views: `columns` takes the right columns of a view
    and the left columns of the next one by one, `rays` what the other view shows at exactly each
    token's ray."""
    objective: Literal["vicreg", "infonce"] = "vicreg"
    """`vicreg` pulls partners together and keeps features spread, `infonce` has each token find its
    partner among others."""
    statistics: Literal["batch", "pair"] = "batch"
    """Variance and covariance of `vicreg`: over the batches of all processes, or of each pair of
    views alone."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.2
    """Of `infonce`; lower puts more weight on the hardest negatives."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the panoramas (at least one) that is diagnosed instead of trained on; 0 for none."""
    diagnose_every: Count = 100
    """Steps between diagnoses of the held-out panoramas; the first and last step have one too."""


class StageSection(Section):
    """One stage of the run."""

    data: Data
    """Records (JSONL) to train on, or a list of such files, each with a weight and a limit if it is
    a section; or a stream: WebDataset shards, as in `shards/train-{000..099}.tar` or with `*`,
    Parquet files, or a folder of the library `datasets`."""
    declared: Declaration | None = None
    """What the pictures are, of records that do not declare it: strips, cylinders, cube maps."""
    steps: Count
    """Optimiser steps."""
    batch_size: Count = 8
    """Panoramas (or texts without one) in one batch, shared by all processes of the run."""
    questions_per_panorama: Count = 8
    """Conversations about one panorama in one sequence (stages with text)."""
    learning_rate: LearningRates = LearningRates()
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps over which the learning rates rise from 0."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """AdamW's, on matrices only."""
    accumulation: Count = 1
    """Batches in one optimiser step. Stages with text train as with one larger batch; VICReg takes
    its statistics of each batch alone."""
    roll: bool = True
    """Rotate each panorama by a random number of strides where its records hold the responses.
    Without effect in the stage on overlaps, whose loss no rotation changes."""
    yaw_steps_per_view: Annotated[int, Field(ge=1, le=16)] = 1
    """Fine steps of a rotation by one stride, where `roll` rotates: with 3, panoramas also come
    rotated by a third and two thirds of a stride. Each step encodes and caches every panorama once
    more; records without responses for fine steps rotate by strides."""
    from_backbones: bool = False
    """Begin from the backbones and fresh modules instead of from the stage before."""
    overlap: OverlapSection | None = None
    """What is minimised, in the stage whose objective is on overlaps; left out, its defaults."""
    lora: LoraSection | Literal["auto"] | None = "auto"
    """Adapters in the language model. `auto` gives `finetune` those of the defaults and no other
    stage any; null trains without."""
    vision_layers: Annotated[int, Field(ge=0)] = 0
    """Last layers of the vision encoder to train, in the stage with adapters."""
    save_steps: Count | None = None
    """Steps between checkpoints, beside those that `save_minutes` and the last step bring."""

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """The entries of `data`, with the stage's declaration where they have none."""
        return sources_of(self.data, self.declared)

    @property
    def overlap_settings(self) -> OverlapSection:
        """`overlap`, or its defaults."""
        return self.overlap or OverlapSection()


class Recipe(Section):
    """Everything that defines a run."""

    output: Path
    """Folder of the run."""
    model: ModelSection
    stages: dict[Literal["vision", "resampler", "finetune"], StageSection]
    """What each stage does; keys are the stages' names."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of initial weights, data order and rotations."""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic, also of the frozen weights: `auto` is bf16 where the device is faster at it."""
    activation_checkpointing: bool = False
    """Whether to recompute layers in the backward pass instead of keeping their activations: less
    memory, about a third more time."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that load patch tokens and text ahead; 0 loads in the training process, which is
    fastest where the CPU trains."""
    save_minutes: Annotated[float, Field(gt=0)] = 10.0
    """Minutes of training that a kill costs at most: the time between two checkpoints."""
    tensorboard: bool = False
    """Whether to write TensorBoard files beside `log.jsonl` (extra `logs`)."""

    @field_validator("stages")
    @classmethod
    def _check_stages(
        cls, stages: dict[str, StageSection], info: ValidationInfo
    ) -> dict[str, StageSection]:
        for name, section in stages.items():
            if error := _section_error(name, section, info.data.get("model")):
                raise ValueError(error)
        return stages

    def section(self, name: str) -> StageSection:
        """Return the section of a stage.

        Raises:
            PanoVLMError: If the recipe has none.
        """
        for key, section in self.stages.items():
            if key == name:
                return section
        raise PanoVLMError(f"the recipe has no section stages.{name}; add one to train that stage")


def _section_error(name: str, section: StageSection, model: ModelSection | None) -> str | None:
    """Return what in a stage's section does not suit the stage or the model; None if all does."""
    followed = {stage.starts_from for stage in STAGES.values()}
    if section.vision_layers and name in followed:
        # The next stage starts from the pretrained encoder, and would lose the training.
        last = ", ".join(stage for stage in STAGES if stage not in followed)
        return (
            f"found vision_layers = {section.vision_layers} in {name}, expected 0 in every stage "
            f"but {last}; move it there"
        )
    on_overlaps = [s.name for s in STAGES.values() if s.objective is Objective.VICREG_OVERLAP]
    if section.overlap and name not in on_overlaps:
        place = ", ".join(on_overlaps)
        return f"found overlap in {name}, whose loss is not on overlaps; move it to {place}"
    if isinstance(section.lora, LoraSection) and name in on_overlaps:
        return f"found lora in {name}, which has no language model; leave it out"
    if model and model.pooling == "mean" and section.roll and name not in on_overlaps:
        return (
            f"found roll: true in {name} beside model.pooling: mean, which gives a panorama and "
            f"the yaw-rotated one the same image tokens, and so one input several answers; set "
            f"stages.{name}.roll: false, or another pooling"
        )
    if section.yaw_steps_per_view > 1 and not section.roll:
        return (
            f"found yaw_steps_per_view = {section.yaw_steps_per_view} beside roll: false in "
            f"{name}; set roll: true to rotate, or yaw_steps_per_view: 1"
        )
    if model is None or not model.views.global_view:
        return None
    if section.roll:
        return (
            f"found roll: true in {name} beside a global view, which cannot be rotated without "
            f"encoding it again; set stages.{name}.roll: false"
        )
    if name in on_overlaps and section.overlap_settings.pairing != "rays":
        return (
            f"found pairing: columns in {name} beside a global view, which has no columns in "
            f"common with the others; set stages.{name}.overlap.pairing: rays"
        )
    return None


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply `key=value` overrides.

    Args:
        path: YAML file.
        overrides: As in `stages.vision.steps=10`; values are YAML.

    Raises:
        PanoVLMError: With every error of the recipe in one message.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PanoVLMError(f"cannot read the recipe {path}: {error}") from error
    except yaml.YAMLError as error:
        raise PanoVLMError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise PanoVLMError(f"{path}: found {type(data).__name__}, expected keys and values")
    for override in overrides or []:
        _apply_override(data, override)
    return parse_recipe(data, str(path))


def parse_recipe(data: dict[str, Any], source: str) -> Recipe:
    """Check plain data as a recipe; `source` names it in errors."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [_explain(error) for error in error.errors()]
        raise PanoVLMError(
            f"{source} has {len(lines)} error(s):\n  " + "\n  ".join(lines)
        ) from None


def recipe_schema() -> str:
    """Return the JSON schema that lets editors complete and check recipes."""
    return json.dumps(Recipe.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, found, value = override.partition("=")
    if not found:
        raise PanoVLMError(f"found -o {override}, expected -o key=value")
    *parents, last = key.split(".")
    for parent in parents:
        section = data.get(parent, {})
        if not isinstance(section, dict):
            raise PanoVLMError(f"-o {override}: {parent} holds a value, expected a section")
        data[parent] = data = dict(section)  # a copy: YAML's anchors share one among several keys
    try:
        data[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise PanoVLMError(f"-o {override}: the value is not YAML: {error}") from error


def _explain(error: Any) -> str:
    """Return one of pydantic's errors as a line with the fix."""
    place = [str(part) for part in error["loc"] if part not in TAGS]
    if place[-1] == "[key]" or error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        keys = [part for part in place if part != "[key]"]
        return f"{'.'.join(keys)}: unknown key{_nearest(keys)}"
    where = ".".join(place)
    if error["type"] == "value_error":
        return f"{where}: {error['ctx']['error']}"
    if error["type"] == "missing":
        return f"{where}: missing, expected a value"
    found = error["input"]
    shown = f"found {found!r}" if not isinstance(found, dict) else "found a section"
    return f"{where}: {shown}, expected: {error['msg']}"


def _nearest(path: list[str]) -> str:
    close = difflib.get_close_matches(path[-1], _known_keys(path[:-1]), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _known_keys(path: list[str]) -> list[str]:
    """Return the keys that the section at a path may have."""
    kind: Any = Recipe
    for key in path:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif key.isdigit():  # no other list has sections
            kind = DataSource
        else:
            kind = kind.model_fields[key].annotation
            if get_origin(kind) is not dict:  # an optional section
                kind = next((part for part in get_args(kind) if _has_keys(part)), kind)
    return list(STAGES) if get_origin(kind) is dict else list(_fields(kind))


def _fields(kind: Any) -> Any:
    return kind.__dataclass_fields__ if kind is Declaration else kind.model_fields


def _has_keys(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel | Declaration)
