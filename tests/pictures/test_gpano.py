"""Photo Sphere XMP: read in every spelling, and never a danger."""

import warnings

import pytest
from xmp_packets import packet

from panovlm.pictures.gpano import (
    MAX_XMP_BYTES,
    NAMESPACE,
    CroppedArea,
    PhotoSphere,
    read_photo_sphere,
)

AREA = {
    "FullPanoWidthPixels": "800",
    "FullPanoHeightPixels": "400",
    "CroppedAreaLeftPixels": "100",
    "CroppedAreaTopPixels": "50",
    "CroppedAreaImageWidthPixels": "300",
    "CroppedAreaImageHeightPixels": "200",
}


@pytest.mark.parametrize("elements", [False, True])
@pytest.mark.parametrize("prefix", ["GPano", "pano"])
def test_properties_are_read_as_attributes_and_as_elements_under_any_prefix(elements, prefix):
    properties = {"ProjectionType": "Equirectangular", "UsePanoramaViewer": "True", **AREA}
    tilt = {"PoseHeadingDegrees": "123.5", "PosePitchDegrees": "-2.5", "PoseRollDegrees": "181e-1"}
    facts = read_photo_sphere(packet(properties | tilt, elements=elements, prefix=prefix), "photo")
    area = CroppedArea(800, 400, 100, 50, 300, 200)
    assert facts == PhotoSphere("equirectangular", area, -2.5, 18.1)


def test_a_projection_alone_says_nothing_of_an_area():
    assert (
        read_photo_sphere(packet({"ProjectionType": "equirectangular"}), "photo") == PhotoSphere()
    )


def test_a_cylinder_needs_no_full_height():
    properties = AREA | {"ProjectionType": "cylindrical", "CroppedAreaTopPixels": "-100.0"}
    del properties["FullPanoHeightPixels"]
    facts = read_photo_sphere(packet(properties), "photo")
    assert facts == PhotoSphere("cylindrical", CroppedArea(800, 0, 100, -100, 300, 200))


def test_xmp_without_these_properties_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_photo_sphere(packet({}), "photo") is None
        assert (
            read_photo_sphere(packet({"ProjectionType": "x"}).replace(b"panorama", b"p"), "p")
            is None
        )


def entity_bomb():
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    return (
        f'<!DOCTYPE x [<!ENTITY a0 "aaaaaaaaaa">{entities}]>'
        f'<x xmlns:g="{NAMESPACE}"><g:ProjectionType>&a9;</g:ProjectionType></x>'
    ).encode()


@pytest.mark.parametrize(
    ("xmp", "error"),
    [
        (b"<x:xmpmeta", "unclosed token|not well-formed|unbound"),
        (b"\xff\xfe\x00", "not well-formed|no element"),
        (b'<?xml version="1.0" encoding="klingon"?><x/>', "klingon|encoding"),
        (entity_bomb(), "a document type"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>', "a document type"),
        (b"<x>" + b" " * MAX_XMP_BYTES + b"</x>", "bytes, more than"),
        (b"<x>" * 100_000, "no element|unclosed"),
        (packet(AREA | {"FullPanoWidthPixels": "wide"}), "FullPanoWidthPixels 'wide', no number"),
        (packet(AREA | {"CroppedAreaTopPixels": "nan"}), "CroppedAreaTopPixels 'nan', no number"),
        (packet(AREA | {"CroppedAreaTopPixels": "1e999"}), "no number"),
        (packet({"FullPanoWidthPixels": "800"}), "no FullPanoHeightPixels, CroppedAreaLeftPixels"),
        (packet({"PosePitchDegrees": "91"}), "PosePitchDegrees 91, beyond 90"),
        (packet({"PoseRollDegrees": "-200"}), "PoseRollDegrees -200, beyond 180"),
    ],
)
def test_invalid_xmp_is_ignored_with_a_warning(xmp, error):
    with pytest.warns(UserWarning, match=rf"photo: found invalid XMP \(.*({error}).*expected.*XMP"):
        assert read_photo_sphere(xmp, "photo") is None
