"""Headlines: every source gives its records in order, and every fault its sentence."""

import csv
import gzip
import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import rows_
from kopwijzer.errors import BadRows, BadSettings, BadSource
from kopwijzer.formats import MAX_LINE
from kopwijzer.headlines import FORMATS, Columns, Headline, check, read

FIXTURES = Path(__file__).parent / "fixtures"
GOOD = {"headline": "Genk wint met 2-1", "teaser": "Een late treffer.", "label": "match_report"}


def kept(source: Any, **options: Any) -> list[Headline]:
    """Every record of a source, faults among them."""
    return list(read(source, on_bad_row="keep", **options))


def only(source: Any, **options: Any) -> Headline:
    (row,) = kept(source, **options)
    return row


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


# The checks ------------------------------------------------------------------------------------


def test_a_row_keeps_its_columns_and_knows_its_place(tmp_path: Path) -> None:
    row = GOOD | {"group": "g1", "source": "desk", "date": "2026-01-05", "id": 7, "tags": ["a"]}
    found = only(put(tmp_path / "rows.jsonl", lines(row)))
    assert found == Headline(
        headline="Genk wint met 2-1",
        teaser="Een late treffer.",
        label="match_report",
        group="g1",
        source="desk",
        date="2026-01-05",
        extra=row,
        where="rows.jsonl line 1",
    )
    assert list(found.extra) == list(row)


def test_columns_are_mapped() -> None:
    columns = Columns("kop", "lead", "soort", "verhaal", "bron", "dag")
    row = {"kop": "k", "lead": "l", "soort": "s", "verhaal": 3, "bron": "b", "dag": ""}
    found = only([row], columns=columns)
    assert (found.headline, found.teaser) == ("k", "l")
    assert (found.label, found.group, found.source, found.date) == ("s", "3", "b", None)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({}, "row 1: no 'headline' in it"),
        ({"title": "x", "id": 3}, "row 1: no 'headline' in it; it has 'title', 'id'"),
        ({"headline": None}, "row 1: no 'headline' in it; it has 'headline'"),
        ({"headline": ""}, "row 1: the headline is empty; give it one or take the row out"),
        ({"headline": " \t\n\u2003"}, "row 1: the headline is empty"),
        ({"headline": 5}, r"row 1: headline is 5 \(int\), not text; put it in quotes"),
        ({"headline": ["a"]}, r"row 1: headline is \['a'\] \(list\), not text"),
        ({"headline": True}, r"row 1: headline is True \(bool\), not text"),
        ({"headline": "a", "teaser": 1.5}, r"row 1: teaser is 1.5 \(float\), not text"),
        ({"headline": "a\0b"}, r"headline holds U\+0000, a control character, in 'a\\x00b'; take"),
        ({"headline": "a\x1bb"}, r"headline holds U\+001B, a control character, in 'a\\x1bb'"),
        ({"headline": "a\x9bb"}, r"headline holds U\+009B, a control character"),
        ({"headline": "a", "teaser": "\x7f"}, r"teaser holds U\+007F, a control character"),
        (
            {"headline": "a\ud800b"},
            r"headline holds U\+D800, half a surrogate pair, in 'a\\ud800b'",
        ),
        ({"headline": "a\udfff"}, r"headline holds U\+DFFF, half a surrogate pair"),
        ({"headline": "x" * (MAX_LINE + 1)}, "headline has 1,048,577 signs, more than 1,048,576"),
        (["a"], r"row 1: \['a'\] is no mapping of columns to values"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: Any, sentence: str) -> None:
    with pytest.raises(BadRows, match=sentence):
        list(read([row]))
    found = only([row])
    assert found.error is not None
    assert found.extra == (row if isinstance(row, dict) else {})


def test_a_fault_of_a_label_says_why() -> None:
    allowed = ("match_report", "quote", "other")
    for label, sentence in {
        "match_raport": "label 'match_raport' is not one of the configured labels; did you mean "
        "'match_report'?",
        "zzz": "label 'zzz' is not one of the configured labels; use match_report, quote, other",
    }.items():
        with pytest.raises(BadRows, match=sentence.replace("?", r"\?")):
            list(read([GOOD | {"label": label}], labels=allowed))
    for missing in (None, "", "  "):
        with pytest.raises(BadRows, match="row 1: it has no label; put one into 'label'"):
            list(read([GOOD | {"label": missing}], labelled=True))
        assert only([GOOD | {"label": missing}]).label is None
    with pytest.raises(BadRows, match=r"label holds U\+0007, a control character"):
        list(read([GOOD | {"label": "a\x07b"}], labelled=True))


def test_labels_are_text_without_blanks_around_it() -> None:
    found = kept([GOOD | {"label": label} for label in (" quote ", 3, True)])
    assert [row.label for row in found] == ["quote", "3", "True"]


def test_line_breaks_within_a_text_become_blanks() -> None:
    found = only([{"headline": "Genk\nwint\r\nweer", "teaser": "a\x85b\x0bc"}])
    assert (found.headline, found.teaser) == ("Genk wint  weer", "a b c")


def test_what_is_odd_but_text_stays() -> None:
    text = "‮omgekeerd‬ \u2066x\u2069 tab\there é e\u0301 ﬁ 👨‍👩‍👧 \ufeff \xad"
    assert only([{"headline": text, "teaser": text}]).headline == text


