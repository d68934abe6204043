"""Fit: rows in memory -> fitted model, and how right the model is."""

from collections.abc import Callable
from functools import partial
from typing import Any

from . import data
from .measure import in_turn, median
from .peers import PEERS
from .report import Goal, Report
from .tuning import chosen, figures

__all__ = ["run"]

_SLOW = ("scikit-learn saga", "scikit-learn lbfgs", "vowpal wabbit")
_SUBWORDS = ("fastText subwords", "fastText subwords, plain settings")
_TUNED = ("fastText subwords", "fastText bigrams")
_BIGRAMS = ("fastText bigrams", "fastText bigrams, plain settings")


def run(quick: bool) -> Report:
    """Fit and measure every peer on every corpus."""
    report = Report("fit", "Fit, and how right the model is")
    corpora = [data.sections(3000 if quick else None), data.shipped(3000 if quick else None)]
    if corpora[0] is None:
        report.notes.append("sections: the folder with them is absent; left out")
    corpora.append(data.generated(6000 if quick else 100_000))
    for corpus in corpora:
        if corpus is not None:
            _measure(report, corpus, quick)
    report.notes.append(
        "Seconds are medians of runs in turn and include the peers' own writing of rows in their "
        "form (fastText and Vowpal Wabbit read files). Peers are tuned on a validation slice "
        "(results/tuning.json), kopwijzer is its shipped recipe. Where a fastText is named twice, "
        "the second has the settings of the goals: dim 16, lr 0.5, 10 epochs. Processor seconds "
        "count every thread, and less depend on what else the machine does."
    )
    return report


def _measure(report: Report, corpus: data.Corpus, quick: bool) -> None:
    fitted: dict[str, Any] = {}
    calls: dict[str, Callable[[], object]] = {}
    for name, peer in PEERS.items():
        if reason := peer.why_not():
            report.notes.append(f"{name}: left out, {reason}")
        elif corpus.name == "generated" and name in (*_SLOW, *_TUNED):
            continue  # minutes each, for what the smaller corpora tell as well
        elif not (quick and name in ("scikit-learn lbfgs",)):
            calls[name] = partial(_fit, fitted, name, corpus, chosen(peer, corpus, quick=quick))
    rounds = 1 if quick else 2 if corpus.name == "generated" else 3
    tuned = [name for name in calls if chosen(PEERS[name], corpus, quick=quick)]
    runs = in_turn(calls, rounds, once=_SLOW)
    own = median(runs["kopwijzer"].clock)
    sections = corpus.name == "sections" and not quick
    found: dict[str, Any] = {}
    report.notes.append(f"{corpus.name}: {len(corpus.train):,} rows; {corpus.about}")
    for name in calls:
        accuracy, macro_f1 = figures(fitted[name], corpus.test)
        found[name] = {
            "seconds": runs[name].clock,
            "processor_seconds": runs[name].processor,
            "preparing": fitted[name].preparing,
            "threads": PEERS[name].threads,
            "parameters": chosen(PEERS[name], corpus, quick=quick),
            "accuracy": accuracy,
            "macro_f1": macro_f1,
        }
        took, worked = median(runs[name].clock), median(runs[name].processor)
        how = (
            f"{took:.2f} s ({worked:.2f} of processors), threads: {PEERS[name].threads}, "
            f"runs: {len(runs[name].clock)}"
        )
        if name == "kopwijzer":
            report.add(f"{corpus.name}: kopwijzer fit", took, "s", how=how)
        else:
            goal = None
            if sections and name in _SUBWORDS:
                goal = Goal(1.0)
            report.add(f"{corpus.name}: fit, kopwijzer / {name}", own / took, "x", goal, how)
            if sections and name in _BIGRAMS:
                report.notes.append(
                    f"beyond the goal for fit (at most 1x {name}): "
                    + ("reached" if own <= took else "not reached")
                )
    for name, one in found.items():
        mine = sections and name == "kopwijzer"
        report.add(
            f"{corpus.name}: accuracy, {name}",
            one["accuracy"],
            goal=Goal(0.84, "at least") if mine else None,
        )
        report.add(
            f"{corpus.name}: macro-F1, {name}",
            one["macro_f1"],
            goal=Goal(0.70, "at least") if mine else None,
        )
    for name in tuned:
        said = ", ".join(f"{k} {v}" for k, v in found[name]["parameters"].items())
        report.notes.append(f"{corpus.name}: {name}: {said}")
    report.raw[corpus.name] = {
        "rows": len(corpus.train),
        "test_rows": len(corpus.test),
        "peers": found,
    }


def _fit(fitted: dict[str, Any], name: str, corpus: data.Corpus, parameters: Any) -> None:
    fitted[name] = PEERS[name].fit(corpus.train, **parameters)
