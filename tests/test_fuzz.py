"""A short campaign of dirty input; `make fuzz` runs the long one."""

import pytest

from fuzz.__main__ import campaign
from kopwijzer import Scorer


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.filterwarnings("ignore")
def test_whatever_the_bytes_rows_come_or_a_sentence(scorer: Scorer, seed: int) -> None:
    counts = campaign(400, seed, scorer)["formats"]
    assert sum(found["cases"] for found in counts.values()) == 400
    # A campaign that only ever fails, or never does, has tried nothing.
    assert sum(found.get("rows", 0) for found in counts.values()) > 100
    assert sum(found.get("sentences", 0) + found.get("errors", 0) for found in counts.values()) > 50
