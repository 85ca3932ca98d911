"""Connections to Ray and Dask clusters that are there already; each is an extra of the package."""

import logging
import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from joblib import register_parallel_backend

from synthdp.errors import InputError, without_credentials

CONNECT_S = 10.0
#: What a person may do whose cluster is not there.
_MEND = "start it, name another engine_address, or use engine=local; nothing has run yet"


@dataclass(frozen=True)
class Cluster:
    """A connection.

    cores: how many the cluster has now; alive: whether it answers; backend: joblib's settings for
    so many runs at once.
    """

    cores: Callable[[], int]
    alive: Callable[[], bool]
    backend: Callable[[int], Mapping[str, Any]]


def _missing(engine: str, error: ImportError) -> InputError:
    return InputError(
        f"engine: {engine} is not installed here ({error.name}); "
        f"pip install 'synthdp[{engine}]', on every machine of the cluster too"
    )


def _listens(address: str, timeout_s: float) -> bool:
    """Whether anything takes connections at `host:port`."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=timeout_s):
            return True
    except (OSError, ValueError):
        return False


def connect_ray(address: str | None, threads: int, stack: ExitStack) -> Cluster:
    """Connect to a Ray cluster.

    Raises:
        InputError: when Ray is not installed or the cluster can't be reached.
    """
    try:
        import ray  # noqa: PLC0415 (an extra)
        from ray.util.joblib.ray_backend import RayBackend  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise _missing("ray", error) from error

    class Backend(RayBackend):
        """Ray's own, whose results come one by one: its pool calls back for each."""

        supports_return_generator = True

    where = address or os.environ.get("RAY_ADDRESS") or "auto"
    if where != "auto" and not _listens(where, CONNECT_S):
        raise InputError(f"engine: no Ray cluster answers at {without_credentials(where)}; {_MEND}")
    try:
        ray.init(address=where, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        shown = without_credentials(where)
        raise InputError(f"engine: no Ray cluster can be reached at {shown}; {_MEND}") from error
    stack.callback(ray.shutdown)
    head = ray.get_runtime_context().gcs_address
    register_parallel_backend("synthdp-ray", Backend)
    gpus = ray.cluster_resources().get("GPU", 0) > 0

    def backend(size: int) -> Mapping[str, Any]:
        share = 1.0 if size > 1 else 0.5  # the engine gives joblib two jobs: they share one core
        needs = {"num_cpus": share * threads, **({"num_gpus": share} if gpus else {})}
        return {"backend": "synthdp-ray", "ray_remote_args": needs}

    def cores() -> int:
        now = ray.cluster_resources()
        n_cores = int(now.get("CPU", 0))
        return min(n_cores, int(now["GPU"]) * threads) if gpus and "GPU" in now else n_cores

    return Cluster(cores=cores, alive=lambda: _listens(head, CONNECT_S), backend=backend)


def _dask_backend() -> type[Any]:
    """joblib's way to Dask, for synthdp's runs."""
    from joblib._dask import DaskDistributedBackend  # noqa: PLC0415 (imports dask)

    class Backend(DaskDistributedBackend):
        """joblib's own, with as many jobs as asked for, which hears of a task that is given up.

        The scheduler gives a task up when its workers were killed too often. joblib's callback is
        then not called, and `Parallel` would wait for ever.
        """

        def effective_n_jobs(self, n_jobs: int) -> int:
            return n_jobs

        def submit(self, func: Callable[[], Any], callback: Callable[[Any], None]) -> "Future[Any]":
            def report_error(done: "Future[Any]") -> None:
                error = done.exception()
                if error is not None:
                    callback(error)

            future: Future[Any] = super().submit(func, callback)
            future.add_done_callback(report_error)
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, BaseException):
                raise out
            return super().retrieve_result_callback(out)

    return Backend


def connect_dask(address: str | None, threads: int, stack: ExitStack) -> Cluster:
    """Connect to a Dask cluster; a run takes one of its workers' threads.

    Raises:
        InputError: when Dask is not installed, the cluster can't be reached, or is not named.
    """
    try:
        import dask  # noqa: PLC0415 (an extra)
        from distributed import Client  # noqa: PLC0415 (an extra)

        backend = _dask_backend()
    except ImportError as error:
        raise _missing("dask", error) from error
    where = address or dask.config.get("scheduler-address", None)
    if where is None:
        raise InputError(
            "engine: name the Dask scheduler as engine_address (tcp://host:8786), or in "
            "DASK_SCHEDULER_ADDRESS"
        )
    try:
        client = Client(where, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        shown = without_credentials(where)
        raise InputError(f"engine: no Dask cluster answers at {shown}; {_MEND}") from error
    stack.callback(client.close, timeout=CONNECT_S)
    register_parallel_backend("synthdp-dask", backend)

    def n_cores() -> int:
        return sum(client.ncores().values())

    def alive() -> bool:
        try:
            return client.status == "running" and n_cores() > 0
        except (OSError, TimeoutError):
            return False

    return Cluster(
        cores=n_cores,
        alive=alive,
        backend=lambda _: {"backend": "synthdp-dask", "client": client},
    )