def test_words_that_look_like_nothing_are_words(tmp_path: Path) -> None:
    words = ["NA", "null", "None", "nan", "NaN", "-", "N/A", "true", "1"]
    table = put(tmp_path / "rows.csv", "headline,teaser\n" + "".join(f"{w},{w}\n" for w in words))
    found = list(read(table))
    assert [row.headline for row in found] == words == [row.teaser for row in found]


def test_a_null_teaser_is_an_empty_one() -> None:
    assert [row.teaser for row in kept([{"headline": "a", "teaser": None}, {"headline": "a"}])] == [
        "",
        "",
    ]


def test_faults_are_told_all_at_once_the_first_ten_and_the_count() -> None:
    rows = [{"headline": ""} if n % 2 else GOOD for n in range(30)]
    given_out: list[Headline] = []
    with pytest.raises(BadRows) as caught:
        given_out.extend(read(rows))
    assert len(given_out) == 15
    assert len(caught.value.faults) == 15
    message = str(caught.value)
    assert message.startswith("the rows: 15 rows cannot be used:\n  row 2: the headline is empty")
    assert message.endswith("  ... and 5 more")
    assert message.count("\n") == 11


def test_more_faults_than_memory_should_hold_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kopwijzer.headlines._MAX_FAULTS", 3)
    with pytest.raises(BadRows) as caught:
        list(read([{"headline": ""}] * 10))
    assert caught.value.faults[3:] == ["and 7 rows more"]


def test_skip_leaves_out_and_keep_keeps_the_place() -> None:
    rows = [GOOD, {"headline": ""}, GOOD, {"headline": 7, "teaser": "t", "id": 1}]
    told: list[str] = []
    assert len(list(read(rows, on_bad_row="skip", on_fault=told.append))) == 2
    assert told == [
        "row 2: the headline is empty; give it one or take the row out",
        "row 4: headline is 7 (int), not text; put it in quotes",
    ]
    found = kept(rows, on_fault=told.append)
    assert len(told) == 4
    assert [row.error for row in found] == [None, told[0], None, told[1]]
    assert (found[3].headline, found[3].teaser, found[3].extra) == ("", "t", rows[3])


def test_check_is_what_read_does_to_one_row() -> None:
    assert check(GOOD, Columns(), "here") == Headline(
        GOOD["headline"], GOOD["teaser"], GOOD["label"], extra=GOOD, where="here"
    )
    assert check({"headline": ""}, Columns(), "here").error == (
        "here: the headline is empty; give it one or take the row out"
    )


@pytest.mark.parametrize("depth", [32, 33, 900, 100_000])
def test_what_is_nested_too_deep_is_a_fault(depth: int) -> None:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    found = only([GOOD | {"deep": value, "id": 1}])
    if depth == 32:
        assert found.error is None
    else:
        assert found.error == "row 1: holds lists or objects more than 32 deep; flatten it"
        assert found.extra == GOOD | {"id": 1}
    del found


# JSONL and lines -------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(rows_, max_size=3))
def test_jsonl_gives_what_was_written(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    rows = [json.loads(line) for line in text.splitlines()]  # two halves of a pair are one sign
    found = kept(put(tmp_path / "rows.jsonl", text))
    assert [row.extra for row in found] == rows
    for row, written in zip(found, rows, strict=True):
        if row.error is None:
            assert row.headline.split() == written["headline"].split()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"{'headline': 1}", r"line 2: is not JSON \(Expecting property name .* at sign 2\): "),
        (b'{"headline": "a"} x', r"line 2: is not JSON \(Extra data at sign 19\)"),
        (b'{"headline": "a"', r"line 2: is not JSON \(Expecting ',' delimiter at sign 17\)"),
        (b'["a"]', r"line 2: is \['a'\], not an object with columns"),
        (b"7", "line 2: is 7, not an object with columns"),
        (b'"text"', "line 2: is 'text', not an object with columns"),
        (b"NaN", "line 2: is None, not an object with columns"),
        (
            b'{"headline": "a\xff"}',
            r"line 2: byte 16 is 0xff, which is not UTF-8, in '.*save it as",
        ),
        (b'{"headline": "\xed\xa0\x80"}', "line 2: byte 15 is 0xed, which is not UTF-8"),
        (b'{"headline": "\\ud800"}', r"line 2: headline holds U\+D800, half a surrogate pair"),
        (b'{"headline": "a\\u0000"}', r"line 2: headline holds U\+0000, a control character"),
        (b'{"headline": "a\0"}', r"line 2: is not JSON \(Invalid control character at"),
        (b'{"headline": "a", "n": ' + b"9" * 5000 + b"}", "line 2: is not JSON that can be read"),
        (b"[" * 100_000, "line 2: is JSON nested too deep to be a row"),
        (b'{"a":' * 100_000, "line 2: is JSON nested too deep to be a row"),
        (b'{"headline": "a", "x": ' + b"[" * 90 + b"]" * 90 + b"}", "line 2: holds lists or"),
        (b"x" * (MAX_LINE + 1), "line 2: a line of 1,048,577 bytes, more than 1,048,576; split"),
        (b"x" * (10 * MAX_LINE), "line 2: a line of 10,485,760 bytes, more than 1,048,576"),
    ],
)
def test_a_line_that_is_no_row_is_one_fault(tmp_path: Path, line: bytes, sentence: str) -> None:
    good = json.dumps(GOOD).encode()
    path = put(tmp_path / "rows.jsonl", b"\n".join([good, line, good, b""]))
    with pytest.raises(BadRows, match=sentence) as caught:
        list(read(path))
    assert len(caught.value.faults) == 1
    assert len(str(caught.value)) < 300
    found = kept(path)
    assert [row.error is None for row in found] == [True, False, True]
    assert found[2].where == "rows.jsonl line 3"


