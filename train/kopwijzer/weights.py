"""The weights of a fitted model: plain arrays, and looking features up in them.

A feature adds to the numerator of each label ``idf * coef`` and to the squared norm ``idf ** 2``
(see `kopwijzer.sums`). `smooth_idf` rounds to 1/4096 and coefficients are whole levels, so that
all these numbers are sums of multiples of 2**-24 that a float64 holds *exactly*: whoever adds them
up, in whatever order and batch, gets the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kopwijzer.errors import BadVersion

__all__ = ["Table", "Weights", "keys", "smooth_idf"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LARGEST = 1e30  # of an intercept or a scale: sums of such numbers are numbers yet
_IDF_TABLE = 1 << 20  # document frequencies up to which idf is looked up
_STEPS = 4096  # of idf in one unit; a step less or more changes no decision value by 1e-4


def smooth_idf(df: npt.NDArray[Any], n_documents: int) -> Floats:
    """scikit-learn's smooth idf, ``ln((1 + n) / (1 + df)) + 1``, rounded to 1/4096."""
    idf: Floats = np.log((1 + n_documents) / (1 + df.astype(np.float64))) + 1
    return np.rint(idf * _STEPS) / _STEPS


@dataclass(frozen=True, slots=True)
class Weights:
    """A fitted model as plain arrays; n features, ordered by block and by hash within it.

    hashes : (n,) uint32, strictly rising within each block
    block_ptr : (n_blocks + 1,) int64; block b owns ``[block_ptr[b]:block_ptr[b + 1]]``
    df : (n,) uint32, the number of training documents that hold the feature
    coef : (n, n_labels) int8 or float32; times `scale` it is scikit-learn's ``coef_.T``
    scale : (n_labels,) float64
    intercept : (n_labels,) float64
    n_documents : the number of training documents (> 0)

    idf is `smooth_idf` of `df`.
    """

    hashes: npt.NDArray[np.uint32]
    block_ptr: Ints
    df: npt.NDArray[np.unsignedinteger]
    coef: npt.NDArray[np.int8] | npt.NDArray[np.float32]
    scale: Floats
    intercept: Floats
    n_documents: int

    def check(self, n_blocks: int, n_labels: int) -> None:
        """Raise `BadVersion` unless the arrays fit each other and hold only sane numbers."""
        n = len(self.hashes)
        ptr = self.block_ptr
        sane = (
            self.hashes.shape == self.df.shape == (n,)
            and ptr.shape == (n_blocks + 1,)
            and ptr[0] == 0
            and ptr[-1] == n
            and bool((np.diff(ptr) >= 0).all())
            and self.coef.shape == (n, n_labels)
            and self.scale.shape == self.intercept.shape == (n_labels,)
            and self.n_documents > 0
        )
        if not sane:
            raise BadVersion("the arrays of the model do not fit each other")
        if not ((np.abs(self.scale) < _LARGEST) & (np.abs(self.intercept) < _LARGEST)).all():
            raise BadVersion("the model holds scales or intercepts that are not numbers")
        if self.coef.dtype.kind == "f" and not np.isfinite(self.coef).all():
            raise BadVersion("the model holds coefficients that are not numbers")
        rising = np.diff(self.hashes.astype(np.int64)) > 0
        borders = ptr[1:-1] - 1
        rising[borders[(borders >= 0) & (borders < n - 1)]] = True
        if not rising.all():
            raise BadVersion("the hashes of the model are not in order")
        if n and int(self.df.max()) > self.n_documents:
            raise BadVersion("a feature claims more documents than the model was trained on")


def keys(hashes: npt.NDArray[np.uint32], block: int) -> Ints:
    """Hashes of one block as keys of the one table of all blocks."""
    return hashes.astype(np.int64) | (block << 32)


class Table:
    """All features: from `keys` to places, from places to blocks and rows of numbers."""

    def __init__(self, weights: Weights) -> None:
        sizes = np.diff(weights.block_ptr)
        self._block = np.repeat(np.arange(len(sizes)), sizes)
        self._keys: Ints = keys(weights.hashes, 0) | (self._block << 32)
        self._df: npt.NDArray[np.integer] = weights.df
        self._coef = weights.coef
        # idf by document frequency: a look-up is cheaper than a logarithm.
        top = int(weights.df.max()) if len(weights.df) else 0
        every: npt.NDArray[Any]
        if top < _IDF_TABLE:
            every = np.arange(top + 1)
        else:
            every, self._df = np.unique(weights.df, return_inverse=True)
        self._idf = smooth_idf(every, weights.n_documents)
        self._may: npt.NDArray[np.bool_] | None = None

    def find(self, keys: Ints) -> Ints:
        """The place of each key, or -1."""
        if len(keys) <= 2000:
            return self._search(keys)
        # Most keys of a large batch are unknown pairs: a table of their first bits answers for
        # nine in ten of them, and the binary search is for the rest.
        if self._may is None:
            may = np.zeros(1 << 20, dtype=np.bool_)
            may[_fold(self._keys)] = True
            self._may = may
        places = np.full(len(keys), -1, dtype=np.int64)
        maybe = np.flatnonzero(self._may[_fold(keys)])
        places[maybe] = self._search(keys[maybe])
        return places

    def _search(self, keys: Ints) -> Ints:
        places = self._keys.searchsorted(keys)
        places[places == len(self._keys)] = 0
        if not len(self._keys):
            return places - 1
        places[self._keys[places] != keys] = -1
        return places

    def block(self, places: Ints) -> Ints:
        """The block of each place."""
        return self._block[places]

    def idf(self, places: Ints | slice) -> Floats:
        """The idf of each place."""
        found: Floats = self._idf[self._df[places]]
        return found

    def rows(self, places: Ints) -> Floats:
        """(n, n_labels + 1): idf times the level of every label, then idf squared."""
        idf = self.idf(places)
        rows = np.empty((len(places), self._coef.shape[1] + 1))
        np.multiply(self._coef[places], idf[:, None], out=rows[:, :-1])
        np.multiply(idf, idf, out=rows[:, -1])
        return rows

    def piece(self, texts: Sequence[str], keys: Ints) -> tuple[list[tuple[str, Floats]], float]:
        """The known texts of a piece with their rows, and its squared norm."""
        places = self._search(keys)
        known = [(text, place) for text, place in zip(texts, places, strict=True) if place >= 0]
        rows = self.rows(np.array([place for _, place in known], dtype=np.int64))
        count: dict[int, int] = {}
        square: dict[int, float] = {}
        for (_, place), row in zip(known, rows, strict=True):
            count[place] = count.get(place, 0) + 1
            square[place] = float(row[-1])
        norm = sum(square[place] * count[place] ** 2 for place in count)
        return [(text, row) for (text, _), row in zip(known, rows, strict=True)], norm


def _fold(keys: Ints) -> Ints:
    """Twenty bits of a key."""
    return ((keys >> 12) ^ (keys >> 29)) & 0xFFFFF
