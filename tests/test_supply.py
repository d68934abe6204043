"""What the package is built on is written down, and agrees with pyproject.toml."""

import json
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import audit
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


# The audit -------------------------------------------------------------------------------------


def test_the_pins_are_releases_that_are_allowed() -> None:
    project = tomllib.loads((oldest.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert list(audit.faults(audit.requirements(project), CONSTRAINTS)) == []


def test_pins_that_are_none_are_told() -> None:
    required = [Requirement("numpy>=2.0"), Requirement("scipy>=1.14"), Requirement("tqdm")]
    found = list(audit.faults(iter(required), {"numpy": "1.26.4", "tqdm": "5.0rc1"}))
    assert found == [
        "constraints.txt: tqdm==5.0rc1 is no final release; pin one.",
        "constraints.txt: numpy==1.26.4 is not what pyproject.toml allows (numpy>=2.0).",
        "constraints.txt: scipy has no version; pin one.",
    ]


def test_another_version_than_the_pinned_one_is_told() -> None:
    (told,) = audit.strangers({"pytest": "0.1", "not-installed": "1.0"})
    assert told.startswith("pytest ")
    assert told.endswith("is installed, but 0.1 is pinned; run 'make test'.")


def test_a_service_that_knows_no_package_has_found_nothing_out() -> None:
    # pip-audit ends with 0 here, and says that there is no known vulnerability.
    skipped = [{"name": "numpy", "skip_reason": "not found"}]
    fine = [{"name": "scipy", "version": "1.17.1", "vulns": []}]
    two = {"numpy": "2.4.6", "scipy": "1.17.1"}
    for report, missing in (
        (json.dumps({"dependencies": skipped + fine}), "1 of 2"),
        (json.dumps({"dependencies": []}), "2 of 2"),
        ("", "2 of 2"),
        ("no JSON", "2 of 2"),
    ):
        told, unreached = audit.vulnerable(report, two)
        assert told == []
        assert unreached.startswith(
            f"The vulnerability service gave no answer for {missing} packages:"
        )
    assert audit.vulnerable(json.dumps({"dependencies": fine}), {"scipy": "1.17.1"}) == ([], "")


def test_a_vulnerability_and_a_yanked_version_are_told() -> None:
    one = {"id": "PYSEC-1", "fix_versions": ["2.1"]}
    report = {"dependencies": [{"name": "a", "version": "2.0", "vulns": [one]}]}
    assert audit.vulnerable(json.dumps(report), {"a": "2.0"}) == (
        ["a 2.0 has the known vulnerability PYSEC-1; it is mended in 2.1."],
        "",
    )
    install = [{"metadata": {"name": "a", "version": "2.0"}, "is_yanked": True}]
    told = "a 2.0 was yanked; pin another version."
    assert audit.yanked(json.dumps({"install": install}), {"a": "2.0"}) == ([told], "")
    assert audit.yanked("", {"a": "2.0"})[1].startswith("The package index could not be reached")
