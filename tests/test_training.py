"""Training: what a version holds, that its figures are honest, and what it refuses."""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from invented import LABELS, ONE, quick, rows
from kopwijzer import training, versions
from kopwijzer.duplicates import near_duplicate_pairs
from kopwijzer.engines import Engine
from kopwijzer.errors import BadRows, BadSettings, BadSource
from kopwijzer.figures import NEVER
from kopwijzer.headlines import Headline
from kopwijzer.learning import fit_temperature
from kopwijzer.report import evaluation_page, kept_outcome, pack_outcome, summary, table
from kopwijzer.settings import Settings
from kopwijzer.splits import splits, story_groups
from kopwijzer.versions import Version

ROWS = rows(240)
KINDS = ("random", "grouped", "leave-one-source-out", "newest")
PROMISED = quick(
    "evaluation.learning_curve=true",
    "abstention.precision={interview = 0.8, match_report = 0.75, transfer_rumour = 0.999}",
)


@pytest.fixture(scope="module")
def told() -> list[tuple[str, int, int]]:
    """What training said of its progress."""
    return []


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory, told: list[tuple[str, int, int]]) -> Version:
    """A version trained with everything there is."""
    return training.train(
        ROWS,
        PROMISED,
        tmp_path_factory.mktemp("models"),
        name="nieuws",
        engine=ONE,
        progress=lambda *said: told.append(said),
        history={"tried": 3},
    )


@pytest.fixture(scope="module")
def report(version: Version) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(version.read("report.json"))
    return found


# What a version holds --------------------------------------------------------------------------


def test_a_version_has_every_file_and_all_of_them_are_sound(version: Version) -> None:
    named = {"scorer.npz", "model.joblib", "probes.jsonl", "config.toml", "report.json"}
    named |= {"report.html", "README.md", "outcomes.jsonl.gz"}
    assert set(version.manifest["files"]) == named
    assert {path.name for path in version.path.iterdir()} == named | {"manifest.json"}
    assert versions.verify(version)
    assert versions.find("nieuws@champion", version.path.parents[1]).ref == version.ref


def test_the_manifest_tells_the_data_and_the_settings(version: Version) -> None:
    manifest = version.manifest
    data = manifest["data"]
    assert (data["source"], data["n_rows"]) == ("rows in memory", 240)
    assert data["labels"] == dict.fromkeys(LABELS, 60)
    assert data["sources"] == {"beat_0": 80, "beat_1": 80, "beat_2": 80}
    assert Settings.from_mapping(manifest["settings"]) == PROMISED
    assert Settings.read(version.path / "config.toml") == PROMISED
    assert {"kopwijzer", "python", "numpy", "scipy", "scikit-learn"} <= set(manifest["written_by"])
    assert manifest["language"] is None  # nobody said which


def test_the_figures_of_every_split_are_written(version: Version, report: dict[str, Any]) -> None:
    found = report["figures"]
    assert tuple(found) == KINDS
    assert [found[kind]["n_rows"] for kind in KINDS] == [240, 240, 240, 48]
    assert report["honest"] == version.manifest["figures"]["split"] == "leave-one-source-out"
    honest = found["leave-one-source-out"]
    for key in ("macro_f1", "accuracy"):
        assert version.manifest["figures"][key] == honest[key]["value"]
    for kind in KINDS:
        macro = found[kind]["macro_f1"]
        assert 0.3 < macro["low"] <= macro["value"] <= macro["high"] <= 1
    assert report["search"] == {"tried": 3}
    text = "\n".join(summary(version))
    assert all(kind in text for kind in KINDS)
    assert f"macro-F1 {honest['macro_f1']['value']:.3f} (" in text


def test_the_learning_curve_grows(report: dict[str, Any]) -> None:
    sizes = [point["n_rows"] for point in report["learning_curve"]]
    assert sizes == sorted(set(sizes))
    assert len(sizes) >= 3


def test_what_was_said_out_of_fold_is_kept(version: Version, report: dict[str, Any]) -> None:
    kept = kept_outcome(version)
    assert kept is not None
    assert list(kept.truth) == [row["label"] for row in ROWS]
    assert list(kept.headlines) == [row["headline"] for row in ROWS]
    assert np.allclose(kept.proba.sum(axis=1), 1, atol=1e-4)
    right = np.mean([a == b for a, b in zip(kept.truth, kept.predicted, strict=True)])
    assert right == pytest.approx(report["figures"][report["honest"]]["accuracy"]["value"])
    assert pack_outcome(kept) == version.read("outcomes.jsonl.gz")


