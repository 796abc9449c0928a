"""The live line of a stage: what is left at the speed of the latest steps."""

from types import SimpleNamespace

import pytest

from panovlm.training import progress


def test_the_time_left_is_that_of_the_latest_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.TrainingBar("resampler") as bar:
        state = SimpleNamespace(global_step=0, max_steps=200)
        bar.on_train_begin(None, state, None)
        for step in range(1, 101):
            now[0] += 1.0 if step <= 80 else 10.0
            state.global_step = step
            bar.on_step_end(None, state, None)
            bar.on_log(None, state, None, logs={"loss": 0.5})
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resampler")]
    assert "step 50 of 200, loss 0.500, 0:02:30 left" in lines[49]
    assert "step 100 of 200, loss 0.500, 0:16:40 left" in lines[99]


def test_a_line_of_a_log_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"loss": 0.5, "panoramas_per_second": 16.6, "tokens_per_second": 6809.0}
    with progress.TrainingBar("a-stage-with-a-name-as-long-as-people-give") as bar:
        bar.on_train_begin(None, SimpleNamespace(global_step=0, max_steps=2000), None)
        bar.on_log(None, SimpleNamespace(global_step=1, max_steps=2000), None, logs=figures)
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if line.startswith("a-stage")]
    assert line.endswith(" left")
    assert len(line) > 80
