"""The report page: figures and pictures -> one HTML file that asks nothing of the network.

Pictures are SVG by matplotlib with text as text, so that they follow the page's colours in light
and dark. Everything that comes from data is escaped, by the template and in the pictures.
"""

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from kopwijzer.figures import (
    MIN_ROWS,
    Estimate,
    Figures,
    Outcome,
    confusion,
    coverage_curve,
    reliability,
)

__all__ = ["render"]

_WIDE = 1.6  # width of most pictures as a share of their height
_INK, _MUTED, _GRID = "#010203", "#040506", "#070809"  # stand-ins that become the page's colours
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a7a00", "#56b4e9", "#7b6fd0", "#a0522d")
_MOST_ROWS = 200  # rows that a table of examples shows
_MOST_LABELS = 20  # labels that a picture can hold


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG with its caption, or only the sentence that says why there is none."""

    title: str
    caption: str
    svg: str = ""


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
    language: str = "en",
) -> str:
    """The page as HTML.

    `facts` stand at the top; `figures` are by way of splitting, `honest` names the one to quote,
    and `outcome` holds the rows behind it, for the pictures and the tables of examples.
    `thresholds` are marked in the pictures, `sentences` tell of a promise. `strongest` are words
    with weights by label, `curve` figures by number of training rows.
    """
    from jinja2 import Environment

    pictures = _pictures(outcome, curve, thresholds or {}) if outcome is not None else []
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        (resources.files("kopwijzer") / "page.html.jinja").read_text(encoding="utf-8")
    )
    own = figures.get(honest) or next(iter(figures.values()), None)
    return template.render(
        facts=facts,
        figures=figures,
        honest=honest,
        own=own,
        estimate=_estimate,
        share=_share,
        pictures=pictures,
        sentences=sentences,
        strongest=_strongest(strongest or {}),
        tables=_tables(outcome) if outcome is not None else [],
        language=language if re.fullmatch(r"[A-Za-z-]{2,12}", language) else "en",
    )


def _estimate(found: Estimate | None) -> str:
    if found is None or found.value is None:
        return "–"
    if found.low is None or found.high is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.3f}–{found.high:.3f})"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _strongest(
    words: Mapping[str, Sequence[tuple[str, float]]],
) -> dict[str, list[tuple[str, float, int]]]:
    """Words with their weight, and that as percent of the strongest for the bar behind it."""
    return {
        label: [(text, weight, round(100 * weight / own[0][1])) for text, weight in own]
        for label, own in words.items()
        if own
    }


# Tables of examples ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Examples:
    """A table of rows: its title, what it shows, and the rows."""

    key: str
    title: str
    caption: str
    rows: list[dict[str, Any]]


def _tables(outcome: Outcome) -> list[Examples]:
    if not outcome.headlines:
        return []
    confidence = outcome.confidence
    order = np.argsort(-confidence, kind="stable")
    wrong = [i for i in order if outcome.best[i] != outcome.truth[i]]
    silent = [
        i
        for i in order
        if outcome.reasons[i] not in (None, "out_of_scope")
        and outcome.truth[i] != outcome.abstain_label
    ]
    ranked = np.sort(outcome.proba, axis=1)
    margin = ranked[:, -1] - ranked[:, -2] if ranked.shape[1] > 1 else np.ones(len(ranked))
    border = [i for i in np.argsort(margin, kind="stable") if margin[i] < 0.2]
    found = [
        Examples(
            "mistakes",
            "Most confident mistakes",
            "Rows whose likeliest label is not theirs, surest first: wrong labels hide here too.",
            _rows(outcome, wrong),
        ),
        Examples(
            "abstentions",
            "Abstentions",
            "Rows of a label that were not answered, with the reason.",
            _rows(outcome, silent),
        ),
        Examples(
            "border",
            "Near the border",
            "Rows whose two best labels are within 0.2: the most useful to label more of.",
            _rows(outcome, border),
        ),
    ]
    return [table for table in found if table.rows]


def _rows(outcome: Outcome, places: Sequence[int]) -> list[dict[str, Any]]:
    best, confidence = outcome.best, outcome.confidence
    return [
        {
            "headline": outcome.headlines[i],
            "teaser": outcome.teasers[i] if outcome.teasers else "",
            "truth": outcome.truth[i],
            "best": best[i],
            "confidence": float(confidence[i]),
            "reason": outcome.reasons[i] or "",
            "source": outcome.sources[i] if outcome.sources else "",
        }
        for i in list(places)[:_MOST_ROWS]
    ]


# Pictures --------------------------------------------------------------------------------------


def _pictures(
    outcome: Outcome, curve: Sequence[tuple[int, Figures]], thresholds: Mapping[str, float]
) -> list[Picture]:
    return [
        _confusion(outcome),
        _precision_recall(outcome, thresholds),
        _reliability(outcome),
        _coverage(outcome),
        _learning_curve(curve),
        _by_source(outcome),
    ]


def _draw(
    title: str, caption: str, paint: Callable[[Any], None], size: tuple[float, float]
) -> Picture:
    """A picture painted on one pair of axes, as an SVG that takes its colours from the page."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",  # text stays text: readable, searchable, in the page's font
        "svg.hashsalt": "kopwijzer",  # the same bytes for the same figures
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 10,
        "text.color": _INK,
        "axes.edgecolor": _MUTED,
        "axes.labelcolor": _INK,
        "xtick.color": _MUTED,
        "ytick.color": _MUTED,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "axes.grid": False,
        "grid.color": _GRID,
        "legend.frameon": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure.add_subplot())
        stream = io.StringIO()
        figure.savefig(
            stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    key = re.sub(r"\W+", "-", title.lower())
    svg = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{key}-", svg)
    for colour, name in ((_INK, "ink"), (_MUTED, "muted"), (_GRID, "line")):
        svg = svg.replace(colour, f"var(--{name})")
    svg = re.sub(r'font: ([^;"]*?)"DejaVu Sans"[^;"]*', r"font: \1var(--sans)", svg)
    svg = re.sub(r"font: ([\d.]+px) '[^;\"]*", r"font: \1 var(--sans)", svg)
    label = html.escape(f"{title}. {caption}", quote=True)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        rf'<svg viewBox="\1" role="img" aria-label="{label}" preserveAspectRatio="xMidYMid meet">',
        svg,
        count=1,
    )
    return Picture(title, caption, svg)


