"""What `panovlm cache` shows and removes."""

from datetime import UTC, datetime

from panovlm.data.cache_room import GB, folders_of, gigabytes, remove_oldest, remove_unused
from panovlm.runtime.cached_folders import token_cache_folder
from panovlm.runtime.progress import console, show_table


def show_cache() -> None:
    """Print a table of the folders, the one used last first, and how much they take together."""
    root = token_cache_folder()
    folders = folders_of(root)
    header = ["folder", "encoder", "views", "pictures", "size", "last used"]
    rows = [
        [
            folder.path.name,
            folder.encoder,
            folder.views,
            f"{folder.num_pictures:,}",
            gigabytes(folder.num_bytes),
            datetime.fromtimestamp(folder.used, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        ]
        for folder in folders
    ]
    if rows:
        show_table("outputs of frozen vision encoders", header, rows)
    total = gigabytes(sum(folder.num_bytes for folder in folders))
    console.print(f"{root} holds {total}", highlight=False, soft_wrap=True)


def prune_cache(*, limit_gb: float | None, older_than_days: float | None) -> str:
    """Remove files by one rule and say how many.

    Args:
        limit_gb: Gigabytes to keep, of the files used last.
        older_than_days: Instead, remove what no run has used for so many days.
    """
    root = token_cache_folder()
    if older_than_days is not None:
        removed = remove_unused(root, older_than_days)
    else:
        removed = remove_oldest(root, int((limit_gb or 0) * GB))
    left = sum(folder.num_bytes for folder in folders_of(root))
    return (
        f"removed {removed.num_pictures} pictures' outputs, {gigabytes(removed.num_bytes)}; "
        f"{gigabytes(left)} left in {root}"
    )
