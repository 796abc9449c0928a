"""Kills a tiny run of three stages at random moments, and compares the resumed one.

    python benchmarks/kills.py --kills 50 --json OUT

The stages train on mixtures of files with weights and are validated, on a file or on a share of
their own panoramas, by loss and by answers; the best step is kept. The last one packs different
panoramas and texts into sequences of a number of tokens.

Each kill is SIGKILL to a process of its own, forked once everything is imported, after a random
share of the run's wall time; those that find the run at its end do not count. With `--every-write
vision`, before each file operation of that stage in turn. Then the run is resumed until it ends.
Weights of all stages and every line of the logs must be, bit by bit, those of the run that nothing
interrupted.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModel, LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from panovlm.errors import PanoVLMError
from panovlm.scenes.generate import write_scenes
from panovlm.stages import STAGES
from panovlm.training.checkpoints import checkpoint_folder, step_of, whole_checkpoints
from panovlm.training.recipe import Recipe
from panovlm.training.recipe_file import parse_recipe
from panovlm.training.run import log_file, train
from panovlm.training.saving import Stopped

USER_ERROR, CRASH = 2, 70
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}
RATES = {"resampler": 1e-3, "projection": 1e-3, "vicreg_projector": 1e-3, "lora": 1e-3}

Outcome = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 if any resumed run differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--every-write", choices=STAGES, help="kill before each file operation")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # a process with threads cannot be forked
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as workplace:
        report = measured(Path(workplace), options)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report["summary"], indent=2))
    summed = report["summary"]
    return int(summed["bit_equal"] < summed["kills"] or summed["lost_checkpoints"] > 0)


def measured(workplace: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Do all kills and return the report."""
    os.environ["PANOVLM_CACHE"] = str(workplace / "cache")
    recipe = tiny_recipe(workplace)
    uninterrupted_seconds(recipe)  # the first run of a machine takes longer than those killed
    expected = outcome(recipe)
    reset(recipe)
    seconds = uninterrupted_seconds(recipe)
    keep = tuple(STAGES)[: tuple(STAGES).index(options.every_write)] if options.every_write else ()
    rng = random.Random(options.seed)
    rows: list[dict[str, Any]] = []
    number = 0
    while True:
        number += 1
        reset(recipe, keep)
        if options.every_write:
            strike: dict[str, Any] = {"operation": number}
            kill = killing_at(number, recipe.output.parent)
            code = done(fork(recipe, resume=bool(keep), before=kill))
        else:
            strike = {"after_s": round(rng.uniform(0, seconds), 3)}
            code = done(fork(recipe, resume=False), strike["after_s"])
        if options.every_write and code == 0:
            break
        rows.append(strike | after_kill(recipe, expected, was_killed=code == -signal.SIGKILL))
        print(rows[-1], flush=True)
        if not options.every_write and summary(rows)["hit_a_living_process"] == options.kills:
            break
    return {"uninterrupted_s": seconds, "rows": rows, "summary": summary(rows)}


def uninterrupted_seconds(recipe: Recipe) -> float:
    """Do the whole run; return how long it took."""
    started = time.perf_counter()
    if done(fork(recipe, resume=False)) != 0:
        sys.exit(f"the uninterrupted run ended early:\n{said(recipe)}")
    return time.perf_counter() - started


