"""One picture: its views are cut, the teacher is asked, and what it saw is merged."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from panovlm.annotating.merging import DEFAULT_ACCEPTANCE, Acceptance, merge
from panovlm.annotating.teachers import TeacherError, ViewResult, ViewTeacher
from panovlm.annotating.views import describe_views
from panovlm.data.annotations import Annotation, Teacher, ViewCaption
from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import cut_mask, cut_views, required_width
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.views import View
from panovlm.pictures.declaring import Declaration, PictureFile, declaration_of
from panovlm.pictures.panorama import Panorama, read_panorama
from panovlm.runtime.cached_folders import sha256


@dataclass(frozen=True)
class Picture:
    """A picture to annotate.

    Attributes:
        path: Its file, with what is declared of it.
        name: Its path as the annotation states it, from the annotations' folder.
        group: The place it shows, where that is known.
    """

    path: PictureFile
    name: str
    group: str | None = None

    @property
    def declared(self) -> Declaration | None:
        """What is declared of it; None where nothing is."""
        declared = declaration_of(self.path)
        return declared if declared.said else None


@dataclass(frozen=True)
class Setup:
    """All that annotations rest on, but for the pictures.

    Attributes:
        teacher: Who says what is in views.
        layout: The views.
        acceptance: What a thing needs to be reported.
    """

    teacher: ViewTeacher
    layout: ViewLayout
    acceptance: Acceptance = DEFAULT_ACCEPTANCE

    @property
    def description(self) -> Teacher:
        """The teacher's description together with the views and what is reported."""
        alone = self.teacher.description
        settings = {**alone.settings, **asdict(self.acceptance)}
        settings["views"] = describe_views(self.layout)
        return alone.model_copy(update={"settings": settings})


def open_panorama(path: PictureFile, layout: ViewLayout) -> Panorama:
    """Read a picture as large as the views need it; a PanoVLMError if it cannot be read."""
    return read_panorama(path, required_width(layout))


def annotate_panorama(
    panorama: Panorama, picture: Picture, digest: str, setup: Setup
) -> Annotation:
    """Annotate an opened picture.

    Args:
        panorama: The picture.
        picture: Where it is.
        digest: SHA-256 of its file, hexadecimal.
        setup: Who annotates, and how.

    Raises:
        TeacherError: If the teacher failed on every view.
    """
    seen = _with_content(panorama, setup.layout)
    results = setup.teacher.annotate(cut_views(panorama.pixels, seen), seen)
    views = [view for view in seen.views if isinstance(view, View)]
    found = [*zip(views, results, strict=True)]
    if found and all(result.failed for result in results):
        raise TeacherError(
            f"{picture.path}: the teacher failed on all {len(found)} views, the first time because "
            f"{results[0].findings[0]}"
        )
    detections = ((view, each.detections) for view, each in found)
    return Annotation(
        image=Path(picture.name),
        digest=digest,
        teacher=setup.description,
        group=picture.group,
        declared=picture.declared,
        sightings=merge(detections, seen.view_size, setup.acceptance),
        captions=tuple(_captions(found)),
        findings=tuple(_findings(found)),
    )


def _with_content(panorama: Panorama, layout: ViewLayout) -> ViewLayout:
    """Leave out the views that show nothing of a partial panorama."""
    if panorama.mask is None:
        return layout
    masks = cut_mask(panorama.mask, layout)
    kept = tuple(view for view, mask in zip(layout.views, masks, strict=True) if mask.any())
    return replace(layout, views=kept)


def _captions(found: list[tuple[View, ViewResult]]) -> list[ViewCaption]:
    return [
        ViewCaption(yaw_deg=view.yaw_deg, pitch_deg=view.pitch_deg, text=each.caption)
        for view, each in found
        if each.caption
    ]


def _findings(found: list[tuple[View, ViewResult]]) -> list[str]:
    return [
        f"view at yaw {view.yaw_deg:g}°, pitch {view.pitch_deg:g}°: {finding}"
        for view, each in found
        for finding in each.findings
    ]


def digest_of(path: Path) -> str:
    """Compute the SHA-256 of a file, hexadecimal; a PanoVLMError if it cannot be read."""
    try:
        return sha256(path)
    except OSError as error:
        raise PanoVLMError(
            f"{path}: found a file that cannot be read ({error.strerror}), expected a panorama "
            "picture; check the path and its permissions"
        ) from error
