"""Figures: predictions + truth -> numbers with intervals. Pure: no files, no clock, fixed seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kopwijzer.errors import BadRows, BadSettings

__all__ = [
    "Comparison",
    "Estimate",
    "Figures",
    "Flip",
    "LabelFigures",
    "Outcome",
    "Promise",
    "choose_thresholds",
    "compare",
    "confusion",
    "coverage_curve",
    "measure",
    "reliability",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BINS = 10
#: A threshold is chosen from no fewer answered rows than this.
MIN_ROWS = 20


@dataclass(frozen=True)
class Outcome:
    """What a model said of n rows whose truth is known.

    `truth` may hold the abstaining label. `proba` (n, n_labels) has its columns as in `classes`.
    `predicted` is what was answered, abstaining included; `reasons` says why a row was not.
    `groups` are resampled together (None: every row by itself).
    """

    truth: Sequence[str]
    proba: Floats
    classes: Sequence[str]
    predicted: Sequence[str]
    reasons: Sequence[str | None]
    abstain_label: str = "other"
    groups: Sequence[str] | None = None
    sources: Sequence[str] = ()
    headlines: Sequence[str] = ()
    teasers: Sequence[str] = ()

    def take(self, places: Sequence[int]) -> "Outcome":
        """The outcome of some of the rows, in the order of `places`."""

        def some(values: Sequence[Any] | None) -> list[Any] | None:
            return [values[i] for i in places] if values else None

        return Outcome(
            truth=[self.truth[i] for i in places],
            proba=self.proba[list(places)],
            classes=self.classes,
            predicted=[self.predicted[i] for i in places],
            reasons=[self.reasons[i] for i in places],
            abstain_label=self.abstain_label,
            groups=some(self.groups),
            sources=some(self.sources) or (),
            headlines=some(self.headlines) or (),
            teasers=some(self.teasers) or (),
        )

    @property
    def labels(self) -> list[str]:
        """Every label that occurs, in the model or in the truth, in alphabetical order."""
        return sorted({*self.classes, *self.truth, *self.predicted})

    @property
    def confidence(self) -> Floats:
        """The probability (n,) of the best of all labels."""
        best: Floats = self.proba.max(axis=1)
        return best

    @property
    def best(self) -> list[str]:
        """The likeliest label (n,), thresholds aside."""
        return [self.classes[i] for i in self.proba.argmax(axis=1)]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; None where the rows do not allow it."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """Precision, recall and F1 (0-1) of one label, and the number of rows that have it."""

    precision: float | None
    recall: float | None
    f1: Estimate
    support: int


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of one `Outcome`; shares are 0-1.

    accuracy, macro_* and weighted_* take abstaining as the answer `abstain_label`.
    among_labels : macro-F1 of the rows that are in scope, when abstaining is barred.
    log_loss : natural logarithm; rows whose label the model lacks are left out.
    brier : sum over the labels of the squared error, mean over rows; range 0-2.
    calibration_error : expected calibration error, 10 bins of equal width over the confidence
        (Guo et al. 2017): the mean over rows of |accuracy - confidence| of their bin.
    coverage : share of rows that were answered. answered_accuracy : accuracy on those.
    scope_auroc : area under ROC of in-scope against the abstaining label, by 1 - p(abstain).
    """

    n_rows: int
    labels: dict[str, LabelFigures]
    accuracy: Estimate
    macro_precision: float | None
    macro_recall: float | None
    macro_f1: Estimate
    weighted_f1: float | None
    among_labels: Estimate
    log_loss: float | None
    brier: float | None
    calibration_error: float | None
    coverage: Estimate
    answered_accuracy: Estimate
    scope_auroc: Estimate
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON takes them."""
        return asdict(self)


def measure(outcome: Outcome, *, n_bootstrap: int = 1000, seed: int = 0) -> Figures:
    """The figures of an outcome, with intervals from a bootstrap over its groups.

    Percentile intervals of `n_bootstrap` resamples (Efron and Tibshirani 1993, ch. 13).
    """
    labels = outcome.labels
    place = {label: i for i, label in enumerate(labels)}
    truth = np.array([place[label] for label in outcome.truth])
    said = np.array([place[label] for label in outcome.predicted])
    n, k = len(truth), len(labels)
    if not n:
        raise BadRows("the rows", ["there are none to measure on"])
    abstain = place.get(outcome.abstain_label, -1)
    in_scope = truth != abstain
    columns = np.array([place[label] for label in outcome.classes])
    barred = outcome.proba.copy()
    barred[:, columns == abstain] = -1
    forced = columns[barred.argmax(axis=1)]
    known = np.isin(truth, columns)
    index = {label: i for i, label in enumerate(outcome.classes)}
    column = np.array([index.get(label, 0) for label in outcome.truth])
    one_hot = np.zeros_like(outcome.proba)
    one_hot[np.arange(n)[known], column[known]] = 1

    weights = _resamples(outcome.groups, n, n_bootstrap, seed)
    every = np.ones(n, dtype=bool)
    answered = np.array([reason is None for reason in outcome.reasons])
    table = _tables(truth, said, k, every, weights)
    scope_table = _tables(truth, forced, k, in_scope, weights)
    right = (truth == said).astype(np.float64)
    present = table[0].sum(axis=1) > 0
    precision, recall, f1 = _prf(table)
    support = table[0].sum(axis=1).astype(int)
    seen = present | (table[0].sum(axis=0) > 0)
    scope_labels = scope_table[0].sum(axis=1) > 0
    weighted = float((f1[0] * support).sum() / n)
    notes = [
        f"only {count} rows are {label}: its figures say little"
        for label, count in zip(labels, support.tolist(), strict=True)
        if 0 < count < MIN_ROWS
    ]
    return Figures(
        n_rows=n,
        labels={
            label: LabelFigures(
                precision=float(precision[0, i]) if table[0][:, i].sum() else None,
                recall=float(recall[0, i]) if support[i] else None,
                f1=_estimate(f1[:, i]) if seen[i] else Estimate(None),
                support=int(support[i]),
            )
            for i, label in enumerate(labels)
        },
        accuracy=_estimate(_ratio(weights @ right, weights.sum(axis=1))),
        macro_precision=float(precision[0, seen].mean()),
        macro_recall=float(recall[0, seen].mean()),
        macro_f1=_estimate(f1[:, seen].mean(axis=1)),
        weighted_f1=weighted,
        among_labels=(
            _estimate(_prf(scope_table)[2][:, scope_labels].mean(axis=1))
            if scope_labels.sum() > 1
            else Estimate(None)
        ),
        log_loss=(
            float(-np.log(np.clip(outcome.proba[known, column[known]], 1e-15, 1)).mean())
            if known.any()
            else None
        ),
        brier=float(((outcome.proba - one_hot) ** 2).sum(axis=1)[known].mean())
        if known.any()
        else None,
        calibration_error=_calibration_error(outcome),
        coverage=_estimate(_ratio(weights @ answered, weights.sum(axis=1))),
        answered_accuracy=_estimate(_ratio(weights @ (right * answered), weights @ answered)),
        scope_auroc=_auroc(outcome, in_scope, weights),
        notes=tuple(notes),
    )


# Pieces of measuring ---------------------------------------------------------------------------


def _resamples(groups: Sequence[str] | None, n: int, n_bootstrap: int, seed: int) -> Floats:
    """How often each row counts (1 + n_bootstrap, n): first once, then in each resample."""
    if groups is None:
        number = np.arange(n)
    else:
        number = np.unique(np.asarray(groups), return_inverse=True)[1]
    n_groups = int(number.max()) + 1
    rng = np.random.default_rng(seed)
    weights = np.empty((1 + n_bootstrap, n), dtype=np.float32)
    weights[0] = 1
    for i in range(1, 1 + n_bootstrap):
        drawn = np.bincount(rng.integers(0, n_groups, n_groups), minlength=n_groups)
        weights[i] = drawn[number]
    return weights


def _tables(truth: Ints, said: Ints, k: int, use: npt.NDArray[np.bool_], weights: Floats) -> Floats:
    """A confusion matrix (rows truth, columns said) for each resample."""
    cell = truth * k + said
    one_hot = np.zeros((len(truth), k * k), dtype=np.float32)
    one_hot[np.flatnonzero(use), cell[use]] = 1
    tables: Floats = (weights @ one_hot).reshape(-1, k, k).astype(np.float64)
    return tables


def _prf(tables: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 (n_tables, n_labels); 0 where nothing was said or was there."""
    right = np.einsum("bii->bi", tables)
    said, there = tables.sum(axis=1), tables.sum(axis=2)
    return _ratio(right, said, 0.0), _ratio(right, there, 0.0), _ratio(2 * right, said + there, 0.0)