def after_kill(recipe: Recipe, expected: Outcome, *, was_killed: bool) -> dict[str, Any]:
    """Return what a kill left, and whether the resumed run equals the uninterrupted one."""
    left = {name: newest(recipe, name) for name in STAGES}
    partial = [str(p.relative_to(recipe.output)) for p in recipe.output.rglob("*.part")]
    code = done(fork(recipe, resume=True))
    return {
        "was_killed": was_killed,
        "checkpoints": {name: step for name, step in left.items() if step},
        "lost_checkpoints": sorted(name for name in STAGES if is_lost(recipe, name, left[name])),
        "half_written": sorted(partial),
        "resumed": code == 0,
        "bit_equal": code == 0 and same(outcome(recipe), expected),
        "left_over": leftovers(recipe.output),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Count over all kills."""
    return {
        "kills": len(rows),
        "hit_a_living_process": sum(row["was_killed"] for row in rows),
        "found_something_half_written": sum(bool(row["half_written"]) for row in rows),
        "resumed": sum(row["resumed"] for row in rows),
        "bit_equal": sum(row["bit_equal"] for row in rows),
        "lost_checkpoints": sum(len(row["lost_checkpoints"]) for row in rows),
        "with_something_left_over": sum(bool(row["left_over"]) for row in rows),
    }


def fork(
    recipe: Recipe,
    stages: Sequence[str] = tuple(STAGES),
    *,
    resume: bool,
    before: Callable[[], object] = lambda: None,
) -> int:
    """Train in a process of its own, whose output goes to `said.txt`; return its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = CRASH
    try:
        said = os.open(recipe.output.parent / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 2)
        sys.stdout = sys.stderr = os.fdopen(said, "w")
        before()
        train(recipe, [*stages], resume=resume)
        code = 0
    except Stopped as stop:
        os.write(2, str(stop).encode())
        code = stop.exit_code
    except PanoVLMError as error:
        os.write(2, str(error).encode())
        code = USER_ERROR
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        sys.stdout.flush()
        os._exit(code)


def done(child: int, kill_after_s: float | None = None) -> int:
    """Wait for a process, or kill it after a time; return its exit code, negative for a signal."""
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def said(recipe: Recipe) -> str:
    """Return what the last process printed."""
    return (recipe.output.parent / "said.txt").read_text()


def killing_at(number: int, root: Path) -> Callable[[], None]:
    """Return a function that has its process killed before the n-th file operation in a folder."""
    return hooked(root, number, "", lambda: os.kill(os.getpid(), signal.SIGKILL))


def hooked(root: Path, number: int, pattern: str, act: Callable[[], None]) -> Callable[[], None]:
    """Return a function that has its process `act` before the n-th matching file operation.

    Args:
        root: Operations on what lies outside are not counted.
        number: Which operation, from 1.
        pattern: Searched in "event path", as in "os.rename /run/.vision.part".
        act: What to do: end the process, or raise.
    """
    left = number

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in EVENTS or not _changes(event, arguments, root):
            return
        if re.search(pattern, f"{event} {arguments[0]}"):
            left -= 1
            if left == 0:
                act()

    return lambda: sys.addaudithook(audit)


def _changes(event: str, arguments: tuple[Any, ...], root: Path) -> bool:
    """Leave out plain reading; `os.open` has no mode and is what comes before an fsync."""
    path = str(arguments[0])
    if event == "open":
        return path.startswith(str(root)) and arguments[1] not in ("r", "rb")
    return path.startswith(str(root)) or not path.startswith("/")  # `rmtree` names relatively


def reset(recipe: Recipe, keep: Sequence[str] = ()) -> None:
    """Remove a run but for the stages to keep, and empty the cache."""
    for path in (*recipe.output.glob("*"), *recipe.output.glob(".*")):
        if path.is_dir() and path.name not in keep:
            shutil.rmtree(path)
    shutil.rmtree(os.environ["PANOVLM_CACHE"], ignore_errors=True)


def newest(recipe: Recipe, name: str) -> int | None:
    """Return the step of a stage's last whole checkpoint."""
    whole = whole_checkpoints(checkpoint_folder(recipe, name))
    return step_of(whole[-1]) if whole else None


def is_lost(recipe: Recipe, name: str, step: int | None) -> bool:
    """Return whether a stage that has logged the step after a save has no checkpoint that new."""
    save_steps, log = recipe.section(name).save_steps, log_file(recipe, name)
    if save_steps is None or not checkpoint_folder(recipe, name).exists() or not log.exists():
        return False
    logged = [json.loads(line)["step"] for line in log.read_text().splitlines()[:-1]]
    return (step or 0) < max(logged, default=0) // save_steps * save_steps


def leftovers(output: Path) -> list[str]:
    """Return what a finished run should not have left."""
    found = [path for path in output.rglob("*") if re.search(r"\.(part|done|replaced)$", path.name)]
    return sorted(str(path) for path in (*found, *output.glob("checkpoints/*")))


def outcome(recipe: Recipe, stages: Sequence[str] = tuple(STAGES)) -> Outcome:
    """Return the weights and the log of every stage."""
    return {
        name: (
            load_file(recipe.output / name / "model.safetensors"),
            log_file(recipe, name).read_text(),
        )
        for name in stages
    }


def same(found: Outcome, expected: Outcome) -> bool:
    """Compare two runs bit by bit, their logs line by line."""
    return all(
        found[name][1] == log
        and found[name][0].keys() == weights.keys()
        and all(torch.equal(found[name][0][key], weights[key]) for key in weights)
        for name, (weights, log) in expected.items()
    )


def tiny_recipe(folder: Path) -> Recipe:
    """Return a recipe on rendered scenes with a tiny encoder and language model, from the tests."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from conftest import TINY, byte_tokenizer, encoder_config

    encoder, language_model = folder / "encoder", folder / "language_model"
    torch.manual_seed(0)
    AutoModel.from_config(encoder_config("siglip")).save_pretrained(encoder)
    statistics = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (encoder / "preprocessor_config.json").write_text(json.dumps(statistics))
    tokenizer = byte_tokenizer()
    sizes = {"intermediate_size": 64, "vocab_size": 300, "max_position_embeddings": 1024}
    special = {"eos_token_id": 2, "bos_token_id": None, "pad_token_id": 0}
    LlamaForCausalLM(LlamaConfig(**TINY, **sizes, **special)).save_pretrained(language_model)
    tokenizer.save_pretrained(language_model)
    write_scenes(folder / "scenes", 7, 1, test_count=1, workers=1, progress=lambda _: None)
    mixture = [
        {"path": str(folder / "scenes" / "train.jsonl"), "weight": 2},
        {"path": str(folder / "scenes" / "train_listings.jsonl"), "weight": 0.5},
        str(write_texts(folder / "texts.jsonl")),
    ]
    stage: dict[str, Any] = {
        "data": mixture,
        "steps": 8,
        "batch_size": 2,
        "questions_per_panorama": 2,
        "learning_rate": RATES,
        "save_steps": 3,
    }
    watched = {"data": str(folder / "scenes" / "test.jsonl"), "every": 2}
    answered = {"validation": watched | {"answers": 2}}
    apart = {"share": 0.3, "every": 2}
    model = {
        "vision_encoder": str(encoder),
        "language_model": str(language_model),
        "views": {"num_views": 4, "fov_deg": 120.0, "view_size": 32},
        "resampler": {
            "num_layers": 1,
            "latent_size": 16,
            "token_rows": 2,
            "token_columns": 4,
            "vicreg_size": 24,
        },
    }
    stages = {
        "vision": stage | {"steps": 20, "data": mixture[:2], "validation": apart},
        "resampler": stage | answered | {"accumulation": 2},
        "finetune": stage
        | {"validation": apart | {"answers": 2}}
        | {"lora": {"rank": 2, "dropout": 0.1}, "tokens_per_sequence": 600},
    }
    run = {"output": str(folder / "run"), "model": model, "stages": stages, "dtype": "fp32"}
    return parse_recipe(run, "the tiny recipe")


def write_texts(file: Path) -> Path:
    """Write conversations without a picture."""
    pairs = [("Name a colour.", "red"), ("Name a shape.", "cone"), ("Say yes.", "yes")]
    roles = ("user", "assistant")
    lines = [
        json.dumps({"messages": [{"role": r, "content": c} for r, c in zip(roles, p, strict=True)]})
        for p in pairs
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


if __name__ == "__main__":
    sys.exit(main())
