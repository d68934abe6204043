"""The recipe: settings -> read, split, learn, measure, save. No arithmetic of its own.

`train` makes a version with honest figures; `fit` makes only the scorer.
"""

import contextlib
import gzip
import hashlib
import json
import platform
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version as installed
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kopwijzer import card, check, figures, learning, page, versions
from kopwijzer.duplicates import near_duplicate_groups
from kopwijzer.engines import Engine
from kopwijzer.errors import BadRows, BadSettings
from kopwijzer.figures import Figures, Outcome, Promise
from kopwijzer.headlines import Headline, read
from kopwijzer.scorer import Abstention, Scorer
from kopwijzer.settings import Settings, shipped
from kopwijzer.spool import Spool, unlearnable

__all__ = [
    "Progress",
    "check_rows",
    "evaluate",
    "evaluation_page",
    "fingerprint",
    "fit",
    "kept_outcome",
    "learning_arguments",
    "read_labelled",
    "splits",
    "story_groups",
    "summary",
    "table",
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
    `history` (how the settings were found) goes into the report as it is.

    Raises
    ------
    BadSource, BadRows
        The rows cannot be read, or are too few or too alike to learn from.
    NoRoom
        The models folder cannot be written.
    """
    settings = settings or Settings.read()
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
    facts = _facts(rows, truth, settings, measured, source)
    return _save(
        name, pipeline, scorer, rows, measured, facts, models, say, curve=curve, history=history
    )


def _save(
    name: str,
    pipeline: Any,
    scorer: Scorer,
    rows: Sequence[Headline],
    measured: "_Measured",
    facts: Mapping[str, Any],
    models: str | PathLike[str] | None,
    say: Progress,
    *,
    curve: list[tuple[int, Figures]],
    history: Mapping[str, Any] | None,
) -> versions.Version:
    """Write the version with its report, card and probes."""
    numbers = _report(measured, curve, history)

    def files(manifest: Mapping[str, Any]) -> dict[str, bytes]:
        drawn = page.render(
            facts=_told(manifest),
            figures=measured.figures,
            outcome=measured.outcomes.get(measured.honest),
            honest=measured.honest,
            thresholds=measured.promise.thresholds if measured.promise else None,
            sentences=measured.promise.sentences if measured.promise else (),
            strongest=strongest,
            curve=curve,
            language=str(manifest.get("language") or "en"),
        )
        texts = {
            "config.toml": Settings.from_mapping(facts["settings"]).to_toml(),
            "report.json": json.dumps(numbers, ensure_ascii=False, indent=1) + "\n",
            "report.html": drawn,
            "README.md": card.render(manifest, numbers),
        }
        done = {file: text.encode("utf-8", "surrogatepass") for file, text in texts.items()}
        kept = measured.outcomes.get(measured.honest)
        if kept is not None:
            done["outcomes.jsonl.gz"] = pack_outcome(kept)
        return done

    strongest = learning.strongest_words(pipeline, rows)
    say("save", 0, 1)
    saved = versions.save(
        name,
        scorer=scorer,
        pipeline=pipeline,
        probes=_probes(rows),
        facts=facts,
        files=files,
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
    measured = _Measured(temperature, None, {}, {})
    if second:
        outcome, found = evaluate(scorer, second, n_bootstrap=settings.evaluation.n_bootstrap)
        measured = _Measured(temperature, None, {"held out": outcome}, {"held out": found})
    facts = _facts(held, [str(row.label) for row in held], settings, measured, source)
    facts["data"] |= {
        "n_rows": n_rows,
        "labels": dict(sorted(counts.items())),
        "sources": {},
        "fingerprint": fingerprint_,
    }
    return _save(name, pipeline, scorer, held, measured, facts, models, say, curve=[], history=None)


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
    return rows


# Splitting -------------------------------------------------------------------------------------


def splits(
    kind: str,
    rows: Sequence[Headline],
    truth: Sequence[str],
    groups: Sequence[int],
    settings: Settings,
) -> list[learning.Split]:
    """The (train, test) row numbers of a way to split; empty where the rows do not allow it.

    "random": folds that ignore groups (flattering, shown for contrast). "grouped": rows of one
    story stay together. "leave-one-source-out": each source is the test part once. "newest": the
    newest rows by date are the test part. Of these three none has a story on both sides.
    """
    from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold

    folds, seed = settings.evaluation.folds, settings.learning.seed
    y = np.asarray(truth)
    rare = min(Counter(truth).values())
    if kind == "random" and rare >= 2:
        folder = StratifiedKFold(min(folds, rare), shuffle=True, random_state=seed)
        return [(a, b) for a, b in folder.split(y, y)]
    if kind == "grouped" and rare >= 2 and len(set(groups)) >= 2:
        n = min(folds, rare, len(set(groups)))
        folder = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
        return [(a, b) for a, b in folder.split(y, y, groups) if len(set(y[a])) > 1 and len(b)]
    if kind == "leave-one-source-out":
        sources = np.array([row.source or "" for row in rows])
        if 2 <= len(set(sources)) <= 100:
            story = np.asarray(groups)
            parts = LeaveOneGroupOut().split(y, y, sources)
            # A story that several sources have is left out of the training part.
            apart = [(a[~np.isin(story[a], story[b])], b) for a, b in parts]
            return [(a, b) for a, b in apart if len(set(y[a])) > 1]
    if kind == "newest" and all(row.date for row in rows):
        order = np.argsort([row.date or "" for row in rows], kind="stable")
        cut = int(len(rows) * (1 - settings.evaluation.newest))
        # A story that began before the cut is no news after it.
        old = {groups[i] for i in order[:cut]}
        test = np.array([i for i in order[cut:] if groups[i] not in old], dtype=np.int64)
        if len(test) and len(set(y[order[:cut]])) > 1:
            return [(order[:cut], test)]
    return []


def story_groups(rows: Sequence[Headline], settings: Settings) -> list[int]:
    """One number per story: near-duplicates, and rows that name the same group."""
    near = near_duplicate_groups(rows, settings.evaluation.near_duplicates)
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for keys in (near, [row.group or None for row in rows]):
        first: dict[Any, int] = {}
        for i, key in enumerate(keys):
            if key is not None:
                parent[root(i)] = root(first.setdefault(key, i))
    return [root(i) for i in range(len(rows))]


# Measuring -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    """What cross-validation found: calibration, thresholds, and figures by way of splitting."""

    temperature: float
    promise: Promise | None
    outcomes: dict[str, Outcome]
    figures: dict[str, Figures]

    @property
    def honest(self) -> str:
        """The way of splitting whose figures stand for the world: the hardest that was made."""
        order = ("leave-one-source-out", "grouped", "random", "newest", "held out")
        return next((kind for kind in order if kind in self.figures), "")


def _cross_validate(
    rows: list[Headline],
    truth: list[str],
    groups: list[int],
    settings: Settings,
    engine: Engine,
    say: Progress,
) -> _Measured:
    kinds = ("random", "grouped", "leave-one-source-out", "newest")
    plan = {kind: splits(kind, rows, truth, groups, settings) for kind in kinds}
    plan = {kind: parts for kind, parts in plan.items() if parts}
    every = [part for parts in plan.values() for part in parts]
    if not every:
        return _Measured(1.0, None, {}, {})
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
    return _Measured(temperature, promise, outcomes, measured)


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


def pack_outcome(outcome: Outcome) -> bytes:
    """What was said out of fold, one JSON line per row, gzipped: the same bytes for the same."""
    lines = [
        json.dumps(
            {
                "headline": headline,
                "teaser": teaser,
                "truth": truth,
                "predicted": predicted,
                "group": group,
                "source": source,
                "proba": [round(float(p), 5) for p in proba],
                "reason": reason,
            }
        )
        for headline, teaser, truth, predicted, group, source, proba, reason in zip(
            outcome.headlines,
            outcome.teasers,
            outcome.truth,
            outcome.predicted,
            outcome.groups or [""] * len(outcome.truth),
            outcome.sources,
            outcome.proba,
            outcome.reasons,
            strict=True,
        )
    ]
    head = json.dumps({"classes": list(outcome.classes), "abstain_label": outcome.abstain_label})
    return gzip.compress("\n".join([head, *lines, ""]).encode(), mtime=0)


def kept_outcome(version: versions.Version) -> Outcome | None:
    """What a version's out-of-fold models said of its training rows, if that was kept."""
    if "outcomes.jsonl.gz" not in version.manifest["files"]:
        return None
    first, *rest = gzip.decompress(version.read("outcomes.jsonl.gz")).decode().splitlines()
    head, rows = json.loads(first), [json.loads(line) for line in rest]
    return Outcome(
        truth=[row["truth"] for row in rows],
        proba=np.array([row["proba"] for row in rows]),
        classes=head["classes"],
        predicted=[row["predicted"] for row in rows],
        reasons=[row["reason"] for row in rows],
        abstain_label=head["abstain_label"],
        groups=[row["group"] for row in rows],
        sources=[row["source"] for row in rows],
        headlines=[row["headline"] for row in rows],
        teasers=[row["teaser"] for row in rows],
    )


# What is written down --------------------------------------------------------------------------


def summary(version: versions.Version) -> list[str]:
    """A version's figures in a few lines for people."""
    report = json.loads(version.read("report.json"))
    lines = [f"{version.ref}  ({version.path})"]
    for kind, found in report["figures"].items():
        macro = found["macro_f1"]
        among = found.get("among_labels") or {}
        text = f"  {kind:22} macro-F1 {_interval(macro)}"
        if among.get("value") is not None:
            text += f"   among the labels {_interval(among)}"
        lines.append(text)
    lines += [f"  {sentence}" for sentence in (report.get("promise") or {}).get("sentences", [])]
    lines.append(f"  report: {version.path / 'report.html'}")
    return lines


def table(found: Figures) -> list[str]:
    """Figures of one evaluation in a few lines for people."""
    rows = [
        ("macro-F1", found.macro_f1),
        ("among the labels", found.among_labels),
        ("accuracy", found.accuracy),
        ("coverage", found.coverage),
        ("accuracy when answered", found.answered_accuracy),
        ("AUROC in scope", found.scope_auroc),
    ]
    lines = [f"{found.n_rows:,} rows"]
    lines += [f"  {name:24} {_interval(asdict(value))}" for name, value in rows]
    plain = [
        ("calibration error", found.calibration_error),
        ("log loss", found.log_loss),
        ("Brier score (0-2)", found.brier),
    ]
    lines += [f"  {name:24} {value:.3f}" for name, value in plain if value is not None]
    width = max(map(len, found.labels))
    lines.append(f"  {'label':{width}}  precision  recall  F1                   rows")
    for label, own in found.labels.items():
        precision = "-" if own.precision is None else f"{own.precision:.3f}"
        recall = "-" if own.recall is None else f"{own.recall:.3f}"
        f1 = _interval(asdict(own.f1))
        lines.append(f"  {label:{width}}  {precision:>9}  {recall:>6}  {f1:20} {own.support:,}")
    return lines + [f"  {note}" for note in found.notes]


def evaluation_page(
    version: versions.Version, source: str, outcome: Outcome, found: Figures
) -> str:
    """The report page of one evaluation."""
    facts = {**_told(version.manifest), "measured on": source}
    rule = version.manifest["abstention"]
    return page.render(
        facts=facts,
        figures={source: found},
        outcome=outcome,
        honest=source,
        thresholds=rule["thresholds"],
        language=str(version.manifest.get("language") or "en"),
    )


def _interval(value: Mapping[str, Any]) -> str:
    if value["value"] is None:
        return "-"
    if value["low"] is None:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} ({value['low']:.3f}-{value['high']:.3f})"


