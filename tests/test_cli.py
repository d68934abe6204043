"""The command line: what goes to stdout and stderr, how it ends, and that it never just breaks."""

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from conftest import ROWS
from kopwijzer import __version__, cli

FIXTURES = Path(__file__).parent / "fixtures"
QUICK = [
    *("--set", "evaluation.n_bootstrap=10", "--set", "evaluation.learning_curve=false"),
    *("--set", "evaluation.folds=2", "--set", "learning.epochs=5"),
    *("--workers", "1"),
]
LABELS = ["match_report", "other", "quote", "transfer_rumour"]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def run(*args: Any, stdin: bytes = b"", **environment: str) -> Ended:
    """The command line in this process."""
    kept = sys.argv, sys.stdin, sys.stdout, sys.stderr, signal.getsignal(signal.SIGTERM)
    hook = sys.unraisablehook
    own = {**os.environ, **environment}
    own.pop("KOPWIJZER_TRACEBACK", None)
    before = dict(os.environ)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    code: Any = None
    try:
        os.environ.update(own)
        sys.argv = ["kopwijzer", *map(str, args)]
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin)))
        sys.stdout, sys.stderr = out, err
        with contextlib.suppress(SystemExit):
            try:
                cli.main()
            except SystemExit as stop:
                code = stop.code
    finally:
        sys.argv, sys.stdin, sys.stdout, sys.stderr, handler = kept
        signal.signal(signal.SIGTERM, handler)
        sys.unraisablehook = hook
        os.environ.clear()
        os.environ.update(before)
    told = []
    for stream in (out, err):
        stream.flush()
        told.append(stream.buffer.getvalue().decode("utf-8", "surrogateescape"))
    assert "Traceback" not in told[1]
    return Ended(code, told[0], told[1])


