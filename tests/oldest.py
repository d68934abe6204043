"""Run the tests with the oldest dependencies that pyproject.toml allows: `make test-oldest`.

Every lower bound is an exact version in oldest.txt, beside all that those versions need in turn, so
that nothing is left to resolve and nothing to build: a resolver that may choose walks back through
years of releases, and old sources do not build on a new Python. `python tests/oldest.py --lock`
writes the file anew; `test_supply.py` fails when it no longer agrees with pyproject.toml.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "tests" / "oldest.txt"
PLACE = ROOT / ".venv-oldest"
PYTHON = "3.11"  # the oldest of requires-python
#: The extras of the everyday environment; Ray alone is larger than all the rest together.
EXTRAS = ("dask", "fast", "remote", "sign")
#: Long, and about bytes, processes and our own files: other libraries make no difference to them.
LEFT_OUT = ("corpus", "crash", "fuzz", "hostile", "page", "supply")
HEADER = """\
# The oldest versions that pyproject.toml allows, and what they need: make test-oldest
# Written by: python tests/oldest.py --lock
"""


def bounds() -> dict[str, str]:
    """The lower bound of each dependency of the package and of its extras, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    every = [*project["dependencies"], *(line for name in EXTRAS for line in extras[name])]
    return dict(line.split(">=") for line in every)


def pins(path: Path) -> dict[str, str]:
    """The version of each package of a file of pins, by name in lower case with hyphens."""
    found = re.findall(r"^([\w.-]+)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def lock() -> None:
    """Write oldest.txt: the bounds, the tools that test, and the newest of what these allow."""
    tools = pins(ROOT / "constraints.txt")
    exact = bounds() | {name: tools[name] for name in ("pytest", "hypothesis", "playwright")}
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "uv"], check=True)
    found = subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet", "--no-header"),
            *("--no-annotate", "--only-binary", ":all:", "--python-version", PYTHON),
        ],
        input="\n".join(f"{name}=={version}" for name, version in exact.items()),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    LOCK.write_text(HEADER + found.stdout, encoding="utf-8")


def oldest_python() -> str:
    """Python 3.11 where one is at hand and works, else the one that runs this."""
    for name in (sys.executable, shutil.which(f"python{PYTHON}")):
        if name is not None:
            code = f"import ensurepip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '{PYTHON}')"
            if subprocess.run([name, "-c", code], capture_output=True, check=False).returncode == 0:
                return name
    return sys.executable


def main() -> None:
    """Make the environment anew and run the tests in it; ends with pytest's exit code."""
    if sys.argv[1:] == ["--lock"]:
        return lock()
    subprocess.run([oldest_python(), "-m", "venv", "--clear", str(PLACE)], check=True)
    python = str(PLACE / "bin" / "python")
    pip = [python, "-m", "pip"]
    for command in (
        [*pip, "install", "--quiet", "--upgrade", "pip>=25.1"],
        [*pip, "install", "--quiet", "--no-deps", "--requirement", str(LOCK)],
        [*pip, "install", "--quiet", "--no-deps", "--editable", "."],
        [*pip, "check"],
    ):
        if subprocess.call(command, cwd=ROOT, env={**os.environ, "PIP_ONLY_BINARY": ":all:"}):
            sys.exit(
                f"tests/oldest.py: the versions of oldest.txt cannot be installed; they have "
                f"wheels for Python {PYTHON}, so put a python{PYTHON} on the PATH and try again."
            )
    # Old libraries warn of things that newer ones have mended: here warnings are no errors.
    ignored = [f"--ignore=tests/test_{name}.py" for name in LEFT_OUT]
    sys.exit(subprocess.call([python, "-m", "pytest", "-W", "default", "-q", *ignored], cwd=ROOT))


if __name__ == "__main__":
    main()
