"""Reads the files that benchmarks come in; errors name the line."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from panovlm.data.file_names import find_file
from panovlm.errors import PanoVLMError
from panovlm.evaluation.benchmarks.items import Item, Read


def read_text(path: Path) -> str:
    """Read a file of UTF-8 text.

    Raises:
        PanoVLMError: If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PanoVLMError(f"cannot read {path}: {error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        PanoVLMError: If it cannot be read or is no JSON.
    """
    return _parsed(read_text(path), str(path))


def read_objects(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Read a list of JSON objects, or one object a line, that all have some keys.

    Raises:
        PanoVLMError: If it is something else, or a key is missing.
    """
    if path.suffix == ".jsonl":
        rows = [_parsed(line, f"{path}, line {number}") for number, line in _lines(path)]
    else:
        rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise PanoVLMError(f"{path}: found no list of objects, expected some with {list(keys)}")
    for number, row in enumerate(rows, start=1):
        check_keys(row, keys, f"{path}, entry {number}")
    return rows


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a table with a header, by tabs or, in a `.csv`, by commas.

    Raises:
        PanoVLMError: If a column is missing or there are no rows.
    """
    csv.field_size_limit(sys.maxsize)
    delimiter = "," if path.suffix == ".csv" else "\t"
    # Not splitlines: a text may hold U+2028 and its like as they are.
    rows = list(csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter=delimiter))
    if not rows:
        raise PanoVLMError(f"{path}: found no rows, expected a header and rows below it")
    check_keys(rows[0], columns, f"{path}, header")
    for number, row in enumerate(rows, start=1):
        if any(row[column] is None for column in columns):
            raise PanoVLMError(f"{path}, row {number}: found fewer columns than in the header")
    return rows


def check_keys(row: Any, keys: Sequence[str], where: str) -> None:
    """Check that a row is an object with some keys.

    Raises:
        PanoVLMError: Naming those it lacks.
    """
    if not isinstance(row, dict):
        raise PanoVLMError(f"{where}: found {type(row).__name__}, expected an object")
    missing = [key for key in keys if key not in row]
    if missing:
        raise PanoVLMError(f"{where}: found {sorted(row, key=str)}, expected {missing} too")


def text_of(row: Mapping[str, Any], key: str) -> str:
    """Return a text of a row.

    Raises:
        ValueError: If it is none, or empty.
    """
    text = row[key]
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{key} {text!r}, expected a text")
    return text


def items_of(
    path: Path, rows: Iterable[Mapping[str, Any]], item: Callable[[Mapping[str, Any], int], Item]
) -> list[Item]:
    """Make an item of each row and its number, from 1 on.

    Raises:
        PanoVLMError: Naming the first row that is not as it should be.
    """
    made = []
    for number, row in enumerate(rows, start=1):
        try:
            made.append(item(row, number))
        except PanoVLMError as error:
            raise PanoVLMError(f"{path}, entry {number}: {error}") from error
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise PanoVLMError(
                f"{path}, entry {number}: found another form than the published one ({error!r}); "
                "correct the entry, or name the benchmark it is from"
            ) from error
    return made


def reading(
    read_rows: Callable[[Path, Sequence[str]], list[dict[str, Any]]],
    keys: Sequence[str],
    item: Callable[[Mapping[str, Any], str, Path], Item],
) -> Read:
    """Return what reads a file of rows that all have some keys, and makes an item of each.

    Args:
        read_rows: `read_objects` or `read_table`.
        keys: That each row has.
        item: Takes a row, its number from 1 on, and the folder of the pictures.
    """

    def read(path: Path, images: Path) -> list[Item]:
        return items_of(path, read_rows(path, keys), lambda row, n: item(row, str(n), images))

    return read


def picture_at(images: Path, address: str) -> Path:
    """Return a picture's file, named by a path or by the last part of an address on the web."""
    return find_file(images, address.rsplit("/", 1)[-1] if "://" in address else address)


def is_there(picture: Path) -> bool:
    """Return whether a picture's file is there; no file has a name that no disk takes."""
    try:
        return picture.is_file()
    except OSError:
        return False


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line


def _parsed(text: str, where: str) -> Any:
    """Parse JSON, with NaN and keys that come twice, as some published files have them."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise PanoVLMError(f"{where}: not JSON (brackets nested too deep)") from error
    except ValueError as error:  # or a number of thousands of digits
        raise PanoVLMError(f"{where}: not JSON ({error})") from error
