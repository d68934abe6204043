"""The shipped corpus: its rows, its blocks, its counts, and that no row is told twice."""

import importlib.util
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from kopwijzer.duplicates import near_duplicate_pairs
from kopwijzer.headlines import Headline
from kopwijzer.settings import shipped

CORPUS = Path(__file__).parents[1] / "data" / "football-nl"
LABELS = ("transfer_rumour", "match_report", "interview", "club_finance", "other")
#: Line breaks, other control characters and what a wrong encoding leaves.
_BROKEN = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ufffd\\ud800-\\udfff]|Ã[\\x80-\\xbf]")
BLOCKS_OF_SIX = ("hard", "talk", "daily_a", "daily_b")


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("datasheet", CORPUS / "datasheet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


datasheet = _script()


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[dict[str, Any]]]:
    """Beat -> its rows."""
    return {
        path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(CORPUS.glob("*.jsonl"))
    }


@pytest.fixture(scope="module")
def rows(corpus: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [row for beat in corpus.values() for row in beat]


def test_the_corpus_is_the_shipped_one() -> None:
    assert shipped("football-nl") == CORPUS


def test_the_counts_in_the_datasheet_are_those_of_the_corpus(
    rows: list[dict[str, Any]],
) -> None:
    text = (CORPUS / "DATASHEET.md").read_text(encoding="utf-8")
    _, begin, rest = text.partition(datasheet.BEGIN)
    told, end, _ = rest.partition(datasheet.END)
    assert begin
    assert end
    assert told.strip() == datasheet.table(datasheet.count())
    total = f"| **all** | {len(rows):,} | "
    assert total in told
    assert datasheet.LABELS == LABELS


def test_the_counts_are_counted_right(tmp_path: Path) -> None:
    lines = [{"label": "other", "teaser": ""}, {"label": "other", "teaser": "x"}]
    lines.append({"label": "interview", "teaser": ""})
    path = tmp_path / "beat.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert datasheet.table(datasheet.count(tmp_path)).splitlines()[2:] == [
        "| beat | 3 | 0 | 0 | 1 | 0 | 2 | 2 |",
        "| **all** | 3 | 0 | 0 | 1 | 0 | 2 | 2 |",
    ]


def test_every_row_is_whole(corpus: dict[str, list[dict[str, Any]]]) -> None:
    columns = ["id", "headline", "teaser", "label", "beat", "group"]
    for beat, own in corpus.items():
        for row in own:
            assert list(row) == columns, row
            assert all(isinstance(value, str) for value in row.values()), row
            assert row["label"] in LABELS, row
            assert row["beat"] == beat, row
            assert row["headline"].strip(), row
            for text in (row["headline"], row["teaser"]):
                assert text == text.strip(), row
                assert not _BROKEN.search(text), row
            assert row["group"], row


def test_ids_are_unique_and_count_on(corpus: dict[str, list[dict[str, Any]]]) -> None:
    for beat, own in corpus.items():
        numbers = [re.fullmatch(rf"{beat}-(\d{{4}})", row["id"]) for row in own]
        assert all(numbers), beat
        counted = [int(found[1]) for found in numbers if found]
        assert counted == sorted(set(counted)), beat


def test_groups_are_blocks_of_six_in_the_contrast_beats(
    corpus: dict[str, list[dict[str, Any]]],
) -> None:
    for beat in BLOCKS_OF_SIX:
        places = defaultdict(list)
        for row in corpus[beat]:
            places[row["group"]].append(int(row["id"].rpartition("-")[2]))
        sizes = Counter(map(len, places.values()))
        assert max(sizes) == 6, beat
        assert len(places) - sizes[6] <= 1, beat  # the last may be short
        for own in places.values():
            assert len({(number - 1) // 6 for number in own}) == 1, own


def test_groups_never_span_two_beats(rows: list[dict[str, Any]]) -> None:
    beats = defaultdict(set)
    for row in rows:
        beats[row["group"]].add(row["beat"])
    assert all(len(own) == 1 for own in beats.values())


def test_elsewhere_each_row_is_a_group_of_its_own(
    corpus: dict[str, list[dict[str, Any]]],
) -> None:
    for beat, own in corpus.items():
        if beat not in BLOCKS_OF_SIX:
            assert len({row["group"] for row in own}) == len(own), beat


def test_no_two_rows_share_more_than_half_of_their_pieces(rows: list[dict[str, Any]]) -> None:
    items = [Headline(row["headline"], row["teaser"]) for row in rows]
    found = [
        (rows[i]["id"], rows[j]["id"], round(share, 2))
        for i, j, share in near_duplicate_pairs(items, 0.5)
    ]
    assert found == []
