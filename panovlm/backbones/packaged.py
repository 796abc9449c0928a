"""The names a recipe may use for backbones that come without a model hub."""

from pathlib import Path

from panovlm.backbones.download import efficientnet_lite0, efficientnet_lite2, smollm2
from panovlm.backbones.nanodet import nanodet_g
from panovlm.scenes.scene_language_model import SCENE_LM, scene_lm

PACKAGED = {
    "efficientnet-lite0": efficientnet_lite0,
    "efficientnet-lite2": efficientnet_lite2,
    "nanodet-g": nanodet_g,
    "smollm2-135m-instruct": smollm2,
    SCENE_LM: scene_lm,
}
"""The function that builds each packaged backbone in the user's cache folder."""
LICENCES = {
    "efficientnet-lite0": "Apache-2.0",
    "efficientnet-lite2": "Apache-2.0",
    "nanodet-g": "Apache-2.0",
    "smollm2-135m-instruct": "Apache-2.0",
    SCENE_LM: "MIT",
}
"""Of their weights."""


def locate(name: str) -> Path | str:
    """Return the folder of a packaged backbone, or the name itself for a folder or a hub id."""
    return PACKAGED[name]() if name in PACKAGED else name
