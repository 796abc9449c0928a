"""Tables of pictures, questions and answers, as CSV or with tabs, one row a reference.

Columns have the names of QuIC-360 and similar data sets. Several rows may answer one question: they
become consecutive records. Other columns hold the optional fields of records.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from panovlm.data.findings import Finding, FindingKind, shown
from panovlm.data.formats.content import CARRIED, Content, Entry, Item
from panovlm.data.lines import NotJsonError, parse_json, read_text
from panovlm.errors import PanoVLMError

COLUMNS = {
    "image": ("image", "url", "image_path"),
    "question": ("query", "instruction", "question"),
    "answer": ("annotation", "response", "answer"),
}
"""What a table holds, and the names that its columns may have."""
WRITTEN = ("image", "query", "response")
DELIMITERS = (",", ";", "\t")
_SEP_LINE = re.compile(r'\A"?sep=.{1,2}?"?\r?\n', re.IGNORECASE)
MAX_CELL = 10_000_000
"""Characters of a cell; Python's own limit is 131,072."""


def read_table(path: Path, delimiter: str) -> Content:
    """Read a table with a header line, as programs for spreadsheets save it.

    UTF-8, or UTF-16 with its mark; separated by the delimiter, or by what the header is separated
    by. Rows without any text are left out, and columns without a name where they hold nothing.
    """
    text = read_text(path, with_utf_16=True)
    if isinstance(text, Finding):
        return Content(findings=[text])
    content = Content()
    lines = text.count("\n", 0, len(text) - len(_after_sep_line(text)))
    text = _after_sep_line(text)
    rows = _rows(text, _delimiter_of(text, delimiter), path, content)
    head = next(rows, None)
    if head is None:
        return content
    names = _named([cell.strip().lower() for cell in head[1]])
    if error := _error_of_header([name for name in names if name]):
        content.refuse(*error, path, f"line {head[0] + lines}")
        return content
    grouped: dict[tuple[Any, Any], list[Entry]] = {}
    for line, cells in rows:
        place = f"line {line + lines}"
        if (row := _row_of(names, cells, content, path, place)) is None:
            continue
        data = from_row(row, content, path, place)
        key = (str(data["image"]), str(data["messages"][:1]))
        grouped.setdefault(key, []).append(Entry(data, place))
    content.entries = [entry for group in grouped.values() for entry in group]
    return content


def _after_sep_line(text: str) -> str:
    """Return a text without the line in which Excel names the separator."""
    return _SEP_LINE.sub("", text, count=1)


def _delimiter_of(text: str, delimiter: str) -> str:
    """Return what separates the header's columns: the delimiter, or what finds more known ones."""
    head = text.lstrip("\r\n").partition("\n")[0].lower()
    known = {name for names in COLUMNS.values() for name in names}

    def num_known(separator: str) -> int:
        return len(known & {cell.strip().strip('"').strip() for cell in head.split(separator)})

    return max((delimiter, *DELIMITERS), key=num_known)


def _named(names: list[str]) -> list[str]:
    """Return the names without those at the end that are empty."""
    named = [place for place, name in enumerate(names) if name]
    return names[: named[-1] + 1] if named else names


def _row_of(
    names: list[str], cells: list[str], content: Content, path: Path, place: str
) -> dict[str, str] | None:
    """Return a row's cells by their columns; None where there is no record in it."""
    if not any(cell.strip() for cell in cells):
        content.leave_out("empty rows", place)
        return None
    extra = [cell for cell in cells[len(names) :] if cell.strip()]
    if len(cells) < len(names) or extra:
        found = f"found {len(cells)} cells, expected {len(names)} as in the header line"
        content.refuse(found, "quote cells that hold the separator", path, place)
        return None
    columns = {name: cell for name, cell in zip(names, cells, strict=False) if name}
    unnamed = [cell for name, cell in zip(names, cells, strict=False) if not name]
    content.lose({"a column without a name": "".join(unnamed).strip()})
    for holds, known in COLUMNS.items():
        name = next((name for name in known if name in columns), None)
        if name is not None and not columns[name].strip():
            kind = FindingKind.FIELD if holds == "image" else FindingKind.TEXT
            found = f"field {name!r}: found an empty cell in a row that holds something else"
            fix = "fill it, or empty the whole row"
            content.findings.append(Finding(kind, found, fix, path, place, name))
            return None
    return columns


