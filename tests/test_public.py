"""What the package offers is what `__all__` says, and every offer is explained."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import kopwijzer

PACKAGE = Path(kopwijzer.__file__).parent
ROOMS = sorted(
    path.stem for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__")
)


def _room(name: str) -> ModuleType:
    return importlib.import_module(f"kopwijzer.{name}")


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


# The door --------------------------------------------------------------------------------------


def test_the_door_offers_what_it_says() -> None:
    assert kopwijzer.__all__ == sorted(set(kopwijzer.__all__))
    assert set(kopwijzer.__all__) == set(kopwijzer._ROOMS)
    for name in kopwijzer.__all__:
        assert getattr(kopwijzer, name) is getattr(_room(kopwijzer._ROOMS[name]), name)
    assert set(kopwijzer.__all__) <= set(dir(kopwijzer))


def test_the_door_has_the_same_types_as_names() -> None:
    for node in _tree(PACKAGE / "__init__.py").body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            typed = {
                alias.name: str(part.module).removeprefix("kopwijzer.")
                for part in node.body
                if isinstance(part, ast.ImportFrom)
                for alias in part.names
            }
    assert typed == kopwijzer._ROOMS


def test_no_name_is_that_of_a_room() -> None:
    assert not set(kopwijzer.__all__) & set(ROOMS)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'kopwijzer' has no attribute 'laod'"):
        kopwijzer.laod  # noqa: B018  # type: ignore[attr-defined]


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([.a-z]+\d+)?", kopwijzer.__version__)


# The rooms -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_has_what_it_says(name: str) -> None:
    room = _room(name)
    assert room.__all__ == sorted(set(room.__all__), key=_as_ruff_sorts)
    for offered in room.__all__:
        value = getattr(room, offered)
        assert not offered.startswith("_")
        if inspect.isclass(value) or isinstance(value, FunctionType):
            assert value.__module__.startswith("kopwijzer.")


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def _taken(path: Path) -> Iterator[tuple[str, str]]:
    """(room, name) of what a file takes from other rooms."""
    tree = _tree(path)
    rooms: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "kopwijzer":
            rooms |= {a.asname or a.name: a.name for a in node.names if a.name in ROOMS}
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("kopwijzer."):
            room = str(node.module).split(".")[1]
            yield from ((room, alias.name) for alias in node.names)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in rooms
        ):
            yield rooms[node.value.id], node.attr


@pytest.mark.parametrize("name", ROOMS)
def test_rooms_take_from_each_other_only_what_is_offered(name: str) -> None:
    """Functions and classes; a constant says by its name that it may be read."""
    hidden = {
        f"{room}.{taken}"
        for room, taken in _taken(PACKAGE / f"{name}.py")
        if not (taken in _room(room).__all__ or taken in ROOMS or taken.isupper())
    }
    assert hidden == set()


# Explained -------------------------------------------------------------------------------------


def _public(body: list[ast.stmt], inside: str) -> Iterator[tuple[str, Any]]:
    """Functions, classes and their methods with names that do not open with an underscore."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield f"{inside}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{inside}.{node.name}")


#: What a value is in one word, beside a class whose docstring explains it.
_PLAIN = {"versions.Version.name", "versions.Version.number"}


@pytest.mark.parametrize("name", ROOMS)
def test_everything_public_is_explained(name: str) -> None:
    tree = _tree(PACKAGE / f"{name}.py")
    assert ast.get_docstring(tree), "the room"
    silent = {where for where, node in _public(tree.body, name) if not ast.get_docstring(node)}
    assert silent - _PLAIN == set()


@pytest.mark.parametrize("name", ROOMS)
def test_the_first_line_of_an_explanation_is_a_sentence(name: str) -> None:
    """One that stands by itself, or whose end is not far."""
    for where, node in _public(_tree(PACKAGE / f"{name}.py").body, name):
        told = ast.get_docstring(node)
        if told:
            first = told.split("\n\n")[0]
            assert first.endswith((".", ":", "`", '"', "...", ")")), where
            assert len(first) < 700, where
