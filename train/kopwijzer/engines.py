"""Engines: where calls run. joblib's backends are the one seam: this machine, Dask or Ray."""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kopwijzer.errors import BadSettings, KopwijzerError, MissingExtra

__all__ = ["Engine"]

Backend = Literal["loky", "threading", "dask", "ray"]


#: How many seconds a scheduler may take to answer.
_PATIENCE = 10.0
#: Ray by itself gives up at the first worker that dies; Dask tries a call as often as this.
_RETRIES = {"max_restarts": -1, "max_task_retries": 3}


@dataclass(frozen=True, slots=True)
class Engine:
    """Runs independent calls, in order, on one of joblib's backends.

    `backend` is "loky" (processes of this machine), "threading", "dask" or "ray"; `workers` how
    many calls run at once (None: the processors of this machine, or what the cluster has);
    `scheduler` the address of a running Dask scheduler ("tcp://host:8786") or Ray cluster.
    The results are the same whatever the engine: every call gets its own data and seed.
    """

    backend: Backend = "loky"
    workers: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.scheduler and self.backend not in ("dask", "ray"):
            raise BadSettings(
                f"--scheduler {self.scheduler!r} needs --backend dask or ray, not {self.backend!r}"
            )
        if self.workers is not None and self.workers < 1:
            raise BadSettings(f"--workers {self.workers}: use 1 or more")

    def run(
        self,
        what: str,
        say: Callable[[str, int, int], None],
        shared: Sequence[Any] = (),
    ) -> Callable[[list[Any]], Iterator[Any]]:
        """A function that runs joblib-delayed calls and yields their results in order.

        `shared` are arguments that many calls have: a cluster gets them once per worker.
        """

        def calls(delayed: list[Any]) -> Iterator[Any]:
            say(what, 0, len(delayed))
            for done, result in enumerate(self._map(delayed, shared), 1):
                say(what, done, len(delayed))
                yield result

        return calls

    def _map(self, delayed: list[Any], shared: Sequence[Any]) -> Iterator[Any]:
        from joblib import Parallel
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        if not delayed:
            return
        here = self.backend in ("loky", "threading")
        workers = self.workers or (os.cpu_count() or 1 if here else -1)
        if here and min(workers, len(delayed)) <= 1:
            for function, args, kwargs in delayed:
                yield function(*args, **kwargs)
            return
        try:
            with self._backend(shared):
                # Ray's backend gives results only when all are there.
                how = "list" if self.backend == "ray" else "generator"
                yield from Parallel(n_jobs=workers, return_as=how)(delayed)
        except TerminatedWorkerError as error:
            raise KopwijzerError(
                "a worker process was killed, most often for want of memory; run again with fewer "
                "--workers (what was finished is kept)"
            ) from error
        except Exception as error:
            # Dask and Ray have each their own errors for a worker or a scheduler that is lost.
            room = type(error).__module__.partition(".")[0]
            if here or not (room in ("distributed", "ray") or isinstance(error, ConnectionError)):
                raise
            lines = str(error).strip().splitlines() or [type(error).__name__]
            why = lines[-1 if room == "ray" else 0]  # Ray's first line names the process
            raise KopwijzerError(
                f"the {self.backend} cluster broke off ({why}); run again "
                "(what was finished is kept)"
            ) from error

    @contextlib.contextmanager
    def _backend(self, shared: Sequence[Any]) -> Iterator[None]:
        from joblib import parallel_config

        if self.backend == "dask":
            scatter = list(shared) or None
            with self._dask() as client, parallel_config(_dask_backend(client, scatter)):
                yield
        elif self.backend == "ray":
            self._ray()
            with parallel_config("ray", ray_remote_args=_RETRIES):
                yield
        else:
            with parallel_config(self.backend):
                yield

    @contextlib.contextmanager
    def _dask(self) -> Iterator[Any]:
        try:
            from distributed import Client, LocalCluster
        except ImportError as error:
            raise MissingExtra("--backend dask", "dask") from error
        if self.scheduler:
            try:
                client = Client(self.scheduler, timeout=f"{_PATIENCE}s")
            except (OSError, ValueError) as error:  # ValueError: no address at all
                raise BadSettings(
                    f"--scheduler {self.scheduler!r}: no Dask scheduler answers there; start one "
                    "with 'dask scheduler', or leave --scheduler out"
                ) from error
            with client:
                yield client
        else:
            workers = self.workers or os.cpu_count() or 1
            with (
                LocalCluster(
                    n_workers=workers, threads_per_worker=1, dashboard_address=None
                ) as cluster,
                Client(cluster) as client,
            ):
                yield client

    def _ray(self) -> None:
        try:
            import ray
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise MissingExtra("--backend ray", "ray") from error
        # Ray tells of its own doings on stderr, and of a worker's death on stdout, where our
        # records go; for the second it has no switch.
        logging.getLogger("ray").setLevel(logging.ERROR)
        with contextlib.suppress(ImportError):
            from ray._private import worker

            worker.print_worker_logs = lambda *_, **__: None
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if not ray.is_initialized():
            try:
                self._knock()
                ray.init(
                    address=self.scheduler,
                    num_cpus=None if self.scheduler else self.workers,
                    include_dashboard=None if self.scheduler else False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            except (OSError, ValueError, RuntimeError, ImportError) as error:
                if not self.scheduler:
                    raise
                raise BadSettings(
                    f"--scheduler {self.scheduler!r}: no Ray cluster answers there; start one "
                    "with 'ray start --head', or leave --scheduler out"
                ) from error
        register_ray()

    def _knock(self) -> None:
        """Raises OSError where nothing listens: Ray itself would wait for minutes."""
        _, _, place = (self.scheduler or "").rpartition("//")
        host, _, port = place.rpartition(":")
        if port.isdigit():
            with socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE):
                pass


def _dask_backend(client: Any, scatter: list[Any] | None) -> Any:
    """joblib's Dask backend, which tells also of a call that Dask itself gave up.

    joblib 1.6 waits for ever for a call that failed outside of it: one whose workers all died.
    """
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]  # untyped base
        def submit(self, func: Any, callback: Any = None) -> Any:
            return self._watched(super().submit(func, callback), callback)

        def apply_async(self, func: Any, callback: Any = None) -> Any:  # its name in joblib 1.4
            return self._watched(super().apply_async(func, callback), callback)

        def _watched(self, waiting: Any, callback: Any) -> Any:
            def tell(done: Any) -> None:
                error = done.exception()
                if error is not None:
                    callback(_GivenUp(error))

            waiting.add_done_callback(tell)
            return waiting

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, _GivenUp):
                raise out.error
            return super().retrieve_result_callback(out)

    return Backend(client=client, scatter=scatter)


@dataclass(frozen=True, slots=True)
class _GivenUp:
    """In the place of a result: why there is none."""

    error: BaseException
