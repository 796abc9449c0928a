"""What a teacher is: it is shown the views of a panorama and returns what it sees in each."""

from dataclasses import dataclass
from typing import Protocol

from panovlm.data.annotations import Teacher
from panovlm.errors import PanoVLMError
from panovlm.geometry.boxes import ViewBox
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Pixels

PACKAGED = "packaged"
"""Name of the teacher that needs no hub."""


@dataclass(frozen=True)
class Detection:
    """A thing in a view.

    Attributes:
        label: What it is.
        box: Where, in pixels of the view.
        score: How sure the teacher is, in (0, 1].
        text: What it says, for signs.
    """

    label: str
    box: ViewBox
    score: float = 1.0
    text: str | None = None


@dataclass(frozen=True)
class ViewResult:
    """What a teacher returns about one view.

    Attributes:
        detections: Everything it found there.
        caption: What it says about the view as a whole.
        findings: What it could not do, or did wrong, and why.
        failed: Whether it returned nothing that can be used.
    """

    detections: tuple[Detection, ...] = ()
    caption: str | None = None
    findings: tuple[str, ...] = ()
    failed: bool = False


class TeacherError(PanoVLMError):
    """A teacher that failed on every view of a picture."""


class ViewTeacher(Protocol):
    """Sees what is in views. It is cheap to make and to pickle: models are loaded when needed."""

    @property
    def description(self) -> Teacher:
        """Its name, labels and all that its result rests on, but for the views."""

    @property
    def in_processes(self) -> bool:
        """Whether it computes here, so that workers are processes; otherwise they are its own."""

    def prepare(self) -> None:
        """Download what it needs; a PanoVLMError if it cannot be used."""

    def annotate(self, views: Pixels, layout: ViewLayout) -> list[ViewResult]:
        """Return what is in each of V views.

        Args:
            views: uint8 RGB [V, S, S, 3].
            layout: Where they were cut, in the same order.
        """
