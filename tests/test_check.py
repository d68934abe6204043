"""The data check against rows whose faults were put in on purpose."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import ROWS, anything
from kopwijzer import training
from kopwijzer.check import KINDS, Finding, check, table, to_csv
from kopwijzer.engines import Engine
from kopwijzer.headlines import Headline

Floats = npt.NDArray[np.float64]

INVENTED = [Headline(row["headline"], row["teaser"], label=row["label"]) for row in ROWS]
ENGINE = Engine(workers=1)


def kinds(findings: Sequence[Finding]) -> dict[str, list[int | None]]:
    """The rows of every kind that is about rows."""
    found: dict[str, list[int | None]] = {}
    for one in findings:
        if one.row is not None:
            found.setdefault(one.kind, []).append(one.row)
    return found


def silent(what: str, done: int, of: int) -> None:
    """Progress that nobody looks at."""


# The same text twice ---------------------------------------------------------------------------


def test_rows_that_differ_have_no_findings_of_their_own() -> None:
    rows = [
        Headline("Genk wint van Standard", "Een late treffer.", label="zege"),
        Headline("Ajax polst een Deense spits", "Hij kost veel.", label="gerucht"),
    ]
    assert kinds(check(rows)) == {}


def test_a_repeated_row_names_the_first_that_has_its_text() -> None:
    rows = [
        Headline("Genk wint", "Van Gent.", label="zege", where="a.jsonl line 1"),
        Headline("Ajax verliest", "Van Gent.", label="nederlaag"),
        Headline("GENK  wint", "Van  Gent.", label="zege", where="a.jsonl line 9"),
    ]
    (one,) = [one for one in check(rows) if one.kind == "duplicate"]
    assert (one.row, one.where, one.other_row, one.other_where) == (
        2,
        "a.jsonl line 9",
        0,
        "a.jsonl line 1",
    )
    assert one.score == 1


def test_the_same_words_in_headline_and_teaser_are_not_the_same_row() -> None:
    assert "duplicate" not in kinds(check([Headline("Genk", "wint"), Headline("Genk wint")]))


@pytest.mark.parametrize(
    ("labels", "rows", "suggestion"),
    [
        (["zege", "zege", "other"], [2], "zege"),
        (["other", "zege", "zege"], [0], "zege"),
        (["zege", "other"], [1], ""),  # one against one speaks for neither
        (["a", "b", "c"], [1, 2], ""),
    ],
)
def test_one_text_with_two_labels(labels: list[str], rows: list[int], suggestion: str) -> None:
    found = check([Headline("Genk wint", label=label) for label in labels])
    odd = [one for one in found if one.kind == "same_text_two_labels"]
    assert sorted(one.row or 0 for one in odd) == rows
    assert {one.suggestion for one in odd} == {suggestion}
    assert all(label in odd[0].detail for label in labels)


def test_a_row_without_a_label_contradicts_nobody() -> None:
    found = kinds(check([Headline("Genk wint", label="zege"), Headline("Genk wint")]))
    assert found == {"duplicate": [1]}


def test_a_near_duplicate_names_the_most_alike_and_says_when_the_labels_differ() -> None:
    text = "Genk haalt Deense middenvelder weg bij Brøndby voor vier miljoen euro"
    rows = [
        Headline(text + " per jaar, meldt een krant", label="gerucht"),
        Headline(text, label="gerucht"),
        Headline(text + ".", label="other"),
    ]
    found = [one for one in check(rows) if one.kind == "near_duplicate"]
    assert {one.row: one.other_row for one in found} == {1: 0, 2: 1}
    assert "but other here and gerucht there" in found[0].detail
    assert "but" not in found[1].detail


def test_leakage_finds_the_same_and_the_nearly_same_on_the_other_side() -> None:
    trained = [
        Headline("Standard verliest de derby in eigen huis met grote cijfers"),
        Headline("Genk haalt Deense middenvelder weg bij Brøndby voor vier miljoen"),
    ]
    rows = [
        Headline("Genk haalt Deense middenvelder weg bij Brøndby voor vijf miljoen"),
        Headline("Gent stelt een nieuwe trainer voor"),
        Headline("STANDARD verliest de derby in eigen huis met grote cijfers"),
    ]
    found = [one for one in check(rows, trained) if one.kind == "leakage"]
    assert [(one.row, one.other_row) for one in found] == [(2, 0), (0, 1)]
    assert found[0].score == 1 > found[1].score > 0.5
    assert "leakage" not in kinds(check(rows, []))
    assert "leakage" not in kinds(check(rows))


# Labels ----------------------------------------------------------------------------------------


def test_label_errors_by_hand() -> None:
    """The confident joint of six rows, counted on paper.

    Thresholds are the mean probability of a label's own rows: a (0.9 + 0.8 + 0.1) / 3 = 0.6,
    b (0.7 + 0.8 + 0.3) / 3 = 0.6. Row 2 (a) has 0.9 for b, over 0.6: b. Row 5 (b) has 0.7 for a,
    over 0.6: a. The others reach the threshold of their own label.
    """
    a = np.array([0.9, 0.8, 0.1, 0.3, 0.2, 0.7])
    rows = [Headline(f"kop {n}", label=label) for n, label in enumerate("aaabbb")]
    found = check(rows, proba=np.column_stack([a, 1 - a]), classes=["a", "b"])
    errors = [one for one in found if one.kind == "label_error"]
    assert [(one.row, one.label, one.suggestion) for one in errors] == [
        (2, "a", "b"),
        (5, "b", "a"),
    ]
    assert [one.score for one in errors] == pytest.approx([0.8, 0.4])
    assert "say b 0.90 (its own rows have 0.60), a 0.10" in errors[0].detail


def test_a_label_that_models_never_trust_does_not_accuse_its_rows() -> None:
    """With one threshold for all labels every row of the hard label would be an error."""
    rows = [Headline(f"kop {n}", label="easy" if n < 50 else "hard") for n in range(100)]
    easy = np.where(np.arange(100) < 50, 0.9, 0.55)  # models lean to "easy", whatever the row
    found = check(rows, proba=np.column_stack([easy, 1 - easy]), classes=["easy", "hard"])
    assert "label_error" not in kinds(found)


def test_rows_without_probabilities_or_a_known_label_are_left_out() -> None:
    rows = [Headline(f"kop {n}", label=label) for n, label in enumerate(["a", "b", "c", None, "b"])]
    proba = np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1], [np.nan, np.nan]])
    assert kinds(check(rows, proba=proba, classes=["a", "b"])) == {}
    nothing = np.full((5, 2), np.nan)
    assert kinds(check(rows, proba=nothing, classes=["a", "b"])) == {}


def test_wrong_labels_put_into_rows_come_first() -> None:
    rng = np.random.default_rng(3)
    own = {
        "zege": ("wint", "verslaat", "klopt", "doelpunt", "treffer", "slotfase", "punten"),
        "gerucht": ("polst", "biedt", "transfer", "huurt", "contract", "miljoen", "bod"),
    }
    rest = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("aan", "eer", "oor", "ijk", "uit")]
    rows = []
    for n in range(300):
        label = "zege" if n % 2 else "gerucht"
        words = [*rng.choice(own[label], 4), *rng.choice(rest, 8)]
        rows.append(Headline(" ".join(rng.permutation(words)), label=label))
    wrong = set(range(7, 300, 25))
    swapped = {"zege": "gerucht", "gerucht": "zege"}
    seen = [
        replace(row, label=swapped[str(row.label)]) if n in wrong else row
        for n, row in enumerate(rows)
    ]
    found = training.check_rows(seen, None, engine=ENGINE, progress=silent)
    errors = [one for one in found if one.kind == "label_error"]
    first = {one.row or 0 for one in errors[: len(wrong)]}
    assert len(first & wrong) >= len(wrong) - 2
    assert all(one.suggestion == rows[one.row or 0].label for one in errors if one.row in wrong)


def test_class_balance_tells_every_label_and_which_is_too_small() -> None:
    rows = [Headline(f"kop {n}", label="a") for n in range(300)]
    rows += [Headline(f"regel {n}", label="b") for n in range(25)]
    rows += [Headline("iets", label="c"), Headline("anders")]
    told = {one.label: one.detail for one in check(rows) if one.kind == "class_balance"}
    assert told["a"] == "300 rows, 92.0%"
    assert told["b"] == "25 rows, 7.7%: the largest has 12 times as many"
    assert told["c"].startswith("1 row, 0.3%: too few")
    assert told[""] == "1 of 327 rows without a label"


# Texts -----------------------------------------------------------------------------------------


def test_empty_teasers_are_counted_by_label() -> None:
    rows = [Headline("kop een", " ", label="a"), Headline("kop twee", "", label="a")]
    rows += [Headline("kop drie", "", label="b"), Headline("kop vier", "Tekst.", label="b")]
    found = [one for one in check(rows) if one.kind == "empty_teaser"]
    assert [(one.label, one.detail) for one in found] == [
        ("a", "2 of 2 rows, 100.0%"),
        ("b", "1 of 2 rows, 50.0%"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Zege FerencvÃ¡ros", "“FerencvÃ¡ros” should be “Ferencváros”"),
        ("Hij zei: â€˜Neeâ€™", "“â€˜Neeâ€™” should be “‘Nee’”"),
        ("Caf\ufffd dicht na derby", "signs were lost: “Caf\ufffd dicht”"),
    ],
)
def test_broken_encodings(text: str, told: str) -> None:
    for row in (Headline(text), Headline("Een kop", text)):
        (one,) = [one for one in check([row]) if one.kind == "broken_encoding"]
        assert one.detail == told


@pytest.mark.parametrize(
    "text",
    [
        "‘Zo kan het niet langer’, zegt “de trainer” — „boos”…",
        "Krupička en Hadžimuratović naar Göteborg, à la carte",
        "CAFÉ ‘T PLEINTJE € 5 – ½ liter",
        "Σπόρτινγκ, Спартак en 北京 spelen gelijk",
        "Ærø – Þór: één ⚽🔥",
    ],
)
def test_typography_and_foreign_letters_are_not_broken(text: str) -> None:
    assert "broken_encoding" not in kinds(check([Headline(text, text)]))


def test_a_few_foreign_rows_among_many_are_found() -> None:
    foreign = [
        Headline("Manchester City beat Arsenal", "The champions came from behind to win it."),
        Headline("Le PSG prend la tête", "Les Parisiens ont souffert mais ils restent devant."),
        Headline("Bayern gewinnt das Spitzenspiel", "Der Stürmer traf zweimal kurz vor Schluss."),
    ]
    found = kinds(check([*INVENTED, *foreign]))["odd_language"]
    assert set(found) == {len(INVENTED) + n for n in range(3)}


def test_a_language_is_not_told_from_a_few_rows_or_from_names() -> None:
    few = [*INVENTED[:40], Headline("The champions came from behind to win it all")]
    assert "odd_language" not in kinds(check(few))
    names = [*INVENTED, Headline("Okafor, Pereira, Diallo"), Headline("Braga - Roma")]
    assert "odd_language" not in kinds(check(names))


# Findings for people ---------------------------------------------------------------------------

rows_of_anything = st.lists(
    st.builds(
        Headline,
        headline=anything,
        teaser=anything,
        label=st.sampled_from([None, "a", "b", "=c"]),
    ),
    max_size=12,
)


@given(rows_of_anything, rows_of_anything)
@example([Headline("", "\r\x80")], [])  # a lone "\r" in a cell once ended its row
def test_any_rows_can_be_checked_told_and_written(
    rows: list[Headline], against: list[Headline]
) -> None:
    found = check(rows, against)
    assert {one.kind for one in found} <= set(KINDS)
    assert all(0 <= one.score <= 1 for one in found)
    order = [(list(KINDS).index(one.kind), -one.score) for one in found]
    assert order == sorted(order)
    assert table(found, len(rows)).startswith("1 row" if len(rows) == 1 else f"{len(rows)} rows")
    header, *lines = csv.reader(io.StringIO(to_csv(found), newline=""))
    assert len(lines) == len(found)
    assert all(len(line) == len(header) for line in lines)
    assert all(not cell.startswith(("=", "+", "@", "\t")) for line in lines for cell in line)


def test_the_table_counts_every_kind_and_shows_the_worst() -> None:
    rows = [replace(INVENTED[0], where=f"/a/b/feed.jsonl line {n}") for n in range(1, 8)]
    text = table(check(rows), len(rows))
    assert text.splitlines()[:2] == ["7 rows", "        6  85.7%  repeat an earlier row"]
    assert text.count("as feed.jsonl line 1") == 3
    assert "/a/b" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_nothing_to_look_at_is_said() -> None:
    assert table([], 0) == "0 rows\n  nothing to look at"
    clean = check([Headline("Genk wint", "Tekst.")])
    assert table(clean, 1) == "1 row\n  nothing to look at"


def test_csv_reads_back_with_the_texts_as_they_were() -> None:
    rows = [Headline('Hij zei: "a, b"\tnu', label="zege")] * 2
    found = check(rows)
    (line,) = [
        line
        for line in csv.DictReader(io.StringIO(to_csv(found), newline=""))
        if line["kind"] == "duplicate"
    ]
    assert line["headline"] == line["other_headline"] == rows[0].headline
    assert (line["row"], line["where"], line["label"]) == ("2", "row 2", "zege")


# From training ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [Headline("Genk wint")],
        [Headline("Genk wint", label="zege")] * 9,
        [Headline(f"w{n}a w{n}b", label="ab"[n % 2]) for n in range(20)],  # nothing in common
        [Headline("⚽", label="a")] * 5 + [Headline("🔥", label="b")] * 5,
        [Headline(f"Genk wint {n}", label=f"label {n}") for n in range(9)],  # a label for each
    ],
)
def test_rows_whose_labels_cannot_be_checked_are_checked_for_the_rest(rows: list[Headline]) -> None:
    found = training.check_rows(rows, rows, engine=ENGINE, progress=silent)
    assert len(kinds(found).get("leakage", [])) == len(rows)
    assert "label_error" not in kinds(found)
