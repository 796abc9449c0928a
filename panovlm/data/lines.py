"""Reading text files line by line, and JSON strictly: each error names its line.

Python's own reader accepts more than JSON allows: a key twice (the last wins), NaN, half a
surrogate pair (which no tokenizer can encode). All of that is refused here.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from panovlm.data.findings import Finding, FindingKind, shown
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration

_DECLARATION: TypeAdapter[Declaration | None] = TypeAdapter(Declaration | None)
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class NotJsonError(ValueError):
    """A text that is not JSON, or not JSON that every reader takes alike."""


def read_text(path: Path, *, with_utf_16: bool = False) -> str | Finding:
    """Read a UTF-8 file, with or without a byte order mark, or return why it cannot be read.

    Args:
        path: The file.
        with_utf_16: Whether UTF-16 is read too, by its mark, as spreadsheets save it.
    """
    fix = "save the file as UTF-8"
    try:
        data = path.read_bytes()
        if not data.startswith(_UTF_16_MARKS):
            return data.decode("utf-8-sig")
        if with_utf_16:
            return data.decode("utf-16")
        reason = "found UTF-16, expected UTF-8"
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"found the byte 0x{data[error.start]:02x} in line {line}, expected UTF-8"
    except (OSError, ValueError) as error:  # ValueError: a path with a null
        reason, fix = getattr(error, "strerror", None) or str(error), "check the path"
    return Finding(FindingKind.FILE, f"cannot read the records {path}: {reason}", fix)


def json_lines(path: Path) -> Iterator[tuple[int, Any] | Finding]:
    """Read JSON Lines; yield the number and content of each line, or what is wrong with it."""
    text = read_text(path)
    if isinstance(text, Finding):
        yield text
        return
    # Not splitlines: a JSON text may hold U+2028 and its like as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, parse_json(line)
            except NotJsonError as error:
                found, fix = f"not JSON ({error})", "write one object a line"
                yield Finding(FindingKind.JSON, found, fix, path, f"line {number}")


def declaration_in(fields: Mapping[str, Any]) -> Declaration | None:
    """Return what the fields of a line declare of its pictures, under `declared`.

    Raises:
        PanoVLMError: If it is no declaration.
    """
    try:
        return _DECLARATION.validate_python(fields.get("declared"))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in ("declared", *first["loc"]))
        raise PanoVLMError(f"{field}: {first['msg']}".replace("Value error, ", "")) from error


def parse_json(text: str) -> Any:
    """Parse one JSON text strictly.

    Raises:
        NotJsonError: With the reason in a few words.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        line = f" in line {error.lineno}" if error.lineno > 1 else ""
        raise NotJsonError(f"{error.msg}{line}") from error
    except RecursionError as error:
        raise NotJsonError("brackets nested too deep") from error
    except NotJsonError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise NotJsonError("a number that is too long") from error
    if _ESCAPED_HALF.search(text) and _HALF_PAIR.search(json.dumps(data, ensure_ascii=False)):
        raise NotJsonError("half a surrogate pair, which is no character")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise NotJsonError(f"the key {shown(twice)} twice in one object")
    return data


def _no_constant(name: str) -> Any:
    raise NotJsonError(f"{name}, which is no JSON number")
