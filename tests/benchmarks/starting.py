"""Starting: the command line in a new process, loading a version, and what scoring needs."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kopwijzer import Headline, Settings, learning, load, train
from kopwijzer.training import learning_arguments

from . import data
from .measure import command, in_turn, median
from .report import Goal, Report

__all__ = ["run"]

_ASKED = "'Genk polst middenvelder van Union'"


def run(quick: bool) -> Report:
    """Save a version of football-nl, then start on it in many ways."""
    report = Report("starting", "Starting, loading, size")
    corpus = data.shipped(2000 if quick else None)
    rows = [*corpus.train, *corpus.test]
    with tempfile.TemporaryDirectory() as models:
        # Few folds and no learning curve: only the saved model matters here.
        changes = ["evaluation.folds=2", "evaluation.n_bootstrap=10"]
        settings = Settings.read(
            "football-nl", changes=[*changes, "evaluation.learning_curve=false"]
        )
        plain = [{"headline": r.headline, "teaser": r.teaser, "label": r.label} for r in rows]
        saved = train(plain, settings, models)
        _commands(report, models, quick)
        _loading(report, models, quick)
        size = sum((saved.path / file).stat().st_size for file in ("scorer.npz", "manifest.json"))
        features = len(saved.scorer().weights.hashes)
    report.add(
        "size: scorer.npz and manifest",
        size / 1e6,
        "MB",
        None if quick else Goal(3, beyond=1),
        f"football-nl, {len(rows):,} rows, {features:,} features",
    )
    report.raw["bytes"] = size
    _loss(report, corpus, quick)
    return report


def _commands(report: Report, models: str, quick: bool) -> None:
    kopwijzer = str(Path(sys.executable).parent / "kopwijzer")
    calls: dict[str, Callable[[], object]] = {
        "import sklearn.linear_model": command(sys.executable, "-c", "import sklearn.linear_model"),
        "predict": command(kopwijzer, "predict", "--models", models, _ASKED),
        "--help": command(kopwijzer, "--help"),
        "--version": command(kopwijzer, "--version"),
        "python alone": command(sys.executable, "-c", "pass"),
        "import numpy": command(sys.executable, "-c", "import numpy"),
    }
    in_turn(calls, 1)  # so that the disk plays no part
    runs = in_turn(calls, 3 if quick else 15)
    report.raw["commands"] = {name: one.clock for name, one in runs.items()}
    middle = {name: median(one.clock) for name, one in runs.items()}
    base = middle["import sklearn.linear_model"]
    goals = {"predict": Goal(0.25, beyond=0.12), "--help": Goal(0.12), "--version": Goal(0.12)}
    for name, goal in goals.items():
        how = f"{1000 * middle[name]:.0f} ms against {1000 * base:.0f} ms, in a new process"
        what = f"kopwijzer {name} / python importing sklearn.linear_model"
        report.add(what, middle[name] / base, "x", None if quick else goal, how)
    for name in ("python alone", "import numpy"):
        report.add(f"for comparison: {name}", middle[name] / base, "x")


def _loading(report: Report, models: str, quick: bool) -> None:
    taken = []
    for _ in range(20 if quick else 200):
        start = time.perf_counter()
        load(models=models)
        taken.append(1000 * (time.perf_counter() - start))
    report.raw["loading_ms"] = taken
    report.add(
        "loading a version, p50",
        median(taken),
        "ms",
        None if quick else Goal(20, beyond=5),
        "load(), memory-mapped, digests checked, in a warm process",
    )


def _loss(report: Report, corpus: data.Corpus, quick: bool) -> None:
    """What rounding to bytes costs in macro-F1."""
    from sklearn.metrics import f1_score

    def macro_f1(rows: list[Headline], pipeline: object) -> float:
        scorer = learning.to_scorer(pipeline)
        said = scorer.classes_[np.argmax(scorer.predict_proba(rows), axis=1)]
        return float(f1_score([row.label for row in rows], said, average="macro"))

    labels = [str(row.label) for row in corpus.train]
    pipeline = learning.fit_pipeline(
        corpus.train, labels, **learning_arguments(Settings.read("football-nl"))
    )
    exact = macro_f1(corpus.test, pipeline)
    rounded = macro_f1(corpus.test, learning.settle(pipeline))
    report.raw["macro_f1"] = {"exact": exact, "rounded": rounded}
    report.add(
        "size: macro-F1 lost by rounding to bytes",
        exact - rounded,
        "",
        None if quick else Goal(0.002),
        f"{rounded:.4f} against {exact:.4f} on sources left out of training",
    )
