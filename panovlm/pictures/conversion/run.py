"""The conversion of many pictures: in processes, each picture whole or not at all, resumable."""

import os
import signal
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2

from panovlm.errors import PanoVLMError
from panovlm.geometry.cutting import cut_views, required_width
from panovlm.geometry.rotation import rotate_panorama, rotate_view
from panovlm.geometry.sphere import Pixels
from panovlm.geometry.views import View
from panovlm.pictures.conversion.jobs import Job, claim_folder, find_sources, plan_jobs
from panovlm.pictures.conversion.pictures import PILLOW_FORMATS, is_converted, write_picture
from panovlm.pictures.conversion.reading import read_frame_sphere, read_raw_sphere
from panovlm.pictures.conversion.settings import ConversionSettings
from panovlm.pictures.conversion.videos import is_video
from panovlm.pictures.conversion.views_folder import FACE_NAMES, assemble_folder, write_views
from panovlm.pictures.cubemaps import join_cubemap
from panovlm.pictures.declaring import declare
from panovlm.pictures.panorama import load_panorama
from panovlm.runtime.files import check_output
from panovlm.runtime.processes import mapping
from panovlm.runtime.progress import progress_bar

_JOBS_PER_PROCESS = 8
"""Inputs worth a process of their own: its start takes seconds."""


@dataclass(frozen=True)
class Conversion:
    """The outcome of a conversion.

    Attributes:
        num_written: Inputs converted.
        num_present: Inputs that had been converted before.
        errors: Why each of the others was not.
    """

    num_written: int
    num_present: int
    errors: tuple[str, ...]


