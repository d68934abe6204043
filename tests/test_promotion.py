"""Promotion: two versions on the same rows, and that no label gets worse unnoticed."""

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import save_version
from invented import LABELS, ONE, quick, rows
from kopwijzer import cli, promotion, training, versions
from kopwijzer.errors import BadRows, NotBetter
from kopwijzer.headlines import Headline
from kopwijzer.report import kept_outcome
from kopwijzer.scorer import Scorer

ROWS = rows(240)


def _shuffled() -> list[Any]:
    labels = [row["label"] for row in ROWS]
    random.Random(1).shuffle(labels)  # noqa: S311  # the same every time
    return [{**row, "label": label} for row, label in zip(ROWS, labels, strict=True)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nieuws@v1 (champion), @v2 of another seed, @v3 of shuffled labels, @v4 of other rows."""
    folder = tmp_path_factory.mktemp("models")
    for data, recipe in (
        (ROWS[:160], quick()),
        (ROWS[80:], quick("learning.seed=1")),
        (_shuffled(), quick()),
        (rows(80, seed=9), quick()),
    ):
        training.train(data, recipe, folder, name="nieuws", engine=ONE)
    return folder


@pytest.fixture
def models(trained: Path, tmp_path: Path) -> Path:
    """A copy of one's own."""
    return Path(shutil.copytree(trained, tmp_path / "models"))


@pytest.fixture(scope="module")
def unseen() -> list[Headline]:
    """Rows in the same words that no version was trained on."""
    return training.read_labelled(rows(400)[240:], quick())


def _champion(models: Path) -> int:
    found = versions.champion(models, "nieuws")
    assert found is not None
    return found.number


# Comparing -------------------------------------------------------------------------------------


def test_without_rows_the_common_training_rows_are_compared_out_of_fold(trained: Path) -> None:
    a, b = (versions.find(f"nieuws@v{number}", trained) for number in (1, 2))
    verdict = promotion.compare(a, b)
    assert verdict.comparison.n_rows == 80
    common = {row["headline"] for row in ROWS[80:160]}
    assert {flip.headline for flip in verdict.comparison.flips} <= common
    kept = [kept_outcome(version) for version in (a, b)]
    said = [dict(zip(one.headlines, one.predicted, strict=True)) for one in kept if one is not None]
    truth = {row["headline"]: row["label"] for row in ROWS[80:160]}
    right = [sum(own[text] == label for text, label in truth.items()) / 80 for own in said]
    assert verdict.comparison.accuracy.value == pytest.approx(right[1] - right[0])
    flips = {text for text in common if said[0][text] != said[1][text]}
    assert {flip.headline for flip in verdict.comparison.flips} == flips
    assert flips


def test_a_version_against_itself_differs_in_nothing(trained: Path) -> None:
    version = versions.find("nieuws@v1", trained)
    found = promotion.compare(version, version).comparison
    assert (found.accuracy.value, found.macro_f1.value) == (0, 0)
    assert (found.worse, found.flips) == ((), ())


def test_named_rows_are_compared_by_the_versions_themselves(
    trained: Path, unseen: list[Headline]
) -> None:
    a, b = (versions.find(f"nieuws@v{number}", trained) for number in (1, 3))
    verdict = promotion.compare(a, b, unseen)
    assert verdict.comparison.n_rows == 160
    said = [[p.label for p in version.scorer().score_many(unseen)] for version in (a, b)]
    assert [(flip.label_a, flip.label_b) for flip in verdict.comparison.flips] == [
        (one, two) for one, two in zip(*said, strict=True) if one != two
    ]
    assert set(verdict.comparison.worse) >= {"interview", "match_report", "transfer_rumour"}
    back = promotion.compare(b, a, unseen)
    assert back.comparison.worse == ()
    assert back.comparison.macro_f1.value == pytest.approx(
        -(verdict.comparison.macro_f1.value or 0)
    )


def test_a_verdict_is_told_in_a_table_and_in_json(trained: Path, unseen: list[Headline]) -> None:
    a, b = (versions.find(f"nieuws@v{number}", trained) for number in (1, 3))
    verdict = promotion.compare(a, b, unseen)
    lines = verdict.table().splitlines()
    assert lines[0] == "nieuws@v3 against nieuws@v1 on 160 rows (B - A, 95% interval)"
    for label in LABELS:
        (own,) = [line for line in lines if line.startswith(f"  F1 {label} ")]
        assert ("worse beyond the interval" in own) == (label in verdict.comparison.worse)
    n = len(verdict.comparison.flips)
    assert f"  {n} rows change their label" in lines
    assert lines[-1] == f"    ... and {n - 25} more; --json has them all"
    assert sum("(was right)" in line for line in lines) > sum(
        "(is right)" in line for line in lines
    )
    found = json.loads(json.dumps(verdict.to_dict()))
    assert (found["a"], found["b"], len(found["flips"])) == ("nieuws@v1", "nieuws@v3", n)
    sizes = [
        sum((version.path / file).stat().st_size for file in ("scorer.npz", "manifest.json"))
        for version in (a, b)
    ]
    assert found["bytes"] == sizes
    assert min(found["rows_per_second"]) > 0


def test_versions_of_other_rows_need_rows_to_be_compared_on(
    trained: Path, unseen: list[Headline]
) -> None:
    a, b = (versions.find(f"nieuws@v{number}", trained) for number in (1, 4))
    with pytest.raises(
        BadRows, match=r"share 0 training rows; name labelled rows with --on SOURCE"
    ):
        promotion.compare(a, b)
    assert promotion.compare(a, b, unseen).comparison.n_rows == 160


def test_a_version_that_was_not_cross_validated_needs_rows_too(
    models: Path, scorer: Scorer, pipeline: Any
) -> None:
    bare = save_version(models, scorer, pipeline, "bare")
    with pytest.raises(
        BadRows, match=r"nieuws@v1 and bare@v1: .*\n.*keeps no cross-val.*--on SOURCE"
    ):
        promotion.compare(versions.find("nieuws@v1", models), bare)


def test_a_label_that_a_version_lacks_is_told(trained: Path) -> None:
    a, b = (versions.find(f"nieuws@v{number}", trained) for number in (1, 2))
    with pytest.raises(BadRows, match="label 'goal' is not one that the model knows"):
        promotion.compare(a, b, [Headline("Genk wint", label="goal")])
    with pytest.raises(BadRows, match="there are no rows to evaluate on"):
        promotion.compare(a, b, [])


# Promoting -------------------------------------------------------------------------------------


def test_a_version_that_is_as_good_becomes_champion(models: Path) -> None:
    assert _champion(models) == 1
    said = promotion.promote("nieuws@v2", models, note="meer rijen")
    assert said == "nieuws@champion is now v2 (was v1)"
    assert _champion(models) == 2
    last = versions.history(models, "nieuws")[-1]
    assert (last["event"], last["alias"], last["version"]) == ("alias", "champion", "v2")
    assert last["note"].startswith("macro-F1 ")
    assert last["note"].endswith(" on 80 rows. meer rijen")
    assert last["who"]
    assert versions.rollback("nieuws", models).number == 1


@pytest.mark.parametrize("named", [False, True])
def test_a_version_of_which_a_label_is_worse_does_not(
    models: Path, unseen: list[Headline], named: bool
) -> None:
    before = versions.history(models, "nieuws")
    with pytest.raises(
        NotBetter,
        match=r"^nieuws@v3 is not promoted: worse than nieuws@v1 on .*match_report -0\.\d{3} \(-0.*"
        r"; look with 'models compare nieuws@v1 nieuws@v3', or use --force$",
    ) as caught:
        promotion.promote("nieuws@v3", models, on=unseen if named else None)
    assert caught.value.exit_code == 5
    assert _champion(models) == 1
    assert versions.history(models, "nieuws") == before


def test_one_worse_label_is_enough(models: Path, unseen: list[Headline]) -> None:
    """Better on all but one label, and so in the mean, is still worse for who reads that one."""
    mixed = [{**row, "label": "other"} if row["label"] == "interview" else row for row in ROWS]
    training.train([*mixed, *ROWS[:8]], quick(), models, name="nieuws", engine=ONE)
    with pytest.raises(NotBetter, match="on interview -") as caught:
        promotion.promote("nieuws@v5", models, on=unseen)
    assert "match_report" not in str(caught.value)


def test_force_promotes_and_the_log_tells_who(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "redactie")
    assert promotion.promote("nieuws@v3", models, force=True, note="proef") == (
        "nieuws@champion is now v3 (was v1)"
    )
    assert _champion(models) == 3
    last = versions.history(models, "nieuws")[-1]
    assert (last["note"], last["who"]) == ("forced. proef", "redactie")


def test_the_champion_is_not_promoted_again(models: Path) -> None:
    before = versions.history(models, "nieuws")
    for force in (False, True):
        said = promotion.promote("nieuws@latest", models, force=True) and promotion.promote(
            "nieuws@v4", models, force=force
        )
        assert said == "nieuws@v4 is the champion already"
    assert len(versions.history(models, "nieuws")) == len(before) + 1


def test_where_there_is_no_champion_the_first_is_it(models: Path) -> None:
    (models / "nieuws" / "aliases" / "champion").unlink()
    assert promotion.promote("nieuws@v2", models) == "nieuws@champion is now v2"
    assert _champion(models) == 2


def test_the_command_line_ends_with_5(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = []
    for more in ([], ["--force"]):
        command = ["kopwijzer", "models", "promote", "nieuws@v3", "--models", str(models), *more]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as caught:
            cli.main()
        ends.append(caught.value.code)
    assert ends == [5, 0]
    told = capsys.readouterr()
    assert told.out == ""
    assert "kopwijzer: nieuws@v3 is not promoted: worse than nieuws@v1 on " in told.err
    assert told.err.endswith("nieuws@champion is now v3 (was v1)\n")
