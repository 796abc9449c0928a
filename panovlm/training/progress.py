"""A stage's progress: steps and time left, the latest loss and the speed."""

import time
from collections import deque
from contextlib import ExitStack
from typing import Any

from transformers import TrainerCallback, TrainerState

from panovlm.runtime.progress import console, progress_bar
from panovlm.training.log import VALIDATION_ACCURACY, VALIDATION_LOSS

SHOWN = {
    "loss": "loss {:.3f}",
    "panoramas_per_second": "{:.3g} panoramas/s",
    "tokens_per_second": "{:,.0f} tokens/s",
    VALIDATION_LOSS: "validation {:.3f}",
    VALIDATION_ACCURACY: "accuracy {:.1%}",
}
"""Figures of the log that are shown, and how."""
NUM_MARKS = 8
"""Entries of the log over which speed is measured: steps may become slower within a stage."""


class TrainingBar(TrainerCallback):
    """Shows a live bar on a terminal, elsewhere a line for each entry of the log.

    For the first rank alone.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stack = ExitStack()
        self.figures: dict[str, str] = {}

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
        self.marks = deque([(state.global_step, time.monotonic())], maxlen=NUM_MARKS)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Move the bar by one step."""
        self.advance(1)

    def on_log(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Show the latest figures beside the bar, or on a line of their own."""
        logs = kwargs.get("logs") or {}
        found = {name: form.format(logs[name]) for name, form in SHOWN.items() if name in logs}
        self.figures |= found
        if not found:
            return
        self.advance(0, ", ".join(self.figures.values()))
        if not console.is_terminal:
            place = f"step {state.global_step} of {state.max_steps}"
            figures = [*found.values(), self._left(state)]
            console.print(f"{self.name}: {place}, {', '.join(figures)}", highlight=False)

    def _left(self, state: TrainerState) -> str:
        """Return how long the steps that are left will take, as fast as the latest ones."""
        first, began = self.marks[0]
        now, done = time.monotonic(), max(state.global_step - first, 1)
        self.marks.append((state.global_step, now))
        seconds = (now - began) / done * (state.max_steps - state.global_step)
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{rest:02} left"
