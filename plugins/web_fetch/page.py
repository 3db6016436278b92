"""The words of a page: its title and its text, without what only a browser needs."""

import re
from dataclasses import dataclass
from email.message import Message
from html.parser import HTMLParser

from door import Refused

_SKIPPED = re.compile("script|style|noscript|template|svg|iframe|select|nav|footer")
_BREAKS = re.compile("p|div|br|[uod]l|li|d[td]|table|tr|h[1-6r]|section|article|header|main|blockquote|pre")
_META = re.compile(rb"<meta[^>]{0,200}?charset=[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_TEXT = re.compile(r"text/.*|application/(.*\+)?(json|xml|javascript)")
# Where a page says its encoding; HTML's own rule.
_HEAD = 1024


@dataclass(frozen=True)
class Page:
    """What a person would read."""

    title: str
    text: str


def read_page(body: bytes, content_type: str) -> Page:
    """Return the words of a page.

    Raises:
        Refused: It is no text.
    """
    header = Message()
    header["Content-Type"] = content_type or "text/html"
    kind = header.get_content_type()
    if not _TEXT.fullmatch(kind):
        raise Refused(f"this is no text, but {kind} / 不是文本")
    text = _decoded(body, header.get_content_charset() or "")
    if kind != "text/html" and not kind.endswith("xml"):
        return Page("", text.strip())
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return Page(_tidy("".join(reader.title)), _tidy("".join(reader.text)))


def _decoded(body: bytes, said: str) -> str:
    found = _META.search(body[:_HEAD])
    for charset in (said, found[1].decode() if found else "", "utf-8"):
        try:
            return body.decode(charset, "replace")
        except (LookupError, ValueError):
            continue  # one that nobody knows
    raise AssertionError("UTF-8 is known")


def _tidy(text: str) -> str:
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _Reader(HTMLParser):
    """Collects the words."""

    def __init__(self) -> None:
        super().__init__()
        self.title: list[str] = []
        self.text: list[str] = []
        self._skipping = ""
        self._depth = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if self._skipping:
            self._depth += tag == self._skipping
        elif _SKIPPED.fullmatch(tag):
            self._skipping, self._depth = tag, 1
        elif tag == "title" and not self.title:
            self._in_title = True
        elif _BREAKS.fullmatch(tag):
            self.text.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if self._skipping:
            self._depth -= tag == self._skipping
            self._skipping = self._skipping if self._depth else ""
        elif tag == "title":
            self._in_title = False
        elif _BREAKS.fullmatch(tag):
            self.text.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            # A line break in HTML is a space; those of <pre> are lost, and no word.
            (self.title if self._in_title else self.text).append(data.replace("\n", " "))
