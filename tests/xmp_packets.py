"""XMP packets as cameras write them, for the tests of everything that reads pictures."""

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from panovlm.geometry.sphere import panorama_rays
from panovlm.pictures.gpano import NAMESPACE

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


def packet(properties, *, elements=False, prefix="GPano"):
    """An XMP packet with properties as attributes or as child elements."""
    if elements:
        inside = "".join(f"<{prefix}:{k}>\n {v}\n</{prefix}:{k}>" for k, v in properties.items())
        attributes = ""
    else:
        attributes = " ".join(f'{prefix}:{k}="{v}"' for k, v in properties.items())
        inside = ""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="{RDF}"><rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'dc:format="image/jpeg"/>'
        f'<rdf:Description rdf:about="" xmlns:{prefix}="{NAMESPACE}" {attributes}>{inside}'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>\n\n\0'
    ).encode()


def colours(rays):
    """A smooth colour for every direction."""
    x, y, z = np.moveaxis(rays, -1, 0)
    waves = [x + 0.3 * y * z, y - 0.4 * x * z, z + 0.2 * x * y]
    return np.rint(127.5 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)


SPHERE = colours(panorama_rays(64, 128))
AREA = {
    "ProjectionType": "equirectangular",
    "FullPanoWidthPixels": 128,
    "FullPanoHeightPixels": 64,
    "CroppedAreaLeftPixels": 24,
    "CroppedAreaTopPixels": 16,
    "CroppedAreaImageWidthPixels": 60,
    "CroppedAreaImageHeightPixels": 40,
}
PART = SPHERE[16:56, 24:84]


def save_with_xmp(path, pixels, xmp, **options):
    """Save a picture without loss, but for JPEG, with XMP where its format keeps it."""
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    options |= {
        ".jpg": {"xmp": xmp, "quality": 98, "subsampling": 0},
        ".png": {"pnginfo": text},
        ".webp": {"xmp": xmp, "lossless": True},
        ".tif": {"tiffinfo": {700: xmp}},
        ".avif": {"xmp": xmp, "quality": 98},
    }[path.suffix]
    Image.fromarray(pixels).save(path, **options)
    return path
