"""Audit what the package is built on: `make audit`.

First what needs no network: the environment is consistent, and constraints.txt holds released
versions that pyproject.toml allows and that are installed. Then whether a pinned version was
yanked, by the package index, and whether it has a known vulnerability, by pip-audit.

Exit code 0: all was asked and nothing found; 1: something was found; 3: nothing was found, but a
service did not answer. pip-audit itself ends with 0 where its service knows no package at all, so
what counts here is of how many packages it has really answered.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from oldest import EXTRAS, ROOT, pins

PINS = ROOT / "constraints.txt"
AUDIT = ROOT / ".venv-audit" / "bin" / "pip-audit"
GROUPS = ("test", "check")


def requirements(project: Mapping[str, Any]) -> Iterator[Requirement]:
    """What pyproject.toml asks for, the extras and groups of the everyday environment included."""
    yield from map(Requirement, project["project"]["dependencies"])
    for name in EXTRAS:
        yield from map(Requirement, project["project"]["optional-dependencies"][name])
    for name in GROUPS:
        yield from map(Requirement, project["dependency-groups"][name])


def faults(required: Iterator[Requirement], pinned: Mapping[str, str]) -> Iterator[str]:
    """Where the pins are no releases, or not what is asked for; one sentence each."""
    for name, exact in pinned.items():
        if Version(exact).is_prerelease or Version(exact).local:
            yield f"constraints.txt: {name}=={exact} is no final release; pin one."
    for one in required:
        exact = pinned.get(canonicalize_name(one.name), "")
        if not exact:
            yield f"constraints.txt: {one.name} has no version; pin one."
        elif not one.specifier.contains(exact, prereleases=True):
            yield f"constraints.txt: {one.name}=={exact} is not what pyproject.toml allows ({one})."


def strangers(pinned: Mapping[str, str]) -> Iterator[str]:
    """Where another version is installed than the one that is pinned."""
    for name, exact in pinned.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            continue  # of an extra or a group that is not installed
        if Version(found) != Version(exact):
            yield f"{name} {found} is installed, but {exact} is pinned; run 'make test'."


def output(*command: str) -> tuple[int, str]:
    """The exit code of a command and what it printed; 127 where it is not there."""
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return 127, ""
    return ended.returncode, ended.stdout


def loaded(text: str, key: str) -> list[dict[str, Any]]:
    """The list under a key of JSON; empty where the text is none, as after a failed connection."""
    try:
        found: list[dict[str, Any]] = json.loads(text)[key]
    except (ValueError, KeyError, TypeError):
        return []
    return found


def yanked(report: str, pinned: Mapping[str, str]) -> tuple[list[str], str]:
    """What pip's report says was yanked, and a sentence where it does not tell of every pin."""
    items = loaded(report, "install")
    found = [item["metadata"] for item in items if item.get("is_yanked")]
    told = [f"{item['name']} {item['version']} was yanked; pin another version." for item in found]
    if len(items) < len(pinned):
        return told, "The package index could not be reached: yanked versions are unknown."
    return told, ""


def vulnerable(report: str, pinned: Mapping[str, str]) -> tuple[list[str], str]:
    """What pip-audit's report found, and a sentence where it does not tell of every pin."""
    items = [item for item in loaded(report, "dependencies") if "skip_reason" not in item]
    told = [
        f"{item['name']} {item['version']} has the known vulnerability {one['id']}; "
        f"it is mended in {', '.join(one['fix_versions']) or 'no version yet'}."
        for item in items
        for one in item["vulns"]
    ]
    if len(items) < len(pinned):
        return told, (
            f"The vulnerability service gave no answer for {len(pinned) - len(items)} of "
            f"{len(pinned)} packages: their known vulnerabilities are unknown."
        )
    return told, ""


def main() -> int:
    """Print every fault and every service that did not answer; the exit code as told above."""
    pinned = pins(PINS)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = [*faults(requirements(project), pinned), *strangers(pinned)]
    pip = (sys.executable, "-m", "pip")
    if (checked := output(*pip, "check"))[0]:
        found += checked[1].splitlines()
    print(f"constraints.txt: {len(pinned)} pins; offline, {len(found)} faults were found.")
    _, report = output(
        *(*pip, "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"),
        *("--only-binary", ":all:", "--report", "-", "--requirement", str(PINS)),
    )
    _, audited = output(
        *(str(AUDIT), "--requirement", str(PINS), "--no-deps", "--disable-pip"),
        *("--format", "json", "--progress-spinner", "off"),
    )
    unknown = []
    for told, unreached in (yanked(report, pinned), vulnerable(audited, pinned)):
        found += told
        unknown += [unreached] if unreached else []
    print("\n".join([*found, *unknown, *([] if found or unknown else ["Nothing was found."])]))
    return 1 if found else 3 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
