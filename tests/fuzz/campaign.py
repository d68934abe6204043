"""A campaign: cases of dirty input, and what must hold whatever the bytes.

Rows come, or one `KopwijzerError` with a sentence; never another exception, never a hang, never
more memory than is stated; and predict gives one record for each record of the source.
"""

import contextlib
import gzip
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kopwijzer import bulk, records
from kopwijzer.engines import Engine
from kopwijzer.errors import KopwijzerError
from kopwijzer.headlines import Headline, read
from kopwijzer.scorer import Scorer

from .specimens import HOSTILE, SEEDS, SUFFIXES, mutated, parquet, soup

__all__ = ["MOST_MB", "SECONDS", "campaign", "hostile", "small_scorer"]

#: What a case may take at most.
SECONDS = 20
MOST_MB = 768


class _Late(BaseException):
    """A case took too long. No `except Exception` on the way takes it for its own."""


def small_scorer() -> Scorer:
    """A scorer of ten rows, to put records through."""
    from kopwijzer import fit

    return fit(
        {"headline": f"{team} {verb}", "label": label}
        for team in ("Genk", "Gent", "Ajax", "NEC", "PSV")
        for verb, label in (("wint met 2-1", "match_report"), ("haalt spits", "transfer_rumour"))
    )


def campaign(cases: int, seed: int, scorer: Scorer) -> dict[str, Any]:
    """The counts of a campaign of mutated files and byte soup, by format.

    Raises
    ------
    AssertionError
        A case broke a promise; the message holds its seed, number and format.
    """
    counts: dict[str, Counter[str]] = {form: Counter() for form in SUFFIXES}
    seeds = {**SEEDS, "parquet": parquet()}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for case in range(cases):
            chance = random.Random(f"{seed}-{case}")  # noqa: S311  # no secret
            form = chance.choice(list(SUFFIXES))
            name = f"case {seed}-{case} ({form})"
            data = (mutated if chance.random() < 0.8 else soup)(seeds[form], chance)
            with _bounded(name):
                counts[form].update(_case(Path(folder), data, form, scorer, chance, name))
    return {
        "cases": cases,
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "peak_mb": _peak_mb(),
        "formats": {form: dict(found) for form, found in counts.items()},
    }


def hostile(scorer: Scorer) -> dict[str, Any]:
    """What became of every file that is hostile whole, and of files that are none or change."""
    told: dict[str, Any] = {}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, (form, make) in HOSTILE.items():
            path = folder / f"case{SUFFIXES[form]}{'.gz' if 'gzip' in what else ''}"
            path.write_bytes(make())
            before = time.perf_counter()
            with _bounded(what):
                found = _read(path, form, scorer, "jsonl", what)
            path.unlink()
            told[what] = {**found, "seconds": round(time.perf_counter() - before, 2)}
        for what, source, kind in _odd_places(folder):
            with _bounded(what):
                told[what] = dict(_read(source, kind, scorer, "csv", what))
        for form in SUFFIXES:
            for change in ("shrinks", "is emptied", "goes away"):
                what = f"{form} that {change} while it is read"
                with _bounded(what):
                    told[what] = _changing(folder, form, change, what)
    return {
        "cases": len(told),
        "seconds": round(time.perf_counter() - started, 1),
        "peak_mb": _peak_mb(),
        "told": told,
    }


# Cases -----------------------------------------------------------------------------------------


def _case(
    folder: Path, data: bytes, form: str, scorer: Scorer, chance: random.Random, name: str
) -> Counter[str]:
    """One file, read as a file, a packed file, a pipe or stdin, and what came of it."""
    path = folder / f"case{SUFFIXES[form]}"
    way = chance.random()
    out = chance.choice(["jsonl", "jsonl", "csv", "table"])
    try:
        if way < 0.1 and form != "parquet":
            path = path.with_name(f"{path.name}.gz")
            cut = chance.choice([None, -5, 20])
            path.write_bytes(gzip.compress(data)[:cut])
            return _read(path, form, scorer, out, name)
        if way < 0.2:
            os.mkfifo(path)
            with _writer(path, data):
                return _read(path, form, scorer, out, name)
        if way < 0.3:
            with _stdin(data):
                return _read("-", chance.choice([form, None]), scorer, out, name)
        path.write_bytes(data)
        if form == "parquet" and way < 0.5:
            return _bulk(path, folder / "out", scorer, name)
        return _read(path, form, scorer, out, name, _lines_in(data, form))
    finally:
        path.unlink(missing_ok=True)


def _lines_in(data: bytes, form: str) -> int | None:
    """How many records a file has, where lines tell."""
    if form not in ("jsonl", "lines") or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return None
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return sum(bool(line.strip()) for line in lines)


