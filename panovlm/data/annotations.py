"""Annotations: what is in a panorama and where on the sphere, one line of JSON a picture.

A teacher (a detector, a model behind an endpoint, a person) writes them for pictures that nobody
has described; a rendered scene is the same with certainty. Questions and listings are written from
them alone (`panovlm.data.questions`).
"""

from math import atan2, cos, degrees, radians, tan
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from panovlm.data.findings import Finding
from panovlm.data.lines import json_lines
from panovlm.errors import PanoVLMError
from panovlm.geometry.regions import Region
from panovlm.pictures.declaring import Declaration, PictureFile, declare


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sighting(_Line):
    """One thing in a panorama.

    Attributes:
        label: What it is, as in "car" or "red cube".
        yaw_deg: Of its middle, in (-180, 180], positive to the right.
        pitch_deg: Of its middle, positive up.
        width_deg: Of the field of view that just holds it.
        height_deg: Of the same.
        score: How sure the teacher is; 1 is certain.
        num_views: Overlapping views in which it was found.
        distance_m: From the camera, where it is known.
        text: What it says, for signs.
        attributes: More about it, as in {"colour": "red", "shape": "cube"}.
    """

    label: Annotated[str, Field(min_length=1)]
    yaw_deg: Annotated[float, Field(gt=-180, le=180)]
    pitch_deg: Annotated[float, Field(ge=-90, le=90)]
    width_deg: Annotated[float, Field(gt=0, lt=180)]
    height_deg: Annotated[float, Field(gt=0, lt=180)]
    score: Annotated[float, Field(gt=0, le=1)] = 1.0
    num_views: Annotated[int, Field(ge=1)] = 1
    distance_m: Annotated[float, Field(gt=0)] | None = None
    text: str | None = None
    attributes: dict[str, str] = {}

    @property
    def region(self) -> Region:
        """The field of view that just holds it."""
        return Region(self.yaw_deg, self.pitch_deg, self.width_deg, self.height_deg)

    @property
    def yaw_width_deg(self) -> float:
        """Yaw that its middle covers from side to side, in (0, 180]: the more, the farther up."""
        side = tan(radians(self.width_deg) / 2)
        return 2 * degrees(atan2(side, cos(radians(self.pitch_deg))))


class ViewCaption(_Line):
    """What a teacher said about one view.

    Attributes:
        yaw_deg: Of the view's middle.
        pitch_deg: Of the same.
        text: The caption.
    """

    yaw_deg: float
    pitch_deg: float
    text: str


class Teacher(_Line):
    """Who annotated, with all that its result rests on.

    Attributes:
        name: As on the command line.
        settings: Model, versions, thresholds and views.
        labels: Everything that it would have reported if it had seen it; None where that is open.
    """

    name: str
    settings: dict[str, Any] = {}
    labels: tuple[str, ...] | None = None


class Annotation(_Line):
    """Everything that a teacher saw in one panorama.

    Attributes:
        image: The picture; relative paths are from the annotations' folder.
        digest: SHA-256 of the picture's bytes, hexadecimal.
        teacher: Who saw it.
        group: The place it shows: pictures of one group are never split apart.
        declared: What the picture is, where it does not say so itself.
        sightings: All things, in order of their yaw.
        captions: Of its views, where the teacher gives any.
        findings: Views that could not be annotated, and why.
    """

    image: Path
    digest: str
    teacher: Teacher
    group: str | None = None
    declared: Declaration | None = None
    sightings: tuple[Sighting, ...] = ()
    captions: tuple[ViewCaption, ...] = ()
    findings: tuple[str, ...] = ()

    @property
    def shown(self) -> PictureFile:
        """The picture's file with what is declared of it."""
        return declare(self.image, self.declared)

    def to_line(self) -> str:
        """Return it as one line of JSON; what has its default value is left out."""
        return self.model_dump_json(exclude_defaults=True)


def read_annotations(path: Path) -> list[Annotation]:
    """Read a file of annotations; paths of pictures no longer depend on its folder.

    Raises:
        PanoVLMError: Naming the first line that is none, and why.
    """
    annotations = []
    for line in json_lines(path):
        if isinstance(line, Finding):
            raise PanoVLMError(str(line))
        number, content = line
        annotations.append(_checked(path, number, content))
    return annotations


def _checked(path: Path, number: int, content: Any) -> Annotation:
    try:
        annotation = Annotation.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise PanoVLMError(
            f"{path} line {number}: found {where}: {first['msg']}; expected an annotation as "
            "`panovlm annotate` writes it; change the line or annotate again"
        ) from error
    return annotation.model_copy(update={"image": path.parent / annotation.image})
