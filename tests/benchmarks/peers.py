"""What is compared: kopwijzer and its peers, each behind the same two calls, fit and predict.

A peer's `stages` are what tuning tries, one stage after the other. Where an optional package is
absent, `why_not` says so and the peer is left out.
"""

import re
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol

from kopwijzer import Headline

__all__ = ["PEERS", "Fitted", "Peer"]

Stage = Mapping[str, Sequence[Any]]


class Fitted(Protocol):
    """A model that was fitted."""

    @property
    def preparing(self) -> float:
        """Seconds of the fit that went into bringing the rows into the peer's own form."""

    def prepare(self, rows: Sequence[Headline]) -> Sequence[Any]:
        """The rows in the form that `predict` takes."""

    def predict(self, prepared: Sequence[Any]) -> list[str]:
        """The best label of each."""


class Peer(Protocol):
    """Something that learns from rows, on so many threads."""

    @property
    def name(self) -> str: ...

    @property
    def threads(self) -> int: ...

    @property
    def stages(self) -> tuple[Stage, ...]: ...

    def why_not(self) -> str | None:
        """Why it cannot run here; None when it can."""

    def fit(self, rows: Sequence[Headline], **parameters: Any) -> Fitted:
        """A model of the rows."""


# kopwijzer -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kopwijzer:
    """`kopwijzer.fit` with the shipped recipe: the only one here that is not tuned."""

    name: str = "kopwijzer"
    threads: int = 2
    stages: tuple[Stage, ...] = ()

    def why_not(self) -> str | None:
        return None

    def fit(self, rows: Sequence[Headline], **parameters: Any) -> Fitted:
        from kopwijzer import Settings, fit

        changes = [f"{key}={value}" for key, value in parameters.items()]
        return FittedKopwijzer(fit(rows, Settings.read(changes=changes)))


@dataclass(frozen=True)
class FittedKopwijzer:
    """The best label of all, without abstaining, since the peers cannot."""

    scorer: Any
    preparing: float = 0.0

    def prepare(self, rows: Sequence[Headline]) -> Sequence[Any]:
        return rows

    def predict(self, prepared: Sequence[Any]) -> list[str]:
        best = self.scorer.predict_proba(prepared).argmax(axis=1)
        labels: list[str] = self.scorer.classes_[best].tolist()
        return labels


# scikit-learn ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScikitLearn:
    """TfidfVectorizer over words (1-2) and characters (char_wb, 2-5), LogisticRegression."""

    name: str
    solver: str
    max_iter: int
    threads: int = 1
    stages: tuple[Stage, ...] = (
        {"C": (3.0, 10.0, 30.0), "class_weight": (None, "balanced")},
        {"sublinear_tf": (True, False)},
    )

    def why_not(self) -> str | None:
        return None

    def fit(self, rows: Sequence[Headline], **parameters: Any) -> Fitted:
        import numpy as np
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import FeatureUnion, Pipeline

        common = {
            "min_df": 2,
            "sublinear_tf": parameters.pop("sublinear_tf", True),
            "dtype": np.float32,
        }
        model = Pipeline(
            [
                (
                    "features",
                    FeatureUnion(
                        [
                            ("words", TfidfVectorizer(ngram_range=(1, 2), **common)),
                            (
                                "characters",
                                TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **common),
                            ),
                        ]
                    ),
                ),
                (
                    "classifier",
                    LogisticRegression(
                        solver=self.solver, max_iter=self.max_iter, random_state=0, **parameters
                    ),
                ),
            ]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(_joined(rows), [str(row.label) for row in rows])
        return FittedScikitLearn(model)


@dataclass(frozen=True)
class FittedScikitLearn:
    model: Any
    preparing: float = 0.0

    def prepare(self, rows: Sequence[Headline]) -> Sequence[Any]:
        return _joined(rows)

    def predict(self, prepared: Sequence[Any]) -> list[str]:
        labels: list[str] = self.model.predict(prepared).tolist()
        return labels


# fastText --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FastText:
    """Facebook's fastText, supervised, with pairs of words and with or without subwords.

    Its Python wrapper breaks with NumPy 2 in `predict` of one string (``np.array(..., copy=False)``
    must copy), so that call is made as the wrapper makes it; a list of strings works.
    """

    name: str
    subwords: bool
    fixed: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 2
    stages: tuple[Stage, ...] = (
        {"lr": (0.2, 0.5, 1.0), "epoch": (10, 25)},
        {"epoch": (10, 25, 50)},
        {"dim": (16, 50)},
        {"text": ("split", "plain")},
        {"bucket": (2_000_000, 200_000)},
    )

    def why_not(self) -> str | None:
        return _absent("fasttext", "fasttext-wheel")

    def fit(self, rows: Sequence[Headline], **parameters: Any) -> Fitted:
        import fasttext

        own = {"lr": 0.5, "epoch": 10, "dim": 16, **parameters, **self.fixed}
        form = own.pop("text", "split")
        if self.subwords:
            own |= {"minn": 2, "maxn": 5}
        labels = sorted({str(row.label) for row in rows})
        number = {label: place for place, label in enumerate(labels)}
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.txt"
            texts = _fasttext_lines(rows, form)
            with path.open("w", encoding="utf-8") as file:
                file.writelines(
                    f"__label__{number[str(row.label)]} {text}\n"
                    for row, text in zip(rows, texts, strict=True)
                )
            preparing = time.perf_counter() - start
            model = fasttext.train_supervised(
                str(path), wordNgrams=2, thread=self.threads, verbose=0, **own
            )
        return FittedFastText(model, labels, form, preparing)