def convert(
    given: Path,
    out: Path,
    settings: ConversionSettings,
    *,
    workers: int | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Convert a picture, or all pictures in a folder; what was converted before is left alone.

    An invalid input does not keep the others from being converted. With more than one worker the
    calling script needs its `if __name__ == "__main__"` guard.

    Args:
        given: A panorama or a cube map, a video where the settings say how often to take a frame,
            a folder of views written by this function, or a folder that holds any of them, at any
            depth.
        out: A picture to write, for one input that becomes one picture, by its ending; otherwise a
            folder, which repeats the tree of the folder given.
        settings: What to make.
        workers: Number of processes, at least 1; None takes one for each processor, fewer where
            starting them would take longer than the work.
        overwrite: Whether to write over what a conversion wrote to `out`. Nothing else is ever
            written over.

    Raises:
        PanoVLMError: If there is no input, `out` holds something else, or a process died.
        OSError: If the disk fails.
    """
    if workers is not None and workers < 1:
        raise PanoVLMError(f"found {workers} workers, expected 1 or more; raise workers")
    sources = find_sources(given, out, with_videos=settings.every_s is not None)
    is_one = len(sources) == 1 and not is_video(sources[0][0])
    one_to_one = is_one and not settings.makes_folders
    if one_to_one and out.suffix.lower() in PILLOW_FORMATS and not out.is_dir():
        only = _only_job(sources[0][0], out, settings, overwrite=overwrite)
        errors = _convert_all([only], settings, workers)
        return Conversion(1 - len(errors), 0, tuple(errors))
    _check_folder(given, out)
    jobs, refused = plan_jobs(sources, out, settings)
    since_ns, folders = claim_folder(out, settings, overwrite=overwrite), settings.makes_folders
    to_do = [job for job in jobs if not job.is_done(since_ns, makes_folder=folders)]
    errors = _convert_all(to_do, settings, workers)
    present = len(jobs) - len(to_do)
    return Conversion(len(to_do) - len(errors), present, (*refused, *errors))


def _only_job(source: Path, out: Path, settings: ConversionSettings, *, overwrite: bool) -> Job:
    """Check the name of a single picture to write."""
    kinds = PILLOW_FORMATS[out.suffix.lower()], PILLOW_FORMATS[settings.ending]
    if settings.format is not None and kinds[0] != kinds[1]:
        raise PanoVLMError(
            f"found --format {settings.format} and the name {out}, expected one format; leave "
            "--format out or change the name"
        )
    if os.path.lexists(out) and not overwrite:
        raise PanoVLMError(
            f"{out}: found a file there already, expected a new name; name another file, or pass "
            "--overwrite to replace what a conversion wrote"
        )
    check_output(out, is_converted, [source, *(source.iterdir() if source.is_dir() else ())])
    out.parent.mkdir(parents=True, exist_ok=True)
    return Job(source, out)


def _check_folder(given: Path, out: Path) -> None:
    """Refuse a folder to write that is none, or that is the one read."""
    if out.exists() and not out.is_dir():
        raise PanoVLMError(f"{out}: found a file, expected a folder to write; name another one")
    if given.is_dir() and out.resolve() == given.resolve():
        raise PanoVLMError(
            f"{out}: found the folder that is read, expected another one to write; name another one"
        )


def _convert_all(jobs: list[Job], settings: ConversionSettings, workers: int | None) -> list[str]:
    """Convert all inputs and return why some could not be."""
    if workers is None:
        workers = min(os.cpu_count() or 1, -(-len(jobs) // _JOBS_PER_PROCESS))
    errors = []
    convert_one = partial(_attempt, settings=settings)
    with (
        progress_bar("converting", len(jobs)) as advance,
        mapping(min(workers, len(jobs)), _begin_worker) as apply,
    ):
        for failure in apply(convert_one, jobs):
            errors += [failure] if failure else []
            advance(1, f"{len(errors)} failed" if errors else "")
    return errors


def _begin_worker() -> None:
    """Keep to one processor, and end the picture in hand when the user stops the command."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _attempt(job: Job, settings: ConversionSettings) -> str | None:
    """Convert one input and return why it could not be, or None."""
    try:
        _convert_one(job, settings)
    except PanoVLMError as error:
        return str(error)
    except MemoryError:
        return (
            f"{job.source}: found too little memory, expected room for a few copies of the picture;"
            " use fewer --workers or a smaller size"
        )
    return None


def _convert_one(job: Job, settings: ConversionSettings) -> None:
    job.target.parent.mkdir(parents=True, exist_ok=True)
    if settings.to == "equirectangular":
        sphere = _read_sphere(job, settings.width, settings)
        pixels = rotate_panorama(sphere, *settings.rotation_deg, width=settings.width)
        write_picture(pixels, job.target, settings.quality, is_sphere=True)
        return
    views = _cut(job, settings)
    if settings.makes_folders:
        numbered = tuple(f"view_{index:02d}" for index in range(len(views)))
        names = FACE_NAMES if settings.to == "cubemap" else numbered
        files = [name + settings.ending for name in names]
        write_views(views, settings.layout, files, job.target, settings.quality)
    else:
        joined = join_cubemap(views, "dice" if settings.arrangement == "dice" else "strip")
        write_picture(joined, job.target, settings.quality)


def _cut(job: Job, settings: ConversionSettings) -> Pixels:
    """Cut the rotated views from the panorama as it is: it is sampled once, not twice."""
    layout = settings.layout
    views = (view for view in layout.views if isinstance(view, View))  # none of them is global
    rotated = replace(layout, views=tuple(rotate_view(view, settings.camera) for view in views))
    return cut_views(_read_sphere(job, required_width(rotated), settings), rotated)


def _read_sphere(job: Job, min_width: int | None, settings: ConversionSettings) -> Pixels:
    """Read an input of any kind as an equirectangular panorama."""
    if job.source.is_dir():
        return assemble_folder(job.source)
    if job.time_s is not None:
        return read_frame_sphere(job.source, job.time_s, min_width, settings)
    if settings.raw_projection is not None:
        return read_raw_sphere(job.source, min_width, settings)
    return load_panorama(declare(job.source, settings.declared), min_width)
