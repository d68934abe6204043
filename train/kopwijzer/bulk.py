"""Bulk prediction: Parquet partitions in, scored Parquet partitions out, on any engine.

A partition is one file. It is read and written batch by batch, so a worker's memory does not grow
with it; it appears under its name only when it is whole, and carries in its metadata what it was
made from and by, so that a second run skips it. Paths may be URLs of any store that fsspec knows.
"""

import contextlib
import hashlib
import json
import os
import posixpath
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kopwijzer.engines import Engine
from kopwijzer.errors import BadSettings, BadSource, KopwijzerError
from kopwijzer.formats import no_headline
from kopwijzer.headlines import Columns, check
from kopwijzer.scorer import Scorer
from kopwijzer.sources import arrow_values, batch_rows
from kopwijzer.versions import pack_scorer

__all__ = ["Done", "predict", "score_batch"]

#: Rows scored at once: what bounds a worker's memory.
BATCH = 8192
_GROUP = 8  # batches that are written as one row group, if they are not larger than
_GROUP_BYTES = 64 << 20
_ADDED = ("label", "confidence", "scores", "abstained", "reason", "error")


@dataclass(frozen=True, slots=True)
class Done:
    """What a bulk run did: partitions written and skipped, rows and error records written."""

    n_partitions: int
    n_skipped: int
    n_rows: int
    n_errors: int

    def sentence(self) -> str:
        """The same for people."""
        return (
            f"{self.n_rows:,} rows in {self.n_partitions} partitions scored, {self.n_errors:,} of "
            f"them kept as error records; {self.n_skipped} partitions were done before"
        )


