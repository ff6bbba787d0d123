"""A password in an address ends nowhere: not on the screen, and in no file that any command writes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from commands import run
from postgres_server import server as postgres

pytestmark = pytest.mark.slow

QUICK = ("model=dnn", "trainer.max_epochs=1", "tracking.system_metrics=false")
FEW = ("search=mlp", "sweep.n_trials=1", "sweep.n_workers=1", "sweep.final_seeds=0", "figures.enabled=false")
FAILS = """
import os
from pytorch_lightning import Callback

class Fails(Callback):
    def on_train_start(self, trainer, module):
        raise LookupError(os.environ["MLFLOW_TRACKING_URI"])
"""


def leaks(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and b"SECRET" in file.read_bytes()]


def test_a_password_ends_nowhere(server, tmp_path):
    uri = server.uri.replace("http://", "http://alice:SECRET@")
    several = run(tmp_path, "train.py", "-m", *QUICK, f"tracking.uri='{uri}'", "seed=1,2")
    assert (several.returncode, several.stderr) == (0, "")
    (tmp_path / "fails.py").write_text(FAILS)
    own = run(tmp_path, "train.py", *QUICK, "+callbacks.mine._target_=fails.Fails", MLFLOW_TRACKING_URI=uri)
    assert own.returncode == 1 and "Traceback" in own.stderr
    assert f"LookupError: {uri.replace('SECRET', '***')}" in own.stderr
    # Its own short folder: a socket's path has at most 107 characters, and only root may enter pytest's.
    with tempfile.TemporaryDirectory(prefix="cnnlab-") as folder, postgres(Path(folder)) as address:
        storage = address.replace("tester@", "tester:SECRET@")
        given = ["-m", *QUICK, *FEW, f"sweep.storage='{storage}'", "sweep.name=one,two"]
        swept = run(tmp_path, "sweep.py", *given, MLFLOW_TRACKING_URI=uri)
    assert swept.returncode == 0, swept
    assert [*tmp_path.glob("multirun/*/*/multirun.yaml")] and [*tmp_path.rglob("*.png")]
    assert "SECRET" not in "".join(done.stdout + done.stderr for done in (several, own, swept))
    assert leaks(tmp_path) == [] == leaks(server.folder)
