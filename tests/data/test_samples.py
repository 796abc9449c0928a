"""Samples of streams: their records, and what is declared of their one picture."""

from typing import Any

import pytest

from panovlm.data.hub_shards import _sample
from panovlm.data.records import Needs
from panovlm.data.samples import Sample, records_of
from panovlm.errors import PanoVLMError
from panovlm.pictures.declaring import Declaration

STRIP = {"projection": "cylindrical", "hfov_deg": 270.0}
DEFAULT = Declaration(projection="cubemap")
PICTURES = Needs(text=False, image=True)


def sample(*records: dict[str, Any]) -> Sample:
    return Sample("shard.tar 0", records, b"picture")


def test_a_record_declares_before_the_stage() -> None:
    own = Declaration(**STRIP)  # type: ignore[arg-type]
    assert records_of(sample({}), PICTURES, DEFAULT)[0].declared == DEFAULT
    assert records_of(sample({"declared": STRIP}), PICTURES, DEFAULT)[0].declared == own
    as_found = records_of(sample({"declared": {}}), PICTURES, DEFAULT)[0]
    assert as_found.shown == as_found.image


def test_records_of_one_picture_declare_it_alike() -> None:
    assert len(records_of(sample({"declared": STRIP}, {"declared": STRIP}), PICTURES)) == 2
    with pytest.raises(PanoVLMError, match=r"shard\.tar 0: found records that declare .*correct"):
        records_of(sample({"declared": STRIP}, {}), PICTURES)


def test_a_column_of_declarations_has_fields_that_say_nothing() -> None:
    row = {"image": b"picture", "declared": {**STRIP, "yaw_deg": None, "use_xmp": None}}
    assert _sample(row, "row 0").records == ({"declared": STRIP},)