def test_progress_is_told_from_nothing_to_all(
    version: Version,  # noqa: ARG001  # it fills what was told
    told: list[tuple[str, int, int]],
) -> None:
    for what in ("cross-validation", "figures", "fit", "learning curve", "save"):
        steps = [(done, of) for name, done, of in told if name == what]
        assert steps == sorted(steps)
        assert (steps[0][0], steps[-1][0]) == (0, steps[-1][1])


def test_the_fingerprint_is_of_every_field_and_of_the_order() -> None:
    base = [Headline("a", "b", "c", "d", "e", "f"), Headline("g")]
    changed = [
        [replace(base[0], **{name: "x"}), base[1]]  # type: ignore[arg-type]  # all are texts
        for name in ("headline", "teaser", "label", "group", "source", "date")
    ]
    prints = {training.fingerprint(some) for some in [base, base[::-1], base[:1], *changed]}
    assert len(prints) == 9
    assert training.fingerprint(list(base)) in prints


# The same again --------------------------------------------------------------------------------


def test_the_same_bytes_whatever_the_workers_and_the_threads(tmp_path: Path) -> None:
    recipe, data = quick("abstention.precision=0.7"), rows(120)
    made = []
    for threads, engine in ((1, ONE), (2, Engine(workers=2))):
        with threadpool_limits(limits=threads):
            made.append(training.train(data, recipe, tmp_path, name="nieuws", engine=engine))
    for file in ("scorer.npz", "report.json", "outcomes.jsonl.gz", "probes.jsonl", "config.toml"):
        assert made[0].read(file) == made[1].read(file), file
    assert made[0].manifest["abstention"] == made[1].manifest["abstention"]
    assert made[0].manifest["data"] == made[1].manifest["data"]


def test_another_seed_is_another_model() -> None:
    first, second = (
        training.fit(ROWS[:80], quick(f"learning.seed={seed}")).predict_proba(ROWS[:80])
        for seed in (0, 1)
    )
    assert not np.array_equal(first, second)
    assert np.abs(first - second).mean() < 0.05


# Splits ----------------------------------------------------------------------------------------

_words = ["Genk wint met 3-1 van Ajax in eigen huis", "Vitesse polst een nieuwe doelman uit Gent"]
_words += ["De trainer zegt dat het morgen beter moet", "Quiz: hoeveel weet jij nog van de beker"]
_words += ["Zulte klopt Standard na een late treffer", "Sparta huurt een linksback voor een jaar"]
_stories = st.builds(
    Headline,
    st.builds(str.__add__, st.sampled_from(_words), st.sampled_from(["", "!", " (video)"])),
    label=st.sampled_from(["quote", "rumour", "other"]),
    group=st.sampled_from([None, None, "a", "b", "c"]),
    source=st.sampled_from(["x", "y", "z"]),
    date=st.dates().map(str),
)


@settings(max_examples=50)
@given(st.lists(_stories, min_size=2, max_size=24))
def test_no_story_straddles_a_split(items: list[Headline]) -> None:
    assume(len({item.label for item in items}) > 1)  # others are refused before
    recipe = quick()
    story = story_groups(items, recipe)
    for i, j, _ in near_duplicate_pairs(items, recipe.evaluation.near_duplicates):
        assert story[i] == story[j]
    for i, first in enumerate(items):
        for j, second in enumerate(items):
            if first.group is not None and first.group == second.group:
                assert story[i] == story[j]
    truth = [str(item.label) for item in items]
    for kind in KINDS:
        tested: list[int] = []
        for train, test in splits(kind, items, truth, story, recipe):
            assert not set(train) & set(test)
            assert len({truth[i] for i in train}) > 1
            assert len(test)
            tested += test.tolist()
            if kind != "random":
                assert not {story[i] for i in train} & {story[i] for i in test}
            if kind == "leave-one-source-out":
                assert not {items[i].source for i in train} & {items[i].source for i in test}
            if kind == "newest":
                dates = [str(item.date) for item in items]
                assert max(dates[i] for i in train) <= min(dates[i] for i in test)
        assert len(tested) == len(set(tested))


