"""A stage's progress bar with its latest loss."""

from contextlib import ExitStack
from typing import Any

from transformers import TrainerCallback, TrainerState

from panovlm.runtime.progress import progress_bar


class TrainingBar(TrainerCallback):
    """Shows the steps of a stage and its latest loss; for the first rank alone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stack = ExitStack()

    def __enter__(self) -> "TrainingBar":
        return self

    def __exit__(self, *error: object) -> None:
        """Close the bar, also when training was cut short."""
        self.stack.close()

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Open the bar at the step that training starts from."""
        bar = progress_bar(f"stage {self.name}", state.max_steps)
        self.advance = self.stack.enter_context(bar)
        self.advance(state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Move the bar by one step."""
        self.advance(1)

    def on_log(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Show the latest loss beside the bar."""
        logs = kwargs.get("logs") or {}
        if "loss" in logs:
            self.advance(0, f"loss {logs['loss']:.3f}")
