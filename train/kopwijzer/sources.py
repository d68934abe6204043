"""Sources: paths, folders, stdin, datasets and frames -> plain records, each with its place.

The only room that knows files and `datasets`. What is not needed is not imported: plain text is
read without Arrow.
"""

import contextlib
import difflib
import glob
import gzip
import io
import math
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from kopwijzer.errors import BadSource
from kopwijzer.formats import (
    BOM,
    MAX_LINE,
    Columns,
    Fault,
    Records,
    no_headline,
    records,
    short,
    whole,
)

__all__ = ["FORMATS", "arrow_values", "batch_rows", "find"]

FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "rss", "html", "page", "lines", "dataset")

_SNIFF = 1 << 20  # bytes of a .txt that tell whether it is a saved page
_SURELY_SMALL = 1 << 16  # bytes of a Parquet column that cannot blow up, however often repeated

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


def find(source: Any, form: str | None, columns: Columns) -> Records:
    """The records of any source, each with its place."""
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        if name == "-":
            yield from _stdin(form, columns)
            return
        if name.startswith("hf:"):
            yield from _hub(name[3:])
            return
        paths = _paths(name)
        for path in paths:
            yield from _file(path, form, columns, path.name if len(paths) == 1 else str(path))
        return
    if hasattr(source, "column_names") or _is_dataset_dict(source):
        yield from _dataset(source, "")
        return
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        source = _frame(source)
    if not isinstance(source, Iterable) or isinstance(source, bytes | bytearray | Mapping):
        kind = type(source).__name__
        raise BadSource(f"a source is a path or rows, not {short(source)} ({kind})")
    for number, row in enumerate(source, 1):
        if isinstance(row, Mapping):
            yield f"row {number}", row
        else:
            yield f"row {number}", Fault(f"{short(row)} is no mapping of columns to values")


def _is_dataset_dict(source: Any) -> bool:
    return isinstance(source, Mapping) and any(hasattr(x, "column_names") for x in source.values())


def _frame(frame: Any) -> Iterator[Mapping[str, Any]]:
    """The rows of a DataFrame of pandas or Polars; what is missing there is None here."""
    names = [str(name) for name in frame.columns]
    if hasattr(frame, "iter_rows"):
        yield from frame.iter_rows(named=True)
        return
    for values in frame.itertuples(index=False, name=None):
        yield {
            name: None if _is_missing(value) else value
            for name, value in zip(names, values, strict=True)
        }


def _is_missing(value: Any) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    return type(value).__name__ in ("NAType", "NaTType")


def _paths(name: str) -> list[Path]:
    """The files that a path, glob or folder names."""
    if not name:
        raise BadSource("a source without a name; give a file, a folder, or '-' for stdin")
    if "\0" in name:
        raise BadSource(f"{name!r}: a file name cannot hold a NUL")
    if re.match(r"[a-z][a-z0-9+.-]*://", name, re.I):
        raise BadSource(f"{name}: nothing is fetched here; save the page or feed first")
    path = Path(name)
    try:
        if path.is_dir():
            return _inside(path)
        if path.exists():
            return [path]
        if any(sign in name for sign in "*?["):
            found = sorted(Path(p) for p in glob.glob(name, recursive=True))  # noqa: PTH207  # absolute too
            found = [p for p in found if not p.is_dir() or _is_saved_dataset(p)]
            if found:
                return found
            raise BadSource(f"{name}: no file has such a name")
    except OSError as error:  # a name that is too long
        raise BadSource(f"{short(name)}: cannot be read ({error.strerror})") from error
    near: list[str] = []
    with contextlib.suppress(OSError):
        near = difflib.get_close_matches(path.name, (p.name for p in path.parent.iterdir()), 1)
    hint = f"; did you mean {path.parent / near[0]}?" if near else ""
    raise BadSource(f"{name}: there is no such file{hint}")


def _inside(folder: Path) -> list[Path]:
    """The files of a folder that are of a known kind, by name; or the dataset that it is."""
    if _is_saved_dataset(folder):
        return [folder]
    found = [p for p in folder.iterdir() if p.is_file() and _suffix(p) in _SUFFIXES]
    found = sorted(p for p in found if not p.name.startswith("."))
    if not found:
        raise BadSource(f"{folder}: the folder holds no file of a known kind ({_known()})")
    return found


def _is_saved_dataset(folder: Path) -> bool:
    return (folder / "dataset_info.json").exists() or (folder / "dataset_dict.json").exists()


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _known() -> str:
    return " ".join(_SUFFIXES)


def _file(path: Path, form: str | None, columns: Columns, name: str) -> Records:
    if path.is_dir():
        yield from _saved_dataset(path)
        return
    form = form or _SUFFIXES.get(_suffix(path))
    if form is None and not path.is_file():
        with _open(path) as pipe:  # /dev/fd/3, /dev/null: a pipe has no name to tell by
            yield from _piped(pipe, name, form, columns)
        return
    if form is None:
        raise BadSource(
            f"{path}: unknown kind of file; say --input-format, or use a name that ends in "
            f"{_known()} (.gz too)"
        )
    if form == "parquet":
        yield from _parquet(path, name, columns)
        return
    try:
        with _open(path) as stream:
            if form == "text":
                # A pipe is read as it comes: nobody looks ahead in it.
                form, stream = _text_form(stream) if path.is_file() else ("lines", stream)  # type: ignore[assignment]  # only read and readline
            yield from records(stream, form, name, columns)
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


