"""Serving: a reference -> a `Scorer` that stays loaded, and `score` in one call."""

import os
import threading

from kopwijzer.scorer import Prediction, Scorer
from kopwijzer.versions import find, models_folder, stamp

__all__ = ["load", "score"]

_KEPT = 4  # models that stay in memory
_loaded: dict[tuple[str, str], tuple[object, Scorer]] = {}
_lock = threading.Lock()


def load(ref: str = "football-nl@champion", models: str | os.PathLike[str] | None = None) -> Scorer:
    """The scorer of a saved version.

    `ref` is "name", "name@alias", "name@latest" or "name@v3"; `models` the models folder, else
    $KOPWIJZER_MODELS, else ./models. Nothing in the folder is run: see SECURITY.md.

    Raises
    ------
    NoSuchVersion, BadVersion
        There is no such version, or its files are damaged.
    """
    return find(ref, models).scorer()


def score(
    headline: str,
    teaser: str = "",
    *,
    ref: str = "football-nl@champion",
    models: str | os.PathLike[str] | None = None,
) -> Prediction:
    """What a headline is taken for, by the model that `ref` means.

    The model is loaded at the first call and kept. When the reference comes to mean another
    version (an alias was moved, a version was added), the next call takes that one.
    """
    key = (ref, os.fspath(models_folder(models)))
    mark = stamp(ref, models)
    kept = _loaded.get(key)
    if kept is None or kept[0] != mark:
        with _lock:
            kept = _loaded[key] = (mark, load(ref, models))
            while len(_loaded) > _KEPT:
                del _loaded[next(iter(_loaded))]
    return kept[1].score(headline, teaser)
