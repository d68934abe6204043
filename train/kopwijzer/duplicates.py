"""Near-duplicates: rows that tell the same story in nearly the same words.

MinHash signatures (Broder 1997) of character 5-grams propose pairs, and the exact Jaccard
similarity decides: no pair is reported that is not one, and all pairs are never compared. A
signature is 60 true permutations in 20 bands of 3, so a pair of similarity 0.5 is proposed with
probability 1 - (1 - 0.5^3)^20 = 93 %, one of 0.7 with 99.98 %. Written out in NumPy because
that takes 15,000 rows in 2 seconds.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from kopwijzer.headlines import Headline

__all__ = ["near_duplicate_groups", "near_duplicate_pairs", "similarity"]

_SPACE = re.compile(r"\s+")
_SIGNS = re.compile(r"[^\w ]")
_HASHES, _BAND = 60, 3
_SIZE = 5


def near_duplicate_pairs(
    rows: Sequence[Headline], threshold: float = 0.5
) -> Iterator[tuple[int, int, float]]:
    """Pairs (i, j, similarity) with i < j whose Jaccard similarity (0-1) is over `threshold`."""
    grams = [_grams(row.headline, row.teaser) for row in rows]
    for i, j in sorted(_candidates(grams)):
        found = _jaccard(grams[i], grams[j])
        if found > threshold:
            yield i, j, found


def near_duplicate_groups(rows: Sequence[Headline], threshold: float = 0.5) -> list[int]:
    """One number per row; rows that are linked by near-duplicates share the number of the first."""
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j, _ in near_duplicate_pairs(rows, threshold):
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    return [root(i) for i in range(len(rows))]


def similarity(a: Headline, b: Headline) -> float:
    """The Jaccard similarity (0-1) of the character 5-grams of two rows."""
    return _jaccard(_grams(a.headline, a.teaser), _grams(b.headline, b.teaser))


def _grams(headline: str, teaser: str) -> frozenset[str]:
    text = _SPACE.sub(" ", _SIGNS.sub(" ", f"{headline} {teaser}".lower())).strip()
    return frozenset(text[i : i + _SIZE] for i in range(max(len(text) - _SIZE + 1, 1)))


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a or b else 0.0


def _candidates(grams: Sequence[frozenset[str]]) -> set[tuple[int, int]]:
    """Pairs that share a band of their MinHash signatures."""
    signatures = _signatures(grams)
    pairs: set[tuple[int, int]] = set()
    for start in range(0, _HASHES, _BAND):
        band = np.ascontiguousarray(signatures[:, start : start + _BAND])
        keys = band.view([("", band.dtype)] * band.shape[1]).ravel()
        order = np.argsort(keys, kind="stable")
        same = keys[order[1:]] == keys[order[:-1]]
        # Neighbours in a bucket are enough to link it; large buckets stay linear that way.
        pairs.update(
            (min(a, b), max(a, b))
            for (a, b), hit in zip(pairwise(order.tolist()), same.tolist(), strict=True)
            if hit
        )
    return pairs


def _signatures(grams: Sequence[frozenset[str]]) -> npt.NDArray[np.uint32]:
    """Signatures (n, _HASHES): under each random order of all grams, the first of a row's."""
    rng = np.random.default_rng(0)
    signatures = np.empty((len(grams), _HASHES), dtype=np.uint32)
    if not grams:
        return signatures
    known: dict[str, int] = {}
    flat = [known.setdefault(gram, len(known)) for row in grams for gram in row]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in grams])[:-1]])
    places = np.array(flat, dtype=np.int64)
    for column in range(_HASHES):
        values = rng.permutation(len(known)).astype(np.uint32)
        signatures[:, column] = np.minimum.reduceat(values[places], starts)
    return signatures
