"""Figures: predictions + truth -> numbers with intervals. Pure: no files, no clock, fixed seeds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    "by_source",
    "choose_thresholds",
    "compare",
    "confusion",
    "coverage_curve",
    "measure",
    "precision_recall",
    "reliability",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BINS = 10
_CELLS = 1 << 21  # of resamples x rows worked on at once, to bound memory
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

    accuracy, macro_* and weighted_* take abstaining as the answer `abstain_label`; a label that
    is never answered has a precision of None by itself and of 0 in the means.
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
    weighted_precision: float | None
    weighted_recall: float | None
    weighted_f1: float | None
    among_labels: Estimate
    log_loss: float | None
    brier: float | None
    calibration_error: float
    coverage: Estimate
    answered_accuracy: Estimate
    scope_auroc: Estimate
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON takes them."""
        return asdict(self)


def measure(outcome: Outcome, *, n_bootstrap: int = 1000, seed: int = 0) -> Figures:
    """The figures of an outcome, with intervals from a bootstrap over its groups.

    Percentile intervals of `n_bootstrap` resamples (Efron and Tibshirani 1993, ch. 13). A label
    that a resample happens to lack says nothing there.

    >>> says = Outcome(
    ...     truth=["win", "win", "other"],
    ...     proba=np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]]),
    ...     classes=["win", "other"],
    ...     predicted=["win", "other", "win"],
    ...     reasons=[None, "low_confidence", None],
    ... )
    >>> found = measure(says)
    >>> found.labels["win"].precision, found.labels["win"].recall, round(found.brier, 3)
    (0.5, 0.5, 0.44)
    """
    n = len(outcome.truth)
    if not n:
        raise BadRows("the rows", ["there are none to measure on"])
    labels = outcome.labels
    truth, said = _places(outcome.truth, labels), _places(outcome.predicted, labels)
    columns = _places(outcome.classes, labels)
    in_scope = np.array([label != outcome.abstain_label for label in outcome.truth])
    answered = np.array([reason is None for reason in outcome.reasons])
    right = truth == said
    barred = outcome.proba.copy()
    barred[:, [label == outcome.abstain_label for label in outcome.classes]] = -1
    forced = columns[barred.argmax(axis=1)]

    resamples = _Resamples.of(outcome.groups, n, n_bootstrap, seed)
    counts, scope_counts, sums = resamples.sums(
        _marks(truth, said, len(labels)),
        _marks(truth, forced, len(labels)) * in_scope[:, None],
        np.stack([np.ones(n), right, answered, right & answered], axis=1),
    )
    precision, recall, f1 = _prf(counts)
    _, n_said, support = (part[0].astype(int) for part in _thirds(counts))
    seen = (support > 0) | (n_said > 0)
    # Of labels that nobody said or has, nothing is known: those are not in the means.
    scope_labels = _thirds(scope_counts)[2][0] > 0
    weighted = [
        float((np.nan_to_num(part[0]) * support).sum() / n) for part in (precision, recall, f1)
    ]
    log_loss, brier = _losses(outcome)
    return Figures(
        n_rows=n,
        labels={
            label: LabelFigures(
                precision=_known(precision[0, i]),
                recall=_known(recall[0, i]),
                f1=_estimate(f1[:, i]),
                support=int(support[i]),
            )
            for i, label in enumerate(labels)
        },
        accuracy=_estimate(_ratio(sums[:, 1], sums[:, 0])),
        macro_precision=float(np.nan_to_num(precision[0, seen]).mean()),
        macro_recall=float(np.nan_to_num(recall[0, seen]).mean()),
        macro_f1=_estimate(_mean(f1[:, seen])),
        weighted_precision=weighted[0],
        weighted_recall=weighted[1],
        weighted_f1=weighted[2],
        among_labels=(
            _estimate(_mean(_prf(scope_counts)[2][:, scope_labels]))
            if scope_labels.sum() > 1
            else Estimate(None)
        ),
        log_loss=log_loss,
        brier=brier,
        calibration_error=_calibration_error(outcome),
        coverage=_estimate(_ratio(sums[:, 2], sums[:, 0])),
        answered_accuracy=_estimate(_ratio(sums[:, 3], sums[:, 2])),
        scope_auroc=_auroc(outcome, in_scope, resamples),
        notes=tuple(
            f"only {count:,} {'row is' if count == 1 else 'rows are'} {label}: "
            "its figures say little"
            for label, count in zip(labels, support.tolist(), strict=True)
            if 0 < count < MIN_ROWS
        ),
    )


