"""Figures: against scikit-learn and a table counted by hand; intervals, promises, comparisons."""

import json
import math
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn import metrics

from kopwijzer.errors import BadRows, BadSettings
from kopwijzer.figures import (
    NEVER,
    Outcome,
    by_source,
    choose_thresholds,
    compare,
    confusion,
    coverage_curve,
    measure,
    precision_recall,
    reliability,
)

LABELS = ["match_report", "other", "quote", "transfer_rumour"]


def outcome(
    n: int = 400,
    seed: int = 0,
    *,
    labels: list[str] = LABELS,
    threshold: float = 0.5,
    group_size: int = 1,
) -> Outcome:
    """Rows whose labels are drawn from the very probabilities that the model gives."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(len(labels), 0.4), n)
    truth = [labels[rng.choice(len(labels), p=row)] for row in proba]
    return answered(truth, proba, labels, threshold, group_size)


def answered(
    truth: list[str],
    proba: npt.NDArray[np.float64],
    labels: list[str],
    threshold: float = 0.0,
    group_size: int = 1,
) -> Outcome:
    predicted, reasons = [], []
    for row in proba:
        label, sure = labels[int(row.argmax())], float(row.max())
        reason = (
            "out_of_scope" if label == "other" else "low_confidence" if sure < threshold else None
        )
        predicted.append("other" if reason else label)
        reasons.append(reason)
    return Outcome(
        truth=truth,
        proba=proba,
        classes=labels,
        predicted=predicted,
        reasons=reasons,
        groups=[f"story {i // group_size}" for i in range(len(truth))],
        sources=[f"krant {i % 3}" for i in range(len(truth))],
        headlines=[f"Genk wint duel {i}" for i in range(len(truth))],
        teasers=[""] * len(truth),
    )


# Six rows, counted by hand: a is right twice of three, b once of two; the last row is `other`.
SIX = Outcome(
    truth=["a", "a", "a", "b", "b", "other"],
    proba=np.array(
        [
            [0.8, 0.1, 0.1],
            [0.7, 0.2, 0.1],
            [0.3, 0.6, 0.1],
            [0.2, 0.7, 0.1],
            [0.4, 0.35, 0.25],
            [0.1, 0.3, 0.6],
        ]
    ),
    classes=["a", "b", "other"],
    predicted=["a", "a", "b", "b", "other", "other"],
    reasons=[None, None, None, None, "low_confidence", "out_of_scope"],
    sources=["x", "x", "x", "x", "y", "y"],
)


def test_six_rows_are_as_counted_by_hand() -> None:
    found = measure(SIX)
    assert found.n_rows == 6
    a, b, other = (found.labels[label] for label in ("a", "b", "other"))
    assert (a.precision, a.recall, a.f1.value, a.support) == (1.0, 2 / 3, 0.8, 3)
    assert (b.precision, b.recall, b.f1.value, b.support) == (0.5, 0.5, 0.5, 2)
    assert (other.precision, other.recall, other.support) == (0.5, 1.0, 1)
    assert found.accuracy.value == pytest.approx(4 / 6)
    assert found.macro_precision == pytest.approx(2 / 3)
    assert found.macro_recall == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found.weighted_precision == pytest.approx((3 * 1 + 2 * 0.5 + 1 * 0.5) / 6)
    assert found.weighted_recall == pytest.approx(4 / 6)
    assert found.coverage.value == pytest.approx(4 / 6)
    assert found.answered_accuracy.value == pytest.approx(3 / 4)
    # Barred from abstaining, the fifth row is an a: a has 2 of 3 right of 3 said, b 1 of 2 of 2.
    assert found.among_labels.value == pytest.approx((2 * 2 / 6 + 2 * 1 / 4) / 2)
    # The five in scope have p(other) 0.1 or 0.25, below the 0.6 of the one that is not.
    assert found.scope_auroc.value == 1.0
    assert found.log_loss == pytest.approx(
        -sum(math.log(p) for p in (0.8, 0.7, 0.3, 0.7, 0.35, 0.6)) / 6
    )
    squares = [0.06, 0.14, 0.86, 0.14, 0.645, 0.26]
    assert found.brier == pytest.approx(sum(squares) / 6)
    # Bins (0.3, 0.4], (0.5, 0.6], (0.6, 0.7], (0.7, 0.8] with 1, 2, 2 and 1 rows.
    gaps = 1 * abs(0 - 0.4) + 2 * abs(0.5 - 0.6) + 2 * abs(1 - 0.7) + 1 * abs(1 - 0.8)
    assert found.calibration_error == pytest.approx(gaps / 6)
    assert found.notes == (
        "only 3 rows are a: its figures say little",
        "only 2 rows are b: its figures say little",
        "only 1 row is other: its figures say little",
    )


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    own = outcome(300, seed)
    found = measure(own, n_bootstrap=20)
    y, said = np.array(own.truth), np.array(own.predicted)
    each = metrics.precision_recall_fscore_support(y, said, labels=LABELS, zero_division=0)
    for i, label in enumerate(LABELS):
        mine = found.labels[label]
        assert (mine.precision, mine.recall, mine.f1.value) == pytest.approx(
            tuple(part[i] for part in each[:3])
        )
        assert mine.support == each[3][i]
    for kind in ("macro", "weighted"):
        theirs = metrics.precision_recall_fscore_support(y, said, average=kind)
        f1 = found.macro_f1.value if kind == "macro" else found.weighted_f1
        precision, recall = (
            getattr(found, f"{kind}_precision"),
            getattr(found, f"{kind}_recall"),
        )
        assert (precision, recall, f1) == pytest.approx(theirs[:3])
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(y, said))
    assert found.log_loss == pytest.approx(metrics.log_loss(y, own.proba, labels=LABELS))
    assert found.brier == pytest.approx(
        metrics.brier_score_loss(y, own.proba, labels=LABELS, scale_by_half=False)
    )
    assert found.scope_auroc.value == pytest.approx(
        metrics.roc_auc_score(y != "other", 1 - own.proba[:, 1])
    )
    scope = y != "other"
    barred = own.proba.copy()
    barred[:, 1] = -1
    among = metrics.f1_score(
        y[scope], np.array(LABELS)[barred.argmax(axis=1)][scope], average="macro"
    )
    assert found.among_labels.value == pytest.approx(among)
    assert confusion(own)[1].tolist() == metrics.confusion_matrix(y, said, labels=LABELS).tolist()
    assert found.coverage.value == pytest.approx(np.mean(said != "other"))


def test_auroc_counts_ties_as_half() -> None:
    proba = np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1], [0.1, 0.9]])
    own = answered(["a", "other", "a", "other"], proba, ["a", "other"])
    # Of four pairs three are in order and one is a tie.
    assert measure(own).scope_auroc.value == pytest.approx(3.5 / 4)


@pytest.mark.parametrize("label", LABELS)
def test_precision_and_recall_are_those_of_scikit_learn(label: str) -> None:
    own = outcome(200)
    own = replace(own, proba=own.proba.round(1))  # so that there are ties
    precision, recall, threshold = precision_recall(own, label)
    p, r, t = metrics.precision_recall_curve(
        np.array(own.truth) == label, own.proba[:, LABELS.index(label)], drop_intermediate=False
    )
    assert precision == pytest.approx(p[:-1][::-1])
    assert recall == pytest.approx(r[:-1][::-1])
    assert threshold == pytest.approx(t[::-1])


def test_a_label_that_is_not_there_has_no_precision_and_recall() -> None:
    assert [len(part) for part in precision_recall(SIX, "nowhere")] == [0, 0, 0]


def test_figures_by_source_are_those_of_scikit_learn() -> None:
    own = outcome(200)
    found = by_source(own)
    assert sum(n for _, n in found.values()) == 200
    for source, (f1, n) in found.items():
        rows = [i for i in range(200) if own.sources[i] == source]
        y, said = [own.truth[i] for i in rows], [own.predicted[i] for i in rows]
        assert n == len(rows)
        assert f1 == pytest.approx(
            metrics.f1_score(y, said, labels=sorted(set(y)), average="macro", zero_division=0)
        )
    assert list(found.values()) == sorted(found.values(), key=lambda value: -value[0])
    assert by_source(replace(own, sources=())) == {}


def test_reliability_has_every_row_in_one_bin() -> None:
    own = outcome(500)
    # An edge belongs to the bin below it.
    assert reliability(SIX)[3].tolist() == [0, 0, 0, 1, 0, 2, 2, 1, 0, 0]
    middle, accuracy, confidence, count = reliability(own)
    assert count.sum() == 500
    full = count > 0
    assert (np.abs(confidence[full] - middle[full]) <= 0.05 + 1e-12).all()
    assert ((accuracy[full] >= 0) & (accuracy[full] <= 1)).all()
    assert np.isnan(accuracy[~full]).all()


def test_coverage_and_accuracy_of_the_six() -> None:
    coverage, accuracy, threshold = coverage_curve(SIX)
    assert coverage == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert accuracy == pytest.approx([1, 1, 1, 3 / 4, 3 / 5])
    assert threshold == pytest.approx([0.8, 0.7, 0.7, 0.6, 0.4])


# Figures that cannot be had --------------------------------------------------------------------


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [x for part in value.values() for x in _numbers(part)]
    return [value] if isinstance(value, float) else []


@given(
    truth=st.lists(st.sampled_from([*LABELS, "unknown"]), min_size=1, max_size=12),
    n_classes=st.integers(1, 4),
    seed=st.integers(0, 99),
    threshold=st.sampled_from([0.0, 0.6, 2.0]),
    group_size=st.integers(1, 12),
)
def test_no_figure_is_ever_nan(
    truth: list[str], n_classes: int, seed: int, threshold: float, group_size: int
) -> None:
    labels = LABELS[:n_classes]
    proba = np.random.default_rng(seed).dirichlet(np.ones(n_classes), len(truth))
    own = answered(truth, proba, labels, threshold, group_size)
    told = measure(own, n_bootstrap=15).to_dict()
    assert all(math.isfinite(number) for number in _numbers(told))
    assert json.loads(json.dumps(told, allow_nan=False))["n_rows"] == len(truth)
    for estimate in (told["accuracy"], told["macro_f1"], told["coverage"]):
        if estimate["low"] is not None:
            assert 0 <= estimate["low"] <= estimate["high"] <= 1


def test_what_cannot_be_had_is_none() -> None:
    proba = np.array([[0.9, 0.1], [0.8, 0.2]])
    only_scope = measure(answered(["a", "a"], proba, ["a", "b"]))
    assert only_scope.scope_auroc.value is None
    assert only_scope.among_labels.value is None  # one label: nothing to tell apart
    assert only_scope.labels["b"].precision is None
    assert only_scope.labels["b"].f1.value is None
    nothing = measure(answered(["other"] * 2, proba, ["a", "other"], threshold=2))
    assert nothing.answered_accuracy.value is None
    assert nothing.coverage.value == 0
    assert nothing.among_labels.value is None
    strange = measure(answered(["x", "x"], proba, ["a", "other"]))
    assert (strange.log_loss, strange.brier) == (None, None)


def test_no_rows_are_one_clear_sentence() -> None:
    empty = answered([], np.empty((0, 2)), ["a", "other"])
    with pytest.raises(BadRows, match="there are none to measure on"):
        measure(empty)
    with pytest.raises(BadRows, match="there are none to compare on"):
        compare(empty, empty)
    with pytest.raises(BadRows, match="there are none to choose thresholds on"):
        choose_thresholds([], np.empty((0, 2)), ["a", "other"], precision=0.9)


# Intervals -------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_intervals() -> None:
    own = outcome(150)
    assert measure(own, seed=3) == measure(own, seed=3)
    assert measure(own, seed=3).scope_auroc != measure(own, seed=4).scope_auroc


def test_intervals_hold_their_figures_and_narrow_with_rows() -> None:
    few, many = measure(outcome(200)), measure(outcome(5000))
    for found in (few, many):
        for estimate in (found.accuracy, found.macro_f1, found.coverage, found.scope_auroc):
            assert estimate.value is not None
            assert estimate.low is not None
            assert estimate.high is not None
            assert estimate.low < estimate.value < estimate.high

    def width(found: Any) -> float:
        return float(found.high - found.low)

    assert width(many.accuracy) < 0.4 * width(few.accuracy)
    # A share's standard error is known: the interval is 3.92 of them wide.
    share = many.accuracy.value
    assert share is not None
    assert width(many.accuracy) == pytest.approx(
        3.92 * math.sqrt(share * (1 - share) / 5000), rel=0.1
    )


def test_copies_in_a_group_add_no_certainty() -> None:
    one = outcome(300)
    times = [i for i in range(300) for _ in range(4)]
    copied = one.take(times)
    alone, together = measure(one), measure(copied)
    assert together.accuracy.value == pytest.approx(alone.accuracy.value)
    assert together.accuracy.low == pytest.approx(alone.accuracy.low)
    assert together.scope_auroc.high == pytest.approx(alone.scope_auroc.high)
    apart = measure(replace(copied, groups=None))
    assert apart.accuracy.low is not None
    assert together.accuracy.low is not None
    assert apart.accuracy.low > together.accuracy.low


def test_memory_does_not_grow_with_rows_times_resamples() -> None:
    own = outcome(20_000)
    tracemalloc.start()
    measure(own, n_bootstrap=400)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6  # all resamples at once would be 64 MB for each of a dozen arrays


# Promises --------------------------------------------------------------------------------------


def _overconfident(seed: int, n: int) -> tuple[list[int], Any, Any]:
    """Labels, the probabilities that they were drawn from, and what a model says: too much."""
    rng = np.random.default_rng(seed)
    true = np.exp(3 * rng.normal(size=(n, 3)))
    true /= true.sum(axis=1, keepdims=True)
    drawn = (true.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    said = true**1.8
    return drawn.tolist(), true, said / said.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("wanted", [0.8, 0.9, 0.95])
def test_promises_hold_for_rows_to_come(wanted: float) -> None:
    classes = ["a", "b", "other"]
    n_kept = n_broken = 0
    for seed in range(150):
        drawn, true, said = _overconfident(seed, 1500)
        found = choose_thresholds([classes[k] for k in drawn], said, classes, precision=wanted)
        for k, label in enumerate(classes[:2]):
            if found.kept[label]:
                n_kept += 1
                given_ = (said.argmax(axis=1) == k) & (said[:, k] >= found.thresholds[label])
                n_broken += bool(true[given_, k].mean() < wanted)
    assert n_kept > 150  # so that there is something to break
    assert n_broken <= 0.07 * 300


def test_a_promise_says_what_it_counted() -> None:
    drawn, _, said = _overconfident(1, 4000)
    classes = ["a", "b", "other"]
    truth = [classes[k] for k in drawn]
    found = choose_thresholds(truth, said, classes, precision={"a": 0.9})
    held = (said.argmax(axis=1) == 0) & (said[:, 0] >= found.thresholds["a"])
    right = np.array(truth)[held] == "a"
    assert found.kept == {"a": True}
    assert found.precision["a"] == pytest.approx(right.mean())
    assert found.bound["a"] is not None
    assert 0.9 <= found.bound["a"] < right.mean()
    # Without starts to share the error with, the bound would be a little higher.
    alone = beta.ppf(0.05, right.sum(), len(right) - right.sum() + 1)
    assert found.bound["a"] == pytest.approx(alone, abs=0.02)
    # A label without a promise is answered as before.
    assert found.coverage == pytest.approx((held | (said.argmax(axis=1) == 1)).mean())
    assert found.coverage_before == pytest.approx((said.argmax(axis=1) != 2).mean())
    assert "a: " in found.sentences[0]
    assert f"{int(held.sum()):,} of " in found.sentences[0]
    assert json.dumps(found.to_dict())


def test_a_higher_promise_never_answers_more() -> None:
    drawn, _, said = _overconfident(2, 3000)
    truth = [["a", "b", "other"][k] for k in drawn]
    coverage = [
        choose_thresholds(truth, said, ["a", "b", "other"], precision=wanted).coverage
        for wanted in (0.7, 0.8, 0.9, 0.95, 0.99)
    ]
    assert coverage == sorted(coverage, reverse=True)


def test_a_model_that_is_always_right_answers_everything() -> None:
    proba = np.tile([[0.9, 0.1], [0.2, 0.8]], (300, 1))
    found = choose_thresholds(["a", "b"] * 300, proba, ["a", "b"], precision=0.95)
    assert found.thresholds == {"a": 0.0, "b": 0.0}
    assert found.coverage == 1.0


def test_all_the_starts_of_testing_share_one_error() -> None:
    # 2,000 rows leave room for six starts: 0.8^n is 0.05 / 6 at 22, and 32 times that is 704.
    proba = np.tile([0.9, 0.1], (2000, 1)) + np.linspace(0, 0.05, 2000)[:, None] * [1, -1]
    found = choose_thresholds(["a"] * 2000, proba, ["a", "other"], precision=0.8)
    assert found.bound["a"] == pytest.approx((0.05 / 6) ** (1 / 2000), rel=1e-9)


def test_a_promise_that_cannot_be_kept_is_said_so() -> None:
    rng = np.random.default_rng(0)
    proba = np.column_stack([p := rng.uniform(0.5, 1, 500), 1 - p])
    truth = ["a" if right else "other" for right in rng.random(500) < 0.6]
    found = choose_thresholds(truth, proba, ["a", "other"], precision=0.9)
    assert found.kept == {"a": False}
    assert found.thresholds == {"a": NEVER}
    assert found.coverage == 0
    assert found.precision["a"] is not None
    assert found.precision["a"] < 0.9
    assert found.sentences[0].startswith("a: 90.0% cannot be promised, its surest answers are ")


def test_too_few_rows_promise_nothing() -> None:
    proba = np.tile([0.9, 0.1], (15, 1))
    found = choose_thresholds(["a"] * 15, proba, ["a", "other"], precision=0.5)
    assert found.kept == {"a": False}
    assert (found.precision["a"], found.bound["a"]) == (None, None)
    assert "only 15 rows were taken for it" in found.sentences[0]
    # Enough rows, but too few to prove as much: 0.95^n is 0.05 at 59.
    found = choose_thresholds(["a"] * 58, np.tile([0.9, 0.1], (58, 1)), ["a", "x"], precision=0.95)
    assert found.kept["a"] is False
    found = choose_thresholds(["a"] * 59, np.tile([0.9, 0.1], (59, 1)), ["a", "x"], precision=0.95)
    assert found.kept["a"] is True


def test_rows_of_one_story_prove_as_much_as_one() -> None:
    proba = np.tile([0.9, 0.1], (200, 1)) + np.linspace(0, 0.05, 200)[:, None] * [1, -1]
    stories = [str(i // 10) for i in range(200)]
    alone = choose_thresholds(["a"] * 200, proba, ["a", "other"], precision=0.9)
    grouped = choose_thresholds(["a"] * 200, proba, ["a", "other"], precision=0.9, groups=stories)
    assert alone.kept["a"] is True
    assert grouped.kept["a"] is False  # 20 stories: at 0.9 it takes 29 to prove it


def test_rows_of_one_confidence_stand_or_fall_together() -> None:
    proba = np.vstack([np.tile([0.9, 0.1], (300, 1)), np.tile([0.6, 0.4], (300, 1))])
    truth = ["a"] * 300 + ["a", "other"] * 150
    found = choose_thresholds(truth, proba, ["a", "other"], precision=0.9)
    assert found.thresholds["a"] == pytest.approx(0.75)
    assert found.precision["a"] == 1.0
    assert found.coverage == 0.5
    # Neighbouring numbers: halfway is one of the two, and must not be the lower.
    low = 0.6
    for _ in range(4):
        high = float(np.nextafter(low, 1))
        near = np.column_stack([p := np.repeat([high, low], 300), 1 - p])
        found = choose_thresholds(truth, near, ["a", "other"], precision=0.9)
        assert found.thresholds["a"] == high
        low = high


@pytest.mark.parametrize("wanted", [0.0, 1.0, -1.0, 95.0, math.nan, {"a": 1.5}])
def test_a_promise_is_a_share(wanted: Any) -> None:
    with pytest.raises(BadSettings, match=r"promise a share between 0 and 1, such as 0\.95"):
        choose_thresholds(["a"], np.array([[1.0]]), ["a"], precision=wanted)


def test_a_promise_for_an_unknown_label_is_refused() -> None:
    with pytest.raises(BadSettings, match="a precision is promised for 'b', which is none of a"):
        choose_thresholds(["a"], np.array([[1.0]]), ["a"], precision={"b": 0.9})


# Comparing -------------------------------------------------------------------------------------


def test_a_model_is_no_worse_than_itself() -> None:
    own = outcome(200)
    found = compare(own, own)
    assert (found.accuracy.value, found.accuracy.low, found.accuracy.high) == (0, 0, 0)
    assert found.worse == ()
    assert found.flips == ()


def test_differences_are_those_of_the_figures() -> None:
    a, b = outcome(300, threshold=0.3), outcome(300, threshold=0.7)
    found, first, second = compare(a, b), measure(a), measure(b)
    assert found.n_rows == 300
    assert first.accuracy.value is not None
    assert second.accuracy.value is not None
    assert found.accuracy.value == pytest.approx(second.accuracy.value - first.accuracy.value)
    assert first.macro_f1.value is not None
    assert second.macro_f1.value is not None
    assert found.macro_f1.value == pytest.approx(second.macro_f1.value - first.macro_f1.value)
    flips = [i for i in range(300) if a.predicted[i] != b.predicted[i]]
    assert [flip.headline for flip in found.flips] == [a.headlines[i] for i in flips]
    first_flip = found.flips[0]
    assert first_flip.truth == a.truth[flips[0]]
    assert (first_flip.label_a, first_flip.label_b) == (
        a.predicted[flips[0]],
        b.predicted[flips[0]],
    )
    assert first_flip.confidence_b == pytest.approx(b.confidence[flips[0]])
    assert json.dumps(found.to_dict())


def test_only_the_label_that_got_worse_is_named() -> None:
    good = outcome(600)
    good = replace(good, predicted=good.truth, reasons=[None] * 600)
    worse = ["other" if label == "quote" and i % 3 else label for i, label in enumerate(good.truth)]
    found = compare(good, replace(good, predicted=worse))
    assert found.worse == ("other", "quote")
    assert found.labels["match_report"].value == 0
    back = compare(replace(good, predicted=worse), good)
    assert back.worse == ()
    # One row more or less is within the interval.
    slip = list(good.truth)
    slip[0] = "other" if slip[0] != "other" else "quote"
    assert compare(good, replace(good, predicted=slip)).worse == ()


def test_pairing_narrows_the_interval() -> None:
    a = outcome(500)
    slightly = list(a.predicted)
    slightly[:5] = a.truth[:5]
    paired = compare(a, replace(a, predicted=slightly)).accuracy
    alone = measure(a).accuracy
    assert paired.low is not None
    assert paired.high is not None
    assert alone.low is not None
    assert alone.high is not None
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_other_rows_cannot_be_compared() -> None:
    own = outcome(50)
    sentence = "two models can only be compared on the same rows"
    with pytest.raises(BadRows, match=sentence):
        compare(own, outcome(50, seed=1))
    with pytest.raises(BadRows, match=sentence):
        compare(own, replace(own, headlines=["elders"] * 50))
