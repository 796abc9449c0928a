"""From a panorama file to views: our speed and quality against those of others.

    python benchmarks/projection.py --panoramas DIR --json OUT

Everything is measured in one run, on the same files, with the same number of threads.
docs/lab/projection.md says what is measured and holds the tables (`--docs` writes them there).
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Returns:
        The exit status: 1 if `--assert` is given and a criterion is missed or was not measured.
    """
    options = parse(_parser(), arguments)
    set_threads(options.threads)
    report = measured(options)
    write_json(report, options.json)
    show(report)
    if options.docs is not None:
        write_docs(report, options.docs)
    all_met = all(each["met"] for each in report["criteria"])
    return int(options.must_hold and not all_met)


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options of a benchmark of projections; those given and those that all have."""
    add = parser.add_argument
    add("--panoramas", type=Path, required=True, help="folder of JPEG panoramas, 2:1")
    add("--json", type=Path, required=True, help="where to write the report")
    add("--docs", type=Path, help="page whose tables are written anew")
    add("--files", type=int, default=3, help="files for each width")
    add("--repeats", type=int, default=15, help="timed rounds on each file")
    add("--threads", type=int, default=1, help="threads of every library")
    add("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine at other work")
    options = parser.parse_args(arguments)
    if options.clock == "cpu" and options.threads != 1:
        parser.error("the cpu clock adds up all threads: use it with --threads 1")
    return options


def write_json(report: dict[str, Any], path: Path) -> None:
    """Write a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def set_threads(count: int) -> None:
    """Fix the threads of OpenMP, OpenCV and torch, before anything computes."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))
    import cv2  # only now: libraries read their variables once, when they are loaded
    import torch

    cv2.setNumThreads(count)
    torch.set_num_threads(count)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Measure at every width, giving the whole report."""
    from measuring import measure
    from methods import methods
    from panovlm.geometry.layouts import ViewLayout
    from pictures import JPEG_QUALITY, prepare
    from quality import RAYS
    from reporting import criteria, environment

    layout = ViewLayout.ring(8, 90.0, options.view_size)
    compared, missing = methods(layout)
    report: dict[str, Any] = {
        "environment": environment(options.threads),
        "settings": {
            "repeats": options.repeats,
            "clock": options.clock,
            "layout": layout.describe(),
            "rays_per_pixel": f"{RAYS} x {RAYS}",
            "jpeg_quality_of_made_files": JPEG_QUALITY,
        },
        "missing": missing,
        "widths": [],
    }
    for width in options.widths:
        with tempfile.TemporaryDirectory() as workplace:
            found = prepare(
                options.panoramas, width, options.files, Path(workplace), mosaic=options.mosaic
            )
            result = measure(found, layout, options.repeats, options.clock)
        report["widths"].append({"wanted_width": width, "width": found[0].width, **result})
    report["criteria"] = criteria(report["widths"], compared)
    return report


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    from reporting import criteria_table, environment_line, print_tables, width_tables

    tables = [each for result in report["widths"] for each in width_tables(result)]
    wanted = ("wanted and found", criteria_table(report["criteria"]))
    print_tables(environment_line(report), [*tables, wanted])
    for package, reason in report["missing"].items():
        print(f"{package}: {reason}")


def write_docs(report: dict[str, Any], page: Path) -> None:
    """Write the tables to their place on a page."""
    from reporting import (
        criteria_table,
        environment_line,
        markdown,
        put_between_markers,
        width_tables,
    )

    parts = [environment_line(report)]
    tables = [each for result in report["widths"] for each in width_tables(result)]
    for title, rows in [*tables, ("Wanted and found", criteria_table(report["criteria"]))]:
        parts += [f"### {title[0].upper()}{title[1:]}", markdown(rows)]
    put_between_markers(page, "comparison", "\n\n".join(parts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--widths", type=int, nargs="+", default=[4096, 8192], help="columns of the panoramas")
    add("--view-size", type=int, default=224, help="pixels along a side of each of the 8 views")
    add("--mosaic", action="store_true", help="lay pictures together where none is wide enough")
    add("--assert", action="store_true", dest="must_hold", help="fail unless every figure is met")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
