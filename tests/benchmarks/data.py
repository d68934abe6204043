"""The corpora that are measured on: the shipped one, generated rows, and sections of newspapers."""

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kopwijzer import Headline

__all__ = ["Corpus", "generate", "generated", "sections", "shipped", "validation"]

ROOT = Path(__file__).resolve().parents[2]
#: Where the sections are looked for: a folder beside the repository, which need not be there.
SECTIONS = ROOT.parent / "shared" / "real"

_ONSETS = (*"bdfghjklmnprstvwz", "br", "dr", "gr", "kl", "kr", "pl", "sl", "st", "tr", "vl")
_RIMES = ("aan", "aak", "eer", "el", "em", "ies", "ijk", "ing", "oen", "oor", "op", "ot", "uin")
_SYLLABLES = [onset + rime for onset in _ONSETS for rime in _RIMES]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Labelled rows to learn from, and others to measure on."""

    name: str
    train: list[Headline]
    test: list[Headline]
    about: str


def shipped(rows: int | None = None) -> Corpus:
    """football-nl: a quarter of its sources is the test part, so that no story is in both."""
    files = sorted((ROOT / "data" / "football-nl").glob("*.jsonl"))
    every = [row for file in files for row in _read(file)]
    held_out = set(sorted({row.source or "" for row in every})[::4])
    train = [row for row in every if row.source not in held_out]
    test = [row for row in every if row.source in held_out]
    about = f"the shipped rows; tested on {len(held_out)} sources that were left out of training"
    return Corpus("football-nl", _some(train, rows), _some(test, rows), about)


def sections(rows: int | None = None) -> Corpus | None:
    """Newspaper headlines by section, where the folder with them is present."""
    files = [SECTIONS / f"sections_{part}.jsonl.gz" for part in ("train", "test")]
    if not all(file.exists() for file in files):
        return None
    train, test = map(_read, files)
    about = "headlines of Dutch newspapers, 16 sections; tested on later ones"
    return Corpus("sections", _some(train, rows), _some(test, rows), about)


def generated(rows: int = 100_000, seed: int = 0) -> Corpus:
    """Shipped training rows over and over, each time with two words that never were."""
    own = shipped()
    about = f"{rows:,} rows made of shipped ones with fresh noise words; tested on football-nl's"
    return Corpus("generated", list(generate(own.train, rows, seed)), own.test, about)


def generate(rows: Sequence[Headline], n: int, seed: int) -> Iterator[Headline]:
    """`n` rows: those of `rows` in random order, each with a noise word in either text.

    The labels are kept; the same seed gives the same rows.
    """
    dice = random.Random(seed)  # noqa: S311  # rows to measure with are no secret
    order = list(range(len(rows)))
    for number in range(n):
        if number % len(rows) == 0:
            dice.shuffle(order)
        row = rows[order[number % len(rows)]]
        yield Headline(_noisy(row.headline, dice), _noisy(row.teaser, dice), row.label)


def validation(rows: Sequence[Headline], seed: int = 0) -> tuple[list[Headline], list[Headline]]:
    """Training rows cut into four fifths to learn from and one fifth to choose settings on.

    Whole sources go to one side where rows name several, as they do in the test.
    """
    dice = random.Random(seed)  # noqa: S311  # a split is no secret
    sources = sorted({row.source or "" for row in rows})
    if len(sources) > 4:
        chosen = set(dice.sample(sources, round(len(sources) / 5)))
        parts = [row.source in chosen for row in rows]
    else:
        parts = [dice.random() < 0.2 for _ in rows]
    return (
        [row for row, out in zip(rows, parts, strict=True) if not out],
        [row for row, out in zip(rows, parts, strict=True) if out],
    )


def _read(file: Path) -> list[Headline]:
    raw = file.read_bytes()
    if file.suffix == ".gz":
        raw = gzip.decompress(raw)
    found = map(json.loads, raw.decode("utf-8").strip().split("\n"))
    return [
        Headline(row["headline"], row["teaser"], row["label"], source=row.get("beat"))
        for row in found
    ]


def _noisy(text: str, dice: random.Random) -> str:
    words = text.split()
    noise = "".join(_SYLLABLES[int(dice.random() * len(_SYLLABLES))] for _ in range(3))
    words.insert(int(dice.random() * (len(words) + 1)), noise)
    return " ".join(words)


def _some(rows: list[Headline], n: int | None) -> list[Headline]:
    """About `n` rows, evenly spread."""
    return rows if n is None or len(rows) <= n else rows[:: len(rows) // n][:n]
