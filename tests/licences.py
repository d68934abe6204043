"""Write docs/licences.md, what each installed run-time dependency is licensed under.

`make licences` reads it from the metadata of the environment: the package's own requirements with
its extras, and what these require in turn. A licence that is not told as one SPDX expression stops
it with the package's name, so that a person reads the licence and adds it to READ.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from oldest import EXTRAS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "licences.md"
#: Licences whose texts were read, since the metadata hold a text, a family or nothing.
READ = {
    **dict.fromkeys(
        ("contourpy", "cycler", "jinja2", "kiwisolver", "partd", "scipy", "zict"), "BSD-3-Clause"
    ),
    "matplotlib": "LicenseRef-matplotlib",
    "numba": "BSD-2-Clause",
}
#: Words of metadata and of classifiers that mean one licence.
WORDS = {
    "Apache 2.0": "Apache-2.0",
    "ISC License": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
}
HEADER = """\
# Licences

What kopwijzer with its extras dask, fast, remote and sign is built on, as installed on Linux with
Python 3.11 and constraints.txt; `make licences` writes this page from the packages' own metadata.
LicenseRef-matplotlib is Matplotlib's own licence, made after that of Python. Some wheels, those of
NumPy and SciPy among them, ship libraries under other licences, which stand in the wheels.

| package | version | licence (SPDX) | required by |
|---|---|---|---|
"""


def requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """What a package requires here, the extras' requirements included."""
    for line in distribution(name).requires or ():
        found = Requirement(line)
        if found.marker is None or any(found.marker.evaluate({"extra": e}) for e in {"", *extras}):
            yield found


def closure() -> dict[str, set[str]]:
    """Every run-time dependency, by its normal name, with the packages that require it."""
    found: dict[str, set[str]] = {}
    done: set[tuple[str, frozenset[str]]] = set()
    todo = [("kopwijzer", frozenset(EXTRAS))]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in done:
            continue
        done.add((name, extras))
        for one in requirements(name, extras):
            required = canonicalize_name(one.name)
            found.setdefault(required, set()).add(name)
            todo.append((required, frozenset(one.extras)))
    return found


def licence(name: str) -> str:
    """The SPDX expression of an installed package; raises LookupError where none is told."""
    metadata = distribution(name).metadata
    told: list[str] = [
        *metadata.get_all("License-Expression", []),
        *([READ[name]] if name in READ else []),
        *metadata.get_all("License", []),
        *metadata.get_all("Classifier", []),
    ]
    for word in told:
        if word in WORDS:
            return WORDS[word]
        if re.fullmatch(r"MIT|[\w.+]+-[\w.+-]+( (AND|OR|WITH) [\w.+-]+)*", word):
            return word
    raise LookupError(f"{name}: its metadata tell no SPDX licence; read it and add it to READ.")


def page() -> str:
    """The whole page."""
    return HEADER + "".join(
        f"| {name} | {distribution(name).version} | {licence(name)} | {', '.join(sorted(by))} |\n"
        for name, by in sorted(closure().items())
    )


def main() -> None:
    """Write the page, or tell in one sentence why it cannot be written."""
    try:
        PAGE.write_text(page(), encoding="utf-8")
    except PackageNotFoundError as error:
        sys.exit(f"tests/licences.py: {error.name} is not installed; run 'make test' first.")
    except LookupError as error:
        sys.exit(f"tests/licences.py: {error.args[0]}")
    print(f"{PAGE.name}: {len(closure())} packages")


if __name__ == "__main__":
    main()
