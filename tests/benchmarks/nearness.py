"""How near the stopped descent is to the optimum of the same logistic regressions, by lbfgs."""

from collections import Counter
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from kopwijzer import Settings, learning
from kopwijzer.training import learning_arguments

from . import data
from .report import Report

__all__ = ["run"]


def run(quick: bool) -> Report:
    """Fit by the recipe and to the optimum, compare."""
    report = Report("nearness", "Nearness of the stopped descent to the optimum")
    corpora = [data.shipped(1000 if quick else None)]
    if not quick and (found := data.sections()) is not None:
        corpora.append(found)
    for corpus in corpora:
        _measure(report, corpus)
    report.notes.append(
        "The optimum: for each label against the rest the same C, row weights and features, by "
        "lbfgs on float64 until its gradient is below 1e-4. The stated tolerance: 95% equal "
        "predictions, and accuracy and macro-F1 at most 0.01 below those of the optimum."
    )
    return report


def _measure(report: Report, corpus: data.Corpus) -> None:
    arguments = learning_arguments(Settings.read())
    labels = np.array([str(row.label) for row in corpus.train])
    truth = np.array([row.label for row in corpus.test])
    pipeline = learning.fit_pipeline(corpus.train, labels.tolist(), **arguments)
    features, stopped = pipeline["features"], pipeline["classifier"]
    X, test = features.transform(corpus.train), features.transform(corpus.test)
    weights = learning.class_weight(Counter(labels.tolist()), arguments["balance"]) or {}
    row_weights = np.array([weights.get(label, 1.0) for label in labels.tolist()])
    columns, steps = [], 0
    for label in stopped.classes_:
        exact = LogisticRegression(C=arguments["C"], max_iter=2000, tol=1e-4)
        exact.fit(X, labels == label, row_weights)
        columns.append(exact.decision_function(test))
        steps += int(exact.n_iter_[0])
    optimum = np.stack(columns, axis=1)
    decided = stopped.decision_function(test)
    raw: dict[str, Any] = {"rows": X.shape[0], "features": X.shape[1], "steps_of_lbfgs": steps}
    said = {}
    for name, decision in (("stopped", decided), ("optimum", optimum)):
        said[name] = stopped.classes_[decision.argmax(axis=1)]
        raw[name] = {
            "accuracy": float((said[name] == truth).mean()),
            "macro_f1": float(f1_score(truth, said[name], average="macro")),
        }
    raw["equal"] = float((said["stopped"] == said["optimum"]).mean())
    raw["mean_gap"] = float(np.abs(_softmax(decided) - _softmax(optimum)).mean())
    report.raw[corpus.name] = raw
    name, epochs = corpus.name, arguments["epochs"]
    how = f"of {len(truth):,} test rows; {epochs} epochs, lbfgs took {steps} steps over all labels"
    report.add(f"{name}: equal predictions", raw["equal"], how=how)
    report.add(f"{name}: mean difference of a probability", raw["mean_gap"])
    for figure in ("accuracy", "macro_f1"):
        gap = raw["stopped"][figure] - raw["optimum"][figure]
        report.add(f"{name}: {figure.replace('_', '-')}, stopped minus optimum", gap)


def _softmax(decision: Any) -> Any:
    powers = np.exp(decision - decision.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
