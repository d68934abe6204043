"""Search: a space of settings -> the recipe that does best on stories and sources it has not seen.

Successive halving (Jamieson and Talwalkar 2016): many candidates on few stories, the best on more.
Every finished measurement is one line of a file, so that a search that was killed goes on where
it was; the result is the same whatever the engine, since each candidate has its own seed and data.
"""

import hashlib
import itertools
import json
import math
import os
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from kopwijzer import learning, training
from kopwijzer.engines import Engine
from kopwijzer.errors import BadSettings, NoRoom
from kopwijzer.headlines import Headline
from kopwijzer.settings import Settings, recipe_of
from kopwijzer.splits import story_groups

__all__ = ["Found", "Plan", "Trial", "search"]

Value = Any


class Range(BaseModel):
    """A range of numbers; `log` draws evenly over its logarithm."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    low: Annotated[float, Field(allow_inf_nan=False)]
    high: Annotated[float, Field(allow_inf_nan=False)]
    log: bool = False
    integer: bool = False

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high")
        if self.log and self.low <= 0:
            raise ValueError("a range that is drawn by its logarithm has a low above 0")
        return self


#: The values of a setting that are tried: a choice or a range.
Space = Annotated[
    Annotated[Range, Tag("range")] | Annotated[list[Any], Field(min_length=1), Tag("choice")],
    Discriminator(lambda value: "choice" if isinstance(value, list) else "range"),
]


class SearchSettings(BaseModel):
    """How candidates are drawn and measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    n_candidates: Annotated[int, Field(ge=1, le=100_000)] = 27
    factor: Annotated[int, Field(ge=2, le=100)] = 3
    min_share: Annotated[float, Field(gt=0, le=1)] = 0.11
    folds: Annotated[int, Field(ge=2, le=50)] = 4
    metric: Literal["macro_f1", "log_loss"] = "macro_f1"
    seed: Annotated[int, Field(ge=0)] = 0


class Plan(BaseModel):
    """A search as its TOML file says it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    search: SearchSettings = SearchSettings()
    space: dict[str, Space] = {}

    @classmethod
    def read(cls, path: str | Path) -> "Plan":
        """The plan of a file.

        Raises
        ------
        BadSettings
            The file cannot be read or holds a key or value that is wrong.
        """
        try:
            return cls.model_validate(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise BadSettings(f"{path}: cannot be read ({error.strerror})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadSettings(f"{path}: is not a TOML file: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"][:2])
            what = first["msg"].removeprefix("Value error, ")
            raise BadSettings(f"{path}: {where}: {what[0].lower()}{what[1:]}") from error

    def draw(self) -> list[dict[str, Value]]:
        """The candidates: first no change at all, then `n_candidates` at random."""
        rng = np.random.default_rng(self.search.seed)
        n = self.search.n_candidates if self.space else 0
        drawn = [{key: _draw(space, rng) for key, space in self.space.items()} for _ in range(n)]
        return [{}, *drawn]


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate measured on a share (0-1) of the stories; a higher `score` is better."""

    number: int
    round: int
    share: float
    changes: dict[str, Value]
    score: float
    n_rows: int


@dataclass(frozen=True, slots=True)
class Found:
    """The best settings, and every trial in the order of rounds and candidates."""

    settings: Settings
    changes: dict[str, Value]
    trials: tuple[Trial, ...]

    def history(self) -> dict[str, Any]:
        """The search as the report of the winner records it."""
        return {
            "changes": self.changes,
            "trials": [
                {
                    "number": t.number,
                    "round": t.round,
                    "share": t.share,
                    "score": t.score,
                    "n_rows": t.n_rows,
                    "changes": t.changes,
                }
                for t in self.trials
            ],
        }

    def table(self) -> str:
        """The trials of the last round, best first, then the best of each earlier one."""
        lines = ["round  share  score    changes"]
        last = max(trial.round for trial in self.trials)
        for number in range(last, -1, -1):
            own = sorted((t for t in self.trials if t.round == number), key=lambda t: -t.score)
            for trial in own[: None if number == last else 3]:
                told = ", ".join(f"{k}={_shown(v)}" for k, v in trial.changes.items()) or "(none)"
                lines.append(f"{number:5}  {trial.share:5.2f}  {trial.score:.4f}  {told}")
        return "\n".join(lines)


