"""Bulk prediction: partitions whole or absent, kept while nothing changed, equal to one process."""

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import ROWS
from kopwijzer import bulk
from kopwijzer.engines import Engine
from kopwijzer.errors import BadSettings, BadSource, KopwijzerError
from kopwijzer.headlines import Columns
from kopwijzer.scorer import Abstention, Scorer

HERE = Engine("threading", 1)
ADDED = ["label", "confidence", "scores", "abstained", "reason", "error"]


def archive(folder: Path, partitions: int = 3, rows: int = 200) -> Path:
    """A folder of Parquet files with different rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(partitions):
        own = [
            {"id": number * rows + n, "headline": row["headline"], "teaser": row["teaser"] or None}
            for n, row in enumerate((ROWS[number:] + ROWS) * (rows // 160 + 1))
        ][:rows]
        pq.write_table(pa.Table.from_pylist(own), folder / f"part-{number}.parquet")
    return folder


def table(folder: Path) -> list[dict[str, Any]]:
    """Every row that a run wrote, in order."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.parquet")):
        found += pq.read_table(path).to_pylist()
    return found


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.endswith(".parquet")]


def test_rows_get_what_the_scorer_says(tmp_path: Path, scorer: Scorer) -> None:
    done = bulk.predict([f"{archive(tmp_path / 'in')}/*.parquet"], str(tmp_path / "out"), scorer)
    assert (done.n_partitions, done.n_skipped, done.n_rows, done.n_errors) == (3, 0, 600, 0)
    assert done.sentence() == (
        "600 rows in 3 partitions scored, 0 of them kept as error records; "
        "0 partitions were done before"
    )
    found = table(tmp_path / "out")
    assert [row["id"] for row in found] == list(range(600))
    assert list(found[0]) == ["id", "headline", "teaser", *ADDED]
    told = scorer.score_many(found)
    for row, prediction in zip(found, told, strict=True):
        assert row["label"] == prediction.label
        assert row["confidence"] == prediction.confidence
        assert row["scores"] == prediction.scores
        assert (row["abstained"], row["reason"]) == (prediction.abstained, prediction.reason)
        assert row["error"] is None
    assert leftovers(tmp_path / "out") == []


def test_the_schema_stays_with_columns_added(tmp_path: Path, scorer: Scorer) -> None:
    schema = pa.schema(
        [
            pa.field("kop", pa.large_string(), nullable=False, metadata={"a": "b"}),
            pa.field("lead", pa.dictionary(pa.int8(), pa.string())),
            pa.field("label", pa.int16()),
            pa.field("label_in", pa.bool_()),
            pa.field("at", pa.timestamp("ns", "Europe/Brussels")),
            pa.field("nested", pa.list_(pa.struct([("x", pa.float32())]))),
            pa.field("price", pa.decimal128(9, 2)),
        ],
        metadata={"made": "by hand"},
    )
    rows = [
        {"kop": ROWS[0]["headline"], "lead": "l", "label": 3, "label_in": True, "at": None},
        {"kop": ROWS[1]["headline"], "lead": None, "nested": [{"x": 1.5}], "price": None},
    ]
    (tmp_path / "in").mkdir()
    whole = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(whole, tmp_path / "in" / "a.parquet")
    columns = Columns(headline="kop", teaser="lead")
    bulk.predict([str(tmp_path / "in")], str(tmp_path / "out"), scorer, columns=columns)
    found = pq.read_table(tmp_path / "out" / "a.parquet")
    assert found.schema.names == [
        *("kop", "lead", "label_in_in", "label_in", "at", "nested", "price"),
        *ADDED,
    ]
    for old, new in zip(schema, found.schema, strict=False):
        assert (new.type, new.nullable) == (old.type, old.nullable)
    assert found.schema.metadata[b"made"] == b"by hand"
    assert found.schema.field("kop").metadata[b"a"] == b"b"
    assert found.column("kop").equals(whole.column("kop"))
    kinds = dict(zip(found.schema.names, found.schema.types, strict=True))
    assert [str(kinds[name]) for name in ADDED if name != "scores"] == [
        *("string", "double", "bool", "string", "string")
    ]
    assert kinds["scores"] == pa.struct([(str(label), pa.float64()) for label in scorer.classes_])


