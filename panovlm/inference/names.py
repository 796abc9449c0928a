"""Names of the pretrained models that come with the package: folders in `panovlm/pretrained`."""

from pathlib import Path

PRETRAINED = Path(__file__).parents[1] / "pretrained"
DIGESTS = "SHA256SUMS"
"""File of a folder of trained weights alone: the digests of all its other files."""


def pretrained_names() -> list[str]:
    """Return the names, sorted."""
    return sorted(digests.parent.name for digests in PRETRAINED.glob(f"*/{DIGESTS}"))


def pretrained_folder(path: Path) -> Path | None:
    """Return the folder of a pretrained model; None if `path` is no name of one.

    Whatever has the name in the working directory comes first: a path means what it says.
    """
    is_name = str(path) in pretrained_names() and not path.exists()
    return PRETRAINED / path if is_name else None


def or_names(path: Path) -> str:
    """Return the names as the end of a list of what a path may be, as ", or ... model: small"."""
    names = pretrained_names()
    hidden = f"; {path} here hides that of the same name, rename it" if str(path) in names else ""
    return f", or a pretrained model: {', '.join(names)}{hidden}" if names else ""
