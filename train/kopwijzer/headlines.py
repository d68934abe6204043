"""Headlines: rows of any source, checked at the door. The only room that knows files.

`read` gives one `Headline` for each record of a source, in order and one at a time. What cannot
be used is a fault with its place, its value and what to do; `on_bad_row` says what becomes of it.
"""

import contextlib
import csv
import difflib
import glob
import gzip
import io
import json
import os
import re
import stat
import sys
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from kopwijzer.errors import BadRows, BadSource, KopwijzerError

__all__ = ["FORMATS", "Columns", "Headline", "check", "read"]

FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "rss", "html", "page", "lines", "dataset")

#: The longest line, field or text that is taken for a headline's, in bytes.
MAX_LINE = 1 << 20
#: The largest file of a format that must be read whole (JSON, RSS, HTML, a saved page).
MAX_WHOLE = 256 << 20
_MAX_FAULTS = 100_000

OnBadRow = Literal["fail", "skip", "keep"]

_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".xml": "rss",
    ".rss": "rss",
    ".atom": "rss",
    ".html": "html",
    ".htm": "html",
    ".txt": "text",
}
# C0 and C1 control characters but the tab; half a surrogate pair.
_FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85]")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a source holds what."""

    headline: str = "headline"
    teaser: str = "teaser"
    label: str = "label"
    group: str = "group"
    source: str = "source"
    date: str = "date"


@dataclass(frozen=True, slots=True)
class Headline:
    """One item: a headline, the teaser under it, and what else its row held.

    Rows of one `group` never straddle a split; `source` is where the item comes from and `date`
    its ISO date. `extra` holds the row's own columns as they were read, `where` its place
    ("feed.jsonl line 41"). A row that could not be used has the sentence in `error`.
    """

    headline: str
    teaser: str = ""
    label: str | None = None
    group: str | None = None
    source: str | None = None
    date: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    error: str | None = None


