"""Engines: the same results on every backend, through workers that die, and clear refusals."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from joblib import delayed

from conftest import ROWS, save_version
from kopwijzer import bulk, training
from kopwijzer.engines import Engine
from kopwijzer.errors import BadSettings, KopwijzerError, MissingExtra
from kopwijzer.headlines import Headline
from kopwijzer.learning import cross_predict
from kopwijzer.scorer import Scorer
from kopwijzer.search import search
from kopwijzer.splits import splits
from test_bulk import archive, table
from test_search import PLAN, RECIPE

dask = pytest.mark.skipif(
    find_spec("distributed") is None, reason="dask is not installed: kopwijzer[dask]"
)
ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: kopwijzer[ray]")
LOCAL = [Engine("threading", 2), Engine("loky", 1), Engine("loky", 2)]
#: What Dask says of itself when a worker is killed under it.
quiet = pytest.mark.filterwarnings("ignore")

# Calls that workers run: processes of this machine find them here.


def _square(number: int, shared: Any = None) -> int:
    return number * number + len(shared or ())


def _slowly(number: int) -> int:
    time.sleep(0.02 * (5 - number))
    return number


def _fail(number: int) -> int:
    if number == 2:
        raise KopwijzerError("two is not for us")
    return number


def _die(number: int) -> int:
    if number == 2:
        os._exit(1)
    time.sleep(0.2)
    return number


def _calls(function: Any, n: int = 5, *shared: Any) -> list[Any]:
    return [delayed(function)(number, *shared) for number in range(n)]


def run(engine: Engine, calls: list[Any], *shared: Any) -> tuple[list[Any], list[Any]]:
    """The results of an engine, and the progress it told."""
    told: list[Any] = []
    results = list(engine.run("work", lambda *said: told.append(said), shared)(calls))
    return results, told


# This machine ----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [*LOCAL, Engine(), Engine("threading")])
def test_results_come_in_order_and_progress_with_them(engine: Engine) -> None:
    expected = [("work", done, 5) for done in range(6)]
    assert run(engine, _calls(_square)) == ([0, 1, 4, 9, 16], expected)
    assert run(engine, _calls(_slowly)) == ([0, 1, 2, 3, 4], expected)
    assert run(engine, _calls(_square, 1)) == ([0], [("work", 0, 1), ("work", 1, 1)])
    assert run(engine, []) == ([], [("work", 0, 0)])


@pytest.mark.parametrize("engine", LOCAL)
def test_an_error_of_a_call_is_raised_as_it_is(engine: Engine) -> None:
    with pytest.raises(KopwijzerError, match="two is not for us"):
        run(engine, _calls(_fail))


def test_a_worker_that_is_killed_is_told() -> None:
    with pytest.raises(KopwijzerError, match=r"a worker process was killed, most often for want"):
        run(Engine("loky", 2), _calls(_die))
    assert run(Engine("loky", 2), _calls(_square))[0] == [0, 1, 4, 9, 16]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"workers": 0}, "--workers 0: use 1 or more"),
        ({"workers": -2}, "--workers -2: use 1 or more"),
        ({"scheduler": "tcp://x:1"}, "--scheduler 'tcp://x:1' needs --backend dask or ray, not"),
        ({"backend": "threading", "scheduler": "x"}, "needs --backend dask or ray"),
    ],
)
def test_options_that_contradict_each_other_are_told(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BadSettings, match=sentence):
        Engine(**options)


@pytest.mark.parametrize(("backend", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_that_is_not_installed_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, backend: Any, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    sentence = rf"--backend {backend} needs an extra: pip install 'kopwijzer\[{backend}\]'"
    with pytest.raises(MissingExtra, match=sentence):
        run(Engine(backend), _calls(_square))


# A cluster -------------------------------------------------------------------------------------


@dataclass
class Cluster:
    """A scheduler and workers, each a process of its own on this machine's loopback."""

    folder: Path
    address: str = ""
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def engine(self) -> Engine:
        return Engine("dask", scheduler=self.address)

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{args[0]}-{len(self.workers)}.log").open("wb")
        path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *args, "--no-dashboard"],
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "PYTHONPATH": path,
                    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__GIL__ENABLED": "false",
                },
                cwd=self.folder,
            )

    def add_worker(self) -> None:
        self.workers.append(
            self.start(
                *("worker", self.address, "--nthreads", "1", "--no-nanny"),
                *("--host", "127.0.0.1", "--local-directory", str(self.folder)),
            )
        )

    def wait_for_workers(self, n: int) -> None:
        from distributed import Client

        with Client(self.address, timeout="30s") as client:
            client.wait_for_workers(n, timeout=60)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Dask scheduler with two workers."""
    found = Cluster(tmp_path_factory.mktemp("dask"))
    file = found.folder / "scheduler.json"
    try:
        found.scheduler = found.start(
            *("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        )
        for _ in range(600):
            with contextlib.suppress(OSError, ValueError):
                found.address = json.loads(file.read_text())["address"]
                break
            time.sleep(0.1)
        found.add_worker()
        found.add_worker()
        found.wait_for_workers(2)
        yield found
    finally:
        for process in filter(None, [*found.workers, found.scheduler]):
            process.kill()
            process.wait()


@dask
@quiet
def test_a_cluster_gives_results_in_order_and_errors_as_they_are(cluster: Cluster) -> None:
    expected = [("work", done, 5) for done in range(6)]
    assert run(cluster.engine, _calls(_square)) == ([0, 1, 4, 9, 16], expected)
    shared = ["once", "for", "every", "worker"]
    assert run(cluster.engine, _calls(_square, 3, shared), shared)[0] == [4, 5, 8]
    with pytest.raises(KopwijzerError, match="two is not for us"):
        run(cluster.engine, _calls(_fail))


@dask
@quiet
def test_cross_validation_is_the_same_everywhere(cluster: Cluster) -> None:
    rows = [Headline(row["headline"], row["teaser"], row["label"]) for row in ROWS]
    truth = [row["label"] for row in ROWS]
    parts = splits("random", rows, truth, list(range(len(rows))), RECIPE)
    arguments = training.learning_arguments(RECIPE)

    def folds(engine: Engine) -> list[Any]:
        quiet_run = engine.run("folds", lambda *_: None)
        found = cross_predict(rows, truth, parts, run=quiet_run, **arguments)
        return [(f.test.tolist(), f.decision.tolist(), f.known.tolist()) for f in found]

    alone = folds(Engine("threading", 1))
    assert len(alone) == 5
    for engine in [*LOCAL, cluster.engine]:
        assert folds(engine) == alone


@dask
@quiet
def test_a_search_finds_the_same_on_a_cluster(cluster: Cluster) -> None:
    alone = search(ROWS, PLAN, RECIPE, engine=Engine("threading", 1))
    assert search(ROWS, PLAN, RECIPE, engine=cluster.engine) == alone


@dask
@quiet
def test_bulk_prediction_on_a_cluster_and_a_worker_that_dies(
    cluster: Cluster, tmp_path: Path, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(archive(tmp_path / "in", 12, 6000))
    bulk.predict([source], str(tmp_path / "alone"), scorer, engine=Engine("threading", 1))
    alone = table(tmp_path / "alone")
    assert len(alone) == 72_000
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere
    done = bulk.predict([source], "two", scorer, engine=cluster.engine)
    assert (done.n_partitions, done.n_rows) == (12, 72_000)
    assert table(tmp_path / "two") == alone

    def kill_one(_: str, finished: int, __: int) -> None:
        if finished == 2:
            cluster.workers[0].kill()
            cluster.workers[0].wait()

    try:
        done = bulk.predict([source], "three", scorer, engine=cluster.engine, progress=kill_one)
    finally:
        cluster.workers[0].kill()
        cluster.add_worker()
        cluster.wait_for_workers(2)
    assert done.n_partitions + done.n_skipped == 12
    assert table(tmp_path / "three") == alone
    names = sorted(path.name for path in (tmp_path / "three").glob("*.parquet"))
    assert len(names) == 12
    for name in names:
        assert pq.read_table(tmp_path / "three" / name).num_rows == 6000
    # What the worker that died had begun is cleaned by the next run.
    bulk.predict([source], "three", scorer, engine=Engine("threading", 1))
    assert not list((tmp_path / "three").glob(".writing-*"))


@dask
@quiet
def test_a_call_that_kills_every_worker_is_told() -> None:
    with pytest.raises(
        KopwijzerError, match=r"the dask cluster broke off \(.*died while running it.*\); run again"
    ):
        run(Engine("dask", 2), _calls(_die, 3))


@dask
@quiet
def test_a_scheduler_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kopwijzer.engines._PATIENCE", 1.0)
    for address in ("tcp://127.0.0.1:9", "127.0.0.1:9"):
        with pytest.raises(BadSettings, match=re.escape(f"{address!r}: no Dask scheduler answers")):
            run(Engine("dask", scheduler=address), _calls(_square))


@dask
@quiet
@pytest.mark.parametrize("address", ["zzz://x", "tcp://no port", ""])
def test_an_address_that_is_none_is_told(address: str) -> None:
    if not address:
        assert run(Engine("dask", 1, scheduler=address), _calls(_square, 2))[0] == [0, 1]
        return
    with pytest.raises(BadSettings, match=r"--scheduler .*: no Dask scheduler answers there"):
        run(Engine("dask", scheduler=address), _calls(_square))


@dask
def test_the_command_line_goes_through_a_cluster(
    cluster: Cluster, tmp_path: Path, pipeline: Any, scorer: Scorer
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
    source = str(archive(tmp_path / "in", 3))
    found = subprocess.run(
        [
            *(sys.executable, "-m", "kopwijzer", "predict", f"{source}/*.parquet"),
            *("--models", f"{tmp_path}/models", "--out", f"{tmp_path}/out"),
            *("--backend", "dask", "--scheduler", cluster.address),
        ],
        capture_output=True,
        timeout=100,
    )
    assert (found.returncode, found.stdout) == (0, b""), found.stderr
    assert found.stderr.startswith(b"600 rows in 3 partitions scored")
    assert found.stderr.count(b"\n") == 1
    bulk.predict([source], str(tmp_path / "alone"), scorer, engine=Engine("threading", 1))
    assert table(tmp_path / "out") == table(tmp_path / "alone")


# Ray -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray_engine() -> Iterator[Engine]:
    """A Ray cluster of two workers, on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # for Ray's processes
        yield Engine("ray", 2)
    import ray as cluster

    cluster.shutdown()


