"""The scorer says what scikit-learn says, the same whatever surrounds a row, and why."""

import copy
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import BLOCKS, ROWS, TRUTH, fitted, rows_
from kopwijzer import sums as sums_room
from kopwijzer.errors import BadRows, BadSettings, BadVersion
from kopwijzer.headlines import Headline
from kopwijzer.learning import to_scorer
from kopwijzer.scorer import Abstention, Scorer
from kopwijzer.sums import Sums
from kopwijzer.text import Block
from kopwijzer.weights import Weights

ODD_ROWS: list[dict[str, str]] = [
    {"headline": "", "teaser": ""},
    {"headline": " \t\n", "teaser": "Genk wint"},
    {"headline": "\ud800 Genk \udc00", "teaser": "\0"},
    {"headline": "Genk " * 300, "teaser": "wint van Ajax " * 200},
    {"headline": "x" * 5000, "teaser": ""},
    {"headline": "İlkay ΣΑΣ", "teaser": "\x1equotes:wraps=s"},
    {"headline": "qqq zzz xxx", "teaser": ""},
    {"headline": "⚽🔥", "teaser": "🇧🇪"},
]


def fresh(scorer: Scorer) -> Scorer:
    """The same model with nothing remembered."""
    return scorer.with_abstention(scorer.abstention)


# The same as scikit-learn ----------------------------------------------------------------------


@given(st.lists(rows_, min_size=1, max_size=8))
@example(ODD_ROWS)
@example(ROWS)
def test_probabilities_are_those_of_the_pipeline(
    pipeline: Any, scorer: Scorer, rows: list[dict[str, str]]
) -> None:
    ours = scorer.predict_proba(rows)
    assert np.abs(ours - pipeline.predict_proba(rows)).max() <= 1e-9
    assert ours.shape == (len(rows), 4)
    assert (ours >= 0).all()
    assert np.abs(ours.sum(axis=1) - 1).max() <= 1e-12


@pytest.mark.parametrize(
    "blocks",
    [
        (Block("words"),),
        (Block("words", high=1, min_df=3, max_df=0.4),),
        (Block("characters", kind="characters", low=1, high=8),),
        (Block("teaser", field="teaser"),),
        (Block("a"), Block("b", field="headline"), Block("c", weight=3)),
        (Block("c", kind="characters", field="teaser", low=3, high=3), Block("w", min_df=80)),
    ],
    ids=lambda blocks: "+".join(block.name for block in blocks),
)
def test_any_blocks_score_as_the_pipeline(blocks: tuple[Block, ...]) -> None:
    pipeline = fitted(blocks=blocks)
    ours = to_scorer(pipeline)
    rows = ROWS[::7] + ODD_ROWS
    assert np.abs(ours.predict_proba(rows) - pipeline.predict_proba(rows)).max() <= 1e-9
    for row in rows:
        _check_explanation(ours, row["headline"], row["teaser"])


def test_a_model_without_features_gives_its_intercept() -> None:
    weights = Weights(
        hashes=np.empty(0, dtype=np.uint32),
        block_ptr=np.zeros(2, dtype=np.int64),
        df=np.empty(0, dtype=np.uint32),
        coef=np.empty((0, 2), dtype=np.int8),
        scale=np.ones(2),
        intercept=np.array([0.0, 1.0]),
        n_documents=1,
    )
    empty = Scorer(weights, labels=["a", "b"], blocks=[Block("words")])
    assert empty.decision_function([*ROWS, *ODD_ROWS]).tolist() == [[0.0, 1.0]] * 168
    assert empty.score("Genk wint").reason == "unknown_words"
    assert empty.explain("Genk wint").contributions == ()


def test_two_labels() -> None:
    rows = [row for row in ROWS if row["label"] in ("quote", "match_report")]
    pipeline = fitted(rows, [row["label"] for row in rows])
    ours = to_scorer(pipeline)
    assert ours.classes_.tolist() == ["match_report", "quote"]
    asked = rows[::9] + ODD_ROWS
    assert np.abs(ours.predict_proba(asked) - pipeline.predict_proba(asked)).max() <= 1e-9
    right = sum(map(str.__eq__, ours.predict(rows), (row["label"] for row in rows)))
    assert right == len(rows)
    _check_explanation(ours, rows[0]["headline"], rows[0]["teaser"])


