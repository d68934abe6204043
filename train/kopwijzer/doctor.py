"""The doctor: which of the paths and extras of kopwijzer run on this machine, and how well."""

import importlib.metadata
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from kopwijzer import __version__
from kopwijzer.scorer import Scorer
from kopwijzer.text import Block, expand
from kopwijzer.weights import Weights

__all__ = ["Finding", "examine"]

#: What each extra brings, and what for.
_EXTRAS = {
    "dask": ("distributed", "--backend dask"),
    "ray": ("ray", "--backend ray"),
    "remote": ("fsspec", "sources and results under s3://, gs:// and the like"),
    "sign": ("cryptography", "models sign, models verify --key"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and a sentence on it."""

    what: str
    state: Literal["ok", "absent", "fault"]
    said: str


def examine(models: Path) -> Iterator[Finding]:
    """Look at everything, one after the other."""
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("kopwijzer", "ok", f"{__version__} on {system}, {os.cpu_count()} processors")
    yield _scoring()
    for extra, (package, use) in _EXTRAS.items():
        version = _version(package)
        if version is None:
            yield Finding(extra, "absent", f"for {use}: pip install 'kopwijzer[{extra}]'")
        else:
            yield Finding(extra, "ok", f"{package} {version}, for {use}")
    yield _folder("models", models)
    yield _folder("temporary files", Path(tempfile.gettempdir()))


def _scoring() -> Finding:
    """Compile, compare with NumPy bit for bit, and race the two."""
    headlines = _headlines()
    plain, fast = _model(headlines), _model(headlines)
    if not fast.compile():
        return Finding(
            "scoring", "absent", "in NumPy; compiled code is faster: pip install 'kopwijzer[fast]'"
        )
    rows = [{"headline": headline} for headline in headlines]
    seconds, values = [], []
    for scorer in (plain, fast):
        values.append(scorer.decision_function(rows).tobytes())
        start = time.perf_counter()
        for row in rows:
            scorer.score(row["headline"])
        seconds.append(time.perf_counter() - start)
    told = f"compiled by numba {_version('numba')}"
    if values[0] != values[1]:
        return Finding("scoring", "fault", f"{told}, but not as NumPy does: please report it")
    return Finding(
        "scoring",
        "ok",
        f"{told}, bit for bit as NumPy and {seconds[0] / seconds[1]:.1f} times as fast, headline "
        "by headline",
    )


def _headlines() -> list[str]:
    """A thousand invented headlines."""
    dice = np.random.default_rng(0)
    parts = ["ma", "ro", "ti", "ven", "sel", "kan", "Ba", "Lu", "2-", "1", "'", "-", "ë", "ij"]
    words = ["".join(dice.choice(parts, dice.integers(1, 5))) for _ in range(2000)]
    return [" ".join(dice.choice(words, 9)) for _ in range(1000)]


def _model(headlines: Sequence[str]) -> Scorer:
    """A model with four labels and with weights thrown at random."""
    dice = np.random.default_rng(1)
    blocks = [Block("words"), Block("characters", kind="characters")]
    cut = expand([chunk for headline in headlines for chunk in headline.split()])
    hashes = [np.unique(cut.words), np.unique(cut.characters)]
    n = sum(map(len, hashes))
    weights = Weights(
        hashes=np.concatenate(hashes),
        block_ptr=np.array([0, len(hashes[0]), n]),
        df=dice.integers(1, 1000, n).astype(np.uint16),
        coef=dice.integers(-127, 128, (n, 4)).astype(np.int8),
        scale=np.full(4, 0.01),
        intercept=np.zeros(4),
        n_documents=1000,
    )
    return Scorer(weights, labels=["a", "b", "c", "d"], blocks=blocks)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _folder(what: str, path: Path) -> Finding:
    """Whether a folder, or the first one above it that is there, can be written to."""
    there = next((place for place in (path, *path.parents) if place.exists()), path)
    if there.is_dir() and os.access(there, os.W_OK):
        return Finding(what, "ok", f"{path} can be written to")
    return Finding(what, "fault", f"{path} cannot be written to; choose another one")