def _ratio(a: Floats, b: Floats, empty: float = float("nan")) -> Floats:
    return np.divide(a, b, out=np.full(np.shape(a), empty, dtype=np.float64), where=b > 0)


def _estimate(values: Floats) -> Estimate:
    """The first value with the 95 % interval of the others."""
    if not np.isfinite(values[0]):
        return Estimate(None)
    rest = values[1:][np.isfinite(values[1:])]
    if len(rest) < 10:
        return Estimate(float(values[0]))
    low, high = np.quantile(rest, [0.025, 0.975])
    return Estimate(float(values[0]), float(low), float(high))


def _auroc(outcome: Outcome, in_scope: npt.NDArray[np.bool_], weights: Floats) -> Estimate:
    if outcome.abstain_label not in outcome.classes or in_scope.all() or not in_scope.any():
        return Estimate(None)
    score = 1 - outcome.proba[:, list(outcome.classes).index(outcome.abstain_label)]
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(score[order]) > 0))
    value = weights[:, order]
    positive = np.add.reduceat(value * in_scope[order], starts, axis=1, dtype=np.float64)
    negative = np.add.reduceat(value * ~in_scope[order], starts, axis=1, dtype=np.float64)
    below = np.cumsum(negative, axis=1) - negative
    area = (positive * (below + negative / 2)).sum(axis=1)
    return _estimate(_ratio(area, positive.sum(axis=1) * negative.sum(axis=1)))


