"""The frozen encoder runs once: its outputs are kept on disk, in shards of many pictures each.

The folder's name is a digest of the encoder's weights and the views; a picture's name in it is the
digest of its bytes and of how they are read. Stages, epochs, ranks and runs share it.
"""

import copy
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from panovlm.data.cache_room import FACTS, PART
from panovlm.data.token_shards import ENTRY_BYTES, TokenShards
from panovlm.errors import PanoVLMError
from panovlm.model.image_processing import PanoVLMImageProcessor
from panovlm.model.vision import encode_views, num_prefix_tokens, patch_token_width, token_grid
from panovlm.model.vision_layers import can_be_cut, lower_states
from panovlm.pictures.containers import Source
from panovlm.pictures.declaring import Declaration, PictureFile, declaration_of, declared_key
from panovlm.pictures.panorama import is_read_as_ever
from panovlm.runtime.cached_folders import sha256
from panovlm.runtime.files import write_whole

FORMAT = 2
"""Raise it whenever views are cut or tokens are kept in another way."""
READING = 2
"""Raise it whenever pictures are read in another way; features of level spheres in sRGB stay."""
PIXEL_SETTINGS = ("size", "image_", "do_", "rescale_factor")
STALE_SECONDS = 3600
"""No write of one file takes so long: older partial files are of killed processes."""
NUMBER_BYTES = 2
DIGEST_LETTERS = 32


@dataclass(frozen=True)
class ImageTransform:
    """What is done to a panorama before its views are cut.

    Attributes:
        name: Part of the name of the folder with the encoder's outputs.
        apply: Returns the transformed picture of a file.
    """

    name: str
    apply: Callable[[PictureFile], Image.Image]


@dataclass(eq=False)
class ViewSource:
    """Loads the normalised views of pictures, for stages whose encoder trains.

    Attributes:
        image_processor: Cuts and normalises the views.
        transform: Applied to pictures before; None for nothing.
    """

    key: ClassVar[str] = "pixel_values"
    image_processor: PanoVLMImageProcessor
    transform: ImageTransform | None = None

    def with_yaw_shift(self, yaw_shift_deg: float) -> "ViewSource":
        """Return the source of pictures whose camera has turned right; itself by no angle."""
        if not yaw_shift_deg:
            return self
        return ViewSource(_shifted(self.image_processor, yaw_shift_deg), self.transform)

    def load(self, picture: PictureFile) -> Tensor:
        """Return the views of a picture, [V, 3, H, W] float32; it must show the full sphere."""
        given = self.transform.apply(picture) if self.transform else picture
        inputs = self.image_processor(given, strict_aspect=True, return_tensors="pt")
        values: Tensor = inputs["pixel_values"][0]
        return values


