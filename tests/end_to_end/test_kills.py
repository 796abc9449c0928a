"""A run killed at any moment, on a full disk, or by a signal, goes on as if nothing had been.

The injected errors live here and in `benchmarks/kills.py`, which also kills at random moments: a
process of its own, forked once everything is imported, ends itself before a chosen operation.
"""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import TrainingArguments

from kills import USER_ERROR, Outcome, done, fork, hooked, leftovers, outcome, same
from panovlm.training import assembly, run
from panovlm.training.checkpoints import whole_checkpoints
from panovlm.training.disk import exclusive_lock
from panovlm.training.recipe import Recipe, StageSection
from panovlm.training.sections import ModelSection

STAGES = ("vision",)
WINDOWS = {
    "the facts are written": r"open .*checkpoints/vision/\.stage\.json",
    "pictures are cached": r"os\.rename .*/cache/",
    "the log grows": r"open .*logs/\.vision\.jsonl",
    "a checkpoint begins": r"os\.mkdir .*\.part/checkpoint-4",
    "a checkpoint's last file is written": r"open .*\.part/checkpoint-4/files\.json",
    "a checkpoint is moved to its place": r"os\.rename .*\.part/checkpoint-6",
    "an old checkpoint is removed": r"os\.rmdir .*checkpoint-2$|os\.rmdir checkpoint-2$",
    "the output's last file is written": r"open .*\.vision\.part/stage\.json",
    "the stage becomes finished": r"os\.rename .*checkpoints/vision$",
    "the earlier output makes room": r"os\.rename .*run/vision$",
    "the new output takes its place": r"os\.rename .*run/\.vision\.part",
    "the earlier output is removed": r"os\.rmdir .*\.vision\.replaced",
    "the checkpoints are removed": r"os\.rmdir .*\.vision\.done",
}
WRITES = {
    "the log": r"open .*logs/\.vision\.jsonl",
    "a checkpoint": r"open .*\.part/checkpoint-4/trainer_state\.json",
    "the output": r"open .*\.vision\.part/config\.json",
    "the cache": r"os\.rename .*/cache/",
}


