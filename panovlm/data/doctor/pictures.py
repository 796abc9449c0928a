"""The inspection of one picture: whether it is a panorama, its digest and its spectrum."""

import signal
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2

from panovlm.data.doctor.copies import COLUMNS, Spectrum, spectrum_of
from panovlm.data.findings import Finding, FindingKind
from panovlm.errors import PanoVLMError
from panovlm.pictures.panorama import read_panorama
from panovlm.runtime.cached_folders import sha256


@dataclass(frozen=True)
class Picture:
    """The result of an inspection.

    Attributes:
        path: The file.
        error: Why it is not a panorama.
        is_missing: Whether that is because there is no such file.
        warnings: What was ignored in it.
        digest: SHA-256 of its bytes; None if it is not a panorama.
        spectrum: Tells it from others; None if it is not a panorama, or nearly blank.
    """

    path: Path
    error: str | None = None
    is_missing: bool = False
    warnings: tuple[str, ...] = ()
    digest: str | None = None
    spectrum: Spectrum | None = None

    @property
    def findings(self) -> list[Finding]:
        """What is wrong with it."""
        found = [Finding(FindingKind.XMP, text, field="image") for text in self.warnings]
        if self.error is not None:
            kind = FindingKind.MISSING if self.is_missing else FindingKind.PICTURE
            found.append(Finding(kind, self.error, field="image"))
        return found


def inspect_picture(path: Path) -> Picture:
    """Decode a picture as training would, at a small size."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            panorama = read_panorama(path, min_width=2 * COLUMNS)
        digest = sha256(path)
    except (PanoVLMError, OSError) as error:
        return Picture(path, str(error), isinstance(error.__cause__, FileNotFoundError))
    except MemoryError:
        return Picture(path, f"{path}: found too little memory to decode it; use fewer --workers")
    texts = tuple(dict.fromkeys(str(warning.message) for warning in caught))
    return Picture(path, warnings=texts, digest=digest, spectrum=spectrum_of(panorama))


def begin_worker() -> None:
    """Use one processor, and leave interruptions by the user to the main process."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
