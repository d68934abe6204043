"""The recipe: settings -> read, split, learn, measure, save. No arithmetic of its own.

`train` makes a version with honest figures; `fit` makes only the scorer.
"""

import contextlib
import hashlib
import json
import platform
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version as installed
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kopwijzer import check, figures, learning, report, versions
from kopwijzer.duplicates import near_duplicate_groups
from kopwijzer.engines import Engine
from kopwijzer.errors import BadRows, BadSettings
from kopwijzer.figures import Figures, Outcome
from kopwijzer.headlines import Headline, read
from kopwijzer.report import Measured
from kopwijzer.scorer import Abstention, Scorer
from kopwijzer.settings import Settings, recipe_of, shipped
from kopwijzer.splits import splits, story_groups
from kopwijzer.spool import Spool, unlearnable

__all__ = [
    "Progress",
    "check_rows",
    "evaluate",
    "fingerprint",
    "fit",
    "learning_arguments",
    "read_labelled",
    "train",
]

Floats = npt.NDArray[np.float64]
#: Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]

#: Headlines that must be answered alike for ever, whatever the data: the edges of the domain.
_EDGE_PROBES = [("", ""), ("qqq zzz", ""), ("⚽🔥", ""), ("2-1", ""), ("'a'", '"b"')]


def train(
    source: str | PathLike[str] | Iterable[Mapping[str, Any]] | None = None,
    settings: Settings | None = None,
    models: str | PathLike[str] | None = None,
    *,
    name: str = "football-nl",
    engine: Engine | None = None,
    progress: Progress | None = None,
    history: Mapping[str, Any] | None = None,
) -> versions.Version:
    """Learn from labelled rows, measure honestly, and save a new version.

    `source` is what `kopwijzer.headlines.read` takes; without one it is the shipped corpus.
    Without settings it is trained by `kopwijzer.settings.recipe_of` it.
    `history` (how the settings were found) goes into the report as it is.

    Raises
    ------
    BadSource, BadRows
        The rows cannot be read, or are too few or too alike to learn from.
    NoRoom
        The models folder cannot be written.
    """
    settings = settings or Settings.read(recipe_of(source))
    say = progress or _silent
    if settings.learning.chunk_rows is not None:
        return _train_in_chunks(source, settings, models, name, say)
    engine = engine or Engine()
    rows = read_labelled(source, settings)
    truth = [str(row.label) for row in rows]
    say("near-duplicates", 0, 1)
    groups = story_groups(rows, settings)
    measured = _cross_validate(rows, truth, groups, settings, engine, say)
    say("fit", 0, 1)
    pipeline = _fit_pipeline(rows, truth, settings)
    rule = settings.abstains(measured.promise.thresholds if measured.promise else None, set(truth))
    learning.settle(
        pipeline,
        temperature=measured.temperature,
        prior_shift=_prior_shift(truth, settings),
    )
    scorer = learning.to_scorer(pipeline, rule)
    say("fit", 1, 1)
    curve = _learning_curve(rows, truth, groups, settings, engine, say)
    measured = replace(measured, curve=curve)
    facts = _facts(rows, truth, settings, measured, source)
    return _save(name, pipeline, scorer, rows, measured, facts, models, say, history)


def _save(
    name: str,
    pipeline: Any,
    scorer: Scorer,
    rows: Sequence[Headline],
    measured: Measured,
    facts: Mapping[str, Any],
    models: str | PathLike[str] | None,
    say: Progress,
    history: Mapping[str, Any] | None = None,
) -> versions.Version:
    """Write the version with its report, card and probes."""
    strongest = learning.strongest_words(pipeline, rows)
    say("save", 0, 1)
    saved = versions.save(
        name,
        scorer=scorer,
        pipeline=pipeline,
        probes=_probes(rows),
        facts=facts,
        files=lambda manifest: report.files(manifest, measured, strongest, history),
        models=models,
    )
    say("save", 1, 1)
    return saved


