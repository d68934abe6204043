"""Near-duplicates against the definition: every pair of rows compared in plain Python."""

import re
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROWS, anything
from kopwijzer.duplicates import (
    linked,
    near_duplicate_groups,
    near_duplicate_pairs,
    near_duplicates_across,
    similarity,
)
from kopwijzer.headlines import Headline


def grams(row: Headline) -> set[str]:
    """Character 5-grams in lower case, signs taken for spaces."""
    text = f"{row.headline} {row.teaser}".lower()
    bare = re.sub(r"\s+", " ", re.sub(r"[^\w ]", " ", text)).strip()
    bare = (bare or text).ljust(5, "\0")
    return {bare[i : i + 5] for i in range(len(bare) - 4)}


def by_definition(a: Headline, b: Headline) -> float:
    first, second = grams(a), grams(b)
    return len(first & second) / len(first | second)


def story(number: int) -> str:
    """Forty words that no other story has."""
    rng = np.random.default_rng(number)
    letters = list("abcdefghijklmnoprstuvwyz")
    return " ".join("".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(40))


def edited(text: str, n_words: int, seed: int = 0) -> str:
    rng, words = np.random.default_rng(seed), text.split()
    for place in rng.choice(len(words), n_words, replace=False):
        words[place] = "".join(rng.choice(list("xyzq"), 6))
    return " ".join(words)


@given(anything, anything, anything, anything)
def test_similarity_is_jaccards_of_character_5_grams(a: str, b: str, c: str, d: str) -> None:
    first, second = Headline(a, b), Headline(c, d)
    assert similarity(first, second) == by_definition(first, second)
    assert similarity(first, second) == similarity(second, first)
    assert similarity(first, first) == 1


def test_every_pair_of_the_invented_rows_is_found_and_no_other() -> None:
    rows = [Headline(row["headline"], row["teaser"]) for row in ROWS]
    found = {(i, j): value for i, j, value in near_duplicate_pairs(rows, 0.6)}
    wanted = {
        (i, j): value
        for i, j in combinations(range(len(rows)), 2)
        if (value := by_definition(rows[i], rows[j])) > 0.6
    }
    assert found.items() <= wanted.items()
    # A family of like rows is linked by some of its pairs: the groups are those of all pairs.
    assert near_duplicate_groups(rows, 0.6) == spread(wanted, len(rows))


def spread(pairs: Sequence[tuple[int, int]] | dict[tuple[int, int], float], n: int) -> list[int]:
    group = list(range(n))
    for i, j in pairs:
        low, high = sorted((group[i], group[j]))
        group = [low if own == high else own for own in group]
    return group


@pytest.mark.parametrize(("n_edits", "least"), [(1, 1.0), (4, 1.0), (7, 0.95)])
def test_edited_copies_are_found(n_edits: int, least: float) -> None:
    rows = [Headline(story(n)) for n in range(300)]
    copies = [Headline(edited(row.headline, n_edits, n)) for n, row in enumerate(rows)]
    alike = [n for n in range(300) if by_definition(rows[n], copies[n]) > 0.5]
    assert len(alike) > 150
    found = {(i, j - 300) for i, j, _ in near_duplicate_pairs([*rows, *copies])}
    assert all(i == j for i, j in found)
    assert sum((n, n) in found for n in alike) >= least * len(alike)
    across = {i: j for i, j, _ in near_duplicates_across(copies, rows)}
    assert all(i == j for i, j in across.items())
    assert sum(n in across for n in alike) >= least * len(alike)


def test_pairs_come_in_order_with_the_first_row_first() -> None:
    rows = [Headline(story(n % 3), "") for n in range(12)]
    pairs = [(i, j) for i, j, _ in near_duplicate_pairs(rows)]
    assert pairs == sorted(pairs)
    assert all(i < j for i, j in pairs)
    assert near_duplicate_groups(rows) == [0, 1, 2] * 4


def test_the_threshold_is_the_callers_and_strict() -> None:
    rows = [Headline(story(1)), Headline(edited(story(1), 3))]
    own = similarity(*rows)
    assert 0.5 < own < 1
    assert [value for *_, value in near_duplicate_pairs(rows, own - 0.01)] == [own]
    assert list(near_duplicate_pairs(rows, own)) == []


def test_across_names_the_most_alike_and_never_a_row_of_its_own_side() -> None:
    rows = [Headline(story(1)), Headline(story(1)), Headline(story(2))]
    others = [Headline(edited(story(1), 4)), Headline(edited(story(1), 1)), Headline(story(9))]
    assert [(i, j) for i, j, _ in near_duplicates_across(rows, others)] == [(0, 1), (1, 1)]


def test_signs_case_and_spaces_make_no_difference_but_signs_alone_do() -> None:
    assert similarity(Headline("Genk wint: 2-1!"), Headline("GENK  wint 2 1")) == 1
    assert similarity(Headline("⚽🔥"), Headline("!!")) == 0
    assert near_duplicate_groups([Headline("⚽"), Headline("🔥"), Headline("⚽")]) == [0, 1, 0]


def test_no_rows_and_one_row() -> None:
    assert near_duplicate_groups([]) == []
    assert list(near_duplicate_pairs([Headline("Genk")])) == []
    assert list(near_duplicates_across([], [Headline("Genk")])) == []
    assert list(near_duplicates_across([Headline("Genk")], [])) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_links_join_rows_under_the_first_of_them(pairs: list[tuple[int, int]]) -> None:
    assert linked(10, pairs) == spread(pairs, 10)


@given(st.lists(anything, max_size=12))
def test_groups_number_rows_by_their_first(texts: list[str]) -> None:
    rows = [Headline(text) for text in texts]
    groups = near_duplicate_groups(rows)
    assert len(groups) == len(rows)
    assert all(groups[own] == own <= place for place, own in enumerate(groups))


def test_like_rows_are_linked_by_few_pairs() -> None:
    rows = [Headline(story(1), f"{n}") for n in range(3000)]
    assert len(list(near_duplicate_pairs(rows))) < 20 * 3000  # of the 4.5 million that there are
    assert set(near_duplicate_groups(rows)) == {0}


def test_a_crowd_of_like_rows_does_not_hide_a_pair_among_them() -> None:
    """Rows of a template end in one bucket; two that are nearly the same are linked even so."""
    rows = [Headline(f"Live {story(n)[:60]}", "Volg hier de wedstrijd") for n in range(1500)]
    rows.append(Headline(rows[700].headline + " nu", rows[700].teaser))
    assert near_duplicate_groups(rows, 0.8)[1500] == 700