def test_it_learned_its_rows(scorer: Scorer) -> None:
    said = scorer.with_abstention(Abstention()).predict(ROWS)
    assert np.mean([a == b for a, b in zip(said, TRUTH, strict=True)]) > 0.98


def test_wide_coefficients_score_as_narrow_ones(scorer: Scorer) -> None:
    weights = scorer.weights
    wide = replace(
        weights,
        coef=(weights.coef * weights.scale).astype(np.float32),
        scale=np.ones(4),
        df=weights.df.astype(np.uint32),
    )
    other = Scorer(wide, labels=list(scorer.classes_), blocks=scorer.blocks)
    assert np.abs(other.predict_proba(ROWS) - scorer.predict_proba(ROWS)).max() <= 1e-6


def test_frequencies_beyond_any_table_score_alike(scorer: Scorer) -> None:
    # As if 40 million times as many rows had been learned from: idf hardly changes.
    many = 40_000_000
    weights = replace(
        scorer.weights,
        df=(scorer.weights.df.astype(np.uint32) * np.uint32(many // 100)),
        n_documents=scorer.weights.n_documents * (many // 100),
    )
    other = Scorer(weights, labels=list(scorer.classes_), blocks=scorer.blocks)
    assert np.abs(other.predict_proba(ROWS) - scorer.predict_proba(ROWS)).max() <= 0.02


# The same whatever surrounds a row -------------------------------------------------------------


@given(st.lists(rows_, min_size=1, max_size=12))
@example(ODD_ROWS)
def test_one_by_one_equals_batch_to_the_last_bit(
    scorer: Scorer, rows: list[dict[str, str]]
) -> None:
    batch = scorer.decision_function(rows)
    single = np.concatenate([scorer.decision_function([row]) for row in rows])
    assert batch.tobytes() == single.tobytes()
    assert scorer.score_many(rows) == [scorer.score(**row) for row in rows]


def test_large_batches_equal_single_rows_to_the_last_bit(scorer: Scorer) -> None:
    rows = [
        {key: row[key] for key in ("headline", "teaser")} for row in (*ROWS, *ODD_ROWS, *ROWS)
    ] * 3
    warm, cold = fresh(scorer), fresh(scorer)
    single = np.concatenate([cold.decision_function([row]) for row in rows])
    assert warm.decision_function(rows).tobytes() == single.tobytes()
    assert warm.decision_function(rows).tobytes() == single.tobytes()
    assert warm.decision_function(rows[::-1]).tobytes() == single[::-1].tobytes()


@given(st.lists(rows_, max_size=6), st.randoms(use_true_random=False))
def test_order_in_is_order_out(scorer: Scorer, rows: list[dict[str, str]], random: Random) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)
    straight = scorer.score_many(rows)
    assert scorer.score_many([rows[i] for i in order]) == [straight[i] for i in order]


def test_no_rows_no_predictions(scorer: Scorer) -> None:
    assert scorer.score_many([]) == []
    assert scorer.predict_proba([]).shape == (0, 4)
    assert [len(part) for part in scorer.decide([])] == [0, 0, 0]


def test_a_stream_is_read_a_batch_at_a_time(scorer: Scorer) -> None:
    taken = 0

    def endless() -> Iterator[dict[str, str]]:
        nonlocal taken
        while True:
            taken += 1
            yield ROWS[taken % len(ROWS)]

    stream = scorer.iter_scores(endless())
    first = [next(stream) for _ in range(300)]
    assert len(first) == 300
    assert taken <= 512


def test_long_rows_make_short_batches(scorer: Scorer) -> None:
    # 256 rows at the largest size that a reader lets through would take gigabytes at once.
    taken = 0

    def long_rows() -> Iterator[dict[str, str]]:
        nonlocal taken
        for number in range(40):
            taken += 1
            yield {"headline": f"{number} " + "wint " * 50_000}

    stream = scorer.iter_scores(long_rows())
    next(stream)
    assert taken < 10
    assert len(list(stream)) == 39


def test_rows_of_every_kind(scorer: Scorer) -> None:
    row = ROWS[0]
    kinds: list[Any] = [
        row,
        Headline(row["headline"], row["teaser"]),
        {"headline": row["headline"], "teaser": row["teaser"], "more": 1},
    ]
    assert len({p.confidence for p in scorer.score_many(kinds)}) == 1
    bare: list[Any] = [
        {"headline": "x"},
        {"headline": "x", "teaser": None},
        {"headline": "x", "teaser": ""},
    ]
    assert len({p.confidence for p in scorer.score_many(bare)}) == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({}, "row 3: headline None is not text"),
        ({"headline": 5}, "row 3: headline 5 is not text"),
        ({"headline": "x", "teaser": 5}, "row 3: teaser 5 is not text"),
        ("Genk wint", "row 3: 'Genk wint' is no mapping"),
        (None, "row 3: None is no mapping"),
    ],
)
def test_rows_without_text_are_refused(scorer: Scorer, row: Any, said: str) -> None:
    with pytest.raises(BadRows, match=said):
        scorer.score_many([ROWS[0], ROWS[1], row])


