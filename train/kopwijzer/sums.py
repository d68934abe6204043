"""The sums of documents: what scoring needs of a text, in NumPy.

A piece of text (see `text`) gives each block b a row of n_labels + 1 numbers: its part of the
numerator ``sum(count * idf * level)`` for every label, and its squared norm. A document is the sum
of its pieces' rows. The rows of chunks seen before are kept: that is what makes this fast without
compiled code. `kopwijzer.compiled` makes the same sums, bit for bit, in a compiled loop.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kopwijzer.text import Block, Chunks, expand, gather, gram_sizes, pair_hashes, pattern_hashes
from kopwijzer.weights import Table, Weights, keys

__all__ = ["Sums", "knowing"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_START = np.zeros(1, dtype=np.int64)
_CACHE_BYTES = 96 << 20  # rows of chunks kept before a new cache is started


def knowing(blocks: Sequence[Block]) -> list[int]:
    """The blocks that tell whether a word is known: of those that read most, if there are any."""
    words = [n for n, block in enumerate(blocks) if block.kind == "words"]
    return [n for n in words if blocks[n].field == "both"] or words


class Sums:
    """Sums of documents, and what they decide; safe to share between threads."""

    def __init__(self, weights: Weights, table: Table, blocks: Sequence[Block]) -> None:
        self._weights, self._table, self._blocks = weights, table, blocks
        self._n_labels = n_labels = len(weights.scale)
        self._block_weight = np.array([block.weight for block in blocks])
        self._chars = gram_sizes(blocks)
        self._pattern_sizes = gram_sizes(blocks, "patterns")
        self._knows = knowing(blocks)
        #: For each field, the blocks that take pairs across chunks from it, and patterns.
        self._pairs = [
            [n for n, b in enumerate(blocks) if b.kind == "words" and b.high > 1 and b.reads(field)]
            for field in (0, 1)
        ]
        self._patterns = [
            [n for n, b in enumerate(blocks) if b.kind == "patterns" and b.reads(field)]
            for field in (0, 1)
        ]
        self._lock = threading.Lock()
        self._cache = _Cache(len(blocks), n_labels)

    def decide(self, headlines: Sequence[str], teasers: Sequence[str]) -> tuple[Floats, Floats]:
        """The decision values (n, n_labels) of n documents, and their words as `of` gives them."""
        sums, words = self.of(headlines, teasers)
        norms = np.sqrt(sums[:, :, -1])
        factors = self._block_weight / np.where(norms > 0, norms, 1.0)
        scaled = sums[:, :, :-1] * factors[:, :, None]
        total = scaled[:, 0]
        for block in range(1, len(self._blocks)):  # one by one: the same order in every batch
            total = total + scaled[:, block]
        return self._weights.intercept + self._weights.scale * total, words

    def of(self, headlines: Sequence[str], teasers: Sequence[str]) -> tuple[Floats, Floats]:
        """The sums (n, n_blocks, n_labels + 1) of n documents, and their words (n, 4): known and
        all words, then known and all of those in lower case."""
        cache = self._cache
        sums = np.zeros((len(headlines), len(self._blocks), self._n_labels + 1))
        words = np.zeros((len(headlines), 4))
        for field, texts in enumerate((headlines, teasers)):
            flat: list[str] = []
            lengths: list[int] = []
            for text in texts:
                parts = text.split()
                flat += parts
                lengths.append(len(parts))
            if flat:
                numbers, cache = self._number(flat, cache)
                self._add_field(field, numbers, lengths, cache, sums, words)
        return sums, words

    def _number(self, flat: list[str], cache: "_Cache") -> tuple[Ints, "_Cache"]:
        """Each chunk's number in a cache that holds them all; grows it under the lock."""
        try:
            numbers = np.fromiter(map(cache.numbers.__getitem__, flat), np.int64, len(flat))
            # A number past the rows is one that another thread is adding just now.
            if int(numbers.max()) < len(cache.rows):
                return numbers, cache
        except KeyError:
            pass
        with self._lock:
            try:
                cache = self._cache
                if cache.bytes > _CACHE_BYTES:
                    cache = _Cache(len(self._blocks), self._n_labels)
                cache = self._cache = self._grown(cache, flat)
            except BaseException:
                # Numbers without rows may be left behind: nobody may take them for others.
                self._cache = _Cache(len(self._blocks), self._n_labels)
                raise
        return np.fromiter(map(cache.numbers.__getitem__, flat), np.int64, len(flat)), cache

    def _grown(self, cache: "_Cache", flat: Iterable[str]) -> "_Cache":
        """The cache with every chunk of `flat` in it."""
        fresh = [chunk for chunk in dict.fromkeys(flat) if chunk not in cache.numbers]
        return cache.grown(fresh, *self._chunk_rows(fresh)) if fresh else cache

    def _chunk_rows(self, chunks: Sequence[str]) -> tuple[Floats, Floats, Chunks]:
        """The rows (n, 2 fields, n_blocks, n_labels + 1) of new chunks, their words, the cut."""
        cut = expand(chunks, *self._chars)
        n = len(chunks)
        rows = np.zeros((n, 2, len(self._blocks), self._n_labels + 1))
        words = np.zeros((n, 4))
        for column, which in ((1, cut.is_word), (3, cut.is_plain)):
            words[:, column] = np.add.reduceat(which, cut.words_ptr[:-1], dtype=np.int64)
        word_owner = np.repeat(np.arange(n), np.diff(cut.words_ptr))
        gram_owner = np.repeat(np.arange(n), np.diff(cut.characters_ptr))
        owners, wanted = [], []
        for number, block in enumerate(self._blocks):
            own = {"words": (word_owner, cut.words), "characters": (gram_owner, cut.characters)}
            whose, hashes = own.get(block.kind, (word_owner[:0], cut.words[:0]))
            owners.append(whose)
            wanted.append(keys(hashes, number))
        owner, place = np.concatenate(owners), self._table.find(np.concatenate(wanted))
        # A model without words cannot tell which it knows: it takes all for known.
        known = np.full(len(cut.words), not self._knows)
        start = 0
        for number, own_keys in enumerate(wanted):
            if number in self._knows:
                known |= place[start : start + len(own_keys)] >= 0
            start += len(own_keys)
        for column, which in ((0, cut.is_word), (2, cut.is_plain)):
            words[:, column] = np.bincount(word_owner[known & which], minlength=n)
        hit = place >= 0
        pairs, count = np.unique((owner[hit] << 32) | place[hit], return_counts=True)
        if len(pairs):
            who, place = pairs >> 32, pairs & 0xFFFFFFFF
            values = self._table.rows(place)
            values[:, :-1] *= count[:, None]
            values[:, -1] *= count * count
            group = self._table.block(place)
            new = (who[1:] != who[:-1]) | (group[1:] != group[:-1])
            starts = np.flatnonzero(np.append(True, new))
            total = np.add.reduceat(values, starts, axis=0)
            for field in (0, 1):
                reads = np.array([block.reads(field) for block in self._blocks])[group[starts]]
                rows[who[starts][reads], field, group[starts][reads]] = total[reads]
        return rows, words, cut

    def _add_field(
        self,
        field: int,
        numbers: Ints,
        lengths: list[int],
        cache: "_Cache",
        sums: Floats,
        words: Floats,
    ) -> None:
        """Add the chunks, pairs and patterns of one field of every document to its sums."""
        n = len(sums)
        if n == 1:
            sums[0] += np.add.reduceat(cache.rows[numbers, field], _START, axis=0)[0]
            words[0] += cache.words[numbers].sum(axis=0)
            owner = np.zeros(len(numbers), dtype=np.int64)
        else:
            length = np.array(lengths)
            full = np.flatnonzero(length)
            starts = (np.cumsum(length) - length)[full]
            sums[full] += np.add.reduceat(cache.rows[numbers, field], starts, axis=0)
            words[full] += np.add.reduceat(cache.words[numbers], starts, axis=0)
            owner = np.repeat(np.arange(n), length)
        wanted, whose = [], []
        if len(numbers) > 1 and self._pairs[field]:
            hashes = pair_hashes(cache.last[numbers[:-1]], cache.first[numbers[1:]])
            pair_owner = owner[:-1]
            if n > 1:
                same = pair_owner == owner[1:]
                hashes, pair_owner = hashes[same], pair_owner[same]
            for block in self._pairs[field]:
                wanted.append(keys(hashes, block))
                whose.append(pair_owner)
        if self._patterns[field]:
            count = cache.n_tokens[numbers]
            masked = gather(cache.masked, cache.token_start[numbers], count)
            hashes, pattern_owner = pattern_hashes(
                masked, np.repeat(owner, count), *self._pattern_sizes
            )
            for block in self._patterns[field]:
                wanted.append(keys(hashes, block))
                whose.append(pattern_owner)
        if wanted:
            place = self._table.find(np.concatenate(wanted))
            hit = place >= 0
            place = place[hit]
            if len(place):
                slot = np.concatenate(whose)[hit] * len(self._blocks) + self._table.block(place)
                _add(sums, slot, self._table.rows(place))


