"""Looking at one picture: whether it is a panorama, its content's digest and its spectrum."""

import hashlib
import signal
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2

from panovlm.data.doctor.copies import COLUMNS, Spectrum, spectrum_of
from panovlm.data.findings import Finding, FindingKind
from panovlm.errors import PanoVLMError
from panovlm.pictures.panorama import read_panorama


@dataclass(frozen=True)
class Picture:
    """What was seen in a picture file.

    Attributes:
        path: The file.
        error: Why it is no panorama.
        is_missing: Whether that is because there is no such file.
        warnings: What was ignored in it.
        digest: SHA-256 of its bytes; None if it is no panorama.
        spectrum: What tells it from others; None if it is no panorama, or shows nearly nothing.
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
        said = [Finding(FindingKind.XMP, text, field="image") for text in self.warnings]
        if self.error is not None:
            kind = FindingKind.MISSING if self.is_missing else FindingKind.PICTURE
            said.append(Finding(kind, self.error, field="image"))
        return said


def look_at(path: Path) -> Picture:
    """Decode a picture as training would, at the least size that shows what it is."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            panorama = read_panorama(path, min_width=2 * COLUMNS)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (PanoVLMError, OSError) as error:
        return Picture(path, str(error), isinstance(error.__cause__, FileNotFoundError))
    except MemoryError:
        return Picture(path, f"{path}: found too little memory to decode it; use fewer --workers")
    said = tuple(dict.fromkeys(str(warning.message) for warning in caught))
    return Picture(path, warnings=said, digest=digest, spectrum=spectrum_of(panorama))


def begin_worker() -> None:
    """Keep to one processor, and leave the user's interruption to the process that asked."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
