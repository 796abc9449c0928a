"""How long the server's page takes to load in headless Chromium on the same machine.

    python benchmarks/page_load.py --json OUT [--docs docs/lab/serving.md] [--assert]

Each load is a fresh browser context with an empty cache, on a link to a rendered example; the
browser is running before. Times begin with the navigation and end with the load event, and with
the first frame that the viewer has drawn of the panorama. The very first load after the server's
start, when the examples are not rendered yet, is listed apart. "Again" is the same link once more
in the same context. Needs Chromium (or PANOVLM_CHROMIUM) and the extra `browser`.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from serving import Table, served
from serving_model import write_model

WANTED_S = 1.0
CASES = ("first after the start", "empty cache", "again")
LINK = "#example=1"
WATCH_FRAMES = """{
  const draw = WebGLRenderingContext.prototype.drawArrays;
  WebGLRenderingContext.prototype.drawArrays = function (...given) {
    draw.apply(this, given);
    if (window.firstFrame) return;
    this.readPixels(0, 0, 1, 1, this.RGBA, this.UNSIGNED_BYTE, new Uint8Array(4));
    window.firstFrame = performance.now();
  };
}"""
"""Run before the page's own scripts: records when the first frame was completely drawn.

A pixel is read back, which waits for all of them; Chromium's `finish` waits for nothing.
"""
READ = """async () => {
  while (!window.firstFrame || document.readyState !== "complete") await new Promise(requestAnimationFrame);
  const [page] = performance.getEntriesByType("navigation");
  const others = performance.getEntriesByType("resource");
  const parts = [page, ...others].filter((part) => part.startTime <= window.firstFrame);
  const read = (part) => [
    part.name.replace(/.*\\//, ""), part.startTime, part.responseStart, part.responseEnd, part.transferSize,
  ];
  return { load: page.loadEventEnd, frame: window.firstFrame, requests: parts.length,
           bytes: parts.reduce((sum, part) => sum + part.transferSize, 0), parts: parts.map(read) };
}"""  # noqa: E501
"""Returns the times in milliseconds, and what was loaded up to the first frame."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Returns:
        The exit status: 1 if `--assert` is given and a median is over the wanted time.
    """
    options = _parser().parse_args(arguments)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder), "tiny")
        with (
            served(model, ["--examples", "scenes"], options) as server,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(
                executable_path=os.environ.get("PANOVLM_CHROMIUM") or shutil.which("chromium"),
                args=["--no-sandbox", "--use-angle=swiftshader"],
            )
            address = f"http://127.0.0.1:{server.port}/"
            cases = measured(browser, address, options.loads)
            version = browser.version
            browser.close()
    report: dict[str, Any] = {"environment": environment(version, load_before), "cases": cases}
    report["met"] = all(median(cases[case], "frame") < WANTED_S * 1000 for case in CASES[1:])
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=2) + "\n")
    show(report)
    if options.docs is not None:
        write_docs(report, options.docs)
    return int(options.must_hold and not report["met"])


def measured(browser: Browser, address: str, loads: int) -> dict[str, list[dict[str, Any]]]:
    """Load the page often; return each load's figures by its case."""
    cases: dict[str, list[dict[str, Any]]] = {case: [] for case in CASES}
    first, fresh, again = CASES
    for number in range(loads + 1):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.add_init_script(WATCH_FRAMES)
        cases[fresh if number else first].append(_load(context, address))
        if number:
            cases[again].append(_load(context, address))
        context.close()
    return cases


def _load(context: BrowserContext, address: str) -> dict[str, Any]:
    page = context.new_page()
    before = processor_s()
    page.goto(address + LINK)
    figures: dict[str, Any] = page.evaluate(READ)
    figures["processor"] = 1000 * (processor_s() - before)
    page.close()
    return figures


def processor_s() -> float:
    """Return the processor time of all processes that this one has started, in seconds."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:2])
    return total


def median(loads: Sequence[dict[str, Any]], figure: str) -> float:
    """Return the median of a figure."""
    return statistics.median(load[figure] for load in loads)


def environment(chromium: str, load_before: float) -> dict[str, Any]:
    """Return the machine and the software of the run."""
    from reporting import cpu_model, version_of

    return {
        "cpu": cpu_model(),
        "logical_cpus": os.cpu_count(),
        "load_average_at_start": load_before,
        "load_average_at_end": os.getloadavg()[0],
        "chromium": chromium,
        "panovlm": version_of("panovlm"),
    }


def table(report: dict[str, Any]) -> Table:
    """Return the table of all cases."""
    head = ["load", "loads", "load event, ms", "first frame, ms", "longest, ms"]
    rows = [[*head, "processor time, ms", "requests", "KiB"]]
    for case, loads in report["cases"].items():
        times = [median(loads, figure) for figure in ("load", "frame")]
        figures = [f"{time:.0f}" for time in [*times, max(load["frame"] for load in loads)]]
        figures.append(f"{median(loads, 'processor'):.0f}")
        kib = f"{median(loads, 'bytes') / 1024:.0f}"
        rows.append([case, str(len(loads)), *figures, f"{median(loads, 'requests'):.0f}", kib])
    return rows


def environment_line(report: dict[str, Any]) -> str:
    """Return the conditions of the run in one paragraph."""
    from reporting import verdict

    made = report["environment"]
    return (
        f"{made['cpu']}, {made['logical_cpus']} logical CPUs, shared by server and browser, "
        f"load average {made['load_average_at_start']:.1f} at the start and "
        f"{made['load_average_at_end']:.1f} at the end; Chromium {made['chromium']}, headless, "
        f"drawing in software; panovlm {made['panovlm']}. Wanted: the median first frame, after "
        f"the first load, in under {WANTED_S:g} s: {verdict(report['met'])}."
    )


def show(report: dict[str, Any]) -> None:
    """Print the table."""
    from reporting import print_tables

    print_tables(environment_line(report), [("the page, from navigation", table(report))])


def write_docs(report: dict[str, Any], page: Path) -> None:
    """Write the table to its place on a page."""
    from reporting import markdown, put_between_markers

    text = f"{environment_line(report)}\n\n{markdown(table(report))}"
    put_between_markers(page, "page load", text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--json", type=Path, required=True, help="where to write the report")
    add("--docs", type=Path, help="page whose table is replaced")
    add("--loads", type=int, default=9, help="of each kind, but one after the start")
    add("--threads", type=int, default=1, help="threads of the server's libraries")
    add("--assert", action="store_true", dest="must_hold", help="fail unless the figure is met")
    parser.set_defaults(clients=1)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