def _plain(
    labels: str, *, dates: bool = True, sources: str = "xyz"
) -> tuple[list[Headline], list[str]]:
    items = [
        Headline(
            f"kop {number}", source=sources[number % len(sources)], date="2024" if dates else None
        )
        for number in range(len(labels))
    ]
    return items, list(labels)


@pytest.mark.parametrize(
    ("kind", "items"),
    [
        ("random", _plain("aaab")),
        ("grouped", _plain("aaab")),
        ("leave-one-source-out", _plain("abab", sources="x")),
        ("leave-one-source-out", _plain("abab", sources="xy")),
        ("newest", _plain("abab", dates=False)),
        ("newest", _plain("aaaab")),
    ],
)
def test_a_split_that_the_rows_do_not_allow_is_not_made(
    kind: str, items: tuple[list[Headline], list[str]]
) -> None:
    assert splits(kind, *items, list(range(len(items[0]))), quick()) == []


def test_all_rows_of_one_story_cannot_be_split() -> None:
    items, labels = _plain("abababab")
    assert splits("random", items, labels, [0] * 8, quick())
    for kind in KINDS[1:]:
        assert splits(kind, items, labels, [0] * 8, quick()) == []


def test_more_folds_than_rows_of_a_label_are_fewer_folds() -> None:
    items, labels = _plain("aaaaabbb")
    recipe = quick("evaluation.folds=50")
    for kind in ("random", "grouped"):
        assert len(splits(kind, items, labels, list(range(8)), recipe)) == 3


def test_the_newest_slice_drops_stories_that_began_before() -> None:
    dates = [f"2024-01-{day:02}" for day in (3, 1, 2, 9, 10, 4, 5, 6, 7, 8)]
    items = [Headline(f"kop {date}", date=date) for date in dates]
    groups = [0, 1, 2, 3, 0, 5, 6, 7, 8, 9]  # the newest row of all is of the story of 3 January
    recipe = quick("evaluation.newest=0.3")
    ((train, test),) = splits("newest", items, list("abababababab"[:10]), groups, recipe)
    assert [dates[i] for i in train] == [f"2024-01-{day:02}" for day in range(1, 8)]
    assert [dates[i] for i in test] == ["2024-01-08", "2024-01-09"]


def test_a_story_that_two_sources_bring_is_not_learned_from_before_it_is_tested() -> None:
    items, labels = _plain("abababab", sources="xy")
    items = [Headline(item.headline, source="xxyy"[i % 4]) for i, item in enumerate(items)]
    groups = [0, 1, 0, 3, 4, 5, 6, 7]
    (_, test_x), (train_y, test_y) = splits("leave-one-source-out", items, labels, groups, quick())
    assert (test_x.tolist(), test_y.tolist()) == ([0, 1, 4, 5], [2, 3, 6, 7])
    assert train_y.tolist() == [1, 4, 5]


# Calibration and thresholds --------------------------------------------------------------------


def test_the_temperature_is_stored_and_folded_in(version: Version, report: dict[str, Any]) -> None:
    temperature = report["temperature"]
    assert 0.2 < temperature < 5
    assert temperature != 1
    cold = training.fit(ROWS, PROMISED).decision_function(ROWS)
    settled = version.scorer().decision_function(ROWS)
    assert np.allclose(settled * temperature, cold, atol=1e-9)


def test_the_figures_are_of_calibrated_scores(version: Version) -> None:
    kept = kept_outcome(version)
    assert kept is not None
    again = fit_temperature(np.log(kept.proba + 1e-9), kept.truth, kept.classes)
    assert again == pytest.approx(1, abs=0.02)  # nothing is left to settle


def test_fit_and_the_scorer_are_the_pipeline(version: Version) -> None:
    pipeline = versions.load_pipeline(version)
    scorer = version.scorer()
    assert list(scorer.classes_) == list(pipeline.classes_) == list(LABELS)
    assert np.allclose(scorer.predict_proba(ROWS), pipeline.predict_proba(ROWS), atol=1e-9)
    fitted = training.fit([Headline(r["headline"], r["teaser"], r["label"]) for r in ROWS], quick())
    assert list(fitted.predict_proba(ROWS).argmax(1)) == list(scorer.predict_proba(ROWS).argmax(1))


