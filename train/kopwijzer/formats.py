"""Formats: an open stream -> plain records, in order and one at a time.

A record is a mapping as the source has it, or the `Fault` that stands in its place. Text files of
every kind are read here; what they are called and where they lie is the business of `sources`.
"""

import contextlib
import csv
import json
import re
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from kopwijzer.errors import BadSource

__all__ = [
    "BOM",
    "MAX_LINE",
    "MAX_WHOLE",
    "Columns",
    "Fault",
    "Record",
    "Records",
    "no_headline",
    "records",
    "short",
    "whole",
]

#: The longest line, field or text that is taken for a headline's, in bytes.
MAX_LINE = 1 << 20
#: The largest file of a format that must be read whole (JSON, RSS, HTML, a saved page).
MAX_WHOLE = 64 << 20
_MAX_REACH = 1000  # lines that one field of a table may go over
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a source holds what."""

    headline: str = "headline"
    teaser: str = "teaser"
    label: str = "label"
    group: str = "group"
    source: str = "source"
    date: str = "date"


class Fault(Exception):  # the word for it everywhere here
    """A record that cannot be used: the sentence, and what could be read of it."""

    def __init__(self, sentence: str, row: Mapping[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.row = dict(row or {})


#: What a format's reader yields: the place of a record, and the record or its fault.
Record = tuple[str, Mapping[str, Any] | Fault]
Records = Iterator[Record]


def records(
    stream: IO[bytes], form: str, name: str, columns: Columns, lines_before: int = 0
) -> Records:
    """The records of an open stream in one format."""
    from kopwijzer import pages

    if form == "jsonl":
        yield from _jsonl(stream, name, lines_before)
    elif form == "lines":
        yield from _plain_lines(stream, name, lines_before, columns)
    elif form in ("csv", "tsv"):
        yield from _table(stream, name, "\t" if form == "tsv" else ",", columns)
    elif form == "json":
        yield from _json(stream, name)
    elif form == "page":
        text = _decoded(whole(stream, name), name)
        found = pages.from_text(text)
        yield from _renamed(found, name, columns)
    elif form == "html":
        yield from _renamed(pages.from_html(whole(stream, name)), name, columns)
    elif form == "rss":
        yield from _renamed(pages.from_feed(whole(stream, name), name), name, columns)
    else:
        raise BadSource(f"{name}: a stream cannot be read as {form}")


def _renamed(found: Iterable[Mapping[str, Any]], name: str, columns: Columns) -> Records:
    """Records of pages and feeds, whose column names are ours, under the asked-for names."""
    names = {"headline": columns.headline, "teaser": columns.teaser, "date": columns.date}
    for number, record in enumerate(found, 1):
        row = {names.get(key, key): value for key, value in record.items() if value is not None}
        yield f"{name} item {number}", row


def short(value: Any) -> str:
    """A value for a message, cut to 60 characters."""
    try:
        text = repr(value[:100] if isinstance(value, str | bytes) else value)
    except RecursionError:
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


# Lines -----------------------------------------------------------------------------------------


def whole(stream: IO[bytes], name: str) -> bytes:
    """All bytes of a stream; more than `MAX_WHOLE` of them raise `BadSource`."""
    parts: list[bytes] = []
    size = 0
    while part := stream.read(1 << 20):
        size += len(part)
        if size > MAX_WHOLE:
            raise BadSource(
                f"{name}: is larger than {MAX_WHOLE >> 20} MiB, the most that a file of this kind "
                "may be; use JSONL, CSV or Parquet, which are read in pieces"
            )
        parts.append(part)
    return b"".join(parts)


def _lines(stream: IO[bytes], name: str, number: int = 0) -> Iterator[tuple[int, bytes | Fault]]:
    """Numbered lines with their ends; one over `MAX_LINE` is passed over in pieces."""
    first = True
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if first:
            if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise BadSource(f"{name}: is UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
            line = line.removeprefix(BOM)
            first = False
        if len(line) > MAX_LINE and not line.endswith(b"\n"):
            size = len(line)
            while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE)):
                size += len(line)
            size -= line.endswith(b"\n")
            yield number, Fault(f"a line of {size:,} bytes, more than {MAX_LINE:,}; split it")
            continue
        yield number, line


def _utf8(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        readable = line.decode("utf-8", "replace")
        raise Fault(
            f"byte {error.start + 1} is {line[error.start]:#04x}, which is not UTF-8, in "
            f"{short(readable)}; save it as UTF-8",
            None,
        ) from error


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSource(
            f"{name}: byte {error.start + 1} is not UTF-8; save the page as UTF-8"
        ) from error


def _jsonl(stream: IO[bytes], name: str, before: int) -> Records:
    for number, line in _lines(stream, name, before):
        where = f"{name} line {number}"
        if isinstance(line, Fault):
            yield where, line
        elif line.strip():
            try:
                row, _ = _json_value(_utf8(line).strip(), 0, whole=True)
                if not isinstance(row, dict):
                    raise Fault(f"is {short(row)}, not an object with columns")
                yield where, row
            except Fault as fault:
                yield where, fault


def _plain_lines(stream: IO[bytes], name: str, before: int, columns: Columns) -> Records:
    for number, line in _lines(stream, name, before):
        where = f"{name} line {number}"
        if isinstance(line, Fault):
            yield where, line
        elif line.strip():
            try:
                headline, _, teaser = _utf8(line.rstrip(b"\r\n")).partition("\t")
                yield where, {columns.headline: headline, columns.teaser: teaser}
            except Fault as fault:
                yield where, fault


# JSON has no NaN, but Python and pandas write it for what is missing.
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)
_JSON_SPACE = re.compile(r"[ \t\n\r]*")


def _json_value(text: str, start: int, *, whole: bool = False) -> tuple[Any, int]:
    """The value that starts there, and where it ends (at the end of the text, if `whole`)."""
    try:
        value, end = _DECODER.raw_decode(text, start)
        if whole and (end := _after_space(text, end)) != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
    except json.JSONDecodeError as error:
        near = text[max(error.pos - 20, 0) :] if start else text
        raise Fault(f"is not JSON ({error.msg} at sign {error.pos + 1}): {short(near)}") from error
    except RecursionError as error:
        raise Fault("is JSON nested too deep to be a row") from error
    except ValueError as error:  # a number of thousands of digits
        raise Fault(f"is not JSON that can be read ({error})") from error
    return value, end


def _json(stream: IO[bytes], name: str) -> Records:
    """An array of objects, {"data": the same}, or one object; one item is in memory at a time."""
    text = _decoded(whole(stream, name), name)
    start = _after_space(text, 0)
    if start == len(text):
        return
    try:
        if text[start] == "[":
            start = yield from _json_items(text, start, name)
        elif text[start] == "{":
            start = yield from _json_object(text, start, name)
        else:
            raise Fault(f"holds {short(text[start:])}, not a list of objects")
        if _after_space(text, start) != len(text):
            raise Fault("holds more than one value; for JSON lines say --input-format jsonl")
    except Fault as fault:
        raise BadSource(f"{name}: {fault}") from fault


def _json_items(text: str, start: int, name: str) -> Generator[Record, None, int]:
    """The items of the array that opens at `start`; returns where it ends."""
    number = 0
    place = _after_space(text, start + 1)
    if text[place : place + 1] == "]":
        return place + 1
    while True:
        row, place = _json_value(text, place)
        number += 1
        bad = None if isinstance(row, dict) else Fault(f"is {short(row)}, not an object")
        yield f"{name} item {number}", bad or row
        place = _after_space(text, place)
        sign = text[place : place + 1]
        if sign == "]":
            return place + 1
        if sign != ",":
            raise Fault(f"is not JSON after item {number}: {short(text[place : place + 60])}")
        place = _after_space(text, place + 1)


def _json_object(text: str, start: int, name: str) -> Generator[Record, None, int]:
    """The object that opens at `start`, or the items of the list that is its "data"."""
    found = re.compile(r'\{\s*"data"\s*:\s*(?=\[)').match(text, start)
    if found is None:
        row, end = _json_value(text, start)
        rows = row.get("data")
        if not isinstance(rows, list):
            yield f"{name} item 1", row
            return end
        for number, one in enumerate(rows, 1):
            bad = None if isinstance(one, dict) else Fault(f"is {short(one)}, not an object")
            yield f"{name} item {number}", bad or one
        return end
    end = yield from _json_items(text, found.end(), name)
    rest = "{" + text[_after_space(text, end) :].removeprefix(",")
    _, end = _json_value(rest, 0)
    return len(text) - (len(rest) - end)


def _after_space(text: str, start: int) -> int:
    found = _JSON_SPACE.match(text, start)
    return found.end() if found else start


# Tables ----------------------------------------------------------------------------------------


def _table(stream: IO[bytes], name: str, delimiter: str, columns: Columns) -> Records:
    """CSV and TSV as text only: the words NA and null stay words.

    A quote that nothing closes must not swallow the rows under it. A row that goes over its line
    is taken as such only if it comes out whole; if not, its first line is a fault and reading
    goes on at the second.
    """
    if csv.field_size_limit() < MAX_LINE:
        csv.field_size_limit(MAX_LINE)
    lines = _TableLines(_lines(stream, name))
    header: list[str] = []
    while (taken := lines.take()) is not None:
        number, line = taken
        where = f"{name} line {number}"
        if not header and isinstance(line, Fault):
            raise BadSource(f"{where}: {line}")
        if isinstance(line, Fault):
            yield where, line
        elif not line.strip(" \r\n"):  # tabs alone are empty fields
            continue
        elif not header:
            header, delimiter, quoted = _header(line, name, delimiter, columns)
        else:
            try:
                fields = _fields(line, lines, delimiter, len(header), quoted)
                yield where, dict(zip(header, fields, strict=True))
            except Fault as fault:
                fault.row = dict(zip(header, fault.row.get("", ()), strict=False))
                yield where, fault


class _TableLines:
    """Lines as text or as faults, of which some can be given back."""

    def __init__(self, lines: Iterator[tuple[int, bytes | Fault]]) -> None:
        self._lines = lines
        self._back: deque[tuple[int, str | Fault]] = deque()
        #: How many lines a row may go over: less after each one that went on and on.
        self.reach = _MAX_REACH

    def take(self) -> tuple[int, str | Fault] | None:
        if self._back:
            return self._back.popleft()
        for number, line in self._lines:
            try:
                if isinstance(line, Fault):
                    raise line
                text = _utf8(line)
                if "\0" in text:
                    raise Fault(f"holds U+0000, a control character, in {short(text)}; take it out")
                return number, text
            except Fault as fault:
                return number, fault
        return None

    def give_back(self, lines: Sequence[tuple[int, str | Fault]]) -> None:
        self._back.extendleft(reversed(lines))


def _header(line: str, name: str, delimiter: str, columns: Columns) -> tuple[list[str], str, bool]:
    """The names of the columns, the delimiter, and whether the names stand in quotes."""
    found: list[str] = []
    # Where the comma marks decimals, as in Dutch, spreadsheets put a semicolon between fields.
    for sign in delimiter if delimiter == "\t" else ",;\t":
        with contextlib.suppress(csv.Error):
            names = [one.strip() for one in next(csv.reader([line], delimiter=sign))]
            found = found or names
            if columns.headline in names:
                seen: Counter[str] = Counter()
                for place, one in enumerate(names):
                    seen[one] += 1
                    if seen[one] > 1:
                        names[place] = f"{one}_{seen[one]}"
                return names, sign, line.lstrip().startswith('"')
    raise no_headline(name, found, columns)


def no_headline(name: str, found: Sequence[str], columns: Columns) -> BadSource:
    """The error of a table without the column that holds the headline."""
    has = ", ".join(short(one) for one in found[:12])
    return BadSource(
        f"{name}: has no column {columns.headline!r}; it has {has or 'none'}. "
        "Say which holds the headline with --headline"
    )


def _fields(first: str, lines: _TableLines, delimiter: str, n: int, quoted: bool) -> list[str]:
    """The fields of the row that starts with a line, and may go on in those that follow."""
    parts = first.rstrip("\r\n").split(delimiter)
    plain = delimiter == "\t" and len(parts) == n
    if plain and not any(part[:1] == '"' and part.count('"') % 2 for part in parts):
        return [_unquoted(part, quoted) for part in parts]
    used: list[tuple[int, str | Fault]] = []

    def feed() -> Iterator[str]:
        yield first
        size = len(first)
        while len(used) < lines.reach and (taken := lines.take()) is not None:
            used.append(taken)
            text = taken[1]
            if isinstance(text, Fault) or (size := size + len(text)) > MAX_LINE:
                return
            yield text

    try:
        fields = next(csv.reader(feed(), delimiter=delimiter, strict=True))
    except csv.Error as error:
        if len(used) >= lines.reach:
            lines.reach = max(lines.reach // 2, 2)
        lines.give_back(used)
        if plain:
            return parts
        why = "a quote opens that nothing closes" if used else str(error)
        told = f"is not a row of a table ({why}): {short(first.rstrip())}; check its quotes"
        raise Fault(told) from error
    if len(fields) != n:
        lines.give_back(used)
        if plain:
            return parts
        raise Fault(
            f"has {len(fields)} fields where the first line has {n}; "
            "put text with a comma or quote into quotes",
            {"": fields},
        )
    return fields


def _unquoted(field: str, quoted: bool) -> str:
    """A field of a TSV line. Quotes are text there, unless a writer had to put them or always did:
    in a table of headlines most of what opens with a quote is someone speaking."""
    if len(field) > 1 and field[0] == field[-1] == '"':
        inner = field[1:-1]
        if '"' not in inner.replace('""', "") and (quoted or '""' in inner or "\r" in inner):
            return inner.replace('""', '"')
    return field
