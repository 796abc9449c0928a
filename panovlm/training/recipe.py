"""A recipe: what each stage of a run does, and on which model."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration
from panovlm.stages import STAGES, TRAINED, Objective
from panovlm.training.data_sources import Data, DataSource, sources_of
from panovlm.training.overlap.partners import ray_pairs
from panovlm.training.sections import (
    Count,
    LearningRates,
    LoraSection,
    ModelSection,
    OptimizerSection,
    OverlapSection,
    Schedule,
    Section,
    Share,
    Tracker,
    ValidationSection,
)


class StageSection(Section):
    """One stage of the run."""

    data: Data
    """Records (JSONL) to train on, conversations in another format, or a folder of pictures in the
    stage on overlaps; a list of these, each with a weight and a limit if it is a section; or
    streams: WebDataset shards, as in `shards/train-{000..099}.tar` or with `*`, Parquet files, or a
    folder of the library `datasets`; of several, each with a weight."""
    pictures: Path | None = None
    """Folder that paths of pictures in these data, and in those of `validation`, start from; each
    file's own folder if left out."""
    declared: Declaration | None = None
    """What the pictures are, of records that do not declare it: strips, cylinders, cube maps."""
    steps: Count | None = None
    """Optimiser steps; either these or `epochs`."""
    epochs: Annotated[float, Field(gt=0)] | None = None
    """How often each example is trained on, where its file's weight is 1."""
    validation: ValidationSection | None = None
    """Records that are not trained on, and how often to score the model on them."""
    word_steps: Annotated[int, Field(ge=0)] = 0
    """The first of the steps, in which each image token learns the embedding of the word that a
    listing has for its view, and the language model is not run. For `pooling: slots` in a stage
    without adapters, on listings as `panovlm questions` writes."""
    word_temperature: Annotated[float, Field(gt=0, le=1)] = 0.025
    """Of these steps: a higher one, as 0.1, makes tokens of unsure views more like words."""
    batch_size: Count = 8
    """Panoramas (or texts without one) in one batch, shared by all processes of the run."""
    questions_per_panorama: Count = 8
    """Conversations about one panorama in one sequence (stages with text)."""
    tokens_per_sequence: Count | None = None
    """Pack examples, whole, into sequences of so many tokens: several panoramas with their
    conversations, each computed as if alone. `batch_size` counts sequences then."""
    max_length: Count | None = None
    """Tokens of one conversation at most, image tokens among them; what the language model reads
    if left out."""
    too_long: Literal["error", "truncate", "drop"] = "error"
    """What becomes of longer ones: an error before training, their end cut off, or left out. One
    that would lose image tokens or all that is supervised is left out, too."""
    learning_rate: LearningRates = LearningRates()
    optimizer: OptimizerSection = OptimizerSection()
    schedule: Schedule = "cosine"
    """How the learning rates go on after the warm-up; `constant` has none."""
    schedule_options: Mapping[str, int | float | str] = Field(default_factory=dict)
    """Further settings of the schedule by the library's names, as in `{num_decay_steps: 500}` of
    `warmup_stable_decay`, or `{min_lr_rate: 0.1}` of `cosine_with_min_lr`."""
    warmup: Annotated[float, Field(ge=0)] = 0.05
    """Over which the learning rates rise from 0: a share of the steps below 1, else their number.
    """
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Length that gradients are cut down to; null leaves them as they are."""
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
    colour_jitter: Share = 0.0
    """By what share brightness, contrast and saturation of a panorama change at random, as 0.2, the
    same in all its views. Needs `cache: off`."""
    class_swap: Share = 0.0
    """Share of the examples in which the classes of an encoder of named classes, as `nanodet-g`,
    are others at random, in its tokens and in the text: what is learned of some holds for all."""
    views_as_words: Share = 0.0
    """Share of the examples with a listing in which the words for each view stand in place of its
    image tokens, in the stage with adapters: after steps on words, those learn from words how to
    look something up, and then read image tokens so. For `pooling: slots`."""
    from_backbones: bool = False
    """Begin from the backbones and fresh modules instead of from the stage before."""
    from_run: Path | None = None
    """Folder of another run, as `runs/smollm2`, whose stage before this one begins it."""
    overlap: OverlapSection | None = None
    """What is minimised, in the stage whose objective is on overlaps; left out, its defaults."""
    lora: LoraSection | Literal["auto"] | None = "auto"
    """Adapters in the language model. `auto` gives `finetune` those of the defaults and no other
    stage any; null trains without."""
    train_language_model: bool = False
    """Train the language model as a whole instead of adapters, in the stage that has them."""
    vision_layers: Annotated[int, Field(ge=0)] = 0
    """Last layers of the vision encoder to train, in the stage with adapters."""
    save_steps: Count | None = None
    """Steps between checkpoints, beside those that `save_minutes` and the last step bring."""

    @property
    def sources(self) -> tuple[DataSource, ...]:
        """The entries of `data`, with the stage's declaration where they have none."""
        return sources_of(self.data, self.pictures, self.declared)

    @property
    def overlap_settings(self) -> OverlapSection:
        """`overlap`, or its defaults."""
        return self.overlap or OverlapSection()


