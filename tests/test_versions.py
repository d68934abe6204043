"""Versions are written whole, found by name, moved by alias, and never lost or mixed up."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kopwijzer
from conftest import (
    FILES,
    PROBES,
    PROCESSES,
    ROWS,
    anything,
    fitted,
    leftovers,
    rewrite,
    save_version,
    start,
)
from kopwijzer import folders, serving, versions
from kopwijzer.errors import BadSettings, BadVersion, KopwijzerError, NoRoom, NoSuchVersion
from kopwijzer.learning import to_scorer
from kopwijzer.scorer import Scorer
from kopwijzer.versions import (
    Version,
    aliases,
    champion,
    find,
    history,
    list_versions,
    load_pipeline,
    models_folder,
    pack_scorer,
    rollback,
    set_alias,
    stamp,
    verify,
)

# Saving and loading ----------------------------------------------------------------------------


def test_a_saved_version_scores_as_before(models: Path, scorer: Scorer) -> None:
    version = find("nieuws@v1", models)
    loaded = version.scorer()
    assert loaded.decision_function(ROWS).tobytes() == scorer.decision_function(ROWS).tobytes()
    assert loaded.score_many(ROWS) == scorer.score_many(ROWS)
    assert loaded.blocks == scorer.blocks
    assert loaded.abstention == scorer.abstention
    assert pack_scorer(loaded) == pack_scorer(scorer) == version.read("scorer.npz")


def test_a_folder_holds_what_the_manifest_names(models: Path) -> None:
    version = find("nieuws@v2", models)
    names = {path.name for path in version.path.iterdir()}
    assert names == {*version.manifest["files"], "manifest.json"}
    assert names == {*FILES, "scorer.npz", "model.joblib", "probes.jsonl", "manifest.json"}
    for file, facts in version.manifest["files"].items():
        content = (version.path / file).read_bytes()
        assert facts == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        assert version.read(file) == content
    assert version.read("README.md") == FILES["README.md"]
    assert (version.name, version.number, version.ref) == ("nieuws", 2, "nieuws@v2")
    assert version.manifest["labels"] == ["match_report", "other", "quote", "transfer_rumour"]
    assert version.manifest["figures"] == {"macro_f1": 0.5}


def test_the_manifest_is_read_without_the_model(models: Path) -> None:
    for file in ("scorer.npz", "model.joblib"):
        (models / "nieuws" / "v1" / file).unlink()
    assert find("nieuws@v1", models).manifest["version"] == 1
    assert [version.ref for version in list_versions(models)] == ["nieuws@v1", "nieuws@v2"]


def test_verify_says_what_it_checked(models: Path) -> None:
    said = verify(find("nieuws", models))
    assert sorted(said[:-1]) == sorted(
        f"{file}: digest holds" for file in (*FILES, "scorer.npz", "model.joblib", "probes.jsonl")
    )
    assert said[-1].startswith("4 probes score as saved (largest gap 0.0e+00)")


def test_the_pipeline_comes_back(models: Path, pipeline: Any) -> None:
    loaded = load_pipeline(find("nieuws", models))
    assert np.array_equal(loaded.predict_proba(ROWS), pipeline.predict_proba(ROWS))
    assert "unpickles" in (load_pipeline.__doc__ or "")


def test_what_scikit_learn_contradicts_is_not_saved(
    tmp_path: Path, scorer: Scorer, pipeline: Any
) -> None:
    weights = scorer.weights
    other = Scorer(
        type(weights)(
            weights.hashes,
            weights.block_ptr,
            weights.df,
            weights.coef,
            weights.scale * 1.01,
            weights.intercept,
            weights.n_documents,
        ),
        labels=list(scorer.classes_),
        blocks=scorer.blocks,
    )
    with pytest.raises(BadVersion, match="away from scikit-learn; nothing was saved"):
        save_version(tmp_path, other, pipeline)
    assert list_versions(tmp_path) == []
    assert leftovers(tmp_path) == []


def test_what_could_not_be_loaded_is_not_saved(
    tmp_path: Path, scorer: Scorer, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kopwijzer.manifest._MAX_CELLS", 3)
    with pytest.raises(BadVersion, match="too many labels and blocks"):
        save_version(tmp_path, scorer, pipeline)
    assert list_versions(tmp_path) == []
    assert leftovers(tmp_path) == []


def test_a_failing_report_leaves_nothing(tmp_path: Path, scorer: Scorer, pipeline: Any) -> None:
    def fail(_: Any) -> Any:
        raise ZeroDivisionError("no report")

    with pytest.raises(ZeroDivisionError, match="no report"):
        versions.save(
            "nieuws",
            scorer=scorer,
            pipeline=pipeline,
            probes=PROBES,
            facts={"settings": {}},
            files=fail,
            models=tmp_path,
        )
    assert list_versions(tmp_path) == []
    assert leftovers(tmp_path) == []


def test_two_labels_are_saved_and_loaded(tmp_path: Path) -> None:
    rows = [row for row in ROWS if row["label"] in ("quote", "other")]
    pipeline = fitted(rows, [row["label"] for row in rows])
    version = save_version(tmp_path, to_scorer(pipeline), pipeline)
    verify(version)
    again = load_pipeline(version).predict_proba(rows)
    assert np.abs(version.scorer().predict_proba(rows) - again).max() <= 1e-9


# References ------------------------------------------------------------------------------------


def test_references(models: Path, scorer: Scorer, pipeline: Any) -> None:
    save_version(models, scorer, pipeline)
    set_alias("nieuws@v2", "proef", models)
    meant = {
        "nieuws": 1,
        "nieuws@champion": 1,
        "nieuws@latest": 3,
        "nieuws@v2": 2,
        "nieuws@proef": 2,
        "nieuws@": 1,
    }
    assert {ref: find(ref, models).number for ref in meant} == meant
    assert aliases(models, "nieuws") == {"champion": "v1", "proef": "v2"}
    found = champion(models, "nieuws")
    assert found is not None
    assert found.number == 1
    assert champion(models, "sport") is None


def test_latest_is_the_largest_number(models: Path) -> None:
    for number in (10, 9, 100):
        shutil.copytree(models / "nieuws" / "v2", models / "nieuws" / f"v{number}")
    with pytest.raises(BadVersion, match=r"v100/manifest\.json: belongs to nieuws@v2; put"):
        find("nieuws@latest", models)


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("nieuws@v3", "no version 'nieuws@v3' in .*; there are v1, v2, champion"),
        ("nieuws@proef", "no version 'nieuws@proef'"),
        ("nieuws@v0", "no version 'nieuws@v0'"),
        ("nieuws@v01", "no version 'nieuws@v01'"),
        ("nieuws@v9999999999", "no version"),
        ("sport", "no model 'sport' in .*; there are nieuws"),
    ],
)
def test_absent_versions_are_said_with_what_there_is(models: Path, ref: str, said: str) -> None:
    with pytest.raises(NoSuchVersion, match=said):
        find(ref, models)


def test_an_absent_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(NoSuchVersion, match=r"no models in .*: train one with"):
            find("nieuws", folder)
        assert list_versions(folder) == []
        assert aliases(folder, "nieuws") == {}
        assert history(folder, "nieuws") == []


BAD_NAMES = [
    "",
    ".",
    "..",
    "../nieuws",
    "/etc",
    "a/b",
    "a\\b",
    "nieuws\0",
    "nieuws\n",
    "Nieuws",
    "niéuws",
    "nieuws‮",
    "ｎieuws",
    "a..b",
    "-a",
    "a-",
    ".a",
    "a" * 65,
    "con fig",
    "a*",
    "٣",
    "\ud800",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused_everywhere(
    models: Path, scorer: Scorer, pipeline: Any, name: str
) -> None:
    before = sorted(str(path) for path in models.parent.rglob("*"))
    calls: list[Callable[[], Any]] = [
        lambda: find(name, models),
        lambda: find(f"{name}@v1", models),
        lambda: list_versions(models, name or "/"),
        lambda: aliases(models, name),
        lambda: champion(models, name),
        lambda: history(models, name),
        lambda: stamp(name, models),
        lambda: rollback(name, models),
        lambda: set_alias("nieuws@v1", name, models),
        lambda: save_version(models, scorer, pipeline, name),
        lambda: kopwijzer.load(name, models),
        lambda: kopwijzer.score("x", ref=name, models=models),
    ]
    if name:  # without one, the champion is meant
        calls.append(lambda: find(f"nieuws@{name}", models))
        calls.append(lambda: stamp(f"nieuws@{name}", models))
    for call in calls:
        with pytest.raises(BadSettings, match=r"is no (model name|alias): use 1 to 64 lower-case"):
            call()
    assert sorted(str(path) for path in models.parent.rglob("*")) == before


@given(st.one_of(anything, st.text("abv@/.0123456789-_", max_size=12)))
@settings(max_examples=300)
def test_any_reference_finds_or_is_refused(shelf: Path, ref: str) -> None:
    with contextlib.suppress(BadSettings, NoSuchVersion):
        assert find(ref, shelf).name == "nieuws"


@pytest.mark.parametrize("name", ["a", "0", "a.b", "a_b-c", "a" * 64, "v1", "latest", "champion"])
def test_good_names_are_taken(tmp_path: Path, scorer: Scorer, pipeline: Any, name: str) -> None:
    assert save_version(tmp_path, scorer, pipeline, name).ref == f"{name}@v1"
    assert [version.name for version in list_versions(tmp_path)] == [name]
    assert find(name, tmp_path).number == 1


def test_where_the_models_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KOPWIJZER_MODELS", raising=False)
    assert models_folder() == Path("models")
    monkeypatch.setenv("KOPWIJZER_MODELS", "elsewhere")
    assert models_folder() == Path("elsewhere")
    assert models_folder("here") == Path("here")


def test_other_things_in_the_folder_are_no_models(models: Path) -> None:
    (models / "notes.txt").write_text("x")
    (models / "Sport").mkdir()
    (models / "leeg").mkdir()
    (models / "nieuws" / "v2-old").mkdir()
    (models / "nieuws" / "v007").mkdir()
    assert [version.ref for version in list_versions(models)] == ["nieuws@v1", "nieuws@v2"]


# Aliases and the log ---------------------------------------------------------------------------


def test_an_alias_moves_and_the_log_tells(models: Path) -> None:
    assert set_alias("nieuws@v2", "champion", models, note="better").number == 2
    assert find("nieuws", models).number == 2
    assert set_alias("nieuws@champion", "vorige", models).number == 2
    told = [
        (entry["event"], entry["version"], entry.get("alias"), entry.get("note"))
        for entry in history(models, "nieuws")
    ]
    assert told == [
        ("saved", "v1", None, None),
        ("alias", "v1", "champion", "the first version"),
        ("saved", "v2", None, None),
        ("alias", "v2", "champion", "better"),
        ("alias", "v2", "vorige", ""),
    ]
    times = [entry["time"] for entry in history(models, "nieuws")]
    assert times == sorted(times)
    assert all(entry["who"] for entry in history(models, "nieuws"))


@pytest.mark.parametrize("alias", ["latest", "v3", "v1"])
def test_computed_aliases_cannot_be_set(models: Path, alias: str) -> None:
    with pytest.raises(BadSettings, match=f"'{alias}' is computed and cannot be set"):
        set_alias("nieuws@v1", alias, models)


def test_an_alias_of_nothing_cannot_be_set(models: Path) -> None:
    with pytest.raises(NoSuchVersion, match="no version 'nieuws@v7'"):
        set_alias("nieuws@v7", "champion", models)
    assert find("nieuws", models).number == 1


def test_rolling_back(models: Path, scorer: Scorer, pipeline: Any) -> None:
    save_version(models, scorer, pipeline)
    for number in (2, 3, 3):
        set_alias(f"nieuws@v{number}", "champion", models)
    assert rollback("nieuws", models).number == 2
    assert find("nieuws", models).number == 2
    assert rollback("nieuws", models).number == 1
    with pytest.raises(NoSuchVersion, match="the log knows no earlier version to go back to"):
        rollback("nieuws", models)
    assert find("nieuws", models).number == 1
    set_alias("nieuws@v3", "champion", models)
    assert rollback("nieuws", models).number == 1
    assert [entry["event"] for entry in history(models, "nieuws")].count("rollback") == 3
    with pytest.raises(NoSuchVersion, match="nieuws@proef: the log knows no earlier"):
        rollback("nieuws", models, "proef")


@given(st.lists(st.one_of(st.integers(1, 3), st.none()), max_size=8))
@settings(max_examples=25)
def test_rolling_back_is_undoing_the_last_move(
    tmp_path_factory: pytest.TempPathFactory, shelf: Path, moves: list[int | None]
) -> None:
    models = tmp_path_factory.mktemp("moves") / "models"
    shutil.copytree(shelf, models)
    shutil.copytree(models / "nieuws" / "v2", models / "nieuws" / "v3")
    rewrite(models / "nieuws" / "v3", lambda manifest: manifest.update(version=3))
    stack = [1]
    for move in moves:
        if move is None:
            try:
                rollback("nieuws", models)
            except NoSuchVersion:
                assert len(stack) == 1
            else:
                stack.pop()
        else:
            set_alias(f"nieuws@v{move}", "champion", models)
            stack += [move] if stack[-1] != move else []
        assert find("nieuws", models).number == stack[-1]


def test_rolling_back_to_a_damaged_version_is_refused(models: Path) -> None:
    set_alias("nieuws@v2", "champion", models)
    with (models / "nieuws" / "v1" / "manifest.json").open("r+b") as file:
        file.write(b"[")
    with pytest.raises(BadVersion, match=r"v1/manifest\.json: is damaged"):
        rollback("nieuws", models)
    assert find("nieuws", models).number == 2


def test_a_torn_last_line_is_dropped_and_the_rest_kept(models: Path) -> None:
    log = models / "nieuws" / "log.jsonl"
    whole = log.read_bytes()
    for torn in (b'{"time": "20', b'{"event": "alias"}', b"\xff\xff", b"\0\0\0"):
        log.write_bytes(whole + torn)
        set_alias("nieuws@v1", "proef", models)
        assert log.read_bytes().startswith(whole)
        assert log.read_bytes().endswith(b"\n")
        assert json.loads(log.read_bytes()[len(whole) :].splitlines()[-1])["alias"] == "proef"
        log.write_bytes(whole)


def test_lines_that_are_no_entries_are_passed_over(models: Path) -> None:
    log = models / "nieuws" / "log.jsonl"
    junk = [b"", b"[1]", b"\xff", b"[" * 100_000, b'"x"', b'{"event": {}}', b"9" * 10_000]
    log.write_bytes(log.read_bytes() + b"\n".join(junk) + b"\n")
    assert len(history(models, "nieuws")) == 4
    set_alias("nieuws@v2", "champion", models)
    assert rollback("nieuws", models).number == 1


def test_unlogged_moves_are_logged_by_the_next(models: Path) -> None:
    (models / "nieuws" / "aliases" / "champion").write_text("v2\n")
    shutil.copytree(models / "nieuws", models / "sport")
    (models / "sport" / "log.jsonl").unlink()
    set_alias("nieuws@v2", "proef", models)
    told = [(e["event"], e.get("alias"), e["version"]) for e in history(models, "nieuws")[3:]]
    assert told == [("alias", "champion", "v2"), ("alias", "proef", "v2")]
    assert rollback("nieuws", models).number == 1


def test_the_first_version_becomes_champion_even_late(
    models: Path, scorer: Scorer, pipeline: Any
) -> None:
    # As after a crash between the first version and its alias.
    shutil.rmtree(models / "nieuws" / "aliases")
    (models / "nieuws" / "log.jsonl").unlink()
    assert champion(models, "nieuws") is None
    save_version(models, scorer, pipeline)
    assert find("nieuws", models).number == 1
    told = [(entry["event"], entry["version"]) for entry in history(models, "nieuws")]
    assert told == [("saved", "v1"), ("saved", "v2"), ("saved", "v3"), ("alias", "v1")]


# Two at once -----------------------------------------------------------------------------------


def _save_when(gate: Any, models: Path, scorer: Scorer, pipeline: Any) -> None:
    gate.wait()
    save_version(models, scorer, pipeline)


def test_two_savers_at_once_get_two_numbers(tmp_path: Path, scorer: Scorer, pipeline: Any) -> None:
    gate = PROCESSES.Barrier(2)
    savers = [start(_save_when, gate, tmp_path, scorer, pipeline) for _ in "ab"]
    for saver in savers:
        saver.join(60)
        assert saver.exitcode == 0
    assert [version.number for version in list_versions(tmp_path)] == [1, 2]
    assert sorted(e["version"] for e in history(tmp_path, "nieuws") if e["event"] == "saved") == [
        "v1",
        "v2",
    ]
    assert find("nieuws", tmp_path).number == 1
    assert leftovers(tmp_path) == []
    for version in list_versions(tmp_path):
        verify(version)


def test_a_number_that_was_taken_meanwhile_is_passed_over(
    models: Path, scorer: Scorer, pipeline: Any
) -> None:
    seen = []

    def files(manifest: Any) -> dict[str, bytes]:
        seen.append(manifest["version"])
        if len(seen) == 1:
            save_version(models, scorer, pipeline)
        return {"README.md": f"v{manifest['version']}".encode()}

    version = versions.save(
        "nieuws",
        scorer=scorer,
        pipeline=pipeline,
        probes=PROBES,
        facts={"settings": {}},
        files=files,
        models=models,
    )
    assert seen == [3, 4]
    assert version.number == 4
    assert version.read("README.md") == b"v4"
    verify(version)


def test_there_is_a_last_number(models: Path, scorer: Scorer, pipeline: Any) -> None:
    (models / "nieuws" / "v999999999").mkdir()
    with pytest.raises(NoRoom, match="v999999999 is the last number there is"):
        save_version(models, scorer, pipeline)


def test_leftovers_of_the_dead_are_swept_and_of_the_living_kept(
    models: Path, scorer: Scorer, pipeline: Any
) -> None:
    folder = models / "nieuws"
    (folder / ".writing-dead").mkdir()
    (folder / ".writing-dead" / "scorer.npz").write_bytes(b"half")
    (folder / ".writing-dead.lock").touch()
    (folder / ".writing-123-abc").mkdir()
    (folder / ".writing-lone.lock").touch()
    (folder / ".moving-dead").touch()
    with folders.workplace(folder) as alive:
        (alive / "x").touch()
        save_version(models, scorer, pipeline)
        assert (alive / "x").exists()
        assert leftovers(models) == [alive.name, f"{alive.name}.lock"]
    assert leftovers(models) == []


# Folders that cannot be written ----------------------------------------------------------------


def test_a_file_system_without_locks_is_said(
    models: Path, scorer: Scorer, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    before = sorted(path.name for path in (models / "nieuws").rglob("*"))
    monkeypatch.setattr(fcntl, "flock", no_locks)
    calls: list[Callable[[], Any]] = [
        lambda: save_version(models, scorer, pipeline),
        lambda: set_alias("nieuws@v2", "champion", models),
        lambda: rollback("nieuws", models),
    ]
    for call in calls:
        with pytest.raises(NoRoom, match=r"cannot lock files \(No locks available\); keep models"):
            call()
    assert find("nieuws", models).number == 1
    assert {path.name for path in (models / "nieuws").rglob("*")} == {*before, ".lock"}


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT])
def test_a_folder_that_cannot_be_written_is_said(
    models: Path,
    scorer: Scorer,
    pipeline: Any,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    real = os.open

    def no_writing(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, flags, *rest, **named)

    def no_folder(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "open", no_writing)
    monkeypatch.setattr(os, "mkdir", no_folder)
    calls: list[Callable[[], Any]] = [
        lambda: save_version(models, scorer, pipeline),
        lambda: save_version(models / "elsewhere", scorer, pipeline),
        lambda: set_alias("nieuws@v2", "champion", models),
        lambda: rollback("nieuws", models),
    ]
    for call in calls:
        with pytest.raises(
            NoRoom, match=rf"cannot be written \({os.strerror(number)}\); make room"
        ):
            call()
    monkeypatch.undo()
    assert leftovers(models) == []
    for version in list_versions(models):
        verify(version)


def test_a_file_in_the_way_is_said(tmp_path: Path, scorer: Scorer, pipeline: Any) -> None:
    (tmp_path / "nieuws").touch()
    with pytest.raises(NoRoom, match="nieuws: cannot be written"):
        save_version(tmp_path, scorer, pipeline)


def test_saved_files_can_be_read_by_others(tmp_path: Path, scorer: Scorer, pipeline: Any) -> None:
    old = os.umask(0o022)
    try:
        version = save_version(tmp_path, scorer, pipeline)
    finally:
        os.umask(old)
    for path in (version.path, *version.path.iterdir(), tmp_path / "nieuws" / "log.jsonl"):
        assert path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)


# Serving ---------------------------------------------------------------------------------------


def test_score_follows_the_alias(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    real = serving.load

    def load(ref: str, where: Any) -> Scorer:
        loaded.append(find(ref, where).number)
        return real(ref, where)

    monkeypatch.setattr(serving, "load", load)
    text = ROWS[0]["headline"]
    said = {kopwijzer.score(text, ref="nieuws", models=models).confidence for _ in range(3)}
    assert len(said) == 1
    assert loaded == [1]
    set_alias("nieuws@v2", "champion", models)
    for _ in range(3):
        kopwijzer.score(text, ref="nieuws", models=models)
    assert loaded == [1, 2]


def test_score_follows_the_latest(models: Path, scorer: Scorer, pipeline: Any) -> None:
    kopwijzer.score("x", ref="nieuws@latest", models=models)
    first = serving._loaded["nieuws@latest", str(models)][1]
    save_version(models, scorer, pipeline)
    kopwijzer.score("x", ref="nieuws@latest", models=models)
    assert serving._loaded["nieuws@latest", str(models)][1] is not first


def test_few_models_are_kept(models: Path) -> None:
    for number in range(9):
        set_alias("nieuws@v1", f"a{number}", models)
        kopwijzer.score("x", ref=f"nieuws@a{number}", models=models)
    assert len(serving._loaded) <= 4
    assert ("nieuws@a8", str(models)) in serving._loaded


def test_a_model_that_went_is_no_longer_served(models: Path) -> None:
    kopwijzer.score("x", ref="nieuws", models=models)
    shutil.rmtree(models)
    with pytest.raises(KopwijzerError, match="no models in"):
        kopwijzer.score("x", ref="nieuws", models=models)


def test_a_version_is_a_value(models: Path) -> None:
    one, other = find("nieuws", models), find("nieuws@v1", models)
    assert one == other
    assert isinstance(one, Version)
    with pytest.raises(AttributeError, match="cannot assign"):
        one.path = models  # type: ignore[misc]
