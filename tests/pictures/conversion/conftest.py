"""An analytic world: a smooth colour for every direction, as panoramas and as files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from panovlm.geometry.sphere import Pixels, panorama_rays

Colours = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@pytest.fixture
def colours() -> Colours:
    """The colour of every ray, 0..255."""

    def of(rays: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y, z = np.moveaxis(rays, -1, 0)
        return 127.5 + np.stack(
            [100 * x, 60 * y + 50 * z * x, 70 * np.sin(3 * z) + 30 * y], axis=-1
        )

    return of


@pytest.fixture
def panorama(colours: Colours) -> Pixels:
    """What a camera in the middle of it takes, uint8 [256, 512, 3]."""
    return np.rint(colours(panorama_rays(256, 512))).astype(np.uint8)


@pytest.fixture
def picture(tmp_path: Path, panorama: Pixels) -> Path:
    """The same as a file."""
    path = tmp_path / "world.png"
    Image.fromarray(panorama).save(path)
    return path


@pytest.fixture
def album(tmp_path: Path, panorama: Pixels) -> Path:
    """A folder of small panoramas at two depths, with a file that is no picture."""
    folder = tmp_path / "album"
    (folder / "attic" / "old.ones").mkdir(parents=True)
    small = Image.fromarray(panorama).resize((64, 32))
    for name in ("a.png", "attic/b.v2.JPG", "attic/old.ones/c.webp"):
        small.save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_bytes(b"no picture either")
    return folder