def predict(
    sources: Sequence[str],
    out: str,
    scorer: Scorer,
    *,
    columns: Columns | None = None,
    engine: Engine | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Done:
    """Score every Parquet file that `sources` (paths, globs, folders, URLs) name into `out`.

    Each output has the columns and the schema of its input, and besides: label (string),
    confidence (double), scores (struct of doubles), abstained (bool), reason and error (string).
    An input column that has such a name gets "_in" after it. A file in `out` that was made from
    the same source by the same scorer is kept as it is.

    Raises
    ------
    BadSource
        A source is no Parquet file, two of them would have the same name in `out`, or one of them
        lies there.
    """
    from joblib import delayed

    columns, engine = columns or Columns(), engine or Engine()
    files = _files(sources)
    names = [posixpath.basename(url) for url in files]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise BadSource(f"two sources are called {twice[0]!r}; score them into different folders")
    with _told(out):
        store, folder = _store(out)
        same = [url for url in files if posixpath.dirname(_place(url)) == _place(out)]
        if same:
            raise BadSource(
                f"{same[0]}: lies in {out}, and would be overwritten; name another --out"
            )
        store.makedirs(folder, exist_ok=True)
        _sweep(store, folder)
        # A worker may run in another folder: paths are whole ones.
        folder = store.unstrip_protocol(folder) if "://" in out else folder
    shared = _Shared.of(scorer)
    calls = [
        delayed(_partition)(url, f"{folder.rstrip('/')}/{name}", shared, columns)
        for url, name in zip(files, names, strict=True)
    ]
    run = engine.run("partitions", progress or (lambda what, done, of: None), shared=[shared])
    results = list(run(calls))
    written = [result for result in results if result is not None]
    return Done(
        n_partitions=len(written),
        n_skipped=len(results) - len(written),
        n_rows=sum(rows for rows, _ in written),
        n_errors=sum(errors for _, errors in written),
    )


class _Shared:
    """A scorer that reaches each process once: its digest says whether it is already here."""

    _here: dict[str, Scorer] = {}  # noqa: RUF012  # one per process is its purpose

    def __init__(self, digest: str, scorer: Scorer) -> None:
        self.digest, self.scorer = digest, scorer

    @classmethod
    def of(cls, scorer: Scorer) -> "_Shared":
        rule = repr((scorer.abstention, scorer.blocks, scorer.classes_.tolist()))
        digest = hashlib.sha256(pack_scorer(scorer) + rule.encode()).hexdigest()
        return cls(digest, scorer)

    def __reduce__(self) -> tuple[Any, ...]:
        # The scorer's state and not itself: one that is here already need not be built again.
        return _Shared._arrived, (self.digest, self.scorer.__getstate__())

    @classmethod
    def _arrived(cls, digest: str, state: dict[str, Any]) -> "_Shared":
        scorer = cls._here.get(digest)
        if scorer is None:
            scorer = object.__new__(Scorer)
            scorer.__setstate__(dict(state))
            cls._here.clear()
            cls._here[digest] = scorer
        return cls(digest, scorer)


def score_batch(batch: Any, scorer: Scorer, columns: Columns | None = None, start: int = 0) -> Any:
    """A pyarrow RecordBatch with the predictions as columns after its own.

    `start` is the number of the rows before it, for the places in error sentences.
    """
    import pyarrow as pa

    columns = columns or Columns()
    n = batch.num_rows
    rows = [
        check({columns.headline: headline, columns.teaser: teaser}, columns, f"row {place}")
        for place, headline, teaser in zip(
            range(start + 1, start + n + 1),
            _column(batch, columns.headline, n),
            _column(batch, columns.teaser, n),
            strict=True,
        )
    ]
    good = [i for i, row in enumerate(rows) if row.error is None]
    answers = dict(zip(good, scorer.score_many(rows[i] for i in good), strict=True))
    found = [answers.get(i) for i in range(n)]
    labels = [str(label) for label in scorer.classes_]
    scores = pa.array(
        [None if one is None else one.scores for one in found],
        type=pa.struct([(label, pa.float64()) for label in labels]),
    )
    added = {
        "label": pa.array([one and one.label for one in found], type=pa.string()),
        "confidence": pa.array([one and one.confidence for one in found], type=pa.float64()),
        "scores": scores,
        "abstained": pa.array(
            [None if one is None else one.abstained for one in found], pa.bool_()
        ),
        "reason": pa.array([one and one.reason for one in found], type=pa.string()),
        "error": pa.array([row.error for row in rows], type=pa.string()),
    }
    schema = batch.schema
    taken = {*schema.names, *_ADDED}
    for place, name in enumerate(schema.names):
        if name in _ADDED:
            while name in taken:
                name += "_in"
            taken.add(name)
            schema = schema.set(place, schema.field(place).with_name(name))
    for name, array in added.items():
        schema = schema.append(pa.field(name, array.type))
    return pa.RecordBatch.from_arrays([*batch.columns, *added.values()], schema=schema)


def _column(batch: Any, name: str, n: int) -> list[Any]:
    if name not in batch.schema.names:
        return [None] * n
    return arrow_values(batch.column(name))


def _partition(url: str, target: str, shared: _Shared, columns: Columns) -> tuple[int, int] | None:
    """Score one file; (rows, error records), or None where that was done before."""
    with _told(f"{url} could not be scored into {target}"):
        store, path = _store(url)
        out, final = _store(target)
        stamp = json.dumps(
            {
                "source": url,
                "state": store.ukey(path),  # changes with the file: its size and time, or ETag
                "scorer": shared.digest,
                "columns": repr(columns),
            }
        ).encode()
        if out.exists(final) and _stamp(out, final) == stamp:
            return None
        owner = f"{socket.gethostname()}-{os.getpid()}"
        work = f"{posixpath.dirname(final)}/.writing-{owner}-{secrets.token_hex(6)}"
        try:
            with store.open(path, "rb") as stream, out.open(work, "wb") as sink:
                counts = _score_file(url, stream, sink, stamp, shared.scorer, columns)
                sink.flush()
                with contextlib.suppress(AttributeError, OSError):  # what is no file of a disk
                    os.fsync(sink.fileno())
            out.mv(work, final)
        finally:
            if out.exists(work):
                out.rm(work)
        return counts


def _score_file(
    url: str, stream: Any, sink: Any, stamp: bytes, scorer: Scorer, columns: Columns
) -> tuple[int, int]:
    """Score an open Parquet file into another; the number of rows, and of errors among them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(stream)
    if columns.headline not in file.schema_arrow.names:
        raise no_headline(url, file.schema_arrow.names, columns)
    empty = pa.RecordBatch.from_pylist([], schema=file.schema_arrow)
    schema = score_batch(empty, scorer, columns).schema
    schema = schema.with_metadata({**(schema.metadata or {}), b"kopwijzer": stamp})
    scorer.expect(file.metadata.num_rows)
    n_rows = n_errors = 0
    waiting: list[Any] = []
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for batch in file.iter_batches(batch_size=batch_rows(file, stream, BATCH)):
            scored = score_batch(batch, scorer, columns, n_rows)
            n_rows += scored.num_rows
            n_errors += scored.num_rows - scored.column("error").null_count
            waiting.append(scored.replace_schema_metadata(schema.metadata))
            if sum(one.nbytes for one in waiting) > _GROUP_BYTES or len(waiting) == _GROUP:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting.clear()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
    return n_rows, n_errors


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever a store or a file raises, as one sentence."""
    try:
        yield
    except (KopwijzerError, MemoryError):
        raise
    except Exception as error:
        first = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        name = "" if len(first.split()) > 2 else f"{type(error).__name__} "
        raise BadSource(f"{what}: {name}{first}".rstrip()) from error


def _stamp(store: Any, path: str) -> bytes | None:
    """What a finished partition says it was made from; None for a file that is no such."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with store.open(path, "rb") as stream:
            metadata = pq.ParquetFile(stream).schema_arrow.metadata or {}
    except (pa.ArrowException, OSError, ValueError):
        return None
    found: bytes | None = metadata.get(b"kopwijzer")
    return found


def _store(url: str) -> tuple[Any, str]:
    """The store of a path or URL, and the path in it."""
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise BadSettings(f"{url}: {error}") from error
    # A store that remembers its listings would not see what others wrote since.
    store.invalidate_cache()
    return store, path


def _place(url: str) -> str:
    """A path or URL in one spelling, links of this machine followed."""
    from fsspec.implementations.local import LocalFileSystem

    store, path = _store(url)
    if isinstance(store, LocalFileSystem):
        return os.path.realpath(path)
    return str(store.unstrip_protocol(path.rstrip("/")))


def _sweep(store: Any, folder: str) -> None:
    """Remove what workers of this machine that are no longer alive left half-written."""
    for path in store.glob(f"{folder.rstrip('/')}/.writing-{socket.gethostname()}-*"):
        pid = path.rsplit("-", 2)[1]
        if os.name == "posix" and pid.isdigit() and not _is_alive(int(pid)):
            with contextlib.suppress(OSError):
                store.rm(path)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _files(sources: Sequence[str]) -> list[str]:
    files: list[str] = []
    for source in sources:
        with _told(source):
            files += _found(source)
    return files


def _found(source: str) -> list[str]:
    """The Parquet files that a path, glob, folder or URL names."""
    store, path = _store(source)
    if any(sign in path for sign in "*?["):
        found = sorted(store.glob(path))
    elif store.isdir(path):
        found = sorted(store.glob(f"{path.rstrip('/')}/*.parquet"))
    else:
        found = [path] if store.exists(path) else []
    if not found:
        raise BadSource(f"{source}: there is no such Parquet file")
    bad = next((one for one in found if not one.endswith(".parquet")), None)
    if bad is not None:
        raise BadSource(f"{bad}: --out scores Parquet files; for others leave --out away")
    return [store.unstrip_protocol(one) if "://" in source else one for one in found]
