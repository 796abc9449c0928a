"""The effect of stage 1: tokens as colours on the whole sphere, before and after it.

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
from PIL import Image, ImageDraw
from transformers import AutoImageProcessor, set_seed

from panovlm.errors import PanoVLMError
from panovlm.figures.sheets import BACKGROUND, TEXT, font, scaled
from panovlm.geometry.assembling import assemble_panorama
from panovlm.model.vision import patch_tokens_of
from panovlm.pictures.panorama import load_panorama
from panovlm.stages import STAGES, Objective
from panovlm.training.build import fresh_overlap_model
from panovlm.training.outputs import STAGE_FACTS
from panovlm.training.overlap.modeling import PanoVLMForOverlapPretraining

Floats = NDArray[np.float32]
_HEIGHT_PX = 384
_LABEL_PX = 26
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
    pictures = {"panorama": scaled(load_panorama(panorama, 2 * _HEIGHT_PX), _HEIGHT_PX)}
    for when, colours in zip(("before", "after"), colours_of([before, after]), strict=True):
        on_sphere, _ = assemble_panorama(_repeat_to_square(colours), layout, _HEIGHT_PX)
        pixels = (np.clip(on_sphere, 0, 1) * 255).astype(np.uint8)
        pictures[f"tokens {when} stage 1"] = Image.fromarray(pixels)
    return _stack(pictures)


def overlap_folder(run: Path) -> Path:
    """Find the folder of the stage on overlaps: the path itself, or the one in a run.

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
    """Build the model that the stage started from: the same seed makes the same weights."""
    set_seed(json.loads((folder / STAGE_FACTS).read_text())["seed"])
    return fresh_overlap_model(trained.config).eval()


@torch.inference_mode()
def _grids(
    trained: PanoVLMForOverlapPretraining,
    initial: PanoVLMForOverlapPretraining,
    folder: Path,
    panorama: Path,
) -> list[Floats]:
    """Compute the tokens [V, h, w, D] of both resamplers; the frozen encoder runs once."""
    image_processor = AutoImageProcessor.from_pretrained(folder)
    pixels = image_processor(str(panorama), strict_aspect=True, return_tensors="pt")
    patches = patch_tokens_of(trained.model.vision_encoder, pixels["pixel_values"], None)
    config = trained.config
    shape = (config.layout.num_views, config.token_rows, config.token_columns, -1)
    tokens = (model.latents(patch_tokens=patches) for model in (initial, trained))
    return [each.reshape(shape).float().numpy() for each in tokens]


def colours_of(grids: list[Floats]) -> list[Floats]:
    """Convert features to colours by one principal component analysis of all of them.

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


def _repeat_to_square(grid: Floats) -> Floats:
    """Repeat rows and columns until a grid [V, h, w, 3] is square, as pictures of views are."""
    rows, columns = grid.shape[1:3]
    side = math.lcm(rows, columns)
    return grid.repeat(side // rows, axis=1).repeat(side // columns, axis=2)


def _stack(pictures: dict[str, Image.Image]) -> Image.Image:
    """Put pictures of one size under one another, each below its title."""
    step = _LABEL_PX + _HEIGHT_PX
    sheet = Image.new("RGB", (2 * _HEIGHT_PX, step * len(pictures)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for place, (title, picture) in enumerate(pictures.items()):
        draw.text((8, place * step + 4), title, TEXT, font())
        sheet.paste(picture, (0, place * step + _LABEL_PX))
    return sheet
