"""Stages that train on streams: what is checked of one before training, and what it trains on."""

from collections.abc import Mapping
from pathlib import Path

from transformers import PreTrainedModel

from panovlm.data.cache_room import StreamRoom, cache_limit
from panovlm.data.datasets import ConversationTokenizer, RecordSampler
from panovlm.data.records import Needs
from panovlm.data.samples import Sample, records_of
from panovlm.data.shards import open_stream
from panovlm.data.stream_features import CachingEncoder, StreamEncoder, as_file
from panovlm.data.streaming import StreamDataset
from panovlm.errors import PanoVLMError
from panovlm.model.processing import PanoVLMProcessor
from panovlm.pictures.panorama import panorama_error
from panovlm.runtime.cached_folders import token_cache_folder
from panovlm.runtime.progress import console
from panovlm.stages import STAGES, Objective, Stage
from panovlm.training import ranks
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.sources import cache_of

HEAD = 64
"""Examples of every stream that are checked before training."""


def check_streams(sections: Mapping[str, StageSection]) -> list[str]:
    """Check the first examples of streams, and that nothing is asked of them that they cannot do.

    Args:
        sections: Stages whose data are streams, by their names.

    Returns:
        A line for each error.
    """
    errors = []
    for name, section in sections.items():
        stage = STAGES[name]
        overlap = section.overlap_settings
        if stage.objective is Objective.VICREG_OVERLAP and overlap.held_out:
            errors.append(
                f"stages.{name}: found held_out = {overlap.held_out} beside a stream, of which no "
                f"share can be set apart; set stages.{name}.overlap.held_out: 0"
            )
        errors += _errors_of_head(section.data, Needs.of(stage.supervision))
    return errors


def _errors_of_head(data: Path, needs: Needs) -> list[str]:
    try:
        samples = list(open_stream(data).head(HEAD))
    except PanoVLMError as error:
        return [str(error)]
    found = [_error_of(sample, needs) for sample in samples] or [f"{data}: found no example"]
    return [error for error in found if error]


def _error_of(sample: Sample, needs: Needs) -> str | None:
    try:
        records_of(sample, needs)
    except PanoVLMError as error:
        return str(error)
    if sample.picture is None:
        return None
    with as_file(sample.picture) as file:
        found = panorama_error(file)
    return found and found.replace(str(file), sample.place)


def stream_dataset(
    recipe: Recipe,
    section: StageSection,
    stage: Stage,
    model: PreTrainedModel,
    processor: PanoVLMProcessor,
    *,
    bf16: bool,
) -> StreamDataset:
    """Give what a stage trains on: its stream, whose pictures are encoded as they come."""
    tokenizer = ConversationTokenizer(processor, stage.supervision)
    return StreamDataset(
        open_stream(section.data),
        _encoder(model, processor, stage, bf16=bf16),
        RecordSampler(tokenizer, section.questions_per_panorama, section.roll),
        longest=model.config.text_config.max_position_embeddings,
        seed=recipe.seed,
        batch_size=ranks.part_of_batch(section.batch_size),
        rank=(ranks.own(), ranks.number()),
    )


def _encoder(
    model: PreTrainedModel, processor: PanoVLMProcessor, stage: Stage, *, bf16: bool
) -> StreamEncoder:
    image_processor = processor.image_processor
    encoder = model.model.vision_encoder
    cache = cache_of(encoder, image_processor, stage.num_vision_layers, bf16=bf16)
    if not cache.can_cut_encoder():
        return StreamEncoder(image_processor)
    room = StreamRoom.of(token_cache_folder(), cache_limit(), ranks.number())
    console.print(f"{stage.name}: a stream, encoded as it comes and kept in {cache.folder}")
    return CachingEncoder(cache, room)
