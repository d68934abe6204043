"""The spool: labelled rows on disk, shuffled once, read in chunks. For rows beyond memory.

An Arrow file that `datasets` writes and maps: what is read passes through memory and is let go.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from kopwijzer.errors import BadRows, NoRoom
from kopwijzer.headlines import Headline, read
from kopwijzer.settings import Settings, shipped

__all__ = ["Spool", "unlearnable"]

_HELD = 20  # one story in so many is held out
_MOST_HELD = 40_000


class Spool:
    """Rows of a source on disk. `counts` are rows by label, `n_rows` all of them, `fingerprint`
    a SHA-256 over them in the order of the source."""

    def __init__(self, rows: Any, folder: Any, counts: dict[str, int], digest: str, size: int):
        self._rows, self._folder, self._size = rows, folder, size
        self.counts, self.fingerprint = counts, digest
        self.n_rows = sum(counts.values())

    @classmethod
    def of(cls, source: Any, settings: Settings, say: Callable[[str, int, int], None]) -> Self:
        """Read a source once, checked as for any training, and shuffle it.

        Raises
        ------
        BadSource, BadRows
            As `kopwijzer.headlines.read`, with every row labelled.
        NoRoom
            The disk for temporary files is full.
        """
        import datasets

        digest, counts = hashlib.sha256(), Counter[str]()
        texts: set[tuple[str, str]] = set()  # two at most: whether there is more than one

        def records() -> Iterator[dict[str, str]]:
            rows = read(
                shipped("football-nl") if source is None else source,
                columns=settings.data.columns(),
                on_bad_row=settings.data.on_bad_row,
                labels=settings.data.labels or None,
                labelled=True,
            )
            for number, row in enumerate(rows, 1):
                record = {"headline": row.headline, "teaser": row.teaser, "label": str(row.label)}
                digest.update("\0".join(record.values()).encode("utf-8", "surrogatepass") + b"\n")
                counts[record["label"]] += 1
                if len(texts) < 2:
                    texts.add((row.headline, row.teaser))
                if number % 10_000 == 0:
                    say("reading", number, number + 10_000)
                yield record

        try:
            folder = tempfile.TemporaryDirectory(prefix="kopwijzer-")
        except OSError as error:
            raise NoRoom(
                f"temporary files cannot be written ({error.strerror or error}); name a place for "
                "them with TMPDIR"
            ) from error
        kinds = datasets.Features(
            {name: datasets.Value("string") for name in ("headline", "teaser", "label")}
        )
        datasets.disable_progress_bars()
        try:
            path = Path(folder.name) / "rows.arrow"
            with datasets.arrow_writer.ArrowWriter(path=str(path), features=kinds) as writer:
                for record in records():
                    writer.write(record)
                writer.finalize()
            fault = unlearnable(counts, len(texts))
            if fault is not None:
                raise BadRows(_name(source), [fault])
            found = datasets.Dataset.from_file(str(path))
            shuffled = found.shuffle(
                seed=settings.learning.seed, indices_cache_file_name=str(path) + ".order"
            )
            rows = shuffled.flatten_indices(cache_file_name=str(path) + ".shuffled")
        except OSError as error:
            folder.cleanup()
            raise NoRoom(
                f"{folder.name}: temporary files cannot be written ({error.strerror or error}); "
                "make room there, or name another place with TMPDIR"
            ) from error
        except BaseException:
            folder.cleanup()
            raise
        return cls(
            rows,
            folder,
            dict(counts),
            digest.hexdigest(),
            settings.learning.chunk_rows or len(rows),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rows = None
        self._folder.cleanup()

    def chunks(
        self, part: Literal["train", "held out"]
    ) -> Iterator[tuple[list[dict[str, str]], list[str]]]:
        """Rows and labels of a part, chunk by chunk, in the same order every time."""
        for start in range(0, len(self._rows), self._size):
            batch = self._rows[start : start + self._size]
            rows = [
                {"headline": headline, "teaser": teaser, "label": label}
                for headline, teaser, label in zip(
                    batch["headline"], batch["teaser"], batch["label"], strict=True
                )
                if _is_held(headline) == (part == "held out")
            ]
            if rows:
                yield rows, [row["label"] for row in rows]

    def held_out(self) -> list[Headline]:
        """The rows that no training chunk has, up to 40,000."""
        held: list[Headline] = []
        for rows, _ in self.chunks("held out"):
            held += [Headline(row["headline"], row["teaser"], row["label"]) for row in rows]
            if len(held) >= _MOST_HELD:
                break
        return held[:_MOST_HELD]


def _is_held(headline: str) -> bool:
    """By a hash of the headline, so that copies of a story fall on one side."""
    text = " ".join(headline.lower().split())
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "little") % _HELD == 0


def unlearnable(counts: Mapping[str, int], n_texts: int) -> str | None:
    """Why rows with these labels and so many different texts cannot be learned from, if so."""
    if not counts:
        return "there are no rows to learn from"
    if len(counts) < 2:
        return f"every row has the label {next(iter(counts))!r}; two or more are needed"
    if n_texts < 2:
        return f"all {sum(counts.values())} rows hold the same text; nothing can be learned"
    return None


def _name(source: Any) -> str:
    return str(source) if isinstance(source, str | PathLike) else "the rows"