# Many threads, little memory -------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1 << 30, 20_000], ids=["roomy", "tight"])
def test_sixteen_threads_score_as_one(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    rows = [*ROWS, *ODD_ROWS, *({"headline": f"club{n} wint {n}-1"} for n in range(200))]
    expected = dict(enumerate(fresh(scorer).score_many(rows)))
    monkeypatch.setattr(sums_room, "_CACHE_BYTES", limit)
    shared = fresh(scorer)

    def work(seed: int) -> bool:
        random = Random(seed)  # noqa: S311 (an order, no secret)
        order = random.sample(range(len(rows)), len(rows))
        good = True
        while order:
            take, order = order[: random.randint(1, 60)], order[60:]
            got = shared.score_many([rows[i] for i in take])
            good &= got == [expected[i] for i in take]
        return good

    pace = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(work, range(48)))
    finally:
        sys.setswitchinterval(pace)


@given(st.lists(rows_, min_size=1, max_size=6))
@settings(max_examples=50)
def test_a_full_cache_changes_nothing(scorer: Scorer, rows: list[dict[str, str]]) -> None:
    expected = scorer.decision_function(rows).tobytes()
    small = fresh(scorer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums_room, "_CACHE_BYTES", 0)
        for _ in range(2):
            assert small.decision_function(rows).tobytes() == expected
            singles = [small.decision_function([row]).tobytes() for row in rows]
            assert b"".join(singles) == expected


def test_the_cache_stays_within_its_bytes(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums_room, "_CACHE_BYTES", 1 << 20)
    small = fresh(scorer)
    assert isinstance(small._sums, Sums)
    for number in range(300):
        small.score(f"{number:06}" * 5000)  # one chunk of 30,000 signs
        assert small._sums._cache.bytes <= (1 << 20) + 200_000
    kept = sum(map(len, small._sums._cache.numbers))
    assert kept <= 1 << 20


def test_a_failure_half_way_leaves_the_scorer_whole(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"headline": f"verse{n} woorden: 'ja'", "teaser": f"en{n} meer"} for n in range(5)]
    expected = fresh(scorer).decision_function(rows).tobytes()
    broken = fresh(scorer)

    def fail(*_: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Sums, "_chunk_rows", fail)
        with pytest.raises(MemoryError, match=r"^$"):
            broken.decision_function(rows)
    assert isinstance(broken._sums, Sums)
    assert broken._sums._lock.acquire(blocking=False)
    broken._sums._lock.release()
    assert broken.decision_function(rows).tobytes() == expected


# Abstaining ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headline", "teaser", "reason"),
    [
        ("", "", "empty"),
        (" \n", "\t", "empty"),
        ("2-1", "⚽", "empty"),
        ("xyzzy plugh frotz", "", "unknown_words"),
        ("Xyzzy Plugh", "", "unknown_words"),
        ("Quiz: hoeveel weet jij over Genk?", "Test je kennis in 3 vragen.", "out_of_scope"),
        ("Genk wint met 3-1 van Ajax", "Okafor scoort twee keer in eigen huis.", None),
    ],
)
def test_reasons(scorer: Scorer, headline: str, teaser: str, reason: str | None) -> None:
    said = scorer.score(headline, teaser)
    assert said.reason == reason
    assert said.abstained == (reason is not None)
    assert said.label == ("match_report" if reason is None else "other")