def _calibration_error(outcome: Outcome) -> float | None:
    _, accuracy, confidence, count = reliability(outcome)
    full = count > 0
    gap = np.abs(accuracy[full] - confidence[full])
    return float((gap * count[full]).sum() / count.sum())


# Curves ----------------------------------------------------------------------------------------


def reliability(outcome: Outcome) -> tuple[Floats, Floats, Floats, Ints]:
    """Ten equal bins of the confidence: their middles, accuracy, mean confidence and counts."""
    confidence = outcome.confidence
    right = np.array(outcome.best) == np.asarray(outcome.truth)
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    count = np.bincount(bins, minlength=_BINS)
    accuracy = _ratio(np.bincount(bins, right, _BINS), count)
    mean = _ratio(np.bincount(bins, confidence, _BINS), count)
    return (np.arange(_BINS) + 0.5) / _BINS, accuracy, mean, count


def confusion(outcome: Outcome) -> tuple[list[str], Ints]:
    """The labels, and how often each (rows) was answered as each (columns)."""
    labels = outcome.labels
    place = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for truth, said in zip(outcome.truth, outcome.predicted, strict=True):
        table[place[truth], place[said]] += 1
    return labels, table


def coverage_curve(outcome: Outcome) -> tuple[Floats, Floats, Floats]:
    """If only the most confident in-scope answers were given: coverage, accuracy, threshold.

    Rows whose likeliest label is the abstaining one are never answered.
    """
    best = np.array(outcome.best)
    answer = np.flatnonzero(best != outcome.abstain_label)
    order = answer[np.argsort(-outcome.confidence[answer], kind="stable")]
    right = (best == np.asarray(outcome.truth))[order]
    given = np.arange(1, len(order) + 1)
    return given / len(best), np.cumsum(right) / given, outcome.confidence[order]


