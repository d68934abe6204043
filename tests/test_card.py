"""The model card: a header that hubs can read, the figures as measured, no empty section."""

import json
from typing import Any

import pytest

from conftest import FACTS
from invented import LABELS, ONE, quick, rows
from kopwijzer import card, training
from kopwijzer.versions import Version


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return training.train(
        rows(160),
        quick("abstention.precision=0.6"),
        tmp_path_factory.mktemp("models"),
        name="nieuws",
        engine=ONE,
    )


@pytest.fixture(scope="module")
def text(version: Version) -> str:
    return version.read("README.md").decode()


def _header(text: str) -> dict[str, Any]:
    """The front matter; each of its values is JSON, which is YAML as well."""
    assert text.startswith("---\n")
    header = text[4 : text.index("\n---\n")]
    pairs = (line.split(": ", 1) for line in header.splitlines())
    return {key: json.loads(value) for key, value in pairs}


def _sections(text: str) -> dict[str, str]:
    parts = text.split("\n## ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in parts}


def _manifest(**more: Any) -> dict[str, Any]:
    data = {"source": "rijen.csv", "n_rows": 4, "labels": {"a": 2, "b": 2}, "fingerprint": "f" * 64}
    return {
        **FACTS,
        "name": "nieuws",
        "version": 3,
        "labels": ["a", "b"],
        "abstention": {"label": "other", "thresholds": {}},
        "figures": {"split": "", "macro_f1": None, "accuracy": None},
        "data": data,
        **more,
    }


def test_the_header_names_the_model_and_its_figures(version: Version, text: str) -> None:
    header = _header(text)
    assert header["library_name"] == "kopwijzer"
    assert header["pipeline_tag"] == "text-classification"
    assert "language" not in header  # nobody said which
    (model,) = header["model-index"]
    assert model["name"] == "nieuws"
    (result,) = model["results"]
    assert result["dataset"]["name"] == "rows in memory"
    figures = version.manifest["figures"]
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {
        "f1": round(figures["macro_f1"], 4),
        "accuracy": round(figures["accuracy"], 4),
    }


def test_the_header_is_what_a_yaml_reader_takes(text: str) -> None:
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(text.split("---\n", 2)[1]) == _header(text)


@pytest.mark.parametrize("source", ['a: "b" # c.csv', "één 'map'/rijen.csv", "- x", "{y}", "---"])
def test_a_source_of_any_name_keeps_the_header_whole(source: str) -> None:
    manifest = _manifest(figures={"split": "grouped", "macro_f1": 0.5, "accuracy": 0.75})
    manifest["data"]["source"] = source
    text = card.render({**manifest, "language": "nl"}, {})
    header = _header(text)
    assert header["model-index"][0]["results"][0]["dataset"]["name"] == source
    assert header["language"] == "nl"


def test_the_figures_are_those_of_the_report(version: Version, text: str) -> None:
    report = json.loads(version.read("report.json"))
    told = _sections(text)["Figures"]
    for kind, figures in report["figures"].items():
        macro = figures["macro_f1"]
        interval = f"{macro['low']:.3f}-{macro['high']:.3f}"
        line = f"| {kind} | {macro['value']:.3f} | {interval} | {figures['n_rows']} |"
        assert line in told.splitlines()
    assert "(quote the line *leave-one-source-out*)" in told
    for label, threshold in version.manifest["abstention"]["thresholds"].items():
        assert f"`{label}` {threshold:.2f}" in told


def test_the_sections_are_there_and_full(version: Version, text: str) -> None:
    sections = _sections(text)
    assert list(sections) == ["Intended use", "Figures", "Training data", "Limits", "Loading"]
    assert all(sections.values())
    assert "\n# nieuws v1\n" in text
    assert "which of 3 kinds" in sections["Intended use"]
    for label in LABELS:
        assert f"`{label}`" in sections["Intended use"]
        assert f"`{label}` 40" in sections["Training data"]
    assert version.manifest["data"]["fingerprint"][:16] in sections["Training data"]
    assert "kopwijzer models verify nieuws@v1" in sections["Loading"]
    assert "None" not in text


def test_what_was_not_measured_has_no_section() -> None:
    reports: list[dict[str, Any]] = [{}, {"figures": {}}]
    reports.append({"figures": {"grouped": {"n_rows": 2, "macro_f1": None}}})
    for report in reports:
        text = card.render(_manifest(), report)
        sections = _sections(text)
        assert list(sections) == ["Intended use", "Training data", "Limits", "Loading"]
        assert all(sections.values())
        assert "model-index" not in _header(text)
        assert "None" not in text
        assert "\n\n\n" not in text


def test_a_figure_without_an_interval_is_told_without_one() -> None:
    figures = {"grouped": {"n_rows": 1234, "macro_f1": {"value": 0.5, "low": None, "high": None}}}
    told = card.render(_manifest(), {"figures": figures})
    assert "| grouped | 0.500 |  | 1,234 |" in told.splitlines()


def test_the_shipped_corpus_is_said_to_be_invented() -> None:
    manifest = _manifest()
    assert "invented" not in card.render(manifest, {})
    manifest["data"]["source"] = "football-nl"
    assert "the events and persons in them are invented" in card.render(manifest, {})


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("club_finance", "`club_finance`"),
        ("a`b", "``a`b``"),
        ("`x``", "``` `x`` ```"),
        ("<b>|*x*", "`<b>|*x*`"),
        ("two\nlines", "`two lines`"),
    ],
)
def test_a_label_is_no_markdown(text: str, code: str) -> None:
    assert card._code(text) == code