@dataclass(frozen=True)
class FittedFastText:
    model: Any
    labels: list[str]
    form: str
    preparing: float

    def prepare(self, rows: Sequence[Headline]) -> Sequence[Any]:
        return _fasttext_lines(rows, self.form)

    def predict(self, prepared: Sequence[Any]) -> list[str]:
        found, _ = self.model.predict(list(prepared))
        return [self.labels[int(best[0].removeprefix("__label__"))] for best in found]

    def predict_one(self, text: str) -> Any:
        """What `predict` of one string does, up to the step that breaks with NumPy 2."""
        probabilities, labels = zip(
            *self.model.f.predict(text + "\n", 1, 0.0, "strict"), strict=True
        )
        return labels, probabilities


_PARTS = re.compile(r"\w+|[^\w\s]")


def _fasttext_lines(rows: Sequence[Headline], form: str) -> list[str]:
    """Lower-cased lines: signs as words of their own ("split") or as they stand ("plain")."""
    texts = [text.lower() for text in _joined(rows)]
    if form == "plain":
        return [" ".join(text.split()) for text in texts]
    return [" ".join(_PARTS.findall(text)) for text in texts]


# Vowpal Wabbit ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class VowpalWabbit:
    """Vowpal Wabbit: one against all, logistic loss, pairs of words, perhaps n-grams of signs."""

    name: str = "vowpal wabbit"
    threads: int = 2  # one reads, one learns
    stages: tuple[Stage, ...] = (
        {"grams": (True, False)},
        {"passes": (5, 10), "learning_rate": (0.25, 0.5, 1.0)},
    )
    bits: ClassVar[int] = 22

    def why_not(self) -> str | None:
        return _absent("vowpalwabbit", "vowpalwabbit")

    def fit(self, rows: Sequence[Headline], **parameters: Any) -> Fitted:
        from vowpalwabbit import Workspace

        own = {"grams": True, "passes": 5, "learning_rate": 0.5, **parameters}
        labels = sorted({str(row.label) for row in rows})
        number = {label: place for place, label in enumerate(labels, 1)}
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.txt"
            texts = _vowpal_lines(rows, own["grams"])
            with path.open("w", encoding="utf-8") as file:
                file.writelines(
                    f"{number[str(row.label)]} {text}\n"
                    for row, text in zip(rows, texts, strict=True)
                )
            preparing = time.perf_counter() - start
            model = Workspace(
                f"--oaa {len(labels)} --loss_function logistic --ngram w2 -b {self.bits} "
                f"-l {own['learning_rate']} --passes {own['passes']} --holdout_off --quiet "
                f"-d {path} --cache_file {path}.cache -k"
            )
        return FittedVowpalWabbit(model, labels, own["grams"], preparing)


@dataclass(frozen=True)
class FittedVowpalWabbit:
    model: Any
    labels: list[str]
    grams: bool
    preparing: float

    def prepare(self, rows: Sequence[Headline]) -> Sequence[Any]:
        return _vowpal_lines(rows, self.grams)

    def predict(self, prepared: Sequence[Any]) -> list[str]:
        return [self.labels[int(self.model.predict(text)) - 1] for text in prepared]


_VOWPAL = str.maketrans({":": "\u02d0", "|": "\u01c0"})  # its own signs, by others like them


def _vowpal_lines(rows: Sequence[Headline], grams: bool) -> list[str]:
    lines = []
    for text in _joined(rows):
        text = text.lower().translate(_VOWPAL)
        line = f"|w {' '.join(_PARTS.findall(text))}"
        if grams:
            found = [
                word[start : start + size]
                for word in (f"_{part}_" for part in text.split())
                for size in (3, 4, 5)
                for start in range(len(word) - size + 1)
            ]
            line += f" |c {' '.join(found)}"
        lines.append(line)
    return lines


def _joined(rows: Sequence[Headline]) -> list[str]:
    return [f"{row.headline} {row.teaser}" for row in rows]


def _absent(module: str, package: str) -> str | None:
    return None if find_spec(module) else f"{package} is not installed"


#: By name. The plain settings are those that the goals were written against.
PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Kopwijzer(),
        FastText("fastText subwords", subwords=True),
        FastText("fastText bigrams", subwords=False),
        FastText(
            "fastText subwords, plain settings",
            subwords=True,
            fixed={"lr": 0.5, "epoch": 10, "dim": 16},
            stages=(),
        ),
        FastText(
            "fastText bigrams, plain settings",
            subwords=False,
            fixed={"lr": 0.5, "epoch": 10, "dim": 16},
            stages=(),
        ),
        VowpalWabbit(),
        ScikitLearn("scikit-learn saga", solver="saga", max_iter=20),
        ScikitLearn("scikit-learn lbfgs", solver="lbfgs", max_iter=100),
    )
}
