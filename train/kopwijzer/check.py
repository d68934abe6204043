"""The data check: rows -> findings, what a careful editor would ask about before training.

Pure: no files, no clock. Out-of-fold probabilities come from whoever calls.
"""

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kopwijzer.duplicates import near_duplicate_pairs, near_duplicates_across
from kopwijzer.headlines import Headline

__all__ = ["KINDS", "Finding", "check", "table", "to_csv"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Every kind of finding with what it says, the gravest first.
KINDS = {
    "leakage": "stand in the training rows too, or nearly",
    "same_text_two_labels": "have a text that stands elsewhere under another label",
    "label_error": "have a label that the other rows speak against",
    "duplicate": "repeat an earlier row",
    "near_duplicate": "tell nearly what an earlier row tells",
    "broken_encoding": "were decoded wrongly on their way here",
    "odd_language": "are not in the language of the rest",
    "empty_teaser": "have no teaser",
    "class_balance": "by label",
}

#: How far (0-1) another label must be ahead of a row's own to be told: less is a tie.
_AHEAD = 0.1
#: Rows of a label that are too few to learn it from.
_FEW = 20
#: Rows and lower-case words that a language can be told from.
_LANGUAGE_ROWS, _LANGUAGE_WORDS = 100, 3
#: Robust standard deviations below the median from which a row is in another language: of 15,690
#: Dutch rows 5 are that far, of 13 foreign headlines put among them 12.
_ODD = 5.0
_WORD = re.compile(r"[^\W\d_]+")
_LOST = "\ufffd"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at in a row, or in the whole set (`row` is None).

    `row` counts from 0. `score` (0-1) says how sure or how grave, within its kind. `other_*`
    tell of the row that it was compared with (of the training rows, for leakage), `suggestion`
    the label that the others speak for.
    """

    kind: str
    row: int | None
    where: str
    headline: str
    label: str
    detail: str
    score: float
    other_row: int | None = None
    other_where: str = ""
    other_headline: str = ""
    other_label: str = ""
    suggestion: str = ""
    n_rows: int = 1


def check(
    rows: Sequence[Headline],
    against: Sequence[Headline] | None = None,
    *,
    proba: Floats | None = None,
    classes: Sequence[str] = (),
    near: float = 0.5,
) -> list[Finding]:
    """What to look at in rows, the gravest kind first and the surest of each kind first.

    `against` are rows that should have nothing in common with these. `proba` (n, n_labels), with
    columns as in `classes`, are probabilities by models that did not see the row, nan where there
    are none. `near` is the Jaccard similarity (0-1) from which two rows are near-duplicates.
    """
    found = [
        *(_leakage(rows, against, near) if against else ()),
        *_repeated(rows),
        *(_label_errors(rows, proba, classes) if proba is not None else ()),
        *_near_duplicates(rows, near),
        *_broken_encodings(rows),
        *_odd_languages(rows),
        *_empty_teasers(rows),
        *_class_balance(rows),
    ]
    rank = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(found, key=lambda one: (rank[one.kind], -one.score, one.row or 0))


# The same text twice ---------------------------------------------------------------------------


def _key(row: Headline) -> tuple[str, str]:
    """The text of a row, white space and capitals aside."""
    return " ".join(row.headline.casefold().split()), " ".join(row.teaser.casefold().split())


def _repeated(rows: Sequence[Headline]) -> Iterator[Finding]:
    same: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        same[_key(row)].append(i)
    for places in same.values():
        if len(places) == 1:
            continue
        labels = Counter(rows[i].label for i in places if rows[i].label is not None)
        most = labels.most_common(1)[0][0] if labels else None
        first = next(i for i in places if rows[i].label == most)
        for i in places:
            if rows[i].label not in (None, most):
                yield _pair(
                    "same_text_two_labels",
                    rows,
                    i,
                    rows,
                    first,
                    detail="the same text is "
                    + ", ".join(f"{label} {_times(n)}" for label, n in labels.most_common()),
                    score=labels[most] / labels.total(),
                    suggestion=str(most) if labels[most] > labels.total() / 2 else "",
                )
            elif i != first:
                yield _pair("duplicate", rows, i, rows, first, detail="the same text", score=1.0)


def _near_duplicates(rows: Sequence[Headline], near: float) -> Iterator[Finding]:
    best: dict[int, tuple[float, int]] = {}
    for i, j, found in near_duplicate_pairs(rows, near):
        if _key(rows[i]) != _key(rows[j]) and found > best.get(j, (0.0, 0))[0]:
            best[j] = (found, i)
    for j, (found, i) in best.items():
        yield _pair("near_duplicate", rows, j, rows, i, detail=_alike(found), score=found)


def _leakage(
    rows: Sequence[Headline], against: Sequence[Headline], near: float
) -> Iterator[Finding]:
    first: dict[tuple[str, str], int] = {}
    for j, row in enumerate(against):
        first.setdefault(_key(row), j)
    rest = []
    for i, row in enumerate(rows):
        j = first.get(_key(row), -1)
        if j >= 0:
            yield _pair("leakage", rows, i, against, j, detail="the same text", score=1.0)
        else:
            rest.append(i)
    for place, j, found in near_duplicates_across([rows[i] for i in rest], against, near):
        # Only what is the same to the letter scores 1.
        yield _pair(
            "leakage", rows, rest[place], against, j, detail=_alike(found), score=min(found, 0.999)
        )


def _pair(
    kind: str,
    rows: Sequence[Headline],
    i: int,
    others: Sequence[Headline],
    j: int,
    *,
    detail: str,
    score: float,
    suggestion: str = "",
) -> Finding:
    row, other = rows[i], others[j]
    if (
        kind != "same_text_two_labels"
        and row.label != other.label
        and None
        not in (
            row.label,
            other.label,
        )
    ):
        detail += f", but {row.label} here and {other.label} there"
    return Finding(
        kind=kind,
        row=i,
        where=_where(row, i),
        headline=row.headline,
        label=row.label or "",
        detail=detail,
        score=score,
        other_row=j,
        other_where=_where(other, j),
        other_headline=other.headline,
        other_label=other.label or "",
        suggestion=suggestion,
    )


def _alike(found: float) -> str:
    return f"{min(found, 0.99):.0%} of the character 5-grams are the same"


# Labels ----------------------------------------------------------------------------------------


def _label_errors(
    rows: Sequence[Headline], proba: Floats, classes: Sequence[str]
) -> Iterator[Finding]:
    """Rows off the diagonal of the confident joint, by how far the other label is ahead.

    Confident learning (Northcutt et al. 2021, section 3.1): a label's threshold is the mean
    probability that its own rows have for it, and a row belongs to the likeliest of the labels
    whose threshold it reaches. These lines are all that is needed of it; the library that its
    authors wrote (cleanlab) brings pandas, its own model wrappers and a data-centre's worth of
    checks for images and numbers along.
    """
    column = {label: k for k, label in enumerate(classes)}
    given = np.array([column.get(row.label or "", -1) for row in rows])
    use = np.flatnonzero((given >= 0) & np.isfinite(proba).all(axis=1))
    if not len(use):
        return
    p, given = proba[use], given[use]
    own = p[np.arange(len(use)), given]
    count = np.bincount(given, minlength=len(classes))
    usual = np.bincount(given, own, len(classes)) / np.maximum(count, 1)
    reached = np.where((p >= usual) & (count > 0), p, -1.0)
    other = reached.argmax(axis=1)
    ahead = reached[np.arange(len(use)), other] - own
    for place in np.flatnonzero((other != given) & (ahead > _AHEAD)):
        i, label, better = int(use[place]), classes[given[place]], classes[other[place]]
        yield _own(
            "label_error",
            rows,
            i,
            detail=f"models of the other rows say {better} {p[place, other[place]]:.2f} (its own "
            f"rows have {usual[other[place]]:.2f}), {label} {own[place]:.2f}",
            score=float(ahead[place]),
            suggestion=better,
        )


def _class_balance(rows: Sequence[Headline]) -> Iterator[Finding]:
    count = Counter(row.label for row in rows if row.label is not None)
    without = len(rows) - count.total()
    if without and count:
        yield _of_the_set(
            "class_balance", "", f"{without:,} of {_rows(len(rows))} without a label", 0.0, without
        )
    most = max(count.values(), default=0)
    for label, n in count.items():
        detail = f"{_rows(n)}, {n / count.total():.1%}"
        if n < _FEW:
            detail += ": too few to learn it or to measure how well it is learned"
        elif most >= 10 * n:
            detail += f": the largest has {most / n:.0f} times as many"
        yield _of_the_set("class_balance", str(label), detail, 1 - n / most, n)


# Texts -----------------------------------------------------------------------------------------


def _empty_teasers(rows: Sequence[Headline]) -> Iterator[Finding]:
    empty = [row for row in rows if not row.teaser.strip()]
    if not empty:
        return
    every = Counter(row.label or "" for row in rows)
    counts = Counter(row.label or "" for row in empty)
    # By label too: where only one label has none, a model learns that instead of the text.
    for label, n in counts.items():
        yield _of_the_set(
            "empty_teaser",
            label,
            f"{n:,} of {_rows(every[label])}, {n / every[label]:.1%}",
            n / every[label],
            n,
        )


def _broken_encodings(rows: Sequence[Headline]) -> Iterator[Finding]:
    from ftfy import fix_encoding  # mends wrong decoding only: curly quotes are left alone

    for i, row in enumerate(rows):
        for text in (row.headline, row.teaser):
            fixed = text if text.isascii() else fix_encoding(text)
            if _LOST in text:
                detail = f"signs were lost: {_around(text, text.index(_LOST))}"
            elif fixed != text:
                at = next(
                    (k for k, (a, b) in enumerate(zip(text, fixed, strict=False)) if a != b), 0
                )
                detail = f"{_around(text, at)} should be {_around(fixed, at)}"
            else:
                continue
            yield _own("broken_encoding", rows, i, detail=detail, score=1.0)
            break


def _around(text: str, at: int) -> str:
    """The word at a place of a text, and a little of what follows it."""
    start = max(text.rfind(" ", 0, at) + 1, at - 20)
    end = text.find(" ", at + 6)
    return f"“{text[start : min(end if end >= 0 else len(text), at + 20)]}”"


def _odd_languages(rows: Sequence[Headline]) -> Iterator[Finding]:
    """Rows whose words and whose spelling are both rare in the rest of the set.

    Two measures of each row's lower-case words (names are no language): the mean logarithm of how
    many other rows have the word, and the mean log-probability of its character trigrams in the
    other rows. Both must be `_ODD` robust standard deviations below the median.
    """
    words = [_lower_case(row) for row in rows]
    places = [i for i, own in enumerate(words) if len(own) >= _LANGUAGE_WORDS]
    if len(places) < _LANGUAGE_ROWS:
        return
    texts = [words[i] for i in places]
    in_rows = Counter(word for own in texts for word in set(own))
    usual = np.array([np.mean([np.log(in_rows[word] - 0.5) for word in own]) for own in texts])
    trigrams = [[f" {w} "[k : k + 3] for w in own for k in range(len(w))] for own in texts]
    far = np.maximum(_robust(usual), _robust(_left_out(trigrams)))
    for place in np.flatnonzero(far < -_ODD):
        rare = sorted(set(texts[place]), key=lambda word: (in_rows[word], texts[place].index(word)))
        yield _own(
            "odd_language",
            rows,
            places[place],
            detail="words that the other rows hardly have: " + ", ".join(rare[:5]),
            score=float(1 - _ODD / -far[place]),
        )


def _lower_case(row: Headline) -> list[str]:
    """The lower-case words of a row, or all of them where Nearly All Have Capitals."""
    every = _WORD.findall(f"{row.headline} {row.teaser}")
    lower = [word for word in every if word.islower()]
    title = len(every) >= 6 and 5 * len(lower) <= len(every)  # fewer words are names, or nearly
    return [word.lower() for word in every] if title else lower


def _left_out(pieces: Sequence[Sequence[str]]) -> Floats:
    """The mean log-probability of each row's pieces in all other rows."""
    number: dict[str, int] = {}
    flat: Ints = np.array(
        [number.setdefault(piece, len(number)) for own in pieces for piece in own]
    )
    owner = np.repeat(np.arange(len(pieces)), [len(own) for own in pieces])
    cells, count = np.unique(owner * len(number) + flat, return_counts=True)
    row, piece = cells // len(number), cells % len(number)
    elsewhere = np.bincount(flat, minlength=len(number))[piece] - count
    told = count * np.log((elsewhere + 0.5) / len(flat))
    mean: Floats = np.bincount(row, told, len(pieces)) / np.bincount(row, count, len(pieces))
    return mean


def _robust(values: Floats) -> Floats:
    """Distance from the median in standard deviations, as the median deviation tells them."""
    apart = values - float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(apart)))
    return apart / (spread or 1.0)