# Pieces of measuring ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Resamples:
    """Draws of whole groups with replacement; the same ones each time they are asked for."""

    number: Ints  # of each row's group
    n_groups: int
    n_bootstrap: int
    seed: int

    @classmethod
    def of(cls, groups: Sequence[str] | None, n: int, n_bootstrap: int, seed: int) -> "_Resamples":
        number = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
        return cls(number, int(number.max()) + 1, n_bootstrap, seed)

    def each(self, statistic: Callable[[Floats], Floats]) -> Floats:
        """A statistic of the rows as they are, then of every resample.

        It is given how often each group was drawn, (some of the resamples, n_groups).
        """
        return np.concatenate([statistic(drawn) for drawn in self._draws()])

    def _draws(self) -> Iterator[Floats]:
        rng = np.random.default_rng(self.seed)
        yield np.ones((1, self.n_groups))
        at_once = max(1, _CELLS // len(self.number))
        for start in range(0, self.n_bootstrap, at_once):
            many = min(at_once, self.n_bootstrap - start)
            drawn = np.empty((many, self.n_groups))
            for i in range(many):
                places = rng.integers(0, self.n_groups, self.n_groups)
                drawn[i] = np.bincount(places, minlength=self.n_groups)
            yield drawn

    def sums(self, *values: Floats) -> list[Floats]:
        """The sums (1 + n_bootstrap, width) of values (n, width) over the rows of each resample."""
        every = np.concatenate(values, axis=1)
        order = np.argsort(self.number, kind="stable")
        starts = np.searchsorted(self.number[order], np.arange(self.n_groups))
        by_group = np.add.reduceat(every[order], starts, axis=0)
        edges = np.cumsum([part.shape[1] for part in values])[:-1]
        return list(np.split(self.each(lambda drawn: drawn @ by_group), edges, axis=1))


def _places(names: Sequence[str], labels: Sequence[str]) -> Ints:
    place = {label: i for i, label in enumerate(labels)}
    return np.array([place[name] for name in names], dtype=np.int64)


def _marks(truth: Ints, said: Ints, n_labels: int) -> Floats:
    """(n, 3 * n_labels) of 0 and 1: rightly said, said, and true, by label."""
    marks = np.zeros((3, len(truth), n_labels))
    rows = np.arange(len(truth))
    marks[1, rows, said] = 1
    marks[2, rows, truth] = 1
    marks[0] = marks[1] * marks[2]
    return np.concatenate(list(marks), axis=1)


def _thirds(counts: Floats) -> list[Floats]:
    return np.split(counts, 3, axis=1)


def _prf(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 (n_resamples, n_labels), nan where there is nothing to divide by."""
    right, said, there = _thirds(counts)
    return _ratio(right, said), _ratio(right, there), _ratio(2 * right, said + there)


def _mean(values: Floats) -> Floats:
    """The mean of each line over what is known in it."""
    there = np.isfinite(values)
    return _ratio(np.where(there, values, 0.0).sum(axis=1), there.sum(axis=1))


def _ratio(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Floats:
    found: Floats = np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 0)
    return found


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _estimate(values: Floats) -> Estimate:
    """The first value with the 95 % interval of the others."""
    if not np.isfinite(values[0]):
        return Estimate(None)
    rest = values[1:][np.isfinite(values[1:])]
    if len(rest) < 10:
        return Estimate(float(values[0]))
    low, high = np.quantile(rest, [0.025, 0.975])
    return Estimate(float(values[0]), float(low), float(high))


def _losses(outcome: Outcome) -> tuple[float | None, float | None]:
    """Log loss and Brier score of the rows whose label the model has."""
    column = {label: i for i, label in enumerate(outcome.classes)}
    rows = np.array([i for i, label in enumerate(outcome.truth) if label in column], dtype=int)
    if not len(rows):
        return None, None
    own = np.array([column[outcome.truth[i]] for i in rows])
    proba = outcome.proba[rows].astype(np.float64)
    log_loss = -np.log(np.clip(proba[np.arange(len(rows)), own], 1e-15, 1)).mean()
    proba[np.arange(len(rows)), own] -= 1
    return float(log_loss), float((proba**2).sum(axis=1).mean())


def _auroc(outcome: Outcome, in_scope: npt.NDArray[np.bool_], resamples: _Resamples) -> Estimate:
    """The share of pairs (in scope, not) in which the first has the higher score; ties are half."""
    if outcome.abstain_label not in outcome.classes or in_scope.all() or not in_scope.any():
        return Estimate(None)
    score = 1 - outcome.proba[:, list(outcome.classes).index(outcome.abstain_label)]
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(score[order]) > 0))
    number, above = resamples.number[order], in_scope[order]

    def area(drawn: Floats) -> Floats:
        times = drawn[:, number]
        positive = np.add.reduceat(times * above, starts, axis=1)
        negative = np.add.reduceat(times * ~above, starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        return _ratio((positive * below).sum(axis=1), pairs)

    return _estimate(resamples.each(area))


def _calibration_error(outcome: Outcome) -> float:
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
    table = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(table, (_places(outcome.truth, labels), _places(outcome.predicted, labels)), 1)
    return labels, table


def precision_recall(outcome: Outcome, label: str) -> tuple[Floats, Floats, Floats]:
    """Precision and recall of a label at every threshold of its probability, highest first.

    Empty where the model lacks the label or no row has it.
    """
    truth = np.array([name == label for name in outcome.truth])
    if label not in outcome.classes or not truth.any():
        return (np.empty(0),) * 3
    score = outcome.proba[:, list(outcome.classes).index(label)]
    order = np.argsort(-score, kind="stable")
    # Rows of one probability are on the same side of every threshold.
    last = np.flatnonzero(np.append(np.diff(score[order]) < 0, True))
    right = np.cumsum(truth[order])[last]
    return right / (last + 1), right / truth.sum(), score[order][last]


def by_source(outcome: Outcome) -> dict[str, tuple[float, int]]:
    """Macro-F1 over the labels that a source has, and its number of rows; by source, best first."""
    if not outcome.sources:
        return {}
    labels = outcome.labels
    marks = _marks(_places(outcome.truth, labels), _places(outcome.predicted, labels), len(labels))
    names, number = np.unique(outcome.sources, return_inverse=True)
    found = {}
    for i, name in enumerate(names.tolist()):
        own = marks[number == i]
        f1 = _prf(own.sum(axis=0, keepdims=True))[2][0]
        has = _thirds(own.sum(axis=0, keepdims=True))[2][0] > 0
        found[name] = (float(f1[has].mean()), len(own))
    return dict(sorted(found.items(), key=lambda item: (-item[1][0], item[0])))


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


#: A threshold that no confidence reaches: the label is never given.
NEVER = 1.01
_MOST_STARTS = 6


@dataclass(frozen=True, slots=True)
class Promise:
    """Thresholds chosen so that each label's precision is at least what was asked.

    `kept` says for each label whether that could be had; a label whose promise cannot be kept has
    a threshold of 1.01 and is never given. `precision` and `bound` are the precision of the
    answered out-of-fold rows and its lower confidence bound, or the best that there was where the
    promise is not kept; None with too few rows. `coverage` is the share answered.
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

    `truth` (n,) and `proba` (n, n_labels) are out of fold. Each label's promise holds with
    `confidence`, though its threshold is chosen on the rows that prove it: thresholds are tested
    from high to low, and the last that passes before the first that fails is taken. That is
    fixed-sequence testing, which needs no correction for having looked at many thresholds
    (Angelopoulos et al. 2021, "Learn then Test"). As few rows cannot prove a
    high precision whatever they say, testing starts at the number of rows that could, and again
    at twice that number and so on; the starts share the error evenly (Bonferroni). A threshold
    passes when the lower Clopper-Pearson bound of the precision above it is at least the promise.
    Rows of one group count as one observation: n rows of groups with m_g of them each are worth
    n^2 / sum(m_g^2) (Kish 1965, at full correlation).

    Raises
    ------
    BadSettings
        A promise is not between 0 and 1, or for a label that the model lacks.
    BadRows
        There are no rows.
    """
    asked = _asked(precision, classes, abstain_label)
    if not len(truth):
        raise BadRows("the rows", ["there are none to choose thresholds on"])
    best = proba.argmax(axis=1)
    number = _Resamples.of(groups, len(truth), 0, 0).number
    right = np.array([classes[top] == label for top, label in zip(best, truth, strict=True)])
    trials: dict[str, _Trial] = {}
    answered = np.zeros(len(truth), dtype=bool)
    for column, label in enumerate(classes):
        if label == abstain_label:
            continue
        rows = np.flatnonzero(best == column)
        if label not in asked:
            answered[rows] = True
            continue
        rows = rows[np.argsort(-proba[rows, column], kind="stable")]
        trial = _try(proba[rows, column], right[rows], number[rows], asked[label], 1 - confidence)
        trials[label] = trial
        answered[rows[: trial.n_held]] = True
    before = float((best != _column_of(classes, abstain_label)).mean())
    coverage = float(answered.mean())
    told = [_sentence(label, asked[label], trial) for label, trial in trials.items()]
    told.append(f"answered: {coverage:.1%} of the rows, {before:.1%} without the promise")
    return Promise(
        asked=asked,
        thresholds={label: trial.threshold for label, trial in trials.items()},
        kept={label: trial.n_held > 0 for label, trial in trials.items()},
        precision={label: trial.precision for label, trial in trials.items()},
        bound={label: trial.bound for label, trial in trials.items()},
        coverage=coverage,
        coverage_before=before,
        sentences=tuple(told),
    )


@dataclass(frozen=True, slots=True)
class _Trial:
    """What testing the thresholds of one label came to."""

    n_rows: int
    n_held: int
    threshold: float
    precision: float | None
    bound: float | None


def _try(
    score: Floats, right: npt.NDArray[np.bool_], number: Ints, wanted: float, error: float
) -> _Trial:
    """Test the thresholds of a label whose rows come highest score first."""
    n = len(score)
    # A threshold lies between two scores, so rows of one score stand or fall together.
    ends = np.flatnonzero(np.append(score[1:] < score[:-1], True)[:n]) + 1
    ends = ends[ends >= MIN_ROWS]
    if not len(ends):
        return _Trial(n, 0, NEVER, None, None)
    worth = _worth(number)[ends - 1]
    starts, error = _starts(worth, wanted, error)
    share = np.cumsum(right)[ends - 1] / ends
    bounds = _lower_bounds(share * worth, worth, error)
    steps = _steps(ends, starts)
    failed = steps[bounds[steps] < wanted]
    held = -1
    for start in starts:
        stop = next((step for step in failed if step >= start), n)
        passed = steps[(steps >= start) & (steps < stop)]
        held = max(held, int(passed[-1]) if len(passed) else -1)
    if held < 0:
        top = int(bounds.argmax())
        return _Trial(n, 0, NEVER, float(share[top]), float(bounds[top]))
    n_held = int(ends[held])
    return _Trial(n, n_held, _between(score, n_held), float(share[held]), float(bounds[held]))


def _worth(number: Ints) -> Floats:
    """How many independent rows the first 1, 2, ... n rows are worth, by their groups."""
    seen: dict[int, int] = {}
    squares = np.empty(len(number))
    total = 0
    for i, group in enumerate(number.tolist()):
        size = seen.get(group, 0)
        total += 2 * size + 1  # (size + 1)^2 - size^2
        seen[group] = size + 1
        squares[i] = total
    worth: Floats = np.arange(1, len(number) + 1) ** 2 / squares
    return worth


def _starts(worth: Floats, wanted: float, error: float) -> tuple[list[int], float]:
    """The places at which testing starts, and the error that each may make.

    They hang on how many rows there are, never on which are right.
    """
    for many in range(_MOST_STARTS, 0, -1):
        # Rows that prove the promise if all are right: error = wanted^rows.
        least = np.log(error / many) / np.log(wanted)
        found = [np.flatnonzero(worth >= least * 2**k) for k in range(many)]
        if all(len(places) for places in found):
            return sorted({int(places[0]) for places in found}), error / many
    return [], error


def _steps(ends: Ints, starts: Sequence[int]) -> Ints:
    """Places at which thresholds are tested: the starts, and rows by 1 % more each time."""
    apart = np.log(ends / ends[0]) // np.log(1.01)
    new = np.flatnonzero(np.append(True, np.diff(apart) > 0))
    return np.unique(np.concatenate([new, np.array(starts, dtype=int), [len(ends) - 1]]))


def _lower_bounds(right: Floats, n: Floats, error: float) -> Floats:
    """One-sided lower Clopper-Pearson bounds of shares of `right` in `n`."""
    from scipy.stats import beta

    some = right > 0
    bounds = np.zeros(len(n))
    bounds[some] = beta.ppf(error, right[some], n[some] - right[some] + 1)
    return bounds


def _between(score: Floats, n_held: int) -> float:
    """A threshold that the first `n_held` scores reach and the next does not."""
    inside = float(score[n_held - 1])
    if n_held == len(score):
        return 0.0
    # Halfway to the next row: the threshold then does not hang on the last digit of one.
    halfway = (inside + float(score[n_held])) / 2
    return halfway if halfway > score[n_held] else inside


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


def _sentence(label: str, wanted: float, trial: _Trial) -> str:
    if trial.n_held:
        return (
            f"{label}: {trial.precision:.1%} right above {trial.threshold:.3f}, at least "
            f"{trial.bound:.1%} to be sure; {trial.n_held:,} of {trial.n_rows:,} answers are given"
        )
    reason = f"only {trial.n_rows:,} rows were taken for it"
    if trial.bound is not None:
        reason = f"its surest answers are {trial.precision:.1%} right, and {trial.bound:.1%} sure"
    return f"{label}: {wanted:.1%} cannot be promised, {reason}; it is not given"


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
    if a.headlines and b.headlines and list(a.headlines) != list(b.headlines):
        raise BadRows("the rows", ["two models can only be compared on the same rows"])
    labels = sorted({*a.labels, *b.labels})
    truth = _places(a.truth, labels)
    if not len(truth):
        raise BadRows("the rows", ["there are none to compare on"])
    said = [_places(one.predicted, labels) for one in (a, b)]
    resamples = _Resamples.of(a.groups, len(truth), n_bootstrap, seed)
    *counts, sums = resamples.sums(
        *(_marks(truth, own, len(labels)) for own in said),
        np.stack([np.ones(len(truth)), *(truth == own for own in said)], axis=1),
    )
    # A label that one of the two never says, and no row has, counts as 0 for it.
    f1 = [np.nan_to_num(_prf(own)[2]) for own in counts]
    apart = f1[1] - f1[0]
    seen = sum(own[0].reshape(3, -1)[1:].sum(axis=0) for own in counts) > 0
    by_label = {label: _estimate(apart[:, i]) for i, label in enumerate(labels) if seen[i]}
    return Comparison(
        n_rows=len(truth),
        accuracy=_estimate(_ratio(sums[:, 2] - sums[:, 1], sums[:, 0])),
        macro_f1=_estimate(apart[:, seen].mean(axis=1)),
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
