"""The frozen encoder runs once: what it gives is kept on disk, one file a picture.

The folder's name is a digest of the encoder's weights and the views; a file's name is the digest
of the picture's bytes. Stages, epochs, ranks and runs share it, and a file is complete or absent.
"""

import copy
import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from panovlm.data.cache_room import FACTS, PART
from panovlm.errors import PanoVLMError
from panovlm.model.image_processing import PanoVLMImageProcessor
from panovlm.model.vision import (
    encode_views,
    num_prefix_tokens,
    patch_token_width,
    token_grid,
)
from panovlm.model.vision_layers import can_be_cut, lower_states
from panovlm.runtime.files import write_whole

Progress = Callable[[int], None]
Decoded = tuple[Path, Tensor | PanoVLMError | None]


FORMAT = 1
"""Raise it whenever views are cut or tokens are kept in another way."""
PIXEL_SETTINGS = ("size", "image_", "do_", "rescale_factor")
MAX_DECODERS = 8
STALE_SECONDS = 3600
"""Nobody writes one file for so long: what is left half-written is of a killed process."""
NPY_HEADER_BYTES = 128
DIGEST_LETTERS = 32


@dataclass(frozen=True)
class ImageTransform:
    """What is done to a panorama before its views are cut.

    Attributes:
        name: Part of the name of the folder that keeps what the encoder makes of it.
        apply: Takes a picture's file.
    """

    name: str
    apply: Callable[[Path], Image.Image]


class ViewSource:
    """Gives the normalised views of a picture, for stages whose encoder trains.

    Args:
        image_processor: Cuts and normalises the views.
        change: What is done to pictures before; None for nothing.
    """

    key = "pixel_values"

    def __init__(
        self, image_processor: PanoVLMImageProcessor, change: ImageTransform | None = None
    ) -> None:
        self.image_processor = image_processor
        self.change = change

    def load(self, picture: Path) -> Tensor:
        """Give the views of a picture, [V, 3, H, W] float32; only a full sphere is taken."""
        given = self.change.apply(picture) if self.change else str(picture)
        inputs = self.image_processor(given, strict_aspect=True, return_tensors="pt")
        values: Tensor = inputs["pixel_values"][0]
        return values


