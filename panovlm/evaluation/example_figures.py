"""The questions that a page shows with their pictures."""

from collections.abc import Sequence
from html import escape

from panovlm.evaluation.marked_pictures import Example, as_data_uri, draw_marks
from panovlm.model.processing import view_words

NO_ANSWER = '<span class="soft">nothing was said</span>'
_CLASSES = {True: "right", False: "wrong", None: ""}


def examples_section(title: str, note: str, examples: Sequence[Example]) -> str:
    """Give questions with their marked pictures under a heading; empty if there are none.

    Raises:
        PanoVLMError: If a picture cannot be read.
    """
    if not examples:
        return ""
    figures = "\n".join(map(_example, examples))
    return f'<h2>{escape(title)}</h2>\n<p class="soft">{escape(note)}</p>\n{figures}'


def _example(example: Example) -> str:
    return (
        f'<figure class="example card"><img src="{as_data_uri(draw_marks(example))}" '
        f'alt="Panorama {escape(example.picture.name)}">\n<figcaption>'
        f'<span class="kind">{escape(example.kind)}</span>'
        f'<div class="question">{escape(example.question)}</div>\n<dl class="answers">'
        f"<dt>right answer</dt><dd>{escape(example.expected)}</dd>"
        f'<dt>given answer</dt><dd class="{_CLASSES[example.is_right]}">'
        f"{escape(example.answer) or NO_ANSWER}</dd>{_also(example)}</dl></figcaption></figure>"
    )


def _also(example: Example) -> str:
    """Say what the answer is worth, and what turning and blanking did to it, where it was asked."""
    facts = [("score", example.worth.said)] if example.worth else []
    if example.right_turns is not None:
        right, turns = example.right_turns
        facts.append(("turned", f"right under {right} of {turns} turns"))
    if example.changed_views:
        words = zip(view_words(len(example.changed_views)), example.changed_views, strict=True)
        carried = ", ".join(word for word, changed in words if changed)
        facts.append(("changes without", f"the view {carried}" if carried else "no single view"))
    return "".join(f"<dt>{name}</dt><dd>{escape(said)}</dd>" for name, said in facts)
