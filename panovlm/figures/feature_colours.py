"""What stage 1 did, for eyes: tokens as colours on the whole sphere, before and after it.

Three panoramas one under the other: the picture, the tokens of the resampler that stage 1 started
from, and those of the one it ended with. Like features have like colours: the first three principal
components of the tokens of both, each about its own mean, are red, green and blue.

Shapes: V views, h x w token grid, D width.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from transformers import AutoImageProcessor, set_seed

from panovlm.errors import PanoVLMError
from panovlm.geometry.assembling import assemble_panorama
from panovlm.geometry.sphere import Pixels
from panovlm.model.vision import patch_tokens_of
from panovlm.pictures.panorama import load_panorama
from panovlm.stages import STAGES, Objective
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.overlap.modeling import PanoVLMForOverlapPretraining

Floats = NDArray[np.float32]
_HEIGHT_PX = 384
_LABEL_PX, _FONT_PX = 26, 15
_BACKGROUND, _TEXT = (17, 19, 24), (226, 229, 235)
_PERCENTILES = (2, 98)
"""Of a component, the values that become darkest and brightest: outliers spoil no colour."""


def draw_feature_colours(run: Path, panorama: Path) -> Image.Image:
    """Draw a panorama and its tokens before and after stage 1.

    Args:
        run: Folder of a run whose stage on overlaps is finished, or that stage's folder.
        panorama: File of a full sphere.

    Returns:
        An RGB picture of three panoramas with their titles.

    Raises:
        PanoVLMError: If there is no such stage, or the file is no good panorama.
    """
    folder = overlap_folder(run)
    trained = PanoVLMForOverlapPretraining.from_pretrained(folder).eval()
    before, after = _grids(trained, _initial(trained, folder), folder, panorama)
    layout = trained.config.layout
    drawn = [
        assemble_panorama(_squared(colours), layout, _HEIGHT_PX)[0]
        for colours in colours_of([before, after])
    ]
    picture = _as_pixels(load_panorama(panorama, 2 * _HEIGHT_PX))
    titles = ["panorama", "tokens before stage 1", "tokens after stage 1"]
    pictures = [picture, *((np.clip(d, 0, 1) * 255).astype(np.uint8) for d in drawn)]
    return _stacked(dict(zip(titles, pictures, strict=True)))


def overlap_folder(run: Path) -> Path:
    """Give the folder of the stage on overlaps: the path itself, or the one in a run.

    Raises:
        PanoVLMError: If there is none.
    """
    on_overlaps = [s.name for s in STAGES.values() if s.objective is Objective.VICREG_OVERLAP]
    for folder in (run, *(run / name for name in on_overlaps)):
        config = folder / "config.json"
        if config.is_file() and _is_of_stage_one(config) and (folder / STAGE_FACTS).is_file():
            return folder
    raise PanoVLMError(
        f"found no finished stage {' or '.join(on_overlaps)} in {run}, expected a run that has one "
        f"or its folder; run: panovlm train RECIPE --stage {on_overlaps[0]}"
    )


def _is_of_stage_one(config: Path) -> bool:
    architectures = json.loads(config.read_text()).get("architectures") or []
    return PanoVLMForOverlapPretraining.__name__ in architectures


def _initial(trained: PanoVLMForOverlapPretraining, folder: Path) -> PanoVLMForOverlapPretraining:
    """Build the model that the stage started from: the same seed draws the same weights."""
    set_seed(json.loads((folder / STAGE_FACTS).read_text())["seed"])
    return PanoVLMForOverlapPretraining(trained.config).eval()


@torch.inference_mode()
def _grids(
    trained: PanoVLMForOverlapPretraining,
    initial: PanoVLMForOverlapPretraining,
    folder: Path,
    panorama: Path,
) -> list[Floats]:
    """Give the tokens [V, h, w, D] of both resamplers; the encoder, which is frozen, runs once."""
    image_processor = AutoImageProcessor.from_pretrained(folder)
    pixels = image_processor(str(panorama), strict_aspect=True, return_tensors="pt")
    seen = patch_tokens_of(trained.model.vision_encoder, pixels["pixel_values"], None)
    config = trained.config
    shape = (config.layout.num_views, config.token_rows, config.token_columns, -1)
    tokens = (model.latents(patch_tokens=seen) for model in (initial, trained))
    return [each.reshape(shape).float().numpy() for each in tokens]


def colours_of(grids: list[Floats]) -> list[Floats]:
    """Turn features into colours by one principal component analysis of all of them.

    Each grid is taken about its own mean: how features differ from one resampler to another is
    chance, and would else be the first component.

    Args:
        grids: Features [..., D], D >= 3.

    Returns:
        Colours [..., 3] in [0, 1]. Which component is which colour, and their signs, mean nothing.
    """
    grids = [grid - grid.reshape(-1, grid.shape[-1]).mean(axis=0) for grid in grids]
    flat = np.concatenate([grid.reshape(-1, grid.shape[-1]) for grid in grids])
    _, _, directions = np.linalg.svd(flat, full_matrices=False)
    axes = directions[:3].T
    low, high = np.percentile(flat @ axes, _PERCENTILES, axis=0)
    spread = np.maximum(high - low, np.finfo(np.float32).tiny)
    return [np.clip((grid @ axes - low) / spread, 0, 1) for grid in grids]


def _squared(grid: Floats) -> Floats:
    """Repeat rows and columns until a grid [V, h, w, 3] is square, as pictures of views are."""
    rows, columns = grid.shape[1:3]
    side = math.lcm(rows, columns)
    return grid.repeat(side // rows, axis=1).repeat(side // columns, axis=2)


def _as_pixels(panorama: Pixels) -> Pixels:
    size = (2 * _HEIGHT_PX, _HEIGHT_PX)
    return np.asarray(Image.fromarray(panorama).resize(size, Image.Resampling.BOX))


def _stacked(pictures: dict[str, Pixels]) -> Image.Image:
    """Put pictures of one size under one another, each below its title."""
    step = _LABEL_PX + _HEIGHT_PX
    sheet = Image.new("RGB", (2 * _HEIGHT_PX, step * len(pictures)), _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PX)
    for place, (title, pixels) in enumerate(pictures.items()):
        draw.text((8, place * step + 4), title, _TEXT, font)
        sheet.paste(Image.fromarray(pixels), (0, place * step + _LABEL_PX))
    return sheet
