"""A campaign of dirty input against every reader, and against predict.

    python -m tests.fuzz                 20,000 cases (a few minutes), written to report.json
    python -m tests.fuzz --cases 200000

Whatever the bytes: rows come, or one `KopwijzerError`; never another exception, never a hang (a
case has ten seconds), and under "keep" predict gives one record for each record of the source.
"""

import argparse
import contextlib
import gzip
import io
import json
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kopwijzer import records
from kopwijzer.errors import KopwijzerError
from kopwijzer.headlines import read
from kopwijzer.scorer import Scorer

HERE = Path(__file__).parent
SUFFIXES = {
    "jsonl": ".jsonl",
    "json": ".json",
    "csv": ".csv",
    "tsv": ".tsv",
    "parquet": ".parquet",
    "rss": ".xml",
    "html": ".html",
    "page": ".txt",
    "lines": ".txt",
}
#: What breaks readers, put into whatever stands there.
PIECES = [
    b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"\xed\xa0\x80", b"\xc3(", b"\x1b[2J", b"\r", b"\n\n",
    b'"', b'""', b"\\ud800", b"\\u0000", b"\xe2\x80\xae", b"{", b"}", b"[" * 2000, b"NaN", b"1e999",
    b'{"headline":', b"null", b",,,,", b"\t\t", b"<![CDATA[", b"<![x", b"<!ENTITY a 'b'>", b"&a;",
    b"<script>", b"</title>", b"<!--", b"&#xD800;", b"PAR1", b"\x1f\x8b", "İ".encode(), b"9" * 5000,
    b"x" * 70_000, b"\xf0\x9f\x98\x80",
]  # fmt: skip
SEEDS: dict[str, bytes] = {
    "jsonl": b'{"headline": "Genk wint met 2-1", "teaser": "", "label": "a"}\n{"headline": "b"}\n',
    "json": b'[{"headline": "Genk wint", "teaser": null}, {"headline": "b"}]',
    "csv": b'headline,teaser\nGenk wint,"onder, de kop"\nb,NA\n',
    "tsv": b"headline\tteaser\nGenk wint\tonder\nb\tnull\n",
    "rss": (
        b"<rss version='2.0'><channel><item><title>Genk wint</title><description>&lt;p&gt;x"
        b"</description></item><item><title></title></item></channel></rss>"
    ),
    "html": b"<html><h1>Genk wint in Gent</h1><p>Een lange regel onder de kop.</p></html>",
    "page": b"Genk wint\n\ndoor\nGenk wint\n\nEen lange regel onder de kop.\n\n12\n12\nKop twee\n",
    "lines": b"Genk wint\nGent haalt spits\tonder de kop\n",
}


def campaign(cases: int, seed: int, scorer: Scorer | None = None) -> dict[str, Any]:
    """The counts of a campaign: cases, rows and sentences by format.

    Raises
    ------
    AssertionError
        A case broke a promise; the message holds its seed and format.
    """
    counts: dict[str, Counter[str]] = {form: Counter() for form in SUFFIXES}
    seeds = {**SEEDS, "parquet": _parquet()}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for case in range(cases):
            chance = random.Random(f"{seed}-{case}")  # noqa: S311  # no secret
            form = chance.choice(list(SUFFIXES))
            path = Path(folder) / f"case{SUFFIXES[form]}"
            data = _mutated(seeds[form], chance)
            if chance.random() < 0.1 and form != "parquet":
                path = path.with_name(f"{path.name}.gz")
                data = gzip.compress(data)[: chance.choice([None, -5, 20])]
            path.write_bytes(data)
            with _limit(10, f"case {seed}-{case} ({form})"):
                counts[form].update(_one(path, form, scorer, f"case {seed}-{case} ({form})"))
            path.unlink()
    return {
        "cases": cases,
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "formats": {form: dict(found) for form, found in counts.items()},
    }


def _one(path: Path, form: str, scorer: Scorer | None, name: str) -> Counter[str]:
    """Read one file under "keep" and score it; what came of it."""
    found: Counter[str] = Counter(cases=1)
    rows = []
    try:
        for row in read(path, input_format=form, on_bad_row="keep"):
            rows.append(row)
            found["errors" if row.error else "rows"] += 1
    except KopwijzerError as error:
        found["sentences"] += 1
        if not str(error).strip():
            raise AssertionError(f"{name}: an error without a sentence") from error
    except Exception as error:
        raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    if scorer is not None:
        told = "".join(records.write(records.predict(scorer, rows), "jsonl", scorer))
        lines = told.encode("utf-8", "surrogatepass").splitlines()
        assert len(lines) == len(rows), f"{name}: {len(rows)} rows in, {len(lines)} records out"
        for line in lines:
            json.loads(line)
        found["records"] += len(lines)
    return found


def _mutated(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randint(0, 6)):
        place = chance.randint(0, len(data))
        kind = chance.random()
        if kind < 0.5:
            data = data[:place] + chance.choice(PIECES) + data[place:]
        elif kind < 0.7:
            data = data[:place] + data[place + chance.randint(1, 40) :]
        elif kind < 0.85:
            data = data[:place] + chance.randbytes(chance.randint(1, 20)) + data[place:]
        else:
            data = data[:place] + data[: chance.randint(0, 400)] + data[place:]
    return data


def _parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.table({"headline": ["Genk wint", None], "teaser": ["", "x"]}), stream)
    return stream.getvalue()


@contextlib.contextmanager
def _limit(seconds: int, name: str) -> Iterator[None]:
    def late(_number: int, _frame: Any) -> None:
        raise AssertionError(f"{name}: still running after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    """Run a long campaign and write its counts."""
    from kopwijzer import fit

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rows = [
        {"headline": f"{team} {verb}", "label": label}
        for team in ("Genk", "Gent", "Ajax", "NEC", "PSV")
        for verb, label in (("wint met 2-1", "match_report"), ("haalt spits", "transfer_rumour"))
    ]
    report = campaign(chosen.cases, chosen.seed, fit(rows))
    place = HERE / "report.json"
    kept = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    place.write_text(json.dumps({**kept, "fuzz": report}, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
