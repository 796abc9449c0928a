"""The inspection of one picture: whether it is a panorama, its digest and its spectrum."""

import signal
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2

from panovlm.data.doctor.copies import COLUMNS, Spectrum, spectrum_of
from panovlm.data.findings import Finding, FindingKind
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import PictureFile, declaration_of
from panovlm.pictures.gpano import XMPWarning
from panovlm.pictures.lookalikes import is_doubtful
from panovlm.pictures.panorama import read_panorama
from panovlm.runtime.cached_folders import sha256


@dataclass(frozen=True)
class Picture:
    """The result of an inspection.

    Attributes:
        file: The file, with what is declared of it.
        findings: What is wrong with it, or was ignored in it.
        digest: SHA-256 of its bytes; None if it is not a panorama.
        spectrum: Tells it from others; None if it is not a panorama, or nearly blank.
    """

    file: PictureFile
    findings: tuple[Finding, ...] = ()
    digest: str | None = None
    spectrum: Spectrum | None = None

    @property
    def path(self) -> Path:
        """The file's path."""
        return Path(self.file)


def inspect_picture(path: PictureFile) -> Picture:
    """Decode a picture as training would, at a small size."""
    kind = FindingKind.PICTURE
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            panorama = read_panorama(path, min_width=2 * COLUMNS)
        digest = sha256(Path(path))
    except (PanoVLMError, OSError) as error:
        if isinstance(error.__cause__, FileNotFoundError):
            kind = FindingKind.MISSING
        return Picture(path, (Finding(kind, str(error), field="image"),))
    except MemoryError:
        found = f"{path}: found too little memory to decode it; use fewer --workers"
        return Picture(path, (Finding(kind, found, field="image"),))
    kinds = {str(warning.message): _kind(warning.category) for warning in caught}
    is_declared = declaration_of(path).projection is not None
    if panorama.mask is None and not is_declared and is_doubtful(panorama.pixels):
        found = (
            f"{path}: found a left and right edge that do not meet and poles of many colours, "
            "expected a full sphere; look whether it is a photograph or a part of a sphere"
        )
        kinds[found] = FindingKind.DOUBT
    findings = tuple(Finding(kind, text, field="image") for text, kind in kinds.items())
    return Picture(path, findings, digest, spectrum_of(panorama))


def _kind(category: type[Warning]) -> FindingKind:
    return FindingKind.XMP if issubclass(category, XMPWarning) else FindingKind.DOUBT


def begin_worker() -> None:
    """Use one processor, and leave interruptions by the user to the main process."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
