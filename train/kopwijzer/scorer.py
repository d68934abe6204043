"""The loaded model: `Scorer`, its `Prediction`s, when it abstains and why, and explanations.

NumPy only. A scorer is arrays and settings: nothing in it can run, and it cannot be refitted.

A piece of text (see `text`) contributes to each block b a row of n_labels + 1 numbers: its part
of the numerator ``sum(count * idf * coef)`` for every label, and its squared norm. A document is
the sum of its pieces' rows, so

    decision = intercept + sum over blocks of  weight_b * numerator_b / sqrt(squared_norm_b)

and the rows of chunks seen before are kept: that is what makes scoring fast.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kopwijzer.errors import BadRows, BadSettings, BadVersion
from kopwijzer.headlines import Headline
from kopwijzer.text import (
    Block,
    Chunks,
    expand,
    gather,
    gram_sizes,
    pair_hashes,
    pattern_hashes,
    signal_hashes,
    signals,
    spell,
    spell_patterns,
)

__all__ = ["Abstention", "Contribution", "Explanation", "Prediction", "Scorer", "Weights"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Reason = Literal["empty", "unknown_words", "low_confidence", "out_of_scope"]

_BATCH = 256  # documents summed at once: their rows then stay in the processor's cache
_SIGNS = 1 << 18  # and signs: expanding one takes some 200 bytes for the moment
_START = np.zeros(1, dtype=np.int64)
_SIGNAL = "\x1e"  # opens a signal among the chunks; white space to `str.split`
_CACHE_BYTES = 96 << 20  # rows of chunks kept before the scorer starts a new cache
_LARGEST = 1e30  # of an intercept or a scale: sums of such numbers are numbers yet
_IDF_TABLE = 1 << 20  # document frequencies up to which idf is looked up


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a headline is taken for.

    `label` is one of the model's labels, or the abstaining label. `confidence` (0-1) is the
    probability of the best of all labels, `scores` gives every label's (they sum to 1).
    `abstained` says that the label is the abstaining one, `reason` why: "empty" (no words),
    "unknown_words" (too few of its words were ever seen), "out_of_scope" (most like the rows
    that are none of the labels), "low_confidence" (below the label's threshold), else None.
    """

    label: str
    confidence: float
    scores: dict[str, float]
    abstained: bool
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one text piece adds to the decision value of the explained label."""

    text: str
    block: str
    value: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why `label` got its decision value (log-odds up to a constant shared by all labels).

    ``intercept + sum(c.value for c in contributions) == decision`` up to rounding; the
    contributions come strongest first.
    """

    label: str
    decision: float
    intercept: float
    contributions: tuple[Contribution, ...]
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class Abstention:
    """When a scorer abstains.

    `label` is what it then says. `thresholds` (0-1, by label; others 0) are the confidences below
    which a label is not given. `min_known_share` (0-1) is the share of a text's words that must
    have been seen in training; only words in lower case count, where a text has any, since names
    are the same in every language.
    """

    label: str = "other"
    thresholds: Mapping[str, float] | None = None
    min_known_share: float = 0.0

    def reason(self, best: str, confidence: float, known: float, words: float) -> Reason | None:
        """Why not to answer `best`, the likeliest label; None to answer it.

        `known` of the text's `words` were seen in training.
        """
        if not words:
            return "empty"
        if not known or known < self.min_known_share * words:
            return "unknown_words"
        if best == self.label:
            return "out_of_scope"
        if self.thresholds and confidence < self.thresholds.get(best, 0.0):
            return "low_confidence"
        return None


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

    idf is scikit-learn's smooth one: ``ln((1 + n_documents) / (1 + df)) + 1``.
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