# Findings for people ---------------------------------------------------------------------------


def _own(
    kind: str,
    rows: Sequence[Headline],
    i: int,
    *,
    detail: str,
    score: float,
    suggestion: str = "",
) -> Finding:
    row = rows[i]
    return Finding(
        kind,
        i,
        _where(row, i),
        row.headline,
        row.label or "",
        detail,
        score,
        suggestion=suggestion,
    )


def _of_the_set(kind: str, label: str, detail: str, score: float, n_rows: int) -> Finding:
    return Finding(kind, None, "", "", label, detail, score, n_rows=n_rows)


def _where(row: Headline, i: int) -> str:
    return row.where or f"row {i + 1}"


def _rows(n: int) -> str:
    return "1 row" if n == 1 else f"{n:,} rows"


def _times(n: int) -> str:
    return "once" if n == 1 else "twice" if n == 2 else f"{n} times"


def table(findings: Sequence[Finding], n_rows: int, worst: int = 3) -> str:
    """The findings for people: how many of each kind, then the `worst` of each.

    >>> print(table(check([Headline("Genk wint", label="zege")] * 20), 20))
    20 rows
           19  95.0%  repeat an earlier row
           20 100.0%  have no teaser
    <BLANKLINE>
    19 repeat an earlier row
      row 2: Genk wint  [zege]
        as row 1  [zege]
      row 3: Genk wint  [zege]
        as row 1  [zege]
      row 4: Genk wint  [zege]
        as row 1  [zege]
    <BLANKLINE>
    20 have no teaser
      zege: 20 of 20 rows, 100.0%
    <BLANKLINE>
    by label
      zege: 20 rows, 100.0%
    """
    by_kind = {kind: [one for one in findings if one.kind == kind] for kind in KINDS}
    counts = {kind: _n_rows(kind, own) for kind, own in by_kind.items()}
    lines = [_rows(n_rows)]
    lines += [
        f"  {n:>7,} {n / max(n_rows, 1):>6.1%}  {KINDS[kind]}" for kind, n in counts.items() if n
    ]
    if not any(counts.values()):
        lines.append("  nothing to look at")
    for kind, own in by_kind.items():
        if own:
            lines += ["", f"{counts[kind]:,} {KINDS[kind]}" if counts[kind] else KINDS[kind]]
            lines += [line for one in own[: worst if _by_row(own) else None] for line in _told(one)]
    return "\n".join(lines)


