"""Views a second of the packaged detector, and what the whole of `panovlm annotate` takes beside.

    python benchmarks/annotation.py PICTURES [--panoramas 8] [--signs]

The first panoramas of PICTURES are annotated one after the other in this process, on one thread of
OpenCV's, after one that warms up. Prints what was measured with, then views a second and the share
of the time that reading, cutting and merging take. Writes nothing.
"""

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from panovlm.annotating.packaged import PackagedTeacher
from panovlm.annotating.picture import (
    Picture,
    Setup,
    annotate_panorama,
    open_panorama,
)
from panovlm.annotating.sources import find_pictures
from panovlm.annotating.teachers import ViewResult
from panovlm.annotating.views import describe_views, overlapping_views
from panovlm.geometry.layouts import ViewLayout
from panovlm.geometry.sphere import Pixels
from reporting import environment


@dataclass(frozen=True)
class TimedTeacher(PackagedTeacher):
    """The packaged teacher, and the seconds that it takes."""

    seconds: list[float] = field(default_factory=list)

    def annotate(self, views: Pixels, layout: ViewLayout) -> list[ViewResult]:
        begin = time.perf_counter()
        results = super().annotate(views, layout)
        self.seconds.append(time.perf_counter() - begin)
        return results


def main() -> None:
    """Measure and print."""
    options = _options()
    pictures = find_pictures(options.pictures, Path("annotations.jsonl"))[: options.panoramas + 1]
    cv2.setNumThreads(1)
    teacher = TimedTeacher(signs=options.signs)
    teacher.prepare()
    setup = Setup(teacher, overlapping_views())
    print(json.dumps(environment(threads=1) | {"teacher": teacher.description.settings}))
    whole = [_annotate(picture, setup) for picture in pictures]
    measured, asked = whole[1:], teacher.seconds[1:]
    num_views = setup.layout.num_views * len(measured)
    print(
        f"{describe_views(setup.layout)}; {len(measured)} panoramas: the teacher takes "
        f"{num_views / sum(asked):.2f} views/s, all together {num_views / sum(measured):.2f} "
        f"views/s, of which reading, cutting and merging take {1 - sum(asked) / sum(measured):.0%}"
    )


def _annotate(picture: Picture, setup: Setup) -> float:
    begin = time.perf_counter()
    annotate_panorama(open_panorama(picture.path, setup.layout), picture, "", setup)
    return time.perf_counter() - begin


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--panoramas", type=int, default=8)
    parser.add_argument("--signs", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