def test_blank_lines_and_a_bom_are_no_rows(tmp_path: Path) -> None:
    good = json.dumps(GOOD).encode()
    path = put(tmp_path / "rows.jsonl", b"\xef\xbb\xbf\r\n" + good + b"\r\n \t \n\n" + good)
    assert [row.where for row in read(path)] == ["rows.jsonl line 2", "rows.jsonl line 5"]


def test_what_json_of_python_calls_nan_is_nothing(tmp_path: Path) -> None:
    path = put(tmp_path / "rows.jsonl", '{"headline": "a", "label": NaN, "n": -Infinity}')
    found = only(path)
    assert (found.label, found.extra) == (None, {"headline": "a", "label": None, "n": None})


def test_lines_hold_a_headline_and_after_a_tab_a_teaser(tmp_path: Path) -> None:
    path = put(tmp_path / "rows.txt", "Een kop\r\n\nKop\tTeaser\tmet tab\n{geen json}\n kop \n")
    assert [(row.headline, row.teaser) for row in read(path)] == [
        ("Een kop", ""),
        ("Kop", "Teaser\tmet tab"),
        ("{geen json}", ""),
        (" kop ", ""),
    ]
    assert only(put(tmp_path / "a.txt", "kop"), columns=Columns(headline="x")).headline == "kop"


def test_lines_with_bad_bytes_are_faults_one_by_one(tmp_path: Path) -> None:
    path = put(tmp_path / "rows.txt", b"goed\nsl\xe9cht\ng\0ed\n\tteaser\n" + b"a" * 2_000_000)
    assert [row.error for row in kept(path)] == [
        None,
        "rows.txt line 2: byte 3 is 0xe9, which is not UTF-8, in 'sl\ufffdcht'; save it as UTF-8",
        "rows.txt line 3: headline holds U+0000, a control character, in 'g\\x00ed'; take it out",
        "rows.txt line 4: the headline is empty; give it one or take the row out",
        "rows.txt line 5: a line of 2,000,000 bytes, more than 1,048,576; split it",
    ]


def test_two_equal_headlines_in_a_row_make_no_page(tmp_path: Path) -> None:
    path = put(tmp_path / "rows.txt", "Genk wint\nGenk wint\nAjax polst spits\n12\n12\nNog een\n")
    assert len(list(read(path))) == 6


def test_a_large_text_is_read_line_by_line(tmp_path: Path) -> None:
    path = put(tmp_path / "rows.txt", "Titel\ndoor\nTitel\n" + "Genk wint\n" * 150_000)
    assert sum(1 for _ in read(path)) == 150_003


@pytest.mark.parametrize("bom", [b"\xff\xfe", b"\xfe\xff"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.tsv"])
def test_utf_16_is_told_to_be_converted(tmp_path: Path, bom: bytes, name: str) -> None:
    path = put(tmp_path / name, bom + "headline\nGenk".encode("utf-16-le"))
    with pytest.raises(BadSource, match=f"{name}: is UTF-16; convert it: iconv -f UTF-16 -t UTF-8"):
        kept(path)


# JSON ------------------------------------------------------------------------------------------

_TWO = '{"headline": "a"}, {"headline": "b", "teaser": "c"}'


@pytest.mark.parametrize(
    "text",
    [
        f"[{_TWO}]",
        f" [ {_TWO.replace(',', ' , ')} ] \n",
        f'{{"data": [{_TWO}]}}',
        f'{{"data": [{_TWO}], "schema": {{"a": [1]}}}}',
        f'{{"schema": {{"a": [1]}}, "data": [{_TWO}], "n": 2}}',
        f"\ufeff[{_TWO}]",
    ],
)
def test_json_is_an_array_or_holds_one_under_data(tmp_path: Path, text: str) -> None:
    found = list(read(put(tmp_path / "rows.json", text)))
    assert [(row.headline, row.teaser) for row in found] == [("a", ""), ("b", "c")]
    assert found[1].where == "rows.json item 2"


def test_json_may_be_one_object_or_nothing(tmp_path: Path) -> None:
    assert only(put(tmp_path / "a.json", '{"headline": "a", "data": 3}')).headline == "a"
    for text in ("", " \n", "[]", " [ ] ", '{"data": []}', '{"data":[],"x":1}'):
        assert kept(put(tmp_path / "a.json", text)) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("7", "a.json: holds '7', not a list of objects"),
        ("x", "a.json: holds 'x', not a list of objects"),
        ('{"headline": "a"}\n{"headline": "b"}', "holds more than one value; for JSON lines say"),
        ('[{"headline": "a"}', "a.json: is not JSON after item 1: ''"),
        ('[{"headline": "a"} {"headline": "b"}]', "a.json: is not JSON after item 1: '{"),
        ('[{"headline": "a"}, nul]', r"a.json: is not JSON \(Expecting value at sign 21\)"),
        ('[{"headline": "a"},]', r"a.json: is not JSON \(Expecting value at sign 20\)"),
        ('{"data": [{"headline": "a"}] x}', "a.json: is not JSON"),
        ("[" * 100_000, "a.json: is JSON nested too deep"),
        ('{"a":' * 100_000, "a.json: is JSON nested too deep"),
        ("[" + "1" * 5000 + "]", "a.json: is not JSON that can be read"),
    ],
)
def test_what_is_no_json_of_rows_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(BadSource, match=sentence) as caught:
        kept(put(tmp_path / "a.json", text))
    assert len(str(caught.value)) < 300


