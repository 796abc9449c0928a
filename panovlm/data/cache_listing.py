"""The command `panovlm cache`: it lists the cache of encoder outputs and removes files."""

from datetime import UTC, datetime

from panovlm.data import cache_room
from panovlm.data.cache_room import GB, gigabytes, num_bytes
from panovlm.runtime.cached_folders import token_cache_folder
from panovlm.runtime.progress import console, show_table


def show_cache() -> None:
    """Print a table of the folders, the one used last first, and their total size."""
    root = token_cache_folder()
    folders = cache_room.folders_of(root)
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
    console.print(f"{root} holds {gigabytes(num_bytes(root))}", highlight=False)


def prune_cache(*, limit_gb: float | None, older_than_days: float | None) -> str:
    """Remove the files used longest ago until the rest fits, or those unused for so many days."""
    root = token_cache_folder()
    if older_than_days is not None:
        removed = cache_room.remove_unused(root, older_than_days)
    else:
        removed = cache_room.remove_oldest(root, int((limit_gb or 0) * GB))
    return (
        f"removed {removed.num_pictures} pictures' outputs, {gigabytes(removed.num_bytes)}; "
        f"{gigabytes(num_bytes(root))} left in {root}"
    )