class Recipe(Section):
    """Everything that defines a run."""

    base: Path | None = None
    """Another recipe, beside this one's file, whose values hold where this one has none."""
    output: Path
    """Folder of the run."""
    model: ModelSection
    stages: dict[Literal["vision", "resampler", "finetune"], StageSection]
    """What each stage does; keys are the stages' names."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of initial weights, data order and rotations."""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic, also of the frozen weights: `auto` is bf16 where the device is faster at it."""
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    """Of the language model: PyTorch's fused one, or plain products, which return attention weights
    to tools that read them; `auto` takes the faster one."""
    compile: bool = False
    """Whether `torch.compile` fuses the layers of the resampler and the language model: faster on a
    GPU after minutes of compiling; needs a C++ compiler."""
    activation_checkpointing: bool = False
    """Whether to recompute layers in the backward pass instead of keeping their activations: less
    memory, about a third more time."""
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that load patch tokens and text ahead; 0 loads in the training process, which is
    fastest where the CPU trains. `auto` is 0 there, and beside a GPU up to 8. A stream is read in
    the training process unless a number is given, since its order depends on it."""
    cache: Annotated[Literal["auto", "on", "off"], Field(validate_default=True)] = "auto"
    """Whether the frozen encoder's outputs are kept on disk for all epochs and runs, or computed in
    every step. `auto` keeps them where they fit."""
    save_minutes: Annotated[float, Field(gt=0)] = 10.0
    """Minutes of training that a kill costs at most: the time between two checkpoints."""
    report_to: tuple[Tracker, ...] = ()
    """Trackers that get every figure of the log, by the library's own callbacks: their packages
    must be installed (`tensorboard` comes with the extra `logs`)."""
    push_to_hub: str | None = None
    """A name on the Hugging Face Hub, as in `user/model`: every finished stage is uploaded to
    `user/model-<stage>`, which is private if it is new."""

    @field_validator("cache", mode="before")
    @classmethod
    def _read_cache(cls, value: object) -> object:
        """Take the truth values that YAML makes of `on` and `off`."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @field_validator("stages")
    @classmethod
    def _check_stages(
        cls, stages: dict[str, StageSection], info: ValidationInfo
    ) -> dict[str, StageSection]:
        for name, section in stages.items():
            for error in _section_errors(name, section, info.data.get("model")):
                raise ValueError(error)
        return stages

    @field_validator("cache")
    @classmethod
    def _check_cache(cls, cache: str, info: ValidationInfo) -> str:
        for name, section in info.data.get("stages", {}).items():
            if section.colour_jitter and cache != "off":
                raise ValueError(
                    f"found {cache} beside stages.{name}.colour_jitter, which changes pixels in "
                    f"every step; set cache: off, or colour_jitter: 0"
                )
        return cache

    def section(self, name: str) -> StageSection:
        """Return the section of a stage.

        Raises:
            PanoVLMError: If the recipe has none.
        """
        for key, section in self.stages.items():
            if key == name:
                return section
        raise PanoVLMError(f"the recipe has no section stages.{name}; add one to train that stage")


def _section_errors(name: str, section: StageSection, model: ModelSection | None) -> Iterator[str]:
    """Yield what in a stage's section does not suit the stage or the model."""
    stage = STAGES[name]
    if (section.steps is None) == (section.epochs is None):
        found = "neither steps nor epochs" if section.steps is None else "both steps and epochs"
        yield f"found {found} in {name}, expected one of them; set stages.{name}.steps"
    followed = {each.starts_from for each in STAGES.values()}
    if section.vision_layers and name in followed:
        # The next stage starts from the pretrained encoder, and would lose the training.
        last = ", ".join(each for each in STAGES if each not in followed)
        yield (
            f"found vision_layers = {section.vision_layers} in {name}, expected 0 in every stage "
            f"but {last}; move it there"
        )
    if stage.objective is Objective.VICREG_OVERLAP:
        yield from _errors_on_overlaps(name, section, model)
    else:
        yield from _errors_with_text(name, section, model)
    if section.validation:
        yield from _validation_errors(f"stages.{name}.validation", section.validation)
    if section.train_language_model and stage.role("lora") is not TRAINED:
        place = ", ".join(s.name for s in STAGES.values() if s.role("lora") is TRAINED)
        yield f"found train_language_model: true in {name}, expected it in {place}; move it there"
    if section.train_language_model and isinstance(section.lora, LoraSection):
        yield f"found train_language_model: true beside lora in {name}; leave one of them out"
    has_slots = model is None or model.pooling == "slots"
    if section.views_as_words and not (has_slots and _has_adapters(name, section)):
        yield (
            f"found views_as_words = {section.views_as_words} in {name}, expected a stage with "
            f"adapters and model.pooling: slots; set stages.{name}.views_as_words: 0"
        )
    if section.word_steps and (error := _word_steps_error(name, section, model)):
        yield f"found word_steps = {section.word_steps} in {name} {error}"
    if section.from_run and (section.from_backbones or stage.starts_from is None):
        why = "from_backbones: true" if section.from_backbones else "a stage that continues none"
        yield f"found from_run in {name} beside {why}; leave one of them out"
    if section.yaw_steps_per_view > 1 and not section.roll:
        yield (
            f"found yaw_steps_per_view = {section.yaw_steps_per_view} beside roll: false in "
            f"{name}; set roll: true to rotate, or yaw_steps_per_view: 1"
        )


