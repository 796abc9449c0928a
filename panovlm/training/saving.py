"""When a checkpoint is saved: by the clock, by the recipe's steps, and before a signal's end.

A save changes nothing of what is trained, so that none of this touches a run's outcome.
"""

import os
import signal
import time
from types import FrameType
from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from panovlm.training import ranks

SIGNALS = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGUSR1: "SIGUSR1",  # what SLURM sends ahead of a time limit: --signal=USR1@120
}
LARGEST_SHARE = 1 / 20
"""Of the time, that saving by the clock may take."""


class Stopped(KeyboardInterrupt):
    """The end of a run that a signal asked for.

    Args:
        received: The signal.
        saved_step: The optimiser step whose checkpoint was just saved, if one was.
    """

    def __init__(self, received: int, saved_step: int | None = None) -> None:
        where = f" after step {saved_step}, which is saved" if saved_step is not None else ""
        name = SIGNALS[signal.Signals(received)]
        super().__init__(
            f"stopped by {name}{where}; earlier stages are whole, continue with --resume"
        )
        self.exit_code = 128 + received


class StopSignals:
    """Within it, a signal that ends a process raises `Stopped`, or waits for a step's end.

    A second one acts as it did before. Signals reach the main thread alone: in another one nothing
    is changed.
    """

    def __init__(self) -> None:
        self.received = 0
        self.is_patient = False
        self.before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        try:
            self.before = {each: signal.signal(each, self._receive) for each in SIGNALS}
        except ValueError:
            self.before = {}
        return self

    def __exit__(self, *error: object) -> None:
        """Give the signals back."""
        for each, handler in self.before.items():
            signal.signal(each, handler)

    def _receive(self, received: int, frame: FrameType | None) -> None:
        self.received = received
        self.__exit__()
        if not self.is_patient:
            raise Stopped(received)
        if ranks.is_first():
            name = SIGNALS[signal.Signals(received)]
            os.write(2, f"\npanovlm: {name}: saving at the end of this step\n".encode())


class SavePoints(TrainerCallback):
    """Asks the trainer for a checkpoint where one is due; the library adds the last step's.

    Args:
        signals: What may end the run.
        minutes: The longest time between two checkpoints; longer where saving itself is so slow
            that it would take more than a twentieth of the time.
        steps: Steps between further checkpoints, if any are wanted.
    """

    def __init__(self, signals: StopSignals, minutes: float, steps: int | None) -> None:
        self.signals = signals
        self.seconds = 60 * minutes
        self.steps = steps
        self.saving_took = 0.0
        self.stops_for = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock; from now on signals wait for a step's end."""
        self.saved = self.step_ended = time.monotonic()
        self.signals.is_patient = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a checkpoint, and for the end where a signal came."""
        self.step_ended = time.monotonic()
        pause = max(self.seconds, self.saving_took / LARGEST_SHARE)
        is_time = self.step_ended - self.saved >= pause
        is_step = self.steps is not None and state.global_step % self.steps == 0
        is_time, self.stops_for = _agreed(is_time, self.signals.received, args.device)
        control.should_save |= is_time or is_step or self.stops_for > 0
        control.should_training_stop |= self.stops_for > 0

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock again."""
        self.saved = time.monotonic()
        self.saving_took = self.saved - self.step_ended

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave if a signal asked for it; from now on signals act at once.

        Raises:
            Stopped: With the step that is saved.
        """
        self.signals.is_patient = False
        if self.stops_for or self.signals.received:
            raise Stopped(self.stops_for or self.signals.received, state.global_step)


def _agreed(is_time: bool, received: int, device: torch.device) -> tuple[bool, int]:
    """Let all processes of a run save, and stop, after the same step."""
    if ranks.number() > 1:
        sampling = torch.tensor([int(is_time), received], device=device)
        distributed.all_reduce(sampling, distributed.ReduceOp.MAX)
        is_time, received = bool(sampling[0]), int(sampling[1])
    return is_time, received
