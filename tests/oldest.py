"""Run the tests with the oldest dependencies that pyproject.toml allows: `make test-oldest`.

Every lower bound becomes an exact version, in an environment of its own (.venv-oldest).
"""

import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / ".venv-oldest"


def main() -> None:
    """Make the environment and run the tests in it; ends with pytest's exit code."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    bounds = [re.sub(r"\[.*?\]", "", text) for text in project["project"]["dependencies"]]
    (ROOT / "build").mkdir(exist_ok=True)
    pins = ROOT / "build" / "oldest.txt"
    pins.write_text("\n".join(b.replace(">=", "==") for b in bounds) + "\n", encoding="utf-8")
    if not PLACE.exists():
        venv.create(PLACE, with_pip=True)
    python = str(PLACE / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet"]
    for command in (
        [*pip, "--upgrade", "pip>=25.1"],
        [*pip, "--constraint", str(pins), "--group", "test", "--editable", ".[sign]"],
    ):
        subprocess.run(command, cwd=ROOT, check=True)
    # Old libraries warn of things that newer ones have mended: here warnings are no errors.
    sys.exit(subprocess.call([python, "-m", "pytest", "-W", "default", "-q"], cwd=ROOT))


if __name__ == "__main__":
    main()
