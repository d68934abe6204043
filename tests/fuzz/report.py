"""The report: what campaigns counted and measured, kept from run to run."""

import json
import platform
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parent / "report.json"


def keep(name: str, found: dict[str, Any], place: str | None = None) -> str:
    """Put what was found under a name into the report; the same as text."""
    path = Path(place) if place else PLACE
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = {"python": platform.python_version(), **found}
    known[name] = found
    path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return json.dumps(found, indent=1) + "\n"