def test_bad_rows_become_error_records_in_their_places(tmp_path: Path, scorer: Scorer) -> None:
    bad = pa.array([b"goed", None, b"", b"sl\xffcht", b"g\0ed", b"x" * 2_000_000, b"goed"])
    teaser = pa.array([None, "t", "t", "t", "t", "t", "a\x1bb"])
    (tmp_path / "in").mkdir()
    pq.write_table(
        pa.table({"headline": bad.view(pa.string()), "teaser": teaser}),
        tmp_path / "in" / "a.parquet",
    )
    done = bulk.predict([str(tmp_path / "in")], str(tmp_path / "out"), scorer)
    assert (done.n_rows, done.n_errors) == (7, 6)
    found = pq.read_table(tmp_path / "out" / "a.parquet")
    assert found.column("headline").cast(pa.binary()).to_pylist() == bad.to_pylist()
    errors = found.column("error").to_pylist()
    assert errors[0] is None
    for error, sentence in zip(
        errors[1:],
        [
            "row 2: no 'headline' in it",
            "row 3: the headline is empty",
            "row 4: headline is b'sl\\xffcht' (bytes), not text",
            "row 5: headline holds U+0000",
            "row 6: headline has 2,000,000 signs",
            "row 7: teaser holds U+001B",
        ],
        strict=True,
    ):
        assert error.startswith(sentence)
    for name in ADDED[:-1]:
        assert found.column(name).null_count == 6


def test_a_column_of_numbers_is_a_partition_of_errors(tmp_path: Path, scorer: Scorer) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"headline": [1, 2]}), tmp_path / "in" / "a.parquet")
    pq.write_table(pa.table({"headline": pa.array([], pa.string())}), tmp_path / "in" / "b.parquet")
    done = bulk.predict([str(tmp_path / "in")], str(tmp_path / "out"), scorer)
    assert (done.n_partitions, done.n_rows, done.n_errors) == (2, 2, 2)
    empty = pq.read_table(tmp_path / "out" / "b.parquet")
    assert (empty.num_rows, empty.schema.names) == (0, ["headline", *ADDED])


def test_partitions_larger_than_a_batch(tmp_path: Path, scorer: Scorer) -> None:
    n = 2 * bulk.BATCH + 5
    (tmp_path / "in").mkdir()
    headlines = [None if i == n - 1 else f"{ROWS[i % 160]['headline']}" for i in range(n)]
    pq.write_table(pa.table({"headline": headlines}), tmp_path / "in" / "a.parquet")
    done = bulk.predict([str(tmp_path / "in")], str(tmp_path / "out"), scorer)
    assert (done.n_rows, done.n_errors) == (n, 1)
    file = pq.ParquetFile(tmp_path / "out" / "a.parquet")
    assert file.metadata.num_row_groups == 1
    found = file.read()
    assert found.column("headline").to_pylist() == headlines
    assert found.column("error").to_pylist()[-1].startswith(f"row {n}: ")
    assert found.column("label").to_pylist()[:160] == [
        one.label for one in scorer.score_many({"headline": h} for h in headlines[:160] if h)
    ]


# Running again ---------------------------------------------------------------------------------


def test_what_is_done_is_skipped_and_what_is_stale_done_again(
    tmp_path: Path, scorer: Scorer
) -> None:
    source, out = str(archive(tmp_path / "in")), tmp_path / "out"

    def run(by: Scorer = scorer, columns: Columns | None = None) -> tuple[int, int]:
        done = bulk.predict([source], str(out), by, columns=columns, engine=HERE)
        return done.n_partitions, done.n_skipped

    assert run() == (3, 0)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run() == (0, 3)
    assert before == {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "part-1.parquet").unlink()
    assert run() == (1, 2)
    # Other rows of the same number and size.
    path = tmp_path / "in" / "part-0.parquet"
    rows = pq.read_table(path)
    swapped = rows.take(list(range(rows.num_rows))[::-1])
    size = path.stat().st_size
    pq.write_table(swapped, path)
    with path.open("ab") as file:
        file.truncate(max(size, path.stat().st_size))
    pq.write_table(swapped, path)
    assert run() == (1, 2)
    assert [row["id"] for row in table(out)][:3] == [199, 198, 197]
    stricter = scorer.with_abstention(Abstention("other", {}, 0.9))
    assert run(stricter) == (3, 0)
    assert run(stricter, Columns(teaser="lead")) == (3, 0)
    assert run(scorer) == (3, 0)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 not at all PAR1", None])
