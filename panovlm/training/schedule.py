"""Checks a stage's schedule by building it, before anything is trained."""

import torch
from transformers import get_scheduler

from panovlm.errors import PanoVLMError
from panovlm.training.stage_run import StageRun


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
