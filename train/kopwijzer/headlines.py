"""Headlines: records of any source, checked at the door.

`read` gives one `Headline` for each record of a source, in order and one at a time. What cannot
be used is a fault with its place, its value and what to do; `on_bad_row` says what becomes of it.
"""

import difflib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kopwijzer.errors import BadRows, BadSettings
from kopwijzer.formats import MAX_LINE, Columns, Fault, short
from kopwijzer.sources import FORMATS, find

__all__ = ["FORMATS", "Columns", "Headline", "check", "read"]

_MAX_FAULTS = 100_000
_MAX_DEPTH = 32  # of lists and objects in a row: json.dumps would give up on a thousand

OnBadRow = Literal["fail", "skip", "keep"]

# C0 and C1 control characters but the tab; half a surrogate pair.
_FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85]")


@dataclass(frozen=True, slots=True)
class Headline:
    """One item: a headline, the teaser under it, and what else its row held.

    Rows of one `group` never straddle a split; `source` is where the item comes from and `date`
    its ISO date. `extra` holds the row's own columns as they were read, `where` its place
    ("feed.jsonl line 41"). A row that could not be used has the sentence in `error`.
    """

    headline: str
    teaser: str = ""
    label: str | None = None
    group: str | None = None
    source: str | None = None
    date: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    error: str | None = None


def read(
    source: Any,
    *,
    columns: Columns | None = None,
    input_format: str | None = None,
    on_bad_row: OnBadRow = "fail",
    labels: Collection[str] | None = None,
    labelled: bool = False,
    on_fault: Callable[[str], None] | None = None,
) -> Iterator[Headline]:
    """Each record of a source as a `Headline`, in order, read as it is asked for.

    Parameters
    ----------
    source : path, glob, folder, "-", "hf:NAME", or an iterable of mappings
        A path ending in .gz is unpacked. "-" is stdin: JSONL when it opens with a brace, else
        lines. "hf:NAME" or "hf:NAME:SPLIT" is a dataset of Hugging Face `datasets`, as is a
        folder that it saved. DataFrames and datasets in memory are taken too.
    columns : Columns
        Which column holds what.
    input_format : one of `FORMATS`
        Instead of what the name of the file says.
    on_bad_row : "fail", "skip" or "keep"
        "fail" reads on, and at the end raises `BadRows` with every fault; "skip" leaves the record
        out; "keep" gives it in its place with `error` set.
    labels : collection of str, optional
        The labels that may occur.
    labelled : bool
        Whether a record without a label is a fault.
    on_fault : callable, optional
        Called with each fault's sentence under "skip" and "keep".

    Raises
    ------
    BadSettings
        There is no such format.
    BadSource
        The source does not exist, cannot be read, or is not what it claims to be.
    BadRows
        Under "fail": records that cannot be used.
    """
    columns = columns or Columns()
    if input_format is not None and input_format not in FORMATS:
        raise BadSettings(f"--input-format {input_format!r}: use one of {', '.join(FORMATS)}")
    faults: list[str] = []
    n_faults = 0
    for where, found in find(source, input_format, columns):
        try:
            if isinstance(found, Fault):
                raise found
            yield _checked(found, columns, where, labels, labelled)
        except Fault as fault:
            sentence = f"{where}: {fault}"
            if on_bad_row == "fail":
                n_faults += 1
                if n_faults <= _MAX_FAULTS:
                    faults.append(sentence)
                continue
            if on_fault is not None:
                on_fault(sentence)
            if on_bad_row == "keep":
                yield _kept(fault, columns, where)
    if n_faults > _MAX_FAULTS:
        faults.append(f"and {n_faults - _MAX_FAULTS:,} rows more")
    if faults:
        raise BadRows(_name(source), faults)


# Checking --------------------------------------------------------------------------------------


def check(row: Mapping[str, Any], columns: Columns, where: str) -> Headline:
    """A row as a `Headline`; one that cannot be used has the sentence in `error`."""
    try:
        return _checked(row, columns, where, None, False)
    except Fault as fault:
        return _kept(fault, columns, where)


def _kept(fault: Fault, columns: Columns, where: str) -> Headline:
    """The error record of a fault: what could be read of it, and the sentence."""
    return Headline(
        headline=_text_or_empty(fault.row.get(columns.headline)),
        teaser=_text_or_empty(fault.row.get(columns.teaser)),
        extra=fault.row,
        where=where,
        error=f"{where}: {fault}",
    )


def _checked(
    row: Mapping[str, Any],
    columns: Columns,
    where: str,
    labels: Collection[str] | None,
    labelled: bool,
) -> Headline:
    for value in row.values():
        if isinstance(value, list | dict) and _too_deep(value):
            flat = {key: one for key, one in row.items() if not isinstance(one, list | dict)}
            raise Fault(f"holds lists or objects more than {_MAX_DEPTH} deep; flatten it", flat)
    headline = row.get(columns.headline)
    if headline is None:
        near = ", ".join(map(repr, list(row)[:6]))
        raise Fault(f"no {columns.headline!r} in it" + (f"; it has {near}" if near else ""), row)
    headline = _text(headline, columns.headline, row)
    if not headline.strip():
        raise Fault("the headline is empty; give it one or take the row out", row)
    teaser = _text(row.get(columns.teaser), columns.teaser, row)
    label = row.get(columns.label)
    label = "" if label is None else str(label).strip()
    if not label:
        if labelled:
            raise Fault(f"it has no label; put one into {columns.label!r}", row)
    elif labels is not None and label not in labels:
        near_label = difflib.get_close_matches(label, labels, 1)
        hint = f"did you mean {near_label[0]!r}?" if near_label else "use " + ", ".join(labels)
        raise Fault(f"label {short(label)} is not one of the configured labels; {hint}", row)
    elif labelled:
        label = _text(label, columns.label, row)
    return Headline(
        headline=headline,
        teaser=teaser,
        label=label or None,
        group=_optional(row.get(columns.group)),
        source=_optional(row.get(columns.source)),
        date=_optional(row.get(columns.date)),
        extra=row,
        where=where,
    )


def _text(value: Any, name: str, row: Mapping[str, Any]) -> str:
    """A text without control characters; line breaks inside it become blanks."""
    if value is None:
        return ""
    if not isinstance(value, str):
        kind = type(value).__name__
        raise Fault(f"{name} is {short(value)} ({kind}), not text; put it in quotes", row)
    text: str = value
    if len(text) > MAX_LINE:
        raise Fault(f"{name} has {len(text):,} signs, more than {MAX_LINE:,}; cut it", row)
    if not _FORBIDDEN.search(text):
        return text
    text = _LINE_BREAKS.sub(" ", text)
    bad = _FORBIDDEN.search(text)
    if bad:
        code = ord(bad[0])
        what = "half a surrogate pair" if code >= 0xD800 else "a control character"
        raise Fault(f"{name} holds U+{code:04X}, {what}, in {short(text)}; take it out", row)
    return text


def _optional(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _text_or_empty(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, list | dict)
        ]
        if not level:
            return False
    return True


def _name(source: Any) -> str:
    return str(source) if isinstance(source, str | os.PathLike) else "the rows"