def _by_row(own: Sequence[Finding]) -> bool:
    return own[0].row is not None


def _n_rows(kind: str, own: Sequence[Finding]) -> int:
    if kind == "empty_teaser":
        return sum(one.n_rows for one in own)
    return len({one.row for one in own if one.row is not None})


def _told(one: Finding) -> Iterable[str]:
    if one.row is None:
        yield f"  {one.label}: {one.detail}" if one.label else f"  {one.detail}"
        return
    yield _placed("  ", one.where, one.headline, one.label)
    if one.other_row is not None:
        other = "" if one.other_headline == one.headline else one.other_headline
        yield _placed("    as ", one.other_where, other, one.other_label)
    if one.detail != "the same text":
        yield f"    {one.detail}"


def _placed(before: str, where: str, headline: str, label: str) -> str:
    """A row in a line of a terminal: the file's name without its folder, the headline cut."""
    place = where.rpartition("/")[2]
    short = headline if len(headline) <= 64 else headline[:63] + "…"
    return f"{before}{place}" + (f": {short}" if short else "") + (f"  [{label}]" if label else "")


def to_csv(findings: Sequence[Finding]) -> str:
    """Every finding as a line of CSV under a header, to work through in a spreadsheet.

    >>> print(to_csv(check([Headline("=1+1", label="zege")] * 2)).splitlines()[1])
    duplicate,1.000,2,row 2,'=1+1,zege,,the same text,row 1,'=1+1,zege
    """
    stream = io.StringIO()
    # Only what stands in the terminator is quoted, and a lone "\r" ends a row for most readers.
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    for one in findings:
        row = "" if one.row is None else one.row + 1
        writer.writerow(
            [
                one.kind,
                f"{one.score:.3f}",
                row,
                *map(
                    _cell,
                    (
                        one.where,
                        one.headline,
                        one.label,
                        one.suggestion,
                        one.detail,
                        one.other_where,
                        one.other_headline,
                        one.other_label,
                    ),
                ),
            ]
        )
    return stream.getvalue()


_COLUMNS = (
    *("kind", "score", "row", "where", "headline", "label", "suggestion", "detail"),
    *("other_where", "other_headline", "other_label"),
)


def _cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula (OWASP, "CSV Injection")."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
