"""More pictures from few: annotated things cut out of panoramas and put into others.

    pictures/000000.jpg ...
    annotations.jsonl       what is in them: all that was in the picture, and what was put in
    questions/train.jsonl   questions and listings about them, and the listings alone beside it

Along the horizon of an equirectangular picture a thing moves without a change of its pixels, so it
stays at its pitch and goes to another yaw. Copies of things at random places are known from object
detection (Ghiasi et al., "Simple Copy-Paste", arXiv:2012.07177).

Composites are to train on alone, and made of no picture that is tested on.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from panovlm.data.annotations import Annotation, Sighting, read_annotations
from panovlm.data.questions.evidence import Doubt
from panovlm.data.questions.run import QuestionSettings, write_questions
from panovlm.data.questions.splitting import place_of
from panovlm.data.record_files import read_records
from panovlm.data.records import Needs
from panovlm.errors import PanoVLMError
from panovlm.geometry.places import angles_to_panorama
from panovlm.geometry.sphere import DIRECTIONS, Floats, Pixels, wrap_deg
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.cached_folders import sha256
from panovlm.runtime.files import whole_folder

COMPOSITES, ANNOTATIONS = "composites", "annotations.jsonl"
JPEG_QUALITY = 90
MOST_THINGS = 5
"""Things put into one picture, at most."""
MOST_PITCH_DEG, MOST_SIZE_DEG, LEAST_SIZE_DEG = 45.0, 80.0, 3.0
"""Of things cut out: rows farther up or down are stretched too unevenly."""
SCALES, GAINS = (0.75, 1.35), (0.8, 1.2)
"""Ranges of a copy's size and brightness."""
GAP_DEG = 2.0
"""Between a copy and anything else, so that nothing is hidden; things cut out may overlap by it."""
TRIES = 12
_MARGIN = 0.3
"""Surroundings shown to the segmentation, as a share of the thing's longer side."""
_SEGMENTED = (0.2, 0.97)
"""Share of its box that a thing fills; beyond it, the segmentation failed and the box is copied."""


@dataclass(frozen=True)
class Cutout:
    """A thing cut out of a picture.

    Attributes:
        sighting: What it is, and where it was.
        pixels: uint8 [h, w, 3].
        opacity: float64 [h, w], in [0, 1].
    """

    sighting: Sighting
    pixels: Pixels
    opacity: Floats


def write_composed_questions(
    files: Sequence[Path],
    folder: Path,
    count: int,
    settings: QuestionSettings,
    progress: Callable[[int], None],
) -> Counter[str]:
    """Write composites to train on, and questions about them, beside those of `write_questions`.

    Args:
        files: The one file of annotations of which the questions in `folder` were made.
        folder: With `train.jsonl`; gets `composites`.
        count: Number of composites, at least 1.
        settings: Of the questions. Composites have things at all yaws already, so that each is
            rotated by whole directions alone.
        progress: Called with the number of composites finished since the last call.

    Returns:
        How many things of each label were cut out.

    Raises:
        PanoVLMError: If there are several files, or nothing can be cut out.
    """
    if len(files) != 1:
        raise PanoVLMError(
            f"found {len(files)} files of annotations, expected one to make composites of; leave "
            "--composites out, or name one file"
        )
    out = folder / COMPOSITES
    found = write_composites(
        files[0],
        out,
        count,
        tested_on=tested if (tested := folder / "test.jsonl").exists() else None,
        split_by=settings.split_by,
        doubt=settings.doubt,
        seed=settings.seed,
        progress=progress,
    )
    all_to_train = replace(settings, test_share=0.0, test_places=(), yaw_steps=len(DIRECTIONS))
    write_questions([out / ANNOTATIONS], out / "questions", all_to_train)
    return found


