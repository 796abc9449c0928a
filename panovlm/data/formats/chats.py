"""LLaVA's and ShareGPT's JSON: a list (or lines) of objects that hold a conversation.

    llava      {"id": "0", "image": "a.jpg", "conversations": [{"from": "human", "value": "..."}]}
    sharegpt   {"images": ["a.jpg"], "conversations": [{"from": "human", "value": "..."}]}
    messages   {"images": ["a.jpg"], "messages": [{"role": "user", "content": "..."}]}
    rows       {"image": "a.jpg", "question": "...", "answer": "..."}, as the rows of tables

One reader takes all of them, also with `system` beside the turns and contents in parts. The
optional fields of records stand beside the others, where other programs skip them.
"""

import json
from pathlib import Path
from typing import Any

from panovlm.data.findings import Finding, FindingKind
from panovlm.data.formats.content import CARRIED, Content, Entry, Item
from panovlm.data.formats.tables import from_row, is_row
from panovlm.data.lines import NotJsonError, json_lines, parse_json, read_text
from panovlm.data.records import IMAGE_MARK, Message, marked

ROLES = {"human": "user", "gpt": "assistant"}
NAMES = {role: name for name, role in ROLES.items()} | {"system": "system"}


def read_lines(path: Path) -> Content:
    """Read one object a line."""
    content = Content()
    for each in json_lines(path):
        if isinstance(each, Finding):
            content.findings.append(each)
        else:
            _add(content, each[1], path, f"line {each[0]}", each[0] - 1)
    return content


def read_list(path: Path) -> Content:
    """Read one JSON list of objects."""
    text = read_text(path)
    if isinstance(text, Finding):
        return Content(findings=[text])
    try:
        data = parse_json(text)
    except NotJsonError as error:
        found = f"{path}: not JSON ({error})"
        return Content(findings=[Finding(FindingKind.JSON, found, "write one list of objects")])
    if not isinstance(data, list):
        found = f"{path}: found {type(data).__name__}, expected a list of objects"
        return Content(findings=[Finding(FindingKind.JSON, found, "put the objects in [...]")])
    content = Content()
    for number, item in enumerate(data):
        _add(content, item, path, f"item {number + 1}", number)
    return content


def _add(content: Content, item: Any, path: Path, place: str, number: int) -> None:
    if not isinstance(item, dict):
        content.entries.append(Entry(item, place))  # its check says what is wrong
        return
    rest = dict(item)
    if rest.get("id") in (number, str(number)):
        del rest["id"]  # says nothing that the place does not
    if is_row(rest):
        data = from_row(rest, content, path, place)
        images = _listed(data.pop("image"))
    else:
        data = record_of(rest, content)
        images = data.pop("images")
    if len(images) > 1:
        found = f"found {len(images)} pictures, expected one a record"
        finding = Finding(FindingKind.FIELD, found, "split or remove it", path, place, "images")
        content.findings.append(finding)
        return
    content.entries.append(Entry(data | {"image": images[0]} if images else data, place))


def record_of(item: dict[str, Any], content: Content) -> dict[str, Any]:
    """Message an object with a conversation into the shape of a record.

    Args:
        item: The object.
        content: Told which fields records cannot carry.

    Returns:
        A record, but for `images`, a list of all its pictures.
    """
    rest = dict(item)
    key = next((key for key in ("conversations", "messages") if key in rest), None)
    turns = [] if key is None else rest.pop(key)
    data = {name: rest.pop(name) for name in CARRIED if rest.get(name) is not None}
    if "licence" not in data and rest.get("license") is not None:
        data["licence"] = rest.pop("license")
    images = [*_listed(rest.pop("image", None)), *_listed(rest.pop("images", None))]
    if isinstance(turns, list):
        turns = [_turn_of(turn, content, images) for turn in turns]
        if isinstance(rest.get("system"), str) and rest["system"]:
            turns = [{"role": "system", "content": rest.pop("system")}, *turns]
    content.lose(rest)
    return {**data, "messages": turns, "images": images}


def _listed(value: Any) -> list[Any]:
    """Give one or several pictures as a list of paths; a path may stand in an object."""
    listed = value if isinstance(value, list) else [] if value is None else [value]
    return [each["path"] if _has_path(each) else each for each in listed]


def _has_path(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("path"), str)


def _turn_of(turn: Any, content: Content, images: list[Any]) -> Any:
    if not isinstance(turn, dict):
        return turn
    rest = dict(turn)
    role = rest.pop("from") if "from" in rest else rest.pop("role", None)
    said = rest.pop("value") if "value" in rest else rest.pop("content", None)
    content.lose(rest, "messages.")
    if isinstance(said, list) and all(isinstance(part, dict) for part in said):
        said = "".join(_text_of(part, content, images) for part in said)
    known = ROLES.get(role, role) if isinstance(role, str) else role
    return {"role": known, "content": said}


def _text_of(part: dict[str, Any], content: Content, images: list[Any]) -> str:
    """Give the text of one part of a content: a picture is a mark, and counted if it is named."""
    rest = dict(part)
    kind = rest.pop("type", "text")
    if kind == "text" and isinstance(rest.get("text"), str):
        text: str = rest.pop("text")
        content.lose(rest, "messages.content.")
        return text
    if kind in ("image", "image_url"):
        named = rest.get("image") or rest.get("path") or rest.get("url") or rest.get("image_url")
        url = named.get("url") if isinstance(named, dict) else named
        images += [url] if url is not None and url not in images else []
        return IMAGE_MARK
    content.lose({f"a part of type {kind}": rest or True}, "messages.content.")
    return ""


def write_llava(path: Path, items: list[Item]) -> None:
    """Write LLaVA's list; a mark stands in the first question, as LLaVA expects it."""
    _write_list(
        path,
        [
            {"id": str(number), "image": item.image, "conversations": _conversation(item)}
            | dict(item.extras())
            for number, item in enumerate(items)
        ],
    )


def write_sharegpt(path: Path, items: list[Item]) -> None:
    """Write ShareGPT's list."""
    _write_list(
        path,
        [
            {"conversations": _conversation(item), "images": [item.image]} | dict(item.extras())
            for item in items
        ],
    )


def write_messages(path: Path, items: list[Item]) -> None:
    """Write a list of messages with pictures beside them."""
    _write_list(
        path,
        [
            {"messages": [turn.model_dump() for turn in _marked(item)], "images": [item.image]}
            | dict(item.extras())
            for item in items
        ],
    )


def write_records(path: Path, items: list[Item]) -> None:
    """Write records, one a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for item in items:
            turns = [turn.model_dump() for turn in item.record.messages]
            data = {"image": item.image, "messages": turns} | dict(item.extras())
            file.write(json.dumps(data, ensure_ascii=False) + "\n")


def _write_list(path: Path, items: list[dict[str, Any]]) -> None:
    text = json.dumps(items, ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _conversation(item: Item) -> list[dict[str, str]]:
    return [{"from": NAMES[turn.role], "value": turn.content} for turn in _marked(item)]


def _marked(item: Item) -> tuple[Message, ...]:
    """Put the mark in its place, where there is a question to hold it."""
    turns = item.record.messages
    return marked(turns) if any(turn.role == "user" for turn in turns) else turns
