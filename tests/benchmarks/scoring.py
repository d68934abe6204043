"""Scoring on one processor: batches, and one headline at a time."""

import gc
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from kopwijzer import Settings, learning
from kopwijzer.scorer import Scorer
from kopwijzer.training import learning_arguments

from . import data
from .measure import in_turn, median, one_processor
from .peers import PEERS, FittedFastText
from .report import Goal, Report
from .tuning import chosen

__all__ = ["run"]

_FASTTEXT = ("fastText subwords", "fastText bigrams")
_TFIDF = "scikit-learn saga"


def run(quick: bool) -> Report:
    """Batches and single headlines, on the sections where present and on football-nl."""
    report = Report("scoring", "Scoring on one processor")
    corpora = [data.sections(3000 if quick else None), data.shipped(3000 if quick else None)]
    if corpora[0] is None:
        report.notes.append("sections: the folder with them is absent; left out")
    for corpus in corpora:
        if corpus is not None:
            models = _models(report, corpus, quick)
            with one_processor():
                _batches(report, corpus, models, quick)
                _singles(report, corpus, models, quick)
    report.notes += [
        "The process is pinned to one processor. fastText and Vowpal Wabbit get strings that were "
        "brought into their form before the clock starts; fastText answers a list in one call, "
        "its fastest way. kopwijzer gets headlines with teasers as they are.",
        "A scorer keeps what it worked out for chunks of text. 'New texts' are test rows after a "
        "fresh scorer has scored the training rows, 'first texts' come to a scorer that has "
        "scored nothing, 'texts again' were all scored before.",
    ]
    return report


def _models(report: Report, corpus: data.Corpus, quick: bool) -> dict[str, Any]:
    labels = [str(row.label) for row in corpus.train]
    pipeline = learning.fit_pipeline(corpus.train, labels, **learning_arguments(Settings.read()))
    learning.settle(pipeline)
    models: dict[str, Any] = {"pipeline": pipeline, "scorer": learning.to_scorer(pipeline)}
    for name in (*_FASTTEXT, "vowpal wabbit", _TFIDF):
        if reason := PEERS[name].why_not():
            report.notes.append(f"{name}: left out, {reason}")
        else:
            parameters = chosen(PEERS[name], corpus, quick=quick)
            models[name] = PEERS[name].fit(corpus.train, **parameters)
    return models


def _fresh(scorer: Scorer) -> Scorer:
    """The same model with nothing kept yet, compiled where numba is there."""
    fresh = scorer.with_abstention(scorer.abstention)
    fresh.compile()
    return fresh


def _batches(report: Report, corpus: data.Corpus, models: dict[str, Any], quick: bool) -> None:
    rows, rounds = corpus.test, 2 if quick else 5
    n = len(rows)
    calls: dict[str, Callable[[], object]] = {}
    warm: dict[str, list[Scorer]] = {}
    for way in ("predict_proba", "score_many"):
        warm[way] = [_fresh(models["scorer"]) for _ in range(rounds)]
        for scorer in warm[way]:
            scorer.predict_proba(corpus.train)
        again = _fresh(models["scorer"])
        again.predict_proba(rows)
        calls[f"{way}, new texts"] = partial(_next, list(warm[way]), way, rows)
        first = [_fresh(models["scorer"]) for _ in range(rounds)]
        calls[f"{way}, first texts"] = partial(_next, first, way, rows)
        calls[f"{way}, texts again"] = partial(getattr(again, way), rows)
    for name in (*_FASTTEXT, "vowpal wabbit", _TFIDF):
        if name in models:
            prepared = models[name].prepare(rows)
            calls[name] = partial(models[name].predict, prepared)
    calls["scikit-learn pipeline"] = partial(models["pipeline"].predict_proba, rows)
    runs = in_turn(calls, rounds, once=[_TFIDF])
    report.raw[f"{corpus.name}: batch"] = {
        "rows": n,
        "seconds": {name: one.clock for name, one in runs.items()},
    }
    rate = {name: n / median(one.clock) for name, one in runs.items()}
    for name in calls:
        report.add(f"{corpus.name}: batch, {name}", rate[name], "rows/s")
    for peer in [name for name in _FASTTEXT if name in models]:
        for when in ("new", "first"):
            goal = Goal(1.0, "at least", beyond=2.0) if when == "new" and not quick else None
            report.add(
                f"{corpus.name}: batch, kopwijzer / {peer}, {when} texts",
                rate[f"predict_proba, {when} texts"] / rate[peer],
                "x",
                goal,
                how="predict_proba; at least 1 is faster",
            )
    report.add(
        f"{corpus.name}: batch, kopwijzer / its scikit-learn pipeline",
        rate["predict_proba, new texts"] / rate["scikit-learn pipeline"],
        "x",
    )


