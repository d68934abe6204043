"""The sums of documents in compiled code: what `kopwijzer.sums` makes, bit for bit, and faster.

Needs numba (``kopwijzer[fast]``), so nothing imports this module unless it is asked to. The loop
reads a text sign by sign, makes the hashes that `kopwijzer.text` defines, looks each one up by its
first bits, and adds what it finds. Every sum is exact (see
`kopwijzer.weights`), which is why its order may differ from NumPy's.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from kopwijzer import text
from kopwijzer.sums import knowing
from kopwijzer.text import CLASSES, POWERS, Block, classify, code_points, gram_sizes, lower
from kopwijzer.weights import Table, Weights

__all__ = ["CompiledSums"]

Floats = npt.NDArray[np.float64]

# Globals are constants to the compiler; of the kinds of a block:
_WORDS, _CHARACTERS, _PATTERNS = 0, 1, 2
_KINDS = {"words": _WORDS, "characters": _CHARACTERS, "patterns": _PATTERNS}
_SPACE, _DIGIT, _LETTER, _UNSEEN = text.SPACE, text.DIGIT, text.LETTER, text.UNSEEN
_STEP, _MIX, _BASE, _POWERS = text.STEP, text.MIX, text.BASE, POWERS
_WORD, _PAIR, _GRAM = text.WORD, text.PAIR, text.GRAM
_OPEN, _CLOSE, _NAME = text.OPEN, text.CLOSE, text.NAME
_U29, _U31, _U32, _U43, _ONE = (np.uint64(n) for n in (29, 31, 32, 43, 1))
_MINUS, _DOT, _COMMA, _COLON = (np.uint32(ord(sign)) for sign in "-.,:")
_MASKED_SIGNS = 4  # of a number that a pattern keeps
_KEPT, _KEPT_BYTES = 1 << 16, 48 << 20  # chunks whose rows a memo keeps, and their bytes
_KEPT_SIGNS = 64  # of a chunk that is kept; longer ones do not come again
_FEW = 64  # features of a chunk up to which repeats are looked for without sorting


def _jit(function: Callable[..., Any]) -> Any:
    """Compiled once for a machine: the code is kept beside the module or in the user's cache."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder can be written: compiled anew in each process
        return numba.njit(nogil=True)(function)


@_jit
def _mixed(code):  # type: ignore[no-untyped-def]
    mixed = (np.uint64(code) + _ONE) * _STEP
    return mixed ^ (mixed >> _U32)


@_jit
def _finish(mixed):  # type: ignore[no-untyped-def]
    mixed = (mixed ^ (mixed >> _U29)) * _MIX
    return np.uint32(mixed >> _U32)


@_jit
def _pair(left, right):  # type: ignore[no-untyped-def]
    return _finish(left * _STEP + (right ^ (right >> _U31)) * _BASE + _PAIR)


@_jit
def _find(code, block, features, buckets, first, shifts):  # type: ignore[no-untyped-def]
    """The place of a hash in a block, or -1; `buckets` say where each beginning of bits begins."""
    bucket = first[block] + np.int64(code >> shifts[block])
    for place in range(buckets[bucket], buckets[bucket + 1]):
        if features[place, 0] == code:
            return place
    return -1


@_jit
def _add(place, idf, coef, row):  # type: ignore[no-untyped-def]
    """Add a feature that stands once in its piece."""
    value = np.float64(idf[place, 0])
    n_labels = len(row) - 1
    for label in range(n_labels):
        row[label] += value * coef[place, label]
    row[n_labels] += value * value


