"""What was found: figures with their goals, as a table, as JSON, and in the README."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from .data import ROOT

__all__ = ["Finding", "Goal", "Report", "about", "rewrite", "table"]

HERE = ROOT / "tests" / "benchmarks"
RESULTS = HERE / "results"
_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "joblib",
    "pyarrow",
    "fasttext-wheel",
    "vowpalwabbit",
)
#: The cases in the order of the README.
ORDER = ("fit", "nearness", "scoring", "starting", "growth", "bulk")


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a value, and a farther one that would be better still."""

    bound: float
    kind: Literal["at most", "at least"] = "at most"
    beyond: float | None = None

    def verdict(self, value: float) -> str:
        """Whether the value meets the goal, or even the farther one."""
        if self.beyond is not None and self._holds(value, self.beyond):
            return "beyond"
        return "met" if self._holds(value, self.bound) else "MISSED"

    def text(self, unit: str) -> str:
        """The goal for people."""
        farther = "" if self.beyond is None else f"; beyond {self.beyond:g}{_unit(unit)}"
        return f"{self.kind} {self.bound:g}{_unit(unit)}{farther}"

    def _holds(self, value: float, bound: float) -> bool:
        return value <= bound if self.kind == "at most" else value >= bound


@dataclass(frozen=True, slots=True)
class Finding:
    """One measured figure. `unit` "x" is a ratio; `how` says what the clock includes."""

    what: str
    value: float
    unit: str = ""
    goal: Goal | None = None
    how: str = ""

    def cells(self) -> tuple[str, str, str, str, str]:
        """What, value, goal, verdict, how."""
        goal = self.goal.text(self.unit) if self.goal else ""
        verdict = self.goal.verdict(self.value) if self.goal else ""
        return self.what, f"{_number(self.value)}{_unit(self.unit)}", goal, verdict, self.how


@dataclass(slots=True)
class Report:
    """What one case found, with the raw measurements behind it."""

    name: str
    title: str
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def add(
        self, what: str, value: float, unit: str = "", goal: Goal | None = None, how: str = ""
    ) -> None:
        """Add a figure."""
        self.findings.append(Finding(what, float(value), unit, goal, how))

    def write(self, around: dict[str, Any]) -> None:
        """Write results/<name>.json."""
        RESULTS.mkdir(exist_ok=True)
        tree = {
            "name": self.name,
            "title": self.title,
            **around,
            "findings": [
                {**asdict(one), "verdict": one.cells()[3] or None} for one in self.findings
            ],
            "notes": self.notes,
            "raw": self.raw,
        }
        text = json.dumps(tree, ensure_ascii=False, indent=1)
        (RESULTS / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")


def about(command: str) -> dict[str, Any]:
    """The machine, the versions, the date, the commit and the command."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "command": command,
        "machine": {
            "processor": _processor(),
            "processors": os.cpu_count(),
            "memory_gib": _memory(),
            "system": f"{platform.system()} {platform.machine()}",
            "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        },
        "versions": {
            "python": platform.python_version(),
            **{name: found for name in _PACKAGES if (found := _installed(name))},
        },
    }


def table(findings: Sequence[Finding]) -> Iterable[str]:
    """The figures in lines for a terminal."""
    rows = [one.cells() for one in findings]
    width = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        what, value, goal, verdict, how = row
        line = f"  {what:{width[0]}}  {value:>{width[1]}}  {goal:{width[2]}}  {verdict:{width[3]}}"
        yield f"{line}  {how}".rstrip()


def rewrite() -> None:
    """Put the tables of all results into README.md, between its two marks."""
    path = HERE / "README.md"
    head, _, rest = path.read_text(encoding="utf-8").partition("<!-- results -->\n")
    _, _, tail = rest.partition("<!-- end -->\n")
    parts = []
    for name in ORDER:
        file = RESULTS / f"{name}.json"
        if file.exists():
            parts += _section(json.loads(file.read_text(encoding="utf-8")))
    text = "\n".join(parts)
    whole = f"{head}<!-- results -->\n{text}\n<!-- end -->\n{tail}"
    path.write_text(whole, encoding="utf-8")


def _section(tree: dict[str, Any]) -> list[str]:
    machine = tree["machine"]
    lines = [
        f"## {tree['title']}",
        "",
        f"{tree['date']}, commit {tree['commit']}, `{tree['command']}`; "
        f"{machine['processors']} processors ({machine['processor']}), "
        f"{machine['memory_gib']} GiB, Python {tree['versions']['python']}; "
        f"load before: {machine['load_before']}.",
        "",
        "| what | measured | goal | | how |",
        "|---|--:|---|---|---|",
    ]
    for one in tree["findings"]:
        goal = Goal(**one["goal"]) if one["goal"] else None
        cells = Finding(one["what"], one["value"], one["unit"], goal, one["how"]).cells()
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines.append("")
    lines += [f"- {note}" for note in tree["notes"]]
    if tree["notes"]:
        lines.append("")
    return lines


def _number(value: float) -> str:
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def _unit(unit: str) -> str:
    return unit if unit in ("", "x", "%") else f" {unit}"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit that is measured, and whether the package differs from it."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "train", "configs", "data"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit} with changes" if changed else commit


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30))
    except (ValueError, OSError, AttributeError):
        return None
