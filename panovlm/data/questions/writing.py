"""A question about a picture as a record."""

from collections.abc import Sequence
from typing import Any

from panovlm.data.annotations import Sighting
from panovlm.data.questions.asking import Question


def question_record(
    image: str,
    question: Question[Any],
    responses: Sequence[str | None],
    about: Sighting | None,
    crosses_seam: bool,
) -> dict[str, Any]:
    """Return the record of a question, as a file of records holds it.

    Args:
        image: The picture, relative to the file.
        question: What is asked.
        responses: The right ones after yaw rotations all around, evenly spaced; the first is that
            without a rotation, and None stands where none is certain.
        about: The one thing that the question is about.
        crosses_seam: Whether the picture's left and right edge cut through what it is about.
    """
    user = {"role": "user", "content": question.text}
    return {
        "image": image,
        "messages": [user, {"role": "assistant", "content": responses[0]}],
        "rolled_responses": list(responses),
        "kind": question.kind,
        "yaw_deg": about and about.yaw_deg,
        "pitch_deg": about and about.pitch_deg,
        "crosses_seam": crosses_seam,
    }