@ray
@quiet
def test_ray_gives_results_in_order_and_errors_as_they_are(ray_engine: Engine) -> None:
    expected = [("work", done, 5) for done in range(6)]
    assert run(ray_engine, _calls(_square)) == ([0, 1, 4, 9, 16], expected)
    with pytest.raises(KopwijzerError, match="two is not for us"):
        run(ray_engine, _calls(_fail))


@ray
@quiet
def test_a_search_finds_the_same_on_ray(ray_engine: Engine) -> None:
    alone = search(ROWS, PLAN, RECIPE, engine=Engine("threading", 1))
    assert search(ROWS, PLAN, RECIPE, engine=ray_engine) == alone


@ray
@quiet
def test_bulk_prediction_on_ray_and_a_worker_that_is_killed(
    ray_engine: Engine, tmp_path: Path, scorer: Scorer, capfd: pytest.CaptureFixture[str]
) -> None:
    source, out = str(archive(tmp_path / "in", 12, 6000)), tmp_path / "two"
    bulk.predict([source], str(tmp_path / "alone"), scorer, engine=Engine("threading", 1))
    killed: list[int] = []

    def kill_one() -> None:
        """Kill the process that is writing a partition, once two are there."""
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            if len(list(out.glob("*.parquet"))) >= 2:
                for path in out.glob(".writing-*"):
                    killed.append(int(path.name.rsplit("-", 2)[1]))
                    os.kill(killed[0], signal.SIGKILL)
                    break
            time.sleep(0.005)

    killer = threading.Thread(target=kill_one)
    killer.start()
    done = bulk.predict([source], str(out), scorer, engine=ray_engine)
    killer.join()
    assert killed
    assert killed[0] != os.getpid()
    assert done.n_partitions + done.n_skipped == 12
    assert table(out) == table(tmp_path / "alone")
    assert len(list(out.glob("*.parquet"))) == 12
    # What the worker that was killed had begun is cleaned by the next run.
    done = bulk.predict([source], str(out), scorer, engine=ray_engine)
    assert (done.n_partitions, done.n_skipped) == (0, 12)
    assert not list(out.glob(".writing-*"))
    assert capfd.readouterr().out == ""


