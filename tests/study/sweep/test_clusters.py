"""Studies on real clusters of two workers on this machine, which the tests start and end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest
from made_up import small_study

from synthdp.config.settings import validate_settings
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError, RunError
from synthdp.runs.folder import StageCall
from synthdp.study.compare.results import read_results
from synthdp.study.settings import EngineSettings, StudySettings
from synthdp.study.stage import run_study
from synthdp.study.sweep import clusters, engine
from synthdp.study.sweep.engine import opened_engine

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {
    **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
}  # fmt: skip
START_WITHIN_S = 300.0  # where much else runs


def free_port() -> int:
    """A port that nobody listens on, of those that a system gives nobody by itself meanwhile."""
    first = 20_000 + os.getpid() % 5_000
    for port in range(first, first + 5_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no port is free")


@contextmanager
def running(command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, which is killed with all that it started."""
    process = subprocess.Popen(
        command, env=ENVIRONMENT, cwd=folder, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a session at once, as when the power fails."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                session = int((entry / "stat").read_text().rpartition(") ")[2].split()[3])
                if session == process.pid:
                    os.kill(int(entry.name), signal.SIGKILL)
            except (OSError, ValueError):
                continue
    process.wait()


def wait_until(ready: Callable[[], bool]) -> None:
    give_up = time.monotonic() + START_WITHIN_S
    while not ready():
        assert time.monotonic() < give_up, "the cluster did not start"
        time.sleep(0.05)


Cluster = tuple[EngineSettings, Callable[[], None]]


@contextmanager
def dask_cluster(folder: Path) -> Iterator[Cluster]:
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    command = [sys.executable, "-m", "dask"]
    with ExitStack() as stack:
        scheduler = ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
        process = stack.enter_context(running([*command, *scheduler], folder))
        wait_until(lambda: clusters._listens(address, 1.0))
        worker = ["worker", address, "--nthreads", "1", "--nworkers", "2", "--no-dashboard"]
        stack.enter_context(running([*command, *worker], folder))
        settings = EngineSettings(engine="dask", engine_address=address, workers=2)
        wait_until(lambda: cores(settings) == 2)
        yield settings, lambda: end(process)


@contextmanager
def ray_cluster(folder: Path) -> Iterator[Cluster]:
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "1"]
    memory = ["--object-store-memory", "80000000"]
    with ExitStack() as stack:
        # a socket's path must be short, which pytest's own folders are not
        scratch = stack.enter_context(TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True))
        head = [
            "--head",
            "--port",
            str(port),
            "--temp-dir",
            scratch,
            "--include-dashboard",
            "false",
        ]
        first = stack.enter_context(running([*command, *memory, *head], folder))
        wait_until(lambda: clusters._listens(address, 1.0))
        second = stack.enter_context(running([*command, *memory, "--address", address], folder))
        settings = EngineSettings(engine="ray", engine_address=address, workers=2)
        wait_until(lambda: cores(settings) == 2)
        yield settings, lambda: (end(first), end(second))[0]


def cores(settings: EngineSettings) -> int:
    connect = clusters.connect_ray if settings.engine == "ray" else clusters.connect_dask
    try:
        with ExitStack() as stack:
            return connect(settings.engine_address, 1, stack).cores()
    except InputError:
        return 0


STARTS = {"ray": ray_cluster, "dask": dask_cluster}


@pytest.fixture(params=list(STARTS))
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    with STARTS[request.param](tmp_path) as started:
        yield started


@pytest.mark.slow
def test_a_study_on_a_cluster_that_loses_a_worker_and_then_goes_away(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, kill = cluster
    a_run_that_kills_its_worker_fails_alone(place)
    a_single_worker_is_the_cluster_s_too(place.model_copy(update={"workers": 1}))
    # from here on nobody comes back; until then a busy machine may take seconds to restart a worker
    monkeypatch.setattr(engine, "LOOK_EVERY_S", 0.3)
    values = {**small_study(tmp_path), "seeds": list(range(10)), **place.model_dump()}
    study = validate_settings(StudySettings, values, where="study")
    watcher = Thread(target=kill_when_some_runs_are_finished, args=(study.out, kill))
    watcher.start()
    with pytest.raises(RunError, match=r"cluster went away .* finished runs stand.*engine=local"):
        run_study(study)
    watcher.join()
    finished = finished_runs(study.out)
    assert 2 <= len(finished) < 20
    with pytest.raises(InputError, match="nothing has run yet"):
        run_study(study)
    assert run_study(study.model_copy(update={"engine": "local", "engine_address": None})).is_file()
    assert len(finished_runs(study.out)) == 20
    assert {**finished_runs(study.out), **finished} == finished_runs(study.out)
    assert {row.state for row in read_results(study.out / "results.csv")} == {"finished"}


def a_run_that_kills_its_worker_fails_alone(place: EngineSettings) -> None:
    def deadly(call: StageCall, threads: int) -> tuple[str, str | None]:
        if call.setting("seed") == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return call.folder, None

    calls = [StageCall("example", PhantomSettings(out=Path("unused"), seed=n)) for n in range(6)]
    with opened_engine(place) as opened:
        found = {one.folder: one.error for one in opened.outcomes(deadly, calls)}
    assert [bool(found[call.folder]) for call in calls] == [n == 3 for n in range(6)]
    assert "its worker process died" in str(found[calls[3].folder])


def a_single_worker_is_the_cluster_s_too(place: EngineSettings) -> None:
    def tell(call: StageCall, threads: int) -> tuple[str, str | None]:
        return call.folder, f"{os.getpid()} of {threads} in {os.getcwd()}"

    with opened_engine(place) as opened:
        call = StageCall("example", PhantomSettings(out=Path("unused")))
        (found,) = opened.outcomes(tell, [call])
    assert not str(found.error).startswith(f"{os.getpid()} ")
    assert str(found.error).endswith(f" of 1 in {os.getcwd()}")


def finished_runs(study: Path) -> dict[Path, int]:
    """The finished runs, and when each was finished."""
    paths = study.glob("runs/*/status.json")
    return {p: p.stat().st_mtime_ns for p in paths if '"state": "finished"' in p.read_text()}


def kill_when_some_runs_are_finished(study: Path, kill: Callable[[], None]) -> None:
    wait_until(lambda: len(finished_runs(study)) >= 2)
    kill()


@pytest.mark.parametrize("name", ["ray", "dask"])
def test_a_cluster_that_is_not_there_or_not_named_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "CONNECT_S", 1.0)
    address = f"{'tcp://' if name == 'dask' else ''}127.0.0.1:{free_port()}"
    asked = EngineSettings(engine=name, engine_address=address)
    with pytest.raises(InputError, match=rf"no {name.capitalize()} cluster"), opened_engine(asked):
        pass
    address = f"ray://someone:hunter2@127.0.0.1:{free_port()}"
    if name == "ray":
        asked = EngineSettings(engine=name, engine_address=address)
        with pytest.raises(InputError, match=r"answers at ray://\.\.\.@127"), opened_engine(asked):
            pass
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match="engine: "), opened_engine(EngineSettings(engine=name)):
        pass


@pytest.mark.parametrize("name", ["ray", "distributed"])
def test_an_engine_that_is_not_installed_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    asked = EngineSettings(engine="dask" if name == "distributed" else "ray")
    with pytest.raises(InputError, match=r"pip install 'synthdp\["), opened_engine(asked):
        pass
