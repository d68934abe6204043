"""The rooms stand in one order and import only from those before them; scoring needs little."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kopwijzer

PACKAGE = Path(kopwijzer.__file__).parent
#: A room imports only from those before it.
ORDER = [
    "errors",
    "pages",
    "formats",
    "sources",
    "headlines",
    "text",
    "weights",
    "sums",
    "compiled",
    "scorer",
    "arrays",
    "settings",
    "spool",
    "duplicates",
    "learning",
    "figures",
    "check",
    "pictures",
    "page",
    "card",
    "folders",
    "manifest",
    "versions",
    "signing",
    "engines",
    "serving",
    "records",
    "bulk",
    "splits",
    "report",
    "training",
    "promotion",
    "search",
    "doctor",
    "cli",
]
HEAVY = {
    "bs4",
    "datasets",
    "datasketch",
    "feedparser",
    "ftfy",
    "jinja2",
    "joblib",
    "matplotlib",
    "numba",
    "pandas",
    "pyarrow",
    "pydantic",
    "scipy",
    "sklearn",
    "tqdm",
    "typer",
}


def _rooms() -> dict[str, list[Path]]:
    """Each room and its files; a folder is one room."""
    rooms: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        rooms.setdefault(own, []).append(path)
    return rooms


def _imported(path: Path) -> Iterator[tuple[str, int]]:
    """The rooms that a file imports from, wherever in it, with the line."""
    own = path.relative_to(PACKAGE.parent).with_suffix("").parts
    package = own[:-1]  # a module's own, and an __init__'s
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[tuple[str, ...]] = []
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            names = [(*module, alias.name) for alias in node.names]
        for name in names:
            if name[0] == "kopwijzer" and len(name) > 1 and _is_room(name[1]):
                yield name[1], getattr(node, "lineno", 0)


def _is_room(name: str) -> bool:
    return (PACKAGE / f"{name}.py").exists() or (PACKAGE / name / "__init__.py").exists()


def test_every_room_has_its_place() -> None:
    assert len(set(ORDER)) == len(ORDER)
    assert set(_rooms()) - {"__init__", "__main__"} == set(ORDER)


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_from_those_before_it(room: str) -> None:
    before = ORDER[: ORDER.index(room)]
    steps_back = [
        f"{path.name}:{line} imports {other}"
        for path in _rooms().get(room, [])
        for other, line in _imported(path)
        if other != room and other not in before
    ]
    assert steps_back == []


def test_the_door_imports_rooms_only_for_types() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    own = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in own] == ["from typing import TYPE_CHECKING, Any"]
    assert {other for other, _ in _imported(PACKAGE / "__main__.py")} == {"cli"}


def test_imports_are_read_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The reader of the graph itself: relative, renamed, nested and conditional imports.
    package = tmp_path / "kopwijzer"
    (package / "deep").mkdir(parents=True)
    for room in ("errors", "text", "cli"):
        (package / f"{room}.py").touch()
    (package / "deep" / "__init__.py").write_text("from .. import text as t\n")
    path = package / "deep" / "inner.py"
    path.write_text(
        "import kopwijzer.errors as e\n"
        "def f():\n"
        "    from kopwijzer.text import expand\n"
        "if 1:\n"
        "    from kopwijzer import cli, __version__\n"
        "from ..errors import BadRows\n"
        "from . import sibling\n"
        "import numpy.errors\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", package)
    assert sorted(_imported(path)) == [
        ("cli", 5),
        ("deep", 7),
        ("errors", 1),
        ("errors", 6),
        ("text", 3),
    ]
    assert list(_imported(package / "deep" / "__init__.py")) == [("text", 1)]


# What a fresh process loads --------------------------------------------------------------------


def _loaded(code: str, *arguments: str) -> set[str]:
    """The names of all modules that a fresh process has loaded after running some code."""
    ended = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            f"import sys\nsys.path.insert(0, {str(PACKAGE.parent)!r})\n{code}\n"
            "import json\nprint(json.dumps(sorted(sys.modules)))",
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout.splitlines()[-1]))


def test_the_door_loads_nothing() -> None:
    loaded = _loaded("import kopwijzer\nassert kopwijzer.__version__\ndir(kopwijzer)")
    assert {name for name in loaded if name.startswith("kopwijzer")} == {"kopwijzer"}
    assert not loaded & {"numpy", *HEAVY}


def test_importing_what_scores_loads_no_library_but_numpy() -> None:
    loaded = _loaded(
        "import kopwijzer.serving, kopwijzer.records, kopwijzer.versions\n"
        "from kopwijzer.scorer import Scorer\nScorer.score_many"
    )
    assert "numpy" in loaded
    assert not loaded & HEAVY


def test_scoring_with_a_saved_version_loads_no_library_but_numpy(shelf: Path) -> None:
    code = """
import kopwijzer
from kopwijzer import records, versions
from kopwijzer.headlines import Headline
scorer = kopwijzer.load("nieuws", models=sys.argv[1])
row = Headline("'Genk polst Bos van Ajax'", "De spits is vrij.")
assert scorer.score_many([row])[0] == scorer.score(row.headline, row.teaser)
for form in ("jsonl", "csv", "table"):
    answers = records.predict(scorer, [row])
    assert "".join(records.write(answers, form, scorer, top=2, explain=True))
versions.verify(versions.find("nieuws", sys.argv[1]))
"""
    assert not _loaded(code, str(shelf)) & HEAVY
