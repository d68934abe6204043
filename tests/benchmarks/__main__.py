"""`python -m tests.benchmarks [--only fit,scoring] [--quick]`."""

import argparse
import sys
import time
import traceback
from collections.abc import Callable

from . import report
from .report import ORDER, Report

_FLAGS = {"--quick": "small data, few runs, under three minutes; prints, and writes nothing"}


def main() -> None:
    """Run the cases, print their tables, write what they found."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", help=f"cases with a comma between: {', '.join(ORDER)}")
    parser.add_argument("--quick", action="store_true", help=_FLAGS["--quick"])
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(ORDER)
    if unknown := set(names) - set(ORDER):
        parser.error(f"there is no case {min(unknown)!r}; there are {', '.join(ORDER)}")
    command = " ".join(["python -m tests.benchmarks", *sys.argv[1:]])
    failed: list[str] = []
    for name in names:
        start = time.perf_counter()
        around = report.about(command)
        try:
            found = _case(name)(options.quick)
        except Exception:
            # The others are measured all the same.
            traceback.print_exc()
            failed.append(name)
            continue
        seconds = time.perf_counter() - start
        found.raw["seconds_of_this_case"] = seconds
        print(f"\n{found.title} ({seconds:.0f} s)")
        for line in report.table(found.findings):
            print(line)
        for note in found.notes:
            print(f"  - {note}")
        sys.stdout.flush()
        if not options.quick:
            found.write(around)
            report.rewrite()
    if failed:
        sys.exit(f"could not be measured: {', '.join(failed)}")


def _case(name: str) -> Callable[[bool], Report]:
    from . import bulk, fitting, growth, nearness, scoring, starting

    cases: dict[str, Callable[[bool], Report]] = {
        "fit": fitting.run,
        "nearness": nearness.run,
        "scoring": scoring.run,
        "starting": starting.run,
        "growth": growth.run,
        "bulk": bulk.run,
    }
    return cases[name]


if __name__ == "__main__":
    main()
