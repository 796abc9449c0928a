"""The cost of cutting views: by the panorama's width, the number of views and their size.

    python benchmarks/projection_cost.py --panoramas DIR --json OUT

The steps are timed apart: decoding the file as far as the views need it, cutting, normalising.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from projection import parse, set_threads, write_json

WIDTHS = (1024, 2048, 4096, 8192, 16384)
NUM_VIEWS = (4, 8, 16)
VIEW_SIZES = (224, 336, 512)
STEPS = ("decode", "cut", "normalise")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write what was asked for."""
    parser = _parser()
    options = parse(parser, arguments)
    if options.plot is not None and find_spec("matplotlib") is None:
        parser.error("found no matplotlib, expected it for --plot; install the extra bench")
    set_threads(options.threads)
    report = measured(options)
    write_json(report, options.json)
    from reporting import environment_line, markdown, put_between_markers

    text = f"{environment_line(report)}\n\n{markdown(table(report))}"
    print(text)
    if options.docs is not None:
        put_between_markers(options.docs, "cost", text)
    if options.plot is not None:
        plot(report, options.plot)
    return 0


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the three series, giving the whole report."""
    from reporting import environment

    base = options.base_width
    settings = [{"width": width, "num_views": 8, "view_size": 224} for width in options.widths]
    settings += [{"width": base, "num_views": count, "view_size": 224} for count in NUM_VIEWS]
    settings += [{"width": base, "num_views": 8, "view_size": size} for size in VIEW_SIZES]
    report: dict[str, Any] = {
        "environment": environment(options.threads),
        "settings": {"repeats": options.repeats, "clock": options.clock, "fov_deg": 90.0},
        "rows": [],
    }
    with tempfile.TemporaryDirectory() as workplace:
        for each in {tuple(each.values()): each for each in settings}.values():
            report["rows"].append(_measured_row(options, Path(workplace), **each))
    return report


def _measured_row(
    options: argparse.Namespace, workplace: Path, *, width: int, num_views: int, view_size: int
) -> dict[str, Any]:
    """Time our steps on the pictures of one width for one layout."""
    from measuring import summarised, timed
    from panovlm.geometry.layouts import ViewLayout
    from pictures import prepare

    layout = ViewLayout.ring(num_views, 90.0, view_size)
    pictures = prepare(options.panoramas, width, options.files, workplace, mosaic=True)
    samples: dict[str, list[float]] = {}
    for picture in pictures:
        calls = _steps(picture.path, layout)
        for step, each in timed(calls, options.repeats, options.clock).items():
            samples.setdefault(step, []).extend(each)
    return {
        "width": width,
        "num_views": num_views,
        "view_size": view_size,
        "made": sorted({picture.made for picture in pictures}),
        "file_bytes": [picture.size_bytes for picture in pictures],
        **{f"{step}_ms": summarised(each) for step, each in samples.items()},
    }


def _steps(path: Path, layout: Any) -> dict[str, Callable[[], object]]:
    """Return the calls that are timed: each step on the outcome of the one before."""
    from methods import normalised
    from panovlm.geometry.cutting import cut_views, required_width
    from panovlm.pictures.panorama import load_panorama

    panorama = load_panorama(path, required_width(layout))
    views = cut_views(panorama, layout)
    return {
        "decode": lambda: load_panorama(path, required_width(layout)),
        "cut": lambda: cut_views(panorama, layout),
        "normalise": lambda: normalised(views),
    }


def table(report: dict[str, Any]) -> list[list[str]]:
    """Return the figures as rows of text, the first the head."""
    head = ["panorama, px wide", "file, MB", "views", "view, px"]
    rows = [[*head, *(f"{step}, ms" for step in STEPS), "sum, ms", "picture"]]
    for row in report["rows"]:
        steps = [row[f"{step}_ms"]["median"] for step in STEPS]
        megabytes = sum(row["file_bytes"]) / len(row["file_bytes"]) / 1e6
        what = [str(row["width"]), f"{megabytes:.1f}", str(row["num_views"]), str(row["view_size"])]
        rows.append([*what, *(f"{ms:.1f}" for ms in [*steps, sum(steps)]), "; ".join(row["made"])])
    return rows


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw the three series as stacked bars."""
    import matplotlib

    matplotlib.use("svg")
    # Text stays text and identifiers stay the same from run to run: small files, small diffs.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "cost", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(9, 3), layout="constrained")
    for axis, (title, rows, labels) in zip(axes, _series(report), strict=True):
        bottom = [0.0] * len(rows)
        for step in STEPS:
            heights = [row[f"{step}_ms"]["median"] for row in rows]
            axis.bar(labels, heights, bottom=bottom, label=step)
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
        axis.set_xlabel(title)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("ms")
    axes[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _series(report: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]], list[str]]]:
    """Return the rows of each series, with what it is over and its labels."""
    titles = {
        "width": "panorama, px wide (8 views of 224 px)",
        "num_views": "views of 224 px",
        "view_size": "px of each of 8 views",
    }
    usual = {"num_views": 8, "view_size": 224}
    rows, base = report["rows"], report["rows"][-1]["width"]
    series = []
    for name, title in titles.items():
        fixed = {k: v for k, v in {**usual, "width": base}.items() if k != name}
        chosen = [row for row in rows if all(row[k] == v for k, v in fixed.items())]
        chosen.sort(key=lambda row, name=name: row[name])
        series.append((title, chosen, [str(row[name]) for row in chosen]))
    return series


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--plot", type=Path, help="where to draw the figures, as SVG")
    add("--widths", type=int, nargs="+", default=WIDTHS, help="columns of the panoramas")
    add("--base-width", type=int, default=4096, help="columns where views vary")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
