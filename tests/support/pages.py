"""What a report's page holds."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """The attributes that a browser would fetch from, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.drawings: list[str] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = ("src", "href", "xlink:href", "data", "srcset", "action", "poster")
        named = dict(attrs)
        if tag == "svg" and named.get("role") == "img" and " at " not in str(named["aria-label"]):
            self.drawings.append(str(named["aria-label"]))
        self.fetched += [value or "" for name, value in attrs if name in names]

    def handle_data(self, data: str) -> None:
        self.text += data
        shown = self.tags and self.tags[-1] in ("td", "th", "small", "p", "figcaption", "li", "dd")
        if shown and data.strip():
            self.cells.append(data.strip())
