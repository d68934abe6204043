"""Measuring: runs in turn, medians, ratios, one processor, peak memory of a child process."""

import contextlib
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .data import ROOT

__all__ = [
    "Runs",
    "child",
    "command",
    "in_turn",
    "median",
    "one_processor",
    "peak_bytes",
    "processor_seconds",
    "slope",
]


@dataclass(slots=True)
class Runs:
    """Seconds of the runs of one call: by the clock, and of all processors together.

    The second says what the work costs whatever else the machine does meanwhile.
    """

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def in_turn(
    calls: Mapping[str, Callable[[], object]], rounds: int, once: Sequence[str] = ()
) -> dict[str, Runs]:
    """Seconds of each call, run in turn `rounds` times; every other round backwards.

    Those in `once` are too slow to be run more than once.
    """
    runs = {name: Runs() for name in calls}
    for number in range(rounds):
        names = list(calls) if number % 2 == 0 else list(calls)[::-1]
        for name in names:
            if number and name in once:
                continue
            gc.collect()
            worked, start = processor_seconds(), time.perf_counter()
            result = calls[name]()
            runs[name].clock.append(time.perf_counter() - start)
            runs[name].processor.append(processor_seconds() - worked)
            del result
    return runs


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(os.times()[:4])


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


@contextlib.contextmanager
def one_processor() -> Iterator[None]:
    """Keep every thread of this process on one processor, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    _pin({max(allowed)})
    try:
        yield
    finally:
        _pin(allowed)


def _pin(processors: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        # A thread that ended in between is none to pin.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(thread.name), processors)


def peak_bytes() -> int:
    """The most memory that this process has held.

    Linux counts into a child's `ru_maxrss` what its parent held when it was started, so the
    kernel's own high-water mark of this program is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def child(**task: Any) -> dict[str, Any]:
    """What `child.py` says of a task, done in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.child", json.dumps(task)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the child failed on {task}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def command(*words: str) -> Callable[[], object]:
    """A call that runs a command to its end."""

    def run() -> object:
        return subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)

    return run


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The exponent b of ``y ~ x^b`` by least squares on logarithms; 1 is linear growth."""
    import numpy as np

    fitted = np.polyfit(np.log(x), np.log(y), 1)
    return float(fitted[0])
