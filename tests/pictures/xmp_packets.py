"""XMP packets as cameras write them, for the tests of everything that reads pictures."""

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
