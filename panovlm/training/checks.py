"""What is checked before anything is trained: settings, records, pictures and streams."""

from collections.abc import Sequence
from functools import cache

import torch
from transformers import get_scheduler

from panovlm.data.cache_room import NoRoomError
from panovlm.data.record_files import raise_errors
from panovlm.data.records import Needs
from panovlm.data.samples import Sample, records_of
from panovlm.data.shards import open_stream
from panovlm.data.stream_features import as_file
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration, PictureFile, declare
from panovlm.pictures.panorama import panorama_error
from panovlm.runtime.progress import console
from panovlm.training import ranks
from panovlm.training.adapters import check_installed
from panovlm.training.build import check_language_model
from panovlm.training.data_sources import DataSource, check_source
from panovlm.training.recipe import Recipe
from panovlm.training.sources import check_pictures, prepare_pictures
from panovlm.training.stage_run import StageRun
from panovlm.training.trackers import check_trackers

HEAD = 64  # examples of every stream that are checked before training


def check_data(recipe: Recipe, names: list[str]) -> Recipe:
    """Check the records and pictures of all stages, of streams the first, before training.

    Good pictures are encoded on the way, so that each is decoded once. Where a record is invalid,
    pictures are only decoded, as cheaply as possible, to list all errors soon.

    Returns:
        The recipe, with `cache: off` where the encoder's outputs do not fit and need not be kept.

    Raises:
        PanoVLMError: Listing every error of every file.
    """
    runs = [StageRun(recipe, name) for name in names]
    with ranks.synchronized():
        for run in runs:
            _ = run.processor  # refuses chat templates in which no answer is found
            ranks.batch_size_per_rank(run.section.batch_size)
            check_installed(run.lora)
            if run.section.steps is not None:
                check_schedule(run)
        check_trackers(recipe)
        if not all(run.is_on_overlaps for run in runs):
            check_language_model(recipe.model)
    recipe, errors = _check_files(recipe, [run for run in runs if run.record_sources])
    with ranks.synchronized():
        errors += _check_streams([run for run in runs if run.is_stream])
        raise_errors(f"the data of {', '.join(names)}", dict.fromkeys(errors))
    return recipe


def _check_files(recipe: Recipe, runs: Sequence[StageRun]) -> tuple[Recipe, list[str]]:
    check = cache(check_source)  # several stages may read one file
    read = [
        (run, [check(each, run.needs, recipe.seed) for each in run.record_sources]) for run in runs
    ]
    found = [each for _, files in read for each in files]
    findings = dict.fromkeys(finding for each in found for finding in each.findings)
    for finding in findings:
        if not finding.is_error:
            console.print(str(finding), highlight=False, markup=False)
    if errors := [str(finding) for finding in findings if finding.is_error]:
        pictures = dict.fromkeys(picture for each in found for picture in each.pictures)
        return recipe, errors + check_pictures(pictures)
    errors = [str(finding) for each in found for finding in each.contradictions]
    if errors or not runs:
        return recipe, errors
    wanted = [(run, [p for each in files for p in each.pictures]) for run, files in read]
    return _prepare_pictures(recipe, wanted)


def _prepare_pictures(
    recipe: Recipe, wanted: Sequence[tuple[StageRun, list[PictureFile]]]
) -> tuple[Recipe, list[str]]:
    """Encode the pictures of a run ahead, or decide against a cache."""
    without = recipe.model_copy(update={"cache": "off"})
    if recipe.cache == "auto" and ranks.run_on_first(
        lambda: any(run.was_without_cache for run, _ in wanted)
    ):
        return without, prepare_pictures(without, wanted)
    try:
        return recipe, prepare_pictures(recipe, wanted)
    except NoRoomError as error:
        if recipe.cache == "on":
            raise ranks.raise_on_all_ranks(str(error)) from error
        console.print(f"{error}. Until then the encoder runs in every step")
        return without, prepare_pictures(without, wanted)


def check_schedule(run: StageRun) -> None:
    """Check that a stage's schedule takes its options.

    Raises:
        PanoVLMError: If the library refuses them, or the warm-up leaves no step.
    """
    section, key = run.section, f"stages.{run.name}"
    if run.warmup_steps > run.steps:
        raise PanoVLMError(
            f"found {key}.warmup = {section.warmup:g}, more steps than the stage has "
            f"({run.steps}); lower it, or give a share below 1"
        )
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    options = dict(section.schedule_options)
    counts = {"num_warmup_steps": run.warmup_steps, "num_training_steps": run.steps}
    try:
        get_scheduler(section.schedule, optimizer, **counts, scheduler_specific_kwargs=options)
    except (TypeError, ValueError) as error:
        raise PanoVLMError(
            f"{key}.schedule: {section.schedule} does not take schedule_options = {options}: "
            f"{error}; correct {key}.schedule_options"
        ) from error


def _check_streams(runs: Sequence[StageRun]) -> list[str]:
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