def _rows(
    text: str, delimiter: str, path: Path, content: Content
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the first line of each row, and its cells."""
    limit = csv.field_size_limit(MAX_CELL)
    try:
        # Strict: a stray quote would otherwise swallow the lines that follow it.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        start = 1
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        found, fix = f"found a broken row ({error})", "double the quotes within quoted cells"
        content.refuse(found, fix, path, f"line {start}")
    finally:
        csv.field_size_limit(limit)


def _error_of_header(names: list[str]) -> tuple[str, str] | None:
    found = f"found the columns {', '.join(map(shown, names[:12]))}"
    if len(set(names)) < len(names):
        return f"{found}, some of them twice", "give each a name of its own"
    kinds = {kind for kind, known in COLUMNS.items() if set(known) & set(names)}
    wanted = list(COLUMNS) if {"question", "answer"} & kinds else ["image"]
    missing = [f"one of {', '.join(COLUMNS[kind])}" for kind in wanted if kind not in kinds]
    if not missing:
        return None
    fix = "rename the columns in the header line, or separate them by commas or tabs"
    return f"{found}, expected also {'; '.join(missing)}", fix


def is_row(data: dict[str, Any]) -> bool:
    """Return whether an object holds a question or an answer of its own, and no conversation."""
    texts = {*COLUMNS["question"], *COLUMNS["answer"]}
    return bool(texts & set(data)) and not {"messages", "conversations"} & set(data)


def from_row(row: dict[str, Any], content: Content, path: Path, place: str) -> dict[str, Any]:
    """Return a row in the shape of a record; `content` gets what cannot be held or read of it."""
    rest = dict(row)
    image, question, answer = (_first(rest, names) for names in COLUMNS.values())
    if not rest.get("licence") and rest.get("license"):
        rest["licence"] = rest.pop("license")
    data: dict[str, Any] = {}
    for name in CARRIED:
        value = rest.pop(name, None)
        if value not in (None, ""):
            try:
                data[name] = _value(name, value)
            except NotJsonError as error:
                found = f"field {name!r}: found {shown(value)}, not JSON ({error})"
                content.refuse(found, "", path, place, name)
    content.lose(rest)
    texts = {"user": question, "assistant": answer}
    messages = [{"role": role, "content": text} for role, text in texts.items() if text is not None]
    return {"image": image, "messages": messages, **data}


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Remove and return the first column that is there; the others stay and count as lost."""
    return next((row.pop(name) for name in names if name in row), None)


def _value(name: str, value: Any) -> Any:
    """Read a cell; those of numbers, truth values and lists are JSON."""
    if not isinstance(value, str) or name in ("kind", "licence", "source"):
        return value
    return parse_json(value.lower() if name == "crosses_seam" else value)


def write_table(path: Path, items: list[Item], delimiter: str) -> None:
    """Write one row a record.

    Raises:
        PanoVLMError: If a record is no single question and answer.
    """
    extras = [name for name in CARRIED if any(name in item.extras for item in items)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)  # ends lines by \r\n, so quotes a lone \r
        writer.writerow([*WRITTEN, *extras])
        for number, item in enumerate(items, start=1):
            held = item.extras
            roles = [message.role for message in item.record.messages]
            if roles != ["user", "assistant"]:
                raise PanoVLMError(
                    f"record {number} ({item.image}): found messages of {roles}, expected one "
                    "question and one answer, which is all a table holds; convert to llava or "
                    "sharegpt instead"
                )
            if item.image is None:
                raise PanoVLMError(
                    f"record {number}: found a text without a picture, expected one in every row "
                    "of a table; convert to records, llava or sharegpt instead"
                )
            texts = [message.content for message in item.record.messages]
            writer.writerow([item.image, *texts, *(_cell(held.get(name)) for name in extras)])


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


read_csv, read_tsv = partial(read_table, delimiter=","), partial(read_table, delimiter="\t")
write_csv, write_tsv = partial(write_table, delimiter=","), partial(write_table, delimiter="\t")