def test_low_confidence(scorer: Scorer) -> None:
    sure = Abstention("other", {"match_report": 1.0})
    said = scorer.with_abstention(sure).score("Genk wint met 3-1 van Ajax", "Bos scoort.")
    assert (said.label, said.reason, said.abstained) == ("other", "low_confidence", True)
    assert max(said.scores, key=lambda label: said.scores[label]) == "match_report"


def test_names_prove_no_language(scorer: Scorer) -> None:
    rule = Abstention("other", min_known_share=0.6)
    said = scorer.with_abstention(rule).score("Genk Ajax Vitesse NEC crushed everyone yesterday")
    assert said.reason == "unknown_words"
    assert scorer.with_abstention(rule).score("Genk Ajax Vitesse NEC").reason != "unknown_words"


@given(rows_)
def test_a_prediction_fits_together(scorer: Scorer, row: dict[str, str]) -> None:
    said = scorer.score(**row)
    assert list(said.scores) == scorer.classes_.tolist()
    assert said.confidence == max(said.scores.values())
    assert abs(sum(said.scores.values()) - 1) <= 1e-12
    assert said.abstained == (said.reason is not None) == (said.label == "other")
    if not said.abstained:
        assert said.scores[said.label] == said.confidence
        assert said.confidence >= (scorer.abstention.thresholds or {}).get(said.label, 0)
    assert all(type(score) is float for score in said.scores.values())


_share = st.floats(0, 1)


@given(st.lists(rows_, min_size=1, max_size=8), _share, _share, _share, _share)
def test_a_higher_threshold_never_answers_more(
    scorer: Scorer, rows: list[dict[str, str]], a: float, b: float, c: float, d: float
) -> None:
    (low, high), (few, many) = sorted((a, b)), sorted((c, d))
    labels = ["match_report", "quote", "transfer_rumour"]
    decided = scorer.decide(rows)
    lax = scorer.with_abstention(Abstention("other", dict.fromkeys(labels, low), few))
    strict = scorer.with_abstention(Abstention("other", dict.fromkeys(labels, high), many))
    for one, other, all_words in zip(
        lax.score_many(rows), strict.score_many(rows), decided[2], strict=True
    ):
        assert not (one.abstained and not other.abstained)
        assert one.scores == other.scores
        assert (one.reason == "empty") == (all_words == 0)


@pytest.mark.parametrize(
    "blocks",
    [(Block("characters", kind="characters"),), (Block("headline", field="headline"),)],
    ids=["characters", "headline"],
)
def test_a_model_that_cannot_tell_known_words_still_answers(blocks: tuple[Block, ...]) -> None:
    said = to_scorer(fitted(blocks=blocks), Abstention()).score(
        "Genk wint met 3-1 van Ajax", "Okafor scoort twee keer in eigen huis."
    )
    assert said.label == "match_report"


def test_a_threshold_of_an_unknown_label_is_refused(scorer: Scorer) -> None:
    with pytest.raises(BadSettings, match="unknown label 'goal'"):
        scorer.with_abstention(Abstention("other", {"goal": 0.5}))


# Explaining ------------------------------------------------------------------------------------


def _check_explanation(scorer: Scorer, headline: str, teaser: str) -> None:
    told = scorer.explain(headline, teaser)
    row = {"headline": headline, "teaser": teaser}
    decision = scorer.decision_function([row])[0]
    assert told.label == scorer.classes_[decision.argmax()]
    assert told.decision == decision.max()
    total = told.intercept + sum(c.value for c in told.contributions)
    assert abs(total - told.decision) <= 1e-9
    sizes = [abs(c.value) for c in told.contributions]
    assert sizes == sorted(sizes, reverse=True)
    assert told.prediction == scorer.score(headline, teaser)


@given(rows_)
@example({"headline": "Genk Genk 'Genk", "teaser": "İ ΣΑΣ \ud800"})
def test_an_explanation_sums_to_the_decision(scorer: Scorer, row: dict[str, str]) -> None:
    _check_explanation(scorer, **row)


