"""A visit to the page: its actions, what it shows, and checks for errors and other hosts."""

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, expect

MOST_MS = 60_000
"""Machines may be busy."""
expect.set_options(timeout=MOST_MS)


FRAMES = """new Promise((resolve) => {
  const wait = (count) => requestAnimationFrame(() => (count ? wait(count - 1) : setTimeout(resolve)));
  wait(3);
})"""  # noqa: E501
"""Waits for a few frames: a movement takes one, and its drawing another."""


class Visit:
    """A page in a context of its own: fresh storage, a size, a colour scheme."""

    def __init__(self, browser: Browser, address: str, link: str = "", **options: Any) -> None:
        options = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"} | options
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(MOST_MS)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._on_message)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = address
        self.page.goto(f"{address}/{link}")
        expect(self.page.locator("#examples img")).to_have_count(4)

    def _on_message(self, message: Any) -> None:
        if message.type in ("error", "warning") and "GPU stall" not in message.text:
            self.errors.append(message.text)

    def leave(self) -> None:
        """Close it; there may be no error, and no request to another host."""
        elsewhere = [
            url for url in self.requests if not url.startswith((self.address, "data:", "blob:"))
        ]
        errors = [*self.errors]  # requests cut off by closing are no errors
        self.context.close()
        assert (elsewhere, errors) == ([], []), (elsewhere, errors)

    def open(self, picture: Path) -> None:
        self.page.set_input_files("#file", picture)
        expect(self.page.locator("#welcome")).to_be_hidden()

    def ask(self, question: str) -> Locator:
        """Ask, wait for the whole answer, and return its entry."""
        self.page.fill("#question", question)
        self.page.keyboard.press("Enter")
        return self.answered()

    def answered(self, number: int | None = None) -> Locator:
        if number is not None:
            expect(self.page.locator(".entry")).to_have_count(number)
        entry = self.page.locator(".entry").last
        expect(entry).to_have_attribute("aria-busy", "false")
        return entry

    def direction(self) -> tuple[float, float]:
        """Return where the page looks: yaw and pitch in degrees."""
        expect(self.page.locator("#look")).to_be_visible()  # once a frame is drawn
        self.page.evaluate(FRAMES)
        text = self.page.inner_text("#look").replace("−", "-")
        found = re.match(r"(-?\d+)°.*pitch (-?\d+)°", text)
        assert found, text
        return float(found[1]), float(found[2])

    def of_script(self, name: str, code: str, given: Any = None) -> Any:
        """Return the result of a function (its code) of the exports of a script of the page."""
        script = self.page.locator(f"link[href$='/{name}']").get_attribute("href")
        call = f"([path, given]) => import('./' + path).then((script) => ({code})(script, given))"
        return self.page.evaluate(call, [script, given])

    def paths(self, place: str, kind: str) -> list[str]:
        """Return the outlines of a kind in "#outlines" or "#chart"."""
        found = self.page.locator(f"{place} path.{kind}:not(.halo)")
        return [path.get_attribute("d") or "" for path in found.all()]