def test_what_lies_in_the_way_is_done_again(
    tmp_path: Path, scorer: Scorer, content: bytes | None
) -> None:
    source, out = archive(tmp_path / "in", 1), tmp_path / "out"
    out.mkdir()
    if content is None:
        pq.write_table(pa.table({"x": [1]}), out / "part-0.parquet")
    else:
        (out / "part-0.parquet").write_bytes(content)
    assert bulk.predict([str(source)], str(out), scorer, engine=HERE).n_partitions == 1
    assert len(table(out)) == 200


def test_what_a_killed_worker_left_is_cleaned(tmp_path: Path, scorer: Scorer) -> None:
    source, out = archive(tmp_path / "in", 1), tmp_path / "out"
    out.mkdir()
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    host = socket.gethostname()
    names = [f".writing-{host}-{gone.pid}-aa", f".writing-{host}-{os.getpid()}-bb"]
    for name in [*names, ".writing-elsewhere.example-1-cc"]:
        (out / name).write_bytes(b"PAR1")
    bulk.predict([str(source)], str(out), scorer, engine=HERE)
    assert sorted(leftovers(out)) == sorted([names[1], ".writing-elsewhere.example-1-cc"])


_CHILD = """
import pickle, sys, time
from pathlib import Path
from kopwijzer import bulk
from kopwijzer.engines import Engine
slow = bulk.score_batch
def score_batch(batch, *args):
    if batch.num_rows:
        time.sleep(0.02)
    return slow(batch, *args)
bulk.BATCH, bulk.score_batch = 20, score_batch
scorer = pickle.loads(Path(sys.argv[1]).read_bytes())
bulk.predict([sys.argv[2]], sys.argv[3], scorer, engine=Engine("threading", 2))
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, scorer: Scorer) -> None:
    source, out = archive(tmp_path / "in", 8), tmp_path / "out"
    (tmp_path / "scorer").write_bytes(pickle.dumps(scorer))
    command = [sys.executable, "-c", _CHILD, *map(str, (tmp_path / "scorer", source, out))]
    kept = -1
    for _ in range(3):
        with subprocess.Popen(command) as child:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and child.poll() is None:
                with contextlib.suppress(FileNotFoundError):
                    if len(list(out.glob("*.parquet"))) > kept + 1 and leftovers(out):
                        break
                time.sleep(0.005)
            child.kill()
        for path in out.glob("*.parquet"):
            assert pq.read_table(path).num_rows == 200
        assert len(list(out.glob("*.parquet"))) > kept
        kept = len(list(out.glob("*.parquet")))
    assert 0 < kept < 8
    assert leftovers(out)
    done = bulk.predict([str(source)], str(out), scorer, engine=HERE)
    assert (done.n_skipped, done.n_partitions) == (kept, 8 - kept)
    assert leftovers(out) == []
    bulk.predict([str(source)], str(tmp_path / "again"), scorer, engine=HERE)
    assert table(out) == table(tmp_path / "again")


# Engines and stores ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [Engine("threading", 2), Engine("loky", 1), Engine("loky", 2)])
def test_every_engine_writes_the_same(tmp_path: Path, scorer: Scorer, engine: Engine) -> None:
    source = str(archive(tmp_path / "in", 4))
    told: list[tuple[str, int, int]] = []
    bulk.predict([source], str(tmp_path / "one"), scorer, engine=HERE)
    bulk.predict(
        [source],
        str(tmp_path / "two"),
        scorer,
        engine=engine,
        progress=lambda what, done, of: told.append((what, done, of)),
    )
    assert table(tmp_path / "one") == table(tmp_path / "two")
    assert told == [("partitions", done, 4) for done in range(5)]


def _through_a_pipe(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301  # our own bytes


def test_a_scorer_is_built_once_in_a_process(scorer: Scorer) -> None:
    shared = bulk._Shared.of(scorer)
    first, second = (_through_a_pipe(shared) for _ in range(2))
    assert first.scorer is second.scorer is not scorer
    assert first.digest == shared.digest
    row = ROWS[0]
    assert first.scorer.score(**{k: row[k] for k in ("headline", "teaser")}) == scorer.score(
        row["headline"], row["teaser"]
    )
    other = bulk._Shared.of(scorer.with_abstention(Abstention("none")))
    assert _through_a_pipe(other).scorer is not first.scorer


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's store in memory, empty."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


def test_urls_of_stores(tmp_path: Path, scorer: Scorer, memory: Any) -> None:
    source = archive(tmp_path / "in")
    for path in source.iterdir():
        memory.pipe(f"/bucket/in/{path.name}", path.read_bytes())
    bulk.predict([str(source)], str(tmp_path / "plain"), scorer, engine=HERE)
    for sources, out in [
        (["memory://bucket/in"], "memory://bucket/out/"),
        (["memory://bucket/in/*.parquet"], f"file://{tmp_path}/out"),
        ([f"file://{source}"], "memory://bucket/out2"),
        ([f"memory://bucket/in/part-{n}.parquet" for n in range(3)], str(tmp_path / "out3")),
    ]:
        for expected in [(3, 0), (0, 3)]:
            done = bulk.predict(sources, out, scorer, engine=HERE)
            assert (done.n_partitions, done.n_skipped) == expected
        store, folder = fsspec.core.url_to_fs(out)
        names = sorted(store.glob(f"{folder.rstrip('/')}/*"))
        assert len(names) == 3
        rows = [row for name in names for row in pq.read_table(store.open(name)).to_pylist()]
        assert rows == table(tmp_path / "plain")
    memory.pipe("/bucket/in/part-1.parquet", (source / "part-2.parquet").read_bytes())
    assert (
        bulk.predict(
            ["memory://bucket/in"], "memory://bucket/out", scorer, engine=HERE
        ).n_partitions
        == 1
    )


# S3 --------------------------------------------------------------------------------------------


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """s3fs on an S3 server of this machine's loopback, with an empty bucket."""
    for module in ("s3fs", "moto.server"):
        pytest.importorskip(
            module, reason=f"{module.partition('.')[0]} is not installed: s3:// is not tried"
        )
    from moto.server import ThreadedMotoServer

    # Its buckets live in this process: those of the test before are emptied.
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown()  # workers of other tests do not know of the server
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    if store.exists("bucket"):
        store.rm("bucket", recursive=True)
    store.mkdir("bucket")
    try:
        yield store
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


