"""Dirty input that is guided by coverage, where atheris is installed.

python -m tests.fuzz.guided [--runs 100000] [FORMAT ...]

Each format has a process of its own, since libFuzzer ends the one it runs in. A case may take ten
seconds and a process 2 GB; anything but rows or a `KopwijzerError` ends it with an error.
"""

import argparse
import io
import re
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .report import keep
from .specimens import PIECES, SEEDS, parquet

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Fuzz each format, print what was run and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("formats", nargs="*", help="which formats [all]")
    parser.add_argument("--runs", type=int, default=100_000, help="for each format [100,000]")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen, rest = parser.parse_known_args()
    if find_spec("atheris") is None:
        sys.exit("atheris is not installed: pip install atheris")
    if chosen.child:
        _fuzz(chosen.formats[0], rest)
        return
    seeds = {**SEEDS, "parquet": parquet()}
    found = {form: _child(form, seeds[form], chosen.runs) for form in chosen.formats or seeds}
    sys.stdout.write(keep("guided", found))
    if any(one["exit_code"] for one in found.values()):
        sys.exit(1)


def _child(form: str, seed: bytes, runs: int) -> dict[str, Any]:
    """Fuzz one format in a process of its own; what libFuzzer told."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus").mkdir()
        (folder / "corpus" / "seed").write_bytes(seed)
        words = (b"".join(b"\\x%02x" % byte for byte in piece[:20]).decode() for piece in PIECES)
        (folder / "words").write_text("".join(f'"{word}"\n' for word in words))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.guided", "--child", form),
                *(f"-runs={runs}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"),
                *(f"-dict={folder}/words", f"-artifact_prefix={name}/", str(folder / "corpus")),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            errors="replace",
        )
    told = re.findall(r"#(\d+)\s+\w+\s+(?:cov: (\d+) )?", done.stderr)
    if done.returncode:
        sys.stderr.write(done.stderr[-3000:])
    return {
        "runs": int(told[-1][0]) if told else 0,
        "edges": max((int(edges) for _, edges in told if edges), default=0),
        "exit_code": done.returncode,
    }


def _fuzz(form: str, options: list[str]) -> None:
    """libFuzzer's loop over one format, through stdin."""
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports():
        for room in ("json", "csv", "html.parser", "feedparser", "kopwijzer.pages"):
            import_module(room)
        from kopwijzer.errors import KopwijzerError
        from kopwijzer.headlines import read

    def one(data: bytes) -> None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(data)))
        try:
            for row in read("-", input_format=form, on_bad_row="keep"):
                assert row.error or row.headline.strip()
        except KopwijzerError as error:
            if not str(error).strip():
                raise AssertionError("an error without a sentence") from error

    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
