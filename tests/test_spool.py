"""The spool, and training from it: rows that stream from disk in chunks."""

import errno
import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import pytest

from invented import LABELS, ONE, quick, rows
from kopwijzer import training, versions
from kopwijzer.errors import BadRows, BadSettings, BadSource, KopwijzerError, NoRoom
from kopwijzer.settings import Settings
from kopwijzer.spool import Spool

ROWS = rows(480)
PARTS: tuple[Literal["train"], Literal["held out"]] = ("train", "held out")
STREAM = quick("learning.epochs=5", "learning.chunk_rows=100")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def _put(path: Path, some: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    return path


def _spool(source: Any, recipe: Settings = STREAM) -> Spool:
    return Spool.of(source, recipe, lambda what, done, of: None)


def _texts(chunks: Iterable[tuple[list[dict[str, str]], list[str]]]) -> list[tuple[str, str, str]]:
    return [(r["headline"], r["teaser"], r["label"]) for chunk, _ in chunks for r in chunk]


# The spool -------------------------------------------------------------------------------------


def test_every_row_is_on_one_side_once_in_chunks_that_come_alike(scratch: Path) -> None:
    with _spool(ROWS) as spool:
        assert (spool.n_rows, spool.counts) == (480, dict.fromkeys(LABELS, 120))
        train, held = (_texts(spool.chunks(part)) for part in PARTS)
        everything = sorted((r["headline"], r["teaser"], r["label"]) for r in ROWS)
        assert sorted(train + held) == everything
        assert 480 * 0.01 < len(held) < 480 * 0.12  # one in twenty, by a hash
        assert train == _texts(spool.chunks("train"))
        assert train != sorted(train, key=everything.index)  # shuffled
        for chunk, labels in spool.chunks("train"):
            assert 0 < len(chunk) <= 100
            assert labels == [row["label"] for row in chunk]
        assert [(r.headline, r.teaser, r.label) for r in spool.held_out()] == held
        assert len(list(scratch.iterdir())) == 1
    assert list(scratch.iterdir()) == []


def test_copies_of_a_headline_stay_on_one_side() -> None:
    copies = [
        {**row, "headline": headline, "teaser": f"{row['teaser']} {number}"}
        for row in ROWS[:160]
        for number, headline in enumerate(
            [row["headline"], row["headline"].upper(), row["headline"].replace(" ", "  ")]
        )
    ]
    with _spool(copies) as spool:
        sides = [
            {" ".join(text.lower().split()) for text, _, _ in _texts(spool.chunks(part))}
            for part in PARTS
        ]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_the_fingerprint_is_of_the_rows_and_their_order_alone() -> None:
    prints = []
    for some, change in (
        (ROWS[:40], "learning.seed=0"),
        (ROWS[:40], "learning.seed=9"),
        (ROWS[:40][::-1], "learning.seed=0"),
        ([*ROWS[:39], {**ROWS[39], "teaser": "x"}], "learning.seed=0"),
    ):
        with _spool(some, quick(change)) as spool:
            prints.append(spool.fingerprint)
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_a_disk_that_is_full_is_told_and_cleared(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(datasets.arrow_writer.ArrowWriter, "write", full)
    with pytest.raises(
        NoRoom, match=r"temporary files cannot be written \(No space left on device\); .* TMPDIR"
    ):
        _spool(ROWS[:8])
    assert list(scratch.iterdir()) == []


def test_no_place_for_temporary_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: Any, **__: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("kopwijzer.spool.tempfile.TemporaryDirectory", nowhere)
    with pytest.raises(NoRoom, match=r"cannot be written \(No usable .*\); name a place .* TMPDIR"):
        _spool(ROWS[:8])


# Training from it ------------------------------------------------------------------------------


def test_a_version_is_trained_from_a_file_in_chunks(tmp_path: Path, scratch: Path) -> None:
    source = _put(tmp_path / "rows.jsonl", ROWS)
    saved = training.train(source, STREAM, tmp_path / "models", name="stroom", engine=ONE)
    assert list(scratch.iterdir()) == []
    assert versions.verify(saved)
    data = saved.manifest["data"]
    assert (data["source"], data["n_rows"]) == (str(source), 480)
    assert data["labels"] == dict.fromkeys(LABELS, 120)
    assert len(data["fingerprint"]) == 64
    report = json.loads(saved.read("report.json"))
    assert report["honest"] == saved.manifest["figures"]["split"] == "held out"
    assert (
        0 < report["figures"]["held out"]["n_rows"] < 480 * 0.06
    )  # half measures, half calibrates
    fresh = training.read_labelled(rows(600)[480:], quick())
    _, found = training.evaluate(saved.scorer(), fresh, n_bootstrap=20)
    assert (found.macro_f1.value or 0) > 0.75
    assert Counter(saved.manifest["labels"]) == Counter(LABELS)
    thresholds = saved.manifest["abstention"]["thresholds"]
    assert thresholds == dict.fromkeys(("interview", "match_report", "transfer_rumour"), 0.5)


def test_the_same_rows_give_the_same_model(tmp_path: Path) -> None:
    first, second = (
        training.train(ROWS[:240], STREAM, tmp_path, name="stroom", engine=ONE) for _ in range(2)
    )
    for file in ("scorer.npz", "report.json", "probes.jsonl"):
        assert first.read(file) == second.read(file)


def test_chunks_learn_what_all_rows_at_once_do(tmp_path: Path) -> None:
    saved = training.train(ROWS, STREAM, tmp_path, name="stroom", engine=ONE)
    whole = training.fit(ROWS, quick("learning.epochs=20"))
    fresh = [{"headline": r["headline"], "teaser": r["teaser"]} for r in rows(600)[480:]]
    same = np.mean(
        saved.scorer().predict_proba(fresh).argmax(1) == whole.predict_proba(fresh).argmax(1)
    )
    assert same > 0.9


BAD: list[tuple[list[Any], type[KopwijzerError], str]] = [
    ([], BadRows, r"there are no rows to learn from$"),
    (
        [{**row, "label": "quote"} for row in ROWS[:9]],
        BadRows,
        "every row has the label 'quote'; two or more",
    ),
    ([*ROWS[:30], {"headline": "Genk wint"}], BadRows, r"rows\.jsonl line 31: it has no label"),
    ([*ROWS[:30], {**ROWS[0], "headline": " "}], BadRows, "line 31: the headline is empty"),
    (
        [{"headline": "Genk wint", "label": label} for label in "ab" * 20],
        BadRows,
        "all 40 rows hold the same text; nothing can be learned",
    ),
]


@pytest.mark.parametrize(
    ("bad", "kind", "sentence"), BAD, ids=["none", "one label", "unlabelled", "empty", "one text"]
)
def test_nothing_is_left_after_bad_rows(
    tmp_path: Path, scratch: Path, bad: list[Any], kind: type[KopwijzerError], sentence: str
) -> None:
    source = _put(tmp_path / "rows.jsonl", bad)
    with pytest.raises(kind, match=sentence):
        training.train(source, STREAM, tmp_path / "models", name="stroom", engine=ONE)
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "models").exists()


def test_a_source_that_is_not_there(tmp_path: Path, scratch: Path) -> None:
    with pytest.raises(BadSource, match=r"none\.jsonl: there is no such file"):
        training.train(tmp_path / "none.jsonl", STREAM, tmp_path / "models", engine=ONE)
    assert list(scratch.iterdir()) == []


def test_rows_of_which_none_is_held_out_make_a_version_without_figures(tmp_path: Path) -> None:
    with _spool(ROWS[:200]) as spool:
        held = {row.headline for row in spool.held_out()}
    some = [row for row in ROWS[:200] if row["headline"] not in held]
    saved = training.train(some, STREAM, tmp_path, name="stroom", engine=ONE)
    assert json.loads(saved.read("report.json"))["figures"] == {}
    assert saved.manifest["figures"]["macro_f1"] is None
    assert saved.scorer().score(some[1]["headline"], some[1]["teaser"]).label == some[1]["label"]


def test_a_promise_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    recipe = STREAM.model_copy(
        update={"abstention": STREAM.abstention.model_copy(update={"precision": 0.9})}
    )
    with pytest.raises(BadSettings, match=r"abstention\.precision: learning\.chunk_rows leaves no"):
        training.train(ROWS[:100], recipe, tmp_path, name="stroom", engine=ONE)
