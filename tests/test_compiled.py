"""Compiled sums are NumPy's, bit for bit, on any text, on any thread and after any history."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import CHUNKS, ROWS, fitted, rows_
from kopwijzer import scorer as scorer_room
from kopwijzer.learning import to_scorer
from kopwijzer.scorer import Scorer
from kopwijzer.sums import Sums
from kopwijzer.text import CLASSES, UNSEEN, Block
from kopwijzer.weights import Weights

pytest.importorskip("numba", reason="the compiled path needs numba: install kopwijzer[fast]")

from kopwijzer import compiled as room
from kopwijzer.compiled import CompiledSums

BLOCKS = {
    "all": None,
    "words": (Block("words", min_df=1),),
    "single words": (Block("words", high=1, min_df=1), Block("h", field="headline")),
    "characters": (Block("characters", kind="characters", low=1, high=8, min_df=1),),
    "teaser": (Block("teaser", field="teaser"), Block("c", kind="characters", field="teaser")),
    "headline words": (Block("w", field="headline"), Block("c", kind="characters", low=3)),
    "patterns": (Block("p", kind="patterns", low=1, high=6, min_df=1), Block("w")),
    "patterns alone": (Block("p", kind="patterns", field="headline", low=2, high=2, min_df=1),),
}
LONG = [
    {"headline": "x" * 5000, "teaser": "ananas " * 40},
    {"headline": " ".join(CHUNKS), "teaser": "a" * 64 + " " + "b" * 65},
    {"headline": "1,2.3-4:5 ,1, -- 2-1! 2-1", "teaser": "ΣΑΣ İstanbul\u2003ﬁ\u0345 \x1e\x1f"},
    {"headline": "", "teaser": ""},
]


def both(blocks: Any = None) -> tuple[Scorer, CompiledSums]:
    plain = to_scorer(fitted(blocks=blocks) if blocks else fitted())
    return plain, CompiledSums(plain.weights, plain._table, plain.blocks)


MODELS = {name: both(blocks) for name, blocks in BLOCKS.items()}


def texts(rows: list[dict[str, str]]) -> tuple[list[str], list[str]]:
    return [row["headline"] for row in rows], [row["teaser"] for row in rows]


def same(plain: Any, fast: Any, rows: list[dict[str, str]]) -> None:
    for ours, theirs in zip(fast.of(*texts(rows)), plain.of(*texts(rows)), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    decided, expected = fast.decide(*texts(rows))[0], plain.decide(*texts(rows))[0]
    assert decided.tobytes() == expected.tobytes()


@pytest.mark.parametrize("model", BLOCKS)
@given(rows=st.lists(rows_, min_size=1, max_size=8))
@settings(max_examples=60)
@example(rows=LONG)
@example(rows=ROWS)
def test_sums_are_those_of_numpy(model: str, rows: list[dict[str, str]]) -> None:
    plain, fast = MODELS[model]
    same(plain._sums, fast, rows)


@given(rows=st.lists(rows_, min_size=1, max_size=8))
@settings(max_examples=40)
@example(rows=LONG)
def test_a_memo_that_is_full_starts_again(rows: list[dict[str, str]]) -> None:
    plain, _ = MODELS["all"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_KEPT", 3)
        fast = CompiledSums(plain.weights, plain._table, plain.blocks)
    for _ in range(2):
        same(plain._sums, fast, rows)
        for row in rows:
            same(plain._sums, fast, [row])


def test_a_new_sign_is_learned_first() -> None:
    plain, fast = MODELS["all"]
    CLASSES[ord("ж")] = UNSEEN
    same(plain._sums, fast, [{"headline": "Genk Ж wint", "teaser": ""}])
    assert CLASSES[ord("ж")] != UNSEEN


def test_threads_share_a_scorer() -> None:
    plain, fast = MODELS["all"]
    rows = [{"headline": f"{a} {b}", "teaser": a} for a in CHUNKS[:20] for b in CHUNKS[-20:]]
    assert isinstance(plain._sums, Sums)
    expected = plain._sums.of(*texts(rows))[0].tobytes()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: fast.of(*texts(rows))[0].tobytes(), range(64)))
    assert set(found) == {expected}
    assert 1 <= len(fast._memos) <= 9


def test_wide_coefficients_come_near() -> None:
    plain, _ = MODELS["all"]
    weights = plain.weights
    wide = replace(
        weights, coef=(weights.coef * weights.scale).astype(np.float32), scale=np.ones(4)
    )
    other = Scorer(wide, labels=list(plain.classes_), blocks=plain.blocks)
    expected = other.predict_proba(ROWS)
    assert other.compile()
    assert isinstance(other._sums, CompiledSums)
    assert np.abs(other.predict_proba(ROWS) - expected).max() <= 1e-12


def test_a_model_without_features() -> None:
    weights = Weights(
        hashes=np.empty(0, dtype=np.uint32),
        block_ptr=np.zeros(2, dtype=np.int64),
        df=np.empty(0, dtype=np.uint32),
        coef=np.empty((0, 2), dtype=np.int8),
        scale=np.ones(2),
        intercept=np.array([0.0, 1.0]),
        n_documents=1,
    )
    empty = Scorer(weights, labels=["a", "b"], blocks=[Block("words")])
    assert empty.compile()
    assert empty.decision_function(ROWS[:3]).tolist() == [[0.0, 1.0]] * 3


# When it is used -------------------------------------------------------------------------------


def fresh() -> Scorer:
    return pickle.loads(pickle.dumps(MODELS["all"][0]))  # type: ignore[no-any-return]  # noqa: S301


def test_a_scorer_compiles_itself_when_it_has_much_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer_room, "_COMPILES_AFTER", 300)
    scorer = fresh()
    expected = fresh().predict_proba(ROWS).tobytes()
    for _ in range(299 // len(ROWS)):
        assert scorer.predict_proba(ROWS).tobytes() == expected
        assert isinstance(scorer._sums, Sums)
    scorer.predict_proba(ROWS)
    assert isinstance(scorer._sums, CompiledSums)
    assert scorer.predict_proba(ROWS).tobytes() == expected


def test_a_scorer_that_expects_much_compiles_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer_room, "_COMPILES_AFTER", 300)
    scorer = fresh()
    scorer.expect(299)
    assert isinstance(scorer._sums, Sums)
    scorer.expect(300)
    assert isinstance(scorer._sums, CompiledSums)


def test_without_numba_all_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer_room, "_COMPILES_AFTER", 10)
    monkeypatch.setitem(sys.modules, "kopwijzer.compiled", None)
    scorer = fresh()
    assert not scorer.compile()
    scorer = fresh()
    assert scorer.predict(ROWS) == fresh().predict(ROWS)
    assert isinstance(scorer._sums, Sums)


def test_compiling_twice_is_compiling_once() -> None:
    scorer = fresh()
    assert scorer.compile()
    first = scorer._sums
    assert scorer.compile()
    assert scorer._sums is first
