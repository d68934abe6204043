"""Learning gives ordinary scikit-learn objects; their features are the definition's."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from conftest import BLOCKS, ROWS, TRUTH, fitted, rows_
from kopwijzer.errors import BadRows, BadSettings
from kopwijzer.headlines import Headline
from kopwijzer.learning import (
    Fold,
    HeadlineVectorizer,
    cross_predict,
    fit_in_chunks,
    fit_pipeline,
    fit_temperature,
    name_features,
    settle,
    strongest_words,
    to_scorer,
)
from kopwijzer.text import (
    Block,
    expand,
    pair_hashes,
    pattern_hashes,
    spell,
)
from kopwijzer.versions import pack_scorer

HEADLINES = [Headline(row["headline"], row["teaser"], row["label"]) for row in ROWS]

# The features ----------------------------------------------------------------------------------


def _pieces(block: Block, row: dict[str, str]) -> list[Counter[int]]:
    """The features of each piece of a document in one block, counted the slow way."""
    pieces = []
    for field in (0, 1):
        parts = (row["headline"], row["teaser"])[field].split()
        if not block.reads(field):
            continue
        for chunk in parts if block.kind != "patterns" else []:
            cut = expand([chunk], block.low, block.high)
            own = cut.words if block.kind == "words" else cut.characters
            pieces.append(Counter(own.tolist()))
        if block.kind == "patterns":
            cut = expand(parts)
            owner = np.zeros(len(cut.masked), dtype=np.int64)
            codes, _ = pattern_hashes(cut.masked, owner, block.low, block.high)
            pieces += [Counter([code]) for code in codes.tolist()]
            continue
        if block.kind == "words" and block.high > 1 and len(parts) > 1:
            cut = expand(parts)
            pairs = pair_hashes(cut.last[:-1], cut.first[1:]).tolist()
            pieces += [Counter([pair]) for pair in pairs]
    return pieces


def _by_hand(
    block: Block, rows: Sequence[dict[str, str]], asked: Sequence[dict[str, str]]
) -> np.ndarray[Any, Any]:
    """One block's columns for the rows `asked`, learned from `rows`, by the definition."""
    df = Counter(code for row in rows for code in set().union(*_pieces(block, row)))
    n = len(rows)
    kept = {code for code, count in df.items() if block.min_df <= count <= block.max_df * n}
    table = sorted(kept)
    idf = {code: round((np.log((1 + n) / (1 + df[code])) + 1) * 4096) / 4096 for code in table}
    matrix = np.zeros((len(asked), len(table)))
    for values, row in zip(matrix, asked, strict=True):
        norm = 0.0
        for piece in _pieces(block, row):
            for code in kept & set(piece):
                values[table.index(code)] += piece[code] * idf[code]
                norm += (piece[code] * idf[code]) ** 2
        values *= block.weight / norm**0.5 if norm else 0.0
    return matrix


_some = st.lists(rows_, min_size=1, max_size=5)


