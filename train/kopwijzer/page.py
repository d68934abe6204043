"""The report page: figures and pictures -> one HTML file that asks nothing of the network.

Everything that comes from data is escaped, by the template here and by matplotlib in the
pictures; the one script may run because the page's policy names its hash.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from kopwijzer import pictures
from kopwijzer.figures import Figures, Outcome

__all__ = ["render"]

_MOST_ROWS = 200  # that a table of examples shows
_CLOSE = 0.2  # between the two best labels of a row near the border

_REASONS = {
    "empty": "no words",
    "unknown_words": "unknown words",
    "low_confidence": "not sure enough",
    "out_of_scope": "out of scope",
}


def render(
    *,
    facts: Mapping[str, str],
    figures: Mapping[str, Figures],
    outcome: Outcome | None,
    honest: str = "",
    thresholds: Mapping[str, float] | None = None,
    sentences: Sequence[str] = (),
    strongest: Mapping[str, Sequence[tuple[str, float]]] | None = None,
    curve: Sequence[tuple[int, Figures]] = (),
    language: str = "nl",
) -> str:
    """The page as HTML.

    `facts` stand at the top, "version" as the title; `figures` are by way of splitting, `honest`
    names the one to quote, and `outcome` holds the rows behind it, for the pictures and the
    tables of examples. `thresholds` are marked in the pictures, `sentences` tell of a promise.
    `strongest` are words with weights by label, `curve` figures by number of training rows.
    `language` is that of the rows: a screen reader then says them rightly.
    """
    from jinja2 import Environment

    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (resources.files("kopwijzer") / "page.html.jinja").read_text(encoding="utf-8")
    )
    drawn = pictures.draw(outcome, curve, thresholds or {}) if outcome is not None else []
    page = template.render(
        facts=facts,
        figures=figures,
        honest=honest,
        own=figures.get(honest) or next(iter(figures.values()), None),
        pictures=drawn,
        sentences=sentences,
        strongest=_strongest(strongest or {}),
        tables=_tables(outcome) if outcome is not None else [],
        language=language if re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", language) else "",
    )
    # Half a surrogate pair is no text that a file can hold.
    page = page.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    script = page[page.rindex("<script>") + len("<script>") : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return page.replace("sha256-of-the-script", f"sha256-{digest}", 1)


def _strongest(
    words: Mapping[str, Sequence[tuple[str, float]]],
) -> dict[str, list[tuple[str, float, int]]]:
    """Words with their weight, and that as percent of the strongest for the bar behind it."""
    return {
        label: [
            (text, weight, max(0, round(100 * weight / max(own[0][1], 1e-9))))
            for text, weight in own
        ]
        for label, own in words.items()
        if own
    }


# Tables of examples ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Examples:
    """A table of rows: what it shows, the first of the rows, and how many there are."""

    key: str
    title: str
    caption: str
    rows: list[dict[str, Any]]
    n_rows: int


def _tables(outcome: Outcome) -> list[_Examples]:
    if not outcome.headlines:
        return []
    best, confidence = np.array(outcome.best), outcome.confidence
    truth = np.array(outcome.truth)
    in_scope = truth != outcome.abstain_label
    silent = np.array([reason is not None for reason in outcome.reasons])
    ranked = np.sort(outcome.proba, axis=1)
    margin = ranked[:, -1] - ranked[:, -2] if ranked.shape[1] > 1 else np.ones(len(ranked))
    surest = np.argsort(-confidence, kind="stable")
    closest = np.argsort(margin, kind="stable")
    found = [
        _examples(
            outcome,
            "mistakes",
            "Most confident mistakes",
            "Rows whose likeliest label is not theirs, surest first. Wrong labels hide here too.",
            surest[(best != truth)[surest]],
        ),
        _examples(
            outcome,
            "abstentions",
            "Abstentions",
            "Rows of a label that were not answered, and why, surest first.",
            surest[(silent & in_scope)[surest]],
        ),
        _examples(
            outcome,
            "border",
            "Near the border",
            f"Rows whose two best labels are within {_CLOSE}, closest first: "
            "to label more like these helps most.",
            closest[(margin < _CLOSE)[closest]],
        ),
    ]
    return [table for table in found if table.rows]


def _examples(
    outcome: Outcome, key: str, title: str, caption: str, places: npt.NDArray[np.int64]
) -> _Examples:
    second = np.argsort(-outcome.proba, axis=1, kind="stable")[:, :2]
    rows = [
        {
            "headline": outcome.headlines[i],
            "teaser": outcome.teasers[i] if outcome.teasers else "",
            "truth": outcome.truth[i],
            "best": outcome.classes[second[i][0]],
            "second": outcome.classes[second[i][-1]],
            "confidence": float(outcome.proba[i].max()),
            "reason": _REASONS.get(outcome.reasons[i] or "", outcome.reasons[i] or ""),
            "source": outcome.sources[i] if outcome.sources else "",
        }
        for i in places[:_MOST_ROWS].tolist()
    ]
    return _Examples(key, title, caption, rows, len(places))
