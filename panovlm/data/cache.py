"""The frozen encoder runs once: its patch tokens are kept on disk, one file a picture.

The folder's name is a digest of the encoder's weights and the views; a file's name is the digest
of the picture's bytes. Stages, epochs and runs share it, and a file is complete or absent.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from panovlm.model.errors import PanoVLMError
from panovlm.model.image_processing import PanoVLMImageProcessor
from panovlm.model.vision import encode_views

Progress = Callable[[int], None]
Decoded = tuple[Path, Tensor | PanoVLMError]


FORMAT = 1
"""Raise it whenever views are cut or tokens are kept in another way."""
PIXEL_SETTINGS = ("size", "image_", "do_", "rescale_factor")


class ViewSource:
    """Gives the normalised views of a picture, for stages whose encoder trains.

    Args:
        image_processor: Cuts and normalises the views.
    """

    key = "pixel_values"

    def __init__(self, image_processor: PanoVLMImageProcessor) -> None:
        self.image_processor = image_processor

    def load(self, picture: Path) -> Tensor:
        """Give the views of a picture, [V, 3, H, W] float32; only a full sphere is taken."""
        inputs = self.image_processor(str(picture), strict_aspect=True, return_tensors="pt")
        values: Tensor = inputs["pixel_values"][0]
        return values


class PatchTokenCache:
    """Patch tokens [V, S, D_vision] of panoramas in float16, memory-mapped.

    Args:
        root: Folder for all caches.
        encoder: The frozen vision encoder.
        image_processor: Cuts and normalises the views.
        use_bf16: Whether to run the encoder in bf16.
    """

    key = "patch_tokens"

    def __init__(
        self,
        root: Path,
        encoder: PreTrainedModel,
        image_processor: PanoVLMImageProcessor,
        *,
        use_bf16: bool,
    ) -> None:
        self.encoder = encoder
        self.image_processor = image_processor
        self.use_bf16 = use_bf16
        self.folder = root / encoder_digest(encoder, image_processor, use_bf16=use_bf16)

    def load(self, picture: Path) -> Tensor:
        """Give the patch tokens of a picture that `fill` has seen, [V, S, D_vision] float16."""
        return torch.from_numpy(np.array(np.load(self._file(picture), mmap_mode="r")))

    def missing(self, pictures: Sequence[Path]) -> list[Path]:
        """Give the pictures, each content once, whose patch tokens are not there yet."""
        files = {self._file(picture): picture for picture in dict.fromkeys(pictures)}
        return [picture for file, picture in files.items() if not file.exists()]

    def fill(self, pictures: Sequence[Path], batch_size: int, progress: Progress) -> list[str]:
        """Encode pictures and keep their patch tokens.

        On an accelerator, pictures are decoded ahead in a thread while the encoder works.

        Args:
            pictures: As `missing` gave them.
            batch_size: Panoramas encoded at once.
            progress: Told the number of pictures done after each batch.

        Returns:
            A line for each picture that is no good panorama.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        faults: list[str] = []
        batches = [pictures[i : i + batch_size] for i in range(0, len(pictures), batch_size)]
        for batch in self._decoded(batches):
            good = {picture: pixels for picture, pixels in batch if isinstance(pixels, Tensor)}
            faults += [str(fault) for _, fault in batch if isinstance(fault, PanoVLMError)]
            if good:
                encoded = self._encode(torch.stack(list(good.values())))
                for picture, tokens in zip(good, encoded, strict=True):
                    _write_whole(self._file(picture), tokens)
            progress(len(batch))
        return faults

    def _decoded(self, batches: Sequence[Sequence[Path]]) -> Iterator[list[Decoded]]:
        source = ViewSource(self.image_processor)

        def decode(picture: Path) -> Decoded:
            try:
                return picture, source.load(picture)
            except PanoVLMError as fault:
                return picture, fault

        if self.encoder.device.type == "cpu":  # it takes all cores; a thread beside it costs more
            yield from ([decode(picture) for picture in batch] for batch in batches)
            return
        with ThreadPoolExecutor(max_workers=1) as pool:
            ahead: list[Future[Decoded]] = []
            for following in [*batches, []]:
                ready, ahead = ahead, [pool.submit(decode, picture) for picture in following]
                if ready:
                    yield [future.result() for future in ready]

    @torch.inference_mode()
    def _encode(self, pixels: Tensor) -> np.ndarray:
        device = self.encoder.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.use_bf16):
            tokens = encode_views(self.encoder, pixels.flatten(0, 1).to(device))
        return tokens.unflatten(0, pixels.shape[:2]).half().cpu().numpy()

    def _file(self, picture: Path) -> Path:
        status = picture.stat()
        return self.folder / f"{_content_digest(picture, status.st_size, status.st_mtime_ns)}.npy"


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


@lru_cache(maxsize=1_000_000)
def _content_digest(picture: Path, size: int, modified_ns: int) -> str:
    """Hash a picture's bytes; size and time of change say when to hash again."""
    with picture.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _write_whole(target: Path, tokens: np.ndarray) -> None:
    """Write a file that is complete or not there at all, whatever happens meanwhile."""
    handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, tokens)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