@given(_some, _some)
@settings(max_examples=40)
@example(ROWS[::13], ROWS[::17])
@example(ROWS[::13], [{"headline": "Genk", "teaser": ""}])
@example([{"headline": "", "teaser": ""}], [{"headline": " ", "teaser": ""}])
def test_features_are_those_of_the_definition(
    rows: list[dict[str, str]], asked: list[dict[str, str]]
) -> None:
    vectorizer = HeadlineVectorizer(BLOCKS, dtype=np.float64)
    ours = vectorizer.fit(rows).transform(asked).toarray()
    theirs = np.hstack([_by_hand(block, rows, asked) for block in BLOCKS])
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)
    theirs = np.hstack([_by_hand(block, rows, rows) for block in BLOCKS])
    np.testing.assert_allclose(vectorizer.fit_transform(rows).toarray(), theirs, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(_some)
@settings(max_examples=40)
@example(ROWS)
@example([{"headline": "", "teaser": ""}])
def test_transform_of_the_rows_is_fit_transform(dtype: Any, rows: list[dict[str, str]]) -> None:
    vectorizer = HeadlineVectorizer(BLOCKS, dtype=dtype)
    at_once = vectorizer.fit_transform(rows)
    later = vectorizer.transform(rows)
    assert at_once.dtype == later.dtype == dtype
    assert at_once.shape == later.shape == (len(rows), len(vectorizer.hashes_))
    for matrix in (at_once, later):
        matrix.sort_indices()
    assert np.array_equal(at_once.indptr, later.indptr)
    assert np.array_equal(at_once.indices, later.indices)
    assert np.array_equal(at_once.data, later.data)
    other = HeadlineVectorizer(BLOCKS, dtype=dtype).fit(rows)
    assert np.array_equal(other.hashes_, vectorizer.hashes_)
    assert np.array_equal(other.df_, vectorizer.df_)


@given(_some, st.lists(rows_, max_size=4))
@settings(max_examples=40)
def test_a_row_has_the_same_features_beside_any_other(
    rows: list[dict[str, str]], more: list[dict[str, str]]
) -> None:
    vectorizer = HeadlineVectorizer(BLOCKS).fit(ROWS)
    alone = [vectorizer.transform([row]).toarray() for row in rows]
    together = vectorizer.transform([*rows, *more]).toarray()
    np.testing.assert_allclose(together[: len(rows)], np.concatenate(alone), rtol=1e-6, atol=1e-7)


def test_all_ways_to_write_a_row_are_one() -> None:
    def features(rows: Any) -> Any:
        return HeadlineVectorizer().fit_transform(rows).toarray()

    pairs = [(row["headline"], row["teaser"]) for row in ROWS]
    for same in (HEADLINES, pairs, iter(pairs)):
        assert np.array_equal(features(same), features(ROWS))
    bare = [row["headline"] for row in ROWS]
    assert np.array_equal(features([(text, "") for text in bare]), features(bare))
    assert np.array_equal(features([{"headline": text} for text in bare]), features(bare))


@pytest.mark.parametrize("row", [5, None, ("a",), ("a", None), {"teaser": "x"}, {"headline": 5}])
def test_rows_without_text_are_refused(row: Any) -> None:
    with pytest.raises(BadRows, match=r"row 2: .* is no headline with a teaser"):
        HeadlineVectorizer().fit(["Genk wint", row])


def test_a_block_weighs_what_its_weight_says() -> None:
    # One piece, so that the additive norm is the usual one.
    row = [{"headline": "Genk", "teaser": ""}]
    for weight in (0.25, 1.0, 3.0):
        block = Block("w", min_df=1, weight=weight)
        values = HeadlineVectorizer((block,), dtype=np.float64).fit_transform(row)
        assert np.sqrt(values.multiply(values).sum()) == pytest.approx(weight)


@pytest.mark.parametrize(
    ("min_df", "max_df", "kept"),
    [(1, 1.0, "abc"), (2, 1.0, "ab"), (3, 1.0, "a"), (1, 0.7, "bc"), (1, 0.5, "c"), (4, 1.0, "")],
)
def test_features_are_kept_by_their_frequency(min_df: int, max_df: float, kept: str) -> None:
    block = Block("w", high=1, min_df=min_df, max_df=max_df)
    vectorizer = HeadlineVectorizer((block,)).fit(["a b c a", "b a b", "a"])
    assert set(vectorizer.hashes_.tolist()) == {int(expand([sign]).words[0]) for sign in kept}


def test_columns_have_names_in_their_order() -> None:
    vectorizer = HeadlineVectorizer(BLOCKS).fit(ROWS)
    names = vectorizer.get_feature_names_out()
    assert len(set(names)) == len(names) == vectorizer.transform(ROWS[:1]).shape[1]
    blocks = [name.partition(":")[0] for name in names]
    assert list(dict.fromkeys(blocks)) == [block.name for block in BLOCKS]
    number = next(iter(expand(["Genk"]).words.tolist()))
    assert f"words:{number:08x}" in names


def test_character_blocks_of_different_sizes_are_refused() -> None:
    blocks = (Block("a", kind="characters", low=2), Block("b", kind="characters", low=1))
    with pytest.raises(BadSettings, match="the same n-gram sizes"):
        HeadlineVectorizer(blocks).fit(ROWS)


# scikit-learn's rules --------------------------------------------------------------------------


def test_it_is_an_estimator() -> None:
    vectorizer = HeadlineVectorizer(BLOCKS, dtype=np.float64)
    assert vectorizer.get_params() == {"blocks": BLOCKS, "dtype": np.float64}
    copy = clone(vectorizer)
    assert copy is not vectorizer
    assert copy.get_params() == vectorizer.get_params()
    assert copy.set_params(dtype=np.float32) is copy
    assert (copy.dtype, vectorizer.dtype) == (np.float32, np.float64)
    assert vectorizer.fit(ROWS) is vectorizer
    assert "words" in repr(vectorizer)
    for method in (copy.get_feature_names_out, lambda: copy.transform(ROWS)):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            method()


def _check_name(pair: Any) -> str:
    return str(getattr(pair[1], "func", pair[1]).__name__)


def _checks() -> list[Any]:
    with warnings.catch_warnings():
        # Said of the checks that want matrices of numbers: they do not apply to text.
        warnings.simplefilter("ignore", SkipTestWarning)
        return list(estimator_checks_generator(HeadlineVectorizer()))


@pytest.mark.parametrize("checked", _checks(), ids=_check_name)
def test_scikit_learn_checks_hold(checked: tuple[Any, Any]) -> None:
    estimator, check = checked
    check(estimator)


def test_it_works_inside_a_pipeline_of_ones_own() -> None:
    pipeline = make_pipeline(HeadlineVectorizer(), LogisticRegression(max_iter=200))
    assert pipeline.fit(ROWS, TRUTH).score(ROWS, TRUTH) > 0.95


# The model -------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_on_any_threads() -> None:
    saved = set()
    for threads in (1, 2, 1):
        with threadpool_limits(threads):
            saved.add(pack_scorer(to_scorer(fitted())))
    assert len(saved) == 1
    other = settle(fit_pipeline(ROWS, TRUTH, blocks=BLOCKS, epochs=5, seed=1), temperature=0.8)
    assert pack_scorer(to_scorer(other)) not in saved


def _optimum(rows: Sequence[Any], truth: Sequence[str], C: float, **settings: Any) -> Any:
    """Decision values of exact logistic regressions, one label against the rest."""
    matrix = HeadlineVectorizer(BLOCKS, dtype=np.float64).fit_transform(rows)
    exact = OneVsRestClassifier(LogisticRegression(C=C, max_iter=5000, tol=1e-9, **settings))
    return exact.fit(matrix, truth).decision_function(matrix)


def _centred(decision: Any) -> Any:
    return decision - decision.mean(axis=1, keepdims=True)


def test_many_epochs_reach_the_optimum() -> None:
    exact = _optimum(ROWS, TRUTH, 1.0)
    gaps = []
    for epochs in (5, 50, 500, 2000):
        pipeline = fit_pipeline(ROWS, TRUTH, blocks=BLOCKS, epochs=epochs, C=1.0)
        gaps.append(np.abs(_centred(pipeline.decision_function(ROWS) - exact)).max())
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.12 < 1 < gaps[0]


def test_balance_is_a_power_of_the_rarity_of_labels() -> None:
    rows, truth = ROWS[:100], TRUTH[:100]
    plain = fit_pipeline(rows, truth, blocks=BLOCKS, epochs=50)
    rare = plain.classes_.tolist().index("quote")
    shares = []
    for balance in (0.0, 0.5, 1.0):
        ours = fit_pipeline(rows, truth, blocks=BLOCKS, epochs=50, balance=balance)
        shares.append(ours.predict_proba(rows)[:, rare].mean())
    assert shares == sorted(shares)
    assert shares[0] < shares[2]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_show(threads: int) -> None:
    ours = fit_pipeline(ROWS, TRUTH, blocks=BLOCKS, threads=threads)
    expected = fit_pipeline(ROWS, TRUTH, blocks=BLOCKS)
    assert ours["classifier"].coef_.tobytes() == expected["classifier"].coef_.tobytes()


# In chunks -------------------------------------------------------------------------------------


@given(st.lists(rows_, min_size=1, max_size=8), st.integers(1, 4))
@settings(max_examples=40)
@example(ROWS, 37)
def test_learning_features_in_parts_is_learning_them_at_once(
    rows: list[dict[str, str]], size: int
) -> None:
    whole = HeadlineVectorizer(BLOCKS).fit(rows)
    parts = HeadlineVectorizer(BLOCKS).fit(ROWS[:9])  # what was fitted before is forgotten
    for at in range(0, len(rows), size):
        assert parts.partial_fit(rows[at : at + size]) is parts
    for name in ("hashes_", "block_ptr_", "df_", "idf_", "n_documents_"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name)), name
    asked = ROWS[:5]
    assert np.array_equal(parts.transform(asked).toarray(), whole.transform(asked).toarray())


