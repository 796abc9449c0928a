"""Stages that train on streams: checks before training, and the dataset."""

from collections.abc import Sequence

from panovlm.data.cache import FeatureSource, PatchTokenCache
from panovlm.data.cache_room import StreamRoom, cache_limit
from panovlm.data.records import Needs
from panovlm.data.samples import Sample, records_of
from panovlm.data.shards import open_stream
from panovlm.data.stream_features import StreamEncoder, as_file
from panovlm.data.streaming import StreamDataset
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration, declare
from panovlm.pictures.panorama import panorama_error
from panovlm.runtime.cached_folders import token_cache_folder
from panovlm.runtime.progress import console
from panovlm.training import ranks
from panovlm.training.data_sources import DataSource
from panovlm.training.stage_data import colour_jitter, record_sampler
from panovlm.training.stage_run import StageRun

HEAD = 64  # examples of every stream that are checked before training


def check_streams(runs: Sequence[StageRun]) -> list[str]:
    """Return a line for each error in the first examples of streams, or in their settings."""
    errors = []
    for run in runs:
        held_out = run.section.overlap_settings.held_out
        if run.is_on_overlaps and held_out:
            errors.append(
                f"stages.{run.name}: found held_out = {held_out} beside a stream, of which no "
                f"share can be set apart; set stages.{run.name}.overlap.held_out: 0"
            )
        if run.section.yaw_steps_per_view > 1:
            errors.append(
                f"stages.{run.name}: found yaw_steps_per_view = {run.section.yaw_steps_per_view} "
                f"beside a stream, whose pictures are encoded once as they arrive; set "
                f"stages.{run.name}.yaw_steps_per_view: 1"
            )
        if run.section.tokens_per_sequence:
            errors.append(
                f"stages.{run.name}: found tokens_per_sequence beside a stream, whose examples are "
                f"not packed; leave it out, or write the records to a file"
            )
        errors += [error for source in run.sources for error in _head_errors(source, run.needs)]
    return errors


def _head_errors(source: DataSource, needs: Needs) -> list[str]:
    try:
        samples = list(open_stream(source.path).head(HEAD))
    except PanoVLMError as error:
        return [str(error)]
    found = [_sample_error(sample, needs, source.declared) for sample in samples] or [
        f"{source.path}: found no example"
    ]
    return [error for error in found if error]


def _sample_error(sample: Sample, needs: Needs, default: Declaration | None) -> str | None:
    try:
        declared = records_of(sample, needs, default)[0].declared
    except PanoVLMError as error:
        return str(error)
    if sample.picture is None:
        return None
    with as_file(sample.picture) as file:
        found = panorama_error(declare(file, declared))
    return found and found.replace(str(file), sample.place)


def stream_dataset(run: StageRun, source: FeatureSource) -> StreamDataset:
    """Return the dataset of a stage on streams, whose pictures are encoded as they arrive.

    Args:
        run: The stage.
        source: The cache of its encoder, or what loads pixels.
    """
    room = StreamRoom.of(token_cache_folder(), cache_limit(), ranks.world_size())
    if isinstance(source, PatchTokenCache):
        console.print(f"{run.name}: a stream, encoded as it arrives and kept in {source.folder}")
    return StreamDataset(
        run.streams,
        StreamEncoder(source, room),
        record_sampler(run),
        longest=run.longest,
        seed=run.recipe.seed,
        batch_size=ranks.batch_size_per_rank(run.section.batch_size),
        rank=(ranks.rank(), ranks.world_size()),
        jitter=colour_jitter(run),
    )