def _errors_with_text(
    name: str, section: StageSection, model: ModelSection | None
) -> Iterator[str]:
    """Yield what does not suit a stage with text."""
    if section.overlap:
        place = ", ".join(
            each.name for each in STAGES.values() if each.objective is Objective.VICREG_OVERLAP
        )
        yield f"found overlap in {name}, whose loss is not on overlaps; move it to {place}"
    if not model or not section.roll:
        return
    if model.pooling == "mean":
        yield (
            f"found roll: true in {name} beside model.pooling: mean, which gives a panorama and "
            f"the yaw-rotated one the same image tokens, and so one input several answers; set "
            f"stages.{name}.roll: false, or another pooling"
        )
    layout = model.views.layout
    if layout.num_strides == 1 and section.yaw_steps_per_view == 1:
        yield (
            f"found roll: true in {name} beside views that no rotation maps to each other "
            f"({layout.describe()}): they must be encoded again for each; set "
            f"stages.{name}.roll: false, or yaw_steps_per_view: 8"
        )


def _errors_on_overlaps(
    name: str, section: StageSection, model: ModelSection | None
) -> Iterator[str]:
    """Yield what does not suit the stage on overlaps, and why it finds no pairs of tokens."""
    if section.tokens_per_sequence:
        yield f"found tokens_per_sequence in {name}, which trains without text; leave it out"
    if section.validation and section.validation.answers:
        key = f"stages.{name}.validation.answers"
        yield f"found {key} in {name}, which has no text; leave it out"
    if isinstance(section.lora, LoraSection):
        yield f"found lora in {name}, which has no language model; leave it out"
    if model is None:
        return
    layout, tokens = model.views.layout, model.resampler
    yield from _overlap_ratio_errors(name, section, model)
    if section.overlap_settings.pairing == "columns" and not layout.is_ring:
        yield (
            f"found pairing: columns in {name} beside views that are no level ring "
            f"({layout.describe()}), of which no columns correspond; set "
            f"stages.{name}.overlap.pairing: rays"
        )
    elif section.overlap_settings.pairing == "rays" and not len(
        ray_pairs(layout, tokens.token_rows, tokens.token_columns).tokens
    ):
        yield (
            f"found no token that two views see ({layout.describe()}) in {name}, expected views "
            f"that overlap; raise model.views.fov_deg, or leave stages.{name} out"
        )


