"""Pages and feeds: saved web pages, saved text of pages, RSS and Atom -> headlines with teasers.

Everything here gets bytes or text that was already read and gives plain records; it knows nothing
of files. Nothing is ever fetched.
"""

import contextlib
import html
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from kopwijzer.errors import BadSource

__all__ = ["from_feed", "from_html", "from_text", "looks_like_page"]

Record = dict[str, Any]

#: Tags of a feed, far above what any has: they bound the memory and time that reading it takes.
_MAX_TAGS = 200_000

_COUNT = re.compile(r"\d[\d.,]*[kKmM]?")
_READ_ALSO = re.compile(r"(lees (ook|meer|verder)|read (also|more)|bekijk (ook|hier))\b", re.I)
_BYLINE = re.compile(r"(door|by|par|von|redactie)\b.{0,60}", re.I)
_SPACE = re.compile(r"\s+")
_HEADINGS = ("h1", "h2", "h3", "h4")
_SKIPPED = ("script", "style", "noscript", "template", "nav", "footer", "form", "svg", "select")
#: Elements at which a line ends.
# fmt: off
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "br", "dd", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5",
    "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table",
    "tbody", "td", "th", "thead", "tr", "ul",
))
#: Elements that hold nothing and are not closed.
_EMPTY = frozenset((
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param",
    "source", "track", "wbr",
))
# fmt: on


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
    return sum(a == b and bool(_COUNT.fullmatch(a)) for a, b in pairwise(lines))


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


def from_html(data: bytes) -> list[Record]:
    """The article (heading and first paragraph) and the listed items of a saved HTML page.

    An item is a heading, or a link of four words or more, with the paragraph that follows it.
    What scripts, navigation, footers and forms hold is no headline.
    """
    nodes = _Nodes(_decoded(data)).found
    records: list[Record] = []
    seen: set[str] = set()
    for place, node in enumerate(nodes):
        headline = node.text
        if node.kind == "p" or not headline or headline in seen or _READ_ALSO.match(headline):
            continue
        if len(headline.split()) < (4 if node.kind == "a" else 3):
            continue
        teaser = _teaser(nodes[place + 1 : place + 9], headline)
        if node.kind not in ("a", "h1") and not node.linked and not teaser:
            continue  # a heading over a list names the list
        seen.add(headline)
        records.append({"headline": headline, "teaser": teaser})
    return records


def _teaser(after: "list[_Node]", headline: str) -> str:
    """The first paragraph after a heading, before the next item."""
    for node in after:
        if node.kind == "p":
            if _is_sentence(node.text):
                return node.text
        elif node.text != headline and (node.kind != "a" or len(node.text.split()) >= 4):
            return ""
    return ""


class _Node:
    """A heading, a link or a paragraph, with the text in it."""

    def __init__(self, kind: str, linked: bool = False) -> None:
        self.kind, self.linked = kind, linked
        self.parts: list[str] = []
        self.text = ""


