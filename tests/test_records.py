"""Records: a line out for each row, in order, with everything the row held."""

import csv
import datetime
import io
import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROWS, headlines
from kopwijzer import records
from kopwijzer.errors import BadSource
from kopwijzer.headlines import Headline, read
from kopwijzer.records import Format, predict, record, write
from kopwijzer.scorer import Scorer

GOOD = [Headline(row["headline"], row["teaser"], extra=row) for row in ROWS]
BAD = Headline("", extra={"id": 3}, where="row 2", error="row 2: the headline is empty")
FORMATS: list[Format] = ["jsonl", "csv", "table"]


def lines(scorer: Scorer, rows: Any, form: Format = "jsonl", **options: Any) -> list[str]:
    return list(write(predict(scorer, rows), form, scorer, **options))


def loaded(scorer: Scorer, rows: Any, **options: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(scorer, rows, **options)]


# Predicting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 7, 160, 1000])
def test_each_row_gets_its_prediction_whatever_the_batch(scorer: Scorer, batch: int) -> None:
    rows = [*GOOD[:9], BAD, *GOOD[9:], BAD]
    found = list(predict(scorer, rows, batch))
    assert [row for row, _ in found] == rows
    for row, prediction in found:
        expected = None if row.error else scorer.score(row.headline, row.teaser)
        assert prediction == expected


def test_it_reads_no_more_than_a_batch_ahead(scorer: Scorer) -> None:
    taken = 0

    def rows() -> Iterator[Headline]:
        nonlocal taken
        for row in GOOD:
            taken += 1
            yield row

    found = predict(scorer, rows(), 10)
    assert taken == 0
    for number in range(1, 35):
        next(found)
        assert taken == 10 * math.ceil(number / 10)


@pytest.mark.parametrize("form", FORMATS)
def test_large_rows_are_not_held_together(scorer: Scorer, form: Format) -> None:
    taken = 0

    def rows() -> Iterator[Headline]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield Headline("", extra={"x": "y" * 1_000_000}, error="too large")

    found = write(predict(scorer, rows()), form, scorer)
    for _ in range(10):
        next(found)
    assert taken <= 15


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("after", [0, 1, 255, 256, 257, 600])
def test_what_came_before_a_break_is_answered(scorer: Scorer, form: Format, after: int) -> None:
    def rows() -> Iterator[Headline]:
        for number in range(after):
            yield GOOD[number % 160]
        raise BadSource("cut off")

    told: list[str] = []

    def collect() -> None:
        for line in write(predict(scorer, rows()), form, scorer):
            told.append(line)  # noqa: PERF402  # one by one: what came before the break counts

    with pytest.raises(BadSource, match="cut off"):
        collect()
    head = 0 if form == "jsonl" else 1
    assert sum(not line.startswith("  ") for line in told) == after + head


# A record --------------------------------------------------------------------------------------


def test_a_record_is_the_row_and_then_what_was_said_of_it(scorer: Scorer) -> None:
    row = Headline(
        "kop", "onder", extra={"id": 1, "label": "a", "headline": "kop", "z": [1]}, where="x"
    )
    prediction = scorer.score("kop", "onder")
    assert record(row, prediction) == {
        "id": 1,
        "label_in": "a",
        "headline": "kop",
        "z": [1],
        "teaser": "onder",
        "label": prediction.label,
        "confidence": prediction.confidence,
        "scores": prediction.scores,
        "abstained": prediction.abstained,
        "reason": prediction.reason,
        "error": None,
    }
    assert record(BAD, None) == {
        "id": 3,
        "headline": "",
        "teaser": "",
        **dict.fromkeys(("label", "confidence", "scores", "abstained", "reason")),
        "error": "row 2: the headline is empty",
    }


def test_what_a_row_held_under_our_names_is_kept(scorer: Scorer) -> None:
    extra = {
        "headline": "van de rij",
        "title": "kop",
        "teaser": None,
        "error": 1,
        "error_in": 2,
        "label_in": 3,
        "label_in_in": 4,
        "label": 5,
        "top": 6,
        "explanation": 7,
    }
    found = record(Headline("kop", extra=extra), scorer.score("kop"), top=1)
    kept = {key: found[key] for key in found if key not in records._OWN and key != "top"}
    assert kept == {
        "headline_in": "van de rij",
        "title": "kop",
        "error_in": 2,
        "error_in_in": 1,
        "label_in": 3,
        "label_in_in": 4,
        "label_in_in_in": 5,
        "top_in": 6,
        "explanation_in": 7,
    }
    assert (found["headline"], found["teaser"], found["error"]) == ("kop", "", None)
    assert record(Headline("", extra={"headline": 3}), None)["headline_in"] == 3


