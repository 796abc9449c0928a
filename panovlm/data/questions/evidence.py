"""What is sure about a picture, and what is in doubt, by the annotations of one teacher or several.

Doubtful things are neither asked about nor ruled out. Teachers of one picture are joined by one
rule: a thing is sure if every teacher that knows its label saw it. So a label counts as absent
where a teacher that would have found it did not, and no other one saw it either.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panovlm.data.annotations import Annotation, Sighting, Teacher
from panovlm.data.records import IMAGE_MARK
from panovlm.geometry.sphere import Floats, rays_from_angles
from panovlm.metrics.listings import NOTHING
from panovlm.pictures.declaring import Declaration

MAX_PITCH_DEG = 60.0
"""A thing whose middle is farther above or below the horizon has no certain direction."""
MAX_TEXT = 60
"""Characters of the longest text that is asked for."""
_LISTS = (",", ":", "\n", IMAGE_MARK)
"""What no label may hold that stands in a listing."""


@dataclass(frozen=True)
class Doubt:
    """What makes a thing doubtful.

    Attributes:
        min_score: Scores below it do.
        min_views: And so do fewer views that agree.
        labels: And so do labels that are none of these; None takes all.
        doubt_score: Things scored below it are not even in doubt: they count as not there.
    """

    min_score: float = 0.5
    min_views: int = 1
    labels: tuple[str, ...] | None = None
    doubt_score: float = 0.0

    def there(self, sightings: Iterable[Sighting]) -> list[Sighting]:
        """Return the things that do not count as not there: sure or in doubt."""
        return [thing for thing in sightings if thing.score >= self.doubt_score]

    def about(self, thing: Sighting) -> str | None:
        """Return why a thing is doubtful by itself; None if it is not."""
        if not self.takes(thing.label):
            return "their label is none of --labels"
        if thing.score < self.min_score:
            return f"score below {self.min_score:g}"
        if thing.num_views < self.min_views:
            return f"seen in fewer than {self.min_views} views"
        return None

    def takes(self, label: str) -> bool:
        """Return whether things of a label may be sure."""
        return self.labels is None or label in self.labels


@dataclass(frozen=True)
class Evidence:
    """What is known about one picture.

    Attributes:
        image: The picture.
        digest: Of its bytes.
        group: The place it shows.
        sure: Things that are certainly there.
        doubtful: Things that may be there, each with the reason for the doubt.
        vocabulary: Labels of which it is certain that none is there beside `sure`; None where
            every teacher is open.
        declared: What the picture is, where it does not say so itself.
    """

    image: Path
    digest: str
    group: str
    sure: tuple[Sighting, ...]
    doubtful: tuple[tuple[Sighting, str], ...]
    vocabulary: tuple[str, ...] | None
    declared: Declaration | None


@dataclass(frozen=True)
class _Seen:
    """One thing as some teachers saw it: the surest sighting, and who agrees."""

    sighting: Sighting
    teachers: tuple[int, ...]


def evidence_of(group: str, annotations: Sequence[Annotation], doubt: Doubt) -> Evidence:
    """Join the annotations of one picture by different teachers.

    Args:
        group: The place it shows.
        annotations: One or more, of one digest.
        doubt: What makes a thing doubtful.
    """
    teachers = [annotation.teacher for annotation in annotations]
    sure, doubtful = [], []
    for seen in _joined(doubt.there(each.sightings) for each in annotations):
        thing = seen.sighting.model_copy(update={"text": _readable(seen.sighting.text)})
        reason = _doubt_about(seen, teachers, doubt)
        if reason:
            doubtful.append((thing, reason))
        else:
            sure.append(thing)
    first = annotations[0]
    vocabulary = _vocabulary(
        teachers, doubt, {thing.label for thing in sure}, {thing.label for thing, _ in doubtful}
    )
    return Evidence(
        first.image,
        first.digest,
        group,
        tuple(sure),
        tuple(doubtful),
        vocabulary,
        first.declared,
    )


def _joined(of_teachers: Iterable[Sequence[Sighting]]) -> list[_Seen]:
    """Put together what several teachers saw of the same thing."""
    seen: list[_Seen] = []
    for number, sightings in enumerate(of_teachers):
        for sighting in sightings:
            place = _place_of_same(seen, sighting, number)
            if place is None:
                seen.append(_Seen(sighting, (number,)))
            else:
                seen[place] = _both(seen[place], sighting, number)
    return seen


def _place_of_same(seen: Sequence[_Seen], sighting: Sighting, teacher: int) -> int | None:
    """Find what another teacher saw with the same label where either middle is in the other."""
    for place, other in enumerate(seen):
        is_alike = other.sighting.label == sighting.label and teacher not in other.teachers
        if is_alike and _overlap(other.sighting, sighting):
            return place
    return None


def _overlap(first: Sighting, second: Sighting) -> bool:
    return bool(first.region.contains(_middle(second)) or second.region.contains(_middle(first)))


def _middle(thing: Sighting) -> Floats:
    yaw_rad, pitch_rad = np.radians([thing.yaw_deg, thing.pitch_deg])
    return rays_from_angles(yaw_rad, pitch_rad)


def _both(seen: _Seen, sighting: Sighting, teacher: int) -> _Seen:
    """Return the surer sighting, with what only the other one knows."""
    surer, other = sorted((seen.sighting, sighting), key=lambda each: -each.score)
    known = {
        "num_views": surer.num_views + other.num_views,
        "distance_m": other.distance_m if surer.distance_m is None else surer.distance_m,
        "text": surer.text or other.text,
        "attributes": other.attributes | surer.attributes,
    }
    return _Seen(surer.model_copy(update=known), (*seen.teachers, teacher))


def _doubt_about(seen: _Seen, teachers: Sequence[Teacher], doubt: Doubt) -> str | None:
    """Return why a thing is doubtful; None if it is sure."""
    thing = seen.sighting
    if not _can_be_listed(thing.label):
        return "no listing can hold their label: empty, nothing, or with a comma or colon"
    own = [teachers[number].labels for number in seen.teachers]
    if all(labels is not None and thing.label not in labels for labels in own):
        return "their label is none of their teacher's"
    if reason := doubt.about(thing):
        return reason
    if abs(thing.pitch_deg) > MAX_PITCH_DEG:
        return "above or below the camera, which is no direction"
    others = [teacher for i, teacher in enumerate(teachers) if i not in seen.teachers]
    if any(thing.label in (teacher.labels or ()) for teacher in others):
        return "another teacher knows their label and did not see them"
    return None


def _vocabulary(
    teachers: Sequence[Teacher], doubt: Doubt, sure: set[str], doubtful: set[str]
) -> tuple[str, ...] | None:
    """Return the labels of which nothing doubtful was seen, in the teachers' order.

    A "stop sign" is a "sign" as well.
    """
    closed = [teacher.labels for teacher in teachers if teacher.labels is not None]
    if not closed:
        return None
    known = dict.fromkeys(label for labels in closed for label in labels)
    return tuple(
        label
        for label in known
        if _can_be_listed(label)
        and doubt.takes(label)
        and label not in doubtful
        and not any(other.endswith(f" {label}") for other in sure | doubtful)
    )


def _can_be_listed(label: str) -> bool:
    return label.strip() not in ("", NOTHING) and not any(mark in label for mark in _LISTS)


def _readable(text: str | None) -> str | None:
    """Return a sign's text in one line; None where it is none that can be asked for."""
    line = " ".join((text or "").split())
    return line if line and len(line) <= MAX_TEXT and IMAGE_MARK not in line else None