class _Nodes:
    """The headings, links and paragraphs of a page, in their order.

    One pass and no tree: what a hostile page nests or leaves open costs no more than its length.
    """

    def __init__(self, markup: str) -> None:
        self.found: list[_Node] = []
        self._open: list[str] = []  # elements, outermost first
        self._inside: Counter[str] = Counter()  # the same, counted
        self._block: _Node | None = None  # the heading or paragraph that is open
        self._link: _Node | None = None

        for kind, what in _tokens(markup):
            if kind == "text":
                self._add(what)
            elif kind == "open":
                self._start(what)
            else:
                self._end(what)
        self._end_block()
        self._end_link()

    def _start(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._blank()
        if tag in _EMPTY:
            return
        if tag in _BLOCKS:
            self._end_block()
        self._open.append(tag)
        self._inside[tag] += 1
        if any(self._inside[skipped] for skipped in _SKIPPED):
            return
        if tag == "a":
            self._end_link()
            if self._block is None:
                self._link = _Node("a")
                self.found.append(self._link)
            else:
                self._block.linked = True
        elif tag == "p" or tag in _HEADINGS:
            if tag != "p" and self._link is not None:
                self._drop_link()
            self._block = _Node(tag, linked=self._inside["a"] > 0)
            self.found.append(self._block)

    def _end(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._end_block()
            self._blank()
        if tag == "a":
            self._end_link()
        if self._inside[tag]:
            while True:
                closed = self._open.pop()
                self._inside[closed] -= 1
                if closed == tag:
                    break

    def _add(self, text: str) -> None:
        if any(self._inside[skipped] for skipped in _SKIPPED):
            return
        for node in (self._block, self._link):
            if node is not None:
                node.parts.append(text)

    def _drop_link(self) -> None:
        """A link around a heading is no item of its own."""
        if self.found[-1] is self._link:
            self.found.pop()
        self._link = None

    def _blank(self) -> None:
        for node in (self._block, self._link):
            if node is not None:
                node.parts.append(" ")

    def _end_block(self) -> None:
        if self._block is not None:
            self._block.text = _words("".join(self._block.parts))
            self._block = None

    def _end_link(self) -> None:
        if self._link is not None:
            self._link.text = _words("".join(self._link.parts))
            self._link = None


def _decoded(data: bytes) -> str:
    """A page's text, in the encoding that it claims, else UTF-8, else Windows'."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    claimed = re.search(rb"charset=[\"']?([A-Za-z0-9_.-]{2,20})", data[:4096])
    name = claimed[1].decode("ascii").lower() if claimed else "utf-8"
    for encoding in ("utf-8-sig" if name == "utf-8" else name, "utf-8-sig"):
        # Every browser reads what claims to be Latin-1 as Windows' superset of it.
        with contextlib.suppress(LookupError, ValueError):
            return data.decode("cp1252" if encoding == "iso-8859-1" else encoding)
    return data.decode("cp1252", "replace")


# Feeds -----------------------------------------------------------------------------------------


_REFERENCE = re.compile(rb"&#(x[0-9a-fA-F]{1,8}|[0-9]{1,8})(?![0-9a-fA-F])")


def _no_surrogate(reference: re.Match[bytes]) -> bytes:
    """A character reference; one to half a surrogate pair, which is no text, becomes U+FFFD."""
    number = reference[1]
    code = int(number[1:], 16) if number[:1] == b"x" else int(number)
    return b"&#xFFFD" if 0xD800 <= code <= 0xDFFF else reference[0]


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
    if data.count(b"<") > _MAX_TAGS:
        raise BadSource(f"{where}: has more than {_MAX_TAGS:,} tags; split the feed")
    try:
        # A stream: bytes would be tried as the name of a file first.
        found = feedparser.parse(io.BytesIO(_REFERENCE.sub(_no_surrogate, data)))
    except Exception as error:  # whatever a parser of broken markup stumbles over
        raise BadSource(f"{where}: is no feed that can be read ({error})") from error
    if not found.entries and (found.bozo or not found.version):
        why = found.get("bozo_exception") or "it has neither channel nor entries"
        raise BadSource(f"{where}: is not an RSS or Atom feed ({why})")
    for entry in found.entries:
        parsed = entry.get("published_parsed") or entry.get("updated_parsed")
        date = "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}Z".format(*parsed[:6]) if parsed else None
        yield {
            "headline": _plain(entry.get("title") or ""),
            "teaser": _plain(entry.get("summary") or ""),
            "link": entry.get("link"),
            "date": date,
        }


def _plain(markup: str) -> str:
    """Text without its tags and entities, with blanks where blocks border on each other."""
    parts = [
        what if kind == "text" else " " if what in _BLOCKS else "" for kind, what in _tokens(markup)
    ]
    return _words("".join(parts))


# Markup ----------------------------------------------------------------------------------------

_TAG = re.compile(r"""<(/?)([a-zA-Z][^\s/>]*+)(?:[^"'>]++|"[^"]*+"|'[^']*+')*+>""")
_LOOSE_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)[^>]*+>")
#: Elements whose text is none of the page's, and ends only at their own closing tag.
_RAW = {name: re.compile(f"</{name}", re.I) for name in ("script", "style", "textarea", "title")}


def _tokens(markup: str) -> Iterator[tuple[str, str]]:
    """The pieces of HTML: ("text", words), ("open", tag) and ("close", tag); nothing else matters.

    Parsers of trees, and the library's, take memory or time without bound for attributes and
    quotes that never end. Here each sign is looked at a few times at most.
    """
    place, last = 0, markup.rfind(">")
    tag = _TAG
    while True:
        start = markup.find("<", place)
        if start < 0 or start > last:
            yield "text", html.unescape(markup[place:])
            return
        if start > place:
            yield "text", html.unescape(markup[place:start])
        if markup.startswith("<!--", start):
            end = markup.find("-->", start + 2)
            if end < 0:
                return
            place = end + 3
        elif markup[start + 1] in "!?":
            place = markup.find(">", start) + 1
        else:
            found = tag.match(markup, start)
            if found is None and _LOOSE_TAG.match(markup, start):
                tag = _LOOSE_TAG  # a quote is open to the end: from here they mean nothing
                found = tag.match(markup, start)
            if found is None:
                yield "text", "<"
                place = start + 1
                continue
            place, name = found.end(), found[2].lower()
            yield "close" if found[1] else "open", name
            if name in _RAW and not found[1]:
                end_tag = _RAW[name].search(markup, place)
                if end_tag is None:
                    return
                place = end_tag.start()


def _words(text: str) -> str:
    return _SPACE.sub(" ", text).strip()
