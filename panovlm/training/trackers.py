"""Trackers of experiments: the library's callbacks, told where this run writes and what it is."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import (
    MLflowCallback,
    TensorBoardCallback,
    TrackioCallback,
    WandbCallback,
)

from panovlm.errors import PanoVLMError
from panovlm.training.recipe import Recipe
from panovlm.training.sections import Tracker
from panovlm.training.stage_run import StageRun


def check_trackers(recipe: Recipe) -> None:
    """Check that the trackers of a recipe are installed.

    Raises:
        PanoVLMError: If one is missing.
    """
    for tracker in recipe.report_to:
        if find_spec(tracker) is None:
            raise PanoVLMError(
                f"found report_to with {tracker}, which is not installed; run: pip install "
                f"{tracker}, or leave it out of report_to"
            )


def trackers(run: StageRun) -> list[TrainerCallback]:
    """Return the callbacks of the trackers that a recipe reports to."""
    return [callback for each in run.recipe.report_to for callback in _BUILDERS[each](run)]


class EndTracking(TrainerCallback):
    """Ends a tracker's run with its stage; the library's callback would go on in the next one."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End it."""
        import_module(self.tracker).finish()


def run_name(run: StageRun) -> str:
    """Return the name that trackers show a stage under."""
    return f"{run.recipe.output.name}-{run.name}"


def _tensorboard(run: StageRun) -> list[TrainerCallback]:
    from torch.utils.tensorboard import SummaryWriter

    folder = run.recipe.output / "logs" / "tensorboard" / run.name
    return [TensorBoardCallback(SummaryWriter(str(folder)))]


_BUILDERS: dict[Tracker, Callable[[StageRun], list[TrainerCallback]]] = {
    "tensorboard": _tensorboard,
    "trackio": lambda run: [TrackioCallback(), EndTracking("trackio")],
    "wandb": lambda run: [WandbCallback(), EndTracking("wandb")],
    "mlflow": lambda run: [MLflowCallback()],
}