def _put(store: Any, source: Path) -> None:
    for path in source.iterdir():
        store.pipe(f"bucket/in/{path.name}", path.read_bytes())


def _on(store: Any, folder: str) -> list[dict[str, Any]]:
    """Every row of the partitions that are visible in a folder of a store, in order."""
    found: list[dict[str, Any]] = []
    for path in sorted(store.glob(f"{folder}/*.parquet")):
        with store.open(path, "rb") as stream:
            found += pq.read_table(stream).to_pylist()
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", [HERE, Engine("threading", 2), Engine("loky", 2)])
def test_s3_partitions_are_scored_and_skipped_and_done_again(
    tmp_path: Path, scorer: Scorer, s3: Any, engine: Engine
) -> None:
    source = archive(tmp_path / "in")
    _put(s3, source)
    bulk.predict([str(source)], str(tmp_path / "alone"), scorer, engine=HERE)

    def run() -> tuple[int, int]:
        done = bulk.predict(["s3://bucket/in/*.parquet"], "s3://bucket/out", scorer, engine=engine)
        return done.n_partitions, done.n_skipped

    assert run() == (3, 0)
    assert _on(s3, "bucket/out") == table(tmp_path / "alone")
    assert len(s3.ls("bucket/out")) == 3
    assert run() == (0, 3)
    s3.rm("bucket/out/part-1.parquet")
    assert run() == (1, 2)
    # Another writer changes a source and adds one, behind this process' back.
    s3.pipe("bucket/in/part-0.parquet", (source / "part-2.parquet").read_bytes())
    s3.pipe("bucket/in/part-3.parquet", (source / "part-0.parquet").read_bytes())
    assert run() == (2, 2)
    assert len(s3.ls("bucket/out")) == 4


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_is_killed_leaves_no_half_partition_on_s3(
    tmp_path: Path, scorer: Scorer, s3: Any
) -> None:
    source = archive(tmp_path / "in", 8)
    _put(s3, source)
    (tmp_path / "scorer").write_bytes(pickle.dumps(scorer))
    urls = ("s3://bucket/in/*.parquet", "s3://bucket/out")
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "scorer"), *urls]
    with subprocess.Popen(command) as child:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and child.poll() is None:
            rows = _on(s3, "bucket/out")  # whatever is visible at any moment is whole
            assert len(rows) % 200 == 0
            if len(rows) >= 400:
                break
        child.kill()
    kept = len(_on(s3, "bucket/out")) // 200
    assert 2 <= kept < 8
    done = bulk.predict([urls[0]], urls[1], scorer, engine=HERE)
    assert (done.n_skipped, done.n_partitions) == (kept, 8 - kept)
    bulk.predict([str(source)], str(tmp_path / "alone"), scorer, engine=HERE)
    assert _on(s3, "bucket/out") == table(tmp_path / "alone")
    assert not s3.glob("bucket/out/.writing-*")


