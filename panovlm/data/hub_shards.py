"""Shards that the library `datasets` reads (the extra `datasets`), from the disk, row by row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from panovlm.data.records import Record
from panovlm.data.samples import Sample
from panovlm.errors import PanoVLMError


def datasets_library() -> Any:
    """Return the library.

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


def undecoded(rows: Any) -> Any:
    """Return a data set of the library whose pictures stay the bytes that they are."""
    library = datasets_library()
    for name, feature in (rows.features or {}).items():
        if isinstance(feature, library.Image):
            rows = rows.cast_column(name, library.Image(decode=False))
        if isinstance(getattr(feature, "feature", None), library.Image):
            rows = rows.cast_column(name, library.List(library.Image(decode=False)))
    return rows


def reason_of(error: Exception) -> str:
    """Return the first line of an error of the library, shortened."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def rows_in(folder: Path) -> list[Path]:
    """Return the files of a folder that hold rows: Arrow from `save_to_disk`, or Parquet."""
    datasets_library()
    return sorted(folder.glob("*.arrow")) or sorted(folder.rglob("*.parquet"))


def read_rows(shard: Path) -> Iterator[Sample]:
    """Yield the rows of a file; pictures stay the bytes that they are.

    Raises:
        PanoVLMError: If the library cannot read it, or there is no column `image`.
    """
    try:
        rows = undecoded(_opened(shard))
        names = rows.column_names or ["image"]  # None where the library does not know them yet
        if "image" not in names:
            raise PanoVLMError(
                f"{shard}: found the columns {', '.join(names)}, expected `image`, with the bytes "
                f"of the pictures, and `messages`; rename them"
            )
        for number, row in enumerate(rows, start=1):
            yield _sample(dict(row), f"{shard.name}/row {number}")
    except PanoVLMError:
        raise
    except Exception as error:  # the library raises what its many readers raise
        raise PanoVLMError(
            f"{shard}: found no rows that `datasets` can read ({reason_of(error)}), expected "
            f"Parquet or Arrow; save it anew or leave it out of `data`"
        ) from error


def _opened(shard: Path) -> Any:
    library = datasets_library()
    if shard.suffix == ".arrow":  # mapped into memory, not read
        return library.Dataset.from_file(str(shard)).to_iterable_dataset()
    return library.load_dataset("parquet", data_files=str(shard), split="train", streaming=True)


def _sample(row: dict[str, Any], place: str) -> Sample:
    """Return a row as a sample; columns that records do not know are left out."""
    image = row.pop("image", None)
    picture = image.get("bytes") if isinstance(image, dict) else image
    if picture is not None and not isinstance(picture, bytes):
        return Sample(place, (), None, "found a picture by its path, expected its bytes")
    if isinstance(image, dict) and picture is None:
        return Sample(place, (), None, "found a picture without bytes, expected them in the row")
    known = {key: row[key] for key in Record.model_fields if row.get(key) is not None}
    if isinstance(said := known.get("declared"), dict):  # the column has the fields of every row
        known["declared"] = {key: value for key, value in said.items() if value is not None}
    return Sample(place, (known,), picture)