def _read(
    source: Path | str,
    form: str | None,
    scorer: Scorer,
    out: Any,
    name: str,
    expected: int | None = None,
) -> Counter[str]:
    """Read a source under "keep" and score it; what came of it."""
    found: Counter[str] = Counter(cases=1)

    def rows() -> Iterator[Headline]:
        for row in read(source, input_format=form, on_bad_row="keep"):
            found["errors" if row.error else "rows"] += 1
            yield row

    lines = 0
    try:
        for line in records.write(records.predict(scorer, rows()), out, scorer):
            lines += out != "table" or not line.startswith("  ")  # reasons stand under a row
            if out == "jsonl":
                json.loads(line)
            _utf8(line)
    except KopwijzerError as error:
        found["sentences"] += 1
        sentence = str(error)
        assert sentence.strip(), f"{name}: an error without a sentence"
        assert len(sentence) < 2000, f"{name}: a sentence of {len(sentence)} signs"
    except Exception as error:
        raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    n_rows = found["rows"] + found["errors"]
    head = 0 if out == "jsonl" else min(lines, 1)
    assert lines - head == n_rows, f"{name}: {n_rows} rows in, {lines - head} records out"
    if expected is not None:
        assert n_rows == expected, f"{name}: {expected} lines in, {n_rows} records out"
    found["records"] += n_rows
    return found


def _utf8(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace")


def _bulk(path: Path, out: Path, scorer: Scorer, name: str) -> Counter[str]:
    """Score a Parquet file as a partition."""
    import pyarrow.parquet as pq

    target = out / path.name
    target.unlink(missing_ok=True)
    try:
        done = bulk.predict([str(path)], str(out), scorer, engine=Engine("threading", 1))
    except KopwijzerError:
        left = list(out.iterdir()) if out.exists() else []
        assert not left, f"{name}: half a partition stays: {left}"
        return Counter(cases=1, sentences=1)
    except Exception as error:
        raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    assert pq.read_metadata(target).num_rows == done.n_rows, f"{name}: rows are lost"
    return Counter(cases=1, rows=done.n_rows - done.n_errors, errors=done.n_errors)


def _odd_places(folder: Path) -> Iterable[tuple[str, str, str | None]]:
    """What is no file, or has an odd name."""
    (folder / "empty").mkdir()
    (folder / "loop.jsonl").symlink_to(folder / "loop.jsonl")
    (folder / "gone.jsonl").symlink_to(folder / "nothing")
    odd = folder / "a\n\u202eb\udcff.jsonl"
    odd.write_bytes(b'{"headline": "kop"}\n{')
    (folder / "set").mkdir()
    (folder / "set" / "dataset_info.json").write_bytes(b"{")
    (folder / "set" / "state.json").write_bytes(b"[")
    for what, source in [
        ("a folder with nothing in it", folder / "empty"),
        ("a folder of odd files", folder),
        ("a folder that is half a dataset", folder / "set"),
        ("a link to itself", folder / "loop.jsonl"),
        ("a link to nothing", folder / "gone.jsonl"),
        ("a name that is no text", odd),
        ("a name that is too long", folder / ("x" * 5000)),
        ("a name with a NUL", "a\0b"),
        ("no name", ""),
        ("/dev/null without a kind", "/dev/null"),
        ("a glob that is none", "[[["),
        ("a dataset that is none", "hf:"),
    ]:
        yield what, str(source), None
    for form in SUFFIXES:
        yield f"/dev/null as {form}", "/dev/null", form
        yield f"a folder as {form}", str(folder / "empty"), form


def _changing(folder: Path, form: str, kind: str, name: str) -> dict[str, Any]:
    """Read the first row of a large file, change the file, and read on."""
    path = folder / f"case{SUFFIXES[form]}"
    whole = {"json": b"[%s]" % b", ".join([b'{"headline": "kop"}'] * 99_999)}.get(
        form, SEEDS.get(form, b"") * 3000
    )
    path.write_bytes(parquet(100_000) if form == "parquet" else whole)
    found: Counter[str] = Counter()
    try:
        rows = read(path, input_format=form, on_bad_row="keep")
        next(rows)
        found["rows"] += 1
        if kind == "goes away":
            path.unlink()
        else:
            os.truncate(path, path.stat().st_size // 3 if kind == "shrinks" else 0)
        found["rows"] += sum(1 for _ in rows)
    except KopwijzerError:
        found["sentences"] += 1
    except Exception as error:
        raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    finally:
        path.unlink(missing_ok=True)
    return dict(found)


# Bounds and streams ----------------------------------------------------------------------------


@contextlib.contextmanager
def _bounded(name: str) -> Iterator[None]:
    """No case may take longer, or more memory, than is stated."""

    def late(_number: int, _frame: Any) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    except _Late as error:
        raise AssertionError(f"{name}: still running after {SECONDS} seconds") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert _peak_mb() < MOST_MB, f"{name}: memory rose to {_peak_mb()} MB"


def _peak_mb() -> int:
    """The most memory that this process took; `getrusage` starts at what its parent had."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


@contextlib.contextmanager
def _writer(path: Path, data: bytes) -> Iterator[None]:
    """Somebody who writes into a pipe, in pieces, until the reader has enough."""

    def write() -> None:
        for _ in range(2000):  # until a reader is there; some never come
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                break
            if stop.wait(0.001):
                return
        os.set_blocking(descriptor, True)
        with contextlib.suppress(OSError), os.fdopen(descriptor, "wb", buffering=0) as pipe:
            for place in range(0, len(data), 1 + len(data) // 3):
                pipe.write(data[place : place + 1 + len(data) // 3])

    stop = threading.Event()
    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _stdin(data: bytes) -> Iterator[None]:
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(data)))
    try:
        yield
    finally:
        sys.stdin = before
