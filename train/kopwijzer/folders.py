"""Folders: files that are read with care, and written whole and durable, one writer at a time."""

import contextlib
import errno
import mmap
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from kopwijzer.errors import BadVersion, KopwijzerError, NoRoom

__all__ = [
    "locked",
    "map_file",
    "read_file",
    "replace_file",
    "sync",
    "translated",
    "workplace",
    "write_file",
]


# Reading ---------------------------------------------------------------------------------------


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file that is no link.

    Raises
    ------
    BadVersion
        It is a link, cannot be read, or is no file of at most `limit` bytes.
    """
    descriptor, size = _open_file(path, limit)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(size)


def map_file(path: Path, limit: int) -> mmap.mmap | bytes:
    """As `read_file`, but the bytes stay in the file until they are looked at.

    Raises
    ------
    BadVersion
        As `read_file`.
    """
    descriptor, size = _open_file(path, limit)
    with os.fdopen(descriptor, "rb") as file:
        # Nothing cannot be mapped.
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""


def _open_file(path: Path, limit: int) -> tuple[int, int]:
    """A descriptor of a regular file that is no link, and its size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadVersion(f"{path}: is a link; a version holds only files of its own") from error
        raise BadVersion(f"{path}: cannot be read ({error.strerror})") from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
        os.close(descriptor)
        raise BadVersion(f"{path}: is no file of at most {limit:,} bytes")
    return descriptor, facts.st_size


# Writing ---------------------------------------------------------------------------------------


def write_file(path: Path, content: bytes) -> None:
    """Write a file, and come back when it is on the disk; its name is there after `sync`."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Come back when the names in a folder are on the disk, and not only what they stand for."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(folder: Path, place: Path, content: bytes) -> None:
    """Give a file in `folder` or below it its new content, or leave it its old one.

    The caller holds the lock of `folder`: to `workplace`, what others left half-moved is dead.
    """
    fresh = folder / f".moving-{secrets.token_hex(6)}"
    try:
        write_file(fresh, content)
        fresh.replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    sync(place.parent)


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """A folder to write in, gone afterwards unless it was moved.

    A locked file beside it says that its writer lives: the kernel lets go of the lock of one that
    was killed, in whatever container it ran, and the next writer sweeps what it left.

    Raises
    ------
    NoRoom
        As `locked`, which it needs for a moment.
    """
    import fcntl

    work = folder / f".writing-{secrets.token_hex(6)}"
    with contextlib.ExitStack() as at_the_end:
        with locked(folder):
            _sweep(folder)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(_mark(work), flags, 0o644)
            at_the_end.callback(os.close, descriptor)
            at_the_end.callback(_remove, work)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        work.mkdir()
        yield work


def _sweep(folder: Path) -> None:
    """Remove what writers and movers that are no longer alive left; the caller holds the lock."""
    works = {folder / path.name.removesuffix(".lock") for path in folder.glob(".writing-*")}
    for work in works:
        if not _is_locked(_mark(work)):
            _remove(work)
    # Whoever replaces a file holds the lock that the caller holds now.
    for path in folder.glob(".moving-*"):
        with contextlib.suppress(OSError):
            path.unlink()


def _remove(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    with contextlib.suppress(OSError):
        _mark(work).unlink()


def _mark(work: Path) -> Path:
    return work.with_name(f"{work.name}.lock")


def _is_locked(path: Path) -> bool:
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One mover at a time. The kernel lets go of the lock of one that was killed.

    Raises
    ------
    NoRoom
        The file system cannot lock files.
    """
    import fcntl

    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(folder / ".lock", flags, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise NoRoom(
                f"{folder}: this file system cannot lock files ({error.strerror}); keep models "
                "on one that can (a local disk, or NFS 4), and copy finished versions"
            ) from error
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Errors of the file system as one sentence.

    Raises
    ------
    NoRoom
        In the place of every `OSError`; our own errors pass as they are.
    """
    try:
        yield
    except KopwijzerError:
        raise
    except OSError as error:
        raise NoRoom(
            f"{folder}: cannot be written ({error.strerror or error}); "
            "make room or rights there, or name another folder with --models"
        ) from error