def _next(scorers: list[Scorer], way: str, rows: Sequence[Any]) -> object:
    return getattr(scorers.pop(), way)(rows)


def _singles(report: Report, corpus: data.Corpus, models: dict[str, Any], quick: bool) -> None:
    rows = corpus.test[:: max(len(corpus.test) // (200 if quick else 1000), 1)]
    scorer = _fresh(models["scorer"])
    scorer.predict_proba(corpus.train)
    pairs = [(row.headline, row.teaser) for row in rows]
    asked: dict[str, tuple[Callable[..., object], list[tuple[Any, ...]]]] = {
        "kopwijzer, new texts": (scorer.score, pairs),
        "scikit-learn pipeline": (models["pipeline"].predict_proba, [([row],) for row in rows]),
    }
    if _TFIDF in models:
        texts = models[_TFIDF].prepare(rows)
        asked[_TFIDF] = (models[_TFIDF].predict, [([text],) for text in texts])
    for name in _FASTTEXT:
        if name in models:
            fitted: FittedFastText = models[name]
            asked[name] = (fitted.predict_one, [(text,) for text in fitted.prepare(rows)])
    taken = _one_by_one(asked)
    again = {"kopwijzer, texts again": (scorer.score, pairs)}
    taken |= _one_by_one({**again, **{k: v for k, v in asked.items() if k in _FASTTEXT}}, "again")
    report.raw[f"{corpus.name}: one headline, microseconds"] = {
        name: {f"p{q}": float(np.percentile(values, q)) for q in (5, 25, 50, 75, 95, 99)}
        for name, values in taken.items()
    }
    middle = {name: float(np.median(values)) for name, values in taken.items()}
    own = middle["kopwijzer, new texts"]
    name = corpus.name
    goal = None if quick else Goal(50, beyond=15)
    report.add(f"{name}: one headline, p50, new texts", own, "µs", goal, "score, warm")
    report.add(f"{name}: one headline, p50, texts again", middle["kopwijzer, texts again"], "µs")
    for peer in _FASTTEXT:
        if peer in middle:
            report.add(f"{name}: one headline, p50, {peer}", middle[peer], "µs")
    pipeline = middle["scikit-learn pipeline"]
    report.add(
        f"{name}: one headline, its scikit-learn pipeline / kopwijzer, new texts",
        pipeline / own,
        "x",
        None if quick else Goal(20, "at least"),
        f"{pipeline:,.0f} µs: the saved version's own pipeline",
    )
    if _TFIDF in middle:
        report.add(
            f"{name}: one headline, a TfidfVectorizer pipeline / kopwijzer, new texts",
            middle[_TFIDF] / own,
            "x",
            how=f"{middle[_TFIDF]:,.0f} µs",
        )


def _one_by_one(
    asked: dict[str, tuple[Callable[..., object], list[tuple[Any, ...]]]], mark: str = ""
) -> dict[str, list[float]]:
    """Microseconds of each call, fifty of one and then fifty of the next."""
    taken: dict[str, list[float]] = {name: [] for name in asked}
    gc.collect()
    clock = time.perf_counter_ns
    most = max(len(arguments) for _, arguments in asked.values())
    for start in range(0, most, 50):
        for name, (call, arguments) in asked.items():
            for given in arguments[start : start + 50]:
                before = clock()
                call(*given)
                taken[name].append((clock() - before) / 1000)
    return {f"{name}, {mark}" if mark not in name else name: v for name, v in taken.items()}
