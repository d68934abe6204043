"""Near-duplicates: rows that tell the same story in nearly the same words.

MinHash signatures (Broder 1997) of character 5-grams propose pairs, and the exact Jaccard
similarity decides: no pair is reported that is not one, and all pairs are never compared. A
signature is 60 hash functions in 20 bands of 3, so a pair of similarity 0.5 is proposed with
probability 1 - (1 - 0.5^3)^20 = 93 %, one of 0.7 with 99.98 %. Written out in NumPy because
that takes 15,000 rows in 2 seconds, and 200,000 in the memory of their texts.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from kopwijzer.headlines import Headline
from kopwijzer.text import gather

__all__ = [
    "linked",
    "near_duplicate_groups",
    "near_duplicate_pairs",
    "near_duplicates_across",
    "similarity",
]

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint32]

_SPACE = re.compile(r"\s+")
_SIGNS = re.compile(r"[^\w ]")
_HASHES, _BAND = 60, 3
_SIZE = 5
#: How many neighbours in its bucket a row is compared with, which keeps large buckets linear; in
#: one of more than `_LARGE` rows, of one template, only with the next: that links them too.
_REACH, _LARGE = 4, 16
_MANY_ROWS, _MANY_PAIRS = 10_000, 20_000  # rows and pairs worked on at a time, to bound memory


def near_duplicate_pairs(
    rows: Sequence[Headline], threshold: float = 0.5
) -> Iterator[tuple[int, int, float]]:
    """Pairs (i, j, similarity), i < j, whose Jaccard similarity (0-1) is over `threshold`.

    In order of i, then j. A large family of like rows is linked by some of its pairs, not by all.
    """
    grams = _Grams.of(rows)
    seen = _signatures(grams)
    proposed: list[Ints] = []
    for keys in _bands(seen):
        order = np.argsort(keys, kind="stable")
        ranked = keys[order]
        large = np.append(ranked[_LARGE:] == ranked[:-_LARGE], np.zeros(_LARGE, dtype=bool))
        for step in range(1, min(_REACH, len(rows) - 1) + 1):
            same = ranked[step:] == ranked[:-step]
            if step > 1:
                same &= ~large[: len(same)]
            first, second = order[:-step][same], order[step:][same]
            proposed.append(first * len(rows) + second)  # a stable sort: first < second
    yield from _similar(grams, grams, proposed, len(rows), threshold)


def near_duplicates_across(
    rows: Sequence[Headline], others: Sequence[Headline], threshold: float = 0.5
) -> Iterator[tuple[int, int, float]]:
    """(row, the most alike other, similarity) for each row with a near-duplicate in `others`."""
    if not rows or not others:
        return
    grams, other_grams = _Grams.of(rows), _Grams.of(others)
    proposed: list[Ints] = []
    for keys, other_keys in zip(
        _bands(_signatures(grams)), _bands(_signatures(other_grams)), strict=True
    ):
        order = np.argsort(other_keys, kind="stable")
        ranked = other_keys[order]
        start = np.searchsorted(ranked, keys)
        for step in range(_REACH):
            place = np.minimum(start + step, len(others) - 1)
            hit = np.flatnonzero(ranked[place] == keys)
            proposed.append(hit * len(others) + order[place[hit]])
    best: dict[int, tuple[float, int]] = {}
    for i, j, found in _similar(grams, other_grams, proposed, len(others), threshold):
        if found > best.get(i, (0.0, 0))[0]:
            best[i] = (found, j)
    for i, (found, j) in best.items():
        yield i, j, found


def near_duplicate_groups(rows: Sequence[Headline], threshold: float = 0.5) -> list[int]:
    """One number per row; rows that are linked by near-duplicates share the number of the first."""
    return linked(len(rows), ((i, j) for i, j, _ in near_duplicate_pairs(rows, threshold)))


def linked(n: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """One number for each of `n` rows: the first of those that pairs link it with, or itself."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in pairs:
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    return [root(i) for i in range(n)]


def similarity(a: Headline, b: Headline) -> float:
    """The Jaccard similarity (0-1) of the character 5-grams of two rows."""
    grams = _Grams.of([a, b])
    return float(_jaccard(grams, grams, np.array([0]), np.array([1]))[0])


@dataclass(frozen=True, slots=True)
class _Grams:
    """The sets of character 5-grams of n rows, as hashes: row i has ``codes[ptr[i]:ptr[i + 1]]``.

    32 bits are enough: two sets of 200 share a hash by accident once in 100,000 pairs.
    """

    codes: Codes
    ptr: Ints

    @classmethod
    def of(cls, rows: Sequence[Headline]) -> Self:
        parts, counts = [], [np.zeros(1, dtype=np.int64)]
        for start in range(0, len(rows), _MANY_ROWS):
            codes, count = _hashed([_plain(row) for row in rows[start : start + _MANY_ROWS]])
            parts.append(codes)
            counts.append(count)
        parts.append(np.empty(0, dtype=np.uint32))
        return cls(np.concatenate(parts), np.cumsum(np.concatenate(counts)))

    def some(self, places: Ints) -> tuple[Codes, Ints]:
        """The hashes of these rows, one after another, and how many each has."""
        count = np.diff(self.ptr)[places]
        return gather(self.codes, self.ptr[places], count), count


