"""Where a stage's checkpoints stand, and which one to continue from."""

import json
from pathlib import Path
from typing import Any

from panovlm.model.errors import PanoVLMError
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.recipe import Recipe


def checkpoint_folder(recipe: Recipe, name: str) -> Path:
    """Give the folder of a stage's checkpoints."""
    return recipe.output / "checkpoints" / name


def last_whole_checkpoint(folder: Path) -> str | None:
    """Give the newest checkpoint whose last file is there: a kill may have cut one short."""
    steps = {
        int(path.parent.name.split("-")[-1]): path.parent
        for path in folder.glob("checkpoint-*/trainer_state.json")
    }
    return str(steps[max(steps)]) if steps else None


def checkpoint_to_resume(
    recipe: Recipe, name: str, facts: dict[str, Any], *, resume: bool
) -> str | None:
    """Find the checkpoint to continue; never mix an unfinished run with another."""
    folder = checkpoint_folder(recipe, name)
    last = last_whole_checkpoint(folder)
    if last and not resume:
        raise PanoVLMError(
            f"found an unfinished run of stage {name!r} in {folder}; add --resume to continue it, "
            f"or remove that folder to begin anew"
        )
    settings = folder / STAGE_FACTS
    if last and json.loads(settings.read_text()) != facts:
        raise PanoVLMError(
            f"the unfinished run in {folder} was started with other settings; continue with the "
            f"same recipe, or remove that folder to begin anew"
        )
    folder.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(facts, indent=2) + "\n")
    return last
