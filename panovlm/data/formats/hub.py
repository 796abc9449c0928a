"""Folders of the library `datasets` (the extra `datasets`): saved, image folders or Parquet.

Everything is read from the disk; nothing is downloaded from the hub.
"""

import tempfile
from pathlib import Path
from typing import Any

from panovlm.data.findings import Finding, FindingKind
from panovlm.data.formats.chats import add_entry
from panovlm.data.formats.content import CARRIED, Content, Item, listed
from panovlm.data.hub_shards import datasets_library, reason_of, undecoded
from panovlm.errors import PanoVLMError
from panovlm.pictures.publishing import picture_error

IMAGE_COLUMNS = ("image", "images")


def read_folder(path: Path) -> Content:
    """Read a data set of the library.

    Raises:
        PanoVLMError: If the library is missing, or it cannot read the folder.
    """
    content = Content()
    with tempfile.TemporaryDirectory() as cache:
        rows = _open(path, cache)
        if not set(IMAGE_COLUMNS) & set(rows.column_names):
            found = f"{path}: found the columns {rows.column_names}, expected one named image"
            finding = Finding(FindingKind.FIELD, found, "rename the column of pictures")
            return Content(findings=[finding])
        for number, row in enumerate(undecoded(rows), start=1):
            _add(content, row, path, f"row {number}")
    return content


def _open(path: Path, cache: str) -> Any:
    """Open one split of a folder."""
    datasets = datasets_library()
    if path.is_dir() and (path / "dataset_dict.json").is_file():
        splits = ", ".join(sorted(child.name for child in path.iterdir() if child.is_dir()))
        raise PanoVLMError(
            f"{path}: found the splits {splits}, expected one; name its folder, as in "
            f"{path / splits.split(', ')[-1]}"
        )
    try:
        if path.is_dir() and (path / "dataset_info.json").is_file():
            return datasets.load_from_disk(str(path), keep_in_memory=True)
        shared = {"split": "train", "cache_dir": cache}
        tables = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        if tables:
            return datasets.load_dataset("parquet", data_files=[*map(str, tables)], **shared)
        return datasets.load_dataset("imagefolder", data_dir=str(path), **shared)
    except Exception as error:  # the library raises what its many readers raise
        raise PanoVLMError(
            f"{path}: found no data set that `datasets` can read ({reason_of(error)}), expected a "
            "folder from save_to_disk, an image folder with metadata, or Parquet; save it anew"
        ) from error


def _add(content: Content, row: dict[str, Any], path: Path, place: str) -> None:
    pictures = [each for name in IMAGE_COLUMNS for each in listed(row.pop(name, None))]
    if len(pictures) > 1:
        found = f"found {len(pictures)} pictures, expected one a record"
        content.refuse(found, "split or remove it", path, place, "image")
        return
    if not pictures:
        add_entry(content, row, path, place)
        return
    picture = pictures[0] if isinstance(pictures[0], dict) else {"path": pictures[0]}
    row["image"] = picture.get("path") or "embedded"
    add_entry(content, row, path, place, picture.get("bytes"))


def write_folder(path: Path, items: list[Item]) -> None:
    """Write a folder for `datasets.load_from_disk`, with the pictures in it.

    Raises:
        PanoVLMError: If the library is missing, or a picture cannot be read.
    """
    datasets = datasets_library()
    saved = datasets.Dataset.from_list([_row(item) for item in items])
    saved.cast_column("image", datasets.Image()).save_to_disk(str(path))


def _row(item: Item) -> dict[str, Any]:
    messages = [message.model_dump() for message in item.record.messages]
    picture = None
    if item.image is not None:
        picture = {"bytes": _bytes_of(item), "path": Path(item.image).name}
    return {"image": picture, "messages": messages} | dict.fromkeys(CARRIED) | item.extras


def _bytes_of(item: Item) -> bytes:
    if item.picture is not None:
        return item.picture
    if item.path is None:
        raise PanoVLMError(
            f"{item.image}: found a URL, which is never fetched, expected a picture to put into "
            "the data set; download it, or convert to another format"
        )
    if error := picture_error(item.path):
        raise PanoVLMError(f"{error} (no other file is put into a data set)")
    return item.path.read_bytes()
