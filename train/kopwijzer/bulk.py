"""Bulk prediction: Parquet partitions in, scored Parquet partitions out, on any engine.

A partition is one file. It is read and written batch by batch, so a worker's memory does not grow
with it; it appears under its name only when it is whole, and carries in its metadata what it was
made from and by, so that a second run skips it. Paths may be URLs of any store that fsspec knows.
"""

import hashlib
import json
import posixpath
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kopwijzer.engines import Engine
from kopwijzer.errors import BadSettings, BadSource, KopwijzerError
from kopwijzer.headlines import Columns, check
from kopwijzer.scorer import Scorer
from kopwijzer.versions import pack_scorer

__all__ = ["Done", "predict", "score_batch"]

#: Rows scored and written at once: what bounds a worker's memory.
BATCH = 8192
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
    An input column that has such a name gets "_in" after it.

    Raises
    ------
    BadSource
        A source is no Parquet file, or two of them would have the same name in `out`.
    """
    from joblib import delayed

    columns, engine = columns or Columns(), engine or Engine()
    files = _files(sources)
    names = [posixpath.basename(url) for url in files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadSource(f"two sources are called {twice!r}; score them into different folders")
    store, folder = _store(out)
    store.makedirs(folder, exist_ok=True)
    shared = _Shared.of(scorer)
    calls = [
        delayed(_partition)(url, f"{out.rstrip('/')}/{name}", shared, columns)
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
        return _Shared._arrived, (self.digest, self.scorer)

    @classmethod
    def _arrived(cls, digest: str, scorer: Scorer) -> "_Shared":
        if digest not in cls._here:
            cls._here.clear()
            cls._here[digest] = scorer
        return cls(digest, cls._here[digest])


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
    for place, name in enumerate(schema.names):
        if name in _ADDED:
            schema = schema.set(place, schema.field(place).with_name(f"{name}_in"))
    for name, array in added.items():
        schema = schema.append(pa.field(name, array.type))
    return pa.RecordBatch.from_arrays([*batch.columns, *added.values()], schema=schema)


def _column(batch: Any, name: str, n: int) -> list[Any]:
    if name not in batch.schema.names:
        return [None] * n
    values: list[Any] = batch.column(name).to_pylist()
    return values


def _partition(url: str, target: str, shared: _Shared, columns: Columns) -> tuple[int, int] | None:
    """Score one file; (rows, error records), or None where that was done before."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    store, path = _store(url)
    out, final = _store(target)
    stamp = json.dumps(
        {
            "source": url,
            "bytes": store.size(path),
            "scorer": shared.digest,
            "columns": repr(columns),
        }
    ).encode()
    if out.exists(final) and _stamp(out, final) == stamp:
        return None
    work = f"{posixpath.dirname(final)}/.writing-{secrets.token_hex(6)}"
    n_rows = n_errors = 0
    try:
        with store.open(path, "rb") as stream, out.open(work, "wb") as sink:
            file = pq.ParquetFile(stream)
            if columns.headline not in file.schema_arrow.names:
                has = ", ".join(map(repr, file.schema_arrow.names[:12]))
                raise BadSource(
                    f"{url}: has no column {columns.headline!r}; it has {has}. "
                    "Say which holds the headline with --headline"
                )
            empty = pa.RecordBatch.from_pylist([], schema=file.schema_arrow)
            schema = score_batch(empty, shared.scorer, columns).schema
            schema = schema.with_metadata({**(schema.metadata or {}), b"kopwijzer": stamp})
            with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
                for batch in file.iter_batches(batch_size=BATCH):
                    scored = score_batch(batch, shared.scorer, columns, n_rows)
                    n_rows += scored.num_rows
                    n_errors += scored.num_rows - scored.column("error").null_count
                    writer.write_batch(scored.replace_schema_metadata(schema.metadata))
        out.mv(work, final)
    except KopwijzerError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise BadSource(f"{url}: could not be scored into {target} ({first})") from error
    finally:
        if out.exists(work):
            out.rm(work)
    return n_rows, n_errors


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
    return store, path


def _files(sources: Sequence[str]) -> list[str]:
    files: list[str] = []
    for source in sources:
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
        files += [store.unstrip_protocol(one) if "://" in source else one for one in found]
    return files
