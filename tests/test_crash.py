"""Writers that fail or are killed at any moment leave whole versions, aliases and a whole log.

KOPWIJZER_CRASHES sets how many random moments are tried (60 unless given).
"""

import errno
import json
import os
import random
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import PROCESSES, leftovers, save_version, start
from kopwijzer.errors import KopwijzerError, NoRoom, NoSuchVersion
from kopwijzer.scorer import Scorer
from kopwijzer.versions import (
    aliases,
    champion,
    find,
    history,
    list_versions,
    rollback,
    set_alias,
    verify,
)

#: A long run tries every call at every place; the default one every second where it is slow.
CRASHES = int(os.environ.get("KOPWIJZER_CRASHES", "60"))
_STRIDE = 2 if CRASHES <= 60 else 1
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)
_CALLS = ("fsync", "ftruncate", "rename", "replace", "mkdir", "unlink", "rmdir")


class Kill(BaseException):
    """A fault that ends the process at once."""


class Faults:
    """Counts the calls that write, and makes some of them fail.

    `fail` is called with the number of each call before it, and raises what should happen in its
    place. Half of what a write was given has reached the file by then.
    """

    def __init__(self, patch: pytest.MonkeyPatch, fail: Callable[[int], None]) -> None:
        self.calls = 0
        self._fail = fail
        for name in _CALLS:
            patch.setattr(os, name, self._counted(getattr(os, name)))
        patch.setattr(os, "open", self._counted(os.open, lambda _, flags, *__: flags & _WRITES))
        real = Path.open

        def open_(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
            if mode in ("r", "rb"):
                return real(path, mode, *rest, **named)
            self.step()
            return _File(real(path, mode, *rest, **named), self)

        patch.setattr(Path, "open", open_)

    def step(self, half: Callable[[], Any] = lambda: None) -> None:
        self.calls += 1
        try:
            self._fail(self.calls)
        except BaseException as fault:
            half()
            if isinstance(fault, Kill):
                os.kill(os.getpid(), signal.SIGKILL)
            raise

    def _counted(
        self, real: Callable[..., Any], writes: Callable[..., Any] = lambda *_: True
    ) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            if writes(*args):
                self.step()
            return real(*args, **named)

        return call


class _File:
    """An open file whose writes are counted."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self._file = file
        self._faults = faults

    def write(self, data: bytes) -> int:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._faults.step(half)
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


# What must hold whatever happened --------------------------------------------------------------


def check(models: Path, known: set[str] | None = None) -> None:
    """Every version is whole, every alias means one, the log has no torn line.

    Versions in `known` were verified before; the others join it.
    """
    known = set() if known is None else known
    for version in list_versions(models):
        if version.ref not in known:
            verify(version)
            known.add(version.ref)
    folder = models / "nieuws"
    numbers = {version.number for version in list_versions(models)}
    for alias, number in aliases(models, "nieuws").items():
        assert int(number[1:]) in numbers
        assert find(f"nieuws@{alias}", models).number == int(number[1:])
    if (folder / "aliases").exists():
        kept = {path.name for path in (folder / "aliases").iterdir()}
        assert kept == set(aliases(models, "nieuws"))
    for name in ("log.jsonl",):
        if (folder / name).exists():
            raw = (folder / name).read_bytes()
            assert raw == b"" or raw.endswith(b"\n")
            assert all(isinstance(json.loads(line), dict) for line in raw.splitlines())


def rerun(models: Path, scorer: Scorer, pipeline: Any) -> None:
    """The next writers succeed, sweep what was left, and log what was not."""
    before = {version.number for version in list_versions(models)}
    version = save_version(models, scorer, pipeline)
    assert version.number == max(before, default=0) + 1
    set_alias(version.ref, "proef", models)
    check(models)
    assert leftovers(models) == []
    assert find("nieuws", models).number in before | {version.number}
    told = Counter(e["version"] for e in history(models, "nieuws") if e["event"] == "saved")
    assert told == Counter(f"v{number}" for number in before | {version.number})
    last = {e["alias"]: e["version"] for e in history(models, "nieuws") if "alias" in e}
    assert last == aliases(models, "nieuws")


# Every call that writes, failing ---------------------------------------------------------------

_Act = Callable[[Path, Scorer, Any], Any]


def _save(models: Path, scorer: Scorer, pipeline: Any) -> None:
    save_version(models, scorer, pipeline)


def _move(models: Path, *_: Any) -> None:
    set_alias("nieuws@v2", "champion", models)


def _first_move(models: Path, *_: Any) -> None:
    shutil.rmtree(models / "nieuws" / "aliases", ignore_errors=True)
    set_alias("nieuws@v2", "champion", models)


def _roll_back(models: Path, *_: Any) -> None:
    rollback("nieuws", models)


@pytest.fixture
def moved(models: Path) -> Path:
    """A models folder whose champion has moved from v1 to v2."""
    set_alias("nieuws@v2", "champion", models)
    return models


def _copies(models: Path) -> Iterator[Path]:
    """One copy of a models folder after the other."""
    place = models.parent / "copy"
    while True:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(models, place)
        yield place


def _count(models: Path, act: _Act, scorer: Scorer, pipeline: Any) -> int:
    """How many calls that write an act makes where nothing fails."""
    copy = next(_copies(models))
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, lambda _: None)
        act(copy, scorer, pipeline)
    return faults.calls


ACTS = [_save, _move, _first_move, _roll_back]


@pytest.mark.parametrize("turn", range(1 if CRASHES <= 60 else len(_ERRORS)))
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("act", ACTS)
def test_any_call_may_fail(
    moved: Path, scorer: Scorer, pipeline: Any, act: _Act, lasting: bool, turn: int
) -> None:
    """Each call fails with one of the errors; in a long run, with each of them."""
    calls = _count(moved, act, scorer, pipeline)
    assert calls >= 8
    step = _STRIDE if lasting else 1
    for at, models in zip(range(1, calls + 1, step), _copies(moved), strict=False):

        def fail(call: int, at: int = at) -> None:
            number = _ERRORS[(at + turn) % len(_ERRORS)]
            if call == at or (lasting and call > at):
                raise OSError(number, os.strerror(number))

        raised: BaseException | None = None
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, fail)
            try:
                act(models, scorer, pipeline)
            except NoRoom as error:
                raised = error
        assert raised is None or "cannot be written" in str(raised)
        check(models)
        if act is not _first_move:
            assert champion(models, "nieuws") is not None
        if raised is None:
            assert act is not _save or len(list_versions(models)) == 3
        rerun(models, scorer, pipeline)


@pytest.mark.parametrize("act", ACTS)
def test_any_call_may_be_interrupted(moved: Path, scorer: Scorer, pipeline: Any, act: _Act) -> None:
    calls = _count(moved, act, scorer, pipeline)
    for at, models in zip(range(1, calls + 1, _STRIDE), _copies(moved), strict=False):

        def interrupt(call: int, at: int = at) -> None:
            if call == at:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, interrupt)
            with pytest.raises(KeyboardInterrupt, match=r"^$"):
                act(models, scorer, pipeline)
        check(models)
        rerun(models, scorer, pipeline)


# Every call that writes, killed ----------------------------------------------------------------


def _killed_at(at: int, act: _Act, models: Path, scorer: Scorer, pipeline: Any) -> None:
    def kill(call: int) -> None:
        if call == at:
            raise Kill

    Faults(pytest.MonkeyPatch(), kill)
    act(models, scorer, pipeline)


@pytest.mark.parametrize("act", ACTS)
def test_any_call_may_be_the_last(moved: Path, scorer: Scorer, pipeline: Any, act: _Act) -> None:
    calls = _count(moved, act, scorer, pipeline)
    for at, models in zip(range(1, calls + 1), _copies(moved), strict=False):
        writer = start(_killed_at, at, act, models, scorer, pipeline)
        writer.join(60)
        assert writer.exitcode == -signal.SIGKILL
        check(models)
        rerun(models, scorer, pipeline)


def test_the_first_save_may_be_killed_anywhere(
    tmp_path: Path, scorer: Scorer, pipeline: Any
) -> None:
    empty = tmp_path / "empty"
    (empty / "nieuws").mkdir(parents=True)
    calls = _count(empty, _save, scorer, pipeline)
    for at, models in zip(range(1, calls + 1, _STRIDE), _copies(empty), strict=False):
        writer = start(_killed_at, at, _save, models, scorer, pipeline)
        writer.join(60)
        assert writer.exitcode == -signal.SIGKILL
        check(models)
        rerun(models, scorer, pipeline)
        assert find("nieuws", models).number == 1


# Random moments --------------------------------------------------------------------------------


def _write_on(started: Any, models: Path, scorer: Scorer, pipeline: Any, seed: int) -> None:
    """Save, move and roll back until killed."""
    chance = random.Random(seed)  # noqa: S311 (an order, no secret)
    started.set()
    while True:
        act = chance.choice(["save", "move", "move", "back"])
        try:
            if act == "save":
                save_version(models, scorer, pipeline)
            elif act == "move":
                number = chance.choice(list_versions(models)).number
                set_alias(f"nieuws@v{number}", chance.choice(["champion", "proef"]), models)
            else:
                rollback("nieuws", models)
        except NoSuchVersion:
            continue


def test_a_kill_at_any_moment_loses_nothing(models: Path, scorer: Scorer, pipeline: Any) -> None:
    chance = random.Random(0)  # noqa: S311 (moments, no secret)
    known: set[str] = set()
    seen: set[str] = set()
    for crash in range(CRASHES):
        started = PROCESSES.Event()
        # Two write at once every third time; both are killed, one after the other.
        writers = [
            start(_write_on, started, models, scorer, pipeline, 2 * crash + n)
            for n in range(2 if crash % 3 == 0 else 1)
        ]
        assert started.wait(60)
        for writer in writers:
            time.sleep(chance.uniform(0, 0.08))
            assert writer.pid is not None
            os.kill(writer.pid, signal.SIGKILL)
            writer.join(60)
            assert writer.exitcode == -signal.SIGKILL
        check(models, known)
        now = {version.ref for version in list_versions(models)}
        assert seen <= now
        seen = now
        assert champion(models, "nieuws") is not None
    rerun(models, scorer, pipeline)
    numbers = [version.number for version in list_versions(models)]
    assert numbers == list(range(1, len(numbers) + 1))


# Many at once ----------------------------------------------------------------------------------


def _save_some(gate: Any, models: Path, scorer: Scorer, pipeline: Any, times: int) -> None:
    gate.wait(60)
    for _ in range(times):
        save_version(models, scorer, pipeline)


def _move_some(gate: Any, models: Path, own: str, times: int) -> None:
    gate.wait(60)
    for turn in range(times):
        set_alias(f"nieuws@v{1 + turn % 2}", own, models, note=own)
        set_alias(f"nieuws@v{2 - turn % 2}", "champion", models, note=own)


def test_eight_savers_and_eight_movers_at_once_lose_nothing(
    models: Path, scorer: Scorer, pipeline: Any
) -> None:
    gate = PROCESSES.Barrier(16)
    workers = [start(_save_some, gate, models, scorer, pipeline, 2) for _ in range(8)]
    workers += [start(_move_some, gate, models, f"mover{n}", 5) for n in range(8)]
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    check(models)
    assert [version.number for version in list_versions(models)] == list(range(1, 19))
    entries = history(models, "nieuws")
    saved = [entry["version"] for entry in entries if entry["event"] == "saved"]
    assert sorted(saved) == sorted(f"v{number}" for number in range(1, 19))
    moves = Counter((e["alias"], e["note"]) for e in entries if e["event"] == "alias")
    for n in range(8):
        assert moves[f"mover{n}", f"mover{n}"] == 5
        assert moves["champion", f"mover{n}"] == 5
    assert not any(entry.get("note") == "found unlogged" for entry in entries)
    last = {entry["alias"]: entry["version"] for entry in entries if "alias" in entry}
    assert last == aliases(models, "nieuws")
    assert leftovers(models) == []


# Files that may grow no further ----------------------------------------------------------------


def _save_within(models: Path, scorer: Scorer, pipeline: Any, said: Any) -> None:
    """Save under ever larger limits of the kernel: it then writes less than it was given."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    outcomes = []
    for size in [*range(0, 3000, 250), 5_000, 10_000, 20_000, 40_000, 80_000, 10_000_000]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        for act in (_save, _move, _roll_back):
            try:
                act(models, scorer, pipeline)
            except KopwijzerError as error:
                outcomes.append(str(error))
            else:
                outcomes.append("")
    said.put(outcomes)


def test_a_write_that_is_cut_short_is_undone(models: Path, scorer: Scorer, pipeline: Any) -> None:
    said = PROCESSES.Queue()
    writer = start(_save_within, models, scorer, pipeline, said)
    outcomes = said.get(timeout=60)
    writer.join(60)
    assert outcomes[-3:] == ["", "", ""]
    failed = [outcome for outcome in outcomes if outcome]
    assert len(failed) > 20
    assert all("cannot be written (" in outcome for outcome in failed if "knows no" not in outcome)
    check(models)
    rerun(models, scorer, pipeline)
