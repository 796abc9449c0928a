"""The reports of the benchmarks: the machine, the targets, tables, their place on a page."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import torch

from methods import LIBRARY, LOAD_AND_CUT, OPENCV, PACKAGES, PROCESSOR, Method

FROM_LIBRARIES = {4096: 4.0, 8192: 7.0}
"""Wanted end to end: at least so many times as fast as the fastest of the three libraries."""
FROM_OPENCV = {4096: 1.2, 8192: 2.0}
"""The same against OpenCV with a cached map."""
PROJECTION_FROM_LIBRARIES = 15.0
PSNR_DB = 40.0
TO_ENTROPY_DECODING = 1.5
_BASIS = ("panovlm", "numpy", "opencv-python-headless", "pillow", "scipy", "torch", "transformers")

Table = list[list[str]]


def environment(threads: int) -> dict[str, Any]:
    """Return what the figures were measured with."""
    return {
        "cpu": cpu_model(),
        "logical_cpus": os.cpu_count(),
        "load_average_at_start": os.getloadavg()[0],
        "threads": {
            "wanted": threads,
            "torch": torch.get_num_threads(),
            "cv2": cv2.getNumThreads(),
        },
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {package: version_of(package) for package in (*_BASIS, *PACKAGES)},
    }


def software(made_with: dict[str, Any]) -> str:
    """Name the versions of Python and of packages that an environment holds."""
    packages = ", ".join(f"{name} {each}" for name, each in made_with["packages"].items())
    return f"Python {made_with['python']}; {packages}"


def cpu_model() -> str:
    """Return the processor's name, as far as the system knows it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def version_of(package: str) -> str:
    """Return an installed package's version, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def criteria(results: list[dict[str, Any]], compared: list[Method]) -> list[dict[str, Any]]:
    """Set the measured figures against the wanted ones.

    Args:
        results: One for each wanted width, as `measure` gives them.
        compared: The methods that ran.

    Returns:
        For each criterion its claim, the figures wanted and found, and whether it is met; None
        where it could not be measured.
    """
    libraries = [method.name for method in compared if method.kind == LIBRARY]
    return [each for result in results for each in _criteria_of(result, libraries)]


def _criteria_of(result: dict[str, Any], libraries: list[str]) -> list[dict[str, Any]]:
    wanted_width = result["wanted_width"]
    measured = result["width"] == wanted_width

    psnr = result["quality"][LOAD_AND_CUT]["psnr_db"]

    def ratio(timing: str, names: list[str]) -> float | None:
        return min((result[timing][name]["ratio"] for name in names), default=None)

    rows = [
        ("end to end, fastest library / ours", "at least", FROM_LIBRARIES.get(wanted_width),
         ratio("end_to_end_ms", libraries)),
        ("end to end, OpenCV / ours", "at least", FROM_OPENCV.get(wanted_width),
         ratio("end_to_end_ms", [OPENCV])),
        ("projection alone, fastest library / ours", "at least", PROJECTION_FROM_LIBRARIES,
         ratio("projection_ms", libraries)),
        ("PSNR of our views in dB", "at least", PSNR_DB, psnr),
        ("end to end, ours / entropy decoding", "at most", TO_ENTROPY_DECODING,
         result["ours_to_entropy_decoding"]),
    ]  # fmt: skip
    return [
        {
            "width": wanted_width,
            "claim": claim,
            "wanted": f"{bound} {wanted:g}",
            "found": found if measured else None,
            "met": _met(bound, wanted, found) if measured and found is not None else None,
        }
        for claim, bound, wanted, found in rows
        if wanted is not None
    ]


def _met(bound: str, wanted: float, found: float) -> bool:
    return found >= wanted if bound == "at least" else found <= wanted


def verdict(met: bool | None) -> str:
    """Word whether a criterion is met."""
    return {True: "met", False: "missed", None: "not measured"}[met]


def width_tables(result: dict[str, Any]) -> list[tuple[str, Table]]:
    """Return the tables of one width, each with its title."""
    return [
        (f"{_title(result)}: time", _time_table(result)),
        (f"{_title(result)}: quality against a supersampled reference", _quality_table(result)),
    ]


def _title(result: dict[str, Any]) -> str:
    ways = sorted({file["made"] for file in result["files"]})
    title = f"{result['width']} px wide ({len(result['files'])} files, {'; '.join(ways)})"
    if result["width"] != result["wanted_width"]:
        title += f", instead of {result['wanted_width']} px, for want of wider pictures"
    return title


def _time_table(result: dict[str, Any]) -> Table:
    rows = [["method", "file → tensor, ms", "÷ ours", "projection alone, ms", "÷ ours"]]
    ends, projections = result["end_to_end_ms"], result["projection_ms"]
    for name in dict.fromkeys([*ends, *projections]):
        rows.append([name, *_timing(ends.get(name)), *_timing(projections.get(name))])
    floor = result["entropy_decoding_ms"]
    ratio = floor["median"] / ends[PROCESSOR]["median"]
    rows.append(["entropy decoding alone", *_timing({**floor, "ratio": ratio}), "", ""])
    return rows


def _timing(timing: dict[str, float] | None) -> list[str]:
    if timing is None:
        return ["", ""]
    spread = f"{timing['first_quartile']:.1f} to {timing['third_quartile']:.1f}"
    return [f"{timing['median']:.1f} ({spread})", f"{timing['ratio']:.2f}"]


def _quality_table(result: dict[str, Any]) -> Table:
    rows = [["method", "PSNR, dB", "SSIM", "PSNR on its own grid, dB", "SSIM on its own grid"]]
    for name, score in result["quality"].items():
        own = score["psnr_db_own_grid"], score["ssim_own_grid"]
        figures = (score["psnr_db"], score["ssim"], *own)
        rows.append([name, *(f"{figure:.{2 + i % 2}f}" for i, figure in enumerate(figures))])
    return rows


def criteria_table(found: list[dict[str, Any]]) -> Table:
    """Return the table of wanted and found figures."""
    rows = [["width", "criterion", "wanted", "found", ""]]
    for each in found:
        figure = "" if each["found"] is None else f"{each['found']:.2f}"
        rows.append(
            [str(each["width"]), each["claim"], each["wanted"], figure, verdict(each["met"])]
        )
    return rows


def environment_line(report: dict[str, Any]) -> str:
    """Describe in one paragraph what the figures were measured with."""
    made_with, settings = report["environment"], report["settings"]
    threads = made_with["threads"]["wanted"]
    return (
        f"{made_with['cpu']}, {made_with['logical_cpus']} logical CPUs, "
        f"{threads} thread{'s' * (threads > 1)}, load average at the start "
        f"{made_with['load_average_at_start']:.1f}; {settings['repeats']} rounds on each file, "
        f"{settings['clock']} time; "
        f"{software(made_with)}."
    )


def markdown(table: Table) -> str:
    """Write a table in Markdown, its first row the head."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]])


def print_tables(heading: str, tables: Iterable[tuple[str, Table]]) -> None:
    """Print a paragraph and then tables with their titles."""
    from rich.console import Console
    from rich.table import Table as Printed

    console = Console()
    if not console.is_terminal:  # a log has no width, and 80 columns are too few for a table
        console = Console(width=200)
    console.print(heading, highlight=False)
    for title, rows in tables:
        table = Printed(*rows[0], title=title)
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)


def put_between_markers(page: Path, name: str, text: str) -> None:
    """Replace what stands on a page between the markers of a name.

    Raises:
        SystemExit: If the page lacks the markers.
    """
    begin, end = f"<!-- {name}: written by the script -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text().partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise SystemExit(f"{page}: found no markers, expected '{begin}' and '{end}'; add them")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
