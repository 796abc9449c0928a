"""When checkpoints are asked for: by the clock, by steps, never more often than saving allows."""

import signal
import time

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from panovlm.training.saving import SavePoints, Stopped, StopSignals


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def arguments(tmp_path):
    return TrainingArguments(output_dir=str(tmp_path), use_cpu=True)


def requested(saves, arguments, step):
    """What `saves` asks for at the end of a step: a checkpoint, and to stop."""
    control = TrainerControl()
    saves.on_step_end(arguments, TrainerState(global_step=step), control)
    return control.should_save, control.should_training_stop


def test_a_checkpoint_is_due_when_the_minutes_have_passed(clock, arguments):
    saves = SavePoints(StopSignals(), minutes=1, steps=None)
    saves.on_train_begin(arguments, TrainerState(), TrainerControl())
    due = []
    for second in (30, 61, 62, 119, 122):
        clock[0] = float(second)
        due.append(requested(saves, arguments, 1)[0])
        if due[-1]:
            saves.on_save(arguments, TrainerState(), TrainerControl())
    assert due == [False, True, False, False, True]


def test_slow_saving_takes_a_twentieth_of_the_time_at_most(clock, arguments):
    saves = SavePoints(StopSignals(), minutes=1, steps=None)
    saves.on_train_begin(arguments, TrainerState(), TrainerControl())
    clock[0] = 60.0
    assert requested(saves, arguments, 1)[0]
    clock[0] = 70.0  # saving took ten seconds
    saves.on_save(arguments, TrainerState(), TrainerControl())
    clock[0] = 269.0
    assert not requested(saves, arguments, 2)[0]
    clock[0] = 271.0
    assert requested(saves, arguments, 3)[0]


def test_the_recipes_steps_bring_further_checkpoints(clock, arguments):
    saves = SavePoints(StopSignals(), minutes=1, steps=3)
    saves.on_train_begin(arguments, TrainerState(), TrainerControl())
    assert [requested(saves, arguments, step)[0] for step in range(1, 7)] == [
        False,
        False,
        True,
    ] * 2


@pytest.fixture
def _interrupts():
    """Ctrl-C as in a terminal: what runs in the background may begin with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts")
def test_a_signal_waits_for_the_steps_end_and_a_second_one_does_not(arguments):
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as signals:
        saves = SavePoints(signals, minutes=1, steps=None)
        saves.on_train_begin(arguments, TrainerState(), TrainerControl())
        signal.raise_signal(signal.SIGINT)
        assert requested(saves, arguments, 5) == (True, True)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stopped, match=r"Ctrl-C after step 5, which is saved.*--resume"):
            saves.on_train_end(arguments, TrainerState(global_step=5), TrainerControl())
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_training_a_signal_ends_at_once_with_the_shells_exit_code():
    with StopSignals(), pytest.raises(Stopped, match="stopped by SIGTERM; earlier") as stop:
        signal.raise_signal(signal.SIGTERM)
    assert stop.value.exit_code == 143