@_jit
def _add_all(found, n, idf, coef, row):  # type: ignore[no-untyped-def]
    """Add the features of a chunk, of which some may stand in it more than once."""
    n_labels = len(row) - 1
    if n > _FEW:
        found[:n].sort()
    seen = np.uint64(0)
    before = 0
    for i in range(n):
        place = found[i]
        value = np.float64(idf[place, 0])
        for label in range(n_labels):
            row[label] += value * coef[place, label]
        # The square of a count is a sum of odd numbers: 1, 4 = 1 + 3, 9 = 1 + 3 + 5.
        if n > _FEW:
            before = before + 1 if i and found[i - 1] == place else 0
        else:
            bit = _ONE << np.uint64(place & 63)
            before = 0
            if seen & bit:
                for j in range(i):
                    if found[j] == place:
                        before += 1
            seen |= bit
        row[n_labels] += value * value * (2 * before + 1)


@_jit
def _tokens(place, stop, written, signs, kinds, mixed, hashes, named, masked):  # type: ignore[no-untyped-def]
    """The word hashes of the chunk ``[place:stop]``: each token, before it the pair it closes.

    `named` says of each hash whether it is a word (1) in lower case (2). Returns how many hashes
    and tokens there are, and the first and the last token's mixed hash.
    """
    zero = _mixed(np.uint32(48))
    n, n_tokens, i = 0, 0, place
    first = last = np.uint64(0)
    while i < stop:
        start, letters = i, False
        token = shape = np.uint64(0)
        while True:
            inside = kinds[i] >= _DIGIT
            if not inside and place < i < stop - 1:
                code = signs[i]
                inside = (
                    code in (_MINUS, _DOT, _COMMA, _COLON)
                    and kinds[i - 1] == _DIGIT
                    and kinds[i + 1] == _DIGIT
                )
            if i > start and not inside:
                break
            offset = i - start
            power = _POWERS[offset & 255]
            token += mixed[i] * power
            if offset < _MASKED_SIGNS:
                shape += (zero if kinds[i] == _DIGIT else mixed[i]) * power
            letters |= kinds[i] == _LETTER
            i += 1
            if not inside or i == stop:
                break
        plain = letters and written[start] == signs[start]
        if kinds[start] == _DIGIT:
            masked[n_tokens] = shape
        elif letters and not plain:
            masked[n_tokens] = _NAME
        else:
            masked[n_tokens] = token
        if n_tokens:
            hashes[n], named[n] = _pair(last, token), 0
            n += 1
        else:
            first = token
        hashes[n], named[n] = _finish(token + _WORD), 2 if plain else (1 if letters else 0)
        n += 1
        n_tokens += 1
        last = token
    return n, n_tokens, first, last


@_jit
def _grams(place, stop, mixed, low, high, padded, grams):  # type: ignore[no-untyped-def]
    """The n-grams of `low` to `high` signs of the chunk, a blank on either side; how many."""
    n_padded = stop - place + 2
    padded[0] = padded[n_padded - 1] = _mixed(np.uint32(10))
    for i in range(place, stop):
        padded[i - place + 1] = mixed[i]
    n = 0
    for i in range(n_padded - 1):
        running = padded[i]
        if low == 1 and i > 0:
            grams[n] = _finish(running + _GRAM)
            n += 1
        for size in range(2, min(high, n_padded - i) + 1):
            running += padded[i + size - 1] * _POWERS[size - 2]
            if size >= low:
                grams[n] = _finish(running + _GRAM * np.uint64(size))
                n += 1
    return n


@_jit
def _slot(place, stop, written, mixed, table, signs, sign_ptr):  # type: ignore[no-untyped-def]
    """Where in `table` the number of the chunk ``[place:stop]`` stands, or its free place."""
    running = np.uint64(stop - place)
    for i in range(place, stop):
        running = (running ^ mixed[i]) * _MIX
    mask = len(table) - 1
    slot = np.int64(running >> _U32) & mask
    while table[slot] >= 0:
        begin = sign_ptr[table[slot]]
        if sign_ptr[table[slot] + 1] - begin == stop - place:
            same = True
            for i in range(stop - place):
                if signs[begin + i] != written[place + i]:
                    same = False
                    break
            if same:
                break
        slot = (slot + 1) & mask
    return slot