class Scorer:
    """A fitted model that scores; frozen, and safe to share between threads.

    `classes_` (n_labels,) are the labels in the order of the columns of `predict_proba`.
    Get one from `kopwijzer.load`, `kopwijzer.fit` or `Version.scorer`.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        labels: Sequence[str],
        blocks: Sequence[Block],
        abstention: Abstention | None = None,
    ) -> None:
        weights.check(len(blocks), len(labels))
        self.classes_: npt.NDArray[np.str_] = np.array(list(labels), dtype=np.str_)
        self.blocks = tuple(blocks)
        self.abstention = abstention or Abstention()
        self.weights = weights
        self._labels = [str(label) for label in labels]
        unknown = set(self.abstention.thresholds or {}) - set(self._labels)
        if unknown:
            raise BadSettings(f"a threshold is set for the unknown label {min(unknown)!r}")
        self._weight = np.array([block.weight for block in self.blocks])
        self._chars = gram_sizes(self.blocks)
        self._table = _Table(weights)
        words = [n for n, block in enumerate(self.blocks) if block.kind == "words"]
        #: For each field, the blocks that take pairs across chunks from it.
        self._pairs = [
            [n for n in words if self.blocks[n].high > 1 and self.blocks[n].reads(field)]
            for field in (0, 1)
        ]
        #: For each field, the blocks that take patterns from it.
        self._patterns = [
            [n for n, b in enumerate(self.blocks) if b.kind == "patterns" and b.reads(field)]
            for field in (0, 1)
        ]
        self._pattern_sizes = gram_sizes(self.blocks, "patterns")
        #: The blocks that tell whether a word is known: of those that read most, if there are any.
        self._knows = [n for n in words if self.blocks[n].field == "both"] or words
        self._signals = tuple({s: None for block in self.blocks for s in block.signals})
        self._lock = threading.Lock()
        self._cache = _Cache(len(self.blocks), len(labels))

    def __repr__(self) -> str:
        n = len(self.weights.hashes)
        return f"<Scorer {', '.join(self._labels)}; {n:,} features>"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "weights": self.weights,
            "labels": self._labels,
            "blocks": self.blocks,
            "abstention": self.abstention,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state.pop("weights"), **state)  # type: ignore[misc]  # rebuilds the caches

    def with_abstention(self, abstention: Abstention) -> "Scorer":
        """The same model with other rules for abstaining."""
        return Scorer(self.weights, labels=self._labels, blocks=self.blocks, abstention=abstention)

    # Scoring ---------------------------------------------------------------------------------

    def score(self, headline: str, teaser: str = "") -> Prediction:
        """What one headline is taken for."""
        decision, known, words = self._decide([headline], [teaser])
        return self._predictions(_softmax(decision), known, words)[0]

    def score_many(self, rows: Iterable[Headline | Mapping[str, Any]]) -> list[Prediction]:
        """A prediction for each row, in order. A row is a `Headline` or a mapping with
        "headline" and perhaps "teaser".

        Raises
        ------
        BadRows
            A row has no text where a headline must be; nothing is scored then.
        """
        return list(self.iter_scores(rows))

    def iter_scores(self, rows: Iterable[Headline | Mapping[str, Any]]) -> Iterator[Prediction]:
        """`score_many` for a stream: reads a batch of rows, gives their predictions, reads on."""
        for headlines, teasers in _batches(rows):
            decision, known, words = self._decide(headlines, teasers)
            yield from self._predictions(_softmax(decision), known, words)

    def predict_proba(self, rows: Iterable[Headline | Mapping[str, Any]]) -> Floats:
        """Probabilities (n_rows, n_labels), columns as in `classes_`; each row sums to 1."""
        return _softmax(self.decision_function(rows))

    def decision_function(self, rows: Iterable[Headline | Mapping[str, Any]]) -> Floats:
        """Decision values (n_rows, n_labels): what the softmax turns into probabilities."""
        return self.decide(rows)[0]

    def predict(self, rows: Iterable[Headline | Mapping[str, Any]]) -> list[str]:
        """The label of each row, the abstaining one included."""
        return [prediction.label for prediction in self.iter_scores(rows)]

    def decide(self, rows: Iterable[Headline | Mapping[str, Any]]) -> tuple[Floats, Floats, Floats]:
        """Decision values (n_rows, n_labels), and each row's known and all words (n_rows,):
        everything that `Abstention.reason` needs."""
        parts = [self._decide(h, t) for h, t in _batches(rows)]
        if not parts:
            return np.empty((0, len(self._labels))), np.empty(0), np.empty(0)
        decision, known, words = (np.concatenate(column) for column in zip(*parts, strict=True))
        return decision, known, words

    # Deciding --------------------------------------------------------------------------------

    def _decide(
        self, headlines: Sequence[str], teasers: Sequence[str]
    ) -> tuple[Floats, Floats, Floats]:
        """Decision values (n, n_labels), and the number of known and of all words (n,)."""
        n, n_labels = len(headlines), len(self._labels)
        cache = self._cache
        sums = np.zeros((n, len(self.blocks), n_labels + 1))
        words = np.zeros((n, 4))
        for field, texts in enumerate((headlines, teasers)):
            flat: list[str] = []
            lengths: list[int] = []
            for i, text in enumerate(texts):
                parts = text.split()
                if field == 0 and self._signals:
                    # A signal is a piece like a chunk, and no chunk opens with white space.
                    told = signals(self._signals, text, teasers[i])
                    parts += [_SIGNAL + signal for signal in told]
                flat += parts
                lengths.append(len(parts))
            if flat:
                numbers, cache = self._number(flat, cache)
                self._add_field(field, numbers, lengths, cache, sums, words)
        norms = np.sqrt(sums[:, :, n_labels])
        factors = self._weight / np.where(norms > 0, norms, 1.0)
        scaled = sums[:, :, :n_labels] * factors[:, :, None]
        decision = self.weights.intercept + scaled[:, 0]
        for number in range(1, len(self.blocks)):  # one by one: the same order in every batch
            decision += scaled[:, number]
        # Names prove no language: the words in lower case count, where there are any.
        plain = words[:, 3] > 0
        known = np.where(plain, words[:, 2], words[:, 0])
        return decision, known, np.where(plain, words[:, 3], words[:, 1])

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
                    cache = _Cache(len(self.blocks), len(self._labels))
                cache = self._cache = self._grown(cache, flat)
            except BaseException:
                # Numbers without rows may be left behind: nobody may take them for others.
                self._cache = _Cache(len(self.blocks), len(self._labels))
                raise
        return np.fromiter(map(cache.numbers.__getitem__, flat), np.int64, len(flat)), cache

    def _grown(self, cache: "_Cache", flat: Iterable[str]) -> "_Cache":
        """The cache with every chunk and signal of `flat` in it."""
        fresh = [piece for piece in dict.fromkeys(flat) if piece not in cache.numbers]
        told = [piece for piece in fresh if piece[0] == _SIGNAL]
        chunks = [piece for piece in fresh if piece[0] != _SIGNAL]
        if chunks:
            cache = cache.grown(chunks, *self._chunk_rows(chunks))
        if told:
            cache = cache.grown(told, self._signal_rows([signal[1:] for signal in told]))
        return cache

    def _signal_rows(self, told: Sequence[str]) -> Floats:
        """The rows (n, 2, n_blocks, n_labels + 1) of new signals, in the headline's half."""
        rows = np.zeros((len(told), 2, len(self.blocks), len(self._labels) + 1))
        hashes = signal_hashes(told)
        for number, block in enumerate(self.blocks):
            own = np.array([signal.partition(":")[0] in block.signals for signal in told])
            place = self._table.find(_keys(hashes, number))
            hit = np.flatnonzero(own & (place >= 0))
            rows[hit, 0, number] = self._table.rows(place[hit])
        return rows

    def _chunk_rows(self, chunks: Sequence[str]) -> tuple[Floats, Floats, Chunks]:
        """The rows (n, 2 fields, n_blocks, n_labels + 1) of new chunks, their words, the cut."""
        cut = expand(chunks, *self._chars)
        n, n_labels = len(chunks), len(self._labels)
        rows = np.zeros((n, 2, len(self.blocks), n_labels + 1))
        words = np.zeros((n, 4))  # words: known and all; those in lower case: known and all
        for column, which in ((1, cut.is_word), (3, cut.is_plain)):
            words[:, column] = np.add.reduceat(which, cut.words_ptr[:-1], dtype=np.int64)
        word_owner = np.repeat(np.arange(n), np.diff(cut.words_ptr))
        gram_owner = np.repeat(np.arange(n), np.diff(cut.characters_ptr))
        owners, keys = [], []
        for number, block in enumerate(self.blocks):
            own = {"words": (word_owner, cut.words), "characters": (gram_owner, cut.characters)}
            whose, hashes = own.get(block.kind, (word_owner[:0], cut.words[:0]))
            owners.append(whose)
            keys.append(_keys(hashes, number))
        owner, place = np.concatenate(owners), self._table.find(np.concatenate(keys))
        # A model without words cannot tell which it knows: it takes all for known.
        known = np.full(len(cut.words), not self._knows)
        start = 0
        for number, key in enumerate(keys):
            if number in self._knows:
                known |= place[start : start + len(key)] >= 0
            start += len(key)
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
                reads = np.array([block.reads(field) for block in self.blocks])[group[starts]]
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
        """Add the chunks and pairs of one field of every document to its sums."""
        n = len(sums)
        chunk = cache.chunk[numbers]
        if n == 1:
            sums[0] += np.add.reduceat(cache.rows[numbers, field], _START, axis=0)[0]
            words[0] += cache.words[numbers].sum(axis=0)  # counts: exact in any order
            numbers = numbers[chunk]
            owner = np.zeros(len(numbers), dtype=np.int64)
        else:
            length = np.array(lengths)
            ends = np.cumsum(length)
            full = np.flatnonzero(length)
            starts = (ends - length)[full]
            sums[full] += np.add.reduceat(cache.rows[numbers, field], starts, axis=0)
            words[full] += np.add.reduceat(cache.words[numbers], starts, axis=0)
            owner = np.repeat(np.arange(n), length)[chunk]
            numbers = numbers[chunk]
        keys, whose = [], []
        if len(numbers) > 1 and self._pairs[field]:
            hashes = pair_hashes(cache.last[numbers[:-1]], cache.first[numbers[1:]])
            pair_owner = owner[:-1]
            if n > 1:
                same = pair_owner == owner[1:]
                hashes, pair_owner = hashes[same], pair_owner[same]
            for block in self._pairs[field]:
                keys.append(_keys(hashes, block))
                whose.append(pair_owner)
        if len(numbers) and self._patterns[field]:
            count = cache.n_tokens[numbers]
            masked = gather(cache.masked, cache.token_start[numbers], count)
            hashes, pattern_owner = pattern_hashes(
                masked, np.repeat(owner, count), *self._pattern_sizes
            )
            for block in self._patterns[field]:
                keys.append(_keys(hashes, block))
                whose.append(pattern_owner)
        if keys:
            place = self._table.find(np.concatenate(keys))
            hit = place >= 0
            place = place[hit]
            if len(place):
                owners = np.concatenate(whose)[hit]
                _add(sums, owners, self._table.block(place), self._table.rows(place))

    def _predictions(self, proba: Floats, known: Floats, words: Floats) -> list[Prediction]:
        best = proba.argmax(axis=1).tolist()
        labels, rule = self._labels, self.abstention
        predictions = []
        for scores, top, known_, all_ in zip(
            proba.tolist(), best, known.tolist(), words.tolist(), strict=True
        ):
            confidence = scores[top]
            reason = rule.reason(labels[top], confidence, known_, all_)
            predictions.append(
                Prediction(
                    label=labels[top] if reason is None else rule.label,
                    confidence=confidence,
                    scores=dict(zip(labels, scores, strict=True)),
                    abstained=reason is not None,
                    reason=reason,
                )
            )
        return predictions

    # Explaining ------------------------------------------------------------------------------

    def explain(self, headline: str, teaser: str = "", label: str | None = None) -> Explanation:
        """The text pieces and their exact contributions to one label's decision value.

        `label` is the best of all labels unless given.

        Raises
        ------
        BadSettings
            The model does not know the label.
        """
        decision = self._decide([headline], [teaser])[0][0]
        if label is None:
            label = self._labels[int(decision.argmax())]
        if label not in self._labels:
            known = ", ".join(self._labels)
            raise BadSettings(f"the model has no label {label!r}; it knows {known}")
        column = self._labels.index(label)
        found: list[Contribution] = []
        for number, block in enumerate(self.blocks):
            pieces = list(self._pieces(number, block, headline, teaser))
            norm = sum(square for _, square in pieces) ** 0.5
            values: dict[str, float] = {}
            for texts, _ in pieces:
                for text, row in texts:
                    values[text] = values.get(text, 0.0) + float(row[column])
            found += [
                Contribution(text, block.name, block.weight * value / norm)
                for text, value in values.items()
            ]
        found.sort(key=lambda c: (-abs(c.value), c.block, c.text))
        return Explanation(
            label=label,
            decision=float(decision[column]),
            intercept=float(self.weights.intercept[column]),
            contributions=tuple(found),
            prediction=self.score(headline, teaser),
        )

    def _pieces(
        self, number: int, block: Block, headline: str, teaser: str
    ) -> Iterator[tuple[list[tuple[str, Floats]], float]]:
        """Each piece of a document in one block: its known texts with rows, its squared norm."""
        table = self._table
        for field, text in enumerate((headline, teaser)):
            chunks = text.split()
            if not chunks or not block.reads(field):
                continue
            cut = expand(chunks, *self._chars)
            if block.kind == "patterns":
                owner = np.zeros(len(cut.masked), dtype=np.int64)
                hashes, _ = pattern_hashes(cut.masked, owner, block.low, block.high)
                texts = spell_patterns(text, block.low, block.high)
                for pattern, code in zip(texts, hashes, strict=True):
                    yield table.piece([f"[{pattern}]"], _keys(code[None], number))
                continue
            for i, chunk in enumerate(chunks):
                words, grams = spell(chunk, *self._chars)
                texts, hashes, ptr = (
                    (words, cut.words, cut.words_ptr)
                    if block.kind == "words"
                    else (grams, cut.characters, cut.characters_ptr)
                )
                yield table.piece(texts, _keys(hashes[ptr[i] : ptr[i + 1]], number))
            if block.kind == "words" and block.high > 1:
                pairs = pair_hashes(cut.last[:-1], cut.first[1:])
                for i in range(len(chunks) - 1):
                    left, right = spell(chunks[i])[0][-1], spell(chunks[i + 1])[0][0]
                    yield table.piece([f"{left} {right}"], _keys(pairs[i : i + 1], number))
        for signal in signals(block.signals, headline, teaser):
            yield table.piece([f"[{signal}]"], _keys(signal_hashes([signal]), number))


