"""The texts of records: repeated questions, misplaced marks, lengths, terms of use."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from panovlm.data.conversations import ConversationTokenizer
from panovlm.data.datasets import TOO_LONG_FIX
from panovlm.data.doctor.pictures import Picture
from panovlm.data.findings import Finding, FindingKind, shown
from panovlm.data.packing import IGNORED
from panovlm.data.record_files import Located
from panovlm.data.records import IMAGE_MARK
from panovlm.pictures.declaring import PictureFile

MAX_PLACES = 5
"""Places named in one finding."""


def repeated_questions(
    records: Sequence[Located], pictures: Mapping[PictureFile, Picture]
) -> Iterator[Finding]:
    """Find questions asked more than once about one picture, by its content, and their answers."""
    groups: dict[tuple[str, ...], list[Located]] = defaultdict(list)
    for each in records:
        images = [pictures[image].digest or str(image) for image in each.record.pictures]
        if each.record.messages and images:
            groups[*images, _question(each)].append(each)
    yield from (_repeated(group) for group in groups.values() if len(group) > 1)


def _question(each: Located) -> str:
    """Return all messages before the response, without the picture's mark and extra spaces."""
    messages = each.record.messages[:-1]
    texts = (f"{message.role}: {message.content.replace(IMAGE_MARK, '')}" for message in messages)
    return "\n".join(" ".join(text.split()) for text in texts)


def _repeated(group: Sequence[Located]) -> Finding:
    """Return the finding for a question that several records ask."""
    first = group[0]
    answers = {" ".join(each.record.response.split()) for each in group}
    others = ", ".join(_place(each, first.file) for each in group[1 : MAX_PLACES + 1])
    more = f" and {len(group) - 1 - MAX_PLACES} more" if len(group) - 1 > MAX_PLACES else ""
    asked = f"found the same question about the same picture again in {others}{more}"
    if len(answers) == 1:
        found, fix, kind = f"{asked}, with the same answer", "keep one of them", FindingKind.REPEAT
    else:
        found = f"{asked}, with {len(answers)} different answers"
        fix = "correct them, unless they are several references"
        kind = FindingKind.CONFLICT
    return Finding(kind, found, fix, first.file, first.place, "messages")


def _place(each: Located, file: Path) -> str:
    return each.place if each.file == file else f"{each.file} {each.place}"


def misplaced_marks(records: Sequence[Located]) -> Iterator[Finding]:
    """Find marks of the picture in system messages; one of the assistant's is an error."""
    for each in records:
        for message in each.record.messages:
            if message.role == "system" and IMAGE_MARK in message.content:
                found = f"found {IMAGE_MARK} in a message of the {message.role}"
                fix = "move it to a user's message"
                yield Finding(FindingKind.MISPLACED, found, fix, each.file, each.place, "messages")


def too_long(records: Sequence[Located], tokenizer: ConversationTokenizer) -> Iterator[Finding]:
    """Find conversations that are too long for a model, or without a supervised token."""
    for each in (each for each in records if each.record.messages):
        tokens, excess = tokenizer(each.record), tokenizer.excess(each.record)
        if excess > 0:
            found = f"found {len(tokens.ids)} tokens, {excess} too many for {tokenizer.longest}"
            yield Finding(
                FindingKind.LENGTH, found, TOO_LONG_FIX, each.file, each.place, "messages"
            )
        if all(label == IGNORED for label in tokens.labels):
            found = f"found no supervised token in {shown(each.record.response)}"
            fix = "add a response, or correct the chat template"
            yield Finding(FindingKind.TEXT, found, fix, each.file, each.place, "messages")


def terms(records: Sequence[Located], field: str) -> dict[str, int]:
    """Count the pictures by `licence` or `source`; the empty name stands for those without."""
    values: dict[Path, str] = {}
    for each in records:
        value: str | None = getattr(each.record, field)
        for image in each.record.paths:
            values[image] = (value or "").strip() or values.get(image, "")
    return dict(Counter(values.values()).most_common())
