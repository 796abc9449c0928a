"""Shards that the library `datasets` reads (the extra `datasets`), from the disk, row by row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panovlm.data.records import Record
from panovlm.data.samples import Sample
from panovlm.errors import PanoVLMError


def datasets_library() -> Any:
    """Give the library.

    Raises:
        PanoVLMError: If it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise PanoVLMError(
            "found no library `datasets`, expected it for folders and Parquet; install it with: "
            "pip install 'panovlm[datasets]'"
        ) from error
    datasets.disable_progress_bars()
    return datasets


def rows_in(folder: Path) -> list[Path]:
    """Give the files of a folder that hold rows: Arrow as `save_to_disk` writes it, or Parquet."""
    datasets_library()
    return sorted(folder.glob("*.arrow")) or sorted(folder.rglob("*.parquet"))


def read_rows(shard: Path) -> Iterator[Sample]:
    """Give the rows of a file; pictures stay the bytes that they are.

    Raises:
        PanoVLMError: If the library cannot read it, or there is no column `image`.
    """
    try:
        rows = _opened(shard)
        names = rows.column_names
    except PanoVLMError:
        raise
    except Exception as error:  # the library raises what its many readers raise
        raise _unreadable(shard, error) from error
    if names is not None and "image" not in names:
        raise PanoVLMError(
            f"{shard}: found the columns {', '.join(names)}, expected `image`, with the bytes of "
            f"the pictures, and `messages`; rename them"
        )
    numbered = enumerate(iter(rows), start=1)
    while True:
        try:
            number, row = next(numbered)
        except StopIteration:
            return
        except Exception as error:
            raise _unreadable(shard, error) from error
        yield _sample(dict(row), f"{shard.name}/row {number}")


def _opened(shard: Path) -> Any:
    library = datasets_library()
    if shard.suffix == ".arrow":  # mapped into memory, not read
        rows = library.Dataset.from_file(str(shard)).to_iterable_dataset()
    else:
        place = {"data_files": str(shard), "split": "train"}
        rows = library.load_dataset("parquet", streaming=True, **place)
    features = rows.features or {}
    if isinstance(features.get("image"), library.Image):
        rows = rows.cast_column("image", library.Image(decode=False))
    return rows


def _sample(row: dict[str, Any], place: str) -> Sample:
    """Turn a row into a sample; columns that records do not know stay behind."""
    image = row.pop("image", None)
    picture = image.get("bytes") if isinstance(image, dict) else image
    told = {key: value for key, value in row.items() if key in Record.model_fields}
    told = {key: value for key, value in told.items() if value is not None}
    if picture is not None and not isinstance(picture, bytes):
        return Sample(place, (), None, "found a picture by its path, expected its bytes")
    if isinstance(image, dict) and picture is None:
        return Sample(place, (), None, "found a picture without bytes, expected them in the row")
    return Sample(place, (told,), picture)


def _unreadable(shard: Path, error: Exception) -> PanoVLMError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return PanoVLMError(
        f"{shard}: found no rows that `datasets` can read ({reason}), expected Parquet or Arrow; "
        f"save it anew or leave it out of `data`"
    )
