"""Records: rows and their predictions -> lines of output, one per row, in order."""

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, TypeVar

from kopwijzer.headlines import Headline
from kopwijzer.scorer import Explanation, Prediction, Scorer

__all__ = ["Format", "predict", "record", "write"]

Format = Literal["table", "jsonl", "csv"]
Item = TypeVar("Item")

_HELD = 4 << 20  # signs of rows that are held at once
_OWN = ("headline", "teaser", "label", "confidence", "scores", "abstained", "reason", "error")
# Control characters, and those that turn the direction of what follows.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_REASONS = {
    "empty": "no words in it",
    "unknown_words": "too few known words",
    "low_confidence": "below its threshold",
    "out_of_scope": "none of the labels",
}


def predict(
    scorer: Scorer, rows: Iterable[Headline], batch: int = 256
) -> Iterator[tuple[Headline, Prediction | None]]:
    """Each row with its prediction, in order; a row with an error has none.

    Reads at most `batch` rows ahead of what it has given, fewer where they are large, so memory
    stays constant.
    """
    stream = iter(rows)
    broken = None
    while broken is None:
        taken, broken = _some(stream, batch, lambda row: _signs(row.extra) or len(row.headline))
        if not taken:
            break
        answers = iter(scorer.score_many(row for row in taken if row.error is None))
        for row in taken:
            yield row, (next(answers) if row.error is None else None)
    if broken is not None:
        raise broken


def _some(
    stream: Iterator[Item], n: int, size: Callable[[Item], int]
) -> tuple[list[Item], Exception | None]:
    """The next `n` items, fewer if they are large; and what broke the stream after them, if it
    broke: what came before must not be lost with it."""
    taken: list[Item] = []
    total = 0
    try:
        for item in islice(stream, n):
            taken.append(item)
            total += size(item)
            if total > _HELD:
                break
    except Exception as error:
        return taken, error
    return taken, None


def _signs(columns: Mapping[str, Any]) -> int:
    return sum(len(value) for value in columns.values() if isinstance(value, str))


def record(
    row: Headline,
    prediction: Prediction | None,
    *,
    top: int | None = None,
    explanation: Explanation | None = None,
) -> dict[str, Any]:
    """A row's own columns, then what was said of it.

    A column of the row that has the name of one of ours, and holds something else, gets "_in"
    after it: the label that a row came with stands in "label_in".
    """
    texts = {"headline": row.headline, "teaser": row.teaser}
    same = {name for name, text in texts.items() if row.extra.get(name) in (None, text)}
    found = _renamed(row.extra, {*_OWN, "top", "explanation"} - same) | texts
    if prediction is None:
        found |= dict.fromkeys(("label", "confidence", "scores", "abstained", "reason"))
    else:
        found |= {
            "label": prediction.label,
            "confidence": prediction.confidence,
            "scores": prediction.scores,
            "abstained": prediction.abstained,
            "reason": prediction.reason,
        }
        if top is not None:
            best = sorted(prediction.scores.items(), key=lambda pair: -pair[1])[:top]
            found["top"] = [{"label": label, "score": score} for label, score in best]
    if explanation is not None:
        found["explanation"] = {
            "label": explanation.label,
            "decision": explanation.decision,
            "intercept": explanation.intercept,
            "contributions": [
                {"text": c.text, "block": c.block, "value": c.value}
                for c in explanation.contributions
            ],
        }
    found["error"] = row.error
    return found


def write(
    answers: Iterable[tuple[Headline, Prediction | None]],
    form: Format,
    scorer: Scorer,
    *,
    top: int | None = None,
    explain: bool = False,
) -> Iterator[str]:
    """The output as pieces of text, each ending at the end of a row."""
    if form == "table":
        yield from _table(answers, scorer, top, explain)
        return

    def one(row: Headline, prediction: Prediction | None) -> dict[str, Any]:
        told = scorer.explain(row.headline, row.teaser) if explain and prediction else None
        return record(row, prediction, top=top, explanation=told)

    records = (one(row, prediction) for row, prediction in answers)
    if form == "csv":
        yield from _csv(records, [str(label) for label in scorer.classes_])
    else:
        for found in records:
            yield _json(found) + "\n"


