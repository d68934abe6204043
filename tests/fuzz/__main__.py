"""Dirty input against every reader and against predict, counted in report.json.

python -m tests.fuzz                    20,000 cases (a few minutes)
python -m tests.fuzz --cases 200000
python -m tests.fuzz.guided             guided by coverage, where atheris is installed
python -m tests.fuzz.load               a million rows through predict
"""

import argparse
import sys
import warnings

from .campaign import MOST_MB, SECONDS, campaign, hostile, small_scorer
from .report import keep


def main() -> None:
    """Run a campaign, print its counts and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000, help="spoiled files [20,000]")
    parser.add_argument("--seed", type=int, default=0, help="of the campaign [0]")
    parser.add_argument("--report", default=None, help="file to write [tests/fuzz/report.json]")
    chosen = parser.parse_args()
    warnings.simplefilter("error")
    scorer = small_scorer()
    found = {
        "bounds": {"seconds": SECONDS, "mb": MOST_MB},
        "spoiled": campaign(chosen.cases, chosen.seed, scorer),
        "hostile": hostile(scorer),
    }
    sys.stdout.write(keep("fuzz", found, chosen.report))


if __name__ == "__main__":
    main()
