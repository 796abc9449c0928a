"""Speed and quality of every method on the same files, in one run."""

import random
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from methods import (
    CUT_FULL,
    LOAD_AND_CUT,
    OURS,
    PROCESSOR,
    Method,
    as_pixels,
    entropy_decode,
    methods,
    pillow_decode,
)
from panovlm.geometry.layouts import ViewLayout
from pictures import Picture
from quality import HALF_INTEGER, Grid, psnr_db, reference, ssim

Calls = dict[str, Callable[[], object]]

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""What is timed: the time that passes, or the processor's time that this process gets."""
ENTROPY = "entropy decoding"


def measure(
    pictures: list[Picture], layout: ViewLayout, repeats: int, clock: str = "wall"
) -> dict[str, Any]:
    """Measure all methods on pictures of one width: both timings, the floor and the quality.

    Args:
        pictures: The files.
        layout: The views.
        repeats: Timed rounds on each file.
        clock: A key of CLOCKS.

    Returns:
        What the JSON holds for one width.
    """
    compared, _ = methods(layout)

    def over_files(calls_of: Callable[[list[Method], Picture], Calls]) -> dict[str, Any]:
        samples: dict[str, list[float]] = {}
        for picture in pictures:
            for name, each in timed(calls_of(compared, picture), repeats, clock).items():
                samples.setdefault(name, []).extend(each)
        return {name: summarised(each) for name, each in samples.items()}

    end_to_end, projection = over_files(_whole_ways), over_files(_projections)
    entropy = end_to_end.pop(ENTROPY)
    return {
        "files": [picture.described() for picture in pictures],
        "end_to_end_ms": _with_ratios(end_to_end, PROCESSOR),
        "entropy_decoding_ms": entropy,
        "ours_to_entropy_decoding": end_to_end[PROCESSOR]["median"] / entropy["median"],
        "projection_ms": _with_ratios(projection, LOAD_AND_CUT),
        "quality": judge(pictures, layout, compared),
    }


def timed(calls: Calls, repeats: int, clock: str = "wall") -> dict[str, list[float]]:
    """Time calls in rounds, so that a busy moment meets all of them alike.

    Each round has its own order: what runs after a call that filled the caches is slower.

    Args:
        calls: What to time; each runs once untimed first, which fills caches.
        repeats: Rounds.
        clock: A key of CLOCKS.

    Returns:
        Milliseconds of every round for each call.
    """
    for call in calls.values():
        call()
    now, order = CLOCKS[clock], random.Random(0)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name in order.sample(list(calls), len(calls)):
            started = now()
            calls[name]()
            samples[name].append(1e3 * (now() - started))
    return samples


def summarised(samples: Iterable[float]) -> dict[str, float]:
    """Compute the median and quartiles of timings."""
    first, median, third = np.percentile(list(samples), [25, 50, 75])
    return {
        "median": float(median),
        "first_quartile": float(first),
        "third_quartile": float(third),
        "interquartile_range": float(third - first),
    }


def judge(
    pictures: list[Picture], layout: ViewLayout, compared: list[Method]
) -> dict[str, dict[str, Any]]:
    """Compare each method's views with the supersampled reference.

    Args:
        pictures: The files.
        layout: The views.
        compared: The methods; the image processor is left out, since its views are normalised.

    Returns:
        For each method the mean over the files of PSNR (over all views of a file) and SSIM (mean of
        the views), both as delivered, against half-integer pixel centres, and on the grid the
        method itself uses; and the PSNR of every file.
    """
    scores: dict[str, list[dict[str, float]]] = {}
    for picture in pictures:
        panorama = pillow_decode(picture.path)

        @cache
        def truth(grid: Grid, panorama: Any = panorama) -> Any:
            return np.stack(
                [reference(panorama, view, layout.view_size, grid) for view in layout.views]
            )

        for method in compared:
            if method.name != PROCESSOR:
                views = as_pixels(method.project(method.decode(picture.path)))
                score = _score(views, truth(HALF_INTEGER))
                own = _score(views, truth(method.grid))
                score |= {f"{name}_own_grid": value for name, value in own.items()}
                scores.setdefault(method.name, []).append(score)
    return {name: _averaged(each) for name, each in scores.items()}


def _whole_ways(compared: list[Method], picture: Picture) -> Calls:
    """Return every way from the file to the normalised tensor, and the floor beside them."""
    path = picture.path
    calls: Calls = {method.name: lambda m=method: m.end_to_end(path) for method in compared}
    return {**calls, ENTROPY: lambda: entropy_decode(path)}


def _projections(compared: list[Method], picture: Picture) -> Calls:
    """Return every projection of the decoded array, ours also of the full-size one."""
    decoders = {method.decode for method in compared if method.name != PROCESSOR}
    decoded = {decode: decode(picture.path) for decode in decoders}
    calls: Calls = {
        method.name: lambda m=method: m.project(decoded[m.decode])
        for method in compared
        if method.name != PROCESSOR
    }
    ours = next(method for method in compared if method.kind == OURS)
    full = pillow_decode(picture.path)
    return {**calls, CUT_FULL: lambda: ours.project(full)}


def _with_ratios(timings: dict[str, dict[str, float]], ours: str) -> dict[str, dict[str, float]]:
    """Add to each timing how many times as long as ours it is."""
    unit = timings[ours]["median"]
    return {name: {**each, "ratio": each["median"] / unit} for name, each in timings.items()}


def _score(views: Any, truth: Any) -> dict[str, float]:
    likeness = [ssim(view, true) for view, true in zip(views, truth, strict=True)]
    return {"psnr_db": psnr_db(views, truth), "ssim": float(np.mean(likeness))}


def _averaged(scores: list[dict[str, float]]) -> dict[str, Any]:
    means = {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
    return {**means, "psnr_db_of_files": [score["psnr_db"] for score in scores]}