class _Fault(Exception):
    """A record that cannot be used: the sentence, and what could be read of it."""

    def __init__(self, sentence: str, row: Mapping[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.row = dict(row or {})


#: What a format's reader yields: the place of a record, and the record or its fault.
_Found = Iterator[tuple[str, Mapping[str, Any] | _Fault]]


def read(
    source: Any,
    *,
    columns: Columns | None = None,
    input_format: str | None = None,
    on_bad_row: OnBadRow = "fail",
    labels: Collection[str] | None = None,
    labelled: bool = False,
    on_fault: Callable[[str], None] | None = None,
) -> Iterator[Headline]:
    """Each record of a source as a `Headline`, in order, read as it is asked for.

    Parameters
    ----------
    source : path, glob, folder, "-", "hf:NAME", or an iterable of mappings
        A path ending in .gz is unpacked. "-" is stdin: JSONL when it opens with a brace, else
        lines. "hf:NAME" or "hf:NAME:SPLIT" is a dataset of Hugging Face `datasets`, as is a
        folder that it saved. DataFrames and datasets in memory are taken too.
    columns : Columns
        Which column holds what.
    input_format : one of `FORMATS`
        Instead of what the name of the file says.
    on_bad_row : "fail", "skip" or "keep"
        "fail" reads on, and at the end raises `BadRows` with every fault; "skip" leaves the record
        out; "keep" gives it in its place with `error` set.
    labels : collection of str, optional
        The labels that may occur.
    labelled : bool
        Whether a record without a label is a fault.
    on_fault : callable, optional
        Called with each fault's sentence under "skip" and "keep".

    Raises
    ------
    BadSource
        The source does not exist, cannot be read, or is not what it claims to be.
    BadRows
        Under "fail": records that cannot be used.
    """
    columns = columns or Columns()
    if input_format is not None and input_format not in FORMATS:
        raise BadSource(f"--input-format {input_format!r}: use one of {', '.join(FORMATS)}")
    faults: list[str] = []
    for where, found in _records(source, input_format, columns):
        try:
            if isinstance(found, _Fault):
                raise found
            yield _checked(found, columns, where, labels, labelled)
        except _Fault as fault:
            sentence = f"{where}: {fault}"
            if on_bad_row == "fail":
                if len(faults) < _MAX_FAULTS:
                    faults.append(sentence)
                continue
            if on_fault is not None:
                on_fault(sentence)
            if on_bad_row == "keep":
                yield _kept(fault, columns, where)
    if faults:
        raise BadRows(_name(source), faults)


# Checking --------------------------------------------------------------------------------------


def check(row: Mapping[str, Any], columns: Columns, where: str) -> Headline:
    """A row as a `Headline`; one that cannot be used has the sentence in `error`."""
    try:
        return _checked(row, columns, where, None, False)
    except _Fault as fault:
        return _kept(fault, columns, where)


def _kept(fault: _Fault, columns: Columns, where: str) -> Headline:
    """The error record of a fault: what could be read of it, and the sentence."""
    return Headline(
        headline=_text_or_empty(fault.row.get(columns.headline)),
        teaser=_text_or_empty(fault.row.get(columns.teaser)),
        extra=fault.row,
        where=where,
        error=f"{where}: {fault}",
    )


def _checked(
    row: Mapping[str, Any],
    columns: Columns,
    where: str,
    labels: Collection[str] | None,
    labelled: bool,
) -> Headline:
    headline = row.get(columns.headline)
    if headline is None:
        near = ", ".join(map(repr, list(row)[:6]))
        raise _Fault(f"no {columns.headline!r} in it" + (f"; it has {near}" if near else ""), row)
    headline = _text(headline, columns.headline, row)
    if not headline.strip():
        raise _Fault("the headline is empty; give it one or take the row out", row)
    teaser = _text(row.get(columns.teaser), columns.teaser, row)
    label = row.get(columns.label)
    if label is not None and not isinstance(label, str):
        label = str(label)
    if not label:
        label = None
        if labelled:
            raise _Fault(f"it has no label; put one into {columns.label!r}", row)
    elif labels is not None and label not in labels:
        near_label = difflib.get_close_matches(label, labels, 1)
        hint = f"did you mean {near_label[0]!r}?" if near_label else "use " + ", ".join(labels)
        raise _Fault(f"label {_short(label)} is not one of the configured labels; {hint}", row)
    elif labelled:
        label = _text(label, columns.label, row)
    return Headline(
        headline=headline,
        teaser=teaser,
        label=label,
        group=_optional(row.get(columns.group)),
        source=_optional(row.get(columns.source)),
        date=_optional(row.get(columns.date)),
        extra=row,
        where=where,
    )


def _text(value: Any, name: str, row: Mapping[str, Any]) -> str:
    """A text without control characters; line breaks inside it become blanks."""
    if value is None:
        return ""
    if not isinstance(value, str):
        kind = type(value).__name__
        raise _Fault(f"{name} is {_short(value)} ({kind}), not text; put it in quotes", row)
    if not _FORBIDDEN.search(value):
        return value
    value = _LINE_BREAKS.sub(" ", value)
    bad = _FORBIDDEN.search(value)
    if bad:
        code = ord(bad[0])
        what = "half a surrogate pair" if code >= 0xD800 else "a control character"
        raise _Fault(f"{name} holds U+{code:04X}, {what}, in {_short(value)}; take it out", row)
    return value


def _optional(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _text_or_empty(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def _name(source: Any) -> str:
    return str(source) if isinstance(source, str | os.PathLike) else "the rows"


# Finding ---------------------------------------------------------------------------------------


def _records(source: Any, form: str | None, columns: Columns) -> _Found:
    """The records of any source, each with its place."""
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        if name == "-":
            yield from _stdin(form, columns)
            return
        if name.startswith("hf:"):
            yield from _hub(name[3:])
            return
        for path in _paths(name):
            yield from _file(path, form, columns)
        return
    if hasattr(source, "to_dict") and hasattr(source, "columns"):  # a DataFrame
        source = source.to_dict(orient="records")
    for number, row in enumerate(source, 1):
        if isinstance(row, Mapping):
            yield f"row {number}", row
        else:
            yield f"row {number}", _Fault(f"{_short(row)} is no mapping of columns to values")


def _paths(name: str) -> list[Path]:
    """The files that a path, glob or folder names."""
    if "\0" in name:
        raise BadSource(f"{name!r}: a file name cannot hold a NUL")
    if re.match(r"https?://", name):
        raise BadSource(f"{name}: nothing is fetched here; save the page or feed first")
    path = Path(name)
    if path.is_dir():
        if (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists():
            return [path]
        found = sorted(p for p in path.iterdir() if p.is_file() and _suffix(p) in _SUFFIXES)
        if not found:
            raise BadSource(f"{path}: the folder holds no file of a known kind ({_known()})")
        return found
    if not path.exists() and any(sign in name for sign in "*?["):
        found = sorted(Path(p) for p in glob.glob(name, recursive=True))
        if not found:
            raise BadSource(f"{name}: no file has such a name")
        return found
    if not path.exists():
        near: list[str] = []
        with contextlib.suppress(OSError):
            near = difflib.get_close_matches(path.name, os.listdir(path.parent), 1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise BadSource(f"{name}: there is no such file{hint}")
    return [path]


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _known() -> str:
    return " ".join(_SUFFIXES)


def _file(path: Path, form: str | None, columns: Columns) -> _Found:
    if path.is_dir():
        yield from _saved_dataset(path)
        return
    form = form or _SUFFIXES.get(_suffix(path))
    if form is None:
        raise BadSource(
            f"{path}: unknown kind of file; say --input-format, or use a name that ends in "
            f"{_known()} (.gz too)"
        )
    if form == "parquet":
        yield from _parquet(path, columns)
        return
    try:
        with _open(path) as stream:
            yield from _stream(stream, form, path.name, columns)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadSource(f"{path}: the gzip file is cut off or damaged; unpack it anew") from error
    except OSError as error:
        raise BadSource(f"{path}: cannot be read ({error.strerror or error})") from error


def _open(path: Path) -> IO[bytes]:
    kind = path.stat().st_mode
    if stat.S_ISBLK(kind) or stat.S_ISSOCK(kind):
        raise BadSource(f"{path}: is no file that can be read")
    if path.name.endswith(".gz"):
        return gzip.open(path, "rb")  # type: ignore[return-value]  # a GzipFile is an IO[bytes]
    return path.open("rb")


def _stdin(form: str | None, columns: Columns) -> _Found:
    stream: IO[bytes] = sys.stdin.buffer
    if form is None:
        first = b""
        while not first.strip(b" \t\r\n\xef\xbb\xbf"):
            line = stream.readline(MAX_LINE + 1)
            if not line:
                break
            first = line if not first.strip() else first + line
        stream = _Again(first, stream)  # type: ignore[assignment]  # only read and readline
        form = "jsonl" if first.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"{") else "lines"
    if form == "parquet":
        whole = io.BytesIO(_whole(stream, "stdin"))
        yield from _parquet(whole, columns)
        return
    yield from _stream(stream, form, "stdin", columns)


class _Again:
    """A stream whose first bytes were already taken."""

    def __init__(self, first: bytes, rest: IO[bytes]) -> None:
        self._first, self._rest = io.BytesIO(first), rest

    def readline(self, limit: int) -> bytes:
        return self._first.readline(limit) or self._rest.readline(limit)

    def read(self, size: int) -> bytes:
        return self._first.read(size) or self._rest.read(size)


def _stream(stream: IO[bytes], form: str, name: str, columns: Columns) -> _Found:
    """The records of an open stream in one format."""
    from kopwijzer import pages

    if form == "text":
        data = _whole(stream, name)
        text = data.decode("utf-8", "replace").removeprefix("\ufeff")
        form = "page" if pages.looks_like_page(text) else "lines"
        stream = io.BytesIO(data)
    if form == "jsonl":
        yield from _jsonl(stream, name)
    elif form == "lines":
        yield from _plain_lines(stream, name, columns)
    elif form in ("csv", "tsv"):
        yield from _table(stream, name, "\t" if form == "tsv" else ",", columns)
    elif form == "json":
        yield from _json(stream, name)
    elif form == "page":
        text = _decoded(_whole(stream, name), name)
        found = pages.from_text(text)
        yield from _renamed(found, name, columns)
    elif form == "html":
        yield from _renamed(pages.from_html(_whole(stream, name)), name, columns)
    elif form == "rss":
        yield from _renamed(pages.from_feed(_whole(stream, name), name), name, columns)
    else:
        raise BadSource(f"{name}: a stream cannot be read as {form}")


def _renamed(found: Iterable[Mapping[str, Any]], name: str, columns: Columns) -> _Found:
    """Records of pages and feeds, whose column names are ours, under the asked-for names."""
    names = {"headline": columns.headline, "teaser": columns.teaser, "date": columns.date}
    for number, record in enumerate(found, 1):
        row = {names.get(key, key): value for key, value in record.items() if value is not None}
        yield f"{name} item {number}", row


# Formats ---------------------------------------------------------------------------------------


def _whole(stream: IO[bytes], name: str) -> bytes:
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


def _lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, bytes | _Fault]]:
    """Numbered lines without their ends; one over `MAX_LINE` is passed over in pieces."""
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if number == 1:
            if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise BadSource(f"{name}: is UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) > MAX_LINE and not line.endswith(b"\n"):
            size = len(line)
            while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE)):
                size += len(line)
            yield number, _Fault(f"a line of {size:,} bytes, more than {MAX_LINE:,}; split it")
            continue
        yield number, line.rstrip(b"\r\n")


def _utf8(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        readable = line.decode("utf-8", "replace")
        raise _Fault(
            f"byte {error.start + 1} is {line[error.start]:#04x}, which is not UTF-8, in "
            f"{_short(readable)}; save it as UTF-8",
            None,
        ) from error


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSource(
            f"{name}: byte {error.start + 1} is not UTF-8; save the page as UTF-8"
        ) from error


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _Fault(
            f"is not JSON ({error.msg} at sign {error.pos + 1}): {_short(text)}"
        ) from error
    except RecursionError as error:
        raise _Fault("is JSON nested too deep to be a row") from error
    except ValueError as error:  # a number of thousands of digits
        raise _Fault(f"is not JSON that can be read ({error})") from error


def _jsonl(stream: IO[bytes], name: str) -> _Found:
    for number, line in _lines(stream, name):
        where = f"{name} line {number}"
        if isinstance(line, _Fault):
            yield where, line
        elif line.strip():
            try:
                row = _parse(_utf8(line))
                if not isinstance(row, dict):
                    raise _Fault(f"is {_short(row)}, not an object with columns")
                yield where, row
            except _Fault as fault:
                yield where, fault


def _plain_lines(stream: IO[bytes], name: str, columns: Columns) -> _Found:
    for number, line in _lines(stream, name):
        where = f"{name} line {number}"
        if isinstance(line, _Fault):
            yield where, line
        elif line.strip():
            try:
                headline, _, teaser = _utf8(line).partition("\t")
                yield where, {columns.headline: headline, columns.teaser: teaser}
            except _Fault as fault:
                yield where, fault


def _json(stream: IO[bytes], name: str) -> _Found:
    try:
        tree = _parse(_decoded(_whole(stream, name), name))
    except _Fault as fault:
        raise BadSource(f"{name}: {fault}") from fault
    if isinstance(tree, dict):
        tree = tree["data"] if isinstance(tree.get("data"), list) else [tree]
    if not isinstance(tree, list):
        raise BadSource(f"{name}: holds {_short(tree)}, not a list of objects")
    for number, row in enumerate(tree, 1):
        bad = None if isinstance(row, dict) else _Fault(f"is {_short(row)}, not an object")
        yield f"{name} item {number}", bad or row


def _table(stream: IO[bytes], name: str, delimiter: str, columns: Columns) -> _Found:
    """CSV and TSV as text only: the words NA and null stay words."""
    csv.field_size_limit(MAX_LINE)
    lines = _table_lines(stream, name)
    bad: dict[int, _Fault] = {}
    texts = _table_texts(lines, bad)
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1
        where = f"{name} line {start}"
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            yield where, _Fault(f"is not a row of a table ({error}); check its quotes")
            # The reader gave up inside a row: a new one goes on at the next line.
            reader = _Numbered(csv.reader(texts, delimiter=delimiter, strict=True), reader.line_num)  # type: ignore[assignment]  # the part of a reader that is used
            continue
        if start in bad:
            yield where, bad.pop(start)
            continue
        if not fields:
            continue
        if header is None:
            header = fields
            if columns.headline not in header:
                has = ", ".join(map(repr, header[:12]))
                raise BadSource(
                    f"{name}: has no column {columns.headline!r}; it has {has}. "
                    "Say which holds the headline with --headline"
                )
            continue
        if len(fields) != len(header):
            row = dict(zip(header, fields, strict=False))
            yield (
                where,
                _Fault(
                    f"has {len(fields)} fields where the first line has {len(header)}; "
                    "put text with a comma or quote into quotes",
                    row,
                ),
            )
            continue
        yield where, dict(zip(header, fields, strict=True))


class _Numbered:
    """A CSV reader that goes on counting lines where another stopped."""

    def __init__(self, reader: Any, before: int) -> None:
        self._reader, self._before = reader, before

    def __next__(self) -> list[str]:
        fields: list[str] = next(self._reader)
        return fields

    @property
    def line_num(self) -> int:
        return self._before + int(self._reader.line_num)


def _table_lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, bytes | _Fault]]:
    yield from _lines(stream, name)


def _table_texts(
    lines: Iterator[tuple[int, bytes | _Fault]], bad: dict[int, _Fault]
) -> Iterator[str]:
    """Lines as text; a line that has none stands as a placeholder and is remembered in `bad`."""
    for number, line in lines:
        try:
            if isinstance(line, _Fault):
                raise line
            text = _utf8(line)
            if "\0" in text:
                raise _Fault(f"holds U+0000, a control character, in {_short(text)}; take it out")
            yield text + "\n"
        except _Fault as fault:
            bad[number] = fault
            yield "bad\n"


def _parquet(path: Path | io.BytesIO, columns: Columns) -> _Found:
    import pyarrow
    import pyarrow.parquet

    name = path.name if isinstance(path, Path) else "stdin"
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if columns.headline not in names:
                raise BadSource(
                    f"{name}: has no column {columns.headline!r}; it has "
                    f"{', '.join(map(repr, names[:12]))}. Say which holds the headline with --headline"
                )
            number = 0
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{name} row {number}", row
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, KopwijzerError):
            raise
        first = str(error).partition("\n")[0]
        raise BadSource(f"{name}: is not a whole Parquet file ({first})") from error


