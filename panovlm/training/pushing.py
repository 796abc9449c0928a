"""Uploads finished stages to the Hugging Face Hub."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from huggingface_hub import HfApi

from panovlm.errors import PanoVLMError
from panovlm.runtime.progress import console
from panovlm.training.recipe import Recipe


def prepare_repositories(recipe: Recipe, stages: Sequence[str]) -> None:
    """Create what stages will be uploaded to, before hours of training.

    Raises:
        PanoVLMError: If that cannot be done.
    """
    for name in stages if recipe.push_to_hub else ():
        with _hub_errors("create", recipe, name):
            HfApi().create_repo(_repository(recipe, name), private=True, exist_ok=True)


def push_stage(recipe: Recipe, name: str) -> None:
    """Upload a finished stage, if the recipe says so; what is there already is not sent again.

    Raises:
        PanoVLMError: If it cannot be uploaded; the stage stays finished.
    """
    if recipe.push_to_hub is None:
        return
    folder, message = recipe.output / name, f"Stage {name}"
    with _hub_errors(f"upload {folder} to", recipe, name):
        HfApi().upload_folder(
            repo_id=_repository(recipe, name), folder_path=folder, commit_message=message
        )
    console.print(f"{name}: uploaded to {_repository(recipe, name)}")


def _repository(recipe: Recipe, name: str) -> str:
    return f"{recipe.push_to_hub}-{name}"


@contextmanager
def _hub_errors(what: str, recipe: Recipe, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the Hub's errors and those of the network have no common kind
        raise PanoVLMError(
            f"cannot {what} {_repository(recipe, name)}: {error}; log in with `hf auth login`, "
            f"correct push_to_hub, or leave it out; finished stages stay whole, and --resume "
            f"uploads them"
        ) from error