def test_items_before_broken_json_were_given(tmp_path: Path) -> None:
    rows = read(put(tmp_path / "a.json", '[{"headline": "a"}, {"headline": "b"}, {"he'))
    assert [next(rows).headline, next(rows).headline] == ["a", "b"]
    with pytest.raises(BadSource, match="is not JSON"):
        next(rows)


def test_items_that_are_no_objects_are_faults(tmp_path: Path) -> None:
    for text in ('[{"headline": "a"}, 3, "x"]', '{"x": 1, "data": [{"headline": "a"}, 3, "x"]}'):
        found = kept(put(tmp_path / "a.json", text))
        assert [row.error for row in found] == [
            None,
            "a.json item 2: is 3, not an object",
            "a.json item 3: is 'x', not an object",
        ]


def test_bad_bytes_and_too_much_of_them_in_a_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "a.json", b'[{"headline": "\xff"}]')
    with pytest.raises(BadSource, match=r"a.json: byte 16 is not UTF-8; save the page as UTF-8"):
        kept(path)
    monkeypatch.setattr("kopwijzer.formats.MAX_WHOLE", 1 << 20)
    put(path, "[" + " " * (1 << 20))
    with pytest.raises(BadSource, match=r"a.json: is larger than 1 MiB, the most .*; use JSONL"):
        kept(path)


# Tables ----------------------------------------------------------------------------------------

_cells = st.text(
    st.one_of(st.sampled_from(",;\"'\t\n\r a"), st.characters(exclude_categories=["Cs"])),
    max_size=12,
).filter(lambda text: "\0" not in text)


@pytest.mark.parametrize(("name", "sign"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
@given(st.lists(st.tuples(_cells, _cells, _cells), max_size=5), st.booleans())
def test_tables_give_what_was_written(
    tmp_path: Path, name: str, sign: str, rows: list[tuple[str, str, str]], quote_all: bool
) -> None:
    stream = io.StringIO()
    writer = csv.writer(
        stream, delimiter=sign, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    )
    writer.writerow(["headline", "teaser", "x"])
    writer.writerows(rows)
    found = kept(put(tmp_path / name, stream.getvalue()))
    assert [tuple(row.extra.values()) for row in found] == rows


def test_a_table_has_its_blank_lines_and_odd_headers(tmp_path: Path) -> None:
    text = '\ufeff\n headline , teaser,teaser,\n\na,b,c,d\n   \n"e\nf",g,h,i\n'
    found = list(read(put(tmp_path / "a.csv", text)))
    assert [dict(row.extra) for row in found] == [
        {"headline": "a", "teaser": "b", "teaser_2": "c", "": "d"},
        {"headline": "e\nf", "teaser": "g", "teaser_2": "h", "": "i"},
    ]
    assert [row.where for row in found] == ["a.csv line 4", "a.csv line 6"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "title,teaser\na,b\n",
            "a.csv: has no column 'headline'; it has 'title', 'teaser'. Say wh",
        ),
        ('"a"b,c\n', "a.csv: has no column 'headline'; it has 'ab', 'c'"),
        ("x\n" * 3, "a.csv: has no column 'headline'; it has 'x'. Say which holds the headline"),
        (b"head\xffline,teaser\n", "a.csv line 1: byte 5 is 0xff, which is not UTF-8"),
        ("a" * 2_000_000, "a.csv line 1: a line of 2,000,000 bytes"),
    ],
)
def test_a_table_without_the_column_is_refused(
    tmp_path: Path, text: str | bytes, sentence: str
) -> None:
    with pytest.raises(BadSource, match=sentence) as caught:
        kept(put(tmp_path / "a.csv", text))
    assert len(str(caught.value)) < 300


_NAMES = "headline,teaser,label\n"
_STRAY = [
    ('"Genk wint,t,l', "is not a row of a table .a quote opens that nothing closes."),
    ('Genk,"t,l', "is not a row of a table .a quote opens that nothing closes."),
    ('"Niet goed" zegt X,t,l', "is not a row of a table .',' expected after '\"'.: '\"Niet goed"),
    ('"",x""y,l"', None),
    ('Genk,zegt "nooit" weer,l', None),
    ('Genk,t"', "has 2 fields where the first line has 3"),
    ("Genk", "has 1 fields where the first line has 3; put text with a comma or quote into quotes"),
    ("Genk,wint,met,2-1", "has 4 fields where the first line has 3"),
    ('a,b,"', "is not a row of a table"),
    ("a,b,c\rd", "is not a row of a table .new-line character seen in unquoted field"),
    ("a\0,b,c", r"holds U\+0000, a control character, in 'a\\x00,b,c"),
    ("x" * (MAX_LINE + 1), "a line of 1,048,577 bytes"),
    ('"' + "x" * (MAX_LINE - 1), "is not a row of a table"),
]