# Promises --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promise:
    """Thresholds chosen so that each label's precision is at least what was asked.

    `kept` says for each label whether that could be had; a label whose promise cannot be kept has
    a threshold of 1 and is all but never given. `precision` and `bound` are the precision of the
    answered out-of-fold rows and its lower confidence bound; `coverage` the share answered.
    """

    asked: dict[str, float]
    thresholds: dict[str, float]
    kept: dict[str, bool]
    precision: dict[str, float | None]
    bound: dict[str, float | None]
    coverage: float
    coverage_before: float
    sentences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The promise as JSON takes it."""
        return asdict(self)


def choose_thresholds(
    truth: Sequence[str],
    proba: Floats,
    classes: Sequence[str],
    *,
    precision: float | Mapping[str, float],
    groups: Sequence[str] | None = None,
    confidence: float = 0.95,
    abstain_label: str = "other",
) -> Promise:
    """For each label the lowest threshold at which its precision is at least what is promised.

    `truth` (n,) and `proba` (n, n_labels) are out of fold. Going down from the most confident row
    of a label, a threshold holds when the one-sided Clopper-Pearson bound of the precision above
    it is at least the promise; the last that holds before the first that does not is taken. That
    is fixed-sequence testing, which needs no correction for having looked at many thresholds
    (Angelopoulos et al. 2021, "Learn then Test", section 4.2). Steps are 20 rows or more. Where
    rows come in groups, the counts are divided by the mean number of rows per group, since rows
    of one story are one observation.
    """
    asked = _asked(precision, classes, abstain_label)
    best = proba.argmax(axis=1)
    share = len(truth) / len(set(groups)) if groups is not None else 1.0
    thresholds, kept, got, bounds = {}, {}, {}, {}
    sentences: list[str] = []
    answered = np.zeros(len(truth), dtype=bool)
    for column, label in enumerate(classes):
        if label == abstain_label:
            continue
        rows = np.flatnonzero(best == column)
        rows = rows[np.argsort(-proba[rows, column], kind="stable")]
        right = np.cumsum([truth[i] == label for i in rows])
        wanted = asked.get(label)
        if wanted is None:
            answered[rows] = True
            continue
        steps = _steps(len(rows))
        held = 0
        for step in steps:
            if _lower_bound(right[step - 1] / share, step / share, confidence) < wanted:
                break
            held = step
        kept[label] = held > 0
        # Halfway to the next row: the threshold then does not hang on the last digit of one.
        inside = float(proba[rows[held - 1], column]) if held else 1.0
        after = float(proba[rows[held], column]) if held < len(rows) else 0.0
        thresholds[label] = (
            (inside + after) / 2 if held and held < len(rows) else (0.0 if held else 1.0)
        )
        answered[rows[:held]] = True
        got[label] = float(right[held - 1] / held) if held else None
        bounds[label] = (
            float(_lower_bound(right[held - 1] / share, held / share, confidence)) if held else None
        )
        sentences.append(_sentence(label, wanted, held, len(rows), right, thresholds[label]))
    before = float((best != _column_of(classes, abstain_label)).mean())
    after_all = float(answered.mean())
    sentences.append(f"answered: {after_all:.1%} of the rows, {before:.1%} without the promise")
    return Promise(asked, thresholds, kept, got, bounds, after_all, before, tuple(sentences))


def _asked(
    precision: float | Mapping[str, float], classes: Sequence[str], abstain_label: str
) -> dict[str, float]:
    labels = [label for label in classes if label != abstain_label]
    if isinstance(precision, Mapping):
        unknown = [label for label in precision if label not in labels]
        if unknown:
            raise BadSettings(
                f"a precision is promised for {unknown[0]!r}, which is none of {', '.join(labels)}"
            )
        asked = dict(precision)
    else:
        asked = dict.fromkeys(labels, precision)
    bad = next((value for value in asked.values() if not 0 < value < 1), None)
    if bad is not None:
        raise BadSettings(f"precision {bad}: promise a share between 0 and 1, such as 0.95")
    return asked


def _steps(n: int) -> list[int]:
    """Numbers of answered rows at which a threshold is tested: 20, then 2 % more each time."""
    steps, here = [], MIN_ROWS
    while here < n:
        steps.append(here)
        here = max(here + 1, int(here * 1.02))
    return [*steps, n] if n >= MIN_ROWS else []


def _lower_bound(right: float, n: float, confidence: float) -> float:
    """The one-sided lower Clopper-Pearson bound of a share of `right` in `n`."""
    from scipy.stats import beta

    if right <= 0:
        return 0.0
    return float(beta.ppf(1 - confidence, right, n - right + 1))


def _sentence(label: str, wanted: float, held: int, n: int, right: Ints, threshold: float) -> str:
    if held:
        return (
            f"{label}: {right[held - 1] / held:.1%} right above {threshold:.3f}; "
            f"{held:,} of {n:,} answers are given"
        )
    if n < MIN_ROWS:
        return f"{label}: {wanted:.0%} cannot be promised, only {n} rows were taken for it"
    return (
        f"{label}: {wanted:.0%} cannot be promised, its surest rows are not right often enough "
        "or too few; it is not given"
    )


def _column_of(classes: Sequence[str], label: str) -> int:
    return list(classes).index(label) if label in classes else -1


# Comparing -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flip:
    """A row on which two models differ."""

    headline: str
    truth: str
    label_a: str
    label_b: str
    confidence_a: float
    confidence_b: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """B against A on the same rows: differences are B - A with 95 % intervals.

    `worse` are the labels whose F1 fell beyond the interval.
    """

    n_rows: int
    accuracy: Estimate
    macro_f1: Estimate
    labels: dict[str, Estimate]
    worse: tuple[str, ...]
    flips: tuple[Flip, ...]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON takes it."""
        return asdict(self)