@dataclass
class Finished:
    """A run whose first stage is finished: its folder, its recipe and what came out."""

    folder: Path
    recipe: Recipe
    outcome: Outcome


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, model_section: ModelSection, scenes_file: Path
) -> Finished:
    """Seven steps, checkpoints at every second and at the last."""
    folder = tmp_path_factory.mktemp("finished")
    section = StageSection(data=scenes_file, steps=7, batch_size=2, save_steps=2)
    recipe = Recipe(
        output=folder / "run", model=model_section, stages={"vision": section}, dtype="fp32"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PANOVLM_CACHE", str(folder / "cache"))
        assert done(fork(recipe, STAGES, resume=False)) == 0
    return Finished(folder, recipe, outcome(recipe, STAGES))


@pytest.fixture
def again(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The same run elsewhere, its stage finished, its cache empty."""
    shutil.copytree(finished.folder / "run", tmp_path / "run")
    monkeypatch.setenv("PANOVLM_CACHE", str(tmp_path / "cache"))
    return finished.recipe.model_copy(update={"output": tmp_path / "run"})


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def assert_goes_on(recipe: Recipe, finished: Finished) -> None:
    """The resumed run ends, equals the uninterrupted one and leaves nothing behind."""
    assert done(fork(recipe, STAGES, resume=True)) == 0, said(recipe)
    assert same(outcome(recipe, STAGES), finished.outcome)
    assert not leftovers(recipe.output)


def said(recipe: Recipe) -> str:
    return (recipe.output.parent / "said.txt").read_text()


@pytest.mark.parametrize("pattern", WINDOWS.values(), ids=WINDOWS)
def test_a_kill_while(pattern: str, again: Recipe, finished: Finished) -> None:
    strike = hooked(again.output.parent, 1, pattern, kill)
    assert done(fork(again, STAGES, resume=False, before=strike)) == -signal.SIGKILL, said(again)
    assert_goes_on(again, finished)


@pytest.mark.parametrize("pattern", WRITES.values(), ids=WRITES)
def test_a_disk_full_for(pattern: str, again: Recipe, finished: Finished) -> None:
    strike = hooked(again.output.parent, 1, pattern, fill_disk)
    assert done(fork(again, STAGES, resume=False, before=strike)) == USER_ERROR, said(again)
    assert "No space left on device; make room there" in said(again)
    assert_goes_on(again, finished)


@pytest.mark.parametrize("largest", [10_000, 20_000], ids=["weights", "moments"])
def test_files_too_large_for_the_disk(largest: int, again: Recipe, finished: Finished) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    assert done(fork(again, STAGES, resume=False)) == 0  # the cache's files are larger
    assert done(fork(again, STAGES, resume=False, before=limit)) == USER_ERROR, said(again)
    assert "cannot write a checkpoint to" in said(again)
    assert_goes_on(again, finished)


def test_signals_save_the_step_and_a_second_process_is_refused(
    again: Recipe, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(again.output)
    for received, step in ((signal.SIGTERM, 1), (signal.SIGINT, 3), (signal.SIGUSR1, 5)):
        monkeypatch.setattr(run, "_callbacks", with_signal(run._callbacks, received, step))
        code = done(fork(again, STAGES, resume=True))
        monkeypatch.undo()
        monkeypatch.setenv("PANOVLM_CACHE", str(again.output.parent / "cache"))
        assert code == 128 + received, said(again)
        assert f"after step {step}, which is saved" in said(again)
        folder = again.output / "checkpoints" / "vision"
        assert whole_checkpoints(folder)[-1].name == f"checkpoint-{step}"
    with exclusive_lock(again.output):
        assert done(fork(again, STAGES, resume=True)) == USER_ERROR
    assert "another process trains in" in said(again)
    assert_goes_on(again, finished)


def with_signal(original: Callable[..., Any], received: int, step: int) -> Callable[..., Any]:
    """The callbacks of a run, and one that sends it a signal within a step."""

    class Signal(run.TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == step - 1:
                os.kill(os.getpid(), received)

    return lambda *args, **kwargs: [*original(*args, **kwargs), Signal()]


def test_the_command_line_goes_on_after_sigterm_and_after_a_kill(
    again: Recipe, finished: Finished
) -> None:
    shutil.rmtree(again.output)
    recipe = again.output.parent / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(json.loads(again.model_dump_json())))
    log = again.output / "logs" / "vision.jsonl"
    command = [sys.executable, "-c", "from panovlm.commands.app import main; main()"]
    command += ["train", str(recipe), "--resume"]
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}  # as `finished` had
    for received, lines in ((signal.SIGTERM, 1), (signal.SIGKILL, 3)):
        child = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, **threads}
        )
        while child.poll() is None and len_of(log) < lines:
            time.sleep(0.005)
        child.send_signal(received)
        _, errors = child.communicate(timeout=120)
        if received == signal.SIGTERM:
            assert child.returncode == 128 + received, errors
            assert "panovlm: stopped by SIGTERM after step" in errors
            assert "continue with --resume" in errors
    assert_goes_on(again, finished)


def len_of(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_damaged_checkpoint_is_passed_over(again: Recipe, finished: Finished) -> None:
    strike = hooked(again.output.parent, 1, WINDOWS["the stage becomes finished"], kill)
    done(fork(again, STAGES, resume=False, before=strike))
    newest = whole_checkpoints(again.output / "checkpoints" / "vision")[-1]
    file = newest / "optimizer.pt"
    file.write_bytes(file.read_bytes()[:-1])
    assert_goes_on(again, finished)
    assert "is not whole, removed" in said(again).replace("\n", "")


def test_a_checkpoint_between_two_log_entries_keeps_what_the_next_one_averages(
    again: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    seldom = {"logging_steps": 3, "logging_first_step": False}
    monkeypatch.setattr(assembly, "TrainingArguments", lambda **k: TrainingArguments(**k | seldom))
    assert done(fork(again, STAGES, resume=False)) == 0, said(again)
    uninterrupted = outcome(again, STAGES)
    strike = hooked(again.output.parent, 1, r"open .*\.part/checkpoint-4/files\.json", kill)
    done(fork(again, STAGES, resume=False, before=strike))
    assert done(fork(again, STAGES, resume=True)) == 0, said(again)
    logged = [json.loads(entry)["step"] for entry in uninterrupted["vision"][1].splitlines()]
    assert 4 not in logged
    assert 6 in logged
    assert same(outcome(again, STAGES), uninterrupted)


def test_how_often_a_run_is_saved_may_change_between_its_parts(
    again: Recipe, finished: Finished
) -> None:
    strike = hooked(again.output.parent, 1, WINDOWS["a checkpoint is moved to its place"], kill)
    done(fork(again, STAGES, resume=False, before=strike))
    section = again.stages["vision"].model_copy(update={"save_steps": 5})
    other = again.model_copy(update={"stages": {"vision": section}, "save_minutes": 1e-9})
    assert_goes_on(other, finished)


def test_a_lasting_result_is_never_lost_when_a_stage_is_begun_anew(again: Recipe) -> None:
    pattern = WINDOWS["the new output takes its place"]
    done(fork(again, STAGES, resume=False, before=hooked(again.output.parent, 1, pattern, kill)))
    assert not (again.output / "vision").exists()
    with ExitStack() as stack:  # as every run begins, whatever its stage
        run._prepare_output(again, stack)
    assert (again.output / "vision" / "model.safetensors").is_file()