def _plain(row: Headline) -> str:
    """The text in lower case, letters and digits only; a text of nothing but signs as it is."""
    text = f"{row.headline} {row.teaser}".lower()
    bare = _SPACE.sub(" ", _SIGNS.sub(" ", text)).strip()
    return (bare or text).ljust(_SIZE, "\0")


def _hashed(texts: Sequence[str]) -> tuple[Codes, Ints]:
    """The distinct 5-grams of each text as rising hashes, and how many each has."""
    length = np.array([len(text) for text in texts])
    signs = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    mixed = np.zeros(len(signs) - _SIZE + 1, dtype=np.uint64)
    for step, factor in enumerate(_odd_numbers(_SIZE)):
        mixed += signs[step : len(mixed) + step] * factor
    mixed ^= mixed >> np.uint64(29)
    mixed *= _odd_numbers(1)[0]
    # Windows that begin in the last four signs of a text would reach into the next.
    starts = np.cumsum(length) - length
    count = length - _SIZE + 1
    owner = np.repeat(np.arange(len(texts), dtype=np.uint64), count)
    keys = _distinct(owner << np.uint64(32) | gather(mixed, starts, count) >> np.uint64(32))
    found = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(texts))
    return keys.astype(np.uint32), found


def _distinct(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The distinct keys, rising: sorting is thrice as fast as the hash table of numpy.unique."""
    keys.sort()
    found: npt.NDArray[np.uint64] = keys[np.append(True, keys[1:] != keys[:-1])]
    return found


def _odd_numbers(n: int) -> npt.NDArray[np.uint64]:
    """n fixed odd numbers of 64 random bits, to multiply with."""
    rng = np.random.default_rng(n)
    return rng.integers(0, 1 << 64, n, dtype=np.uint64) | np.uint64(1)


def _signatures(grams: _Grams) -> Codes:
    """Signatures (n, _HASHES): under each hash function, the least value of a row's grams."""
    n = len(grams.ptr) - 1
    signatures = np.empty((n, _HASHES), dtype=np.uint32)
    for start in range(0, n, _MANY_ROWS):
        ptr = grams.ptr[start : start + _MANY_ROWS + 1]
        codes = grams.codes[ptr[0] : ptr[-1]].astype(np.uint64)
        for column, factor in enumerate(_odd_numbers(_HASHES)):
            # Multiply and shift (Dietzfelbinger et al. 1997).
            values = (codes * factor >> np.uint64(32)).astype(np.uint32)
            signatures[start : start + len(ptr) - 1, column] = np.minimum.reduceat(
                values, ptr[:-1] - ptr[0]
            )
    return signatures


def _bands(signatures: Codes) -> Iterator[npt.NDArray[np.uint64]]:
    """One key (n,) for each band of the signatures."""
    for start in range(0, _HASHES, _BAND):
        own = signatures[:, start : start + _BAND].astype(np.uint64)
        yield (own * _odd_numbers(_BAND)).sum(axis=1, dtype=np.uint64)


def _similar(
    first: _Grams, second: _Grams, proposed: Sequence[Ints], width: int, threshold: float
) -> Iterator[tuple[int, int, float]]:
    """The proposed pairs (numbered i * width + j) that are over the threshold, in order."""
    pairs = np.unique(np.concatenate([*proposed, np.empty(0, dtype=np.int64)]))
    for start in range(0, len(pairs), _MANY_PAIRS):
        i, j = np.divmod(pairs[start : start + _MANY_PAIRS], width)
        found = _jaccard(first, second, i, j)
        hit = found > threshold
        yield from zip(i[hit].tolist(), j[hit].tolist(), found[hit].tolist(), strict=True)


def _jaccard(first: _Grams, second: _Grams, i: Ints, j: Ints) -> npt.NDArray[np.float64]:
    """The similarity of row i[k] of the first with row j[k] of the second, for each k."""
    codes, count = first.some(i)
    others, other_count = second.some(j)
    pair = np.arange(len(i), dtype=np.uint64)
    keys = np.concatenate([np.repeat(pair, count), np.repeat(pair, other_count)]) << np.uint64(32)
    keys |= np.concatenate([codes, others])
    keys.sort()
    twice = keys[1:][keys[1:] == keys[:-1]]  # in both: each set holds a hash once
    shared = np.bincount((twice >> np.uint64(32)).astype(np.int64), minlength=len(i))
    return shared / (count + other_count - shared)