def _in_chunks(size: int, labels: int = 4, **learning: Any) -> Any:
    order = np.random.default_rng(0).permutation(len(ROWS))
    rows = [ROWS[i] for i in order if labels == 4 or TRUTH[i] in ("quote", "other")]

    def chunks() -> Iterator[tuple[list[Any], list[str]]]:
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            yield part, [row["label"] for row in part]

    return fit_in_chunks(chunks, blocks=BLOCKS, **{"epochs": 5, **learning})


def test_the_size_of_the_chunks_changes_next_to_nothing() -> None:
    one, other, whole = (_in_chunks(size).predict_proba(ROWS) for size in (7, 50, 10_000))
    assert np.abs(one - whole).max() < 1e-3
    assert np.abs(other - whole).max() < 1e-3


def test_the_same_chunks_give_the_same_bytes() -> None:
    assert pack_scorer(to_scorer(_in_chunks(50))) == pack_scorer(to_scorer(_in_chunks(50)))


@pytest.mark.parametrize("labels", [4, 2])
def test_a_model_of_chunks_is_like_one_of_all_rows(labels: int) -> None:
    rows = [row for row in ROWS if labels == 4 or row["label"] in ("quote", "other")]
    truth = [row["label"] for row in rows]
    chunked = settle(_in_chunks(32, labels, epochs=20, balance=0.5))
    assert isinstance(chunked["classifier"], LogisticRegression)
    assert chunked.score(rows, truth) > 0.97
    scorer = to_scorer(chunked)
    assert scorer.classes_.tolist() == sorted(set(truth))
    assert np.abs(scorer.predict_proba(rows) - chunked.predict_proba(rows)).max() <= 1e-9
    whole = fit_pipeline(rows, truth, blocks=BLOCKS, balance=0.5)
    assert np.mean(chunked.predict(rows) == whole.predict(rows)) > 0.97