def _confusion(outcome: Outcome) -> Picture:
    title = "Confusion matrix"
    labels, table = confusion(outcome)
    if len(labels) > _MOST_LABELS:
        return Picture(
            title, f"{len(labels)} labels are too many to draw; see the figures by label."
        )
    total = table.sum(axis=1, keepdims=True)
    share = table / np.maximum(total, 1)

    def paint(axes: Any) -> None:
        # One colour, by opacity: it reads on white and on black.
        for i in range(len(labels)):
            for j in range(len(labels)):
                colour = _COLOURS[0] if i == j else _COLOURS[1]
                axes.add_patch(_cell(j, i, colour, float(share[i, j])))
                if table[i, j]:
                    text = f"{table[i, j]:,}"
                    axes.text(
                        j, i, text, ha="center", va="center", fontsize=10 if len(labels) < 9 else 7
                    )
        axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xticks(range(len(labels)), [_tick(x) for x in labels], rotation=35, ha="right")
        axes.set_yticks(range(len(labels)), [_tick(x) for x in labels])
        axes.set_xlabel("answered")
        axes.set_ylabel("true")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)

    side = max(4.2, 0.55 * len(labels) + 2.2)
    return _draw(
        title,
        "Rows by true label, columns by what was answered; the shade is the share of the row.",
        paint,
        (side + 0.8, side),
    )


def _cell(x: float, y: float, colour: str, alpha: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (x - 0.47, y - 0.47), 0.94, 0.94, facecolor=colour, alpha=0.04 + 0.6 * alpha, linewidth=0
    )


def _precision_recall(outcome: Outcome, thresholds: Mapping[str, float]) -> Picture:
    title = "Precision and recall by label"
    truth = np.asarray(outcome.truth)
    drawn = [
        (k, label)
        for k, label in enumerate(outcome.classes)
        if label != outcome.abstain_label and (truth == label).sum() >= MIN_ROWS
    ][: len(_COLOURS)]
    if not drawn:
        return Picture(title, f"No label has {MIN_ROWS} rows or more: not drawn.")

    def paint(axes: Any) -> None:
        for colour, (k, label) in zip(_COLOURS, drawn, strict=False):
            order = np.argsort(-outcome.proba[:, k], kind="stable")
            hit = np.cumsum(truth[order] == label)
            precision = hit / np.arange(1, len(order) + 1)
            recall = hit / hit[-1]
            use = _thin(len(order))
            axes.plot(recall[use], precision[use], color=colour, lw=1.8, label=_tick(label))
            chosen = thresholds.get(label)
            if chosen:
                at = max(int((outcome.proba[order, k] >= chosen).sum()) - 1, 0)
                axes.plot(recall[at], precision[at], "o", color=colour, ms=7)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
        axes.grid(visible=True)
        axes.legend(loc="lower left")

    few = len(outcome.classes) - 1 > len(_COLOURS)
    caption = "How precise the surest answers of a label are, down to all of its rows."
    if few:
        caption += f" The first {len(_COLOURS)} labels."
    if thresholds:
        caption += " Dots: the chosen thresholds."
    return _draw(title, caption, paint, (6.4, 4.2))


