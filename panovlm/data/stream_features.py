"""What a stream sees of its pictures, encoded where one is met for the first time.

A data loader's process looks at a picture: it reads what the cache keeps of it, or cuts its views.
The training process, where the encoder is, finishes: it encodes the views and has them kept. So a
stream of any size goes through a cache of any size, and no process but one runs the encoder.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from panovlm.data.cache import PatchTokenCache, ViewSource, bytes_digest
from panovlm.data.cache_room import StreamRoom, mark_used
from panovlm.errors import PanoVLMError
from panovlm.model.image_processing import PanoVLMImageProcessor


@dataclass(frozen=True)
class ViewFeatures:
    """A picture as a data loader's process saw it.

    Attributes:
        states: Its views [V, 3, H, W], or what is kept of them, [V, S, D_vision].
        digest: Of its bytes, where the views are still to be encoded.
        num_strides: Strides to the right that the camera num_strides.
    """

    states: Tensor
    digest: str | None = None
    num_strides: int = 0


class StreamEncoder(Protocol):
    """Sees pictures, in two parts."""

    key: str

    def prepare(self, picture: bytes, place: str) -> ViewFeatures:
        """Look at a picture file's bytes, in any process."""

    def encode(self, features: ViewFeatures) -> Tensor:
        """Give what the model takes, [V, ...], in the training process."""


@contextmanager
def as_file(picture: bytes) -> Iterator[Path]:
    """Give a picture's bytes as a file for a while, so that they are read exactly as one is."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(picture)
        file.flush()
        yield Path(file.name)


class PassThroughEncoder:
    """Sees pixels, where the encoder trains as a whole.

    Args:
        image_processor: Cuts and normalises the views.
    """

    key = ViewSource.key

    def __init__(self, image_processor: PanoVLMImageProcessor) -> None:
        self.source = ViewSource(image_processor)

    def prepare(self, picture: bytes, place: str) -> ViewFeatures:
        """Cut the views of a picture.

        Raises:
            PanoVLMError: If it is no good panorama.
        """
        with as_file(picture) as file:
            try:
                return ViewFeatures(self.source.load(file))
            except PanoVLMError as error:
                raise PanoVLMError(str(error).replace(str(file), place)) from error

    def encode(self, features: ViewFeatures) -> Tensor:
        """Turn the views."""
        return features.states.roll(-features.num_strides, dims=0)


class CachingEncoder:
    """Sees what the frozen part of the encoder makes of pictures, each encoded at first features.

    Every picture is encoded alone, so that what is kept of it depends on no other.

    Args:
        cache: Encodes and keeps.
        room: Bounds what is kept.
    """

    def __init__(self, cache: PatchTokenCache, room: StreamRoom) -> None:
        self.cache = cache
        self.room = room
        self.key = cache.key
        self.pixels = PassThroughEncoder(cache.image_processor)
        cache.prepare_folder()

    def prepare(self, picture: bytes, place: str) -> ViewFeatures:
        """Read what is kept of a picture, or cut its views.

        Raises:
            PanoVLMError: If it is no good panorama.
        """
        digest = bytes_digest(picture)
        file = self.cache.file_of(digest)
        try:
            states = torch.from_numpy(np.load(file))
        except (FileNotFoundError, EOFError, ValueError):
            return ViewFeatures(self.pixels.prepare(picture, place).states, digest)
        mark_used([file])
        return ViewFeatures(states)

    def encode(self, features: ViewFeatures) -> Tensor:
        """Encode what is not kept yet, keep it where there is room, and turn the views."""
        states = features.states
        if features.digest is not None:
            encoded = self.cache.encode(states)
            self._keep(features.digest, encoded)
            states = torch.from_numpy(encoded)
        return states.roll(-features.num_strides, dims=0)

    def _keep(self, digest: str, encoded: np.ndarray) -> None:
        try:
            if self.room.take(self.cache.bytes_per_picture):
                self.cache.keep(digest, encoded)
        except OSError:  # a full disk: the picture will be encoded again when it comes again
            return