def _train_in_chunks(
    source: Any, settings: Settings, models: str | PathLike[str] | None, name: str, say: Progress
) -> versions.Version:
    """`train` for rows that do not fit in memory: they lie in a memory-mapped Arrow file, shuffled.

    Cross-validation would read them many times over; instead a share of the stories (by a hash of
    their headline, so that copies stay together) is held out, half to calibrate, half to measure.
    """
    if settings.abstention.precision is not None:
        raise BadSettings(
            "abstention.precision: learning.chunk_rows leaves no cross-validation to promise "
            "from; take either out, or set abstention.min_confidence"
        )
    with Spool.of(source, settings, say) as spool:
        _check_prior(spool.counts, settings)
        say("fit", 0, 1)
        pipeline = learning.fit_in_chunks(
            lambda: spool.chunks("train"), **learning_arguments(settings)
        )
        say("fit", 1, 1)
        held, counts = spool.held_out(), spool.counts
        fingerprint_, n_rows = spool.fingerprint, spool.n_rows
    known = {str(label) for label in pipeline["classifier"].classes_}
    held = [row for row in held if row.label in known]
    first, second = held[: len(held) // 2], held[len(held) // 2 :]
    rule = settings.abstains(labels=counts)
    temperature = learning.fit_temperature(
        learning.to_scorer(pipeline).decision_function(first),
        [str(row.label) for row in first],
        sorted(known),
    )
    shift = _prior_shift(counts, settings)
    learning.settle(pipeline, temperature=temperature, prior_shift=shift)
    scorer = learning.to_scorer(pipeline, rule)
    measured = Measured(temperature)
    if second:
        outcome, found = evaluate(scorer, second, n_bootstrap=settings.evaluation.n_bootstrap)
        measured = Measured(temperature, None, {"held out": outcome}, {"held out": found})
    facts = _facts(held, [str(row.label) for row in held], settings, measured, source)
    facts["data"] |= {
        "n_rows": n_rows,
        "labels": dict(sorted(counts.items())),
        "sources": {},
        "fingerprint": fingerprint_,
    }
    return _save(name, pipeline, scorer, held, measured, facts, models, say)


def fit(rows: Iterable[Headline | Mapping[str, Any]], settings: Settings | None = None) -> Scorer:
    """A scorer fitted on rows in memory; nothing is saved or measured.

    >>> rows = [
    ...     {"headline": f"{team} wint met {n}-0", "label": "match_report"}
    ...     for n, team in enumerate(["Genk", "Ajax", "Gent", "NEC"], 1)
    ... ]
    >>> rows += [
    ...     {"headline": f"{team} polst {who}", "label": "transfer_rumour"}
    ...     for team, who in [("Genk", "spits"), ("Ajax", "spits"), ("Gent", "keeper")]
    ... ]
    >>> fit(rows).score("NEC polst spits").label
    'transfer_rumour'
    """
    settings = settings or Settings.read()
    checked = read_labelled([_plain(row) for row in rows], settings)
    truth = [str(row.label) for row in checked]
    pipeline = _fit_pipeline(checked, truth, settings)
    learning.settle(pipeline, prior_shift=_prior_shift(truth, settings))
    return learning.to_scorer(pipeline, settings.abstains(labels=set(truth)))


def read_labelled(source: Any, settings: Settings) -> list[Headline]:
    """Every labelled row of a source, checked.

    Raises
    ------
    BadRows
        Rows break the rules, there are none, or all have the same label or the same text.
    BadSettings
        A prior is set for a label that no row has.
    """
    if source is None:
        source = shipped("football-nl")
    rows = list(
        read(
            source,
            columns=settings.data.columns(),
            on_bad_row=settings.data.on_bad_row,
            labels=settings.data.labels or None,
            labelled=True,
        )
    )
    where = str(source) if isinstance(source, str | PathLike) else "the rows"
    counts = Counter(str(row.label) for row in rows)
    fault = unlearnable(counts, len({(row.headline, row.teaser) for row in rows}))
    if fault is not None:
        raise BadRows(where, [fault])
    _check_prior(counts, settings)
    return rows


# Measuring -------------------------------------------------------------------------------------


def _cross_validate(
    rows: list[Headline],
    truth: list[str],
    groups: list[int],
    settings: Settings,
    engine: Engine,
    say: Progress,
) -> Measured:
    kinds = ("random", "grouped", "leave-one-source-out", "newest")
    plan = {kind: splits(kind, rows, truth, groups, settings) for kind in kinds}
    plan = {kind: parts for kind, parts in plan.items() if parts}
    every = [part for parts in plan.values() for part in parts]
    if not every:
        return Measured(1.0)
    classes = sorted(set(truth))
    folds = learning.cross_predict(
        rows, truth, every, run=engine.run("cross-validation", say), **learning_arguments(settings)
    )
    by_kind = {
        kind: learning.Fold.join([next(folds) for _ in parts]) for kind, parts in plan.items()
    }
    chosen = next(k for k in ("leave-one-source-out", "grouped", *by_kind) if k in by_kind)
    found = by_kind[chosen]
    temperature = learning.fit_temperature(found.decision, [truth[i] for i in found.test], classes)
    shift = _prior_shift(truth, settings)

    def outcome(fold: learning.Fold, rule: Abstention) -> Outcome:
        return _outcome(
            [rows[i] for i in fold.test],
            fold.decision / temperature + [shift.get(label, 0.0) for label in classes],
            fold.known,
            fold.words,
            classes=classes,
            rule=rule,
            groups=[str(groups[i]) for i in fold.test],
        )

    promise = None
    if settings.abstention.precision is not None:
        bare = outcome(found, settings.abstains())
        promise = figures.choose_thresholds(
            bare.truth,
            bare.proba,
            classes,
            precision=settings.abstention.precision,
            groups=bare.groups,
            abstain_label=settings.abstention.label,
        )
    rule = settings.abstains(promise.thresholds if promise else None, classes)
    outcomes = {kind: outcome(fold, rule) for kind, fold in by_kind.items()}
    measured = {}
    for number, (kind, seen) in enumerate(outcomes.items()):
        say("figures", number, len(outcomes))
        measured[kind] = figures.measure(seen, n_bootstrap=settings.evaluation.n_bootstrap)
    say("figures", len(outcomes), len(outcomes))
    return Measured(temperature, promise, outcomes, measured)


def evaluate(
    scorer: Scorer, rows: Sequence[Headline], *, n_bootstrap: int = 1000, groups: bool = True
) -> tuple[Outcome, Figures]:
    """How a scorer does on labelled rows that it has not seen, and what it said of each.

    `groups` resamples near-duplicates together when intervals are made.

    Raises
    ------
    BadRows
        A row has no label, or one that the model does not know.
    """
    known = {*map(str, scorer.classes_), scorer.abstention.label}
    faults = [
        f"{row.where or f'row {number}'}: label {row.label!r} is not one that the model knows "
        f"({', '.join(sorted(known))})"
        for number, row in enumerate(rows, 1)
        if row.label not in known
    ]
    if faults:
        raise BadRows("the rows", faults)
    if not rows:
        raise BadRows("the rows", ["there are no rows to evaluate on"])
    outcome = _outcome(
        rows,
        *scorer.decide(rows),
        classes=[str(label) for label in scorer.classes_],
        rule=scorer.abstention,
        groups=[str(g) for g in near_duplicate_groups(rows)] if groups else None,
    )
    return outcome, figures.measure(outcome, n_bootstrap=n_bootstrap)


def check_rows(
    rows: Sequence[Headline],
    against: Sequence[Headline] | None,
    *,
    engine: Engine,
    progress: Progress,
) -> list[check.Finding]:
    """What to look at in rows, with likely label errors where they have labels.

    The labels are checked by models of the word features alone, over folds that keep stories
    together: a tenth of the recipe's time. Labels with fewer rows than folds are left out.
    """
    settings = Settings.read()
    folds = settings.evaluation.folds
    count = Counter(row.label for row in rows if row.label)
    use = [i for i, row in enumerate(rows) if row.label and count[row.label] >= folds]
    own = [rows[i] for i in use]
    truth = [str(row.label) for row in own]
    classes = sorted(set(truth))
    proba: Floats | None = None
    if len(classes) > 1 and len({(row.headline, row.teaser) for row in own}) > 1:
        story = np.unique(story_groups(own, settings), return_inverse=True)[1]
        part = np.random.default_rng(0).permutation(int(story.max()) + 1)[story] % folds
        parts = [(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in range(folds)]
        parts = [(a, b) for a, b in parts if len(b) and len({truth[i] for i in a}) > 1]
        arguments = {
            **learning_arguments(settings),
            "blocks": [block for block in settings.blocks() if block.kind == "words"],
            "epochs": 8,
        }
        proba = np.full((len(rows), len(classes)), np.nan)
        run = engine.run("labels", progress)
        with contextlib.suppress(BadRows):  # no two rows share a word: labels cannot be checked
            for fold in learning.cross_predict(own, truth, parts, run=run, **arguments):
                shifted = np.exp(fold.decision - fold.decision.max(axis=1, keepdims=True))
                proba[np.asarray(use)[fold.test]] = shifted / shifted.sum(axis=1, keepdims=True)
    return check.check(
        rows,
        against,
        proba=proba,
        classes=classes,
        near=settings.evaluation.near_duplicates,
    )


def _outcome(
    rows: Sequence[Headline],
    decision: Floats,
    known: Floats,
    words: Floats,
    *,
    classes: Sequence[str],
    rule: Abstention,
    groups: Sequence[str] | None,
) -> Outcome:
    shifted = np.exp(decision - decision.max(axis=1, keepdims=True))
    proba = shifted / shifted.sum(axis=1, keepdims=True)
    best = proba.argmax(axis=1)
    reasons = [
        rule.reason(classes[top], float(scores[top]), float(seen), float(every))
        for top, scores, seen, every in zip(best, proba, known, words, strict=True)
    ]
    return Outcome(
        truth=[str(row.label) for row in rows],
        proba=proba,
        classes=list(classes),
        abstain_label=rule.label,
        predicted=[
            classes[top] if reason is None else rule.label
            for top, reason in zip(best, reasons, strict=True)
        ],
        reasons=reasons,
        groups=groups,
        sources=[row.source or "" for row in rows],
        headlines=[row.headline for row in rows],
        teasers=[row.teaser for row in rows],
    )


def _learning_curve(
    rows: list[Headline],
    truth: list[str],
    groups: list[int],
    settings: Settings,
    engine: Engine,
    say: Progress,
) -> list[tuple[int, Figures]]:
    """Figures on one grouped fold by models of a growing share of the other rows."""
    plan = splits("grouped", rows, truth, groups, settings)
    if not settings.evaluation.learning_curve or not plan or len(rows) < 200:
        return []
    train, test = plan[0]
    order = np.random.default_rng(settings.learning.seed).permutation(train)
    parts = []
    for share in (0.05, 0.1, 0.25, 0.5, 1.0):
        part = order[: int(len(order) * share)]
        if len({truth[i] for i in part}) > 1 and len(part) >= 20:
            parts.append((part, test))
    folds = learning.cross_predict(
        rows, truth, parts, run=engine.run("learning curve", say), **learning_arguments(settings)
    )
    points = []
    for (part, _), fold in zip(parts, folds, strict=True):
        outcome = _outcome(
            [rows[i] for i in fold.test],
            fold.decision,
            fold.known,
            fold.words,
            classes=sorted(set(truth)),
            rule=settings.abstains(labels=set(truth)),
            groups=[str(groups[i]) for i in fold.test],
        )
        points.append((len(part), figures.measure(outcome, n_bootstrap=200)))
    return points


# Facts -----------------------------------------------------------------------------------------


def _facts(
    rows: Sequence[Headline],
    truth: Sequence[str],
    settings: Settings,
    measured: Measured,
    source: Any,
) -> dict[str, Any]:
    """What the manifest says of a version beside the model itself."""
    honest = measured.figures.get(measured.honest)
    found = honest.to_dict() if honest else {}
    return {
        "data": {
            "source": _source_name(source),
            "n_rows": len(rows),
            "labels": dict(sorted(Counter(truth).items())),
            "sources": dict(sorted(Counter(row.source or "" for row in rows).items())),
            "fingerprint": fingerprint(rows),
        },
        "figures": {
            "split": measured.honest,
            "macro_f1": (found.get("macro_f1") or {}).get("value"),
            "accuracy": (found.get("accuracy") or {}).get("value"),
        },
        "settings": settings.model_dump(mode="json"),
        "language": "nl" if source is None else None,
        "written_by": {
            "kopwijzer": _package_version(),
            "python": platform.python_version(),
            **{package: installed(package) for package in ("numpy", "scipy", "scikit-learn")},
        },
        "git_commit": _git_commit(),
    }


def _source_name(source: Any) -> str:
    if source is None:
        return "football-nl"
    return str(source) if isinstance(source, str | PathLike) else "rows in memory"


def fingerprint(rows: Sequence[Headline]) -> str:
    """SHA-256 over the texts and labels, in order."""
    digest = hashlib.sha256()
    for row in rows:
        record = [row.headline, row.teaser, row.label, row.group, row.source, row.date]
        digest.update(json.dumps(record).encode() + b"\n")
    return digest.hexdigest()


def _probes(rows: Sequence[Headline]) -> list[tuple[str, str]]:
    """Up to 60 rows spread evenly over the data, and the edges of the domain."""
    step = max(len(rows) // 60, 1)
    return [(row.headline, row.teaser) for row in rows[::step][:60]] + _EDGE_PROBES


def _package_version() -> str:
    from kopwijzer import __version__

    return __version__


def _git_commit() -> str | None:
    """The commit of the clone that this package runs from, if it runs from one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(  # noqa: S603  # no input of anybody's in it
            ["git", "-C", str(root), "rev-parse", "HEAD"],  # noqa: S607  # git by its name
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


# Settings to arguments -------------------------------------------------------------------------


def learning_arguments(settings: Settings) -> dict[str, Any]:
    """The settings as `learning.fit_pipeline` takes them."""
    own = settings.learning
    return {
        "blocks": settings.blocks(),
        "C": own.C,
        "epochs": own.epochs,
        "balance": own.balance,
        "seed": own.seed,
    }


def _fit_pipeline(rows: Sequence[Headline], truth: Sequence[str], settings: Settings) -> Any:
    return learning.fit_pipeline(rows, truth, **learning_arguments(settings))


def _prior_shift(truth: Sequence[str] | Mapping[str, int], settings: Settings) -> dict[str, float]:
    """How far the intercept of each label moves for the prior that the settings name, from the
    labels of the training rows or their counts (Saerens, Latinne and Decaestecker 2002, Adjusting
    the outputs of a classifier to new a priori probabilities)."""
    prior, counts = settings.learning.prior, Counter(truth)
    # What the model takes for the mix: balance makes the rows of a rare label weigh more.
    weight = learning.class_weight(counts, settings.learning.balance) or {}
    return {
        label: float(np.log(share / (weight.get(label, 1.0) * counts[label] / counts.total())))
        for label, share in prior.items()
    }


def _check_prior(counts: Mapping[str, int], settings: Settings) -> None:
    """Refuse a prior of a label that no row has: before the work, not after it."""
    unknown = sorted(settings.learning.prior.keys() - counts.keys())
    if unknown:
        raise BadSettings(
            f"learning.prior.{unknown[0]}: no row has that label; the labels are "
            + ", ".join(sorted(counts))
        )


def _plain(row: Headline | Mapping[str, Any]) -> Mapping[str, Any]:
    """A row as the reader takes it."""
    if not isinstance(row, Headline):
        return row
    return {
        "headline": row.headline,
        "teaser": row.teaser,
        "label": row.label,
        "group": row.group,
        "source": row.source,
        "date": row.date,
    }


def _silent(what: str, done: int, of: int) -> None:
    """Progress that nobody asked for."""