def _renamed(columns: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """The columns, those with a name that is taken with as many "_in" after it as it needs."""
    found: dict[str, Any] = {}
    for key, value in columns.items():
        name = key
        while name in taken or (name != key and name in columns):
            name += "_in"
        found[name] = value
    return found


def _json(value: Any) -> str:
    """One line of JSON; what only Python calls a number (NaN, infinity) becomes null."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _csv(records: Iterator[dict[str, Any]], labels: Sequence[str]) -> Iterator[str]:
    """CSV with a column per label; columns that only later rows have go into "more" as JSON."""
    head, broken = _some(records, 256, _signs)
    last = [*(f"score_{label}" for label in labels), "more"]

    def own(found: dict[str, Any]) -> dict[str, Any]:
        return _renamed({key: found[key] for key in found if key != "scores"}, {*last})

    every = head or [dict.fromkeys(_OWN)]
    columns = [*dict.fromkeys(key for found in every for key in own(found)), *last]
    stream = io.StringIO()
    # Only what stands in the terminator is quoted, and a lone "\r" ends a row for most readers.
    writer = csv.writer(stream, lineterminator="\r\n")

    def line(values: Iterable[Any]) -> str:
        writer.writerow(values)
        text = stream.getvalue().removesuffix("\r\n") + "\n"
        stream.seek(0)
        stream.truncate()
        return text

    yield line(columns)
    for found in (found for part in (head, _or_raise(records, broken)) for found in part):
        scores = found["scores"] or {}
        flat = {**own(found), **{f"score_{label}": score for label, score in scores.items()}}
        more = {key: value for key, value in flat.items() if key not in columns}
        flat["more"] = _json(more) if more else ""
        yield line(_cell(flat.get(column)) for column in columns)


def _or_raise(rest: Iterator[Item], broken: Exception | None) -> Iterator[Item]:
    if broken is not None:
        raise broken
    yield from rest


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return _json(value)
    return {None: "", True: "true", False: "false"}.get(value, value) if _plain(value) else value


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _table(
    answers: Iterable[tuple[Headline, Prediction | None]],
    scorer: Scorer,
    top: int | None,
    explain: bool,
) -> Iterator[str]:
    """Lines for people: the label, how sure, and the headline cut to the window."""
    wide = max([len(str(label)) for label in scorer.classes_] + [len(scorer.abstention.label)])
    room = max(shutil.get_terminal_size((100, 24)).columns - wide - 9, 24)
    yield f"{'label':{wide}}  {'sure':>5}  headline\n"
    for row, prediction in answers:
        headline = _harmless(" ".join(row.headline.split()))
        if prediction is None:
            yield f"{'-':{wide}}  {'':5}  {_cut(headline, room)}\n"
            yield f"{'':{wide}}  {'':5}  ! {_harmless(row.error or '')}\n"
            continue
        sure = f"{prediction.confidence:.0%}"
        yield f"{prediction.label:{wide}}  {sure:>5}  {_cut(headline, room)}\n"
        if prediction.reason and prediction.reason != "out_of_scope":
            yield f"{'':{wide}}  {'':5}  abstains: {_REASONS[prediction.reason]}\n"
        best = sorted(prediction.scores.items(), key=lambda pair: -pair[1])
        if top:
            for label, score in best[:top]:
                yield f"{'':{wide}}  {score:>5.0%}  {label}\n"
        if explain:
            yield from _told(scorer.explain(row.headline, row.teaser), wide)


def _told(told: Explanation, wide: int) -> Iterator[str]:
    indent = " " * (wide + 2)
    rest = told.contributions[15:]
    yield f"{indent}why {told.label} ({told.decision:+.3f}):\n"
    for c in told.contributions[:15]:
        yield f"{indent}{c.value:+.3f}  {_harmless(c.text).replace(' ', '␣')}  ({c.block})\n"
    if rest:
        yield f"{indent}{sum(c.value for c in rest):+.3f}  {len(rest)} smaller pieces\n"
    yield f"{indent}{told.intercept:+.3f}  the intercept\n"


def _harmless(text: str) -> str:
    """Text without what a terminal would obey."""
    return _CONTROLS.sub("\ufffd", text)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