def write_composites(
    annotations_file: Path,
    out: Path,
    count: int,
    *,
    tested_on: Path | None = None,
    split_by: str = "group",
    doubt: Doubt,
    seed: int = 0,
    height: int = 640,
    progress: Callable[[int], None],
) -> Counter[str]:
    """Write composites of annotated pictures; `out` appears whole or not at all.

    Args:
        annotations_file: Of one teacher.
        out: New or empty folder.
        count: Number of composites, at least 1.
        tested_on: Records to test on: their pictures, copies of these and their places stay out.
        split_by: As in `QuestionSettings`; by picture, other pictures of a place may be used.
        doubt: What is doubtful is not cut out.
        seed: Of all choices.
        height: Rows of each picture, in pixels; it is twice as wide.
        progress: Called with the number of composites finished since the last call.

    Returns:
        How many things of each label can be cut out.

    Raises:
        PanoVLMError: If `count` is out of range, nothing can be cut out, a picture cannot be read,
            or there is something at `out`.
    """
    if count < 1:
        raise PanoVLMError(f"found count {count}, expected at least 1; raise it")
    kept = _kept(annotations_file, tested_on, split_by)
    pictures = [_reduced(load_panorama(annotation.shown), height) for annotation in kept]
    pairs = zip(kept, pictures, strict=True)
    cutouts = [cutout for pair in pairs for cutout in cut_out(*pair, doubt)]
    if not cutouts:
        raise PanoVLMError(
            f"found nothing to cut out in {len(kept)} pictures of {annotations_file}, expected "
            f"things scored {doubt.min_score} or more within {MOST_PITCH_DEG:.0f}° of the horizon; "
            "lower --min-score, name more --labels, or annotate with another teacher"
        )
    with whole_folder(out) as folder:
        (folder / "pictures").mkdir()
        with (folder / ANNOTATIONS).open("w", encoding="utf-8") as file:
            for number in range(count):
                rng = np.random.default_rng((seed, number))
                place = int(rng.integers(len(kept)))
                pixels, things = compose(pictures[place], kept[place], cutouts, rng)
                image = folder / "pictures" / f"{number:06d}.jpg"
                Image.fromarray(pixels).save(image, quality=JPEG_QUALITY)
                file.write(_described(kept[place], image, things).to_line() + "\n")
                progress(1)
    return Counter(cutout.sighting.label for cutout in cutouts)


def _kept(annotations_file: Path, tested_on: Path | None, split_by: str) -> list[Annotation]:
    """Return the annotations of pictures and places that are not tested on."""
    annotations = read_annotations(annotations_file)
    records = read_records(tested_on, Needs(True, True)) if tested_on else []
    paths = {path.resolve() for record in records for path in record.paths}
    tested = [each for each in annotations if each.image.resolve() in paths]
    digests = {each.digest for each in tested}
    places = {place_of(each, annotations_file) for each in tested if split_by == "group"}
    return [
        each
        for each in annotations
        if each.digest not in digests and place_of(each, annotations_file) not in places
    ]


def _described(of: Annotation, image: Path, things: tuple[Sighting, ...]) -> Annotation:
    """Return the annotation of a composite."""
    changes = {"digest": sha256(image), "declared": None, "captions": (), "sightings": things}
    name = Path(image.parent.name) / image.name
    return of.model_copy(update={"image": name, **changes})


def cut_out(annotation: Annotation, pixels: Pixels, doubt: Doubt) -> list[Cutout]:
    """Cut out the things of a picture that nothing else hides.

    Args:
        annotation: What is in the picture.
        pixels: uint8 [H, W, 3], equirectangular.
        doubt: What is doubtful is left.
    """
    there = doubt.there(annotation.sightings)
    return [
        _cut(thing, pixels)
        for thing in there
        if _is_suitable(thing, doubt)
        and not any(_touch(thing, other, -GAP_DEG) for other in there if other is not thing)
    ]


def _is_suitable(thing: Sighting, doubt: Doubt) -> bool:
    sizes = thing.yaw_width_deg, thing.height_deg
    return (
        doubt.about(thing) is None
        and abs(thing.pitch_deg) <= MOST_PITCH_DEG
        and max(sizes) <= MOST_SIZE_DEG
        and min(sizes) >= LEAST_SIZE_DEG
    )


