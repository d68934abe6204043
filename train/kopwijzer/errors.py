"""The error tree. Imports nothing of ours, so that every room may raise from it.

    KopwijzerError            anything a caller can mend; str() is one clear sentence   exit 1
    |-- BadSettings           a setting or option that cannot be used                   exit 2
    |-- BadSource             a source that cannot be opened or read at all             exit 1
    |-- BadRows               rows that break the rules of the source (has .faults)     exit 3
    |-- BadVersion            a saved version that is damaged, hostile or too new       exit 4
    |   `-- NoSuchVersion     no version answers to this reference                      exit 4
    |-- NotBetter             a promotion that the figures do not allow                 exit 5
    |-- NoRoom                the models folder cannot be written                       exit 1
    `-- MissingExtra          an optional dependency is not installed                   exit 2

A sentence says what is wrong, where, with which value, and what to do.
"""

from collections.abc import Sequence

__all__ = [
    "BadRows",
    "BadSettings",
    "BadSource",
    "BadVersion",
    "KopwijzerError",
    "MissingExtra",
    "NoRoom",
    "NoSuchVersion",
    "NotBetter",
]


class KopwijzerError(Exception):
    """The base of all our errors; `exit_code` is what the command line ends with."""

    exit_code = 1


class BadSettings(KopwijzerError):
    """A setting or option is unknown, out of range or contradicts another."""

    exit_code = 2


class BadSource(KopwijzerError):
    """A source does not exist, cannot be opened, or is not in the format it claims."""


class BadRows(KopwijzerError):
    """Rows break the rules of their source.

    `faults` holds every fault as one sentence, in the order of the source; the message shows
    the first ten and the count.
    """

    exit_code = 3

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        shown = "\n".join(f"  {fault}" for fault in self.faults[:10])
        more = len(self.faults) - 10
        tail = f"\n  ... and {more} more" if more > 0 else ""
        noun = "row cannot" if len(self.faults) == 1 else "rows cannot"
        super().__init__(f"{source}: {len(self.faults)} {noun} be used:\n{shown}{tail}")


class BadVersion(KopwijzerError):
    """A saved version is damaged, was changed after it was written, or is of another format."""

    exit_code = 4


class NoSuchVersion(BadVersion):
    """No saved version answers to the reference that was asked for."""


class NotBetter(KopwijzerError):
    """A promotion is refused because a label got worse."""

    exit_code = 5


class NoRoom(KopwijzerError):
    """The models folder is read-only, full, or cannot be locked."""


class MissingExtra(KopwijzerError):
    """An optional dependency is not installed; the message names the extra."""

    exit_code = 2

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs an extra: pip install 'kopwijzer[{extra}]'")
