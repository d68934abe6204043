"""What the package is built on is written down, and agrees with pyproject.toml."""

import re

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

import licences
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


# Licences --------------------------------------------------------------------------------------

LISTED = {
    name: (version, licence)
    for name, version, licence in re.findall(
        r"^\| ([a-z0-9-]+) \| (\S+) \| ([^|]+) \|",
        licences.PAGE.read_text(encoding="utf-8").partition("|---|")[2],
        re.MULTILINE,
    )
}


def test_every_direct_dependency_has_its_licence_listed() -> None:
    direct = {canonicalize_name(name) for name in oldest.bounds()}
    assert not direct - set(LISTED), "run 'make licences'"
    assert all(licence.strip() for _, licence in LISTED.values())


def test_the_licences_are_those_of_the_versions_that_are_pinned() -> None:
    assert {name: version for name, (version, _) in LISTED.items()} == {
        name: CONSTRAINTS.get(name) for name in LISTED
    }, "run 'make licences'"


def test_a_licence_that_is_not_told_as_spdx_is_never_guessed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(licences, "READ", {})
    with pytest.raises(LookupError, match=r"^jinja2: its metadata tell no SPDX licence"):
        licences.licence("jinja2")
    assert licences.licence("numpy").startswith("BSD-3-Clause")


def test_what_a_dependency_requires_is_found_too() -> None:
    found = licences.closure()
    assert {"kopwijzer"} <= found["numpy"]
    assert "pydantic" in found["pydantic-core"]
    assert "kopwijzer" not in found