def test_every_label_can_be_explained(scorer: Scorer) -> None:
    row = ROWS[3]
    decision = scorer.decision_function([row])[0]
    for column, label in enumerate(scorer.classes_):
        told = scorer.explain(row["headline"], row["teaser"], label=str(label))
        assert (told.label, told.decision) == (label, decision[column])
        assert abs(told.intercept + sum(c.value for c in told.contributions) - told.decision) < 1e-9


def test_an_explanation_names_its_pieces(scorer: Scorer) -> None:
    told = scorer.explain("'Genk polst Bos van Ajax'", "", label="transfer_rumour")
    texts = {(c.block, c.text) for c in told.contributions}
    assert {("words", "genk polst"), ("headline", "polst")} <= texts
    assert {("characters", " '"), ("headline_characters", "gen")} <= texts
    assert not any(block == "teaser" and "genk" in text for block, text in texts)


def test_an_unknown_label_cannot_be_explained(scorer: Scorer) -> None:
    with pytest.raises(BadSettings, match="no label 'goal'; it knows match_report, other"):
        scorer.explain("Genk wint", label="goal")


# The object ------------------------------------------------------------------------------------


def _pickled(scorer: Scorer) -> Any:
    return pickle.loads(pickle.dumps(scorer))  # noqa: S301 (our own)


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, _pickled])
def test_a_copy_scores_the_same(scorer: Scorer, take: Any) -> None:
    scorer.score_many(ROWS[:20])
    other = take(scorer)
    assert other.score_many(ROWS) == scorer.score_many(ROWS)
    assert other.blocks == scorer.blocks
    assert other.abstention == scorer.abstention
    # The texts that were scored are nobody's business but the scorer's that saw them.
    assert len(pickle.dumps(other)) == len(pickle.dumps(fresh(scorer)))


def test_a_scorer_says_what_it_is(scorer: Scorer) -> None:
    assert repr(scorer).startswith("<Scorer match_report, other, quote, transfer_rumour; ")


def test_character_blocks_of_different_sizes_are_refused(scorer: Scorer) -> None:
    blocks = (*BLOCKS[:-1], replace(BLOCKS[-1], high=5))
    with pytest.raises(BadSettings, match="the same n-gram sizes"):
        Scorer(scorer.weights, labels=list(scorer.classes_), blocks=blocks)


def _broken(name: str, value: Any) -> Any:
    return pytest.param({name: value}, id=f"{name}={value!r}"[:40])


@pytest.mark.parametrize(
    "change",
    [
        _broken("n_documents", 0),
        _broken("n_documents", -5),
        _broken("n_documents", 1),
        _broken("intercept", np.array([0, 0, 0, np.nan])),
        _broken("intercept", np.array([0, 0, 0, 1e308])),
        _broken("intercept", np.zeros(3)),
        _broken("scale", np.array([0, 0, 0, np.inf])),
        _broken("scale", np.array([1, 1, 1, 1e308])),
        _broken("scale", np.zeros((4, 1))),
        _broken("block_ptr", np.array([0, 1, 2])),
        _broken("block_ptr", np.array([0, 5, 3, 6, 7, 9])),
        _broken("block_ptr", np.array([-1, 5, 6, 7, 8, 9])),
        _broken("hashes", np.zeros(9, dtype=np.uint32)),
        _broken("hashes", np.zeros((3, 3), dtype=np.uint32)),
        _broken("df", np.ones(8, dtype=np.uint32)),
        _broken("coef", np.zeros((9, 3), dtype=np.int8)),
        _broken("coef", np.full((9, 4), np.nan, dtype=np.float32)),
        _broken("coef", np.full((9, 4), -np.inf, dtype=np.float32)),
    ],
)
def test_senseless_weights_are_refused(change: dict[str, Any]) -> None:
    sound = Weights(
        hashes=np.arange(9, dtype=np.uint32),
        block_ptr=np.array([0, 2, 2, 5, 7, 9]),
        df=np.full(9, 2, dtype=np.uint32),
        coef=np.ones((9, 4), dtype=np.int8),
        scale=np.ones(4),
        intercept=np.zeros(4),
        n_documents=10,
    )
    sound.check(5, 4)
    with pytest.raises(BadVersion, match=r"arrays|coefficients|hashes|documents|model"):
        replace(sound, **change).check(5, 4)
