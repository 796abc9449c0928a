"""LLaVA's and ShareGPT's JSON: a list (or lines) of objects that hold a conversation.

    llava      {"id": "0", "image": "a.jpg", "conversations": [{"from": "human", "value": "..."}]}
    sharegpt   {"images": ["a.jpg"], "conversations": [{"from": "human", "value": "..."}]}
    messages   {"images": ["a.jpg"], "messages": [{"role": "user", "content": "..."}]}
    rows       {"image": "a.jpg", "question": "...", "answer": "..."}, as the rows of tables

One reader takes all of them, also with `system` beside the messages and contents in parts. The
optional fields of records stand beside the others, where other programs skip them. Mixed sets hold
texts without a picture, which become records of text, and videos, which are left out and listed.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from panovlm.data.findings import Finding, FindingKind
from panovlm.data.formats.content import CARRIED, Content, Entry, Item, listed
from panovlm.data.formats.tables import from_row, is_row
from panovlm.data.lines import NotJsonError, json_lines, parse_json, read_text
from panovlm.data.records import IMAGE_MARK, Message, marked

NAMES = {"user": "human", "assistant": "gpt", "system": "system"}
"""What LLaVA and ShareGPT call the roles."""
ROLES = {name: role for role, name in NAMES.items()} | {
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "developer": "system",
}
"""What the roles are called elsewhere."""
OTHER_MEDIA = ("video", "videos", "audio", "audios")
"""Fields of what is no picture."""


def read_lines(path: Path) -> Content:
    """Read one object a line."""
    content = Content()
    for each in json_lines(path):
        if isinstance(each, Finding):
            content.findings.append(each)
        else:
            add_entry(content, _without_number(each[1], each[0] - 1), path, f"line {each[0]}")
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
        add_entry(content, _without_number(item, number), path, f"item {number + 1}")
    return content


def _without_number(item: Any, number: int) -> Any:
    """Remove an `id` that only repeats the place in the file."""
    if isinstance(item, dict) and item.get("id") in (number, str(number)):
        return {key: value for key, value in item.items() if key != "id"}
    return item


def add_entry(
    content: Content, item: Any, path: Path, place: str, picture: bytes | None = None
) -> None:
    """Add an object of a file, with a conversation or as a row, in the shape of a record."""
    if not isinstance(item, dict):
        content.entries.append(Entry(item, place))  # the check of records finds what is wrong
        return
    if named := [name for name in OTHER_MEDIA if item.get(name)]:
        content.leave_out(f"entries with {named[0]}", place)
        return
    if is_row(item):
        data = from_row(item, content, path, place)
        images = _paths(data.pop("image"))
    else:
        data, images = _record_of(dict(item), content)
    if len(images) > 1:
        content.entries.append(Entry(data | {"images": images}, place))
        return
    content.entries.append(Entry(data | {"image": images[0]} if images else data, place, picture))


def _record_of(rest: dict[str, Any], content: Content) -> tuple[dict[str, Any], list[Any]]:
    """Return a conversation in the shape of a record, and all its pictures."""
    key = next((key for key in ("conversations", "messages") if key in rest), None)
    messages = [] if key is None else rest.pop(key)
    data = {name: rest.pop(name) for name in CARRIED if rest.get(name) is not None}
    if "licence" not in data and rest.get("license") is not None:
        data["licence"] = rest.pop("license")
    images = [*_paths(rest.pop("image", None)), *_paths(rest.pop("images", None))]
    if isinstance(messages, list):
        messages = [_message_of(message, content, images) for message in messages]
        if isinstance(rest.get("system"), str) and rest["system"]:
            messages = [{"role": "system", "content": rest.pop("system")}, *messages]
    content.lose(rest)
    return {**data, "messages": messages}, images


def _paths(value: Any) -> list[Any]:
    """Return one or several pictures as a list of paths; a path may stand in an object."""
    return [
        each["path"] if isinstance(each, dict) and isinstance(each.get("path"), str) else each
        for each in listed(value)
    ]


def _message_of(message: Any, content: Content, images: list[Any]) -> Any:
    if not isinstance(message, dict):
        return message
    rest = dict(message)
    role = rest.pop("from") if "from" in rest else rest.pop("role", None)
    text = rest.pop("value") if "value" in rest else rest.pop("content", None)
    content.lose(rest, "messages.")
    if isinstance(text, list) and all(isinstance(part, dict) for part in text):
        text = "".join(_text_of(dict(part), content, images) for part in text)
    return {"role": ROLES.get(role, role) if isinstance(role, str) else role, "content": text}


def _text_of(rest: dict[str, Any], content: Content, images: list[Any]) -> str:
    """Return the text of one part of a message; a picture is a mark, and listed if it is named."""
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


Shape = Callable[[int, Item], dict[str, Any]]
"""Returns an object of a list, of the number and the content of a record."""


def as_llava(number: int, item: Item) -> dict[str, Any]:
    """Return LLaVA's object; a mark stands in the first question, as LLaVA expects it."""
    image = {} if item.image is None else {"image": item.image}
    return {"id": str(number), **image, "conversations": _conversation(item)}


def as_sharegpt(number: int, item: Item) -> dict[str, Any]:
    """Return ShareGPT's object."""
    return {"conversations": _conversation(item), "images": _images(item)}


def as_messages(number: int, item: Item) -> dict[str, Any]:
    """Return messages with pictures beside them."""
    return {"messages": [each.model_dump() for each in _marked(item)], "images": _images(item)}


def write_list(path: Path, items: list[Item], shape: Shape) -> None:
    """Write one JSON list."""
    written = [shape(number, item) | item.extras for number, item in enumerate(items)]
    text = json.dumps(written, ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def write_records(path: Path, items: list[Item]) -> None:
    """Write records, one a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for item in items:
            messages = [message.model_dump() for message in item.record.messages]
            image = {} if item.image is None else {"image": item.image}
            data = {**image, "messages": messages} | item.extras
            file.write(json.dumps(data, ensure_ascii=False) + "\n")


def _images(item: Item) -> list[str]:
    return [] if item.image is None else [item.image]


def _conversation(item: Item) -> list[dict[str, str]]:
    return [{"from": NAMES[message.role], "value": message.content} for message in _marked(item)]


def _marked(item: Item) -> tuple[Message, ...]:
    """Put the mark in its place, where there is a picture and a question to hold it."""
    messages = item.record.messages
    has_place = item.image is not None and any(each.role == "user" for each in messages)
    return marked(messages) if has_place else messages