def _hub(name: str) -> _Found:
    """A Hugging Face dataset by name, "NAME" or "NAME:SPLIT"."""
    import datasets

    name, _, split = name.partition(":")
    try:
        found = datasets.load_dataset(name, split=split or None)
    except Exception as error:  # whatever a hub, a cache or a network raises
        first = str(error).partition("\n")[0]
        raise BadSource(f"hf:{name}: cannot be loaded ({first})") from error
    yield from _dataset(found, f"hf:{name}")


def _saved_dataset(path: Path) -> _Found:
    """A folder that `datasets` saved with save_to_disk."""
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # a damaged folder raises many things
        first = str(error).partition("\n")[0]
        raise BadSource(f"{path}: is not a saved dataset ({first})") from error
    yield from _dataset(found, path.name)


def _dataset(found: Any, name: str) -> _Found:
    parts: Sequence[tuple[str, Any]] = (
        list(found.items()) if isinstance(found, Mapping) else [("", found)]
    )
    for split, rows in parts:
        names = getattr(rows, "features", None) or {}
        classes = {key: kind.names for key, kind in names.items() if hasattr(kind, "names")}
        for number, row in enumerate(rows, 1):
            named = {
                key: classes[key][value] if key in classes and isinstance(value, int) else value
                for key, value in row.items()
            }
            yield f"{name}{f' {split}' if split else ''} row {number}", named
