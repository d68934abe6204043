"""One fit in a process of its own: seconds, and the most memory that the process held."""

import json
import sys
import time
from typing import Any

from . import data
from .measure import peak_bytes, processor_seconds
from .peers import PEERS


def main(task: dict[str, Any]) -> dict[str, Any]:
    """Fit `peer` with `parameters` on `rows` of `corpus`."""
    if task["corpus"] == "generated":
        corpus: data.Corpus | None = data.generated(task["rows"], seed=1)
    else:
        corpus = data.sections(task["rows"]) or data.shipped(task["rows"])
    assert corpus is not None
    peer = PEERS[task["peer"]]
    # A small fit first: the libraries are then loaded, and what follows is what rows cost.
    small = [*corpus.train[:300], *data.shipped(300).train]
    peer.fit(small, **task["parameters"])
    before = peak_bytes()
    worked, start = processor_seconds(), time.perf_counter()
    peer.fit(corpus.train, **task["parameters"])
    return {
        "rows": len(corpus.train),
        "seconds": time.perf_counter() - start,
        "processor_seconds": processor_seconds() - worked,
        "peak_before": before,
        "peak": peak_bytes(),
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