def test_the_promise_is_told_and_its_thresholds_are_used(
    version: Version, report: dict[str, Any]
) -> None:
    promise = report["promise"]
    assert promise["kept"] == {
        "interview": True,
        "match_report": promise["kept"]["match_report"],
        "transfer_rumour": False,
    }
    text = "\n".join(summary(version))
    assert "interview: 100.0% right above 0.000, at least " in text
    assert "transfer_rumour: 99.9% cannot be promised, " in text
    assert "; it is not given" in text
    assert "without the promise" in text
    thresholds = version.manifest["abstention"]["thresholds"]
    assert thresholds == pytest.approx(promise["thresholds"])
    assert thresholds["transfer_rumour"] == NEVER
    given = version.scorer().score_many(ROWS)
    assert "transfer_rumour" not in {p.label for p in given}
    assert "low_confidence" in {p.reason for p in given}
    for kind in KINDS:
        assert report["figures"][kind]["labels"]["transfer_rumour"]["recall"] == 0


def test_without_a_promise_the_least_confidence_holds_beside_rows_of_no_kind() -> None:
    recipe = quick("abstention.min_confidence=0.4")
    rule = training.fit(ROWS[:80], recipe).abstention
    assert rule.thresholds == {"interview": 0.4, "match_report": 0.4, "transfer_rumour": 0.4}
    kinds = [row for row in ROWS[:80] if row["label"] != "other"]
    assert training.fit(kinds, recipe).abstention.thresholds == {}


def test_a_prior_moves_the_log_odds_by_what_it_says() -> None:
    plain, moved = (
        training.fit(ROWS[:80], quick(*changes)).decision_function(ROWS[:5])
        for changes in ((), ("learning.prior={interview = 0.5, other = 0.1}",))
    )
    shift = [math.log(0.5 / 0.25), 0, math.log(0.1 / 0.25), 0]
    assert np.allclose(moved - plain, shift)


def test_a_prior_counts_what_balance_did() -> None:
    rows = [row for n, row in enumerate(ROWS[:80]) if row["label"] != "other" or n % 3 == 0]
    counts = Counter(str(row["label"]) for row in rows)
    assert len(set(counts.values())) > 1
    flat = "{" + ", ".join(f"{label} = 0.25" for label in counts) + "}"
    moved = [
        training.fit(rows, quick("learning.balance=1", *changes)).decision_function(ROWS[:5])
        for changes in ((), (f"learning.prior={flat}",))
    ]
    # Full balance makes every label count alike: a prior that says the same moves nothing.
    assert np.allclose(moved[1] - moved[0], 0)


def test_a_prior_of_a_label_that_no_row_has_is_refused() -> None:
    said = (
        r"^learning\.prior\.quote: no row has that label; the labels are interview, match_report, "
    )
    with pytest.raises(BadSettings, match=said):
        training.fit(ROWS[:80], quick("learning.prior={quote = 0.5}"))
    seen: list[str] = []
    for more in ((), ("learning.chunk_rows=100",)):
        with pytest.raises(BadSettings, match=said):
            training.train(
                ROWS[:80],
                quick("learning.prior={quote = 0.5}", *more),
                progress=lambda what, done, of: seen.append(what),
            )
    assert not {"cross-validation", "fit"} & set(seen)  # refused before the work


# What is refused -------------------------------------------------------------------------------

_SAME = {"headline": "Genk wint", "teaser": "met 3-1"}
BAD: list[tuple[list[Any], str]] = [
    ([], r"^the rows: 1 row cannot be used:\n  there are no rows to learn from$"),
    (
        [{**row, "label": "quote"} for row in ROWS[:8]],
        r"\n  every row has the label 'quote'; two or more are needed$",
    ),
    (
        [{**_SAME, "label": label} for label in "ab" * 4],
        r"\n  all 8 rows hold the same text; nothing can be learned$",
    ),
    (
        [{"headline": row["headline"]} for row in ROWS[:12]],
        r"12 rows cannot be used:\n(.*it has no label.*\n){10}  \.\.\. and 2 more$",
    ),
    (
        [*ROWS[:8], {**ROWS[9], "label": " "}],
        r"1 row cannot be used:\n  .*9: it has no label; put one into",
    ),
    (
        [{"headline": f"{a} {b}", "label": a} for a, b in ("ab", "cd", "ef", "gh")],
        r"\n  no word or n-gram stands in enough of them to be learned \(min_df, max_df\)$",
    ),
]
BAD_IDS = ["none", "one label", "one text", "unlabelled", "one unlabelled", "nothing in common"]


