"""Photo Sphere XMP: read in every spelling, and never a danger."""

import warnings

import pytest
from xmp_packets import packet

from panovlm.pictures.gpano import (
    MAX_XMP_BYTES,
    NAMESPACE,
    CroppedArea,
    PhotoSphere,
    XMPWarning,
    read_photo_spheres,
)

AREA = {
    "FullPanoWidthPixels": "800",
    "FullPanoHeightPixels": "400",
    "CroppedAreaLeftPixels": "100",
    "CroppedAreaTopPixels": "50",
    "CroppedAreaImageWidthPixels": "300",
    "CroppedAreaImageHeightPixels": "200",
}


def read_photo_sphere(xmp, name):
    """The properties of the one packet; None without."""
    found = read_photo_spheres([xmp], name)
    assert len(found) <= 1
    return found[0] if found else None


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
        other = packet({"ProjectionType": "x"}).replace(b"panorama", b"p")
        assert read_photo_sphere(other, "p") is None
        assert read_photo_sphere(b'<?xml version="1.0" encoding="klingon"?><x/>', "p") is None


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
        (entity_bomb(), "a document type"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>', "a document type"),
        (b"<GPano:x>" + b" " * MAX_XMP_BYTES + b"</GPano:x>", "bytes, more than"),
        (b"<GPano:x>" * 100_000, "elements more than 1000 deep"),
        (packet(AREA | {"FullPanoWidthPixels": "wide"}), "FullPanoWidthPixels 'wide', no number"),
        (packet(AREA | {"CroppedAreaTopPixels": "nan"}), "CroppedAreaTopPixels 'nan', no number"),
        (packet(AREA | {"CroppedAreaTopPixels": "1e999"}), "no number"),
        (packet({"FullPanoWidthPixels": "800"}), "no FullPanoHeightPixels, CroppedAreaLeftPixels"),
    ],
)
def test_invalid_xmp_is_ignored_with_a_warning(xmp, error):
    with pytest.warns(UserWarning, match=rf"photo: found invalid XMP \(.*({error}).*expected.*XMP"):
        assert read_photo_sphere(xmp, "photo") is None


WHOLE = packet({"ProjectionType": "equirectangular", **AREA})
FACTS = PhotoSphere("equirectangular", CroppedArea(800, 400, 100, 50, 300, 200))
AS_LEFT_BY_PROGRAMS = {
    "bytes behind the end mark": WHOLE + b"\0\0<junk & more\xff</x>",
    "bytes before the start": b"\0\n  " + WHOLE,
    "another packet before": packet({}) + WHOLE,
    "another packet behind": WHOLE + packet({"ProjectionType": ""}).replace(b"GPano", b"Other"),
    "the prefix not declared": WHOLE.replace(f' xmlns:GPano="{NAMESPACE}"'.encode(), b""),
    "other prefixes not declared": WHOLE.replace(b"dc:format", b"tiff:Make"),
    "a bare ampersand": WHOLE.replace(b"image/jpeg", b"Tom & Jerry &nbsp; &amp; &#38;"),
    "a control character": WHOLE.replace(b"image/jpeg", b"a\x01b"),
    "latin letters that are no UTF-8": WHOLE.replace(b"image/jpeg", b"M\xfcnchen"),
    "UTF-16, little end first": WHOLE.decode().encode("utf-16-le"),
    "UTF-16, big end first, marked": b"\xfe\xff" + WHOLE.decode().encode("utf-16-be"),
    "an older name of the root": WHOLE.replace(b"x:xmpmeta", b"x:xapmeta"),
    "no root around": WHOLE.replace(b'<x:xmpmeta xmlns:x="adobe:ns:meta/">', b"").replace(
        b"</x:xmpmeta>", b""
    ),
    "a long history": WHOLE.replace(b"image/jpeg", b"history " * 200_000),
}


@pytest.mark.parametrize("kind", AS_LEFT_BY_PROGRAMS)
def test_xmp_is_read_as_programs_leave_it(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_photo_spheres([AS_LEFT_BY_PROGRAMS[kind]], "photo")
    assert found[0] == FACTS


def test_all_packets_are_read_and_invalid_ones_matter_only_where_no_other_counts():
    other = packet({"ProjectionType": "cylindrical"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_photo_spheres([b"<x", WHOLE, packet({}), other], "photo")
    assert [each.projection for each in found] == ["equirectangular", "cylindrical"]


@pytest.mark.parametrize(
    ("pitch", "roll", "found"),
    [("0", "359", (0, -1)), ("358.5", "-181", (-1.5, 179)), ("-720", "180", (0, 180))],
)
def test_full_turns_of_the_camera_change_nothing(pitch, roll, found):
    xmp = packet({"PosePitchDegrees": pitch, "PoseRollDegrees": roll})
    facts = read_photo_sphere(xmp, "photo")
    assert (facts.pitch_deg, abs(facts.roll_deg)) == (found[0], abs(found[1]))


@pytest.mark.parametrize("pose", [{"PosePitchDegrees": "91"}, {"PoseRollDegrees": "level"}])
def test_a_pose_that_is_no_angle_leaves_the_area(pose):
    xmp = packet({**AREA, **pose})
    with pytest.warns(XMPWarning, match=r"photo: found XMP with Pose.*taken as level"):
        assert read_photo_sphere(xmp, "photo") == FACTS


def test_long_xmp_about_other_things_is_not_parsed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_photo_sphere(b"<x>" * MAX_XMP_BYTES, "photo") is None
    long = WHOLE.replace(b"image/jpeg", b"history " * 20_000)
    for xmp in (long, long.decode().encode("utf-16-le"), long.decode().encode("utf-16-be")):
        assert read_photo_sphere(xmp.replace(b"GPano", b"other"), "photo") == FACTS


def test_many_packets_in_one_are_read_in_little_time():
    many = b'<?xpacket begin=""?><a/>' * 200_000
    assert read_photo_spheres([many + WHOLE], "photo") == []
