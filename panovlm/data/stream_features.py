"""Features of a stream's pictures, each encoded when it comes for the first time.

The data loader's processes prepare a picture: they read its features from the cache, or cut its
views. The training process, which holds the encoder, encodes the views and caches the features. So
a stream of any size goes through a cache of any size, and only one process runs the encoder.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from panovlm.data.cache import PatchTokenCache, ViewSource, bytes_digest
from panovlm.data.cache_room import StreamRoom, mark_used
from panovlm.errors import PanoVLMError
from panovlm.model.image_processing import PanoVLMImageProcessor
from panovlm.pictures.declaring import Declaration, declare


@dataclass(frozen=True)
class ViewFeatures:
    """A picture as a process of the data loader prepared it.

    Attributes:
        states: Its views [V, 3, H, W], or its cached features [V, S, D_vision].
        digest: Of its bytes, where the views are still to be encoded.
        num_strides: Strides by which the camera turns right.
    """

    states: Tensor
    digest: str | None = None
    num_strides: int = 0


@contextmanager
def as_file(picture: bytes) -> Iterator[Path]:
    """Yield a temporary file with a picture's bytes, which is read exactly as any other file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(picture)
        file.flush()
        yield Path(file.name)


class StreamEncoder:
    """Passes the views' pixels on, for an encoder that trains as a whole.

    Args:
        image_processor: Cuts and normalises the views.
    """

    def __init__(self, image_processor: PanoVLMImageProcessor) -> None:
        self.source = ViewSource(image_processor)
        self.layout = image_processor.layout
        self.key = ViewSource.key

    def prepare(
        self, picture: bytes, place: str, declared: Declaration | None = None
    ) -> ViewFeatures:
        """Cut the views of a picture, in any process.

        Raises:
            PanoVLMError: If it is not a valid panorama.
        """
        with as_file(picture) as file:
            try:
                return ViewFeatures(self.source.load(declare(file, declared)))
            except PanoVLMError as error:
                raise PanoVLMError(str(error).replace(str(file), place)) from error

    def encode(self, features: ViewFeatures) -> Tensor:
        """Return the model's input [V, ...] after the yaw rotation, in the training process."""
        return self._rotated(features.states, features.num_strides)

    def _rotated(self, views: Tensor, num_strides: int) -> Tensor:
        """Return views, or features of them, after the camera has turned right."""
        return views[list(self.layout.order_after(num_strides))]

    def keep(self) -> None:
        """Do nothing: pixels are not cached."""


class CachingEncoder(StreamEncoder):
    """Encodes pictures with the frozen part of the encoder when they come for the first time.

    Every picture is encoded alone, so that its features depend on no other.

    Args:
        cache: Encodes and keeps the features.
        room: Limits the size of the cache.
    """

    def __init__(self, cache: PatchTokenCache, room: StreamRoom) -> None:
        super().__init__(cache.image_processor)
        self.cache = cache
        self.room = room
        self.key = cache.key
        cache.prepare_folder()

    def prepare(
        self, picture: bytes, place: str, declared: Declaration | None = None
    ) -> ViewFeatures:
        """Read the cached features of a picture, or cut its views.

        Raises:
            PanoVLMError: If it is not a valid panorama.
        """
        digest, shards = bytes_digest(picture, declared), self.cache.shards
        states, shard = shards.read(digest), shards.place_of(digest)
        if states is None:
            return ViewFeatures(super().prepare(picture, place, declared).states, digest)
        mark_used([shard] if shard else [])
        return ViewFeatures(states)

    def encode(self, features: ViewFeatures) -> Tensor:
        """Encode the views of a picture that is not cached yet, and cache it if there is room."""
        if features.digest is None:
            return super().encode(features)
        encoded = self.cache.encode(features.states)
        size, shards = self.cache.bytes_per_picture, self.cache.shards
        if size <= self.room.share:
            shards.add(features.digest, encoded)
        if shards.is_due or shards.pending_bytes + size > self.room.share:
            self.keep()
        return self._rotated(encoded, features.num_strides)

    def keep(self) -> None:
        """Write what was encoded since the last time, where there is room."""
        with suppress(OSError, SafetensorError):  # a full disk: encoded again next time
            self.room.make()
            self.cache.shards.flush()
