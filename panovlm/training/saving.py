"""When a checkpoint is saved: by time, by the recipe's steps, and before a signal ends the run.

None of this changes the outcome of a run.
"""

import os
import signal
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from panovlm.training import ranks

SIGNALS = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGUSR1: "SIGUSR1",  # what SLURM sends ahead of a time limit: --signal=USR1@120
}
MAX_SAVING_SHARE = 1 / 20
"""Of the time, for saving by time."""


class Stopped(KeyboardInterrupt):
    """The end of a run after a signal, with the step of the checkpoint just saved, if one was."""

    def __init__(self, received: int, saved_step: int | None = None) -> None:
        where = f" after step {saved_step}, which is saved" if saved_step is not None else ""
        name = SIGNALS[signal.Signals(received)]
        resume = "earlier stages are whole, continue with --resume"
        super().__init__(f"stopped by {name}{where}; {resume}")
        self.exit_code = 128 + received


class StopSignals:
    """A context in which a signal that ends a process raises `Stopped`, or waits for a step's end.

    A second signal acts as it did before. Signals reach the main thread alone: in another thread
    the context does nothing.
    """

    def __init__(self) -> None:
        self.received = 0
        self.waits_for_step = False
        self.before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        try:
            self.before = {each: signal.signal(each, self._receive) for each in SIGNALS}
        except ValueError:
            self.before = {}
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the handlers of before."""
        for each, handler in self.before.items():
            signal.signal(each, handler)

    def _receive(self, received: int, frame: FrameType | None) -> None:
        self.received = received
        self.__exit__()
        if not self.waits_for_step:
            raise Stopped(received)
        if ranks.is_first():
            name = SIGNALS[signal.Signals(received)]
            os.write(2, f"\npanovlm: {name}: saving at the end of this step\n".encode())


@dataclass(eq=False)
class SavePoints(TrainerCallback):
    """Requests a checkpoint from the trainer when one is due; the library adds the last step's."""

    signals: StopSignals
    minutes: float  # between two checkpoints; more where saving would take too much of the time
    steps: int | None  # between further checkpoints, if any are wanted
    saving_took: float = 0.0
    stop_signal: int = 0
    asked: ranks.PendingMax | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Start measuring time; from now on signals wait for a step's end."""
        self.saved = self.step_ended = time.monotonic()
        self.signals.waits_for_step = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Request a checkpoint when one is due, and the end after a signal."""
        self.step_ended = time.monotonic()
        pause = max(60 * self.minutes, self.saving_took / MAX_SAVING_SHARE)
        is_time = self.step_ended - self.saved >= pause
        is_step = self.steps is not None and state.global_step % self.steps == 0
        # All ranks save, and stop, after the same step: one after that in which one of them asks.
        asked = ranks.PendingMax([int(is_time), self.signals.received], args.device)
        read = self.asked if asked.is_shared and self.asked is not None else asked
        self.asked = asked
        saves_by_time, self.stop_signal = read.values
        control.should_save |= saves_by_time > 0 or is_step or self.stop_signal > 0
        control.should_training_stop |= self.stop_signal > 0

    def on_save(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Restart measuring time."""
        self.saved = time.monotonic()
        self.saving_took = self.saved - self.step_ended

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """End the run after a signal; from now on signals act at once.

        Raises:
            Stopped: With the step that is saved.
        """
        self.signals.waits_for_step = False
        self.stop_signal = max(self.stop_signal, self.asked.values[1] if self.asked else 0)
        if self.stop_signal or self.signals.received:
            raise Stopped(self.stop_signal or self.signals.received, state.global_step)