@_jit
def _sum(  # type: ignore[no-untyped-def]
    written, signs, ptr, classes, features, idf, coef, buckets, first, shifts, blocks, reads,
    low, high, low_pattern, high_pattern,
    n_kept, table, kept, kept_ptr, tokens, token_ptr, outer, counts, rows, sums, words,
):  # fmt: skip
    """Add every document to `sums` and `words` (see `Sums.of`); False for an unseen sign.

    The field f of document d is ``signs[ptr[i]:ptr[i + 1] - 1]`` with ``i = 2 * d + f``. `blocks`
    (n_blocks, 3) holds kind, whether it pairs, and whether it knows words; `reads` (n_blocks, 2)
    which fields each one reads. From `n_kept` on stand the arrays of a `_Memo`.
    """
    n_signs, n_blocks, width = len(signs), len(blocks), sums.shape[2]
    kinds = np.empty(n_signs, dtype=np.uint8)
    mixed = np.empty(n_signs, dtype=np.uint64)
    longest, length = 0, 0
    for i in range(n_signs):
        kind = classes[signs[i]]
        if kind == _UNSEEN:
            return False
        kinds[i] = kind
        mixed[i] = _mixed(signs[i])
        length = 0 if kind == _SPACE else length + 1
        longest = max(longest, length)
    most = 2 * longest + 2
    grams = np.empty((longest + 2) * (high - low + 1), dtype=np.uint32)
    found = np.empty(max(len(grams), most), dtype=np.int64)
    padded = np.empty(longest + 2, dtype=np.uint64)
    hashes = np.empty(most, dtype=np.uint32)
    named = np.empty(most, dtype=np.uint8)
    known = np.empty(most, dtype=np.bool_)
    knows = False
    for block in range(n_blocks):
        knows |= blocks[block, 2] == 1

    masked = np.empty(n_signs + 2, dtype=np.uint64)
    long_tokens = np.empty(longest, dtype=np.uint64)
    room = len(counts) - 1  # the row after the last serves chunks too long to keep

    for field in range(len(ptr) - 1):
        document, which = field >> 1, field & 1
        row, count = sums[document], words[document]
        place, end = ptr[field], ptr[field + 1] - 1
        masked[0] = _OPEN
        n_masked = 1
        last, first_chunk = np.uint64(0), True
        while place < end:
            if kinds[place] == _SPACE:
                place += 1
                continue
            stop = place + 1
            while stop < end and kinds[stop] != _SPACE:
                stop += 1
            chunk, slot = room, 0
            if stop - place <= _KEPT_SIGNS:
                slot = _slot(place, stop, written, mixed, table, kept, kept_ptr)
                chunk = table[slot]
            if chunk < 0 or chunk == room:
                own = long_tokens
                if chunk < 0:
                    chunk = n_kept[0]
                    if (
                        chunk == room
                        or kept_ptr[chunk] + stop - place > len(kept)
                        or token_ptr[chunk] + stop - place > len(tokens)
                    ):  # full: all are forgotten, and the next ones are kept
                        table[:] = -1
                        chunk = 0
                        slot = _slot(place, stop, written, mixed, table, kept, kept_ptr)
                    table[slot] = chunk
                    n_kept[0] = chunk + 1
                    kept_ptr[chunk + 1] = kept_ptr[chunk] + stop - place
                    for i in range(stop - place):
                        kept[kept_ptr[chunk] + i] = written[place + i]
                    own = tokens[token_ptr[chunk] :]
                n_hashes, n_tokens, outer[chunk, 0], outer[chunk, 1] = _tokens(
                    place, stop, written, signs, kinds, mixed, hashes, named, own
                )
                token_ptr[chunk + 1] = token_ptr[chunk] + n_tokens
                n_grams = _grams(place, stop, mixed, low, high, padded, grams)
                rows[chunk] = 0.0
                counts[chunk] = 0
                known[:n_hashes] = not knows
                for block in range(n_blocks):
                    kind, n_found = blocks[block, 0], 0
                    if kind == _WORDS:
                        for i in range(n_hashes):
                            at = _find(hashes[i], block, features, buckets, first, shifts)
                            if at >= 0:
                                found[n_found] = at
                                n_found += 1
                                if blocks[block, 2] == 1:
                                    known[i] = True
                    elif kind == _CHARACTERS:
                        for i in range(n_grams):
                            at = _find(grams[i], block, features, buckets, first, shifts)
                            if at >= 0:
                                found[n_found] = at
                                n_found += 1
                    _add_all(found, n_found, idf, coef, rows[chunk, block])
                for i in range(n_hashes):
                    if named[i] > 0:
                        counts[chunk, 0] += known[i]
                        counts[chunk, 1] += 1
                    if named[i] == 2:
                        counts[chunk, 2] += known[i]
                        counts[chunk, 3] += 1
            for i in range(4):
                count[i] += counts[chunk, i]
            own = long_tokens if chunk == room else tokens[token_ptr[chunk] :]
            for i in range(token_ptr[chunk + 1] - token_ptr[chunk]):
                masked[n_masked] = own[i]
                n_masked += 1
            for block in range(n_blocks):
                if blocks[block, 0] != _PATTERNS and reads[block, which]:
                    for i in range(width):
                        row[block, i] += rows[chunk, block, i]
                    if blocks[block, 1] == 1 and not first_chunk:
                        across = _pair(last, outer[chunk, 0])
                        at = _find(across, block, features, buckets, first, shifts)
                        if at >= 0:
                            _add(at, idf, coef, row[block])
            last, first_chunk = outer[chunk, 1], False
            place = stop

        # Patterns: n-grams of the masked tokens of the field.
        if n_masked == 1:
            continue
        masked[n_masked] = _CLOSE
        n_masked += 1
        for block in range(n_blocks):
            if blocks[block, 0] != _PATTERNS or not reads[block, which]:
                continue
            for i in range(n_masked):
                running = masked[i]
                for size in range(1, min(high_pattern, n_masked - i) + 1):
                    if size > 1:
                        running = running * _STEP + masked[i + size - 1]
                    if size >= low_pattern:
                        code = _finish(running + (np.uint64(size) << _U43))
                        at = _find(code, block, features, buckets, first, shifts)
                        if at >= 0:
                            _add(at, idf, coef, row[block])
    return True


