"""Reads a page as tests look at it."""

from html.parser import HTMLParser
from typing import Any

from panovlm.evaluation.pages.page import templates

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """A page, or a part of one, that has been read with every tag closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)

    @property
    def text(self) -> str:
        """All words, as a browser shows them: with single spaces."""
        return " ".join("".join(self.texts).split())

    @property
    def charts(self) -> list[str | None]:
        """What charts are called to screen readers."""
        return [attrs.get("aria-label") for _, attrs in self.tags if attrs.get("role") == "img"]

    @property
    def classes(self) -> set[str]:
        """All classes of elements."""
        return {name for _, attrs in self.tags for name in (attrs.get("class") or "").split()}

    def count(self, name: str) -> int:
        return sum(tag == name for tag, _ in self.tags)

    def of_class(self, *names: str) -> list[dict[str, str | None]]:
        """Attributes of the elements that are of all the classes."""
        wanted = {*names}
        return [attrs for _, attrs in self.tags if wanted <= {*(attrs.get("class") or "").split()}]


def part(template: str, macro: str, *content: Any) -> Page:
    """Read what a macro of a template gives."""
    module = templates().get_template(template).module
    page = Page(str(getattr(module, macro)(*content)))
    assert page.open == []
    return page


def percent(attrs: dict[str, str | None], name: str) -> float:
    """Percentage in an element's style, as of "left:12.5%"."""
    parts = dict(each.split(":") for each in (attrs.get("style") or "").split(";"))
    return float(parts[name].rstrip("%"))