def _stdin(form: str | None, columns: Columns) -> Records:
    if sys.stdin is None:
        raise BadSource("stdin is closed; give a file, or pipe rows into it")
    yield from _piped(sys.stdin.buffer, "stdin", form, columns)


def _piped(stream: IO[bytes], name: str, form: str | None, columns: Columns) -> Records:
    """The records of a stream that comes as it comes: JSONL when it opens with a brace."""
    blank = 0
    try:
        if form is None:
            line = stream.readline(MAX_LINE + 1).removeprefix(BOM)
            while line and not line.strip():
                blank += line.endswith(b"\n")
                line = stream.readline(MAX_LINE + 1)
            form = "jsonl" if line.lstrip().startswith(b"{") else "lines"
            stream = _Again(line, stream)  # type: ignore[assignment]  # only read and readline
        if form == "parquet":
            held = io.BytesIO(whole(stream, name))
            yield from _parquet(held, name, columns)
        else:
            yield from records(stream, form, name, columns, blank)
    except OSError as error:
        raise BadSource(f"{name}: cannot be read ({error.strerror or error})") from error


class _Again:
    """A stream whose first bytes were already taken."""

    def __init__(self, first: bytes, rest: IO[bytes]) -> None:
        self._first, self._rest = io.BytesIO(first), rest

    def readline(self, limit: int) -> bytes:
        line = self._first.readline(limit)
        if line.endswith(b"\n") or len(line) == limit:
            return line
        return line + self._rest.readline(limit - len(line))

    def read(self, size: int) -> bytes:
        return self._first.read(size) or self._rest.read(size)


def _text_form(stream: IO[bytes]) -> "tuple[str, _Again]":
    """What a text file is, "page" or "lines", and the stream from its start."""
    from kopwijzer import pages

    head = stream.read(_SNIFF)
    text = head.removeprefix(BOM).decode("utf-8", "replace")
    # No page that someone saved is as large as that.
    page = len(head) < _SNIFF and pages.looks_like_page(text)
    return "page" if page else "lines", _Again(head, stream)


# Parquet and datasets --------------------------------------------------------------------------


def _parquet(file: Path | io.BytesIO, name: str, columns: Columns) -> Records:
    import pyarrow
    import pyarrow.parquet

    try:
        if isinstance(file, Path) and file.is_file() and not file.stat().st_size:
            return
        with pyarrow.parquet.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            if columns.headline not in names:
                raise no_headline(name, names, columns)
            number = 0
            for batch in parquet.iter_batches(batch_size=batch_rows(parquet, file)):
                parts = [arrow_values(column) for column in batch.columns]
                for values in zip(*parts, strict=True):
                    number += 1
                    row = dict(zip(names, values, strict=True))
                    yield f"{name} row {number}", row
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise BadSource(f"{name}: is not a whole Parquet file ({first})") from error


def batch_rows(file: Any, source: Any, most: int = 4096) -> int:
    """How many rows of an open Parquet file to take at once: some 16 MB of them, and `most`.

    `source` is what the file was opened from. A value that many rows share is stored once: its
    size is looked up where it may be large, since a small file could else fill the memory.
    """
    import pyarrow.compute
    import pyarrow.parquet

    # Nothing is asked of the columns' metadata: of a damaged file Arrow would end the process.
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    row = max((g.total_byte_size / max(g.num_rows, 1) for g in groups), default=0)
    shared = 1
    doubtful = [n for n, g in enumerate(groups) if g.num_rows and g.total_byte_size > _SURELY_SMALL]
    for field in file.schema_arrow if doubtful else ():
        kind = getattr(field.type, "value_type", field.type)  # of a dictionary, what is in it
        if not re.match("(large_)?(string|binary)", str(kind)):
            continue
        values = pyarrow.parquet.ParquetFile(
            source, metadata=file.metadata, read_dictionary=[field.name]
        )
        for number in doubtful:
            first = next(values.iter_batches(1, row_groups=[number], columns=[field.name]))
            if hasattr(first.column(0), "dictionary"):
                sizes = pyarrow.compute.binary_length(first.column(0).dictionary)
                shared = max(shared, pyarrow.compute.max(sizes).as_py() or 0)
    return int(min(max((16 << 20) / max(row, shared), 1), most))


def arrow_values(column: Any) -> list[Any]:
    """The values of an Arrow array; one that Python cannot hold stays as its bytes or text."""
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        values = [_arrow_value(value) for value in column]
    return values


def _arrow_value(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return value.as_buffer().to_pybytes()
    except (ValueError, OverflowError):  # a date beyond the year 9999, or of nanoseconds
        return str(value.cast("string").as_py())


def _hub(name: str) -> Records:
    """A Hugging Face dataset by name, "NAME" or "NAME:SPLIT"."""
    import datasets

    name, _, split = name.partition(":")
    try:
        found = datasets.load_dataset(name, split=split or None)
    except Exception as error:  # whatever a hub, a cache or a network raises
        first = str(error).partition("\n")[0]
        raise BadSource(f"hf:{name}: cannot be loaded ({first})") from error
    yield from _dataset(found, f"hf:{name}")


def _saved_dataset(path: Path) -> Records:
    """A folder that `datasets` saved with save_to_disk."""
    import datasets

    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:  # a damaged folder raises many things
        first = str(error).partition("\n")[0]
        raise BadSource(f"{path}: is not a saved dataset ({first})") from error
    yield from _dataset(found, path.name)


def _dataset(found: Any, name: str) -> Records:
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
            yield " ".join(filter(None, [name, split, f"row {number}"])), named