class PatchTokenCache:
    """What the frozen part of an encoder makes of panoramas, in float16, memory-mapped.

    That is the patch tokens [V, S, D_vision] of a frozen encoder; of one that trains in part, the
    hidden states in front of its trained layers, [V, P + S, D_vision] with P class and register
    tokens.

    Args:
        root: Folder for all caches.
        encoder: The vision encoder.
        image_processor: Cuts and normalises the views.
        use_bf16: Whether to run the encoder in bf16.
        num_trained_layers: Last layers that are left out because they train.
    """

    def __init__(
        self,
        root: Path,
        encoder: PreTrainedModel,
        image_processor: PanoVLMImageProcessor,
        *,
        use_bf16: bool,
        num_trained_layers: int = 0,
    ) -> None:
        self.root = root
        self.encoder = encoder
        self.image_processor = image_processor
        self.use_bf16 = use_bf16
        self.num_trained_layers = num_trained_layers
        self.key = "lower_states" if num_trained_layers else "patch_tokens"
        digest = encoder_digest(encoder, image_processor, use_bf16=use_bf16)
        below = f"-below-{num_trained_layers}" if num_trained_layers else ""
        self.folder = root / f"{digest}{below}"
        self.change: ImageTransform | None = None

    def changed(self, change: ImageTransform) -> "PatchTokenCache":
        """Give the cache of the same encoder for pictures that are changed before."""
        other = copy.copy(self)
        other.change = change
        other.folder = self.folder.with_name(f"{self.folder.name}-{change.name}")
        return other

    @property
    def is_possible(self) -> bool:
        """Whether the encoder's code lets it be cut in front of its trained layers."""
        size = self.image_processor.size["height"]
        count = self.num_trained_layers
        return not count or can_be_cut(self.encoder, count, size)

    @property
    def bytes_per_picture(self) -> int:
        """Bytes of the file of one picture."""
        rows, columns = token_grid(self.encoder.config, self.image_processor.size["height"])
        prefix = num_prefix_tokens(self.encoder.config) if self.num_trained_layers else 0
        tokens = len(self.image_processor.layout.views) * (prefix + rows * columns)
        return 2 * tokens * patch_token_width(self.encoder.config) + NPY_HEADER_BYTES

    def load(self, picture: Path) -> Tensor:
        """Give what is kept of a picture that `fill` has seen, [V, S, D_vision] float16.

        Raises:
            PanoVLMError: If its file has been taken away since.
        """
        try:
            return torch.from_numpy(np.array(np.load(self._file(picture), mmap_mode="r")))
        except FileNotFoundError as error:
            raise PanoVLMError(
                f"{picture}: its patch tokens were removed from {self.folder} during the run, by "
                f"another run or by hand; continue with --resume, and let the cache hold more"
            ) from error

    def file_of(self, digest: str) -> Path:
        """Give the file that holds what is kept of a picture; `bytes_digest` gives its digest."""
        return self.folder / f"{digest}.npy"

    def encode(self, views: Tensor) -> np.ndarray:
        """Give what would be kept of one picture's views [V, 3, H, W]."""
        encoded: np.ndarray = self._encode(views[None])[0]
        return encoded

    def keep(self, digest: str, states: np.ndarray) -> None:
        """Keep what `encode` gave; the file is whole or absent.

        Raises:
            OSError: If the disk fails.
        """
        _save(self.file_of(digest), states)

    def files(self, pictures: Sequence[Path]) -> dict[Path, Path]:
        """Give the file of each picture with the picture, each content once."""
        return {self._file(picture): picture for picture in dict.fromkeys(pictures)}

    def missing(self, pictures: Sequence[Path]) -> list[Path]:
        """Give the pictures, each content once, of which nothing is there yet."""
        return [picture for file, picture in self.files(pictures).items() if not file.exists()]

    def fill(self, pictures: Sequence[Path], batch_size: int, progress: Progress) -> list[str]:
        """Encode pictures and keep what the encoder makes of them.

        Several processes may fill at once: each begins somewhere else and leaves out what another
        has done meanwhile. On an accelerator, pictures are decoded ahead while the encoder works.

        Args:
            pictures: As `missing` gave them.
            batch_size: Panoramas encoded at once.
            progress: Told the number of pictures done after each batch.

        Returns:
            A line for each picture that is no good panorama.

        Raises:
            PanoVLMError: If the disk fails.
        """
        errors: dict[Path, str] = {}
        try:
            self.prepare_folder()
            for batch in self._decoded(_batches(pictures, batch_size)):
                self._keep([each for each in batch if isinstance(each[1], Tensor)])
                errors |= {p: str(e) for p, e in batch if isinstance(e, PanoVLMError)}
                progress(len(batch))
        except OSError as error:
            raise PanoVLMError(
                f"cannot keep patch tokens in {self.folder}: {error}; make room there (`panovlm "
                f"cache --prune`) or set PANOVLM_CACHE to another folder, then start again: what "
                f"is kept already stays"
            ) from error
        return [errors[picture] for picture in pictures if picture in errors]

    def prepare_folder(self) -> None:
        """Make the folder, say in it what it holds, and sweep what killed processes left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "encoder": self.encoder.config.name_or_path or self.encoder.config.model_type,
            "views": self.image_processor.layout.describe(),
            "trained_layers_left_out": self.num_trained_layers,
            "pictures": self.change.name if self.change else "as they are",
        }
        text = json.dumps(facts, indent=2) + "\n"
        write_whole(self.folder / FACTS, lambda partial: partial.write_text(text))
        for part in self.folder.glob(f"*{PART}"):
            if part.stat().st_mtime < time.time() - STALE_SECONDS:
                part.unlink(missing_ok=True)

    def _keep(self, decoded: Sequence[Decoded]) -> None:
        pixels = [pixels for _, pixels in decoded if isinstance(pixels, Tensor)]
        if pixels:
            encoded = self._encode(torch.stack(pixels))
            for (picture, _), states in zip(decoded, encoded, strict=True):
                _save(self._file(picture), states)

    def _decoded(self, batches: Sequence[Sequence[Path]]) -> Iterator[list[Decoded]]:
        """Give each batch decoded; a picture that another process has kept by now is left out."""
        source = ViewSource(self.image_processor, self.change)

        def decode(picture: Path) -> Decoded:
            if self._file(picture).exists():
                return picture, None
            try:
                return picture, source.load(picture)
            except PanoVLMError as error:
                return picture, error

        if self.encoder.device.type == "cpu":  # it takes all cores; a thread beside it costs more
            yield from ([decode(picture) for picture in batch] for batch in batches)
            return
        with ThreadPoolExecutor(max_workers=min(MAX_DECODERS, os.cpu_count() or 1)) as pool:
            ahead: list[Future[Decoded]] = []
            for following in [*batches, []]:
                ready, ahead = ahead, [pool.submit(decode, picture) for picture in following]
                if ready:
                    yield [future.result() for future in ready]

    @torch.inference_mode()
    def _encode(self, pixels: Tensor) -> np.ndarray:
        device, views = self.encoder.device, pixels.flatten(0, 1)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.use_bf16):
            if self.num_trained_layers:
                states = lower_states(self.encoder, views.to(device), self.num_trained_layers)
            else:
                states = encode_views(self.encoder, views.to(device))
        return states.unflatten(0, pixels.shape[:2]).half().cpu().numpy()

    def _file(self, picture: Path) -> Path:
        status = picture.stat()
        return self.file_of(_content_digest(picture, status.st_size, status.st_mtime_ns))


def encoder_digest(
    encoder: PreTrainedModel, image_processor: PanoVLMImageProcessor, *, use_bf16: bool
) -> str:
    """Give a name that changes whenever the patch tokens of a picture would."""
    digest = hashlib.sha256()
    settings = image_processor.to_dict()
    pixels = {key: value for key, value in settings.items() if key.startswith(PIXEL_SETTINGS)}
    layout = str(image_processor.layout)
    facts = [FORMAT, encoder.config.model_type, layout, pixels, use_bf16]
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:24]


def _batches(pictures: Sequence[Path], size: int) -> list[Sequence[Path]]:
    """Give batches that begin at another picture in every process, so that several share work."""
    start = random.Random(os.getpid()).randrange(max(len(pictures), 1))
    turned = [*pictures[start:], *pictures[:start]]
    return [turned[i : i + size] for i in range(0, len(turned), size)]


@lru_cache(maxsize=1_000_000)
def _content_digest(picture: Path, size: int, modified_ns: int) -> str:
    """Hash a picture's bytes; size and time of change say when to hash again."""
    with picture.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LETTERS]


def bytes_digest(picture: bytes) -> str:
    """Name a picture by its bytes, as files are named."""
    return hashlib.sha256(picture).hexdigest()[:DIGEST_LETTERS]


def _save(target: Path, states: np.ndarray) -> None:
    """Write what is kept of a picture, whole or not at all."""

    def write(partial: Path) -> None:
        with partial.open("wb") as file:  # np.save would add an ending to a path
            np.save(file, states)

    write_whole(target, write)
