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

from panovlm.data.cache import FeatureSource, PatchTokenCache, ViewSource, bytes_digest
from panovlm.data.cache_room import StreamRoom, mark_used
from panovlm.data.token_shards import SHARD_BYTES
from panovlm.errors import PanoVLMError
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


@dataclass(eq=False)
class StreamEncoder:
    """Prepares and encodes a stream's pictures, each alone: its features depend on no other.

    Attributes:
        source: The cache of the frozen part of the encoder; or, for one that trains as a whole,
            what loads pixels, which are passed on.
        room: Limits the size of the cache.
    """

    source: FeatureSource
    room: StreamRoom | None = None

    def __post_init__(self) -> None:
        self.layout = self.source.image_processor.layout
        if isinstance(self.source, PatchTokenCache):
            self.source.prepare_folder()

    def prepare(
        self, picture: bytes, place: str, declared: Declaration | None = None
    ) -> ViewFeatures:
        """Read the cached features of a picture, or cut its views, in any process.

        Raises:
            PanoVLMError: If it is not a valid panorama.
        """
        digest = None
        if isinstance(self.source, PatchTokenCache):
            digest, shards = bytes_digest(picture, declared), self.source.shards
            if (states := shards.read(digest)) is not None:
                shard = shards.place_of(digest)
                mark_used([shard] if shard else [])
                return ViewFeatures(states)
        views = ViewSource(self.source.image_processor)
        with as_file(picture) as file:
            try:
                return ViewFeatures(views.load(declare(file, declared)), digest)
            except PanoVLMError as error:
                raise PanoVLMError(str(error).replace(str(file), place)) from error

    def encode(self, features: ViewFeatures) -> Tensor:
        """Return the model's input [V, ...] after the yaw rotation, in the training process.

        A picture that is not cached yet is encoded, and cached if there is room.
        """
        states = features.states
        if isinstance(self.source, PatchTokenCache) and features.digest is not None:
            states = self.source.encode(states)
            self._add(features.digest, states, self.source)
        return states[list(self.layout.order_after(features.num_strides))]

    def _add(self, digest: str, states: Tensor, cache: PatchTokenCache) -> None:
        size, share = cache.bytes_per_picture, self.room.share if self.room else SHARD_BYTES
        if size <= share:
            cache.shards.add(digest, states)
        if cache.shards.is_due or cache.shards.pending_bytes + size > share:
            self.keep()

    def keep(self) -> None:
        """Write what was encoded since the last time, where there is room."""
        if isinstance(self.source, PatchTokenCache):
            with suppress(OSError, SafetensorError):  # a full disk: encoded again next time
                if self.room:
                    self.room.make()
                self.source.shards.flush()
