"""Pictures: an outcome -> SVG that takes its colours and letters from the page around it.

Every picture comes with its numbers, for those who would rather read them, and is only a
sentence where the rows are too few to draw from.
"""

import html
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kopwijzer.figures import (
    MIN_ROWS,
    Estimate,
    Figures,
    Outcome,
    by_source,
    confusion,
    coverage_curve,
    precision_recall,
    reliability,
)

__all__ = ["Picture", "draw"]

Floats = npt.NDArray[np.float64]

_WIDTH, _HEIGHT = 4.5, 3.6  # inches of 72 units: letters of 11 units then read on a phone too
# Stand-ins that become the page's variables, and so follow its theme.
_INK, _MUTED, _GRID = "#010203", "#040506", "#070809"
_COLOURS = tuple(f"#0a0b{number:02x}" for number in range(1, 9))
_VARIABLES = {_INK: "ink", _MUTED: "muted", _GRID: "line"} | {
    colour: f"c{number}" for number, colour in enumerate(_COLOURS, 1)
}
# Colour alone tells nothing on a grey printer, nor to everyone.
_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_MOST_LABELS, _MOST_SOURCES = 20, 40


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG with its caption and its numbers, or only the sentence that says why there is none."""

    title: str
    caption: str
    svg: str = ""
    head: Sequence[str] = ()
    numbers: Sequence[Sequence[str]] = ()
    wide: bool = False


def draw(
    outcome: Outcome, curve: Sequence[tuple[int, Figures]], thresholds: Mapping[str, float]
) -> list[Picture]:
    """All pictures of an outcome; `curve` holds figures by number of training rows."""
    return [
        _confusion(outcome),
        _precision_recall(outcome, thresholds),
        _reliability(outcome),
        _coverage(outcome),
        _learning_curve([(n, found.macro_f1) for n, found in curve]),
        _by_source(outcome),
    ]


def _confusion(outcome: Outcome) -> Picture:
    title = "Confusion matrix"
    labels, table = confusion(outcome)
    if len(labels) > _MOST_LABELS:
        return Picture(
            title, f"{len(labels)} labels are too many to draw; see the figures by label."
        )
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    small, wide = len(labels) > 6, len(labels) > 9

    def paint(axes: Any) -> None:
        from matplotlib.patches import Rectangle

        for i, j in np.ndindex(*table.shape):
            # Shades by opacity: they are seen on white and on black.
            colour = _COLOURS[0] if i == j else _COLOURS[1]
            alpha = 0.05 + 0.5 * float(share[i, j])
            axes.add_patch(
                Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fc=colour, alpha=alpha, lw=0)
            )
            if table[i, j]:
                size = 8 if small else 10
                axes.text(j, i, f"{table[i, j]:,}", ha="center", va="center", fontsize=size)
        axes.set(xlim=(-0.5, len(labels) - 0.5), ylim=(len(labels) - 0.5, -0.5))
        axes.set_xticks(range(len(labels)), [_short(x) for x in labels], rotation=40, ha="right")
        axes.set_yticks(range(len(labels)), [_short(x) for x in labels])
        for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
            for tick in ticks:
                tick.set(rotation_mode="anchor", fontsize=8 if small else 10)
        axes.set(xlabel="answered", ylabel="true")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    return _svg(
        title,
        "Rows by true label, columns by what was answered. The shade is the share of the row: "
        "blue where it is right, orange where it is not.",
        paint,
        width=2.6 + 0.36 * len(labels) if wide else _WIDTH,
        height=max(_HEIGHT, 1.5 + 0.28 * len(labels)),
        head=["true", *labels],
        numbers=[
            [label, *(f"{n:,}" for n in row)]
            for label, row in zip(labels, table.tolist(), strict=True)
        ],
    )


def _precision_recall(outcome: Outcome, thresholds: Mapping[str, float]) -> Picture:
    title = "Precision and recall by label"
    count = {label: list(outcome.truth).count(label) for label in outcome.classes}
    labels = [label for label in outcome.classes if label != outcome.abstain_label]
    drawn = [label for label in labels if count[label] >= MIN_ROWS]
    if not drawn:
        return Picture(title, f"No label has {MIN_ROWS} rows or more: not drawn.")
    # The largest where there are more than can be told apart.
    drawn = sorted(sorted(drawn, key=lambda label: -count[label])[: len(_COLOURS)])
    curves = {label: precision_recall(outcome, label) for label in drawn}
    dots = {label: _dot(found, thresholds.get(label, 0.0)) for label, found in curves.items()}

    def paint(axes: Any) -> None:
        for number, (label, (precision, recall, _)) in enumerate(curves.items()):
            use = _some(len(recall))
            axes.plot(
                recall[use],
                precision[use],
                color=_COLOURS[number],
                ls=_DASHES[number % len(_DASHES)],
                lw=1.7,
                label=f"line {number}",
            )
            if dot := dots[label]:
                axes.plot(*dot, "o", color=_COLOURS[number], ms=7)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.015), ylim=(0, 1.03))
        legend = axes.legend(loc="lower left", fontsize=10, handlelength=2.4)
        # Afterwards: a label that opens with an underscore would be left out.
        for text, label in zip(legend.get_texts(), curves, strict=True):
            text.set_text(_short(label))

    caption = "How precise the surest answers of a label are, and on to all of its rows."
    if any(dots.values()):
        caption += " Dots: the chosen thresholds."
    left_out = len(labels) - len(drawn)
    if left_out:
        caption += (
            f" {left_out} {'label is' if left_out == 1 else 'labels are'} left out, "
            f"for fewer than {MIN_ROWS} rows or for want of colours."
        )
    recalls = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    return _svg(
        title,
        caption,
        paint,
        head=["label", *(f"precision at recall {share:g}" for share in recalls)],
        numbers=[
            [label, *(f"{precision[recall >= share].max():.3f}" for share in recalls)]
            for label, (precision, recall, _) in curves.items()
        ],
    )


def _dot(curve: tuple[Floats, Floats, Floats], threshold: float) -> tuple[float, float] | None:
    """Recall and precision at a threshold, if one is set and any row reaches it."""
    precision, recall, each = curve
    reached = int((each >= threshold).sum())
    if not threshold or not reached:
        return None
    return float(recall[reached - 1]), float(precision[reached - 1])


def _reliability(outcome: Outcome) -> Picture:
    title = "Reliability"
    middle, accuracy, confidence, count = reliability(outcome)
    full = count >= MIN_ROWS
    if not full.any():
        return Picture(title, f"No bin of confidence has {MIN_ROWS} rows or more: not drawn.")

    def paint(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=_MUTED, lw=1, ls=(0, (4, 3)))
        axes.plot(confidence[full], accuracy[full], "o-", color=_COLOURS[0], lw=1.7, ms=6)
        for x, y, n in zip(confidence[full], accuracy[full], count[full], strict=True):
            # On the side that the dashed line is not.
            above = y >= x
            axes.annotate(
                f"{n:,}",
                (x, y),
                xytext=(-5, 4) if above else (5, -4),
                textcoords="offset points",
                ha="right" if above else "left",
                va="bottom" if above else "top",
                fontsize=9,
            )
        axes.set(xlabel="confidence", ylabel="share that was right", xlim=(0, 1.04), ylim=(0, 1.08))

    return _svg(
        title,
        "When it says 0.8, is it right eight times in ten? On the dashed line it is; above it, "
        f"more often. Small numbers: rows in the bin. Bins under {MIN_ROWS} rows are left out.",
        paint,
        head=["confidence", "rows", "mean confidence", "share right"],
        numbers=[
            [f"{m - 0.05:.1f}–{m + 0.05:.1f}", f"{n:,}", f"{c:.3f}", f"{a:.3f}"]
            for m, n, c, a in zip(
                middle[full], count[full], confidence[full], accuracy[full], strict=True
            )
        ],
    )


def _coverage(outcome: Outcome) -> Picture:
    title = "Coverage and accuracy"
    coverage, accuracy, threshold = coverage_curve(outcome)
    if len(coverage) < 2 * MIN_ROWS:
        rows = "row was" if len(coverage) == 1 else "rows were"
        return Picture(title, f"Only {len(coverage)} {rows} taken for a label: not drawn.")
    answered = np.array([reason is None for reason in outcome.reasons])
    right = np.array(outcome.truth) == np.array(outcome.predicted)
    use = MIN_ROWS - 1 + _some(len(coverage) - MIN_ROWS + 1)

    def paint(axes: Any) -> None:
        axes.plot(coverage[use], accuracy[use], color=_COLOURS[0], lw=1.7)
        if answered.any():
            share, good = float(answered.mean()), float(right[answered].mean())
            axes.plot(share, good, "o", color=_COLOURS[1], ms=8)
            axes.annotate(
                "as it is set",
                (share, good),
                xytext=(-9, -3),
                textcoords="offset points",
                ha="right" if share > 0.3 else "left",
                va="top",
            )
        axes.set(xlabel="share of all rows answered", ylabel="share of those right")
        axes.set_xlim(0, 1.015)
        axes.margins(y=0.1)

    tenths = [
        int(np.searchsorted(coverage, k / 10 - 1e-9)) for k in range(1, int(coverage[-1] * 10) + 1)
    ]
    return _svg(
        title,
        "What it costs to be surer: answering only the surest rows, on to all. "
        "The dot is how it is set.",
        paint,
        head=["answered", "right", "from confidence"],
        numbers=[
            [f"{coverage[i]:.0%}", f"{accuracy[i]:.1%}", f"{threshold[i]:.3f}"] for i in tenths
        ],
    )


def _learning_curve(curve: Sequence[tuple[int, Estimate]]) -> Picture:
    title = "Learning curve"
    points = [(n, found) for n, found in curve if found.value is not None]
    if len(points) < 2:
        return Picture(title, "Too few rows to draw how the figures grow with them.")
    n = [rows for rows, _ in points]
    value = [found.value or 0.0 for _, found in points]
    low = [v if e.low is None else e.low for v, (_, e) in zip(value, points, strict=True)]
    high = [v if e.high is None else e.high for v, (_, e) in zip(value, points, strict=True)]

    def paint(axes: Any) -> None:
        axes.fill_between(n, low, high, color=_COLOURS[0], alpha=0.18, lw=0)
        axes.plot(n, value, "o-", color=_COLOURS[0], lw=1.7, ms=5)
        axes.set_xscale("log")
        axes.set_xticks(n, [f"{rows:,}" for rows in n])
        axes.minorticks_off()
        axes.set(xlabel="training rows", ylabel="macro-F1")

    return _svg(
        title,
        "Macro-F1 on the same rows by models of a growing share of the others, with 95 % "
        "intervals. Still rising at the right: more rows would help.",
        paint,
        head=["training rows", "macro-F1", "95 % interval"],
        numbers=[
            [f"{rows:,}", f"{v:.3f}", f"{a:.3f}–{b:.3f}"]
            for rows, v, a, b in zip(n, value, low, high, strict=True)
        ],
    )


def _by_source(outcome: Outcome) -> Picture:
    title = "F1 by source"
    found = [
        (source, f1, n)
        for source, (f1, n) in by_source(outcome).items()
        if source and n >= MIN_ROWS
    ]
    if len(found) < 2:
        return Picture(
            title, f"The rows name fewer than two sources of {MIN_ROWS} rows or more: not drawn."
        )
    # The largest where there are more than fit, still best first.
    largest = sorted(found, key=lambda one: -one[2])[:_MOST_SOURCES]
    drawn = [one for one in found if one in largest][::-1]

    def paint(axes: Any) -> None:
        place = list(range(len(drawn)))
        least = max(0.0, np.floor(10 * drawn[0][1] - 0.5) / 10)
        axes.hlines(place, least, [f1 for _, f1, _ in drawn], color=_GRID, lw=1)
        axes.plot([f1 for _, f1, _ in drawn], place, "o", color=_COLOURS[0], ms=6)
        axes.set_yticks(place, [_short(source) for source, _, _ in drawn])
        axes.set(xlabel="macro-F1", xlim=(least, 1.01), ylim=(-0.6, len(drawn) - 0.4))
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")

    caption = "Macro-F1 on the rows of each source, over the labels that it has."
    if len(largest) < len(found):
        caption += f" The {_MOST_SOURCES} largest of {len(found)} sources."
    return _svg(
        title,
        caption,
        paint,
        height=max(2.4, 0.9 + 0.2 * len(drawn)),
        head=["source", "rows", "macro-F1"],
        numbers=[[source, f"{n:,}", f"{f1:.3f}"] for source, f1, n in drawn[::-1]],
    )


# Drawing ---------------------------------------------------------------------------------------


def _svg(
    title: str,
    caption: str,
    paint: Callable[[Any], None],
    *,
    head: Sequence[str],
    numbers: Sequence[Sequence[str]],
    width: float = _WIDTH,
    height: float = _HEIGHT,
) -> Picture:
    """What `paint` puts on a pair of axes, as a picture."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    stream = io.StringIO()
    with mpl.rc_context(), warnings.catch_warnings():
        # The page's font draws what the one that measures lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()  # whatever the reader's own settings are, the bytes are the same
        mpl.rcParams.update(_style())
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure.add_subplot())
        for text in figure.findobj(Text):
            text.set_parse_math(False)  # a dollar is a dollar
        figure.savefig(
            stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = _inline(stream.getvalue(), title)
    return Picture(title, caption, svg, head, numbers, wide=width > _WIDTH)


def _style() -> dict[str, Any]:
    return {
        "svg.fonttype": "none",  # text stays text: it can be read, found and enlarged
        "svg.hashsalt": "kopwijzer",  # the same names for the same shapes
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib
        "font.size": 10.5,
        "axes.labelsize": 10.5,
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
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": _GRID,
        "grid.linewidth": 0.7,
        "legend.frameon": False,
    }


def _inline(svg: str, title: str) -> str:
    """An SVG document as an element of a page, under names of its own and the page's colours."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    prefix = re.sub(r"\W+", "-", title.lower())
    found = re.search(r'viewBox="([\d. ]+)"', svg)
    box = found.group(1) if found else f"0 0 {72 * _WIDTH:g} {72 * _HEIGHT:g}"

    def tidy(tag: re.Match[str]) -> str:
        text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", tag.group())
        text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 var(--sans)", text)
        for colour, name in _VARIABLES.items():
            text = text.replace(colour, f"var(--{name})")
        return text

    # Only inside tags: what stands between them is text, some of it from data.
    svg = re.sub(r"<[a-z][^>]*>", tidy, svg)
    label = html.escape(title, quote=True)
    opening = f'<svg viewBox="{box}" role="img" aria-label="{label}"><title>{label}</title>'
    return opening + svg[svg.index(">") + 1 :]


def _short(text: str) -> str:
    """A name that fits beside an axis."""
    plain = "".join(sign if sign.isprintable() else " " for sign in text)
    # With its end: names of one kind often begin alike.
    return plain if len(plain) <= 22 else f"{plain[:13]}…{plain[-8:]}"


def _some(n: int, most: int = 250) -> npt.NDArray[np.int64]:
    """Up to `most` places of n, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))
