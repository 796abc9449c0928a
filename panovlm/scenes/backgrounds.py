"""Real panoramas behind the solids: found in a folder, split into train and test, and checked."""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from panovlm.errors import PanoVLMError

SUFFIXES = (".jpg", ".jpeg", ".png")
TEST_STRIDE = 5
"""Every fifth panorama, by name, is for testing."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backgrounds:
    """The panoramas of a folder, none of them in both splits.

    Attributes:
        train: Backgrounds of pictures to train on.
        test: Backgrounds of held-out pictures.
        digest: Changes with the names and sizes of the files; None without a folder.
    """

    train: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()
    digest: str | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All panoramas."""
        return self.train + self.test

    def without_invalid(self, errors: Iterable[str | None]) -> "Backgrounds":
        """Return the panoramas that can be read; each of the others gets a warning.

        Args:
            errors: What is wrong with each of `paths`; None if nothing is.

        Raises:
            PanoVLMError: If a split has no panorama left.
        """
        found = dict(zip(self.paths, errors, strict=True))
        for error in filter(None, found.values()):
            logger.warning("background left out: %s", error)
        train, test = (
            tuple(path for path in split if not found[path]) for split in (self.train, self.test)
        )
        if self.paths and not (train and test):
            raise PanoVLMError(
                f"found {len(train)} readable backgrounds to train on and {len(test)} to test on, "
                f"expected some of both (every {TEST_STRIDE}th by name is for testing); add "
                "panoramas to the folder of backgrounds"
            )
        return replace(self, train=train, test=test)


def find_backgrounds(folder: Path) -> Backgrounds:
    """List the pictures in a folder, at any depth, and split them by their alphabetical order.

    Raises:
        PanoVLMError: If there are fewer than two, which is too few to split.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if len(found) < 2:
        raise PanoVLMError(
            f"{folder}: found {len(found)} pictures ({', '.join(SUFFIXES)}), expected a folder "
            "with at least 2 panoramas, one to train on and one to test on; add some"
        )
    digest = hashlib.sha256()
    for path in found:
        digest.update(f"{path.relative_to(folder).as_posix()}\n{path.stat().st_size}\n".encode())
    train = tuple(path for i, path in enumerate(found) if i % TEST_STRIDE)
    return Backgrounds(train, tuple(found[::TEST_STRIDE]), digest.hexdigest()[:24])