def _reliability(outcome: Outcome) -> Picture:
    title = "Reliability"
    _, accuracy, confidence, count = reliability(outcome)
    full = count >= MIN_ROWS
    if not full.any():
        return Picture(title, f"No bin of confidence has {MIN_ROWS} rows or more: not drawn.")

    def paint(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=_MUTED, lw=1, ls=(0, (4, 3)))
        axes.plot(confidence[full], accuracy[full], "o-", color=_COLOURS[0], lw=1.8, ms=6)
        for x, y, n in zip(confidence[full], accuracy[full], count[full], strict=True):
            axes.annotate(f"{n:,}", (x, y), xytext=(6, -11), textcoords="offset points", fontsize=8)
        axes.set(xlabel="confidence", ylabel="share that was right", xlim=(0, 1.04), ylim=(0, 1.04))
        axes.grid(visible=True)

    return _draw(
        title,
        "When it says 0.8, is it right eight times in ten? On the dashed line it is. "
        f"Small numbers: rows in the bin; bins under {MIN_ROWS} rows are left out.",
        paint,
        (5.2, 4.2),
    )


def _coverage(outcome: Outcome) -> Picture:
    title = "Coverage and accuracy"
    coverage, accuracy, _ = coverage_curve(outcome)
    if len(coverage) < MIN_ROWS:
        return Picture(title, f"Only {len(coverage)} rows were taken for a label: not drawn.")
    answered = np.array([reason is None for reason in outcome.reasons])
    right = np.array([a == b for a, b in zip(outcome.truth, outcome.predicted, strict=True)])

    def paint(axes: Any) -> None:
        use = np.array([i for i in _thin(len(coverage)) if i >= MIN_ROWS - 1])
        axes.plot(coverage[use], accuracy[use], color=_COLOURS[0], lw=1.8)
        if answered.any():
            at = (answered.mean(), right[answered].mean())
            axes.plot(*at, "o", color=_COLOURS[1], ms=8)
            axes.annotate(
                "as it is set", at, xytext=(-8, -16), textcoords="offset points", ha="right"
            )
        axes.set(xlabel="share of all rows answered", ylabel="share of those right", xlim=(0, 1.01))
        axes.set_ylim(top=1.005)
        axes.grid(visible=True)

    return _draw(
        title,
        "What it costs to be surer: answering only the surest rows. The dot is the chosen setting.",
        paint,
        (5.8, 4.2),
    )


def _learning_curve(curve: Sequence[tuple[int, Figures]]) -> Picture:
    title = "Learning curve"
    points = [(n, found.macro_f1) for n, found in curve if found.macro_f1.value is not None]
    if len(points) < 2:
        return Picture(title, "Too few rows to draw how the figures grow with them.")

    def paint(axes: Any) -> None:
        n = [rows for rows, _ in points]
        axes.fill_between(
            n,
            [e.low if e.low is not None else e.value for _, e in points],
            [e.high if e.high is not None else e.value for _, e in points],
            color=_COLOURS[0],
            alpha=0.18,
            lw=0,
        )
        axes.plot(n, [e.value for _, e in points], "o-", color=_COLOURS[0], lw=1.8, ms=5)
        axes.set_xscale("log")
        axes.set_xticks(n, [f"{rows:,}" for rows in n])
        axes.minorticks_off()
        axes.set(xlabel="training rows", ylabel="macro-F1")
        axes.grid(visible=True)

    return _draw(
        title,
        "Macro-F1 on one grouped fold by models of a growing share of the rest, with "
        "95 % intervals. Still rising at the right: more rows would help.",
        paint,
        (5.8, 4.2),
    )


def _by_source(outcome: Outcome) -> Picture:
    from sklearn.metrics import f1_score

    title = "F1 by source"
    sources = np.asarray(outcome.sources)
    names = [s for s in dict.fromkeys(outcome.sources) if s and (sources == s).sum() >= MIN_ROWS]
    if len(names) < 2:
        return Picture(
            title, f"The rows name fewer than two sources of {MIN_ROWS} rows: not drawn."
        )
    truth, said = np.asarray(outcome.truth), np.asarray(outcome.predicted)
    found = sorted(
        (
            float(
                f1_score(
                    truth[sources == s],
                    said[sources == s],
                    average="macro",
                    labels=sorted(set(truth[sources == s])),
                    zero_division=0.0,
                )
            ),
            s,
            int((sources == s).sum()),
        )
        for s in names
    )[-40:]

    def paint(axes: Any) -> None:
        place = range(len(found))
        axes.hlines(place, 0, [f for f, _, _ in found], color=_GRID, lw=1)
        axes.plot([f for f, _, _ in found], place, "o", color=_COLOURS[0], ms=6)
        axes.set_yticks(place, [f"{_tick(s)} ({n:,})" for _, s, n in found])
        axes.set(xlabel="macro-F1", xlim=(max(0.0, found[0][0] - 0.1), 1.0))
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=True, axis="x")

    return _draw(
        title,
        "Macro-F1 on the rows of each source, over the labels that it has; the number "
        "of rows in brackets.",
        paint,
        (6.4, max(2.6, 0.27 * len(found) + 1)),
    )


def _tick(text: str) -> str:
    # matplotlib reads dollar signs as mathematics; in a label they are dollars.
    short = text if len(text) <= 24 else text[:23] + "…"
    return short.replace("$", r"\$")


def _thin(n: int, most: int = 300) -> Sequence[int]:
    """Up to `most` places of n, the first and the last among them."""
    return sorted({int(i) for i in np.linspace(0, n - 1, min(n, most))})