def search(
    source: Any,
    plan: Plan,
    settings: Settings | None = None,
    *,
    state: str | os.PathLike[str] | None = None,
    engine: Engine | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Found:
    """The best settings of a plan's space for the rows of a source.

    `state` is a file of finished trials: what it holds is not measured again, and what is
    measured is added, a line each. It belongs to one plan, recipe and data set.

    Raises
    ------
    BadSettings
        A candidate has a setting that is unknown or out of range, or `state` belongs to another
        search.
    """
    base = settings or Settings.read(recipe_of(source))
    candidates = [(changes, _changed(base, changes)) for changes in plan.draw()]
    rows = training.read_labelled(source, base)
    truth = [str(row.label) for row in rows]
    groups = story_groups(rows, base)
    kept = _State(state, _identity(plan, base, rows))
    say = progress or (lambda what, done, of: None)
    run = engine or Engine()
    alive = list(range(len(candidates)))
    trials: list[Trial] = []
    for number, share in enumerate(_shares(plan, len(candidates))):
        part = _part(groups, share, plan.search.seed)
        own_rows = [rows[i] for i in part]
        own_truth = [truth[i] for i in part]
        splits = _splits(own_rows, own_truth, [groups[i] for i in part], plan)
        waiting = [c for c in alive if kept.get(number, c) is None]
        calls = [
            call
            for c in waiting
            for call in learning.fold_calls(
                own_rows, own_truth, splits, **training.learning_arguments(candidates[c][1])
            )
        ]
        results = run.run(f"round {number + 1}", say)(calls)
        for c in waiting:
            folds = [
                learning.Fold(test, *result)
                for (_, test), result in zip(
                    splits, itertools.islice(results, len(splits)), strict=True
                )
            ]
            score = _score(learning.Fold.join(folds), own_truth, plan.search.metric)
            kept.add(Trial(c, number, share, candidates[c][0], score, len(part)))
        now = [found for c in alive if (found := kept.get(number, c)) is not None]
        trials += now
        # Of equals the earlier candidate stays: the recipe itself, before any change.
        now.sort(key=lambda trial: (-trial.score, trial.number))
        alive = sorted(t.number for t in now[: max(math.ceil(len(now) / plan.search.factor), 1)])
        best = now[0].number
    return Found(candidates[best][1], candidates[best][0], tuple(trials))


def _draw(space: Space, rng: np.random.Generator) -> Value:
    if isinstance(space, list):
        return space[int(rng.integers(len(space)))]
    low, high = (
        (math.log(space.low), math.log(space.high)) if space.log else (space.low, space.high)
    )
    value = float(rng.uniform(low, high))
    value = math.exp(value) if space.log else value
    return round(value) if space.integer else float(f"{value:.4g}")


def _changed(base: Settings, changes: Mapping[str, Value]) -> Settings:
    tree = base.model_dump(mode="json")
    for path, value in changes.items():
        *keys, last = path.split(".")
        here = tree
        for key in keys:
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                raise BadSettings(f"space: {path!r}: {key!r} is a value and holds no keys")
        here[last] = value
    return Settings.from_mapping(tree, where="space")


def _shares(plan: Plan, n: int) -> list[float]:
    """The share of the stories in each round; the last is always all of them."""
    rounds = 1
    while n > plan.search.factor ** (rounds - 1) and rounds < 12:
        rounds += 1
    step = plan.search.min_share ** (1 / max(rounds - 1, 1))
    return (
        [float(f"{step ** (rounds - 1 - r):.4g}") for r in range(rounds)] if rounds > 1 else [1.0]
    )


def _part(groups: Sequence[int], share: float, seed: int) -> list[int]:
    """The rows of a share of the stories; a larger share holds every smaller one."""
    stories = np.unique(np.asarray(groups))
    order = np.random.default_rng(seed).permutation(stories)
    own = set(order[: max(int(len(order) * share), 2)].tolist())
    return [i for i, group in enumerate(groups) if group in own]


def _splits(
    rows: Sequence[Headline], truth: Sequence[str], groups: Sequence[int], plan: Plan
) -> list[learning.Split]:
    """Folds over whole sources where there are enough of them, else over stories."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    folds = plan.search.folds
    sources = [row.source or "" for row in rows]
    stories = len(set(groups))
    rare = min(Counter(truth).values())
    found: list[learning.Split] = []
    if len(set(sources)) >= 2 * folds:
        found = list(GroupKFold(folds).split(truth, truth, sources))
    elif min(rare, stories) >= 2:
        n = min(folds, rare, stories)
        folder = StratifiedGroupKFold(n, shuffle=True, random_state=plan.search.seed)
        found = list(folder.split(truth, truth, groups))
    elif stories >= 2:
        found = list(GroupKFold(min(folds, stories)).split(truth, truth, groups))
    use = [(a, b) for a, b in found if len({truth[i] for i in a}) > 1 and len(b)]
    if not use:
        raise BadSettings("too few rows or labels to search on; give more, or a larger min_share")
    return use


def _score(fold: learning.Fold, truth: Sequence[str], metric: str) -> float:
    from scipy.special import log_softmax
    from sklearn.metrics import f1_score

    names = sorted(set(truth))
    real = np.array([names.index(truth[i]) for i in fold.test])
    if metric == "macro_f1":
        return float(f1_score(real, fold.decision.argmax(axis=1), average="macro"))
    return float(log_softmax(fold.decision, axis=1)[np.arange(len(real)), real].mean())


def _identity(plan: Plan, base: Settings, rows: Sequence[Headline]) -> str:
    told = [plan.model_dump(mode="json"), base.model_dump(mode="json"), training.fingerprint(rows)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


class _State:
    """Finished trials, in memory and, if there is a path, in a file that is only appended to."""

    def __init__(self, path: str | os.PathLike[str] | None, identity: str) -> None:
        self._path = Path(path) if path is not None else None
        self._known: dict[tuple[int, int], Trial] = {}
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._path.exists() or not self._load(identity):
                self._append({"search": identity})
        except OSError as error:
            raise NoRoom(f"{self._path}: cannot be used ({error.strerror})") from error

    def _load(self, identity: str) -> bool:
        """Take the trials of the file; False where a kill left less than its first line."""
        assert self._path is not None  # noqa: S101  # the caller looked
        data = self._path.read_bytes()
        if len(data) < len(first := _line({"search": identity})) and first.startswith(data):
            os.truncate(self._path, 0)
            return False
        whole = data[: data.rfind(b"\n") + 1]
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            if lines[0]["search"] != identity:
                raise BadSettings(
                    f"{self._path}: belongs to another search (other space, recipe or rows); "
                    "name another --state, or remove it"
                )
            trials = [Trial(**line) for line in lines[1:]]
        except (ValueError, LookupError, TypeError) as error:
            raise BadSettings(
                f"{self._path}: is no file of a search; name another --state, or remove it"
            ) from error
        os.truncate(self._path, len(whole))  # a line that a kill tore is measured again
        self._known = {(trial.round, trial.number): trial for trial in trials}
        return True

    def get(self, round_: int, number: int) -> Trial | None:
        return self._known.get((round_, number))

    def add(self, trial: Trial) -> None:
        self._known[trial.round, trial.number] = trial
        if self._path is not None:
            self._append(
                {
                    "number": trial.number,
                    "round": trial.round,
                    "share": trial.share,
                    "changes": trial.changes,
                    "score": trial.score,
                    "n_rows": trial.n_rows,
                }
            )

    def _append(self, record: Mapping[str, Any]) -> None:
        assert self._path is not None  # noqa: S101  # the callers looked
        with self._path.open("ab") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _shown(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
