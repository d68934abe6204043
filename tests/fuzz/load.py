"""A million rows through `kopwijzer predict -`: memory, order and count, and a slow consumer; then
sixteen threads that share one scorer for a minute.

python -m tests.fuzz.load [--rows 1000000] [--seconds 60] [--models models] [--model football-nl]
"""

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from kopwijzer import load

from .report import keep

#: What predict may take at most, however many rows there are.
MOST_MB = 300
_CLUBS = ("Genk", "Gent", "Ajax", "NEC", "Vitesse", "Sparta", "Zulte", "Excelsior", "Standard")
_FORMS = (
    "{a} wint met {n}-1 van {b}",
    "'{a} polst speler {id} van {b}'",
    "Trainer {a}: \"Wij waren {n} keer te laat tegen {b}\"",
    "{a} boekt winst van {n},{id} miljoen",
    "Zo laat begint {a} - {b} op zender {n}",
)  # fmt: skip


def rows(count: int, seed: int = 0) -> Iterator[bytes]:
    """Invented rows as JSON lines: few are alike, and one in a thousand cannot be used."""
    chance = random.Random(seed)  # noqa: S311  # no secret
    for n in range(count):
        words = {"a": chance.choice(_CLUBS), "b": chance.choice(_CLUBS), "n": n % 7, "id": n}
        row = {"n": n, "headline": chance.choice(_FORMS).format(**words), "teaser": f"Rij {n}."}
        if n % 1000 == 999:
            row["headline"] = ""
        yield json.dumps(row).encode() + b"\n"


def stream(count: int, models: str, model: str, pause: float = 0.0) -> dict[str, Any]:
    """Feed rows to predict as fast as it takes them; read its records, and before each thousand
    of them wait `pause` seconds."""
    command = [sys.executable, "-m", "kopwijzer", "predict", "-", "--format", "jsonl", "--quiet"]
    command += ["--models", models, "--model", model]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    pipe = process.stdin
    fed = 0

    def feed() -> None:
        nonlocal fed
        with pipe:
            for row in rows(count):
                pipe.write(row)
                fed += 1

    feeder = threading.Thread(target=feed)
    feeder.start()
    records, errors, ahead, in_order = 0, 0, 0, True
    for line in process.stdout:
        record = json.loads(line)
        in_order &= record["n"] == records
        errors += record["error"] is not None
        records += 1
        if records % 1000 == 0:
            time.sleep(pause)
            ahead = max(ahead, fed - records)
    feeder.join()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    seconds = time.perf_counter() - started
    return {
        "rows": count,
        "records": records,
        "error_records": errors,
        "in_order": in_order,
        "exit_code": process.returncode,
        "peak_mb": round(usage.ru_maxrss / 1024, 1),
        "most_rows_ahead_of_the_reader": ahead,
        "rows_per_second": round(count / seconds),
    }


def shared(seconds: float, models: str, model: str, n_threads: int = 16) -> dict[str, Any]:
    """Threads that score the same rows with one scorer, in batches and one by one, for so long;
    the scorer begins with nothing kept, and in the middle it is compiled where it can be."""
    scorer = load(model, models)
    asked = [json.loads(row) for row in rows(999, seed=1)]
    expected = load(model, models).decision_function(asked)
    until = time.perf_counter() + seconds
    counts, wrong = [0] * n_threads, [0] * n_threads

    def work(number: int) -> None:
        chance = random.Random(number)  # noqa: S311  # no secret
        while time.perf_counter() < until:
            start = chance.randrange(len(asked))
            part = slice(start, start + chance.choice((1, 1, 40, 300)))
            found = scorer.decision_function(asked[part])
            counts[number] += len(found)
            wrong[number] += found.tobytes() != expected[part].tobytes()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(n_threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {
        "threads": n_threads,
        "seconds": seconds,
        "rows": sum(counts),
        "fewest_rows_of_a_thread": min(counts),
        "answers_unlike_one_thread": sum(wrong),
    }


def main() -> None:
    """Measure, print and write down; ends with 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60, help="of the shared scorer")
    parser.add_argument("--models", default="models")
    parser.add_argument("--model", default="football-nl")
    parser.add_argument("--report", default=None, help="file to write [tests/fuzz/report.json]")
    chosen = parser.parse_args()
    where = chosen.models, chosen.model
    found = {
        "half": stream(chosen.rows // 2, *where),
        "all": stream(chosen.rows, *where),
        "slow_reader": stream(chosen.rows // 10, *where, pause=0.1),
    }
    sys.stdout.write(keep("load", found, chosen.report))
    together = shared(chosen.seconds, *where)
    sys.stdout.write(keep("threads", together, chosen.report))
    if together["answers_unlike_one_thread"] or not together["fewest_rows_of_a_thread"]:
        sys.exit("threads that share a scorer disturb each other")
    for name, one in found.items():
        whole = one["records"] == one["rows"] and one["in_order"]
        if not whole or one["error_records"] != one["rows"] // 1000:
            sys.exit(f"{name}: rows were lost or out of order")
        # Half of it is the model and the words that it has seen lately, which are bounded.
        if one["peak_mb"] > MOST_MB:
            sys.exit(f"{name}: memory rose to {one['peak_mb']} MB")
    grown = found["all"]["peak_mb"] - found["half"]["peak_mb"]
    if grown > 40 or found["slow_reader"]["most_rows_ahead_of_the_reader"] > 5000:
        sys.exit("memory grows with the rows, or where the reader is slow")


if __name__ == "__main__":
    main()