@pytest.mark.parametrize(
    ("rows", "labels"), [(["Genk wint"] * 3, "aaa"), (["a", "b"], "xy"), ([], "")]
)
def test_chunks_that_teach_nothing_are_refused(rows: list[str], labels: str) -> None:
    with pytest.raises(BadRows, match="one label only, or nothing that could be learned"):
        fit_in_chunks(lambda: [(rows, list(labels))], blocks=(Block("w"),))


def test_rows_that_have_nothing_in_common_are_refused() -> None:
    with pytest.raises(BadRows, match="no word or n-gram stands in enough of them"):
        fit_pipeline(["a", "b"], ["x", "y"], blocks=(Block("w"),))


def test_one_label_is_refused() -> None:
    with pytest.raises(ValueError, match="number of classes has to be greater than one"):
        fit_pipeline(["Genk wint", "Genk wint"], ["x", "x"], blocks=(Block("w"),))


# Settling --------------------------------------------------------------------------------------


def _log_odds(proba: Any, column: int) -> Any:
    return np.log(proba[:, column] / proba[:, 0])


@pytest.mark.parametrize("labels", [4, 2])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_settling_is_dividing_and_shifting(labels: int, temperature: float) -> None:
    rows = [row for row in ROWS if labels == 4 or row["label"] in ("quote", "other")]
    truth = [row["label"] for row in rows]
    shift = {"other": 0.7, "quote": -0.2, "unheard of": 5.0}
    plain = fit_pipeline(rows, truth, blocks=BLOCKS, epochs=5)
    before = plain.predict_proba(rows)
    settled = settle(plain, temperature=temperature, prior_shift=shift, round_to_bytes=False)
    after = settled.predict_proba(rows)
    names = settled.classes_.tolist()
    for column, name in enumerate(names):
        moved = shift.get(name, 0.0) - shift.get(names[0], 0.0)
        np.testing.assert_allclose(
            _log_odds(after, column), _log_odds(before, column) / temperature + moved, atol=1e-9
        )


@pytest.mark.parametrize("labels", [4, 2])
def test_bytes_cost_little_and_floats_nothing(labels: int) -> None:
    rows = [row for row in ROWS if labels == 4 or row["label"] in ("quote", "other")]
    truth = [row["label"] for row in rows]
    exact = settle(fit_pipeline(rows, truth, blocks=BLOCKS, epochs=5), round_to_bytes=False)
    rough = settle(fit_pipeline(rows, truth, blocks=BLOCKS, epochs=5))
    assert to_scorer(exact).weights.coef.dtype == np.float32
    assert to_scorer(rough).weights.coef.dtype == np.int8
    for pipeline in (exact, rough):
        gap = np.abs(to_scorer(pipeline).predict_proba(rows) - pipeline.predict_proba(rows))
        assert gap.max() <= 1e-6
    assert np.abs(exact.predict_proba(rows) - rough.predict_proba(rows)).max() < 0.02


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_the_temperature_is_found(truth: float) -> None:
    random = np.random.default_rng(0)
    decision = random.normal(size=(20_000, 3)) * 2
    noise = random.gumbel(size=decision.shape)
    labels = [("a", "b", "c")[i] for i in (decision / truth + noise).argmax(axis=1)]
    assert fit_temperature(decision, labels, ["a", "b", "c"]) == pytest.approx(truth, rel=0.05)


