"""Learning: rows -> features -> TF-IDF -> scikit-learn's logistic regression -> a `Scorer`.

The room of scikit-learn. `HeadlineVectorizer` is an ordinary transformer, `fit_pipeline` gives an
ordinary `Pipeline`, and `to_scorer` turns that pipeline into arrays that score the same.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from kopwijzer.errors import BadRows
from kopwijzer.headlines import Headline
from kopwijzer.scorer import Abstention, Scorer
from kopwijzer.text import (
    Block,
    Documents,
    expand,
    gather,
    gram_sizes,
    pair_hashes,
    pattern_hashes,
    spell,
    spell_patterns,
)
from kopwijzer.weights import Weights, smooth_idf

__all__ = [
    "Fold",
    "HeadlineVectorizer",
    "Split",
    "class_weight",
    "cross_predict",
    "fit_in_chunks",
    "fit_pipeline",
    "fit_temperature",
    "fold_calls",
    "name_features",
    "settle",
    "strongest_words",
    "to_scorer",
]

_ETA = 8.0  # first step of the gradient descent in chunks; chosen on the Dutch sections

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class HeadlineVectorizer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped bases
    """Headlines with teasers -> blocks of TF-IDF features, each block normalised by itself.

    X is a sequence of `Headline`s, of mappings with "headline" and "teaser", of (headline,
    teaser) pairs or of plain strings. ``transform`` gives a CSR matrix (n_samples, n_features)
    whose columns are ordered by block and, within it, by feature hash.

    A value is ``count * idf``, with scikit-learn's smooth idf to the nearest 1/4096 (see
    `kopwijzer.weights`), divided by the block's additive norm (see `kopwijzer.text`) and times the
    block's weight.

    Parameters
    ----------
    blocks : sequence of Block
        The groups of features.
    dtype : numpy dtype
        Of the values; float32 halves the memory that a solver touches.

    Attributes
    ----------
    hashes_ : (n_features,) uint32
    block_ptr_ : (n_blocks + 1,) int64
    df_ : (n_features,) int64, the number of training documents that hold the feature
    idf_ : (n_features,) float64
    n_documents_ : int
    """

    def __init__(
        self, blocks: Sequence[Block] = (Block("words"),), dtype: Any = np.float32
    ) -> None:
        self.blocks = blocks
        self.dtype = dtype

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn should know: the input is text."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags

    def fit(self, X: Iterable[Any], y: Any = None) -> Self:  # noqa: ARG002 (scikit-learn's)
        """Learn which features to keep, and their document frequencies."""
        self._learn(_Counts(X, self.blocks), matrices=False)
        return self

    def fit_transform(
        self,
        X: Iterable[Any],
        y: Any = None,  # noqa: ARG002 (scikit-learn's)
        **_: Any,
    ) -> sp.csr_matrix:
        """`fit` and `transform` in one pass over the texts."""
        counts = _Counts(X, self.blocks)
        return self._weigh(counts, self._learn(counts, matrices=True))

    def transform(self, X: Iterable[Any]) -> sp.csr_matrix:
        """The features of each row (n_samples, n_features)."""
        check_is_fitted(self, "hashes_")
        counts = _Counts(X, self.blocks)
        parts = []
        for number, block in enumerate(self.blocks):
            own = slice(self.block_ptr_[number], self.block_ptr_[number + 1])
            table = self.hashes_[own]
            hashes = counts.hashes(block.kind)
            place = np.searchsorted(table, hashes)
            place[place == len(table)] = 0
            hit = table[place] == hashes if len(table) else np.zeros(len(hashes), dtype=bool)
            parts.append((np.where(hit, place, -1), counts.matrix(block, place, hit, len(table))))
        return self._weigh(counts, parts)

    def get_feature_names_out(
        self,
        input_features: Any = None,  # noqa: ARG002 (scikit-learn's)
    ) -> npt.NDArray[np.object_]:
        """Names of the columns: block and hash, as "words:8f3a01c2"."""
        check_is_fitted(self, "hashes_")
        sizes = np.diff(self.block_ptr_)
        names = np.repeat([block.name for block in self.blocks], sizes)
        return np.array(
            [f"{name}:{code:08x}" for name, code in zip(names, self.hashes_, strict=True)],
            dtype=object,
        )

    def partial_fit(self, X: Iterable[Any], y: Any = None) -> Self:  # noqa: ARG002  # scikit-learn's signature
        """Learn from more rows: the features and frequencies are then those of all rows so far,
        that is since the first call, or since a `fit`."""
        counts = _Counts(X, self.blocks)
        seen = getattr(self, "_seen", [])
        before = self.n_documents_ if seen else 0
        seen = seen or [_NONE_SEEN] * len(self.blocks)
        self._seen = [
            _merged(old, (counts.hashes(block.kind), counts.frequencies(block)))
            for old, block in zip(seen, self.blocks, strict=True)
        ]
        self._keep(self._seen, before + counts.n)
        return self

    def _learn(self, counts: "_Counts", *, matrices: bool) -> list[tuple[Ints, sp.csr_matrix]]:
        found, parts = [], []
        for block in self.blocks:
            known = counts.hashes(block.kind)
            every = np.ones(len(known), dtype=bool)
            matrix = counts.matrix(block, np.arange(len(known)), every, len(known))
            df = np.bincount(matrix.indices, minlength=len(known))
            found.append((known, df))
            if matrices:
                keep = self._kept(block, df, counts.n)
                place = np.where(keep, np.cumsum(keep) - 1, -1)
                parts.append((place, _columns(matrix, place, int(keep.sum()))))
        self._seen = []  # what `partial_fit` adds to; a `fit` starts anew
        self._keep(found, counts.n)
        return parts

    def _keep(self, found: Sequence[tuple[npt.NDArray[np.uint32], Ints]], n: int) -> None:
        """Set what was learned from each block's hashes and document frequencies."""
        keeps = [self._kept(b, df, n) for b, (_, df) in zip(self.blocks, found, strict=True)]
        self.hashes_ = np.concatenate([h[k] for (h, _), k in zip(found, keeps, strict=True)])
        self.df_ = np.concatenate([df[k] for (_, df), k in zip(found, keeps, strict=True)])
        sizes = [int(keep.sum()) for keep in keeps]
        self.block_ptr_ = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.n_documents_ = n
        self.idf_ = smooth_idf(self.df_, n)

    @staticmethod
    def _kept(block: Block, df: Ints, n: int) -> npt.NDArray[np.bool_]:
        kept: npt.NDArray[np.bool_] = (df >= block.min_df) & (df <= block.max_df * n)
        return kept

    def _weigh(self, counts: "_Counts", parts: list[tuple[Ints, sp.csr_matrix]]) -> sp.csr_matrix:
        done = []
        for number, (block, (place, matrix)) in enumerate(zip(self.blocks, parts, strict=True)):
            idf = self.idf_[self.block_ptr_[number] : self.block_ptr_[number + 1]]
            norm = np.sqrt(counts.squares(block, place, idf))
            factor = block.weight / np.where(norm > 0, norm, 1.0)
            values = matrix.data * idf[matrix.indices]
            values *= np.repeat(factor, np.diff(matrix.indptr))
            done.append(
                sp.csr_matrix(
                    (values.astype(self.dtype), matrix.indices, matrix.indptr), matrix.shape
                )
            )
        return sp.hstack(done, format="csr") if len(done) > 1 else done[0]