def _overlap_ratio_errors(name: str, section: StageSection, model: ModelSection) -> Iterator[str]:
    """Yield how the views differ from the overlap that a stage was written for."""
    wanted, views = section.overlap_settings.overlap_ratio, model.views
    if wanted is None:
        return
    if not views.layout.is_ring:
        yield (
            f"found stages.{name}.overlap.overlap_ratio beside views that are no level ring, "
            f"expected it to follow from them; leave it out"
        )
    elif abs(views.layout.overlap_ratio - wanted) >= 0.005:
        fov_deg = 360 / views.num_views / (1 - wanted)
        yield (
            f"found stages.{name}.overlap.overlap_ratio = {wanted:g}, but {views.num_views} views "
            f"of {views.fov_deg:g}° share {views.layout.overlap_ratio:.3g} of a view; set "
            f"model.views.fov_deg: {fov_deg:.5g}, another num_views, or leave overlap_ratio out"
        )


def _validation_errors(key: str, validation: ValidationSection) -> Iterator[str]:
    """Yield what in a stage's validation contradicts itself."""
    if (validation.data is None) == (validation.share is None):
        found = "neither data nor share" if validation.data is None else "both data and share"
        yield f"found {found} in {key}, expected one of them; set {key}.share: 0.05"
    if validation.metric == "accuracy" and not validation.answers:
        yield (
            f"found {key}.metric: accuracy without answers; set {key}.answers to a number of "
            f"records, as 200, or {key}.metric: loss"
        )


def _word_steps_error(name: str, section: StageSection, model: ModelSection | None) -> str | None:
    """Return what forbids steps on words in a section; None if nothing does."""
    if STAGES[name].objective is not Objective.NEXT_TOKEN or _has_adapters(name, section):
        return "which has no text, or trains adapters; move it to stage resampler"
    if model and model.pooling != "slots":
        return f"beside model.pooling: {model.pooling}, expected slots; set it, or word_steps: 0"
    if section.schedule != "cosine":
        return f"beside schedule: {section.schedule}, expected cosine; set it, or word_steps: 0"
    if section.tokens_per_sequence:
        return "beside tokens_per_sequence, which packs several panoramas; leave one of them out"
    if section.steps is not None and section.word_steps > section.steps:
        return f"of {section.steps} steps, expected no more; raise stages.{name}.steps"
    return None


def _has_adapters(name: str, section: StageSection) -> bool:
    if section.lora == "auto":
        return STAGES[name].role("lora") is TRAINED
    return section.lora is not None
