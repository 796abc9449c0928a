"""Which inputs there are, what each becomes, and which outputs exist already."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panovlm.errors import PanoVLMError
from panovlm.pictures.conversion.pictures import PILLOW_FORMATS
from panovlm.pictures.conversion.settings import ConversionSettings
from panovlm.pictures.conversion.videos import VIDEO_ENDINGS, frame_times_s, is_video
from panovlm.pictures.conversion.views_folder import VIEWS_FILE
from panovlm.runtime.files import write_own

SETTINGS_FILE = "conversion.json"
"""In the folder written: the settings of all that is in it; what is older does not count."""
ENDINGS = {*PILLOW_FORMATS, ".tif", ".tiff", ".avif", ".heic", ".heif", ".hdr", ".exr", ".insp"}
"""How the names of pictures end."""


@dataclass(frozen=True)
class Job:
    """One input and what is to be made of it.

    Attributes:
        source: A picture, a video, or a folder of views.
        target: The picture to write, or the folder of pictures.
        time_s: When the video shows the frame taken; None for all else.
    """

    source: Path
    target: Path
    time_s: float | None = None

    def is_done(self, since_ns: int, *, makes_folder: bool) -> bool:
        """Check whether the target is whole and no older than its input and than the settings."""
        last_written = self.target / VIEWS_FILE if makes_folder else self.target
        try:
            return last_written.stat().st_mtime_ns >= max(since_ns, _changed_ns(self.source))
        except OSError:
            return False


def find_sources(given: Path, out: Path, *, with_videos: bool = False) -> list[tuple[Path, Path]]:
    """Find the inputs: a picture, a video, a folder of views, or all in a folder, at any depth.

    Names that begin with a dot are left out, links to folders are not followed, and `out` is not
    searched.

    Returns:
        Each input, and its path without ending below the folder given.

    Raises:
        PanoVLMError: If there is none, or a single file is a video without `with_videos`, or is no
            video with it.
    """
    if not given.exists():
        raise PanoVLMError(
            f"{given}: found no such file or folder, expected pictures to convert; check the path"
        )
    if not given.is_dir():
        if is_video(given) and not with_videos:
            raise PanoVLMError(
                f"{given}: found a video, expected how often to take a frame; pass --every 2s"
            )
        if with_videos and not is_video(given):
            raise PanoVLMError(
                f"{given}: found a picture and --every, which is for videos; omit it"
            )
        return [(given, Path(given.stem))]
    if (given / VIEWS_FILE).is_file():
        return [(given, Path(given.resolve().name))]
    endings = ENDINGS | VIDEO_ENDINGS if with_videos else ENDINGS
    walked = _walk(given, out.resolve(), endings)
    found = [(source, _without_ending(source, given)) for source in walked]
    if not found:
        raise PanoVLMError(
            f"{given}: found no pictures, expected files that end in {', '.join(sorted(endings))} "
            f"or folders with {VIEWS_FILE}; name another folder"
        )
    return found


def plan_jobs(
    sources: list[tuple[Path, Path]], out: Path, settings: ConversionSettings
) -> tuple[list[Job], list[str]]:
    """Plan what each input becomes below the folder `out`: a video, a folder of its frames.

    Returns:
        The jobs, and why inputs have none: those that would overwrite an input or another's output,
        and videos that are not read.
    """
    inputs = {_place(source): source for source, _ in sources}
    jobs: dict[Path, Job] = {}
    errors = []
    for source, name in sources:
        try:
            for job in _jobs_of(source, out / name, settings):
                place = _place(job.target)
                if place in inputs:
                    found = f"the input {inputs[place]} where its output would go"
                    raise PanoVLMError(f"{source}: found {found}")
                if place in jobs:
                    found = f"the same output as for {jobs[place].source}"
                    raise PanoVLMError(f"{source}: found {found}; rename it")
                jobs[place] = job
        except PanoVLMError as error:
            errors.append(str(error))
    return list(jobs.values()), errors


def _jobs_of(source: Path, target: Path, settings: ConversionSettings) -> list[Job]:
    """Return the job of an input, or one for each frame of a video, named by its time."""
    ending = "" if settings.makes_folders else settings.ending
    if settings.every_s is None or not is_video(source):
        return [Job(source, target.with_name(target.name + ending))]
    times_s = frame_times_s(source, settings.every_s)
    return [Job(source, target / (_clock(time_s) + ending), time_s) for time_s in times_s]


def _clock(time_s: float) -> str:
    """Return hours, minutes and seconds as a name that sorts by time: 00-01-30.000."""
    minutes, milliseconds = divmod(round(time_s * 1000), 60_000)
    return f"{minutes // 60:02d}-{minutes % 60:02d}-{milliseconds / 1000:06.3f}"


def claim_folder(out: Path, settings: ConversionSettings, *, overwrite: bool) -> int:
    """Make the folder written to, or check that it holds outputs of the same settings.

    Returns:
        When the settings were written, in nanoseconds; what is older does not count.

    Raises:
        PanoVLMError: If it holds something else, or outputs of other settings that are not to be
            overwritten.
    """
    path, present = out / SETTINGS_FILE, settings.to_json()
    if overwrite or not out.exists() or not any(out.iterdir()):
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(present, indent=2) + "\n"
        write_own(
            path,
            lambda partial: partial.write_text(text, encoding="utf-8"),
            lambda present: _settings_in(present) is not None,
        )
        return path.stat().st_mtime_ns
    before = _settings_in(path)
    if before == present:
        return path.stat().st_mtime_ns
    if before is None:
        raise PanoVLMError(
            f"{out}: found files that no conversion wrote; expected a new or empty folder; name "
            "another one, or pass --overwrite, which replaces none of them"
        )
    keys = [*present, *(before.keys() - present.keys())]
    other = [f"{key} {before.get(key)}" for key in keys if before.get(key) != present.get(key)]
    raise PanoVLMError(
        f"{out}: found outputs of other settings: {', '.join(other)}; expected a new or empty "
        "folder; name another one, or pass --overwrite"
    )


def _settings_in(path: Path) -> dict[str, Any] | None:
    """Return the settings that a conversion left in a folder; None if none did."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_own = isinstance(held, dict) and {"to", "face_size", "format"} <= held.keys()
    return held if is_own else None


def _walk(folder: Path, out: Path, endings: set[str]) -> Iterator[Path]:
    """Yield the files with one of the endings, and the folders of views, below a folder."""
    for here, folders, files in os.walk(folder):
        kept = (name for name in sorted(folders) if not name.startswith("."))
        folders[:] = [name for name in kept if Path(here, name).resolve() != out]
        if VIEWS_FILE in files:
            yield Path(here)
            continue
        for name in sorted(files):
            if Path(name).suffix.lower() in endings and not name.startswith("."):
                yield Path(here, name)


def _without_ending(source: Path, folder: Path) -> Path:
    """Return an input's path below the folder given; a folder's name has no ending."""
    below = source.relative_to(folder)
    return below if source.is_dir() else below.with_suffix("")


def _place(path: Path) -> Path:
    """Return the one path of a directory entry, however it was reached; a link is its own entry."""
    return path.parent.resolve() / path.name


def _changed_ns(source: Path) -> int:
    """Return when an input last changed, in nanoseconds."""
    files = source.iterdir() if source.is_dir() else [source]
    return max(file.stat().st_mtime_ns for file in files)