@pytest.mark.filterwarnings("ignore")
def test_a_partition_that_fails_on_s3_is_not_seen(
    tmp_path: Path, scorer: Scorer, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(s3, archive(tmp_path / "in", 1))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(BadSource, match=r"s3://bucket/in/part-0.parquet could not .*No space"):
            bulk.predict(["s3://bucket/in/*.parquet"], "s3://bucket/out", scorer, engine=HERE)
    assert not s3.exists("bucket/out") or not s3.ls("bucket/out")
    for url, sentence in [
        ("s3://bucket/none/*.parquet", "s3://bucket/none/.*: there is no such Parquet file"),
        ("s3://elsewhere/in/a.parquet", "s3://elsewhere/in/a.parquet: "),
    ]:
        with pytest.raises(BadSource, match=sentence):
            bulk.predict([url], "s3://bucket/out", scorer, engine=HERE)
    with pytest.raises(BadSource, match="lies in s3://bucket/in, and would be overwritten"):
        bulk.predict(["s3://bucket/in/*.parquet"], "s3://bucket/in", scorer, engine=HERE)


# Refusing --------------------------------------------------------------------------------------


def test_what_cannot_be_scored_is_told(
    tmp_path: Path, scorer: Scorer, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = archive(tmp_path / "in")
    (tmp_path / "a.csv").write_text("headline\na\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "part-0.parquet").write_bytes(b"PAR1 not at all PAR1")
    (tmp_path / "link").symlink_to(source)
    one = f"{source}/part-0.parquet"
    cases: list[tuple[list[str], str, type[KopwijzerError], str]] = [
        (["nope"], "out", BadSource, "nope: there is no such Parquet file"),
        (["no*.parquet"], "out", BadSource, r"no\*.parquet: there is no such Parquet file"),
        ([str(tmp_path)], "out", BadSource, "there is no such Parquet file"),
        ([f"{tmp_path}/a.csv"], "out", BadSource, "a.csv: --out scores Parquet files"),
        (["zzz://a/b"], "out", BadSettings, "zzz://a/b: Protocol not known: zzz"),
        (["gs://a/b"], "out", BadSettings, "gs://a/b: .*gcsfs"),
        ([one], "zzz://a", BadSettings, "zzz://a: Protocol not known"),
        ([one, one], "out", BadSource, "two sources are called 'part-0.parquet'; score them"),
        ([one], str(source), BadSource, "lies in .*, and would be overwritten; name another"),
        ([one], f"file://{source}/", BadSource, "lies in .*, and would be overwritten"),
        ([one], f"{source}/../link/", BadSource, "lies in .*, and would be overwritten"),
        ([one], f"{tmp_path}/a.csv", BadSource, "a.csv"),
        ([one], f"{tmp_path}/a.csv/x", BadSource, "a.csv/x: .*Not a directory"),
        (
            [f"{tmp_path}/other"],
            "out",
            BadSource,
            "other/part-0.parquet could not be scored into .*/part-0.parquet: .*",
        ),
    ]
    monkeypatch.chdir(tmp_path)
    for sources, out, kind, sentence in cases:
        with pytest.raises(kind, match=sentence):
            bulk.predict(sources, out, scorer, engine=HERE)
    memory.pipe("/in/a.parquet", Path(one).read_bytes())
    with pytest.raises(BadSource, match=r"memory:///in/a.parquet: lies in memory://in, and would"):
        bulk.predict(["memory://in/*.parquet"], "memory://in", scorer, engine=HERE)
    with pytest.raises(BadSource, match=r"has no column 'kop'; it has 'id', 'headline', 'teaser'"):
        bulk.predict([one], "out", scorer, columns=Columns("kop"), engine=HERE)
    assert not list((tmp_path / "out").iterdir())
    assert len(list(source.iterdir())) == 3


def test_a_partition_that_fails_leaves_the_others_and_nothing_half(
    tmp_path: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = archive(tmp_path / "in")
    data = (source / "part-1.parquet").read_bytes()
    middle = len(data) // 3
    (source / "part-1.parquet").write_bytes(data[:middle] + b"\0" * 400 + data[middle + 400 :])
    with pytest.raises(BadSource, match=r"part-1.parquet could not be scored into"):
        bulk.predict([str(source)], str(tmp_path / "out"), scorer, engine=HERE)
    assert leftovers(tmp_path / "out") == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["part-0.parquet"]
    (source / "part-1.parquet").write_bytes(data)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(BadSource, match=r"part-1.parquet could not .*: .*No space left on dev"):
            bulk.predict([str(source)], str(tmp_path / "out"), scorer, engine=HERE)
    assert leftovers(tmp_path / "out") == []
    done = bulk.predict([str(source)], str(tmp_path / "out"), scorer, engine=HERE)
    assert (done.n_partitions, done.n_skipped) == (2, 1)


# By the command line ---------------------------------------------------------------------------


def test_the_command_line_scores_and_is_stopped_cleanly(
    tmp_path: Path, pipeline: Any, scorer: Scorer
) -> None:
    from kopwijzer import versions

    versions.save(
        "football-nl",
        scorer=scorer,
        pipeline=pipeline,
        probes=[("Genk wint", "")],
        facts={"data": {}, "settings": {}, "written_by": {}},
        files=lambda _: {},
        models=tmp_path / "models",
    )
    source = archive(tmp_path / "in", 2)
    command = [
        *(sys.executable, "-m", "kopwijzer", "predict", f"{source}/*.parquet"),
        *("--models", f"{tmp_path}/models", "--workers", "1", "--out"),
    ]
    found = subprocess.run([*command, f"{tmp_path}/out"], capture_output=True, timeout=60)
    assert (found.returncode, found.stdout) == (0, b"")
    assert found.stderr.startswith(b"400 rows in 2 partitions scored, 0 of them kept as error")
    bulk.predict([str(source)], str(tmp_path / "plain"), scorer, engine=HERE)
    assert table(tmp_path / "out") == table(tmp_path / "plain")
    archive(source, 60, 4000)
    with subprocess.Popen(
        [*command, f"{tmp_path}/out"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while not leftovers(tmp_path / "out") and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, b""), err
    assert err.decode() == "kopwijzer: terminated; nothing half-written was kept\n"
    assert leftovers(tmp_path / "out") == []


def test_a_worker_needs_no_scikit_learn() -> None:
    code = "import kopwijzer.bulk, sys; sys.exit(int('sklearn' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
