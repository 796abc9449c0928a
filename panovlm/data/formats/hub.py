"""Folders of the library `datasets` (the extra `datasets`): saved, image folders or Parquet.

Everything is read from the disk; nothing is asked of the hub.
"""

import tempfile
from pathlib import Path
from typing import Any

from panovlm.data.findings import Finding, FindingKind
from panovlm.data.formats.chats import record_of
from panovlm.data.formats.content import CARRIED, Content, Entry, Item
from panovlm.data.formats.tables import from_row, is_row
from panovlm.data.hub_shards import datasets_library
from panovlm.errors import PanoVLMError

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
            content.findings.append(
                Finding(FindingKind.FIELD, found, "rename the column of pictures")
            )
            return content
        for number, row in enumerate(_undecoded(rows), start=1):
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
        kind, place = _loader(path)
        return datasets.load_dataset(kind, cache_dir=cache, split="train", **place)
    except Exception as error:  # the library raises what its many readers raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise PanoVLMError(
            f"{path}: found no data set that `datasets` can read ({reason}), expected a folder "
            "from save_to_disk, an image folder with metadata, or Parquet; save it anew"
        ) from error


def _loader(path: Path) -> tuple[str, dict[str, Any]]:
    if path.is_file():
        return "parquet", {"data_files": str(path)}
    tables = sorted(map(str, path.rglob("*.parquet")))
    return (
        ("parquet", {"data_files": tables}) if tables else ("imagefolder", {"data_dir": str(path)})
    )


def _undecoded(rows: Any) -> Any:
    """Leave pictures as the bytes they are."""
    datasets = datasets_library()
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
        if isinstance(getattr(feature, "feature", None), datasets.Image):
            rows = rows.cast_column(name, datasets.List(datasets.Image(decode=False)))
    return rows


def _add(content: Content, row: dict[str, Any], path: Path, place: str) -> None:
    pictures = [each for name in IMAGE_COLUMNS for each in _listed(row.pop(name, None))]
    if len(pictures) != 1:
        found = f"found {len(pictures)} pictures, expected one a record"
        finding = Finding(FindingKind.FIELD, found, "split or remove it", path, place, "image")
        content.findings.append(finding)
        return
    (picture,) = pictures
    kept = picture.get("bytes") if isinstance(picture, dict) else None
    name = picture.get("path") if isinstance(picture, dict) else picture
    if is_row(row):
        data = from_row(row, content, path, place)
    else:
        data = record_of(row, content)
        del data["images"]
    content.entries.append(Entry(data | {"image": name or "embedded"}, place, kept))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def write_folder(path: Path, items: list[Item]) -> None:
    """Write a folder for `datasets.load_from_disk`, with the pictures in it.

    Raises:
        PanoVLMError: If the library is missing, or a picture cannot be read.
    """
    datasets = datasets_library()
    rows = [_row(item) for item in items]
    saved = datasets.Dataset.from_list(rows)
    saved.cast_column("image", datasets.Image()).save_to_disk(str(path))


def _row(item: Item) -> dict[str, Any]:
    turns = [turn.model_dump() for turn in item.record.messages]
    held = dict(item.extras())
    picture = {"bytes": _bytes_of(item), "path": Path(item.image).name}
    return {"image": picture, "messages": turns, **{name: held.get(name) for name in CARRIED}}


def _bytes_of(item: Item) -> bytes:
    if item.picture is not None:
        return item.picture
    if item.path is None:
        raise PanoVLMError(
            f"{item.image}: found a URL, which is never fetched, expected a picture to put into "
            "the data set; download it, or convert to another format"
        )
    try:
        return item.path.read_bytes()
    except OSError as error:
        raise PanoVLMError(f"{item.path}: cannot read the picture: {error.strerror}") from error
