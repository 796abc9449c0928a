"""A recipe: what each stage of a run does, and on which model."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration
from panovlm.stages import STAGES, TRAINED, Objective
from panovlm.training.data_sources import Data, DataSource, sources_of
from panovlm.training.sections import (
    Count,
    LearningRates,
    LoraSection,
    ModelSection,
    OverlapSection,
    Section,
)


class StageSection(Section):
    """One stage of the run."""

    data: Data
    """Records (JSONL) to train on, conversations in another format, or a folder of pictures in the
    stage on overlaps; a list of these, each with a weight and a limit if it is a section; or a
    stream: WebDataset shards, as in `shards/train-{000..099}.tar` or with `*`,
    Parquet files, or a folder of the library `datasets`."""
    declared: Declaration | None = None
    """What the pictures are, of records that do not declare it: strips, cylinders, cube maps."""
    steps: Count
    """Optimiser steps."""
    word_steps: Annotated[int, Field(ge=0)] = 0
    """The first of the steps, in which each image token learns the embedding of the word that a
    listing has for its view, and the language model is not run. For `pooling: slots` in a stage
    without adapters, on listings as `panovlm questions` writes."""
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
    rotated by a third and two thirds of a stride. Each step encodes and caches once more those
    whose records hold responses for it; the others rotate by strides."""
    from_backbones: bool = False
    """Begin from the backbones and fresh modules instead of from the stage before."""
    from_run: Path | None = None
    """Folder of another run, as `runs/smollm2`, whose stage before this one begins it."""
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
    if section.word_steps and (error := _word_steps_error(name, section, model)):
        return f"found word_steps = {section.word_steps} in {name} {error}"
    if section.from_run and (section.from_backbones or STAGES[name].starts_from is None):
        why = "from_backbones: true" if section.from_backbones else "a stage that continues none"
        return f"found from_run in {name} beside {why}; leave one of them out"
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


def _word_steps_error(name: str, section: StageSection, model: ModelSection | None) -> str | None:
    """Return what forbids steps on words in a section; None if nothing does."""
    stage = STAGES[name]
    has_adapters = section.lora is not None
    if section.lora == "auto":
        has_adapters = stage.role("lora") is TRAINED
    if stage.objective is not Objective.NEXT_TOKEN or has_adapters:
        return "which has no text, or trains adapters; move it to stage resampler"
    if model and model.pooling != "slots":
        return f"beside model.pooling: {model.pooling}, expected slots; set it, or word_steps: 0"
    if section.word_steps >= section.steps:
        return f"of {section.steps} steps, expected fewer; raise stages.{name}.steps"
    return None