@pytest.mark.parametrize(("bad", "sentence"), BAD, ids=BAD_IDS)
def test_bad_rows_get_one_clear_sentence(bad: list[Any], sentence: str, tmp_path: Path) -> None:
    recipe = quick("features={words = {min_df = 2}}")
    with pytest.raises(BadRows, match=sentence) as caught:
        training.fit(bad, recipe)
    assert caught.value.exit_code == 3
    with pytest.raises(BadRows, match=sentence):
        training.train(bad, recipe, tmp_path / "models", name="nieuws", engine=ONE)
    assert not (tmp_path / "models").exists()


def test_a_label_outside_those_of_the_settings_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:8]), encoding="utf-8")
    recipe = quick('data.labels=["interview", "other"]')
    with pytest.raises(BadRows, match=r"rows\.jsonl line 2: .*'match_report'") as caught:
        training.read_labelled(path, recipe)
    assert len(caught.value.faults) == 4
    skipped = training.read_labelled(
        path, quick('data.labels=["interview", "other"]', "data.on_bad_row=skip")
    )
    assert Counter(row.label for row in skipped) == {"interview": 2, "other": 2}


def test_a_source_that_is_not_there_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadSource, match=r"none\.jsonl: there is no such file"):
        training.train(tmp_path / "none.jsonl", quick(), tmp_path / "models", engine=ONE)
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"")
    with pytest.raises(BadRows, match=r"empty\.jsonl: .*\n  there are no rows to learn from"):
        training.train(empty, quick(), tmp_path / "models", engine=ONE)
    assert not (tmp_path / "models").exists()


def test_a_promise_for_a_label_that_no_row_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="promised for 'goal', which is none of interview, "):
        training.train(ROWS[:80], quick("abstention.precision={goal = 0.9}"), tmp_path, engine=ONE)
    assert list(tmp_path.iterdir()) == []


def test_rows_too_few_to_measure_make_a_version_that_says_so(tmp_path: Path) -> None:
    few = [
        {"headline": "Genk wint met 2-1", "label": "match_report"},
        {"headline": "Genk polst een spits", "label": "transfer_rumour"},
    ]
    recipe = quick("features={words = {min_df = 1}}", "evaluation.folds=50")
    saved = training.train(few, recipe, tmp_path, name="klein", engine=ONE)
    assert json.loads(saved.read("report.json"))["figures"] == {}
    assert saved.manifest["figures"] == {"split": "", "macro_f1": None, "accuracy": None}
    assert kept_outcome(saved) is None
    assert saved.scorer().score("Genk polst een spits").label == "transfer_rumour"


# Evaluating ------------------------------------------------------------------------------------


def _labelled(some: Iterable[Any]) -> list[Headline]:
    return training.read_labelled(list(some), quick())


def test_a_version_is_measured_on_rows_of_its_labels(version: Version) -> None:
    outcome, found = training.evaluate(
        version.scorer(), _labelled(rows(40, seed=5)), n_bootstrap=20
    )
    assert found.n_rows == len(outcome.truth) == 40
    lines = table(found)
    assert lines[0] == "40 rows"
    assert [line.split()[0] for line in lines if line.split()[0] in LABELS] == sorted(LABELS)
    page = evaluation_page(version, "nieuw.csv", outcome, found)
    assert page.startswith("<!doctype html>")
    assert "nieuw.csv" in page


@pytest.mark.parametrize("label", ["goal", None])
def test_a_label_that_the_model_does_not_know_is_told(version: Version, label: str | None) -> None:
    some = [*_labelled(ROWS[:4]), Headline("Genk wint", label=label)]
    known = "interview, match_report, other, transfer_rumour"
    with pytest.raises(
        BadRows, match=rf"row 5: label {label!r} is not one that the model knows \({known}\)"
    ) as caught:
        training.evaluate(version.scorer(), some)
    assert len(caught.value.faults) == 1


def test_nothing_cannot_be_evaluated_on(version: Version) -> None:
    with pytest.raises(BadRows, match="there are no rows to evaluate on"):
        training.evaluate(version.scorer(), [])
