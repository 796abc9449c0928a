"""A stage's progress bar with its latest loss."""

from contextlib import ExitStack
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from panovlm.runtime.progress import progress_bar


class TrainingBar(TrainerCallback):
    """Shows the steps of a stage and its latest loss, on the main process only.

    Args:
        name: Of the stage.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stack = ExitStack()

    def __enter__(self) -> "TrainingBar":
        return self

    def __exit__(self, *error: object) -> None:
        """Close the bar, also when training was cut short."""
        self.stack.close()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar at the step that training starts from."""
        if state.is_world_process_zero:
            bar = progress_bar(f"stage {self.name}", state.max_steps)
            self.advance = self.stack.enter_context(bar)
            self.advance(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar by one step."""
        if state.is_world_process_zero:
            self.advance(1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the latest loss beside the bar."""
        if logs and "loss" in logs and state.is_world_process_zero:
            self.advance(0, f"loss {logs['loss']:.3f}")
