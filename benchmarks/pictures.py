"""The JPEG files that are measured: real panoramas of the wanted width, never scaled up."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

JPEG_QUALITY = 90
_SUFFIXES = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Picture:
    """A JPEG file that is measured.

    Attributes:
        path: Where it lies.
        source: What it was made from.
        width: Its columns.
        made: How it was brought to this width.
        size_bytes: Size of the file.
    """

    path: Path
    source: str
    width: int
    made: str

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size

    def described(self) -> dict[str, Any]:
        """Return everything but the path, for JSON."""
        return {**asdict(self), "path": self.path.name, "size_bytes": self.size_bytes}


def panoramas_in(folder: Path) -> list[tuple[int, Path]]:
    """Return (width, path) of every JPEG of a folder that is exactly 2:1, narrowest first."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES:
            with Image.open(path) as image:
                if image.width == 2 * image.height:
                    found.append((image.width, path))
    return sorted(found)


def prepare(
    folder: Path, width: int, count: int, workplace: Path, *, mosaic: bool = False
) -> list[Picture]:
    """Return up to `count` JPEGs of one width, made from the nearest pictures at least that wide.

    A picture of the very width is taken as it is; a wider one is scaled down. Nothing is scaled up:
    where no picture is wide enough, the widest ones serve at their own width, or (mosaic) are laid
    side by side and one above the other, which keeps their detail and their entropy per pixel.

    Args:
        folder: Holds panoramas.
        width: Wanted columns.
        count: Wanted number of pictures.
        workplace: Where scaled pictures and mosaics are written.
        mosaic: Whether to lay pictures together where none is wide enough.

    Raises:
        SystemExit: If the folder holds no JPEG that is 2:1.
    """
    found = panoramas_in(folder)
    if not found:
        raise SystemExit(f"{folder}: found no JPEG with width = 2 x height; name another folder")
    wide_enough = [(each, path) for each, path in found if each >= width]
    if wide_enough:
        return [_scaled(path, each, width, workplace) for each, path in wide_enough[:count]]
    widest = found[-1][0]
    sources = [path for each, path in found if each == widest]
    if mosaic:
        return [_mosaic(sources, start, widest, width, workplace) for start in range(count)]
    return [Picture(path, path.name, widest, "as it is") for path in sources[:count]]


def _scaled(path: Path, source_width: int, width: int, workplace: Path) -> Picture:
    """Scale a picture down to a width, unless it has it."""
    if source_width == width:
        return Picture(path, path.name, width, "as it is")
    with Image.open(path) as image:
        smaller = image.convert("RGB").resize((width, width // 2), Image.Resampling.LANCZOS)
    target = _saved(smaller, workplace / f"{width}_{path.stem}.jpg")
    return Picture(target, path.name, width, f"scaled down from {source_width}")


def _mosaic(sources: list[Path], start: int, tile: int, width: int, workplace: Path) -> Picture:
    """Lay pictures of one width on a square grid, then scale it down to the wanted width."""
    side = math.ceil(width / tile)
    canvas = Image.new("RGB", (side * tile, side * tile // 2))
    # Each row begins with another picture: equal halves would be taken for pictures of two eyes.
    chosen = [
        sources[(start + place + place // side) % len(sources)] for place in range(side * side)
    ]
    for place, source in enumerate(chosen):
        with Image.open(source) as image:
            canvas.paste(image.convert("RGB"), (place % side * tile, place // side * tile // 2))
    if canvas.width != width:
        canvas = canvas.resize((width, width // 2), Image.Resampling.LANCZOS)
    target = _saved(canvas, workplace / f"{width}_mosaic_{start}.jpg")
    used = {source.name for source in chosen}
    return Picture(
        target, ", ".join(sorted(used)), width, f"mosaic of {side} x {side} of {tile} px"
    )


def _saved(image: Image.Image, target: Path) -> Path:
    image.save(target, quality=JPEG_QUALITY)
    return target