@contextlib.contextmanager
def start(*args: Any, stdout: Any = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
    """The command line as a process of its own."""
    command = [sys.executable, "-m", "kopwijzer", *map(str, args)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=stdout, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[bytes]) -> Ended:
    out, err = process.communicate(timeout=60)
    assert b"Traceback" not in err
    return Ended(process.returncode, (out or b"").decode(), err.decode())


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of that name that the command line trained."""
    folder = tmp_path_factory.mktemp("models")
    rows = put(folder / "rows.jsonl", lines(ROWS))
    found = run("train", rows, "--models", folder / "m", *QUICK)
    assert (found.code, found.out) == (0, "football-nl@v1\n"), found.err
    return folder / "m"


@pytest.fixture(autouse=True)
def _elsewhere(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test in a folder of its own, where the model is found by the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KOPWIJZER_MODELS", str(models))


# Help ------------------------------------------------------------------------------------------


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from _commands(command, (*path, name))


COMMANDS = list(_commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(p) for p, _ in COMMANDS])
def test_every_command_and_option_has_help(path: tuple[str, ...], command: Any) -> None:
    assert command.help
    assert command.help.strip().endswith(".")
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{path} {parameter.name}"
    found = run(*path, "--help")
    assert (found.code, found.err) == (0, "")
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in found.out


def test_the_commands_are_those_of_the_design() -> None:
    assert {" ".join(path) for path, _ in COMMANDS} >= {
        *("", "train", "predict", "evaluate", "check", "search", "config show"),
        *(f"models {name}" for name in ("list", "show", "alias", "rollback", "verify", "log")),
        *("models compare", "models promote", "models sign"),
    }


def test_help_tells_the_exit_codes_and_version_the_version() -> None:
    found = run("--help")
    for code in ("0 done", "1 a source", "2 wrong", "3 rows", "4 a version", "5 not", "130, 143"):
        assert code in " ".join(found.out.split())
    assert run("--version") == Ended(0, f"kopwijzer {__version__}\n", "")


# Wrong usage -----------------------------------------------------------------------------------

WRONG: list[tuple[list[str], int, str]] = [
    (["predict", "--zzz", "x"], 2, "No such option: --zzz"),
    (["predct"], 2, "No such command 'predct'"),
    (["predict", "x", "--top", "0"], 2, "--top"),
    (["predict", "x", "--top", "many"], 2, "--top"),
    (["predict", "x", "--min-confidence", "2"], 2, "--min-confidence"),
    (["predict", "x", "--format", "xml"], 2, "--format 'xml': use one of table, jsonl, csv"),
    (["predict", "x", "--on-bad-row", "no"], 2, "--on-bad-row 'no': use one of keep, skip, fail"),
    (["predict", "a.csv", "--input-format", "xls"], 2, "--input-format 'xls': use one of jsonl"),
    (["predict", "x", "--model", "nope"], 4, "no model 'nope' in .*; there are football-nl"),
    (["predict", "x", "--model", "football-nl@v9"], 4, "no version 'football-nl@v9' in .*v1"),
    (["predict", "x", "--model", "football-nl@x"], 4, "no version 'football-nl@x' in"),
    (["predict", "x", "--model", "../m"], 2, "'../m' is no model name"),
    (["predict", "x", "--model", "/etc"], 2, "'/etc' is no model name"),
    (["predict", "x", "--model", ""], 2, "'' is no model name"),
    (["predict", "x", "--models", "none"], 4, "no models in none: train one with 'kopwijzer tr"),
    (["predict", "x", "--models", "a.csv"], 4, "no models in a.csv"),
    (["predict", "missing.jsonl"], 1, "missing.jsonl: there is no such file"),
    (["predict", "a.cvs", "--input-format", "csv"], 1, "a.cvs: .* did you mean a.csv"),
    (["predict", "mijn map/*.jsonl"], 1, r"mijn map/\*.jsonl: no file has such a name"),
    (["predict", "folder"], 1, "folder: the folder holds no file of a known kind"),
    (["predict", "https://x.example/feed"], 1, "nothing is fetched here"),
    (["predict", "a.csv"], 1, "a.csv: has no column 'headline'; it has 'title'. .* --headline"),
    (["predict", "a.csv", "een kop"], 2, "'a.csv' is a source and 'een kop' is not; give either"),
    (["predict", "a.csv", "--out", "o"], 1, "a.csv: --out scores Parquet files"),
    (["predict", "een kop", "--out", "o"], 1, "een kop: there is no such Parquet file"),
    (["predict", "x", "--workers", "0", "--out", "o"], 2, "--workers 0: use 1 or more"),
    (["predict", "x", "--backend", "spark", "--out", "o"], 2, "--backend 'spark': use one of lo"),
    (["predict", "x", "--scheduler", "tcp://x", "--out", "o"], 2, "needs --backend dask or ray"),
    (["train", "missing.jsonl"], 1, "missing.jsonl: there is no such file"),
    (["train", "a.csv", "--headline", "title"], 3, "a.csv line 2: it has no label; put one into"),
    (["train", "--set", "learning.c=3"], 2, "unknown key 'learning.c'; did you mean 'C'"),
    (["train", "--set", "learning.C"], 2, "--set 'learning.C': write it as section.key=value"),
    (["train", "--set", "learning.C=-1"], 2, "learning.C = -1: input should be greater than 0"),
    (["train", "--set", "learning.C=veel"], 2, "learning.C = 'veel': input should be a valid num"),
    (["train", "--config", "none.toml"], 2, "none.toml: cannot be read"),
    (["train", "--config", "folder"], 2, "folder: cannot be read"),
    (["train", "--config", "a.csv"], 2, "a.csv: is not a TOML file"),
    (["train", "--name", "A B"], 2, "'A B' is no model name"),
    (["train", "--precision", "7"], 2, "abstention.precision"),
    (["evaluate"], 2, "Missing argument .(?i:source)"),
    (["evaluate", "a.csv", "--headline", "title"], 3, "it has no label"),
    (["search", "--config", "none.toml"], 2, "none.toml: cannot be read"),
    (["search", "--name", "../x"], 2, "'../x' is no model name"),
    (["models", "show", "nope"], 4, "no model 'nope'"),
    (["models", "alias", "football-nl", "latest"], 2, "'latest' is computed and cannot be set"),
    (["models", "rollback"], 4, "the log knows no earlier version"),
    (["models", "zzz"], 2, "No such command 'zzz'"),
    (["config", "show", "--set", "zzz.y=1"], 2, "unknown key 'zzz'"),
]


@pytest.mark.parametrize(
    ("args", "code", "sentence"), WRONG, ids=[" ".join(args)[:50] for args, _, _ in WRONG]
)
def test_wrong_usage_is_one_clear_sentence(
    args: list[str], code: int, sentence: str, tmp_path: Path
) -> None:
    put(tmp_path / "a.csv", "title\nGenk wint\n")
    (tmp_path / "folder").mkdir()
    found = run(*args)
    assert (found.code, found.out) == (code, "")
    assert re.search(sentence, found.err), found.err
    assert found.err.count("\n") <= 5


def test_without_arguments_it_shows_help() -> None:
    for path in ([], ["models"], ["config"]):
        found = run(*path)
        assert "Usage: " in found.out + found.err
        assert found.code in (0, 2)


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", lines(ROWS)).chmod(0)
    if os.access(tmp_path / "a.jsonl", os.R_OK):
        pytest.skip("whoever runs this may read everything")
    found = run("predict", "a.jsonl")
    assert (found.code, found.err) == (
        1,
        "kopwijzer: a.jsonl: cannot be read (Permission denied)\n",
    )


def test_a_model_that_was_touched_is_refused(models: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(models, tmp_path / "m")
    array = tmp_path / "m" / "football-nl" / "v1" / "scorer.npz"
    data = bytearray(array.read_bytes())
    data[len(data) // 2] ^= 1
    array.write_bytes(data)
    found = run("predict", "x", "--models", "m")
    assert (found.code, found.out) == (4, "")
    assert re.search("scorer.npz: is damaged or was replaced, its digest does not hold", found.err)


# Training --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "there are no rows to learn from"),
        (
            [{"headline": f"kop {n}", "label": "quote"} for n in range(9)],
            "every row has the label 'quote'; two or more are needed",
        ),
        (
            [{"headline": "kop", "label": "ab"[n % 2]} for n in range(9)],
            "all 9 rows hold the same text; nothing can be learned",
        ),
        (
            [{"headline": f"kop {n}"} for n in range(12)],
            "12 rows cannot be used:\n  rows.jsonl line 1: it has no label; put one into 'label'",
        ),
        ([{"headline": "", "label": "a"}] * 2, "rows.jsonl line 2: the headline is empty"),
    ],
)
def test_rows_that_teach_nothing_are_refused(
    tmp_path: Path, rows: list[dict[str, str]], sentence: str
) -> None:
    found = run("train", put(tmp_path / "rows.jsonl", lines(rows)), "--models", "m", *QUICK)
    assert (found.code, found.out) == (3, "")
    assert sentence in found.err
    assert not list(tmp_path.glob("m/*/v*"))


def test_two_rows_teach_little_and_say_so(tmp_path: Path) -> None:
    rows = [{"headline": "Genk wint", "label": "a"}, {"headline": "Ajax koopt", "label": "b"}]
    found = run("train", put(tmp_path / "rows.jsonl", lines(rows)), "--models", "m", *QUICK)
    assert found.code in (0, 3)
    assert "kopwijzer: " in found.err or found.out == "football-nl@v1\n"


def test_training_says_what_it_found_on_stderr(tmp_path: Path) -> None:
    rows = put(tmp_path / "rows.csv", "kop,soort\n")
    with rows.open("a") as stream:
        csv.writer(stream).writerows((row["headline"], row["label"]) for row in ROWS)
    found = run(
        *("train", rows, "--headline", "kop", "--label", "soort", "--name", "mine"),
        *("--models", "m", *QUICK),
    )
    assert (found.code, found.out) == (0, "mine@v1\n")
    assert "macro-F1" in found.err
    assert "report: m/mine/v1/report.html" in found.err
    again = run("predict", ROWS[0]["headline"], "--model", "mine", "--models", "m")
    assert again.records[0]["label"] == ROWS[0]["label"]
    listed = run("models", "list", "--models", "m")
    assert listed.out.startswith("mine@v1 ")
    assert "champion" in listed.out


def test_a_version_that_is_worse_is_not_promoted(tmp_path: Path) -> None:
    good = put(tmp_path / "good.jsonl", lines(ROWS))
    turned = [{**row, "label": LABELS[LABELS.index(row["label"]) - 1]} for row in ROWS]
    bad = put(tmp_path / "bad.jsonl", lines(turned))
    for rows in (good, bad):
        assert run("train", rows, "--models", "m", *QUICK).code == 0
    args = ("models", "promote", "football-nl@v2", "--models", "m", "--on", good)
    found = run(*args)
    assert (found.code, found.out) == (5, "")
    assert found.err.startswith("kopwijzer: ")
    assert run("predict", "kop", "--model", "football-nl@champion", "--models", "m").code == 0
    assert "champion" in run("models", "list", "--models", "m").out.splitlines()[0]
    forced = run(*args, "--force", "--note", "proef")
    assert (forced.code, forced.out) == (0, "")
    assert "champion" in run("models", "list", "--models", "m").out.splitlines()[1]
    back = run("models", "rollback", "football-nl", "--models", "m")
    assert (back.code, back.err) == (0, "football-nl@champion is v1 again\n")


def test_a_search_saves_its_winner_and_goes_on_from_its_file(tmp_path: Path) -> None:
    rows = put(tmp_path / "rows.jsonl", lines(ROWS))
    plan = "[search]\nn_candidates = 1\nfolds = 2\n[space]\n'learning.C' = [0.1]\n"
    args = ("search", rows, "--config", put(tmp_path / "plan.toml", plan), "--models", "m", *QUICK)
    found = run(*args)
    assert found.code == 0, found.err
    table = found.out.splitlines()
    assert table[0].split() == ["round", "share", "score", "changes"]
    assert table[-1] == "football-nl@v1"
    state = tmp_path / "m" / "football-nl" / "search.jsonl"
    before = state.read_bytes()
    again = run(*args)
    assert again.out.splitlines()[:-1] == table[:-1]
    assert again.out.endswith("football-nl@v2\n")
    assert state.read_bytes() == before
    refused = run(*args, "--set", "learning.seed=1")
    assert (refused.code, refused.out) == (2, "")
    assert "search.jsonl: belongs to another search" in refused.err


# Predicting ------------------------------------------------------------------------------------

OWN = ["headline", "teaser", "label", "confidence", "scores", "abstained", "reason", "error"]


def test_headlines_as_arguments() -> None:
    found = run("predict", ROWS[0]["headline"], "qqq zzz", "")
    assert (found.code, found.err) == (0, "")
    assert [list(record) for record in found.records] == [OWN] * 3
    first, second, third = found.records
    assert (first["label"], first["abstained"], first["reason"]) == ("match_report", False, None)
    assert sum(first["scores"].values()) == pytest.approx(1)
    assert first["confidence"] == max(first["scores"].values())
    assert list(first["scores"]) == LABELS
    assert (second["label"], second["reason"]) == ("other", "unknown_words")
    assert (third["label"], third["reason"]) == ("other", "empty")


def test_a_teaser_is_text_for_a_headline_and_a_column_for_a_source(tmp_path: Path) -> None:
    row = ROWS[1]
    put(tmp_path / "rows.jsonl", lines([{"headline": row["headline"], "lead": row["teaser"]}]))
    one = run("predict", row["headline"], "--teaser", row["teaser"]).records[0]
    two = run("predict", "rows.jsonl", "--teaser", "lead").records[0]
    assert one["teaser"] == two["teaser"] == row["teaser"]
    assert one["scores"] == two["scores"]
    assert two["lead"] == row["teaser"]


def test_one_record_out_for_each_record_in(tmp_path: Path) -> None:
    rows: list[Any] = [{"id": n, **row} for n, row in enumerate(ROWS * 4)]
    rows[7] = {"id": 7, "headline": ""}
    rows[300] = {"id": 300, "headline": 3, "teaser": "t"}
    text = lines(rows).replace(lines([rows[500]]), "{kapot\n")
    found = run("predict", put(tmp_path / "rows.jsonl", text))
    assert found.code == 3
    records = found.records
    assert len(records) == len(rows) == 640
    assert [record.get("id") for record in records] == [
        n if n != 500 else None for n in range(len(rows))
    ]
    for n, record in enumerate(records):
        assert set(OWN) <= set(record)
        assert (record["error"] is not None) == (n in (7, 300, 500))
        if n not in (7, 300, 500):
            assert record["label_in"] == rows[n]["label"]
            assert record["headline"] == rows[n]["headline"]
    assert (records[300]["headline"], records[300]["teaser"]) == ("", "t")
    assert records[7]["label"] is records[7]["scores"] is records[7]["abstained"] is None
    assert [line.split(": ")[1] for line in found.err.splitlines()] == [
        "rows.jsonl line 8",
        "rows.jsonl line 301",
        "rows.jsonl line 501",
        "3 rows were kept as error records",
    ] or found.err.endswith("kopwijzer: 3 rows were kept as error records\n")


def test_what_becomes_of_bad_rows_is_chosen(tmp_path: Path) -> None:
    rows = [ROWS[0], *([{"headline": ""}] * 12), ROWS[1]]
    put(tmp_path / "rows.jsonl", lines(rows))
    kept, left, failed = (
        run("predict", "rows.jsonl", "--on-bad-row", policy) for policy in ("keep", "skip", "fail")
    )
    assert [len(found.records) for found in (kept, left, failed)] == [14, 2, 2]
    assert [found.code for found in (kept, left, failed)] == [3, 3, 3]
    assert kept.err.count("\n") == left.err.count("\n") == 11
    assert kept.err.endswith("kopwijzer: 12 rows were kept as error records\n")
    assert left.err.endswith("kopwijzer: 12 rows were left out\n")
    assert "rows.jsonl: 12 rows cannot be used:\n" in failed.err
    assert failed.err.endswith("  ... and 2 more\n")
    assert run("predict", "rows.jsonl", "-q").err == ""


def test_columns_of_the_row_stay_whatever_they_are_called(tmp_path: Path) -> None:
    row = {
        "id": 1,
        "title": ROWS[0]["headline"],
        "label": "x",
        "label_in": "y",
        "scores": [1, {"a": None}],
        "error": "old",
        "more": 5,
        "n": float("nan"),
        "score_quote": 0.5,
        "half": "\ud800",
    }
    put(tmp_path / "rows.jsonl", lines([row]))
    record = run("predict", "rows.jsonl", "--headline", "title").records[0]
    values = [value for key, value in record.items() if key not in OWN]
    for value in ("x", "y", [1, {"a": None}], "old", 5, None, 0.5, "\ud800", 1, row["title"]):
        assert value in values
    table = list(
        csv.DictReader(
            io.StringIO(run("predict", "rows.jsonl", "--headline", "title", "--format", "csv").out)
        )
    )
    assert len(table) == 1
    assert {"x", "y", "old", "5", "0.5", '[1, {"a": null}]', "\\ud800"} <= set(table[0].values())
    assert float(table[0]["score_match_report"]) == record["scores"]["match_report"]


def test_csv_has_a_column_for_each_label_and_loses_nothing(tmp_path: Path) -> None:
    rows: list[Any] = [{"id": n, **ROWS[n % 160]} for n in range(400)]
    rows[3] = {"headline": None}
    rows[399] = {**ROWS[0], "late": 'x,"y"\n'}
    put(tmp_path / "rows.jsonl", lines(rows))
    plain = run("predict", "rows.jsonl").records
    found = run("predict", "rows.jsonl", "--format", "csv", "--top", "2")
    table = list(csv.DictReader(io.StringIO(found.out)))
    assert found.code == 3
    assert len(table) == 400
    assert list(table[0])[-5:] == [*(f"score_{label}" for label in LABELS), "more"]
    for line, record in zip(table, plain, strict=True):
        assert line["headline"] == record["headline"]
        assert line["label"] == (record["label"] or "")
        assert line["error"] == (record["error"] or "")
        for label in LABELS:
            scores = record["scores"] or {}
            assert line[f"score_{label}"] == str(scores.get(label, ""))
    assert json.loads(table[399]["more"]) == {"late": 'x,"y"\n'}
    assert json.loads(table[0]["top"])[0]["label"] == "match_report"
    assert run("predict", "-", "--format", "csv").out.startswith("headline,teaser,label,")


def test_a_table_is_for_people(tmp_path: Path) -> None:
    rows: list[Any] = [ROWS[0], {"headline": "qqq zzz"}, {"headline": "a\x1b[31mb", "teaser": ""}]
    rows.append({"headline": "\u202eomgekeerd\nen lang " + "w" * 500})
    found = run("predict", put(tmp_path / "rows.jsonl", lines(rows)), "--format", "table")
    assert found.code == 3
    shown = found.out.splitlines()
    assert shown[0].split() == ["label", "sure", "headline"]
    assert shown[1].split()[0] == "match_report"
    assert "abstains: too few known words" in found.out
    assert "! rows.jsonl line 3: headline holds U+001B" in found.out
    assert "\x1b" not in found.out
    assert "\u202e" not in found.out
    assert max(map(len, shown)) <= 140


def test_top_and_explain(tmp_path: Path) -> None:
    record = run("predict", ROWS[0]["headline"], "--top", "2", "--explain").records[0]
    best = sorted(record["scores"].items(), key=lambda pair: -pair[1])[:2]
    assert record["top"] == [{"label": label, "score": score} for label, score in best]
    told = record["explanation"]
    assert told["label"] == record["label"]
    total = told["intercept"] + sum(one["value"] for one in told["contributions"])
    assert total == pytest.approx(told["decision"], abs=1e-9)
    table = run("predict", ROWS[0]["headline"], "--top", "2", "--explain", "--format", "table").out
    assert "why match_report (" in table
    assert "the intercept" in table
    put(tmp_path / "rows.jsonl", lines([{"headline": ""}, ROWS[0]]))
    first, second = run("predict", "rows.jsonl", "--top", "9", "--explain").records
    assert "top" not in first
    assert "explanation" not in first
    assert len(second["top"]) == 4


def test_below_the_least_confidence_it_abstains() -> None:
    sure = run("predict", ROWS[0]["headline"], "--min-confidence", "0").records[0]
    unsure = run("predict", ROWS[0]["headline"], "--min-confidence", "1").records[0]
    assert (sure["label"], sure["abstained"]) == ("match_report", False)
    assert (unsure["label"], unsure["reason"]) == ("other", "low_confidence")
    assert sure["scores"] == unsure["scores"]


def test_every_fixture_is_predicted() -> None:
    page = run("predict", FIXTURES / "page.txt")
    assert (page.code, len(page.records)) == (0, 9)
    feed = run("predict", FIXTURES / "feed.xml")
    assert (feed.code, len(feed.records)) == (3, 5)
    assert feed.records[0]["link"] == "https://voorbeeldkrant.example/1"
    both = run("predict", FIXTURES / "page.txt", FIXTURES / "feed.xml")
    assert both.records == page.records + feed.records


def test_stdin_is_read_by_its_conventions() -> None:
    row = {"headline": ROWS[0]["headline"], "id": 3}
    for args in (["-"], []):
        assert run("predict", *args, stdin=lines([row]).encode()).records[0]["id"] == 3
        found = run("predict", *args, stdin=b"een\tteaser\n\ntwee\n").records
        assert [record["headline"] for record in found] == ["een", "twee"]
    table = "kop\n" + ROWS[0]["headline"]
    (record,) = run(
        *("predict", "-", "--input-format", "csv", "--headline", "kop"), stdin=table.encode()
    ).records
    assert record["kop"] == ROWS[0]["headline"]
    assert run("predict", stdin=b"") == Ended(0, "", "")


def test_rows_before_a_break_are_answered(tmp_path: Path) -> None:
    import gzip

    packed = gzip.compress(lines([{**row, "x": os.urandom(40).hex()} for row in ROWS]).encode())
    put(tmp_path / "a.jsonl.gz", packed[:-200])
    for form in ("jsonl", "csv", "table"):
        found = run("predict", "a.jsonl.gz", "--format", form)
        assert found.code == 1
        assert "the gzip file is cut off or damaged" in found.err
        assert len(found.out.splitlines()) > 140


def test_settings_are_shown_as_toml() -> None:
    import tomllib

    found = run("config", "show", "--set", "learning.C=2.5")
    assert (found.code, found.err) == (0, "")
    assert tomllib.loads(found.out)["learning"]["C"] == 2.5


# Streams and signals ---------------------------------------------------------------------------


def _feed_without_end(process: subprocess.Popen[bytes]) -> None:
    """Feed rows until the process no longer reads."""
    assert process.stdin is not None
    data = lines(ROWS).encode()
    with contextlib.suppress(OSError):
        while True:
            process.stdin.write(data)
    with contextlib.suppress(OSError):
        process.stdin.close()


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    with start("predict", "-") as process:
        feeder = threading.Thread(target=_feed_without_end, args=[process])
        feeder.start()
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["headline"] == ROWS[0]["headline"]
        process.stdout.close()
        assert process.wait(30) == -signal.SIGPIPE
        assert process.stderr.read() == b""
        feeder.join()


def test_a_pipe_into_head_ends_quietly() -> None:
    put(Path("rows.jsonl"), lines(ROWS * 20))
    command = f"{sys.executable} -m kopwijzer predict rows.jsonl | head -n 1"
    found = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, timeout=60
    )
    assert (found.returncode, found.stderr) == (141, b"")
    assert found.stdout.count(b"\n") == 1


def test_a_reader_that_was_never_there_is_no_noise() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with start("predict", "kop", stdout=writing) as process:
        os.close(writing)
        assert ended(process) == Ended(-signal.SIGPIPE, "", "")


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS * 20])
def test_a_full_disk_is_told(rows: list[Any]) -> None:
    put(Path("rows.jsonl"), lines(rows))
    with Path("/dev/full").open("wb") as full, start("predict", "rows.jsonl", stdout=full) as one:
        assert ended(one) == Ended(1, "", "kopwijzer: output: No space left on device\n")


@pytest.mark.parametrize(
    ("closing", "code", "sentence"),
    [
        ("predict - <&-", 1, "stdin is closed; give a file, or pipe rows into it"),
        ("predict <&-", 2, "predict what?"),
        ("predict kop >&-", 1, "stdout is closed; there is nowhere to write to"),
        ("predict kop 2>&-", 0, ""),
        ("predict zzz.jsonl 2>&-", 1, ""),
        ("predict - < .", 1, ""),
    ],
)
def test_streams_that_are_closed(closing: str, code: int, sentence: str) -> None:
    found = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m kopwijzer {closing}"],
        capture_output=True,
        timeout=60,
    )
    assert found.returncode == code
    assert sentence.encode() in found.stderr
    assert b"Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("number", "code", "sentence"),
    [
        (signal.SIGINT, 130, "kopwijzer: interrupted; nothing half-written was kept\n"),
        (signal.SIGTERM, 143, "kopwijzer: terminated; nothing half-written was kept\n"),
    ],
)
def test_signals_end_it_with_one_sentence(number: int, code: int, sentence: str) -> None:
    with start("predict", "-", "--batch", "1") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"een kop\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["headline"] == "een kop"
        process.send_signal(number)
        assert ended(process) == Ended(code, "", sentence)


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_python_drops_comes_again(number: str, code: int) -> None:
    program = f"""
import os, signal, sys, time
from kopwijzer import cli, records
class Tidied:
    def __del__(self):
        os.kill(os.getpid(), signal.{number})
        time.sleep(0.1)
def predict(*_):
    tidied = Tidied()
    del tidied
    time.sleep(30)
    yield
records.predict = predict
sys.argv = ["kopwijzer", "predict", "kop"]
cli.main()
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=20)
    assert found.returncode == code
    assert found.stderr.count(b"\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_stopped_leaves_no_version(tmp_path: Path, number: int) -> None:
    rows = put(tmp_path / "rows.jsonl", lines(ROWS * 10))
    slow = ["--set", "learning.epochs=10000", "--set", "evaluation.folds=2"]
    with start("train", rows, "--models", "m", "--workers", "2", *slow) as process:
        time.sleep(3)
        process.send_signal(number)
        found = ended(process)
    assert found.code == (130 if number == signal.SIGINT else 143)
    assert found.out == ""
    assert found.err.count("\n") == 1
    assert not list(tmp_path.glob("m/*/v*"))


def test_answers_come_while_rows_still_come() -> None:
    with start("predict", "-", "--batch", "1") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(f'{{"headline": "kop {number}"}}\n'.encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["headline"] == f"kop {number}"
        assert ended(process).code == 0


def test_arguments_that_are_not_utf_8_are_answered() -> None:
    with start("predict", os.fsdecode(b"sl\xffcht")) as process:
        found = ended(process)
    assert found.code == 0
    assert found.records[0]["headline"] == "sl\udcffcht"


def test_predicting_needs_neither_scikit_learn_nor_datasets(tmp_path: Path) -> None:
    put(tmp_path / "rows.jsonl", lines(ROWS))
    code = (
        "import sys; from kopwijzer.cli import app\n"
        "app(['predict', 'rows.jsonl'], standalone_mode=False)\n"
        "heavy = {'sklearn', 'joblib', 'datasets', 'scipy', 'pyarrow'}\n"
        "sys.exit(str(heavy & set(sys.modules) or ''))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert found.stderr == b"\n"
    assert found.stdout.count(b"\n") == 160