@pytest.mark.parametrize(("line", "sentence"), _STRAY)
def test_a_stray_quote_costs_its_own_row_only(
    tmp_path: Path, line: str, sentence: str | None
) -> None:
    good = [f'kop {n},"teaser, met ""komma"" {n}",l' for n in range(40)]
    text = _NAMES + "\n".join([*good[:20], line, *good[20:]]) + "\n"
    found = kept(put(tmp_path / "a.csv", text))
    assert len(found) == 41
    assert [row.headline for row in found if row.where != "a.csv line 22"] == [
        f"kop {n}" for n in range(40)
    ]
    if sentence is None:
        assert found[20].error in (
            None,
            "a.csv line 22: the headline is empty; give it one or take the row out",
        )
    else:
        with pytest.raises(BadRows, match=f"a.csv line 22: {sentence}") as caught:
            list(read(tmp_path / "a.csv"))
        assert len(caught.value.faults) == 1


def test_a_row_of_too_few_fields_keeps_those_it_has(tmp_path: Path) -> None:
    found = kept(put(tmp_path / "a.csv", _NAMES + "kop,teaser\n"))
    assert [(row.headline, row.teaser) for row in found] == [("kop", "teaser")]


@given(st.lists(st.sampled_from(['"', "a", ",", ",", '"a"', "b c"]), max_size=8).map("".join))
def test_any_line_costs_at_most_itself(tmp_path: Path, line: str) -> None:
    good = "kop,teaser,l\n"
    found = kept(put(tmp_path / "a.csv", _NAMES + good + line + "\n" + good * 3))
    expected = 4 + bool(line.strip())
    assert len(found) in (expected, expected - 1)
    assert sum(row.headline == "kop" and row.error is None for row in found) == 4


def test_quotes_that_never_close_do_not_make_reading_slow(tmp_path: Path) -> None:
    # From within quotes each line keeps them open; from without it opens them.
    hostile = 'a"b,"c\n' * 30_000
    assert len(kept(put(tmp_path / "a.csv", "headline,x\n" + hostile))) == 30_000
    hostile = '"a""\n' * 30_000
    assert len(kept(put(tmp_path / "a.csv", "headline,x\n" + hostile))) == 30_000


def test_a_long_text_over_many_lines_is_one_field(tmp_path: Path) -> None:
    body = "regel\n" * 900
    found = list(read(put(tmp_path / "a.csv", f'headline,body\nkop,"{body}"\nkop,x\n')))
    assert [row.extra["body"] for row in found] == [body, "x"]


def test_quotes_of_speech_in_a_tsv_are_text(tmp_path: Path) -> None:
    text = (
        "headline\tteaser\n"
        '"Niemand durfde" zegt Bos\ta\n'
        '"Wij zijn trots"\tb\n'
        '"Een ""tab"" was nodig"\tc\n'
        '"open\td\n'
        "te\tveel\tvelden\n"
        '"met\ttab"\te\n'
        '"over\nlijnen"\tf\n'
    )
    found = kept(put(tmp_path / "a.tsv", text))
    assert [(row.headline, row.teaser) for row in found] == [
        ('"Niemand durfde" zegt Bos', "a"),
        ('"Wij zijn trots"', "b"),
        ('Een "tab" was nodig', "c"),
        ('"open', "d"),
        ("te", "veel"),
        ("met\ttab", "e"),
        ("over lijnen", "f"),
    ]
    assert [row.error is None for row in found].index(False) == 4


# Finding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", lines(GOOD)),
        ("a.ndjson", lines(GOOD)),
        ("a.json", json.dumps([GOOD])),
        ("a.csv", "headline\nGenk wint met 2-1\n"),
        ("a.tsv", "headline\nGenk wint met 2-1\n"),
        ("a.txt", "Genk wint met 2-1\n"),
        ("a.html", "<h1>Genk wint met 2-1</h1>"),
        ("a.htm", "<h1>Genk wint met 2-1</h1>"),
        (
            "a.rss",
            "<rss version='2.0'><channel><item><title>Genk wint met 2-1</title></item>"
            "</channel></rss>",
        ),
        (
            "a.atom",
            "<feed xmlns='http://www.w3.org/2005/Atom'><entry><title>Genk wint met 2-1"
            "</title></entry></feed>",
        ),
    ],
)
def test_the_name_tells_the_format_packed_or_not(tmp_path: Path, name: str, content: str) -> None:
    assert [row.headline for row in read(put(tmp_path / name, content))] == ["Genk wint met 2-1"]
    packed = put(tmp_path / f"{name.upper()}.gz", gzip.compress(content.encode()))
    assert [row.headline for row in read(str(packed))] == ["Genk wint met 2-1"]


def test_a_format_that_is_named_wins(tmp_path: Path) -> None:
    path = put(tmp_path / "a.txt", lines(GOOD))
    assert only(path, input_format="jsonl").headline == "Genk wint met 2-1"
    with pytest.raises(BadSettings, match="--input-format 'xlsx': use one of jsonl, json, csv"):
        kept(path, input_format="xlsx")
    with pytest.raises(BadSource, match=r"a.txt: a stream cannot be read as dataset"):
        kept(path, input_format="dataset")


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "dataset"])
def test_an_empty_file_has_no_rows(tmp_path: Path, form: str) -> None:
    assert kept(put(tmp_path / "a.dat", ""), input_format=form) == []
    if form != "parquet":
        assert kept("/dev/null", input_format=form) == []


