"""The ablation table: each part of the recipe on and off, measured the same way.

    python -m tests.experiments            all variants (about 15 minutes on two cores)
    python -m tests.experiments --only C   the variants whose name holds "C"

Every variant is the shipped recipe with settings changed. Measured for each: grouped
cross-validation, whole beats left out (four folds of beats), and, where the folder with real
headlines lies beside the project, its hand-labelled rows. The default recipe is measured on other
data too, where that lies there: sections of newspapers, and the intents of CLINC150. Writes
docs/experiments.md.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import GroupKFold

from kopwijzer import figures, learning, training
from kopwijzer.engines import Engine
from kopwijzer.headlines import Columns, Headline, read
from kopwijzer.scorer import Scorer
from kopwijzer.settings import Settings
from kopwijzer.splits import story_groups

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT.parent / "shared" / "real"
REAL = FOLDER / "dev.jsonl"
RECIPE = "football-nl"
PAGE = ROOT / "docs" / "experiments.md"

_OUT = "oos"  # the label that CLINC150 gives to what is out of scope

VARIANTS: dict[str, list[str]] = {
    "the recipe": [],
    "without patterns": ["features.patterns.weight=0.001"],
    "without the headline's own words": ["features.headline.weight=0.001"],
    "without characters": ["features.characters.weight=0.001"],
    "without words": ["features.words.weight=0.001"],
    "characters 2-5": ["features.characters.ngrams=[2,5]"],
    "characters 3-6": ["features.characters.ngrams=[3,6]"],
    "patterns 2-3": ["features.patterns.ngrams=[2,3]"],
    "characters in every document kept": ["features.characters.max_df=1.0"],
    "patterns of the teaser too": ['features.patterns.field="both"'],
    "features of two rows kept": ["features.characters.min_df=2", "features.patterns.min_df=2"],
    "C 4": ["learning.C=4"],
    "C 16": ["learning.C=16"],
    "balance 0.4": ["learning.balance=0.4"],
    "full balance": ["learning.balance=1"],
    "5 epochs": ["learning.epochs=5"],
    "20 epochs": ["learning.epochs=20"],
    "no prior: the corpus' own mix": ["learning.prior={}"],
}


def main() -> None:
    """Measure the variants and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="variants whose name holds this text")
    wanted = parser.parse_args().only
    rows = training.read_labelled(None, Settings.read(RECIPE))
    truth = [str(row.label) for row in rows]
    groups = story_groups(rows, Settings.read(RECIPE))
    real = _real()
    lines = []
    for name, changes in VARIANTS.items():
        if wanted not in name:
            continue
        started = time.perf_counter()
        settings = Settings.read(RECIPE, changes=changes)
        cells = [
            _crossed(rows, truth, _stories(truth, groups), settings),
            _crossed(rows, truth, _beats(rows), settings),
            *_on_real(rows, real, settings),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        sys.stderr.write(f"{lines[-1]}  {time.perf_counter() - started:.0f} s\n")
    if not wanted:
        text = _page(len(rows), len(real), lines) + "\n".join(["", *_sections(), *_intents(), ""])
        PAGE.write_text(text, encoding="utf-8")


def _crossed(
    rows: Sequence[Headline],
    truth: Sequence[str],
    splits: Sequence[learning.Split],
    settings: Settings,
) -> str:
    engine = Engine()
    folds = learning.cross_predict(
        rows,
        truth,
        splits,
        run=engine.run("folds", lambda what, done, of: None),
        **training.learning_arguments(settings),
    )
    joined = learning.Fold.join(list(folds))
    names = np.array(sorted(set(truth)))
    said = names[joined.decision.argmax(axis=1)]
    return f"{f1_score([truth[i] for i in joined.test], said, average='macro'):.3f}"


def _stories(truth: Sequence[str], groups: Sequence[int]) -> list[learning.Split]:
    from sklearn.model_selection import StratifiedGroupKFold

    return list(StratifiedGroupKFold(3, shuffle=True, random_state=0).split(truth, truth, groups))


def _beats(rows: Sequence[Headline]) -> list[learning.Split]:
    sources = [row.source or "" for row in rows]
    return list(GroupKFold(4).split(sources, sources, sources))


def _real() -> list[dict[str, Any]]:
    if not REAL.exists():
        sys.stderr.write("no real headlines beside the project: those columns stay empty\n")
        return []
    return [json.loads(line) for line in REAL.read_text(encoding="utf-8").splitlines()]


def _on_real(
    rows: Sequence[Headline],
    real: Sequence[dict[str, Any]],
    settings: Settings,
) -> Iterable[str]:
    """Macro-F1 with abstaining, among the labels, AUROC and calibration error: sure rows, all."""
    if not real:
        return [""] * 6
    scorer = training.fit(rows, settings)
    found = []
    for part in ([row for row in real if row["sure"] == "high"], real):
        labels = np.array([row["label"] for row in part])
        headlines = [Headline(row["headline"], row["teaser"] or "", row["label"]) for row in part]
        outcome, _ = training.evaluate(scorer, headlines, n_bootstrap=10, groups=False)
        scope = labels != "other"
        barred = outcome.proba.copy()
        barred[:, list(outcome.classes).index("other")] = -1
        forced = np.array(outcome.classes)[barred.argmax(axis=1)]
        other = outcome.proba[:, list(outcome.classes).index("other")]
        found += [
            f"{f1_score(labels, outcome.predicted, average='macro'):.3f}",
            f"{f1_score(labels[scope], forced[scope], average='macro'):.3f}",
            f"{roc_auc_score(scope, 1 - other):.3f} / {_calibration(outcome):.3f}",
        ]
    return found


def _sections() -> list[str]:
    """The default recipe on headlines by the section they stood in."""
    files = [FOLDER / f"sections_{part}.jsonl.gz" for part in ("train", "test")]
    if not all(file.exists() for file in files):
        return []
    own, test = (list(read(file, labelled=True)) for file in files)
    scorer = training.fit(own)
    truth = np.array([row.label for row in test])
    said = scorer.classes_[scorer.predict_proba(test).argmax(axis=1)]
    return [
        "## The default recipe elsewhere",
        "",
        f"*Sections*: {len(own):,} headlines of Dutch newspapers in "
        f"{len(scorer.classes_)} sections, tested on {len(truth):,} later ones: accuracy "
        f"{np.mean(said == truth):.3f}, macro-F1 {f1_score(truth, said, average='macro'):.3f}.",
        "",
    ]


def _intents() -> list[str]:
    """The default recipe on CLINC150: learned without and with its out-of-scope rows, answered
    from the highest threshold that keeps 0.90 of the validation rows in scope right."""
    if not (FOLDER / "clinc150").is_dir():
        return []
    parts = {part: _queries(part) for part in ("train", "val", "test")}
    lines = [
        "*CLINC150* (Larson et al. 2019): 150 intents in English, and queries out of scope. The "
        "threshold is the highest, in steps of 0.01, that keeps 0.90 of the validation rows in "
        "scope right; right means the right label and no abstaining.",
        "",
        "| learned | threshold | in scope, right | out of scope, refused |",
        "|---|---:|---:|---:|",
    ]
    for name, rows in (
        ("without rows out of scope", [row for row in parts["train"] if row.label != _OUT]),
        ("with 100 rows out of scope", parts["train"]),
    ):
        scorer = training.fit(rows)
        steps = [step / 100 for step in range(1, 100)]
        threshold = max(t for t in steps if _answered(scorer, parts["val"], t)[0] >= 0.90)
        right, refused = _answered(scorer, parts["test"], threshold)
        lines.append(f"| {name} | {threshold:.2f} | {right:.3f} | {refused:.3f} |")
    return lines


def _queries(part: str) -> list[Headline]:
    columns = Columns(headline="text")
    return list(read(FOLDER / "clinc150" / f"{part}.csv", columns=columns, labelled=True))


def _answered(scorer: Scorer, rows: Sequence[Headline], threshold: float) -> tuple[float, float]:
    """The share of the rows in scope that is answered right, and of the others that is refused."""
    proba = scorer.predict_proba(rows)
    said = np.where(proba.max(axis=1) < threshold, _OUT, scorer.classes_[proba.argmax(axis=1)])
    truth = np.array([row.label for row in rows])
    scope = truth != _OUT
    return float((said == truth)[scope].mean()), float((said == _OUT)[~scope].mean())


def _calibration(outcome: figures.Outcome) -> float:
    return figures.measure(outcome, n_bootstrap=10).calibration_error or 0.0


def _page(n_rows: int, n_real: int, lines: list[str]) -> str:
    head = (
        "| variant | grouped CV | whole beats left out | real, sure: macro-F1 | among the four | "
        "AUROC / ECE | real, all: macro-F1 | among the four | AUROC / ECE |"
    )
    return "\n".join(
        [
            "# Experiments",
            "",
            f"The shipped recipe with one thing changed, on the {n_rows:,} rows of football-nl. "
            f"Made by `make experiments` on {datetime.now(UTC):%d %B %Y}; every figure is macro-F1 "
            "unless it says otherwise.",
            "",
            "*Grouped CV*: three folds, stories kept together. *Whole beats left out*: four folds "
            "of whole beats, the nearest the corpus has to an unseen desk. *Real*: "
            f"{n_real:,} real headlines of Dutch feeds (2019), labelled by hand and never trained "
            "on, by models without the temperature that `train` folds in, as answered (abstaining "
            "included); *sure* are the rows whose annotators did not doubt, 28 of them "
            "`club_finance`, so differences under 0.01 there mean nothing. AUROC: in scope against "
            "`other`; ECE: expected calibration error.",
            "",
            head,
            "|---|" + "---:|" * 8,
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
