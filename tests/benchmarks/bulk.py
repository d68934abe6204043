"""Bulk prediction: one and two workers, what a partition costs, seconds against rows."""

import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor

from kopwijzer import Scorer, fit
from kopwijzer import bulk as ours
from kopwijzer.engines import Engine

from . import data
from .report import Report

__all__ = ["run"]

_LARGEST = 20_000_000  # rows: some 6 minutes of scoring, and as long to make them


def run(quick: bool) -> Report:
    """Score generated partitions in a temporary folder."""
    report = Report("bulk", "Bulk prediction")
    corpus = data.shipped(2000 if quick else None)
    scorer = fit(corpus.train)
    n, size = (20_000, 2500) if quick else (480_000, 20_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        source = _written(path / "in", corpus, n, size)
        _throughput(report, path, source, scorer, n)
        _overhead(report, path, corpus, scorer, n)
        _cost(report, path, corpus, scorer, quick)
    report.notes += [
        "Rows are generated: shipped ones with a word in either text that never was, so that the "
        "scorer meets two unknown words a row for ever. Parquet in and out, on a local disk; the "
        "time includes starting the workers, reading, checking, scoring and writing.",
        "Throughput and overhead are of the quickest of three runs in turn: other work only slows.",
        "The billion is an extrapolation along the measured line, not a measurement.",
    ]
    return report


def _written(folder: Path, corpus: data.Corpus, n: int, size: int, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    Parallel(n_jobs=2)(
        delayed(_write)(
            folder / f"part-{number:05d}.parquet", corpus, min(size, n - start), seed + number
        )
        for number, start in enumerate(range(0, n, size))
    )
    return folder


def _write(path: Path, corpus: data.Corpus, n: int, seed: int) -> None:
    both = [(row.headline, row.teaser) for row in data.generate(corpus.test, n, seed)]
    columns = {"headline": [h for h, _ in both], "teaser": [t for _, t in both]}
    pq.write_table(pa.table(columns), path, compression="zstd")


def _seconds(source: Path, out: Path, scorer: Scorer, workers: int) -> float:
    """Seconds of a run by workers that start with it, and a scorer that has scored nothing."""
    get_reusable_executor().shutdown(wait=True)
    scorer = scorer.with_abstention(scorer.abstention)
    start = time.perf_counter()
    done = ours.predict([str(source)], str(out), scorer, engine=Engine(workers=workers))
    assert done.n_errors == 0, done.sentence()
    return time.perf_counter() - start


def _throughput(report: Report, path: Path, source: Path, scorer: Scorer, n: int) -> None:
    taken: dict[int, list[float]] = {1: [], 2: []}
    for number in range(3):
        for workers in (1, 2) if number % 2 == 0 else (2, 1):
            out = path / f"out-{workers}-{number}"
            taken[workers].append(_seconds(source, out, scorer, workers))
    report.raw["throughput"] = {"rows": n, "seconds": {str(w): t for w, t in taken.items()}}
    rates = {workers: n / min(values) for workers, values in taken.items()}
    for workers, rate in rates.items():
        report.add(f"throughput, {workers} worker{'s' * (workers > 1)}", rate, "rows/s")
    report.add("throughput, 2 workers / 1", rates[2] / rates[1], "x")


def _overhead(report: Report, path: Path, corpus: data.Corpus, scorer: Scorer, n: int) -> None:
    """The same rows in few partitions and in many, at one worker."""
    sources = {
        count: _written(path / f"in-{count}", corpus, n // 2, n // 2 // count, seed=7)
        for count in (5, 500)
    }
    taken: dict[int, list[float]] = {count: [] for count in sources}
    for number in range(3):
        for count, source in sources.items():
            taken[count].append(_seconds(source, path / f"out-{count}-{number}", scorer, 1))
    report.raw["overhead"] = {"rows": n // 2, "seconds": {str(c): t for c, t in taken.items()}}
    (less, short), (more, long) = ((count, min(values)) for count, values in taken.items())
    report.add(
        "overhead per partition",
        1000 * (long - short) / (more - less),
        "ms",
        how=f"{n // 2:,} rows in {less} and in {more} partitions, one worker",
    )


def _cost(report: Report, path: Path, corpus: data.Corpus, scorer: Scorer, quick: bool) -> None:
    """Seconds against rows, at two workers."""
    sizes = [10_000, 40_000] if quick else [100_000, 2_000_000, _LARGEST]
    points: list[dict[str, Any]] = []
    for n in sizes:
        with tempfile.TemporaryDirectory(dir=path) as folder:
            source = _written(Path(folder) / "in", corpus, n, max(n // 40, 5000), seed=n)
            seconds = _seconds(source, Path(folder) / "out", scorer, 2)
        points.append({"rows": n, "seconds": seconds})
        report.add(f"{n:,} rows, 2 workers", seconds, "s", how=f"{n / seconds:,.0f} rows/s")
    report.raw["cost"] = points
    last, before = points[-1], points[-2]
    per_row = (last["seconds"] - before["seconds"]) / (last["rows"] - before["rows"])
    report.add(
        "a billion rows, extrapolated",
        per_row * 1e9 / 3600,
        "hours",
        how="2 workers, along the line of the last two measured sizes",
    )
