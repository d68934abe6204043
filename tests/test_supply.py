"""What the package is built on is written down, and agrees with pyproject.toml."""

import re

from packaging.version import Version

import oldest

CONSTRAINTS = oldest.pins(oldest.ROOT / "constraints.txt")


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    pins = oldest.pins(oldest.LOCK)
    bounds = oldest.bounds()
    assert {name: Version(pins.get(name, "0")) for name in bounds} == {
        name: Version(bound) for name, bound in bounds.items()
    }, "pyproject.toml has other lower bounds: run 'python tests/oldest.py --lock'"


def test_every_line_of_the_oldest_versions_is_one_exact_version() -> None:
    lines = oldest.LOCK.read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line) for line in lines)
