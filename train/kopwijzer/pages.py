"""Pages and feeds: saved web pages, saved text of pages, RSS and Atom -> headlines with teasers.

Everything here gets bytes or text that was already read and gives plain records; it knows nothing
of files. Nothing is ever fetched.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from kopwijzer.errors import BadSource

__all__ = ["from_feed", "from_html", "from_text", "looks_like_page"]

Record = dict[str, Any]

#: Tags of a page or feed, far above what any has: they bound the memory that its tree takes.
MAX_TAGS = 200_000
_MAX_DEPTH = 400  # of elements in each other; a page has some thirty

_COUNT = re.compile(r"\d[\d.,]*[kKmM]?")
_READ_ALSO = re.compile(r"(lees (ook|meer|verder)|read (also|more)|bekijk (ook|hier))\b", re.I)
_BYLINE = re.compile(r"(door|by|par|von|redactie)\b.{0,60}", re.I)
_SPACE = re.compile(r"\s+")
_HEADINGS = ("h1", "h2", "h3", "h4")


# Saved text ------------------------------------------------------------------------------------


def from_text(text: str) -> list[Record]:
    """The article and the listing of a news page that was saved as text.

    The article is a title, a byline word, the title again and the lead. The listing is items of
    a headline, a teaser and a count of readers that stands twice, under a heading. Lines that
    point elsewhere, headings, counts and poll questions are no headlines.
    """
    lines = [_SPACE.sub(" ", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    records: list[Record] = []
    title = _article_title(lines)
    if title is not None:
        name, after = title
        lead = next((line for line in lines[after:] if _is_sentence(line)), "")
        records.append({"headline": name, "teaser": lead})
    # A listing item ends in its count of readers; what stands before it, back to the count of
    # the item before, is teaser and headline. A page that shows each count once is read too.
    twice = _counts_twice(lines) > 0
    for place, line in enumerate(lines):
        if not _COUNT.fullmatch(line) or (place and _COUNT.fullmatch(lines[place - 1])):
            continue
        if twice and lines[place + 1 : place + 2] != [line]:
            continue
        item: list[str] = []
        for before in reversed(lines[max(0, place - 2) : place]):
            if _COUNT.fullmatch(before) or _READ_ALSO.match(before):
                break
            item.insert(0, before)
        if item:
            records.append({"headline": item[0], "teaser": item[1] if len(item) > 1 else ""})
    return records


def looks_like_page(text: str) -> bool:
    """Whether a text is a saved page rather than a headline a line.

    A page has an article's title twice with a byline between, or counts of readers that stand
    twice.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    title = _article_title(lines)
    # Two equal lines next to each other are what a list of headlines may have too.
    bylined = title is not None and lines[title[1] - 2] != title[0]
    return bylined or _counts_twice(lines) >= 2


def _counts_twice(lines: list[str]) -> int:
    pairs = zip(lines, lines[1:], strict=False)
    return sum(here == after and bool(_COUNT.fullmatch(here)) for here, after in pairs)


def _article_title(lines: list[str]) -> tuple[str, int] | None:
    """The title that stands twice with a byline between, and the place after the second."""
    for place, line in enumerate(lines[:40]):
        for again in (place + 1, place + 2):
            if again < len(lines) and lines[again] == line and not _COUNT.fullmatch(line):
                between = lines[place + 1 : again]
                if all(_BYLINE.fullmatch(one) for one in between):
                    return line, again + 1
    return None


def _is_sentence(line: str) -> bool:
    return len(line.split()) >= 5 and not _READ_ALSO.match(line)


# HTML ------------------------------------------------------------------------------------------


def from_html(data: bytes, where: str = "the page") -> list[Record]:
    """The article (heading and first paragraph) and the listed items of a saved HTML page.

    An item is a heading, or a link of four words or more, with the paragraph that follows it in
    the same element. What scripts, navigation, footers and forms hold is no headline.

    Raises
    ------
    BadSource
        The page has more tags, or nests them deeper, than any page that people read.
    """
    from bs4 import BeautifulSoup

    _check_tags(data, where)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it may be XML, or the name of a file
        soup = BeautifulSoup(data, "html.parser")
    for part in soup(["script", "style", "noscript", "template", "nav", "footer", "form", "svg"]):
        part.decompose()
    records: list[Record] = []
    seen: set[str] = set()
    for node in soup.find_all([*_HEADINGS, "a"]):
        if node.name == "a" and (node.find_parent([*_HEADINGS, "p"]) or node.find(_HEADINGS)):
            continue
        headline = _words(node.get_text(" "))
        linked = node.name == "a" or node.find("a") is not None or node.find_parent("a") is not None
        if not headline or headline in seen or _READ_ALSO.match(headline):
            continue
        if len(headline.split()) < (4 if node.name == "a" else 3):
            continue
        teaser = _teaser(node)
        if node.name != "h1" and not linked and not teaser:
            continue  # a heading over a list names the list
        seen.add(headline)
        records.append({"headline": headline, "teaser": teaser})
    return records


def _teaser(node: Any) -> str:
    """The first paragraph after a heading, before the next heading."""
    for after in node.find_all_next(["p", *_HEADINGS], limit=4):
        if after.name != "p":
            return ""
        text = _words(after.get_text(" "))
        if _is_sentence(text):
            return text
    return ""


def _check_tags(data: bytes, where: str) -> None:
    """Refuse what would take memory or time without bound to make a tree of."""
    if data.count(b"<") > MAX_TAGS:
        raise BadSource(f"{where}: has more than {MAX_TAGS:,} tags; no page that is read has")


# Feeds -----------------------------------------------------------------------------------------


def from_feed(data: bytes, where: str) -> Iterator[Record]:
    """The entries of an RSS or Atom feed: title and description without tags, link and date.

    Raises
    ------
    BadSource
        The bytes are no feed.
    """
    import feedparser

    if not data.strip():
        return
    if b"<!ENTITY" in data:
        raise BadSource(f"{where}: declares entities of its own, which no feed needs; not read")
    _check_tags(data, where)
    # A stream: bytes would be tried as the name of a file first.
    found = feedparser.parse(io.BytesIO(data))
    if not found.entries and (found.bozo or not found.version):
        why = found.get("bozo_exception") or "it has neither channel nor entries"
        raise BadSource(f"{where}: is not an RSS or Atom feed ({why})")
    for entry in found.entries:
        parsed = entry.get("published_parsed") or entry.get("updated_parsed")
        date = "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}Z".format(*parsed[:6]) if parsed else None
        yield {
            "headline": _plain(entry.get("title", "")),
            "teaser": _plain(entry.get("summary", "")),
            "link": entry.get("link"),
            "date": date,
        }


class _Text(HTMLParser):
    """The text between tags."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def _plain(markup: str) -> str:
    if "<" not in markup:
        return _words(html.unescape(markup))
    parser = _Text()
    parser.feed(markup)
    parser.close()
    return _words(" ".join(parser.parts))


def _words(text: str) -> str:
    text = _SPACE.sub(" ", text).strip()
    return re.sub(r" ([.,;:!?])", r"\1", text)
