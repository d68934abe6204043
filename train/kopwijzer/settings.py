"""Settings: one TOML file -> one checked recipe. Nothing that decides a model is hidden in code."""

import difflib
import json
import re
import reprlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from kopwijzer.errors import BadSettings
from kopwijzer.headlines import Columns
from kopwijzer.scorer import Abstention
from kopwijzer.text import Block, gram_sizes

__all__ = ["Settings", "recipe_of", "shipped"]

_CORPUS = "football-nl"  # what comes with the package: a folder of rows, and a recipe

Share = Annotated[float, Field(ge=0, le=1)]


#: One share for every label, or a table by label. The tags are there for the messages: of a plain
#: union pydantic tells what is wrong with every member.
_Promise = Annotated[
    Annotated[Share, Tag("(one)")] | Annotated[dict[str, Share], Tag("(table)")],
    Discriminator(lambda value: "(table)" if isinstance(value, Mapping) else "(one)"),
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSettings(_Section):
    """Which columns to read, and what to do with rows that cannot be read."""

    headline: str = "headline"
    teaser: str = "teaser"
    label: str = "label"
    group: str = "group"
    source: str = "source"
    date: str = "date"
    labels: tuple[str, ...] = ()
    on_bad_row: Literal["fail", "skip"] = "fail"

    def columns(self) -> Columns:
        """The columns as the reader takes them."""
        return Columns(
            headline=self.headline,
            teaser=self.teaser,
            label=self.label,
            group=self.group,
            source=self.source,
            date=self.date,
        )


class BlockSettings(_Section):
    """One group of features (see `kopwijzer.text.Block`)."""

    kind: Literal["words", "characters", "patterns"] = "words"
    field: Literal["both", "headline", "teaser"] = "both"
    ngrams: tuple[Annotated[int, Field(ge=1, le=8)], Annotated[int, Field(ge=1, le=8)]] = (1, 2)
    min_df: Annotated[int, Field(ge=1)] = 2
    max_df: Annotated[float, Field(gt=0, le=1)] = 1.0
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0

    @field_validator("ngrams")
    @classmethod
    def _rising(cls, value: tuple[int, int], info: ValidationInfo) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError("the smaller n-gram size comes first")
        if info.data.get("kind") == "words" and value not in ((1, 1), (1, 2)):
            raise ValueError("words come alone and in pairs: [1, 1] or [1, 2]")
        return value


class LearningSettings(_Section):
    """The logistic regression."""

    C: Annotated[float, Field(gt=0, le=1e6)] = 8.0
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    balance: Share = 0.0
    prior: dict[str, Annotated[float, Field(gt=0, lt=1)]] = {}
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    chunk_rows: Annotated[int, Field(ge=100, le=10_000_000)] | None = None


class AbstentionSettings(_Section):
    """When the model says that it does not know."""

    label: Annotated[str, Field(min_length=1)] = "other"
    min_known_share: Share = 0.55
    min_confidence: Share = 0.5
    precision: _Promise | None = None


class EvaluationSettings(_Section):
    """How honest figures are made."""

    folds: Annotated[int, Field(ge=2, le=50)] = 5
    near_duplicates: Annotated[float, Field(gt=0, le=1)] = 0.5
    newest: Annotated[float, Field(gt=0, lt=1)] = 0.2
    n_bootstrap: Annotated[int, Field(ge=10, le=100_000)] = 1000
    learning_curve: bool = True


class Settings(_Section):
    """A whole recipe. `Settings.read()` is the shipped one.

    >>> Settings.read(changes=["learning.C=2.5"]).learning.C
    2.5
    """

    data: DataSettings = DataSettings()
    features: Annotated[dict[str, BlockSettings], Field(min_length=1)] = {"words": BlockSettings()}
    learning: LearningSettings = LearningSettings()
    abstention: AbstentionSettings = AbstentionSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @field_validator("features")
    @classmethod
    def _alike(cls, value: dict[str, BlockSettings]) -> dict[str, BlockSettings]:
        try:
            blocks = [_block(name, block) for name, block in value.items()]
            for kind in ("characters", "patterns"):
                gram_sizes(blocks, kind)
        except BadSettings as error:
            raise ValueError(str(error)) from error
        return value

    @classmethod
    def read(cls, path: str | Path | None = None, changes: Sequence[str] = ()) -> "Settings":
        """The settings of a recipe, with changes.

        `path` is a TOML file, or the name of a recipe that comes with the package: "default"
        (without a path) or "football-nl". A file may begin with ``extends``, a recipe named in
        the same two ways, a file beside it first: its tables then fill in and change that one.
        A change is "section.key=value" with a TOML value; text needs no quotes.

        Raises
        ------
        BadSettings
            The file cannot be read, or a key or value is wrong; the message names the nearest
            known key.
        """
        file = _shipped_recipe("default") if path is None else _recipe(path)
        tree = _read(file)
        for change in changes:
            _apply(tree, change)
        # What is wrong with a recipe of ours came in by the changes.
        ours = file.parent == shipped("configs")
        return cls.from_mapping(tree, where="settings" if ours else str(file))

    @classmethod
    def from_mapping(cls, tree: Mapping[str, Any], where: str = "settings") -> "Settings":
        """The settings of nested mappings, as `read` checks them."""
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise BadSettings(_sentences(error, where)) from error

    def blocks(self) -> tuple[Block, ...]:
        """The feature blocks in their order."""
        return tuple(_block(name, block) for name, block in self.features.items())

    def abstains(
        self, thresholds: Mapping[str, float] | None = None, labels: Iterable[str] = ()
    ) -> Abstention:
        """The rules for abstaining of a model with these labels.

        `thresholds` were chosen from data. Labels without one have `min_confidence`, if rows with
        the abstaining label were among the training rows.
        """
        rule = self.abstention
        found = dict.fromkeys(sorted(set(labels) - {rule.label}), rule.min_confidence)
        if rule.label not in labels:
            found = {}
        return Abstention(rule.label, {**found, **(thresholds or {})}, rule.min_known_share)

    def to_toml(self) -> str:
        """The filled-in settings as TOML that `read` takes."""
        lines: list[str] = []
        for section, values in self.model_dump(mode="json").items():
            _write_table(lines, section, values)
        return "\n".join(lines).strip() + "\n"


def recipe_of(source: Any) -> Path:
    """The recipe that a source is trained by unless another is asked for: the shipped corpus
    (no source, or its folder) has its own, everything else the default."""
    folder = isinstance(source, str | PathLike) and Path(source).is_dir()
    own = source is None or (folder and Path(source).samefile(shipped(_CORPUS)))
    return _shipped_recipe(_CORPUS if own else "default")


def _shipped_recipe(name: str) -> Path:
    return shipped("configs") / f"{name}.toml"


def _recipe(path: str | Path, beside: Path | None = None) -> Path:
    """The file of a recipe: a path (from a folder), or the name of a shipped one."""
    own = _shipped_recipe(str(path))
    file = Path(path) if beside is None else beside / path
    return own if own.is_file() and not file.is_file() else file


def _read(file: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The tables of a recipe over those of the one that it extends."""
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "" if file.suffix else f"; name a TOML file, or 'default' or {_CORPUS!r}"
        raise BadSettings(f"{file}: cannot be read ({error.strerror}){hint}") from error
    except (ValueError, RecursionError) as error:
        raise BadSettings(f"{file}: is not a TOML file: {error}") from error
    if "extends" not in tree:
        return tree
    base = tree.pop("extends")
    if not isinstance(base, str):
        raise BadSettings(f"{file}: extends = {base!r}: put the name of one recipe, in quotes")
    above = (*above, file.resolve())
    found = _recipe(base, file.parent)
    if found.resolve() in above:
        raise BadSettings(f"{file}: extends = {base!r}: that recipe extends this one; cut the ring")
    return _over(_read(found, above), tree)


def _over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables with those of another put over them, key by key."""
    for key, value in above.items():
        old = below.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        below[key] = _over(old, value) if both else value  # type: ignore[arg-type]  # both are
    return below


def _block(name: str, block: BlockSettings) -> Block:
    return Block(
        name=name,
        kind=block.kind,
        field=block.field,
        low=block.ngrams[0],
        high=block.ngrams[1],
        weight=block.weight,
        min_df=block.min_df,
        max_df=block.max_df,
    )


def shipped(folder: str) -> Path:
    """A folder that comes with the package ("configs", "football-nl"), installed or in a clone."""
    inside = Path(str(resources.files("kopwijzer"))) / "shipped" / folder
    if inside.is_dir():
        return inside
    root = Path(__file__).resolve().parents[2]
    return root / folder if folder == "configs" else root / "data" / folder


def _apply(tree: dict[str, Any], change: str) -> None:
    """Set one "section.key=value" in nested tables."""
    path, equals, text = change.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise BadSettings(f"--set {change!r}: write it as section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise BadSettings(f"--set {change!r}: {key!r} is a value and holds no keys")
    tree[keys[-1]] = value


def _sentences(error: ValidationError, where: str) -> str:
    """Every fault in one sentence each: where, which value, what is expected, the nearest key."""
    faults = []
    for fault in error.errors():
        path = ".".join(str(part) for part in fault["loc"] if part not in ("(one)", "(table)"))
        if fault["type"] == "extra_forbidden":
            known = _known_keys(fault["loc"][:-1])
            last = str(fault["loc"][-1])
            near = [key for key in known if key.lower() == last.lower()]
            near = near or difflib.get_close_matches(last, known, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            faults.append(f"{where}: unknown key {path!r}; {hint}")
        else:
            what = fault["msg"].removeprefix("Value error, ")
            value = reprlib.repr(fault["input"])
            faults.append(f"{where}: {path} = {value}: {what[0].lower()}{what[1:]}")
    return "\n".join(faults)


def _known_keys(path: Sequence[int | str]) -> list[str]:
    model: Any = Settings
    for part in path:
        if model is BlockSettings:
            break
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if part == "features":
            model = BlockSettings if len(path) > 1 else None
            continue
        if field is None:
            continue
        model = field.annotation
    return list(model.model_fields) if model is not None else []


def _write_table(lines: list[str], name: str, values: Mapping[str, Any]) -> None:
    flat = {k: v for k, v in values.items() if not isinstance(v, Mapping) and v is not None}
    if flat:
        lines += ["", f"[{name}]"]
        lines += [f"{_key(key)} = {_toml(value)}" for key, value in flat.items()]
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            _write_table(lines, f"{name}.{_key(key)}", value)


def _key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # JSON writes what TOML reads, but for one sign that only TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
