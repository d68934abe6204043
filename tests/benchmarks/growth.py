"""Growth: seconds and memory of a fit against the number of rows, each in its own process."""

from collections.abc import Sequence
from typing import Any

from . import data
from .measure import child, median, slope
from .peers import PEERS
from .report import Goal, Report
from .tuning import chosen

__all__ = ["run"]

_PEERS = ("kopwijzer", "fastText subwords", "fastText bigrams")
_GROWING = ("kopwijzer", "fastText subwords, plain settings")


def run(quick: bool) -> Report:
    """Memory on the sections, then time and memory on generated rows."""
    report = Report("growth", "Memory of a fit, and growth with the rows")
    _memory(report, _present(_PEERS), quick)
    _growth(report, _present(_GROWING), quick)
    report.notes.append(
        "Every fit runs in a process of its own, after a small one that loads the libraries; the "
        "peak is of the whole process with its rows, the time that of all its processors together. "
        "fastText reads its rows from a file, of which it holds one line at a time."
    )
    return report


def _present(names: Sequence[str]) -> list[str]:
    return [name for name in names if not PEERS[name].why_not()]


def _memory(report: Report, peers: list[str], quick: bool) -> None:
    corpus = data.sections(2000) or data.shipped(2000)
    peaks: dict[str, float] = {}
    for name in peers:
        parameters = chosen(PEERS[name], corpus, quick=quick)
        found = child(
            peer=name,
            corpus=corpus.name,
            rows=3000 if quick else None,
            parameters=parameters,
        )
        report.raw[f"{corpus.name}: {name}"] = found
        peaks[name] = found["peak"] / 1e6
        report.add(f"{corpus.name}: peak memory of a fit, {name}", peaks[name], "MB")
    for name in peers[1:]:
        report.add(
            f"{corpus.name}: peak memory of a fit, kopwijzer / {name}",
            peaks["kopwijzer"] / peaks[name],
            "x",
            None if quick or corpus.name != "sections" else Goal(2.0),
        )


def _growth(report: Report, peers: list[str], quick: bool) -> None:
    sizes = (1000, 3000, 6000) if quick else (3000, 10_000, 30_000, 100_000)
    corpus = data.shipped(2000)
    for name in peers:
        parameters = chosen(PEERS[name], corpus, quick=quick)
        runs: list[list[dict[str, Any]]] = [
            [
                child(peer=name, corpus="generated", rows=rows, parameters=parameters)
                for _ in range(1 if quick or rows > 30_000 else 3)
            ]
            for rows in sizes
        ]
        report.raw[f"growth: {name}"] = runs
        seconds = [median([one["processor_seconds"] for one in group]) for group in runs]
        peak = [median([one["peak"] for one in group]) for group in runs]
        steps = ", ".join(
            f"{rows:,}: {took:.2f} s, {held / 1e6:,.0f} MB"
            for rows, took, held in zip(sizes, seconds, peak, strict=True)
        )
        report.add(
            f"{name}: processor seconds ~ rows^b",
            slope(sizes, seconds),
            how=f"b; 1 is linear; {steps}",
        )
        report.add(
            f"{name}: processor time per 1,000 rows, from {sizes[0]:,} to {sizes[-1]:,}",
            1e6 * (seconds[-1] - seconds[0]) / (sizes[-1] - sizes[0]),
            "ms",
        )
        report.add(
            f"{name}: memory per 1,000 rows, from {sizes[0]:,} to {sizes[-1]:,}",
            (peak[-1] - peak[0]) / 1e3 / (sizes[-1] - sizes[0]),
            "MB",
        )