def _keys(hashes: npt.NDArray[np.uint32], block: int) -> Ints:
    """Hashes of one block as keys of the one table of all blocks."""
    return hashes.astype(np.int64) | (block << 32)


class _Table:
    """All features: from keys to places, from places to blocks and rows."""

    def __init__(self, weights: Weights) -> None:
        sizes = np.diff(weights.block_ptr)
        self._block = np.repeat(np.arange(len(sizes)), sizes)
        self._keys: Ints = weights.hashes.astype(np.int64) | (self._block << 32)
        self._df: npt.NDArray[np.integer] = weights.df
        self._coef, self._scale = weights.coef, weights.scale
        # idf by document frequency: a look-up is cheaper than a logarithm.
        top = int(weights.df.max()) if len(weights.df) else 0
        every: npt.NDArray[Any]
        if top < _IDF_TABLE:
            every = np.arange(top + 1)
        else:
            every, self._df = np.unique(weights.df, return_inverse=True)
        self._idf = np.log((1 + weights.n_documents) / (1 + every.astype(np.float64))) + 1
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

    def rows(self, places: Ints) -> Floats:
        """(n, n_labels + 1): idf * coef for every label, then idf squared."""
        idf = self._idf[self._df[places]]
        rows = np.empty((len(places), len(self._scale) + 1))
        np.multiply(self._coef[places], self._scale, out=rows[:, :-1])
        rows[:, :-1] *= idf[:, None]
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
        self.chunk = np.zeros(0, dtype=np.bool_)
        self.token_start = np.zeros(0, dtype=np.int64)
        self.n_tokens = np.zeros(0, dtype=np.int64)
        self.masked = np.zeros(0, dtype=np.uint64)
        #: The arrays by piece with room to grow, and that of the tokens.
        self._store: tuple[npt.NDArray[Any], ...] = (
            self.rows,
            self.words,
            self.first,
            self.last,
            self.chunk,
            self.token_start,
            self.n_tokens,
        )
        self._token_store = self.masked

    @property
    def bytes(self) -> int:
        return len(self.numbers) * (self.rows.strides[0] + 200) + self.text_bytes

    def grown(
        self,
        pieces: Sequence[str],
        rows: Floats,
        words: Floats | None = None,
        cut: Chunks | None = None,
    ) -> "_Cache":
        """A cache with these pieces as well, which are chunks if `cut` is given; the numbers of
        the old ones stay."""
        grown = object.__new__(_Cache)
        old, new = len(self.rows), len(self.rows) + len(pieces)
        tokens = self.masked[:0] if cut is None else cut.masked
        fresh = (
            rows,
            0 if words is None else words,
            0 if cut is None else cut.first,
            0 if cut is None else cut.last,
            cut is not None,
            0 if cut is None else cut.masked_ptr[:-1] + len(self.masked),
            0 if cut is None else np.diff(cut.masked_ptr),
        )
        grown._store = tuple(
            _extended(array, old, new, values)
            for array, values in zip(self._store, fresh, strict=True)
        )
        (
            grown.rows,
            grown.words,
            grown.first,
            grown.last,
            grown.chunk,
            grown.token_start,
            grown.n_tokens,
        ) = (array[:new] for array in grown._store)
        n_tokens = len(self.masked)
        n_new = n_tokens + len(tokens)
        grown._token_store = _extended(self._token_store, n_tokens, n_new, tokens)
        grown.masked = grown._token_store[:n_new]
        grown.text_bytes = self.text_bytes + 4 * sum(map(len, pieces)) + tokens.nbytes
        # The dictionary is shared with the old cache, whose holders ignore numbers they lack.
        grown.numbers = self.numbers
        grown.numbers.update(zip(pieces, range(old, new), strict=True))
        return grown