@_jit
def _decide(sums, block_weight, scale, intercept, decision):  # type: ignore[no-untyped-def]
    """`Sums.decide` from sums, step for step."""
    n, n_blocks, n_labels = len(sums), len(block_weight), len(scale)
    for document in range(n):
        total = decision[document]
        for block in range(n_blocks):
            norm = np.sqrt(sums[document, block, n_labels])
            factor = block_weight[block] / (norm if norm > 0 else 1.0)
            for label in range(n_labels):
                total[label] += sums[document, block, label] * factor
        for label in range(n_labels):
            total[label] = intercept[label] + scale[label] * total[label]


def _side_by_side(weights: Weights, table: Table) -> tuple[npt.NDArray[Any], ...]:
    """Hashes, idf and levels as views of one array: what a feature needs is in one place."""
    n, n_labels = weights.coef.shape
    words = 2 + -(-n_labels * weights.coef.itemsize // 4)  # of 32 bits
    features = np.zeros((n, 1 << (words - 1).bit_length()), dtype=np.uint32)
    idf = features[:, 1:2].view(np.float32)
    coef = features[:, 2:].view(weights.coef.dtype)
    features[:, 0], idf[:, 0], coef[:, :n_labels] = (
        weights.hashes,
        table.idf(slice(None)),
        weights.coef,
    )
    return features, idf, coef


def _memo(n_blocks: int, width: int) -> tuple[npt.NDArray[Any], ...]:
    """What chunks came to, each with its signs, so that one that comes again is only looked up:
    how many there are, their hash table, signs, tokens, outer tokens, words and rows."""
    room = min(_KEPT, _KEPT_BYTES // (8 * n_blocks * width) + 1)
    return (
        np.zeros(1, dtype=np.int64),
        np.full(1 << (4 * room - 1).bit_length(), -1, dtype=np.int32),
        np.empty(16 * room + _KEPT_SIGNS, dtype=np.uint32),
        np.zeros(room + 2, dtype=np.int64),
        np.empty(8 * room + _KEPT_SIGNS, dtype=np.uint64),
        np.zeros(room + 2, dtype=np.int64),
        np.empty((room + 1, 2), dtype=np.uint64),
        np.empty((room + 1, 4), dtype=np.int64),
        np.empty((room + 1, n_blocks, width), dtype=np.float64),
    )


class CompiledSums:
    """`kopwijzer.sums.Sums` in compiled code; safe to share between threads."""

    def __init__(self, weights: Weights, table: Table, blocks: Sequence[Block]) -> None:
        ptr = weights.block_ptr
        first, shifts, buckets = [0], [], []
        for start, end in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True):
            bits = max(1, (end - start).bit_length())  # about one feature in a bucket
            begins = weights.hashes[start:end] >> np.uint32(32 - bits)
            sizes = np.bincount(begins, minlength=1 << bits)
            buckets.append(start + np.append(0, np.cumsum(sizes)))
            shifts.append(32 - bits)
            first.append(first[-1] + len(buckets[-1]))
        kinds = np.array(
            [
                (_KINDS[b.kind], b.kind == "words" and b.high > 1, number in knowing(blocks))
                for number, b in enumerate(blocks)
            ],
            dtype=np.int64,
        )
        self._shape = len(blocks), weights.coef.shape[1] + 1
        self._arguments = (
            *_side_by_side(weights, table),
            np.concatenate(buckets).astype(np.int32),
            np.array(first[:-1], dtype=np.int64),
            np.array(shifts, dtype=np.uint32),
            kinds,
            np.array([[block.reads(0), block.reads(1)] for block in blocks]),
            *gram_sizes(blocks),
            *gram_sizes(blocks, "patterns"),
        )
        self._decides = (
            np.array([block.weight for block in blocks], dtype=np.float64),
            np.array(weights.scale),
            np.array(weights.intercept),
        )
        self._memos: list[tuple[npt.NDArray[Any], ...]] = []  # that no thread is using now
        self.decide([""], [""])  # compiles

    def decide(self, headlines: Sequence[str], teasers: Sequence[str]) -> tuple[Floats, Floats]:
        """The decision values (n, n_labels) of n documents, and their words as `of` gives them."""
        sums, words = self.of(headlines, teasers)
        decision = np.zeros((len(sums), self._shape[1] - 1))
        _decide(sums, *self._decides, decision)
        return decision, words

    def of(self, headlines: Sequence[str], teasers: Sequence[str]) -> tuple[Floats, Floats]:
        """The sums (n, n_blocks, n_labels + 1) of n documents, and their words (n, 4): known and
        all words, then known and all of those in lower case."""
        texts = [field for both in zip(headlines, teasers, strict=True) for field in both]
        joined = "\n".join([*texts, ""])
        written, signs = code_points(joined), code_points(lower(joined))
        ptr = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(field) + 1 for field in texts], out=ptr[1:])
        sums = np.zeros((len(headlines), *self._shape))
        words = np.zeros((len(headlines), 4))
        try:
            memo = self._memos.pop()
        except IndexError:
            memo = _memo(*self._shape)
        # It says which signs it has not seen before it adds anything.
        while not _sum(written, signs, ptr, CLASSES, *self._arguments, *memo, sums, words):
            classify(signs)
        self._memos.append(memo)
        return sums, words
