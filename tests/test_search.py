"""Search: the same best settings on every engine, and it goes on where it was killed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROWS
from kopwijzer.engines import Engine
from kopwijzer.errors import BadRows, BadSettings, NoRoom
from kopwijzer.search import Found, Plan, Trial, search
from kopwijzer.settings import Settings, shipped

RECIPE = Settings.read(
    changes=[
        *("learning.epochs=3", "features.characters.ngrams=[2, 3]"),
        *("features.words.min_df=1", "features.headline.min_df=1"),
    ]
)
PLAN = Plan.model_validate(
    {
        "search": {"n_candidates": 4, "factor": 2, "folds": 2, "min_share": 0.4},
        "space": {
            "learning.C": {"low": 0.01, "high": 10, "log": True},
            "learning.balance": {"low": 0, "high": 1},
            "learning.epochs": {"low": 1, "high": 4, "integer": True},
            "features.words.ngrams": [[1, 1], [1, 2]],
        },
    }
)
HERE = Engine("threading", 1)


def run(plan: Plan = PLAN, rows: Any = ROWS, **options: Any) -> Found:
    return search(rows, plan, RECIPE, **{"engine": HERE} | options)


@pytest.fixture(scope="module")
def found() -> Found:
    return run()


# What is tried ---------------------------------------------------------------------------------


def test_the_recipe_itself_is_the_first_candidate_and_draws_repeat() -> None:
    drawn = PLAN.draw()
    assert (len(drawn), drawn[0]) == (5, {})
    assert drawn == PLAN.draw()
    other = PLAN.model_copy(update={"search": PLAN.search.model_copy(update={"seed": 1})})
    assert drawn[1:] != other.draw()[1:]
    for changes in drawn[1:]:
        assert list(changes) == list(PLAN.space)
        assert 0.01 <= changes["learning.C"] <= 10
        assert 0 <= changes["learning.balance"] <= 1
        assert changes["learning.epochs"] in (1, 2, 3, 4)
        assert changes["features.words.ngrams"] in ([1, 1], [1, 2])
    assert Plan().draw() == [{}]


def test_the_shipped_plan_is_for_the_shipped_recipe() -> None:
    plan = Plan.read(shipped("configs") / "search.toml")
    assert len(plan.draw()) == 28


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[serach]\n", "plan.toml: serach: extra inputs are not permitted"),
        ("[search]\nfolds = 1\n", "plan.toml: search.folds: input should be greater than or"),
        ('[search]\nmetric = "f2"\n', "plan.toml: search.metric: input should be 'macro_f1' or"),
        ('[space]\n"a" = []\n', "plan.toml: space.a: .*at least 1 item"),
        ('[space]\n"a" = 3\n', "plan.toml: space.a: "),
        ('[space]\n"a" = {low = 2, high = 1}\n', "plan.toml: space.a: low is above high"),
        ('[space]\n"a" = {low = 0, high = 1, log = true}\n', "plan.toml: space.a: a range that is"),
        ('[space]\n"a" = {low = 0, high = inf}\n', "plan.toml: space.a: input should be a finite"),
        ("x = [\n", "plan.toml: is not a TOML file: "),
        (None, "plan.toml: cannot be read .No such file"),
    ],
)
def test_a_plan_that_is_wrong_is_told(tmp_path: Path, text: str | None, sentence: str) -> None:
    if text is not None:
        (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(BadSettings, match=sentence):
        Plan.read(tmp_path / "plan.toml")


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({"learning.c": [1]}, "space: unknown key 'learning.c'; did you mean 'C'"),
        ({"learning.C": [-1]}, "space: learning.C = -1: input should be greater than 0"),
        ({"learning.C.x": [1]}, "space: 'learning.C.x': 'C' is a value and holds no keys"),
        ({"zzz": [1]}, "space: unknown key 'zzz'"),
    ],
)
def test_a_space_of_unknown_settings_is_told_before_any_work(
    tmp_path: Path, space: dict[str, list[Any]], sentence: str
) -> None:
    plan = Plan.model_validate({"search": {"n_candidates": 1}, "space": space})
    with pytest.raises(BadSettings, match=sentence):
        run(plan, state=tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_rows_that_allow_no_search_are_told() -> None:
    with pytest.raises(BadRows, match="two or more are needed"):
        run(rows=[{"headline": str(n), "label": "a"} for n in range(9)])
    with pytest.raises(BadSettings, match="too few rows or labels to search on; give more"):
        run(rows=[{"headline": "Genk wint", "label": "a"}, {"headline": "Bos kiest", "label": "b"}])


def test_a_label_of_one_row_does_not_stop_a_search() -> None:
    rows = [*ROWS[:60], {"headline": "Heel iets anders", "label": "rare"}, *ROWS[100:]]
    small = Plan.model_validate({"search": {"n_candidates": 1, "folds": 3, "min_share": 0.2}})
    assert run(small, rows).changes == {}


# What is found ---------------------------------------------------------------------------------


def test_each_round_keeps_the_best_on_more_rows(found: Found) -> None:
    rounds = sorted({trial.round for trial in found.trials})
    sizes = [[t for t in found.trials if t.round == r] for r in rounds]
    assert [len(own) for own in sizes] == [5, 3, 2, 1]
    assert [own[0].share for own in sizes] == sorted(own[0].share for own in sizes)
    assert sizes[-1][0].share == 1.0
    assert sizes[-1][0].n_rows == len(ROWS)
    for before, after in pairwise(sizes):
        best = sorted(before, key=lambda t: (-t.score, t.number))[: len(after)]
        assert {t.number for t in after} == {t.number for t in best}
    winner = sizes[-1][0]
    assert found.changes == winner.changes == PLAN.draw()[winner.number]
    for path, value in found.changes.items():
        section, *keys = path.split(".")
        told: Any = found.settings.model_dump(mode="json")[section]
        for key in keys:
            told = told[key]
        assert told == value


def test_what_was_found_is_told(found: Found) -> None:
    history = found.history()
    assert json.loads(json.dumps(history)) == history
    assert [Trial(**trial) for trial in history["trials"]] == list(found.trials)
    table = found.table().splitlines()
    assert table[0].split() == ["round", "share", "score", "changes"]
    assert table[1].split()[:2] == ["3", "1.00"]
    assert len(table) == 1 + 1 + 2 + 3 + 3


@pytest.mark.parametrize("engine", [Engine("threading", 2), Engine("loky", 1), Engine("loky", 2)])
def test_every_engine_finds_the_same(found: Found, engine: Engine) -> None:
    assert run(engine=engine) == found


def test_the_other_metric_and_whole_sources() -> None:
    plan = PLAN.model_copy(update={"search": PLAN.search.model_copy(update={"metric": "log_loss"})})
    rows = [{**row, "source": f"beat {n % 6}"} for n, row in enumerate(ROWS)]
    scores = [trial.score for trial in run(plan, rows).trials]
    assert all(score < 0 for score in scores)
    assert np.isfinite(scores).all()


# State -----------------------------------------------------------------------------------------


def _state(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_what_is_measured_is_not_measured_again(
    tmp_path: Path, found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "sub" / "state.jsonl"
    told: list[tuple[str, int, int]] = []
    assert run(state=state) == found
    lines = _state(state)
    assert [Trial(**line) for line in lines[1:]] == list(found.trials)
    assert run(state=state, progress=lambda *said: told.append(said)) == found
    assert told == []
    monkeypatch.setattr("kopwijzer.learning.fold_calls", None)
    with pytest.raises(TypeError):
        run(state=tmp_path / "other")
    whole = state.read_bytes()
    cuts = [0, 1, 50, len(whole.splitlines(keepends=True)[0]) - 1]
    monkeypatch.undo()
    middle = whole.index(b'"round": 1')
    for cut in [*cuts, middle, middle + 20, len(whole) - 1]:
        state.write_bytes(whole[:cut])
        assert run(state=state) == found
        assert state.read_bytes() == whole


def _other(changes: Sequence[str]) -> Settings:
    return Settings.read(changes=changes)


def test_the_state_of_another_search_is_refused_and_kept(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    small = Plan.model_validate({"search": {"n_candidates": 1, "folds": 2}})
    run(small, state=state)
    whole = state.read_bytes()
    seeded = Plan.model_validate({"search": {"n_candidates": 1, "folds": 2, "seed": 1}})
    cases: list[tuple[Plan, Any, Settings]] = [
        (seeded, ROWS, RECIPE),
        (small, ROWS[:-1], RECIPE),
        (small, ROWS, _other(["learning.C=1"])),
    ]
    for plan, rows, recipe in cases:
        with pytest.raises(BadSettings, match=r"state.jsonl: belongs to another search .*--state"):
            search(rows, plan, recipe, state=state, engine=HERE)
    assert state.read_bytes() == whole


@pytest.mark.parametrize(
    "content",
    [
        b"een eigen bestand",
        b"een eigen bestand\n",
        b'{"headline": "a"}\n{"headline": "b"}',
        b"[1]\n",
        b"\xff\xfe\n",
        b'{"search": "x"',
    ],
)
def test_a_file_that_is_no_state_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "state.jsonl"
    state.write_bytes(content)
    with pytest.raises(BadSettings, match=r"state.jsonl: is no file of a search; name another"):
        run(state=state)
    assert state.read_bytes() == content


def test_a_state_with_lines_that_are_none_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    small = Plan.model_validate({"search": {"n_candidates": 1, "folds": 2}})
    run(small, state=state)
    first = state.read_bytes().splitlines(keepends=True)[0]
    for line in (b'{"number": 1}\n', b"3\n", b"x\n"):
        state.write_bytes(first + line)
        with pytest.raises(BadSettings, match="is no file of a search"):
            run(small, state=state)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for state in (tmp_path, tmp_path / "file" / "state"):
        with pytest.raises(NoRoom, match=r"cannot be used \((Is a directory|File exists)\)"):
            run(state=state)


_CHILD = """
import json, sys, time
from kopwijzer import learning, search
from kopwijzer.engines import Engine
from test_search import PLAN, RECIPE, ROWS
add = search._State.add
def slowly(self, trial):
    add(self, trial)
    time.sleep(0.3)
search._State.add = slowly
search.search(ROWS, PLAN, RECIPE, state=sys.argv[1], engine=Engine("threading", 1))
"""


def test_a_killed_search_goes_on_where_it_was(tmp_path: Path, found: Found) -> None:
    state = tmp_path / "state.jsonl"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(state)], env={**os.environ, "PYTHONPATH": path}
    ) as child:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and child.poll() is None:
            if state.exists() and state.read_bytes().count(b"\n") >= 4:
                break
            time.sleep(0.01)
        child.kill()
    kept = _state(state)
    assert 4 <= len(kept) < 11
    told: list[tuple[str, int, int]] = []
    assert run(state=state, progress=lambda *said: told.append(said)) == found
    assert _state(state)[: len(kept)] == kept
    measured = sum(done == of for _, done, of in told if of)
    assert measured <= 4
