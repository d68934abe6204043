"""The report of a version: its figures as JSON, as a page, and in a few lines for people."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from kopwijzer import card, page
from kopwijzer.figures import Figures, Outcome, Promise
from kopwijzer.settings import Settings
from kopwijzer.versions import Version

__all__ = [
    "Measured",
    "evaluation_page",
    "files",
    "kept_outcome",
    "pack_outcome",
    "summary",
    "table",
]


@dataclass(frozen=True)
class Measured:
    """What cross-validation found: calibration, thresholds, and figures by way of splitting."""

    temperature: float
    promise: Promise | None = None
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    figures: Mapping[str, Figures] = field(default_factory=dict)
    curve: Sequence[tuple[int, Figures]] = ()

    @property
    def honest(self) -> str:
        """The way of splitting whose figures stand for the world: the hardest that was made."""
        order = ("leave-one-source-out", "grouped", "random", "newest", "held out")
        return next((kind for kind in order if kind in self.figures), "")

    def to_dict(self) -> dict[str, Any]:
        """What report.json holds."""
        return {
            "honest": self.honest,
            "temperature": self.temperature,
            "figures": {kind: found.to_dict() for kind, found in self.figures.items()},
            "promise": self.promise.to_dict() if self.promise else None,
            "learning_curve": [
                {"n_rows": n, "macro_f1": found.to_dict()["macro_f1"]} for n, found in self.curve
            ],
        }


def files(
    manifest: Mapping[str, Any],
    measured: Measured,
    strongest: Any,
    history: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """The files that stand beside a model: recipe, report, page, card, answers out of fold.

    `history` (how the settings were found) goes into the report as it is.
    """
    numbers = measured.to_dict()
    if history is not None:
        numbers["search"] = dict(history)
    kept = measured.outcomes.get(measured.honest)
    drawn = page.render(
        facts=_told(manifest),
        figures=measured.figures,
        outcome=kept,
        honest=measured.honest,
        thresholds=measured.promise.thresholds if measured.promise else None,
        sentences=measured.promise.sentences if measured.promise else (),
        strongest=strongest,
        curve=measured.curve,
        language=str(manifest.get("language") or "en"),
    )
    texts = {
        "config.toml": Settings.from_mapping(manifest["settings"]).to_toml(),
        "report.json": json.dumps(numbers, ensure_ascii=False, indent=1) + "\n",
        "report.html": drawn,
        "README.md": card.render(manifest, numbers),
    }
    done = {file: text.encode("utf-8", "surrogatepass") for file, text in texts.items()}
    if kept is not None:
        done["outcomes.jsonl.gz"] = pack_outcome(kept)
    return done


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


def kept_outcome(version: Version) -> Outcome | None:
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


def summary(version: Version) -> list[str]:
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


def evaluation_page(version: Version, source: str, outcome: Outcome, found: Figures) -> str:
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
