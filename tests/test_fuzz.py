"""A short campaign of dirty input; `make fuzz` runs the long one."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_whatever_the_bytes_rows_come_or_a_sentence(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    found = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--cases", "2000", "--report", str(report)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    told = json.loads(report.read_text())["fuzz"]
    assert told == json.loads(found.stdout)
    assert told["spoiled"]["cases"] == 2000
    assert told["hostile"]["cases"] == len(told["hostile"]["told"]) > 100
    assert told["hostile"]["peak_mb"] < told["bounds"]["mb"]
    # A campaign in which a format only ever fails, or never does, has tried nothing.
    for form, counts in told["spoiled"]["formats"].items():
        for kind in ("rows", "errors", "sentences"):
            assert counts.get(kind, 0) > 4, f"{form}: {kind}"