class _Cache:
    """Rows of the chunks seen so far. Never changed once shared: growing makes a new one that
    keeps every number, so a thread that holds the old one goes on undisturbed."""

    def __init__(self, n_blocks: int, n_labels: int) -> None:
        self.numbers: dict[str, int] = {}
        self.text_bytes = 0
        self.rows = np.zeros((0, 2, n_blocks, n_labels + 1))
        self.words = np.zeros((0, 4))
        self.first = np.zeros(0, dtype=np.uint64)
        self.last = np.zeros(0, dtype=np.uint64)
        self.token_start = np.zeros(0, dtype=np.int64)
        self.n_tokens = np.zeros(0, dtype=np.int64)
        self.masked = np.zeros(0, dtype=np.uint64)
        #: The arrays by chunk with room to grow, and that of the tokens.
        self._store: tuple[npt.NDArray[Any], ...] = (
            self.rows,
            self.words,
            self.first,
            self.last,
            self.token_start,
            self.n_tokens,
        )
        self._token_store = self.masked

    @property
    def bytes(self) -> int:
        return len(self.numbers) * (self.rows.strides[0] + 200) + self.text_bytes

    def grown(self, chunks: Sequence[str], rows: Floats, words: Floats, cut: Chunks) -> "_Cache":
        """A cache with these chunks as well; the numbers of the old ones stay."""
        grown = object.__new__(_Cache)
        old, new = len(self.rows), len(self.rows) + len(chunks)
        start, count = cut.masked_ptr[:-1] + len(self.masked), np.diff(cut.masked_ptr)
        grown._store = tuple(
            _extended(array, old, new, values)
            for array, values in zip(
                self._store, (rows, words, cut.first, cut.last, start, count), strict=True
            )
        )
        (
            grown.rows,
            grown.words,
            grown.first,
            grown.last,
            grown.token_start,
            grown.n_tokens,
        ) = (array[:new] for array in grown._store)
        n_tokens = len(self.masked)
        n_new = n_tokens + len(cut.masked)
        grown._token_store = _extended(self._token_store, n_tokens, n_new, cut.masked)
        grown.masked = grown._token_store[:n_new]
        grown.text_bytes = self.text_bytes + 4 * sum(map(len, chunks)) + cut.masked.nbytes
        # The dictionary is shared with the old cache, whose holders ignore numbers they lack.
        grown.numbers = self.numbers
        grown.numbers.update(zip(chunks, range(old, new), strict=True))
        return grown


def _extended(
    array: npt.NDArray[Any], old: int, new: int, values: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """An array with room whose first `old` entries stay and ``[old:new]`` hold `values`."""
    if new > len(array):
        larger = np.empty((max(2 * new, 256), *array.shape[1:]), dtype=array.dtype)
        larger[:old] = array[:old]
        array = larger
    array[old:new] = values
    return array


def _add(sums: Floats, slot: Ints, values: Floats) -> None:
    """Add rows to the slots (a document's block) that they belong to."""
    if len(sums) > 1:
        order = slot.argsort(kind="stable")
        slot, values = slot[order], values[order]
    new = np.empty(len(slot), dtype=np.bool_)
    new[0] = True
    np.not_equal(slot[1:], slot[:-1], out=new[1:])
    starts = new.nonzero()[0]
    sums.reshape(-1, sums.shape[2])[slot[starts]] += np.add.reduceat(values, starts, axis=0)
