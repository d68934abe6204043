"""Tuning: the best of a small grid for each peer, on a validation slice of the training rows.

What was chosen is kept in results/tuning.json with everything that was tried; a later run takes
it from there. The test rows play no part.
"""

import itertools
import json
import time
from collections.abc import Sequence
from typing import Any

from kopwijzer import Headline

from . import data
from .data import ROOT
from .peers import Fitted, Peer

__all__ = ["chosen", "figures"]

FILE = ROOT / "tests" / "benchmarks" / "results" / "tuning.json"


def chosen(peer: Peer, corpus: data.Corpus, *, quick: bool = False) -> dict[str, Any]:
    """The parameters of a peer for a corpus; the generated one takes those of football-nl.

    With `quick`, what was never tuned is used as it stands.
    """
    if not peer.stages:
        return {}
    name = "football-nl" if corpus.name == "generated" else corpus.name
    key = peer.name if not peer.name.startswith("scikit-learn") else "scikit-learn saga"
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    found = kept.get(name, {}).get(key)
    if found is None and not quick:
        own = corpus if corpus.name == name else data.shipped()
        from .peers import PEERS

        found = _tune(PEERS[key], own)
        kept.setdefault(name, {})[key] = found
        FILE.write_text(json.dumps(kept, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
    return dict(found["chosen"]) if found else {}


def _tune(peer: Peer, corpus: data.Corpus) -> dict[str, Any]:
    train, valid = data.validation(corpus.train)
    best = {name: values[0] for stage in peer.stages for name, values in stage.items()}
    tried: list[dict[str, Any]] = []
    for stage in peer.stages:
        for values in itertools.product(*stage.values()):
            parameters = {**best, **dict(zip(stage, values, strict=True))}
            if any(one["parameters"] == parameters for one in tried):
                continue
            start = time.perf_counter()
            fitted = peer.fit(train, **parameters)
            seconds = time.perf_counter() - start
            accuracy, macro_f1 = figures(fitted, valid)
            tried.append(
                {
                    "parameters": parameters,
                    "accuracy": accuracy,
                    "macro_f1": macro_f1,
                    "seconds": seconds,
                }
            )
            print(f"  tuning {peer.name} on {corpus.name}: {tried[-1]}", flush=True)
        winner = max(tried, key=lambda one: one["accuracy"] + one["macro_f1"])
        best = dict(winner["parameters"])
    return {"chosen": best, "rows": len(train), "validation_rows": len(valid), "tried": tried}


def figures(fitted: Fitted, rows: Sequence[Headline]) -> tuple[float, float]:
    """Accuracy and macro-F1 of a model on rows."""
    from sklearn.metrics import accuracy_score, f1_score

    truth = [str(row.label) for row in rows]
    said = fitted.predict(fitted.prepare(rows))
    return float(accuracy_score(truth, said)), float(f1_score(truth, said, average="macro"))
