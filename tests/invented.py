"""Invented rows that can be learned and are no copies of one another, and quick settings."""

import random
from typing import Any

from kopwijzer.engines import Engine
from kopwijzer.settings import Settings

__all__ = ["LABELS", "ONE", "quick", "rows"]

LABELS = ("interview", "match_report", "other", "transfer_rumour")
#: Everything in this process.
ONE = Engine(workers=1)

_SIGNS = {
    "interview": ("zegt", "vertelt", "vindt"),
    "match_report": ("wint", "verslaat", "klopt"),
    "other": ("quiz", "agenda", "podcast"),
    "transfer_rumour": ("polst", "huurt", "strikt"),
}
_SYLLABLES = ("ba", "do", "fi", "gu", "ke", "lo", "mi", "nu", "po", "ra", "se", "ti", "vo", "wa")


def _word(chance: random.Random) -> str:
    return "".join(chance.choices(_SYLLABLES, k=4))


def rows(n: int = 160, *, seed: int = 0, sources: int = 3, labels: Any = LABELS) -> list[Any]:
    """`n` rows with a label, a source and a date; every seventh is a riddle of another label."""
    chance = random.Random(seed)  # noqa: S311  # invents rows, keeps no secret
    words = [_word(chance) for _ in range(40)]
    made = []
    for number in range(n):
        label = labels[number % len(labels)]
        shown = labels[(number // 7) % len(labels)] if number % 7 == 0 else label
        text = [chance.choice(_SIGNS[shown]), *chance.sample(words, 6)]
        chance.shuffle(text)
        made.append(
            {
                "headline": " ".join(text[:5]).capitalize(),
                "teaser": " ".join([chance.choice(_SIGNS[shown]), *text[5:]]).capitalize(),
                "label": label,
                "source": f"beat_{number % sources}",
                "date": f"2024-{1 + number // 28 % 12:02}-{1 + number % 28:02}",
            }
        )
    return made


def quick(*changes: str) -> Settings:
    """The shipped recipe with few epochs, folds and resamples."""
    return Settings.read(
        changes=[
            "learning.epochs=3",
            "evaluation.folds=2",
            "evaluation.n_bootstrap=20",
            "evaluation.learning_curve=false",
            *changes,
        ]
    )
