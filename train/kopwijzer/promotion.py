"""Promotion: two versions on the same rows -> what would change, and whether to let it."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kopwijzer import report, training, versions
from kopwijzer.errors import BadRows, NotBetter
from kopwijzer.figures import MIN_ROWS, Comparison, Estimate, Outcome
from kopwijzer.figures import compare as compare_outcomes
from kopwijzer.headlines import Headline
from kopwijzer.versions import Version

__all__ = ["Verdict", "compare", "promote"]

_SHOWN = 25  # flips that the table shows
_TIMED = 5000  # rows whose scoring is timed


@dataclass(frozen=True, slots=True)
class Verdict:
    """A comparison of version B with version A, and what each costs.

    `bytes` is the size of what scoring needs, `rows_per_second` is measured on the same rows one
    after the other; both are pairs (A, B).
    """

    a: str
    b: str
    comparison: Comparison
    bytes: tuple[int, int]
    rows_per_second: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it."""
        return {
            "a": self.a,
            "b": self.b,
            **self.comparison.to_dict(),
            "bytes": list(self.bytes),
            "rows_per_second": list(self.rows_per_second),
        }

    def table(self) -> str:
        """The same for people: differences are B - A with 95 % intervals."""
        found = self.comparison
        lines = [f"{self.b} against {self.a} on {found.n_rows:,} rows (B - A, 95% interval)"]
        lines.append(f"  {'accuracy':24} {_difference(found.accuracy)}")
        lines.append(f"  {'macro-F1':24} {_difference(found.macro_f1)}")
        for label, estimate in found.labels.items():
            worse = "   worse beyond the interval" if label in found.worse else ""
            lines.append(f"  F1 {label:21} {_difference(estimate)}{worse}")
        lines.append(
            f"  {'size':24} {self.bytes[0]:,} -> {self.bytes[1]:,} bytes; speed "
            f"{self.rows_per_second[0]:,.0f} -> {self.rows_per_second[1]:,.0f} rows a second"
        )
        lines.append(f"  {len(found.flips):,} rows change their label")
        for flip in found.flips[:_SHOWN]:
            mark = {flip.label_a: "was right", flip.label_b: "is right"}.get(flip.truth, "neither")
            lines.append(
                f"    {flip.label_a} {flip.confidence_a:.0%} -> {flip.label_b} "
                f"{flip.confidence_b:.0%}  ({mark})  {flip.headline}"
            )
        if len(found.flips) > _SHOWN:
            lines.append(f"    ... and {len(found.flips) - _SHOWN:,} more; --json has them all")
        return "\n".join(lines)


def compare(a: Version, b: Version, rows: Sequence[Headline] | None = None) -> Verdict:
    """Version B against version A on labelled rows that neither has seen.

    Without rows the two are compared by what their cross-validation said of the training rows
    that both have: models that had not seen them, so the figures are honest.

    Raises
    ------
    BadRows
        There are no rows, a label that a model does not know, or no common training rows.
    """
    outcomes = [_on(a, rows), _on(b, rows)] if rows is not None else _common(a, b)
    timed = [
        {"headline": headline, "teaser": teaser}
        for headline, teaser in zip(
            outcomes[0].headlines[:_TIMED], outcomes[0].teasers[:_TIMED], strict=True
        )
    ]
    return Verdict(
        a=a.ref,
        b=b.ref,
        comparison=compare_outcomes(*outcomes),
        bytes=(_bytes(a), _bytes(b)),
        rows_per_second=(_speed(a, timed), _speed(b, timed)),
    )


def _on(version: Version, rows: Sequence[Headline]) -> Outcome:
    return training.evaluate(version.scorer(), rows, n_bootstrap=10)[0]


def _common(a: Version, b: Version) -> list[Outcome]:
    """The out-of-fold outcomes of both, on the rows that both have with the same label."""
    kept = [report.kept_outcome(version) for version in (a, b)]
    if kept[0] is None or kept[1] is None:
        raise BadRows(
            f"{a.ref} and {b.ref}",
            ["one of them keeps no cross-validated outcomes; name labelled rows with --on SOURCE"],
        )
    places: list[dict[tuple[str, str, str], int]] = [
        {key: i for i, key in enumerate(zip(o.headlines, o.teasers, o.truth, strict=True))}
        for o in kept
        if o is not None
    ]
    both = [key for key in places[0] if key in places[1]]
    if len(both) < MIN_ROWS:
        raise BadRows(
            f"{a.ref} and {b.ref}",
            [f"they share {len(both)} training rows; name labelled rows with --on SOURCE"],
        )
    return [
        outcome.take([place[key] for key in both])
        for outcome, place in zip(kept, places, strict=True)
        if outcome is not None
    ]


def _speed(version: Version, rows: Sequence[Mapping[str, str]]) -> float:
    scorer = version.scorer()
    scorer.predict_proba(rows)
    started = time.perf_counter()
    scorer.predict_proba(rows)
    return len(rows) / max(time.perf_counter() - started, 1e-9)


def promote(
    ref: str,
    models: str | os.PathLike[str] | None = None,
    *,
    on: Sequence[Headline] | None = None,
    force: bool = False,
    note: str = "",
) -> str:
    """Point `champion` to a version unless a label got worse; what happened, as a sentence.

    Raises
    ------
    NotBetter
        A label is worse beyond its interval; nothing was moved.
    """
    version = versions.find(ref, models)
    live = versions.champion(models, version.name)
    if live is not None and live.number == version.number:
        return f"{version.ref} is the champion already"
    why = note
    if live is not None and not force:
        verdict = compare(live, version, on)
        worse = verdict.comparison.worse
        if worse:
            told = ", ".join(f"{x} {_difference(verdict.comparison.labels[x])}" for x in worse)
            raise NotBetter(
                f"{version.ref} is not promoted: worse than {live.ref} on {told}; look with "
                f"'models compare {live.ref} {version.ref}', or use --force"
            )
        gain = _difference(verdict.comparison.macro_f1)
        why = f"macro-F1 {gain} on {verdict.comparison.n_rows} rows. {note}".strip()
    if force:
        why = f"forced. {note}".strip()
    versions.set_alias(version.ref, "champion", models, note=why)
    before = f" (was v{live.number})" if live is not None else ""
    return f"{version.name}@champion is now v{version.number}{before}"


def _difference(found: Estimate) -> str:
    if found.value is None:
        return "not to be had"
    if found.low is None or found.high is None:
        return f"{found.value:+.3f}"
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _bytes(version: Version) -> int:
    manifest = (version.path / "manifest.json").stat().st_size
    return int(version.manifest["files"]["scorer.npz"]["bytes"]) + manifest
