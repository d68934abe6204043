"""Serving: one call, the model that a reference means now, and errors that say what is wrong."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conftest import ROWS, save_version
from kopwijzer import serving, versions
from kopwijzer.errors import BadSettings, BadVersion, NoSuchVersion
from kopwijzer.scorer import Abstention, Scorer

HEADLINE, TEASER = "Genk wint met 3-1 van Ajax", "Bos scoort twee keer."


@pytest.fixture(autouse=True)
def _nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_loaded", {})


@pytest.fixture
def silent(models: Path, scorer: Scorer, pipeline: Any) -> Path:
    """The models folder with nieuws@v3, which never says that a match was won."""
    rule = Abstention("other", {"match_report": 1.01})
    save_version(models, scorer.with_abstention(rule), pipeline)
    return models


def _label(models: Path, ref: str = "nieuws") -> str:
    return serving.score(HEADLINE, TEASER, ref=ref, models=models).label


def test_score_is_the_scorer_of_the_reference(models: Path) -> None:
    scorer = serving.load("nieuws@v1", models)
    for row in ROWS[::9]:
        found = serving.score(row["headline"], row["teaser"], ref="nieuws@v1", models=models)
        assert found == scorer.score(row["headline"], row["teaser"])
    bare = serving.score(HEADLINE, ref="nieuws@v1", models=models)
    assert bare == scorer.score(HEADLINE)


def test_score_follows_an_alias(silent: Path) -> None:
    assert _label(silent) == "match_report"
    versions.set_alias("nieuws@v3", "champion", silent)
    assert _label(silent) == "other"
    versions.rollback("nieuws", silent)
    assert _label(silent) == "match_report"
    assert _label(silent, "nieuws@v3") == "other"


def test_score_follows_the_latest(models: Path, scorer: Scorer, pipeline: Any) -> None:
    assert _label(models, "nieuws@latest") == "match_report"
    rule = Abstention("other", {"match_report": 1.01})
    save_version(models, scorer.with_abstention(rule), pipeline)
    assert _label(models, "nieuws@latest") == "other"
    shutil.rmtree(models / "nieuws" / "v3")
    assert _label(models, "nieuws@latest") == "match_report"


def test_a_model_is_loaded_once(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    load = serving.load

    def counted(ref: str, folder: Any) -> Scorer:
        loads.append(ref)
        return load(ref, folder)

    monkeypatch.setattr(serving, "load", counted)
    for _ in range(5):
        _label(models)
        _label(models, "nieuws@v2")
    assert loads == ["nieuws", "nieuws@v2"]


def test_only_a_few_models_stay_in_memory(models: Path) -> None:
    for alias in ("a", "b", "c", "d", "e", "f"):
        versions.set_alias("nieuws@v1", alias, models)
        assert _label(models, f"nieuws@{alias}") == "match_report"
    assert [ref for ref, _ in serving._loaded] == [f"nieuws@{x}" for x in "cdef"]


def test_many_threads_get_the_same_answer(silent: Path) -> None:
    refs = ["nieuws@v1", "nieuws@v3"] * 50
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda ref: _label(silent, ref), refs))
    assert found == ["match_report", "other"] * 50


def test_the_folder_is_the_argument_else_the_environment_else_models_here(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOPWIJZER_MODELS", str(tmp_path / "none"))
    assert _label(models) == "match_report"
    with pytest.raises(NoSuchVersion, match=r"no models in .*none"):
        serving.score(HEADLINE, ref="nieuws")
    monkeypatch.setenv("KOPWIJZER_MODELS", str(models))
    assert serving.score(HEADLINE, ref="nieuws").label == "match_report"
    monkeypatch.delenv("KOPWIJZER_MODELS")
    monkeypatch.chdir(models.parent)
    assert serving.score(HEADLINE, ref="nieuws").label == "match_report"
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(NoSuchVersion, match="no models in models"):
        serving.load("nieuws")


@pytest.mark.parametrize(
    ("ref", "kind", "sentence"),
    [
        ("nope", NoSuchVersion, "no model 'nope' in .*; there are nieuws"),
        ("nieuws@v9", NoSuchVersion, "no version 'nieuws@v9' in "),
        ("nieuws@spits", NoSuchVersion, "no version 'nieuws@spits' in "),
        ("../nieuws", BadSettings, "'../nieuws' is no model name"),
        ("", BadSettings, "'' is no model name"),
    ],
)
def test_a_reference_that_means_nothing(
    models: Path, ref: str, kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        serving.load(ref, models)
    with pytest.raises(kind, match=sentence):
        serving.score(HEADLINE, ref=ref, models=models)
    assert serving._loaded == {}


def test_a_damaged_model_is_not_served(models: Path) -> None:
    path = models / "nieuws" / "v1" / "scorer.npz"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BadVersion, match=r"scorer\.npz"):
        _label(models)
    path.write_bytes(content)
    assert _label(models) == "match_report"  # what failed was not kept


def test_a_model_that_is_gone_is_not_served_from_memory(models: Path) -> None:
    assert _label(models) == "match_report"
    (models / "nieuws" / "aliases" / "champion").unlink()
    with pytest.raises(NoSuchVersion, match="nieuws"):
        _label(models)