def test_a_temperature_needs_rows_and_stays_in_its_range() -> None:
    assert fit_temperature(np.empty((0, 2)), [], ["a", "b"]) == 1.0
    sure = np.array([[5.0, -5.0]] * 10)
    assert 0.2 <= fit_temperature(sure, ["a"] * 10, ["a", "b"]) < 0.3
    assert 4.9 < fit_temperature(sure, ["b"] * 10, ["a", "b"]) <= 5


# Folds -----------------------------------------------------------------------------------------


def _run(calls: list[Any]) -> list[Any]:
    return [function(*args, **named) for function, args, named in calls]


def test_folds_say_what_a_model_of_the_rest_says() -> None:
    order = np.random.default_rng(0).permutation(len(ROWS))
    parts = np.array_split(order, 3)
    splits = [(np.setdiff1d(order, part), part) for part in parts]
    learning: dict[str, Any] = {"blocks": BLOCKS, "epochs": 3, "seed": 0}
    folds = list(cross_predict(HEADLINES, TRUTH, splits, run=_run, **learning))
    assert [fold.test.tolist() for fold in folds] == [part.tolist() for part in parts]
    joined = Fold.join(folds)
    assert joined.test.tolist() == list(range(len(ROWS)))
    train, test = splits[1]
    scorer = to_scorer(
        fit_pipeline([ROWS[i] for i in train], [TRUTH[i] for i in train], **learning)
    )
    decision, known, words = scorer.decide([ROWS[i] for i in test])
    assert np.array_equal(joined.decision[test], decision)
    assert np.array_equal(joined.known[test], known)
    assert np.array_equal(joined.words[test], words)
    right = np.array(sorted(set(TRUTH)))[joined.decision.argmax(axis=1)] == TRUTH
    assert right.mean() > 0.9


def test_a_label_that_a_fold_lacks_is_as_good_as_ruled_out() -> None:
    rows = [i for i, label in enumerate(TRUTH) if label != "quote"]
    quotes = [i for i, label in enumerate(TRUTH) if label == "quote"]
    split = (np.array(rows), np.array(quotes))
    (fold,) = cross_predict(HEADLINES, TRUTH, [split], run=_run, blocks=BLOCKS, epochs=2)
    column = sorted(set(TRUTH)).index("quote")
    assert (fold.decision[:, column] == -30).all()
    assert np.isfinite(fold.decision).all()


# Names -----------------------------------------------------------------------------------------


def test_every_word_feature_of_the_rows_has_a_name() -> None:
    vectorizer = HeadlineVectorizer((BLOCKS[0],)).fit(ROWS)
    names = name_features(HEADLINES, vectorizer.hashes_, BLOCKS)
    assert set(names) == set(vectorizer.hashes_.tolist())
    texts = set(names.values())
    assert {"genk", "wint", "genk wint", "'", "2-1"} <= texts
    chunk_texts = {text for row in ROWS for c in row["headline"].split() for text in spell(c)[0]}
    assert chunk_texts <= texts


@pytest.mark.parametrize("labels", [4, 2])
def test_the_strongest_words_are_those_that_pull_most(labels: int) -> None:
    rows = [row for row in ROWS if labels == 4 or row["label"] in ("quote", "other")]
    pipeline = fitted(rows, [row["label"] for row in rows])
    strongest = strongest_words(pipeline, rows, 10)
    assert list(strongest) == pipeline.classes_.tolist()
    for label, words in strongest.items():
        pulls = [pull for _, pull in words]
        assert 0 < len(words) <= 10
        assert len(dict(words)) == len(words)
        assert pulls == sorted(pulls, reverse=True)
        assert all(pull > 0 for pull in pulls)
        said = to_scorer(pipeline).explain(" ".join(w for w, _ in words if "[" not in w), "", label)
        assert said.decision > said.intercept
    assert "begint sparta" in dict(strongest["other"])


def test_no_words_no_strongest() -> None:
    pipeline = fitted(blocks=(Block("c", kind="characters"),))
    assert strongest_words(pipeline, ROWS) == {label: [] for label in sorted(set(TRUTH))}


def test_unknown_hashes_have_no_name() -> None:
    assert name_features(HEADLINES, np.array([1, 2, 3], dtype=np.uint32), BLOCKS) == {}
    assert name_features([("", "")], np.array([1], dtype=np.uint32), ()) == {}