def _cut(thing: Sighting, pixels: Pixels) -> Cutout:
    """Cut a thing out along its outline, as far as it stands out from what is around it."""
    rows, columns = pixels.shape[:2]
    column, row = _middle(thing, rows, columns)
    centred = np.roll(pixels, columns // 2 - column, axis=1)
    width, height = _pixel_size(thing.yaw_width_deg, thing.height_deg, rows)
    top, left = max(0, row - height // 2), columns // 2 - width // 2
    margin = max(4, round(_MARGIN * max(width, height)))
    first_row, first_column = max(0, top - margin), left - margin
    around = np.ascontiguousarray(
        centred[first_row : top + height + margin, first_column : left + width + margin]
    )
    box = (left - first_column, top - first_row, width, height)
    pixels, opacity = _segmented(around, box)
    return Cutout(thing, pixels, opacity)


def _segmented(around: Pixels, box: tuple[int, int, int, int]) -> tuple[Pixels, Floats]:
    """Return a box's pixels, and where the thing in it is: GrabCut, Rother et al. 2004."""
    x, y, width, height = box
    mask, of_thing, of_rest = np.zeros(around.shape[:2], np.uint8), *np.zeros((2, 1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(around, mask, box, of_rest, of_thing, 4, cv2.GC_INIT_WITH_RECT)
    inside = (slice(y, y + height), slice(x, x + width))
    is_thing = np.isin(mask[inside], (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float64)
    if not _SEGMENTED[0] <= is_thing.mean() <= _SEGMENTED[1]:
        is_thing[:] = 1.0
    return around[inside], np.asarray(cv2.GaussianBlur(is_thing, (5, 5), 0), dtype=np.float64)


def compose(
    pixels: Pixels, annotation: Annotation, cutouts: Sequence[Cutout], rng: np.random.Generator
) -> tuple[Pixels, tuple[Sighting, ...]]:
    """Put things into a picture where nothing is yet; rare labels come more often than they are.

    Args:
        pixels: uint8 [H, W, 3], equirectangular.
        annotation: What is in the picture.
        cutouts: At least one.
        rng: Of all choices.

    Returns:
        The new picture, and all that is in it.
    """
    out, things = pixels.copy(), list(annotation.sightings)
    counts = Counter(cutout.sighting.label for cutout in cutouts)
    weights = np.array([counts[cutout.sighting.label] ** -0.5 for cutout in cutouts])
    for _ in range(int(rng.integers(1, MOST_THINGS + 1))):
        cutout = cutouts[int(rng.choice(len(cutouts), p=weights / weights.sum()))]
        copy = _placed(cutout.sighting, float(rng.uniform(*SCALES)), things, rng)
        if copy is not None:
            _paste(out, cutout, copy, float(rng.uniform(*GAINS)), is_mirrored=rng.random() < 0.5)
            things.append(copy)
    return out, tuple(sorted(things, key=lambda thing: thing.yaw_deg))


def _placed(
    thing: Sighting, scale: float, others: Sequence[Sighting], rng: np.random.Generator
) -> Sighting | None:
    """Return a thing of another size, standing where nothing else is; None if it finds no room."""
    height_deg = thing.height_deg * scale
    copy = thing.model_copy(
        update={
            "height_deg": height_deg,
            "width_deg": thing.width_deg * scale,
            "pitch_deg": thing.pitch_deg + (height_deg - thing.height_deg) / 2,  # same ground
            "distance_m": None,
        }
    )
    for yaw_deg in rng.uniform(-180.0, 180.0, TRIES):
        copy = copy.model_copy(update={"yaw_deg": float(wrap_deg(yaw_deg))})
        if not any(_touch(copy, other, GAP_DEG) for other in others):
            return copy if abs(copy.pitch_deg) + height_deg / 2 < 80.0 else None
    return None


def _touch(first: Sighting, second: Sighting, gap_deg: float) -> bool:
    """Check whether two things come nearer than a gap; a negative one is an overlap."""
    yaw_deg = abs(float(wrap_deg(first.yaw_deg - second.yaw_deg)))
    pitch_deg = abs(first.pitch_deg - second.pitch_deg)
    return (
        yaw_deg < (first.yaw_width_deg + second.yaw_width_deg) / 2 + gap_deg
        and pitch_deg < (first.height_deg + second.height_deg) / 2 + gap_deg
    )


def _paste(
    pixels: Pixels, cutout: Cutout, copy: Sighting, gain: float, *, is_mirrored: bool
) -> None:
    """Draw a copy into a picture, across its seam where need be."""
    rows, columns = pixels.shape[:2]
    size = _pixel_size(copy.yaw_width_deg, copy.height_deg, rows)
    new = cv2.resize(cutout.pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    opacity = cv2.resize(cutout.opacity, size)[..., None]
    if is_mirrored:
        new, opacity = new[:, ::-1], opacity[:, ::-1]
    column, row = _middle(copy, rows, columns)
    down = row - size[1] // 2 + np.arange(size[1])
    across = (column - size[0] // 2 + np.arange(size[0])) % columns
    is_inside = (down >= 0) & (down < rows)
    at = np.ix_(down[is_inside], across)
    new, opacity = np.clip(gain * new[is_inside], 0, 255), opacity[is_inside]
    pixels[at] = np.round(pixels[at] * (1 - opacity) + new * opacity).astype(np.uint8)


def _reduced(pixels: Pixels, height: int) -> Pixels:
    size = (2 * height, height)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _pixel_size(width_deg: float, height_deg: float, rows: int) -> tuple[int, int]:
    """Return the width and height in pixels, at least 3 of each."""
    return max(3, round(width_deg / 180 * rows)), max(3, round(height_deg / 180 * rows))


def _middle(thing: Sighting, rows: int, columns: int) -> tuple[int, int]:
    """Return the column and row of a thing's middle."""
    x, y = angles_to_panorama(thing.yaw_deg, thing.pitch_deg, rows, columns)
    return round(float(x)), round(float(y))