def test_globs_and_folders_are_read_in_order_of_names(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.csv", "d.md", ".e.jsonl"):
        put(tmp_path / name, "headline\nc\n" if name == "c.csv" else lines({"headline": name}))
    (tmp_path / "sub").mkdir()
    put(tmp_path / "sub" / "a.jsonl", lines({"headline": "sub"}))
    assert [row.headline for row in read(tmp_path)] == ["a.jsonl", "b.jsonl", "c"]
    found = list(read(f"{tmp_path}/*.jsonl"))
    assert [row.headline for row in found] == ["a.jsonl", "b.jsonl"]
    assert found[0].where == f"{tmp_path}/a.jsonl line 1"
    assert len(list(read(f"{tmp_path}/**/*.jsonl"))) == 3
    assert len(list(read(f"{tmp_path}/[ab].json?"))) == 2
    assert len(list(read(f"{tmp_path}/su*/*"))) == 1
    odd = put(tmp_path / "[x].jsonl", lines(GOOD))
    assert len(list(read(odd))) == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("rowz.jsonl", "rowz.jsonl: there is no such file; did you mean .*rows.jsonl"),
        ("zzzz", "zzzz: there is no such file$"),
        ("none/a.jsonl", "there is no such file$"),
        ("x*.jsonl", r"x\*.jsonl: no file has such a name"),
        ("empty", "empty: the folder holds no file of a known kind .*.jsonl .*.parquet"),
        ("a.docx", "a.docx: unknown kind of file; say --input-format, or use a name that ends in"),
        ("a\0b", r"a\\x00b': a file name cannot hold a NUL"),
        ("a" * 5000, "'/.*...: cannot be read .File name too long."),
        ("a" * 5000 + "*", "'/.*...: cannot be read .File name too long."),
    ],
)
def test_what_cannot_be_found_is_told(tmp_path: Path, name: str, sentence: str) -> None:
    put(tmp_path / "rows.jsonl", "")
    put(tmp_path / "a.docx", "")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSource, match=sentence):
        kept(f"{tmp_path}/{name}")


@pytest.mark.parametrize("url", ["https://x.example/a.xml", "HTTP://x/a", "file:///a", "s3://b/a"])
def test_nothing_is_fetched(url: str) -> None:
    with pytest.raises(BadSource, match="nothing is fetched here; save the page or feed first"):
        kept(url)


def test_no_name_is_no_folder() -> None:
    with pytest.raises(BadSource, match="a source without a name; give a file, a folder, or '-'"):
        kept("")


@pytest.mark.parametrize("source", [None, 7, b"headline", {"headline": "a"}, 1.5])
def test_what_is_no_source_is_told(source: Any) -> None:
    with pytest.raises(BadSource, match="a source is a path or rows, not "):
        kept(source)


@pytest.mark.parametrize("cut", [1, 9, 20, 200, -1, -9])
def test_a_gzip_file_that_is_cut_off_gives_what_could_be_read(tmp_path: Path, cut: int) -> None:
    rows = [{"headline": f"{n} {os.urandom(8).hex()}"} for n in range(2000)]
    packed = gzip.compress(lines(*rows).encode())
    found: list[Headline] = []
    path = put(tmp_path / "a.jsonl.gz", packed[:cut])
    with pytest.raises(BadSource, match=r"a.jsonl.gz: the gzip file is cut off or damaged; unpack"):
        found.extend(read(path, on_bad_row="keep"))
    assert [row.extra for row in found] == rows[: len(found)]
    assert len(found) == 2000 or cut > -9


def test_what_claims_to_be_gzip_and_is_not(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match="the gzip file is cut off or damaged"):
        kept(put(tmp_path / "a.jsonl.gz", lines(GOOD)))
    data = bytearray(gzip.compress(lines(GOOD).encode() * 100))
    data[30] ^= 0xFF
    with pytest.raises(BadSource, match="the gzip file is cut off or damaged"):
        kept(put(tmp_path / "a.jsonl.gz", bytes(data)))


def test_a_device_or_socket_is_no_file(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.jsonl"))
        with pytest.raises(BadSource, match=r"s.jsonl: is no file that can be read"):
            kept(tmp_path / "s.jsonl")


@pytest.mark.parametrize("name", ["pipe.jsonl", "pipe.txt", "pipe.csv"])
def test_the_first_row_of_a_pipe_comes_before_its_end(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    first, go_on = threading.Event(), threading.Event()
    head = "headline\n" if name.endswith("csv") else ""
    line = "kop {}\n" if not name.endswith("jsonl") else '{{"headline": "kop {}"}}\n'

    def write() -> None:
        with path.open("w") as pipe:
            pipe.write(head + line.format(1))
            pipe.flush()
            first.set()
            go_on.wait(20)
            pipe.write(line.format(2))

    writer = threading.Thread(target=write)
    writer.start()
    rows = read(path)
    assert next(rows).headline == "kop 1"
    assert first.wait(10)  # its writer may not have come to say so yet
    assert not go_on.is_set()
    go_on.set()
    assert [row.headline for row in rows] == ["kop 2"]
    writer.join()


def test_rows_in_memory_are_taken_one_at_a_time() -> None:
    taken = []

    def rows() -> Iterator[dict[str, str]]:
        for n in range(5):
            taken.append(n)
            yield {"headline": f"kop {n}"}

    found = read(rows())
    assert taken == []
    assert next(found).headline == "kop 0"
    assert taken == [0]


# Stdin -----------------------------------------------------------------------------------------


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes, **options: Any) -> list[Headline]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))
    return kept("-", **options)


