"""A million rows through `kopwijzer predict`: peak memory, order and count, a slow consumer.

python -m tests.fuzz.load [--rows 1000000] [--models models] [--model football-nl]
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def stream(rows: int, models: str, model: str, pause: float = 0.0) -> dict[str, Any]:
    """Feed `rows` numbered rows to predict and read its records, each `pause` seconds late."""
    command = [sys.executable, "-m", "kopwijzer", "predict", "-", "--format", "jsonl"]
    command += ["--models", models, "--model", model]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    pipe = process.stdin

    def feed() -> None:
        with pipe:
            for n in range(rows):
                row = {"n": n, "headline": f"Genk wint met {n % 7}-1 van Gent {n % 9973}"}
                pipe.write(json.dumps(row).encode() + b"\n")

    feeder = threading.Thread(target=feed)
    feeder.start()
    count, ordered = 0, True
    for line in process.stdout:
        ordered &= json.loads(line)["n"] == count
        count += 1
        if pause:
            time.sleep(pause)
    feeder.join()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    return {
        "rows": rows,
        "records": count,
        "in_order": ordered,
        "exit_code": process.returncode,
        "peak_mb": round(usage.ru_maxrss / 1024),
        "rows_per_second": round(rows / seconds),
    }


def main() -> None:
    """Measure, print, and add to report.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--models", default="models")
    parser.add_argument("--model", default="football-nl")
    chosen = parser.parse_args()
    report = {
        "tenth": stream(chosen.rows // 10, chosen.models, chosen.model),
        "all": stream(chosen.rows, chosen.models, chosen.model),
        "slow_consumer": stream(2000, chosen.models, chosen.model, pause=0.002),
    }
    place = HERE / "report.json"
    kept = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    place.write_text(json.dumps({**kept, "load": report}, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
