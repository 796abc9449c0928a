"""One example in a shard of a stream: a picture's bytes and records about it.

A sample's JSON is a record without `image`, or a list of records about the one picture.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from panovlm.data.findings import Finding
from panovlm.data.record_files import Located, located
from panovlm.data.records import Needs, Record
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration


@dataclass(frozen=True)
class Sample:
    """One example in a shard.

    Attributes:
        place: Shard and key, for messages.
        records: Records without their picture, not checked yet.
        picture: Bytes of the picture file, if there is one.
        error: What the shard's reader found wrong with it.
    """

    place: str
    records: tuple[Any, ...]
    picture: bytes | None
    error: str | None = None

    @property
    def num_bytes(self) -> int:
        """About the memory it takes; of the records, by their text."""
        return len(self.picture or b"") + len(str(self.records))


def records_of(sample: Sample, needs: Needs, declared: Declaration | None = None) -> list[Record]:
    """Check a sample's records.

    Args:
        sample: From a shard.
        needs: What every record must hold.
        declared: What the picture is, of records that do not declare it.

    Returns:
        One record or more about its picture, or one text. The picture's path is the sample's place.

    Raises:
        PanoVLMError: Listing everything that is wrong with it.
    """
    if sample.error:
        raise PanoVLMError(f"{sample.place}: {sample.error}")
    if sample.picture is None and len(sample.records) != 1:
        found = f"found {len(sample.records)} records without a picture"
        raise PanoVLMError(f"{sample.place}: {found}, expected one; give each a key of its own")
    checked = [each for data in sample.records for each in _checked(data, sample, needs)]
    errors = [str(each) for each in checked if isinstance(each, Finding)]
    if errors or not checked:
        raise PanoVLMError("; ".join(errors) or f"{sample.place}: found no record, expected one")
    records = [e.record.declared_by(declared) for e in checked if isinstance(e, Located)]
    if len({record.declared for record in records}) > 1:
        raise PanoVLMError(
            f"{sample.place}: found records that declare their one picture differently, expected "
            "the same `declared` in all; correct it"
        )
    return records


def _checked(data: Any, sample: Sample, needs: Needs) -> list[Located | Finding]:
    if isinstance(data, dict) and (named := {"image", "images"} & data.keys()):
        raise PanoVLMError(
            f"{sample.place}: found the field {named.pop()!r}, expected the picture beside its "
            f"record; remove the field"
        )
    if isinstance(data, dict) and sample.picture is not None:
        data = data | {"image": sample.place}
    return list(located(data, Path(sample.place), "record", needs))