def test_stdin_is_json_lines_where_it_opens_with_a_brace(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in (b"", b"\xef\xbb\xbf", b"\n\r\n  \n", b"\xef\xbb\xbf\n", b"  "):
        (row,) = stdin(monkeypatch, before + b'{"headline": "a"}\n')
        assert row.headline == "a"
        assert row.where == f"stdin line {before.count(10) + 1}"


def test_stdin_is_lines_or_what_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row.headline for row in stdin(monkeypatch, b"\n'Genk wint'\n{x}")] == [
        "'Genk wint'",
        "{x}",
    ]
    assert stdin(monkeypatch, b"headline\na\n", input_format="csv")[0].headline == "a"
    assert stdin(monkeypatch, b'{"headline": "a"}', input_format="json")[0].headline == "a"
    assert stdin(monkeypatch, b"{x}", input_format="lines")[0].headline == "{x}"
    assert stdin(monkeypatch, b"<h1>a b c</h1>", input_format="html")[0].headline == "a b c"
    page = (FIXTURES / "page.txt").read_bytes()
    assert len(stdin(monkeypatch, page, input_format="page")) == 9
    for nothing in (b"", b"\n\n", b"\xef\xbb\xbf"):
        assert stdin(monkeypatch, nothing) == []


def test_stdin_that_is_closed_or_broken_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(BadSource, match="stdin is closed; give a file, or pipe rows into it"):
        kept("-")
    with pytest.raises(BadSource, match="stdin: is UTF-16"):
        stdin(monkeypatch, b"\xff\xfea\0")

    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:  # noqa: ARG002
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Broken())))
    with pytest.raises(BadSource, match=r"stdin: cannot be read .Input/output error."):
        kept("-")


# Parquet, datasets, frames ---------------------------------------------------------------------


def test_parquet_gives_rows_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"headline": f"kop {n}", "teaser": None if n % 2 else "t", "n": n, "tags": ["a"]}
        for n in range(5000)
    ]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    found = list(read(tmp_path / "a.parquet"))
    assert [row.extra for row in found] == rows
    assert found[4999].where == "a.parquet row 5000"
    data = (tmp_path / "a.parquet").read_bytes()
    assert len(stdin(monkeypatch, data, input_format="parquet")) == 5000
    with pytest.raises(BadSource, match=r"a.parquet: has no column 'kop'; it has 'headline', 't"):
        kept(tmp_path / "a.parquet", columns=Columns("kop"))
    for cut in (4, 100, len(data) // 2, len(data) - 1):
        put(tmp_path / "b.parquet", data[:cut])
        with pytest.raises(BadSource, match=r"b.parquet: is not a whole Parquet file"):
            kept(tmp_path / "b.parquet")


def test_parquet_with_values_that_python_cannot_hold(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    bad = pa.array([b"goed", b"sl\xffcht", None]).view(pa.string())
    far = pa.array([0, 2**55, 1], pa.timestamp("us"))
    fine = pa.array([1, 2, 3], pa.timestamp("ns"))
    pq.write_table(pa.table({"headline": bad, "far": far, "fine": fine}), tmp_path / "a.parquet")
    found = kept(tmp_path / "a.parquet")
    assert [row.headline for row in found] == ["goed", "", ""]
    assert found[0].error is None
    assert "a.parquet row 2: headline is b'sl\\xffcht' (bytes), not text" in str(found[1].error)


def test_a_batch_of_large_values_has_few_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from kopwijzer.sources import batch_rows

    path = tmp_path / "a.parquet"

    def rows(headlines: Any, **options: Any) -> int:
        pq.write_table(
            pa.table({"x": [[1]] * len(headlines), "headline": headlines}), path, **options
        )
        with pq.ParquetFile(path) as file:
            return batch_rows(file, path)

    assert rows(["a"]) == 4096
    assert rows([]) == 4096
    assert rows([f"kop {n}" for n in range(50_000)]) == 4096
    assert rows([f"{n}" * 500_000 for n in range(9)], use_dictionary=False) < 40
    many = pa.array(["x" * 1_000_000, None]).dictionary_encode().take(pa.array([0, 1] * 25_000))
    assert rows(many, row_group_size=20_000) == 16
    long = pa.dictionary(pa.int32(), pa.large_string())
    assert rows(many.cast(long), row_group_size=20_000) == 16
    late = pa.array(["a", "x" * 1_000_000]).dictionary_encode().take(pa.array([0] + [1] * 9000))
    assert rows(late) == 16
    assert path.stat().st_size < 200_000


@pytest.mark.filterwarnings("ignore")  # what `datasets` says about itself
def test_datasets_in_memory_and_saved(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features(
        headline=datasets.Value("string"), label=datasets.ClassLabel(names=["other", "quote"])
    )
    rows = {"headline": ["a", "b"], "label": [1, 0]}
    one = datasets.Dataset.from_dict(rows, features=features)
    two = datasets.DatasetDict(train=one, test=one)
    one.save_to_disk(tmp_path / "one")
    two.save_to_disk(tmp_path / "two")
    for source, where in [(one, "row 2"), (tmp_path / "one", "one row 2")]:
        found = list(read(source))
        assert [(row.headline, row.label) for row in found] == [("a", "quote"), ("b", "other")]
        assert found[1].where == where
        assert found[1].extra == {"headline": "b", "label": "other"}
    for source, where in [(two, "test row 2"), (tmp_path / "two", "two test row 2")]:
        found = list(read(source))
        assert [row.headline for row in found] == ["a", "b", "a", "b"]
        assert found[3].where == where
    assert len(list(read(one.to_iterable_dataset()))) == 2
    put(tmp_path / "one" / "state.json", "{")
    with pytest.raises(BadSource, match="one: is not a saved dataset"):
        kept(tmp_path / "one")


@pytest.mark.filterwarnings("ignore")  # what `datasets` says about itself
def test_a_dataset_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "mine").mkdir()
    put(tmp_path / "mine" / "train.jsonl", lines(GOOD, GOOD))
    put(tmp_path / "mine" / "test.jsonl", lines(GOOD))
    assert len(list(read(f"hf:{tmp_path}/mine"))) == 3
    assert len(list(read(f"hf:{tmp_path}/mine:test"))) == 1
    with pytest.raises(BadSource, match=r"hf:.*mine: cannot be loaded \(Unknown split"):
        kept(f"hf:{tmp_path}/mine:zzz")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(BadSource, match="hf:no/such: cannot be loaded"):
        kept("hf:no/such")


def test_a_data_frame_has_nothing_where_it_misses_something() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "headline": ["a", "b", None],
            "teaser": ["t", float("nan"), pandas.NA],
            "date": pandas.to_datetime(["2026-01-05", None, None]),
            "n": [1, 2, 3],
        },
        index=[7, 8, 9],
    )
    found = kept(frame)
    assert [(row.headline, row.teaser) for row in found] == [("a", "t"), ("b", ""), ("", "")]
    assert [row.error is None for row in found] == [True, True, False]
    assert (found[0].date, found[1].date) == ("2026-01-05 00:00:00", None)
    assert found[1].extra["n"] == 2


