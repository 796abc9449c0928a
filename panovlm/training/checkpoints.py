"""A stage's checkpoints: where they are, how they are written whole, which one to resume.

A checkpoint is written in `.part`, its files listed with their sizes, all of it synced to the disk,
and only then renamed: a folder named `checkpoint-<step>` whose files match its list is whole. Older
ones are removed after that; the last two stay, and the one that validated best.
"""

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.runtime.files import sync, sync_tree, write_whole
from panovlm.runtime.progress import console
from panovlm.training.disk import disk_errors
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.recipe import Recipe

PARTIAL = ".part"
FILE_SIZES = "files.json"
NUM_KEPT = 2  # should the disk damage the newest, there is one more


def checkpoint_folder(recipe: Recipe, name: str) -> Path:
    """Return the folder of a stage's checkpoints."""
    return recipe.output / "checkpoints" / name


def publish(written: Path, folder: Path, best_step: int | None = None) -> None:
    """Move a checkpoint written in `.part` to the stage's others, then remove the oldest.

    That of `best_step` stays, however old it is.
    """
    files = sorted(path for path in written.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(written)): path.stat().st_size for path in files}
    (written / FILE_SIZES).write_text(json.dumps(sizes, indent=2) + "\n")
    sync_tree(written)
    os.replace(written, folder / written.name)
    sync(folder)
    written.parent.rmdir()
    for checkpoint in whole_checkpoints(folder)[:-NUM_KEPT]:
        if step_of(checkpoint) != best_step:
            shutil.rmtree(checkpoint)


def whole_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints that are as they were written, by step."""
    return sorted(filter(_is_whole, folder.glob("checkpoint-*")), key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the optimiser step that a checkpoint was saved after."""
    return int(checkpoint.name.split("-")[-1])


def _remove_broken(folder: Path) -> None:
    """Remove what a kill left half-written or half-removed, and damaged checkpoints."""
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    for checkpoint in folder.glob("checkpoint-*"):
        if not _is_whole(checkpoint):
            console.print(f"{checkpoint} is not whole, removed")
            shutil.rmtree(checkpoint)


def is_begun(folder: Path, facts: dict[str, Any]) -> bool:
    """Return whether an unfinished run with these facts is there, saved or not yet."""
    settings = folder / STAGE_FACTS
    return settings.is_file() and json.loads(settings.read_text()) == facts


def check_unfinished(
    folder: Path, facts: dict[str, Any], *, resume: bool, but: Collection[str] = ()
) -> None:
    """Refuse to start over, or to continue with other facts, what is not finished.

    Args:
        folder: Of the stage's checkpoints.
        facts: What determines the stage now.
        resume: Whether it is to be continued.
        but: Facts that do not count yet.

    Raises:
        PanoVLMError: If there is an unfinished run, but `resume` is off or its facts differ.
    """
    if not whole_checkpoints(folder):
        return
    settings = folder / STAGE_FACTS
    begun = json.loads(settings.read_text()) if settings.is_file() else {}
    if changed := [key for key in _different(begun, facts) if key not in but]:
        raise PanoVLMError(
            f"the unfinished run in {folder} was started with other settings "
            f"({', '.join(changed)}); continue with the same recipe, or remove that folder to "
            f"start over"
        )
    if not resume:
        raise PanoVLMError(
            f"found an unfinished run in {folder}; add --resume to continue it, or remove that "
            f"folder to start over"
        )


def _different(begun: Any, now: Any, key: str = "") -> list[str]:
    """Return the keys of nested facts whose values differ, as in `section.steps`."""
    if not (isinstance(begun, dict) and isinstance(now, dict)):
        return [] if begun == now else [key]
    keys = dict.fromkeys([*begun, *now])
    pairs = ((begun.get(k), now.get(k), f"{key}.{k}".lstrip(".")) for k in keys)
    return [name for pair in pairs for name in _different(*pair)]


def checkpoint_to_resume(folder: Path, facts: dict[str, Any], *, resume: bool) -> Path | None:
    """Return the checkpoint to resume, if any, and prepare the folder for more of them.

    Raises:
        PanoVLMError: If there is an unfinished run, but `resume` is off or its facts differ.
    """
    last = next(reversed(whole_checkpoints(folder)), None)
    check_unfinished(folder, facts, resume=resume)
    _remove_broken(folder)
    if not last:
        text = json.dumps(facts, indent=2) + "\n"
        with disk_errors(f"write to {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / STAGE_FACTS, lambda partial: partial.write_text(text))
            sync_tree(folder)
    return last


def _is_whole(checkpoint: Path) -> bool:
    try:
        sizes = json.loads((checkpoint / FILE_SIZES).read_text())
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False
