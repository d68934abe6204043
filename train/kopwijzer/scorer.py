"""The loaded model: `Scorer`, its `Prediction`s, when it abstains and why, and explanations.

A scorer is arrays and settings: nothing in it can run, and it cannot be refitted. Of what the sums
of a document decide (see `kopwijzer.sums`) it makes probabilities, and of those answers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from kopwijzer.errors import BadRows, BadSettings
from kopwijzer.headlines import Headline
from kopwijzer.sums import Sums
from kopwijzer.text import (
    Block,
    expand,
    gram_sizes,
    pair_hashes,
    pattern_hashes,
    spell,
    spell_patterns,
)
from kopwijzer.weights import Table, Weights, keys

__all__ = ["Abstention", "Contribution", "Explanation", "Prediction", "Scorer"]

Floats = npt.NDArray[np.float64]
Reason = Literal["empty", "unknown_words", "low_confidence", "out_of_scope"]

_BATCH = 256  # documents summed at once: their rows then stay in the processor's cache
_SIGNS = 1 << 18  # and signs: expanding one takes some 200 bytes for the moment
_COMPILES_AFTER = 20_000  # documents: what compiling costs is then little beside what it saves


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


class _Summing(Protocol):
    """`Sums`, or the same thing compiled."""

    def decide(self, headlines: Sequence[str], teasers: Sequence[str]) -> tuple[Floats, Floats]: ...


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
        self._table = Table(weights)
        self._sums: _Summing = Sums(weights, self._table, self.blocks)
        self._until_compiled = _COMPILES_AFTER

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
        return self._predictions(*self._decide([headline], [teaser]))[0]

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
            yield from self._predictions(*self._decide(headlines, teasers))

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
        decision, words = (np.concatenate(column) for column in zip(*parts, strict=True))
        plain = words[:, 3] > 0
        known = np.where(plain, words[:, 2], words[:, 0])
        return decision, known, np.where(plain, words[:, 3], words[:, 1])

    # Deciding --------------------------------------------------------------------------------

    def compile(self) -> bool:
        """Score in compiled code from now on, about twice as fast and bit for bit the same.

        Takes some seconds the first time on a machine and half a second in later processes. A
        scorer does it by itself after 20,000 documents. False where numba (``kopwijzer[fast]``)
        is not installed: everything goes on as before.
        """
        self._until_compiled = 0
        try:
            from kopwijzer.compiled import CompiledSums
        except ImportError:
            return False
        if not isinstance(self._sums, CompiledSums):
            self._sums = CompiledSums(self.weights, self._table, self.blocks)
        return True

    def expect(self, n_documents: int) -> None:
        """Say that so many documents come next: for many it compiles now, not on the way."""
        if n_documents >= self._until_compiled > 0:
            self.compile()

    def _decide(self, headlines: Sequence[str], teasers: Sequence[str]) -> tuple[Floats, Floats]:
        """Decision values (n, n_labels) and the words (n, 4) that `Sums.of` counts."""
        if self._until_compiled > 0:
            self._until_compiled -= len(headlines)
            if self._until_compiled <= 0:
                self.compile()
        return self._sums.decide(headlines, teasers)

    def _predictions(self, decision: Floats, words: Floats) -> list[Prediction]:
        proba = _softmax(decision)
        labels, rule = self._labels, self.abstention
        predictions = []
        for scores, top, counts in zip(
            proba.tolist(), proba.argmax(axis=1).tolist(), words.tolist(), strict=True
        ):
            confidence = scores[top]
            # Names prove no language: the words in lower case count, where there are any.
            reason = rule.reason(
                labels[top], confidence, *(counts[2:] if counts[3] else counts[:2])
            )
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
            factor = block.weight * float(self.weights.scale[column])
            found += [
                Contribution(text, block.name, factor * value / norm)
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
        table, sizes = self._table, gram_sizes(self.blocks)
        for field, text in enumerate((headline, teaser)):
            chunks = text.split()
            if not chunks or not block.reads(field):
                continue
            cut = expand(chunks, *sizes)
            if block.kind == "patterns":
                owner = np.zeros(len(cut.masked), dtype=np.int64)
                hashes, _ = pattern_hashes(cut.masked, owner, block.low, block.high)
                texts = spell_patterns(text, block.low, block.high)
                for pattern, code in zip(texts, hashes, strict=True):
                    yield table.piece([f"[{pattern}]"], keys(code[None], number))
                continue
            for i, chunk in enumerate(chunks):
                words, grams = spell(chunk, *sizes)
                texts, hashes, ptr = (
                    (words, cut.words, cut.words_ptr)
                    if block.kind == "words"
                    else (grams, cut.characters, cut.characters_ptr)
                )
                yield table.piece(texts, keys(hashes[ptr[i] : ptr[i + 1]], number))
            if block.kind == "words" and block.high > 1:
                pairs = pair_hashes(cut.last[:-1], cut.first[1:])
                for i in range(len(chunks) - 1):
                    left, right = spell(chunks[i])[0][-1], spell(chunks[i + 1])[0][0]
                    yield table.piece([f"{left} {right}"], keys(pairs[i : i + 1], number))


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
