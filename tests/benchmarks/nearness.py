"""How near the stopped SAGA is to the optimum: the same objective, brought to its end by lbfgs."""

import copy
from typing import Any

import numpy as np

from kopwijzer import Settings, learning
from kopwijzer.training import learning_arguments

from . import data
from .report import Report

__all__ = ["run"]


def run(quick: bool) -> Report:
    """Fit by the recipe, go on to the optimum, compare."""
    report = Report("nearness", "Nearness of the stopped solver to the optimum")
    corpora = [data.shipped(1000 if quick else None)]
    if not quick and (found := data.sections()) is not None:
        corpora.append(found)
    for corpus in corpora:
        _measure(report, corpus)
    report.notes.append(
        "The objective is scikit-learn's, C * sum of (weighted) losses + half the squared "
        "coefficients; lbfgs starts from SAGA's coefficients, on float64, until its gradient is "
        "below 1e-5 or 2,000 steps. The last two figures are of the model as it is kept, with "
        "coefficients rounded to bytes."
    )
    return report


def _measure(report: Report, corpus: data.Corpus) -> None:
    arguments = learning_arguments(Settings.read())
    labels = [str(row.label) for row in corpus.train]
    pipeline = learning.fit_pipeline(corpus.train, labels, **arguments)
    features, stopped = pipeline["features"], pipeline["classifier"]
    X = features.transform(corpus.train)
    optimum = copy.deepcopy(stopped)
    optimum.set_params(solver="lbfgs", max_iter=2000, tol=1e-5, warm_start=True)
    optimum.fit(X, labels)
    test = features.transform(corpus.test)
    rounded = learning.settle(copy.deepcopy(pipeline))["classifier"]
    low = _objective(optimum, X, labels)
    truth = np.array([row.label for row in corpus.test])
    best = optimum.predict(test)
    right = {
        name: float((m.predict(test) == truth).mean())
        for name, m in (("stopped", stopped), ("optimum", optimum), ("rounded", rounded))
    }
    raw: dict[str, Any] = {
        "rows": X.shape[0],
        "features": X.shape[1],
        "epochs": arguments["epochs"],
        "steps_of_lbfgs": int(optimum.n_iter_.max()),
        "objective": {"stopped": _objective(stopped, X, labels), "optimum": low},
        "accuracy": right,
    }
    raw["equal"] = float((stopped.predict(test) == best).mean())
    raw["equal_rounded"] = float((rounded.predict(test) == best).mean())
    raw["largest_gap"] = _gap(stopped, optimum, test)
    raw["largest_gap_rounded"] = _gap(rounded, optimum, test)
    report.raw[corpus.name] = raw
    name = corpus.name
    gap = raw["objective"]["stopped"] / low - 1
    steps = f"{raw['epochs']} epochs of SAGA; lbfgs took {raw['steps_of_lbfgs']} more steps"
    report.add(f"{name}: objective above the optimum", gap, how=f"share of it; {steps}")
    report.add(f"{name}: equal predictions", raw["equal"], how=f"of {len(truth):,} test rows")
    report.add(f"{name}: largest difference of a probability", raw["largest_gap"])
    report.add(f"{name}: accuracy, stopped minus optimum", right["stopped"] - right["optimum"])
    report.add(f"{name}: equal predictions, rounded to bytes", raw["equal_rounded"])
    report.add(f"{name}: accuracy, rounded minus optimum", right["rounded"] - right["optimum"])


def _objective(model: Any, X: Any, labels: list[str]) -> float:
    scores = X @ model.coef_.T + model.intercept_
    if scores.shape[1] == 1:
        scores = np.hstack([-scores, scores]) / 2
    column = {label: place for place, label in enumerate(model.classes_)}
    truth = np.array([column[label] for label in labels])
    top = scores.max(axis=1)
    losses = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
    losses -= scores[np.arange(len(truth)), truth]
    weight = np.array([(model.class_weight or {}).get(label, 1.0) for label in labels])
    return float(model.C * (weight * losses).sum() + 0.5 * (model.coef_**2).sum())


def _gap(left: Any, right: Any, X: Any) -> float:
    return float(np.abs(left.predict_proba(X) - right.predict_proba(X)).max())
