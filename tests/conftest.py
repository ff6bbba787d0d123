"""Fixtures that several test folders share."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from filelock import FileLock

import warm

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# A shell in the background ignores Ctrl-C, nohup a closed terminal; children inherit that, and cnnlab respects it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
warm.begin()
WHERE = "MLFLOW_TRACKING_URI"
GIVEN = os.environ.get(WHERE)
SHARED = re.compile(r"""scope=["'](module|class)["']""")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare this process for tests, unless it only hands them out, to forks of its warm one."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        # As many processes as cores: more threads would only wait for each other.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        return
    import copied_stores

    copied_stores.copy_stores()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let several processes share the tests well: long ones first."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give those tests that share what a fixture makes to one process.

    As xdist's own `loadgroup` does by a mark, which it keeps where pytest 9.2 no longer looks for it.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Sharing(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return module if has_shared_fixture(module) else nodeid

    config.option.loadscopereorder = False  # those of most tests first: the long ones are to be
    return Sharing(config, log)


@cache
def has_shared_fixture(module: str) -> bool:
    """Return whether the file has a fixture that is made once for several of its tests."""
    return SHARED.search(Path(__file__).parents[1].joinpath(module).read_text(encoding="utf-8")) is not None


@pytest.fixture(autouse=True)
def started(request) -> Iterator[None]:
    """Let the processes of a test marked `cold` start with nothing imported."""
    with warm.cold() if request.node.get_closest_marker("cold") else nullcontext():
        yield


@pytest.fixture(autouse=True)
def no_store_of_others() -> Iterator[None]:
    """Take back the store that a test has named: MLflow writes it into the environment, where all later ones read."""
    yield
    if mlflow := sys.modules.get("mlflow"):
        mlflow.set_tracking_uri(None)
    os.environ.pop(WHERE, None)
    if GIVEN is not None:
        os.environ[WHERE] = GIVEN


@dataclass(frozen=True)
class Trained:
    """One finished run of train.py: its folder, its screen, its tracking store and its MLflow run."""

    folder: Path
    output: str
    uri: str

    @property
    def run(self):
        import mlflow

        client = mlflow.MlflowClient(self.uri)
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        (only,) = client.search_runs(ids)
        return only


@pytest.fixture(scope="session")
def trained(tmp_path_factory, worker_id) -> Trained:
    """Train a small network on the digits once, for every test that only looks at what a run leaves.

    The processes of one test run share it: whoever comes first trains, under a lock.
    """
    from commands import run

    folder = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        folder = folder.parent
    folder /= "trained"
    said = folder / "said.txt"
    with FileLock(folder.with_suffix(".lock")):
        if not said.exists():
            folder.mkdir()
            done = run(folder, "train.py", "model=simple_cnn", "model.filters=[4,8]", "trainer.max_epochs=3")
            assert done.returncode == 0, done.stderr
            said.write_text(done.stdout)
    return Trained(folder, said.read_text(), f"sqlite:///{folder}/mlruns/mlflow.db")