@dataclass(eq=False, repr=False)
class PatchTokenCache:
    """Outputs of the frozen part of an encoder, in 16 bits; `filling.fill` computes them.

    These are the patch tokens [V, S, D_vision] of a frozen encoder; of one that trains in part, the
    hidden states below its trained layers, [V, P + S, D_vision] with P class and register tokens.

    Attributes:
        root: Folder for all caches.
        encoder: The vision encoder.
        image_processor: Cuts and normalises the views.
        use_bf16: Whether to run the encoder in bf16.
        num_trained_layers: Last layers that are left out because they train.
        transform: Applied to pictures before their views are cut; `with_transform` sets it.
    """

    root: Path
    encoder: PreTrainedModel
    image_processor: PanoVLMImageProcessor
    _: KW_ONLY
    use_bf16: bool
    num_trained_layers: int = 0
    transform: ImageTransform | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.key = "lower_states" if self.num_trained_layers else "patch_tokens"
        digest = encoder_digest(self.encoder, self.image_processor, use_bf16=self.use_bf16)
        below = f"-below-{self.num_trained_layers}" if self.num_trained_layers else ""
        self.shards = TokenShards(self.root / f"{digest}{below}")

    @property
    def folder(self) -> Path:
        """The folder of its shards."""
        return self.shards.folder

    def with_transform(self, transform: ImageTransform) -> "PatchTokenCache":
        """Return the cache of the same encoder for transformed pictures."""
        other = self._beside(transform.name)
        other.transform = transform
        return other

    def with_yaw_shift(self, yaw_shift_deg: float) -> "PatchTokenCache":
        """Return the cache of pictures whose camera has turned right; itself by no angle."""
        if not yaw_shift_deg:
            return self
        other = self._beside(f"yaw-{yaw_shift_deg:g}")
        other.image_processor = _shifted(self.image_processor, yaw_shift_deg)
        return other

    def _beside(self, suffix: str) -> "PatchTokenCache":
        other = copy.copy(self)
        other.shards = TokenShards(self.folder.with_name(f"{self.folder.name}-{suffix}"))
        return other

    def can_cut_encoder(self) -> bool:
        """Run the encoder to find out whether it can be cut below its trained layers."""
        size, count = self.image_processor.size["height"], self.num_trained_layers
        return not count or can_be_cut(self.encoder, count, size)

    @property
    def bytes_per_picture(self) -> int:
        """The most that one picture takes on the disk."""
        processor, config = self.image_processor, self.encoder.config
        num_views, view_size = len(processor.layout.views), processor.size["height"]
        return bytes_per_picture(config, num_views, view_size, self.num_trained_layers)

    def missing(self, pictures: Iterable[PictureFile]) -> list[PictureFile]:
        """Return the pictures that are not kept, one of each content."""
        self.shards.refresh()
        by_digest = {digest_of(picture): picture for picture in dict.fromkeys(pictures)}
        return [picture for digest, picture in by_digest.items() if digest not in self.shards]

    def shards_with(self, pictures: Iterable[PictureFile]) -> set[Path]:
        """Return the shards that hold pictures."""
        places = (self.shards.place_of(digest_of(picture)) for picture in pictures)
        return {place for place in places if place}

    def load(self, picture: PictureFile) -> Tensor:
        """Return the encoder's outputs for a picture, [V, S, D_vision] float16 or bfloat16.

        Raises:
            PanoVLMError: If its shard was removed after `fill` wrote it.
        """
        states = self.shards.read(digest_of(picture))
        if states is None:
            raise PanoVLMError(
                f"{picture}: its patch tokens were removed from {self.folder} during the run, by "
                f"another run or by hand; continue with --resume, and let the cache hold more"
            )
        return states

    @torch.no_grad()
    def encode(self, views: Tensor) -> Tensor:
        """Compute the outputs for views [..., 3, H, W]: [..., S, D_vision] float16.

        Numbers beyond float16 make all of them bfloat16, which is less precise.

        Raises:
            PanoVLMError: If some are not finite.
        """
        device, flat = self.encoder.device, views.flatten(0, -4)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.use_bf16):
            if self.num_trained_layers:
                states = lower_states(self.encoder, flat.to(device), self.num_trained_layers)
            else:
                states = encode_views(self.encoder, flat.to(device))
        half = states.half()
        if not half.isfinite().all():
            half = states.bfloat16()
            if not half.isfinite().all():
                raise PanoVLMError(
                    "found numbers that are not finite in what the vision encoder makes of a "
                    "panorama, expected finite ones; set dtype: fp32, or use another encoder"
                )
        return half.unflatten(0, views.shape[:-3]).cpu()

    def prepare_folder(self) -> None:
        """Make the folder, describe its content in it, and remove what killed processes left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "encoder": self.encoder.config.name_or_path or self.encoder.config.model_type,
            "views": self.image_processor.layout.describe(),
            "trained_layers_left_out": self.num_trained_layers,
            "pictures": self.transform.name if self.transform else "as they are",
            "yaw_shift_deg": self.image_processor.yaw_shift_deg,
        }
        text = json.dumps(facts, indent=2) + "\n"
        write_whole(self.folder / FACTS, lambda partial: partial.write_text(text))
        for part in self.folder.glob(f"*{PART}"):
            if part.stat().st_mtime < time.time() - STALE_SECONDS:
                part.unlink(missing_ok=True)


FeatureSource = PatchTokenCache | ViewSource
"""Loads the frozen encoder's outputs for a picture, or its pixels."""


def _shifted(image_processor: PanoVLMImageProcessor, yaw_shift_deg: float) -> PanoVLMImageProcessor:
    """Return a processor that cuts the same views after the camera has turned right."""
    other = copy.copy(image_processor)
    other.yaw_shift_deg = yaw_shift_deg
    return other


def bytes_per_picture(
    vision_config: PreTrainedConfig, num_views: int, view_size: int, num_trained_layers: int
) -> int:
    """Compute the most that one picture takes on the disk, before the encoder is loaded."""
    rows, columns = token_grid(vision_config, view_size)
    prefix = num_prefix_tokens(vision_config) if num_trained_layers else 0
    tokens = num_views * (prefix + rows * columns)
    return NUMBER_BYTES * tokens * patch_token_width(vision_config) + ENTRY_BYTES


def encoder_digest(
    encoder: PreTrainedModel, image_processor: PanoVLMImageProcessor, *, use_bf16: bool
) -> str:
    """Return a name that changes whenever the patch tokens of a picture would."""
    digest = hashlib.sha256()
    settings = image_processor.to_dict()
    pixels = {key: value for key, value in settings.items() if key.startswith(PIXEL_SETTINGS)}
    layout = str(image_processor.layout)
    # What every configuration has (labels, versions, where it lies) changes no tokens.
    known, config = PreTrainedConfig().to_dict(), encoder.config.to_dict()
    own = {key: value for key, value in config.items() if key not in known}
    facts = [FORMAT, encoder.config.model_type, own, layout, pixels, use_bf16]
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:24]


def bytes_digest(picture: bytes, declared: Declaration | None = None) -> str:
    """Return the digest of a picture's bytes and of how they are read."""
    return _with_reading(hashlib.sha256(picture).hexdigest(), io.BytesIO(picture), declared)


def digest_of(picture: PictureFile) -> str:
    """Return `bytes_digest` of a picture file, which is read again only if it has changed."""
    path = Path(picture)
    status = path.stat()
    declared = declaration_of(picture)
    return _file_digest(path, status.st_size, status.st_mtime_ns, declared)


@lru_cache(maxsize=1_000_000)
def _file_digest(picture: Path, size: int, modified_ns: int, declared: Declaration) -> str:
    return _with_reading(sha256(picture), picture, declared)


def _with_reading(digest: str, source: Source, declared: Declaration | None) -> str:
    """Add the reading's version and what is declared to a digest, but for what never changed."""
    if (declared and declared.said) or not is_read_as_ever(source):
        digest = hashlib.sha256(declared_key(f"{digest} {READING}", declared).encode()).hexdigest()
    return digest[:DIGEST_LETTERS]