def compare(a: Outcome, b: Outcome, *, n_bootstrap: int = 1000, seed: int = 0) -> Comparison:
    """The paired bootstrap of two models on the same rows (Koehn 2004), and where they differ."""
    if list(a.truth) != list(b.truth):
        raise BadRows("the rows", ["two models can only be compared on the same rows"])
    labels = sorted({*a.labels, *b.labels})
    place = {label: i for i, label in enumerate(labels)}
    truth = np.array([place[label] for label in a.truth])
    weights = _resamples(a.groups, len(truth), n_bootstrap, seed)
    every = np.ones(len(truth), dtype=bool)
    f1, accuracy, seen = [], [], np.zeros(len(labels), dtype=bool)
    for one in (a, b):
        said = np.array([place[label] for label in one.predicted])
        tables = _tables(truth, said, len(labels), every, weights)
        f1.append(_prf(tables)[2])
        accuracy.append(_ratio(weights @ (truth == said), weights.sum(axis=1)))
        seen |= (tables[0].sum(axis=0) + tables[0].sum(axis=1)) > 0
    by_label = {
        label: _estimate(f1[1][:, i] - f1[0][:, i]) for i, label in enumerate(labels) if seen[i]
    }
    return Comparison(
        n_rows=len(truth),
        accuracy=_estimate(accuracy[1] - accuracy[0]),
        macro_f1=_estimate((f1[1] - f1[0])[:, seen].mean(axis=1)),
        labels=by_label,
        worse=tuple(
            label for label, found in by_label.items() if found.high is not None and found.high < 0
        ),
        flips=tuple(
            Flip(headline, real, first, second, float(sure_a), float(sure_b))
            for headline, real, first, second, sure_a, sure_b in zip(
                a.headlines or [""] * len(truth),
                a.truth,
                a.predicted,
                b.predicted,
                a.confidence,
                b.confidence,
                strict=True,
            )
            if first != second
        ),
    )