@ray
@quiet
def test_a_call_that_kills_every_ray_worker_is_told(ray_engine: Engine) -> None:
    with pytest.raises(KopwijzerError, match=r"the ray cluster broke off \(.+\); run again"):
        run(ray_engine, _calls(_die, 3))
    assert run(ray_engine, _calls(_square))[0] == [0, 1, 4, 9, 16]


@ray
@quiet
@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "zzz://q", "nowhere"])
def test_a_ray_cluster_that_is_not_there_is_told(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(BadSettings, match=re.escape(f"{address!r}: no Ray cluster answers there")):
        run(Engine("ray", scheduler=address), _calls(_square))


@ray
@quiet
def test_the_command_line_goes_through_ray(tmp_path: Path, pipeline: Any, scorer: Scorer) -> None:
    save_version(tmp_path / "models", scorer, pipeline, "football-nl")
    source = str(archive(tmp_path / "in", 3))
    found = subprocess.run(
        [
            *(sys.executable, "-m", "kopwijzer", "predict", f"{source}/*.parquet"),
            *("--models", f"{tmp_path}/models", "--out", f"{tmp_path}/out"),
            *("--backend", "ray", "--workers", "2"),
        ],
        capture_output=True,
        timeout=100,
    )
    assert (found.returncode, found.stdout) == (0, b""), found.stderr
    assert found.stderr.startswith(b"600 rows in 3 partitions scored")
    assert found.stderr.count(b"\n") == 1
    bulk.predict([source], str(tmp_path / "alone"), scorer, engine=Engine("threading", 1))
    assert table(tmp_path / "out") == table(tmp_path / "alone")