_NONE_SEEN: tuple[npt.NDArray[np.uint32], Ints] = (
    np.empty(0, dtype=np.uint32),
    np.empty(0, dtype=np.int64),
)


def _merged(
    a: tuple[npt.NDArray[np.uint32], Ints], b: tuple[npt.NDArray[np.uint32], Ints]
) -> tuple[npt.NDArray[np.uint32], Ints]:
    """Two lists of hashes with their document frequencies as one."""
    hashes, place = np.unique(np.concatenate([a[0], b[0]]), return_inverse=True)
    df = np.bincount(place, np.concatenate([a[1], b[1]]), minlength=len(hashes))
    return hashes, df.astype(np.int64)


class _Counts:
    """The pieces of n documents, counted once and served to every block."""

    def __init__(self, X: Iterable[Any], blocks: Sequence[Block]) -> None:
        headlines, teasers = _texts(X)
        self.n = len(headlines)
        documents = Documents.cut(headlines, teasers)
        cut = expand(documents.chunks, *gram_sizes(blocks))
        n_chunks = len(documents.chunks)
        self._fields = [
            sp.csr_matrix(
                (
                    np.ones(
                        int(documents.ptr[(f + 1) * self.n] - documents.ptr[f * self.n]),
                        dtype=np.float32,
                    ),
                    documents.numbers[documents.ptr[f * self.n] : documents.ptr[(f + 1) * self.n]],
                    documents.ptr[f * self.n : (f + 1) * self.n + 1] - documents.ptr[f * self.n],
                ),
                shape=(self.n, n_chunks),
            )
            for f in (0, 1)
        ]
        left, right = documents.numbers[:-1], documents.numbers[1:]
        owner = np.repeat(np.arange(2 * self.n), np.diff(documents.ptr))
        same = owner[:-1] == owner[1:]
        self._pair_owner = owner[:-1][same]
        pairs = pair_hashes(cut.last[left[same]], cut.first[right[same]])
        # Words and pairs share one list of distinct hashes; the other kinds have theirs.
        words, (word_place, self._pairs) = _distinct([cut.words, pairs])
        grams, (gram_place,) = _distinct([cut.characters])
        self._hashes = {"words": words, "characters": grams}
        self._chunks = {
            "words": _chunk_matrix(word_place, cut.words_ptr, len(words)),
            "characters": _chunk_matrix(gram_place, cut.characters_ptr, len(grams)),
        }
        if any(block.kind == "patterns" for block in blocks):
            start, count = cut.masked_ptr[:-1], np.diff(cut.masked_ptr)
            masked = gather(cut.masked, start[documents.numbers], count[documents.numbers])
            found, self._pattern_owner = pattern_hashes(
                masked,
                np.repeat(owner, count[documents.numbers]),
                *gram_sizes(blocks, "patterns"),
            )
            self._hashes["patterns"], (self._patterns,) = _distinct([found])

    def hashes(self, kind: str) -> npt.NDArray[np.uint32]:
        """The distinct hashes that occur, rising; `matrix` and `squares` number them so."""
        return self._hashes[kind]

    def frequencies(self, block: Block) -> Ints:
        """In how many of the documents each hash stands for a block."""
        n = len(self.hashes(block.kind))
        matrix = self.matrix(block, np.arange(n), np.ones(n, dtype=bool), n)
        return np.bincount(matrix.indices, minlength=n)

    def matrix(
        self, block: Block, place: Ints, hit: npt.NDArray[np.bool_], width: int
    ) -> sp.csr_matrix:
        """Counts (n, width): hash number j counts in column ``place[j]`` where ``hit[j]``."""
        owner, column = self._loose(block)
        use = hit[column]
        ones = np.ones(int(use.sum()), dtype=np.float32)
        where = owner[use], place[column[use]]
        loose = sp.csr_matrix((ones, where), shape=(self.n, width))
        chunks = self._chunks.get(block.kind)
        if chunks is None:
            return loose
        if len(place) != width or not hit.all():  # else each hash is its own column already
            chunks = _columns(chunks, np.where(hit, place, -1), width)
        counted: sp.csr_matrix = self._field(block) @ chunks
        return counted + loose if loose.nnz else counted

    def squares(self, block: Block, place: Ints, idf: Floats) -> Floats:
        """The squared additive norm (n,): the sum of the pieces' own squared norms."""
        weight = np.where(place >= 0, idf[place] if len(idf) else 0.0, 0.0)
        owner, column = self._loose(block)
        total: Floats = np.bincount(owner, weight[column] ** 2, minlength=self.n).astype(float)
        chunks = self._chunks.get(block.kind)
        if chunks is not None:
            squares = sp.csr_matrix(
                ((chunks.data * weight[chunks.indices]) ** 2, chunks.indices, chunks.indptr),
                shape=chunks.shape,
            )
            total = total + self._field(block) @ np.asarray(squares.sum(axis=1)).ravel()
        return total

    def _field(self, block: Block) -> sp.csr_matrix:
        if block.field == "both":
            return self._fields[0] + self._fields[1]
        return self._fields[0] if block.field == "headline" else self._fields[1]

    def _loose(self, block: Block) -> tuple[Ints, Ints]:
        """Pieces that are no chunks: pairs across chunks and patterns."""
        owners, columns = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        fields = np.array([block.reads(0), block.reads(1)])
        if block.kind == "words" and block.high > 1:
            reads = fields[self._pair_owner // self.n]
            owners.append(self._pair_owner[reads] % self.n)
            columns.append(self._pairs[reads])
        if block.kind == "patterns":
            reads = fields[self._pattern_owner // self.n]
            owners.append(self._pattern_owner[reads] % self.n)
            columns.append(self._patterns[reads])
        return np.concatenate(owners), np.concatenate(columns)


def _texts(X: Iterable[Any]) -> tuple[list[str], list[str]]:
    headlines, teasers = [], []
    headline: Any
    teaser: Any
    for place, row in enumerate(X, 1):
        if isinstance(row, Headline):
            headline, teaser = row.headline, row.teaser
        elif isinstance(row, Mapping):
            headline, teaser = row.get("headline"), row.get("teaser") or ""
        elif isinstance(row, str):
            headline, teaser = row, ""
        else:
            headline, teaser = row if isinstance(row, Sequence) and len(row) == 2 else (row, "")
        if not isinstance(headline, str) or not isinstance(teaser, str):
            raise BadRows("rows", [f"row {place}: {row!r:.60} is no headline with a teaser"])
        headlines.append(headline)
        teasers.append(teaser)
    return headlines, teasers


def _distinct(parts: list[npt.NDArray[np.uint32]]) -> tuple[npt.NDArray[np.uint32], list[Ints]]:
    """The distinct values of all parts, rising, and each part as places among them."""
    values, inverse = np.unique(np.concatenate(parts), return_inverse=True)
    return values, np.split(inverse, np.cumsum([len(part) for part in parts])[:-1])


def _chunk_matrix(place: Ints, ptr: Ints, width: int) -> sp.csr_matrix:
    ones = np.ones(len(place), dtype=np.float32)  # counts: exact in it, at half the memory
    matrix = sp.csr_matrix((ones, place, ptr), shape=(len(ptr) - 1, width))
    matrix.sum_duplicates()
    return matrix


def _columns(matrix: sp.csr_matrix, place: Ints, width: int) -> sp.csr_matrix:
    """The columns with ``place >= 0``, renumbered."""
    index = matrix.indptr.dtype  # of 32 bits where they are enough: this is a fit's largest moment
    column = place.astype(index)[matrix.indices]
    keep = column >= 0
    ends = np.cumsum(keep, dtype=index)
    ptr = np.zeros(len(matrix.indptr), dtype=index)
    full = matrix.indptr > 0
    ptr[full] = ends[matrix.indptr[full] - 1]
    del ends
    return sp.csr_matrix((matrix.data[keep], column[keep], ptr), shape=(matrix.shape[0], width))


def fit_pipeline(
    rows: Sequence[Any],
    labels: Sequence[str],
    *,
    blocks: Sequence[Block],
    C: float = 8.0,
    epochs: int = 10,
    balance: float = 0.0,
    seed: int = 0,
    threads: int = -1,
) -> Pipeline:
    """A fitted pipeline: "features" (`HeadlineVectorizer`), "classifier" (`LogisticRegression`).

    One label against the rest, by averaged stochastic gradient descent on the logistic loss with
    an L2 penalty (`SGDClassifier`; Bottou 2010, Xu 2011): `epochs` passes over the rows, which stop
    near the optimum (``make bench`` shows how near). The labels are learned on `threads` threads
    (-1: one for each processor); the same rows and seed give the same bytes on any number of them.
    `balance` (0-1) is the power of the usual "balanced" class weights: 0 counts every row alike,
    1 every label alike.

    Raises
    ------
    BadRows
        The rows have nothing in common that could be learned.
    ValueError
        Fewer than two labels.
    """
    features = HeadlineVectorizer(tuple(blocks), dtype=np.float32)
    matrix = features.fit_transform(rows)
    if not matrix.shape[1]:
        raise BadRows(
            "the rows",
            ["no word or n-gram stands in enough of them to be learned (min_df, max_df)"],
        )
    solver = _solver(Counter(labels), C, balance, seed)
    solver.set_params(max_iter=epochs, n_jobs=threads).fit(matrix, list(labels))
    return _fitted(features, solver, C, epochs)


def fit_in_chunks(
    chunks: Callable[[], Iterable[tuple[Sequence[Any], Sequence[str]]]],
    *,
    blocks: Sequence[Block],
    C: float = 8.0,
    epochs: int = 10,
    balance: float = 0.0,
    seed: int = 0,
    threads: int = -1,
) -> Pipeline:
    """`fit_pipeline` for rows that do not fit in memory: the same descent, fed chunk by chunk.

    `chunks` gives the rows and labels chunk by chunk, in the same order at every call, shuffled;
    it is called once for the features and once for each epoch.

    Raises
    ------
    BadRows
        There is nothing in common that could be learned, or only one label.
    """
    features = HeadlineVectorizer(tuple(blocks), dtype=np.float32)
    counts: Counter[str] = Counter()
    for rows, labels in chunks():
        features.partial_fit(rows)
        counts.update(labels)
    if len(counts) < 2 or not len(features.hashes_):
        raise BadRows("the rows", ["they hold one label only, or nothing that could be learned"])
    solver = _solver(counts, C, balance, seed).set_params(n_jobs=threads, shuffle=False)
    for _ in range(epochs):
        for rows, labels in chunks():
            solver.partial_fit(features.transform(rows), list(labels), classes=sorted(counts))
    features._seen = []
    return _fitted(features, solver, C, epochs)


def _solver(counts: Counter[str], C: float, balance: float, seed: int) -> SGDClassifier:
    """The descent for rows of which so many have each label."""
    return SGDClassifier(
        loss="log_loss",
        alpha=1 / (C * counts.total()),
        learning_rate="invscaling",
        eta0=_ETA,
        power_t=0.25,
        average=True,
        tol=None,
        class_weight=class_weight(counts, balance),
        random_state=seed,
    )


def _fitted(features: HeadlineVectorizer, solver: SGDClassifier, C: float, epochs: int) -> Pipeline:
    """What the solver found as the `LogisticRegression` that it is, whose softmax normalises."""
    classifier = LogisticRegression(C=C)
    classifier.classes_ = solver.classes_
    halves = len(solver.classes_) == 2  # one row serves two labels there, as in scikit-learn
    coef = solver.coef_ if halves else solver.coef_ - solver.coef_.mean(axis=0)
    classifier.coef_ = coef.astype(np.float64)
    classifier.intercept_ = solver.intercept_.astype(np.float64)
    classifier.n_features_in_ = classifier.coef_.shape[1]
    classifier.n_iter_ = np.array([epochs])
    features.dtype = np.float64  # from here on it serves predictions, which want every digit
    return Pipeline([("features", features), ("classifier", classifier)])


def class_weight(found: Counter[str], balance: float) -> dict[str, float] | None:
    """The weight of each label's rows, of which so many were found."""
    if not balance:
        return None
    names, n = sorted(found), found.total()
    counts = np.array([found[name] for name in names])
    weights = (n / (len(names) * counts)) ** balance
    weights *= n / (weights * counts).sum()  # the rows weigh as much as before, in all
    return dict(zip(names, weights.tolist(), strict=True))


Split = tuple[Ints, Ints]


def cross_predict(
    rows: Sequence[Headline],
    labels: Sequence[str],
    splits: Sequence[Split],
    *,
    run: Callable[[list[Any]], Iterable[Any]],
    **learning: Any,
) -> Iterator["Fold"]:
    """What a model of each split's training part says of its test part, in order.

    `learning` goes to `fit_pipeline`; `run` runs a list of joblib-delayed calls in order.
    """
    results = run(fold_calls(rows, labels, splits, **learning))
    for (_, test), result in zip(splits, results, strict=True):
        yield Fold(test, *result)


def fold_calls(
    rows: Sequence[Headline], labels: Sequence[str], splits: Sequence[Split], **learning: Any
) -> list[Any]:
    """A joblib-delayed call for each split; its result is what `Fold` holds beside `test`."""
    from joblib import delayed

    names = sorted(set(labels))
    return [
        delayed(_fold)(
            [rows[i] for i in train],
            [labels[i] for i in train],
            [rows[i] for i in test],
            names,
            learning,
        )
        for train, test in splits
    ]


@dataclass(frozen=True, slots=True)
class Fold:
    """Predictions for the rows `test` (m,) by a model that did not see them.

    `decision` (m, n_labels), columns in alphabetical order; a label that the model lacks has -30
    (a probability of about 1e-13). `known` and `words` (m,) as `Scorer.decide` counts them.
    """

    test: Ints
    decision: Floats
    known: Floats
    words: Floats

    @classmethod
    def join(cls, folds: Sequence["Fold"]) -> "Fold":
        """All folds as one, in the order of the rows."""
        test = np.concatenate([fold.test for fold in folds])
        order = np.argsort(test, kind="stable")
        decision = np.concatenate([fold.decision for fold in folds])
        known = np.concatenate([fold.known for fold in folds])
        words = np.concatenate([fold.words for fold in folds])
        return cls(test[order], decision[order], known[order], words[order])


def _fold(
    rows: list[Headline],
    labels: list[str],
    test: list[Headline],
    names: list[str],
    learning: dict[str, Any],
) -> tuple[Floats, Floats, Floats]:
    # Folds run side by side: threads within one would only get in each other's way.
    scorer = to_scorer(fit_pipeline(rows, labels, threads=1, **learning))
    decision, known, words = scorer.decide(test)
    full = np.full((len(test), len(names)), -30.0)
    full[:, [names.index(label) for label in scorer.classes_]] = decision
    return full, known, words


def fit_temperature(decision: Floats, labels: Sequence[str], classes: Sequence[str]) -> float:
    """The temperature (0.2-5) that makes out-of-fold decision values likeliest.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    column = {label: place for place, label in enumerate(classes)}
    truth = np.array([column[label] for label in labels])
    if not len(truth):
        return 1.0

    def loss(log_temperature: float) -> float:
        scores = log_softmax(decision / np.exp(log_temperature), axis=1)
        return -float(scores[np.arange(len(truth)), truth].mean())

    found = minimize_scalar(loss, bounds=(np.log(0.2), np.log(5)), method="bounded")
    return float(np.exp(found.x))


def name_features(
    rows: Sequence[Any], wanted: npt.NDArray[np.uint32], blocks: Sequence[Block]
) -> dict[int, str]:
    """Hash -> text of the word features in `wanted`, as far as `rows` hold them."""
    headlines, teasers = _texts(rows)
    documents = Documents.cut(headlines, teasers)
    cut = expand(documents.chunks)
    names: dict[int, str] = {}
    owner = np.repeat(np.arange(len(documents.chunks)), np.diff(cut.words_ptr))
    for chunk in np.unique(owner[np.isin(cut.words, wanted)]):
        texts, _ = spell(documents.chunks[chunk])
        codes = cut.words[cut.words_ptr[chunk] : cut.words_ptr[chunk + 1]]
        names.update(zip(codes.tolist(), texts, strict=True))
    left, right = documents.numbers[:-1], documents.numbers[1:]
    pairs = pair_hashes(cut.last[left], cut.first[right])
    for place in np.flatnonzero(np.isin(pairs, wanted)):
        here, after = documents.chunks[left[place]], documents.chunks[right[place]]
        names.setdefault(int(pairs[place]), f"{spell(here)[0][-1]} {spell(after)[0][0]}")
    for block in blocks:
        if block.kind == "patterns":
            for text in headlines if block.field != "teaser" else []:
                names.update(_named_patterns(text, block))
            for text in teasers if block.field != "headline" else []:
                names.update(_named_patterns(text, block))
    return {int(code): names[int(code)] for code in wanted if int(code) in names}


def _named_patterns(text: str, block: Block) -> dict[int, str]:
    """Hash -> text of the patterns of one text."""
    cut = expand(text.split())
    owner = np.zeros(len(cut.masked), dtype=np.int64)
    hashes, _ = pattern_hashes(cut.masked, owner, block.low, block.high)
    return dict(zip(hashes.tolist(), spell_patterns(text, block.low, block.high), strict=True))


def strongest_words(
    pipeline: Pipeline, rows: Sequence[Any], n: int = 25
) -> dict[str, list[tuple[str, float]]]:
    """Label -> its n strongest word features with ``coef * idf``, over all word blocks."""
    features, classifier = pipeline["features"], pipeline["classifier"]
    own = [
        np.arange(features.block_ptr_[i], features.block_ptr_[i + 1])
        for i, block in enumerate(features.blocks)
        if block.kind == "words"
    ]
    places = np.concatenate(own) if own else np.empty(0, dtype=np.int64)
    pull = _by_label(classifier)[0][:, places] * features.idf_[places]
    best = np.argsort(-pull, axis=1, kind="stable")[:, : 2 * n]
    wanted = np.unique(features.hashes_[places[best].ravel()])
    names = name_features(rows, wanted, features.blocks)
    found: dict[str, list[tuple[str, float]]] = {}
    for label, own_pull, order in zip(classifier.classes_, pull, best, strict=True):
        told: dict[str, float] = {}  # a text may be a feature of several blocks: its strongest
        for place in order:
            text = names.get(int(features.hashes_[places[place]]))
            if text is not None and own_pull[place] > 0:
                told.setdefault(text, float(own_pull[place]))
        found[str(label)] = list(told.items())[:n]
    return found


def settle(
    pipeline: Pipeline,
    *,
    temperature: float = 1.0,
    prior_shift: Mapping[str, float] | None = None,
    round_to_bytes: bool = True,
) -> Pipeline:
    """The pipeline with its calibration folded into the classifier, in place.

    Dividing the decision values by `temperature` (> 0; Guo et al. 2017) and adding `prior_shift`
    (log-odds by label; Saerens et al. 2002) leaves a logistic regression with other numbers, so
    that scikit-learn and the scorer need no step more. `round_to_bytes` rounds each label's
    coefficients to 255 levels, what lets a scorer keep them in one byte each.
    """
    classifier = pipeline["classifier"]
    shift = dict(prior_shift or {})
    classifier.coef_ = classifier.coef_ / temperature
    moved = np.array([shift.get(str(label), 0.0) for label in classifier.classes_])
    if len(classifier.intercept_) == 1:  # two labels: scikit-learn keeps the log-odds of the second
        moved = moved[1:] - moved[:1]
    classifier.intercept_ = classifier.intercept_ / temperature + moved
    if round_to_bytes:
        scale = _scale(classifier.coef_)
        levels = classifier.coef_ / scale[:, None]
        classifier.coef_ = np.multiply(np.rint(levels, out=levels), scale[:, None], out=levels)
    return pipeline


def to_scorer(pipeline: Pipeline, abstention: Abstention | None = None) -> Scorer:
    """The same model as arrays; it scores as the pipeline's ``predict_proba`` does."""
    features, classifier = pipeline["features"], pipeline["classifier"]
    weight, intercept = _by_label(classifier)
    scale = _scale(weight)
    levels = weight / scale[:, None]
    np.rint(levels, out=levels)
    gap = levels * scale[:, None]
    gap -= weight
    if np.abs(gap, out=gap).max(initial=0.0) <= 1e-12:
        coef: Any = levels.T.astype(np.int8)
    else:
        coef, scale = weight.T.astype(np.float32), np.ones(len(scale))
    small = features.n_documents_ < 1 << 16
    weights = Weights(
        hashes=features.hashes_.astype(np.uint32),
        block_ptr=features.block_ptr_.astype(np.int64),
        df=features.df_.astype(np.uint16 if small else np.uint32),
        coef=np.ascontiguousarray(coef),
        scale=scale,
        intercept=intercept,
        n_documents=int(features.n_documents_),
    )
    return Scorer(
        weights,
        labels=[str(label) for label in classifier.classes_],
        blocks=features.blocks,
        abstention=abstention,
    )


def _by_label(classifier: LogisticRegression) -> tuple[Floats, Floats]:
    """Coefficients (n_labels, n_features) and intercepts (n_labels,) for a softmax.

    Of two labels scikit-learn keeps one row, for the second: two opposite halves decide alike.
    """
    coef, intercept = classifier.coef_, classifier.intercept_.astype(np.float64)
    if len(coef) > 1:
        return coef, intercept
    return np.vstack([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2


def _scale(coef: Floats) -> Floats:
    """What one level of a byte is worth, for each label."""
    largest = np.abs(coef).max(axis=1, initial=0.0)
    scale: Floats = np.where(largest > 0, largest, 1.0) / 127
    return scale