_names = st.one_of(
    st.sampled_from(["label", "label_in", "headline", "teaser", "error", "scores", "top", "more"]),
    st.sampled_from(["score_quote", "score_quote_in", "id"]),
    st.text(max_size=5),
)
_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=200)
@given(st.lists(st.dictionaries(_names, _values, max_size=6), max_size=5), st.booleans())
def test_no_value_of_a_row_is_lost(
    scorer: Scorer, rows: list[dict[str, Any]], with_top: bool
) -> None:
    read_rows = list(read(rows, on_bad_row="keep"))
    options: dict[str, Any] = {"top": 2} if with_top else {}
    found = loaded(scorer, read_rows, **options)
    assert len(found) == len(rows)
    for row, given_, told in zip(read_rows, rows, found, strict=True):
        assert told["error"] == row.error
        held = [json.dumps(value, sort_keys=True) for value in told.values()]
        for value in given_.values():
            if value is not None:
                assert json.dumps(_as_json(value), sort_keys=True) in held
    table = list(csv.reader(io.StringIO("".join(lines(scorer, read_rows, "csv", **options)))))
    assert len(table) == len(rows) + 1
    assert len({len(line) for line in table}) == 1
    assert len(set(table[0])) == len(table[0])


def _as_json(value: Any) -> Any:
    """What JSON makes of a value: numbers that are none are null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _as_json(inner) for key, inner in value.items()}
    return [_as_json(inner) for inner in value] if isinstance(value, list) else value


def test_values_that_json_does_not_know_are_text(scorer: Scorer) -> None:
    extra = {
        "at": datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC),
        "price": Decimal("1.10"),
        "raw": b"\xff",
        "pair": (1, float("inf")),
    }
    (found,) = loaded(scorer, [Headline("kop", extra=extra)])
    assert [found[key] for key in extra] == [
        "2026-01-05 00:00:00+00:00",
        "1.10",
        "b'\\xff'",
        [1, None],
    ]


# Formats ---------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(headlines, min_size=1, max_size=4))
def test_every_line_ends_at_the_end_of_a_row(scorer: Scorer, texts: list[str]) -> None:
    rows = [Headline(text, text[::-1], extra={"x": text}) for text in texts]
    for form in FORMATS:
        told = lines(scorer, rows, form)
        assert all(line.endswith("\n") for line in told)
        if form == "jsonl":
            assert all(line.count("\n") == 1 for line in told)
            assert [json.loads(line)["headline"] for line in told] == texts
        if form == "csv":
            table = list(csv.DictReader(io.StringIO("".join(told), newline="")))
            assert [line["headline"] for line in table] == texts
            assert [line["x"] for line in table] == texts
        if form == "table":
            assert not any(sign in "".join(told) for sign in "\0\x1b\r\x85\u202e\u2066\x9b")


def test_csv_flattens_scores_and_says_nothing_for_nothing(scorer: Scorer) -> None:
    table = list(
        csv.DictReader(
            io.StringIO("".join(lines(scorer, [GOOD[0], BAD, Headline("")], "csv", top=1)))
        )
    )
    first, second, third = table
    prediction = scorer.score(GOOD[0].headline, GOOD[0].teaser)
    for label, score in prediction.scores.items():
        assert float(first[f"score_{label}"]) == score
        assert second[f"score_{label}"] == ""
    assert (first["abstained"], second["abstained"], third["abstained"]) == ("false", "", "true")
    assert (first["reason"], third["reason"]) == ("", "empty")
    assert json.loads(first["top"])[0]["label"] == prediction.label
    assert first["label_in"] == GOOD[0].extra["label"]
    assert (second["id"], second["error"]) == ("3", BAD.error)
    assert "".join(lines(scorer, [], "csv")).count("\n") == 1


def test_a_column_that_comes_late_goes_into_more(scorer: Scorer) -> None:
    rows = [*(Headline("kop", extra={"a": 1}) for _ in range(256)), Headline("kop", extra={"b": 2})]
    table = list(csv.DictReader(io.StringIO("".join(lines(scorer, rows, "csv")))))
    assert {line["more"] for line in table[:256]} == {""}
    assert (table[256]["a"], table[256]["more"]) == ("", '{"b": 2}')


def test_a_table_cuts_to_the_window_and_gives_reasons(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    long = Headline("Genk " * 40)
    rows = [GOOD[0], BAD, Headline("qqq zzz"), Headline("  "), long]
    told = "".join(lines(scorer, rows, "table")).splitlines()
    assert told[0] == f"{'label':15}  {' sure':>5}  headline"
    assert told[1].split()[0] == scorer.score(GOOD[0].headline, GOOD[0].teaser).label
    assert told[2:4] == [
        f"{'-':15}  {'':5}  ",
        f"{'':15}  {'':5}  ! row 2: the headline is empty",
    ]
    assert told[5].strip() == "abstains: too few known words"
    assert told[7].strip() == "abstains: no words in it"
    assert told[8].endswith("…")
    assert len(told[8]) <= 60


def test_an_explanation_adds_up_in_every_format(scorer: Scorer) -> None:
    (found,) = loaded(scorer, GOOD[:1], explain=True)
    told = found["explanation"]
    values = [one["value"] for one in told["contributions"]]
    assert told["intercept"] + sum(values) == pytest.approx(told["decision"], abs=1e-9)
    table = "".join(lines(scorer, [GOOD[0], BAD], "table", explain=True, top=9))
    rows = [line.split() for line in table.splitlines()]
    start = next(n for n, row in enumerate(rows) if row[:1] == ["why"])
    numbers = [float(row[0]) for row in rows[start + 1 :] if row and row[0][0] in "+-" and row[1:]]
    assert sum(numbers[:17]) == pytest.approx(told["decision"], abs=0.02)
    assert "smaller pieces" in table
    assert table.count("the intercept") == 1
