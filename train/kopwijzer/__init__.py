"""kopwijzer learns what kind of news a headline is, and says when it does not know.

>>> import kopwijzer
>>> scorer = kopwijzer.load("football-nl", models="models")  # doctest: +SKIP
>>> scorer.score("'Genk polst middenvelder van Union'").label  # doctest: +SKIP
'transfer_rumour'
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kopwijzer.errors import KopwijzerError
    from kopwijzer.headlines import Headline, read
    from kopwijzer.scorer import Abstention, Contribution, Explanation, Prediction, Scorer
    from kopwijzer.serving import load, score
    from kopwijzer.settings import Settings
    from kopwijzer.training import evaluate, fit, train
    from kopwijzer.versions import Version

__version__ = "0.1.0"

__all__ = [
    "Abstention",
    "Contribution",
    "Explanation",
    "Headline",
    "KopwijzerError",
    "Prediction",
    "Scorer",
    "Settings",
    "Version",
    "evaluate",
    "fit",
    "load",
    "read",
    "score",
    "train",
]

# Names are fetched from their rooms when they are first used: `kopwijzer --help` then needs no
# NumPy, and scoring no scikit-learn.
_ROOMS = {
    "Abstention": "scorer",
    "Contribution": "scorer",
    "Explanation": "scorer",
    "Headline": "headlines",
    "KopwijzerError": "errors",
    "Prediction": "scorer",
    "Scorer": "scorer",
    "Settings": "settings",
    "Version": "versions",
    "evaluate": "training",
    "fit": "training",
    "load": "serving",
    "read": "headlines",
    "score": "serving",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'kopwijzer' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"kopwijzer.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