def _report(
    measured: _Measured, curve: list[tuple[int, Figures]], history: Mapping[str, Any] | None
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "honest": measured.honest,
        "temperature": measured.temperature,
        "figures": {kind: found.to_dict() for kind, found in measured.figures.items()},
        "promise": measured.promise.to_dict() if measured.promise else None,
        "learning_curve": [
            {"n_rows": n, "macro_f1": found.to_dict()["macro_f1"]} for n, found in curve
        ],
    }
    if history is not None:
        report["search"] = dict(history)
    return report


def _facts(
    rows: Sequence[Headline],
    truth: Sequence[str],
    settings: Settings,
    measured: _Measured,
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


def _told(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The facts that stand at the top of the report."""
    return {
        "version": f"{manifest['name']} v{manifest['version']}",
        "created": str(manifest["created"]),
        "rows": f"{manifest['data']['n_rows']:,} of {manifest['data']['source']}",
        "labels": ", ".join(manifest["labels"]),
        "features": f"{manifest['n_features']:,}",
        "written by": f"kopwijzer {manifest['written_by']['kopwijzer']}",
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
    labels of the training rows or their counts."""
    prior, counts = settings.learning.prior, Counter(truth)
    return {
        label: float(np.log(prior[label] / (count / counts.total())))
        for label, count in counts.items()
        if label in prior
    }


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
