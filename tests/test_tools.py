"""The examples of docs/scale.md, each run as it stands there."""

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from kopwijzer import Scorer

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
SECTIONS = {
    title.strip(): code
    for title, code in re.findall(
        r"^### (.+?)\n.*?```python\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.S | re.M
    )
}


def run(title: str, scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the example leaves behind, with the tiny model in place of the shipped one."""
    monkeypatch.setattr("kopwijzer.load", lambda ref: scorer, raising=False)
    found: dict[str, Any] = {}
    exec(SECTIONS[title], found)  # noqa: S102  # our own page
    return found


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: its example is not run")


def test_the_page_has_the_examples() -> None:
    assert list(SECTIONS) == ["datasets", "Dask DataFrame", "Ray Data", "Spark"]


@pytest.mark.filterwarnings("ignore")
def test_datasets(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run("datasets", scorer, monkeypatch)["rows"]
    assert rows[0]["label"] == scorer.score("Genk wint met 2-1 van Gent").label


@pytest.mark.filterwarnings("ignore")
def test_dask(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("dask")
    needs("pandas")
    import dask

    # A client of another test may have left word that a cluster is to be used.
    with dask.config.set(scheduler="synchronous"):
        labels = run("Dask DataFrame", scorer, monkeypatch)["labels"]
    assert list(labels["label"]) == [scorer.score("Genk wint met 2-1 van Gent").label]


def same(rows: list[Any], headlines: list[str], scorer: Scorer) -> None:
    """Every headline is there as often as it was given, with the label it gets in one process."""
    alone = [(h, scorer.score(h).label) for h in headlines]
    assert sorted(((row["headline"], row["label"]) for row in rows), key=str) == sorted(
        alone, key=str
    )


@pytest.mark.filterwarnings("ignore")
def test_ray(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("ray")
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        found = run("Ray Data", scorer, monkeypatch)
        same(found["labels"], found["headlines"], scorer)
    finally:
        ray.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_spark(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("pyspark")
    if shutil.which("java") is None:
        pytest.skip("Java is not installed: the Spark example is not run")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    found = run("Spark", scorer, monkeypatch)
    try:
        assert found["scored"].rdd.getNumPartitions() == 2
        same(found["labels"], found["headlines"], scorer)
        for row in found["labels"]:
            assert row["confidence"] == scorer.score(row["headline"]).confidence
    finally:
        found["spark"].stop()