def _extended(
    array: npt.NDArray[Any], old: int, new: int, values: npt.NDArray[Any] | int
) -> npt.NDArray[Any]:
    """An array with room whose first `old` entries stay and ``[old:new]`` hold `values`."""
    if new > len(array):
        larger = np.empty((max(2 * new, 256), *array.shape[1:]), dtype=array.dtype)
        larger[:old] = array[:old]
        array = larger
    array[old:new] = values
    return array


def _add(sums: Floats, owner: Ints, block: Ints, values: Floats) -> None:
    """Add rows to their owners' sums; always in the order of the rows, whatever the batch."""
    n_blocks, width = sums.shape[1:]
    slot = owner * n_blocks + block
    if len(sums) > 1:
        order = slot.argsort(kind="stable")
        slot, values = slot[order], values[order]
    new = np.empty(len(slot), dtype=np.bool_)
    new[0] = True
    np.not_equal(slot[1:], slot[:-1], out=new[1:])
    starts = new.nonzero()[0]
    sums.reshape(-1, width)[slot[starts]] += np.add.reduceat(values, starts, axis=0)


def _fold(keys: Ints) -> Ints:
    """Twenty bits of a key."""
    return ((keys >> 12) ^ (keys >> 29)) & 0xFFFFF


def _softmax(decision: Floats) -> Floats:
    shifted = np.exp(decision - decision.max(axis=1, keepdims=True))
    proba: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return proba


def _batches(
    rows: Iterable[Any],
) -> Iterator[tuple[list[str], list[str]]]:
    """Headlines and teasers, a batch at a time."""
    headlines: list[str] = []
    teasers: list[str] = []
    signs = 0
    headline: Any
    teaser: Any
    found: Any
    for place, row in enumerate(rows, 1):
        if isinstance(row, Headline):
            headline, teaser = row.headline, row.teaser
        elif isinstance(row, Mapping):
            headline, teaser = row.get("headline"), row.get("teaser") or ""
        else:
            fault = f"row {place}: {row!r:.60} is no mapping with a headline in it"
            raise BadRows("rows", [fault])
        if not isinstance(headline, str) or not isinstance(teaser, str):
            name, found = "headline", headline
            if isinstance(headline, str):
                name, found = "teaser", teaser
            raise BadRows("rows", [f"row {place}: {name} {found!r:.60} is not text"])
        headlines.append(headline)
        teasers.append(teaser)
        signs += len(headline) + len(teaser)
        if len(headlines) == _BATCH or signs >= _SIGNS:
            yield headlines, teasers
            headlines, teasers, signs = [], [], 0
    if headlines:
        yield headlines, teasers
