"""One stage of a recipe: its settings, its row of the stage table, and its places on disk."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from panovlm.data.picture_folders import data_digest
from panovlm.data.records import Needs
from panovlm.data.shards import is_stream, open_stream
from panovlm.data.streaming import StreamPart
from panovlm.errors import PanoVLMError
from panovlm.model.processing import PanoVLMProcessor
from panovlm.runtime.arithmetic import uses_bf16
from panovlm.runtime.cached_folders import sha256
from panovlm.stages import STAGES, TRAINED, Objective, Stage
from panovlm.training import ranks
from panovlm.training.build import build_config, build_processor
from panovlm.training.checkpoints import checkpoint_folder
from panovlm.training.data_sources import DataSource, sources_of
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.sections import LoraSection

MOST_WORKERS = 8
"""More would not load faster than a GPU trains."""
ADDED = {
    "epochs": None,
    "tokens_per_sequence": None,
    "max_length": None,
    "too_long": "error",
    "pictures": None,
    "colour_jitter": 0.0,
    "class_swap": 0.0,
    "views_as_words": 0.0,
    "word_temperature": 0.025,
}
"""Keys that are no facts where they hold their default: runs from before they came resume."""
NOT_FACTS = {"save_steps", "lora", "declared", "from_run", "validation", *ADDED}
"""Keys of a section that do not determine the outcome, or are told in other words."""


@dataclass(frozen=True)
class StageRun:
    """The run of the stage `name` of a recipe."""

    recipe: Recipe
    name: str

    @property
    def section(self) -> StageSection:
        """The stage's section of the recipe."""
        return self.recipe.section(self.name)

    @property
    def stage(self) -> Stage:
        """The row of the table, in the variant that the section asks for."""
        stage = STAGES[self.name].with_last_vision_layers(self.section.vision_layers)
        stage = stage.without_lora() if self.lora is None else stage.with_lora()
        stage = stage.with_language_model() if self.section.train_language_model else stage
        return stage.from_backbones() if self.section.from_backbones else stage

    @property
    def lora(self) -> LoraSection | None:
        """The stage's adapters: those of the section, or by default those of the table."""
        if self.section.train_language_model:
            return None
        if self.section.lora != "auto":
            return self.section.lora
        return LoraSection() if STAGES[self.name].role("lora") is TRAINED else None

    @property
    def is_on_overlaps(self) -> bool:
        """Whether the loss is on the overlap of views, without text."""
        return self.stage.objective is Objective.VICREG_OVERLAP

    @cached_property
    def sources(self) -> tuple[DataSource, ...]:
        """What the stage trains on: files of records, or streams.

        Raises:
            PanoVLMError: If they are some of each, or a part of a stream.
        """
        sources = self.section.sources
        streams = [source for source in sources if is_stream(source.path)]
        if streams and (len(streams) < len(sources) or any(each.limit for each in streams)):
            raise PanoVLMError(
                f"stages.{self.name}.data: found the stream {streams[0].path} beside files or with "
                f"a limit, expected streams alone and whole, or files of records (JSONL); leave "
                f"the others out, or write its records to a file"
            )
        return sources

    @cached_property
    def is_stream(self) -> bool:
        """Whether the data are streams."""
        return is_stream(self.sources[0].path)

    @cached_property
    def streams(self) -> list[StreamPart]:
        """The streams of a stage that trains on them."""
        return [StreamPart(open_stream(e.path), e.weight, e.declared) for e in self.sources]

    @property
    def record_sources(self) -> tuple[DataSource, ...]:
        """The files of records that it reads, to train and to validate on.

        Raises:
            PanoVLMError: If it is to be validated on a stream.
        """
        trained_on = () if self.is_stream else self.sources
        validation = self.section.validation
        if validation is None:
            return trained_on
        if validation.data is None and self.is_stream:
            raise PanoVLMError(
                f"stages.{self.name}.validation.share: found a share of a stream, expected a file "
                f"of records; name one as stages.{self.name}.validation.data"
            )
        watched = self.watched_source
        return (*trained_on, watched) if watched else trained_on

    @property
    def watched_source(self) -> DataSource | None:
        """The file of records to validate on; None where there is none, or a share of its own.

        Raises:
            PanoVLMError: If it is a stream.
        """
        section = self.section
        if section.validation is None or section.validation.data is None:
            return None
        if is_stream(section.validation.data):
            raise PanoVLMError(
                f"stages.{self.name}.validation.data: found the stream {section.validation.data}, "
                f"expected a file of records (JSONL); write some of its records to a file"
            )
        (source,) = sources_of(section.validation.data, section.pictures, section.declared)
        return source

    @property
    def warmup_steps(self) -> int:
        """Steps over which the learning rates rise."""
        warmup = self.section.warmup
        return round(warmup * self.steps if warmup < 1 else warmup)

    @property
    def steps(self) -> int:
        """Optimiser steps, once `resolve_steps` has counted those of epochs."""
        if self.section.steps is None:
            raise ValueError(f"found no steps of stage {self.name}, which are counted before it")
        return self.section.steps

    @cached_property
    def processor(self) -> PanoVLMProcessor:
        """Tokenises conversations and cuts views."""
        return build_processor(self.recipe.model)

    @property
    def needs(self) -> Needs:
        """What each of its records must hold."""
        return Needs.of(self.stage.supervision)

    @cached_property
    def longest(self) -> int:
        """The most tokens of a conversation: what the language model reads, or fewer."""
        limit: int = build_config(self.recipe.model).text_config.max_position_embeddings
        return min(limit, self.section.max_length or limit)

    @property
    def num_workers(self) -> int:
        """Processes that load ahead, for each rank."""
        if self.recipe.workers != "auto":
            return self.recipe.workers
        if self.is_stream or not torch.cuda.is_available():
            return 0
        return min(MOST_WORKERS, len(os.sched_getaffinity(0)) // ranks.local_world_size())

    @property
    def was_without_cache(self) -> bool:
        """Whether an earlier start of the stage, unfinished or finished, had no cache."""
        files = (self.checkpoints / STAGE_FACTS, self.output / STAGE_FACTS)
        found = (json.loads(file.read_text()) for file in files if file.is_file())
        return any(facts.get("cache") == "off" for facts in found)

    @property
    def bf16(self) -> bool:
        """Whether to compute in bf16."""
        return uses_bf16(self.recipe.dtype)

    @property
    def output(self) -> Path:
        """The folder of the finished stage."""
        return self.recipe.output / self.name

    @property
    def predecessor(self) -> Path | None:
        """The folder of the stage that this one starts from, in this run or the one named."""
        before = self.stage.starts_from
        return (self.section.from_run or self.recipe.output) / before if before else None

    @property
    def checkpoints(self) -> Path:
        """The folder of the stage's checkpoints."""
        return checkpoint_folder(self.recipe, self.name)

    @property
    def _validation_facts(self) -> dict[str, Any] | None:
        """The settings of the validation; those of runs from before `share` came stay the same."""
        validation = self.section.validation
        if validation is None:
            return None
        return validation.model_dump(mode="json", exclude=None if validation.share else {"share"})

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What determines the stage's outcome: settings, records and the stage before."""
        recipe, section = self.recipe, self.section
        if self.is_stream:
            digests = [part.stream.digest() for part in self.streams]
        else:
            digests = [data_digest(each.path) for each in self.sources]
        before = self.predecessor and self.predecessor / STAGE_FACTS
        facts = [source.facts for source in self.sources]
        return {
            "records": ",".join(digests),
            "starts_from": sha256(before) if before and before.is_file() else None,
            "model": recipe.model.model_dump(mode="json"),
            "section": section.model_dump(mode="json", exclude=NOT_FACTS)
            | {"lora": self.lora and self.lora.model_dump(mode="json")}
            | {"validation": self._validation_facts}
            | section.model_dump(
                mode="json", include={k for k, v in ADDED.items() if getattr(section, k) != v}
            )
            | ({"declared": section.declared.said} if section.declared else {})
            | ({"data": facts} if isinstance(section.data, tuple) else {}),
            "validation": self.watched_source and data_digest(self.watched_source.path),
            "seed": recipe.seed,
            "dtype": recipe.dtype,
        } | ({"cache": "off"} if recipe.cache == "off" else {})