def test_a_frame_of_polars_is_read_by_rows() -> None:
    class Frame:
        columns = ("headline",)

        def to_dict(self) -> None: ...

        def iter_rows(self, named: bool) -> Iterator[dict[str, str]]:
            assert named
            yield {"headline": "a"}

    assert only(Frame()).headline == "a"


# Pages and feeds -------------------------------------------------------------------------------


def test_the_saved_page_gives_its_article_and_its_listing() -> None:
    found = list(read(FIXTURES / "page.txt"))
    assert [row.headline for row in found] == [
        "Ilse Vanderaert blijft nu al zeker een jaar langer in Zulte",
        "'Essevee polst spits van Lommel'",
        "Westerlo knokt zich terug en pakt punt in Luik",
        '"Niemand durfde het mij in mijn gezicht te zeggen"',
        "Patro kijkt in diepe put: 'Eigenaar draait kraan dicht'",
        "Slecht nieuws voor Antwerp: middenvelder maanden out",
        "TRANSFERUURTJE: 'Gent strikt jeugdproduct, Genk grijpt naast keeper'",
        "OH Leuven maakt indruk in eigen huis",
        "Zoveel verdiende de Pro League aan de nieuwe tv-rechten",
    ]
    assert [row.teaser.split()[0] for row in found] == [
        "Bij",
        "Zulte",
        "Na",
        "De",
        "De",
        "The",
        "De",
        "Het",
        "De",
    ]
    assert found[0].teaser.endswith("Wat brengt de zomer?")
    assert found[8].where == "page.txt item 9"


def test_the_feed_gives_its_items_and_the_one_without_title_is_a_fault() -> None:
    found = kept(FIXTURES / "feed.xml")
    assert [(row.headline, row.teaser) for row in found] == [
        (
            "Helmond Sport huurt linksback van NEC",
            "De 20-jarige Daan Verhoek moet de linkerkant van Helmond Sport versterken. Hij komt "
            "voor een half jaar over.",
        ),
        (
            "Verhoek: 'Ik wil gewoon weer elke week voetballen'",
            "De nieuwe aanwinst van Helmond Sport werd maandag voorgesteld.",
        ),
        ("Laat doelpunt nekt De Graafschap", ""),
        (
            "Gemeente scheldt deel van schuld Vitesse kwijt",
            "Arnhem ziet af van anderhalve ton aan achterstallige huur & rente.",
        ),
        ("", "Een bericht zonder kop."),
    ]
    assert [row.date for row in found][:3] == ["2026-01-05T09:02:00Z", "2026-01-05T14:40:00Z", None]
    assert found[0].extra["link"] == "https://voorbeeldkrant.example/1"
    assert [row.error for row in found] == [None] * 4 + [
        "feed.xml item 5: the headline is empty; give it one or take the row out"
    ]


def test_pages_and_feeds_have_their_columns_under_the_names_that_are_asked_for() -> None:
    columns = Columns("kop", "lead", date="dag")
    for name in ("page.txt", "feed.xml"):
        found = kept(FIXTURES / name, columns=columns)
        assert found[0].headline == found[0].extra["kop"]
        assert found[0].teaser == found[0].extra["lead"]
    assert found[0].extra["dag"] == found[0].date
