"""The table that ends `train.py -m`."""

from __future__ import annotations

import re
import signal
from types import SimpleNamespace

import pytest

from cnnlab.errors import UsageError
from cnnlab.multirun import Ending, best_of, differing, ending_of, show_summary
from cnnlab.signals import Interruption
from commands import run
from test_training import QUICK

NARROW = {"COLUMNS": "80"}


@pytest.mark.slow
def test_each_job_has_a_row_and_the_best_is_marked(tmp_path):
    arguments = ["-m", *QUICK[:1], "model.hidden_units=[8],[64],[0]", "trainer.max_epochs=2", *QUICK[3:]]
    done = run(tmp_path, "train.py", *arguments, **NARROW)
    assert done.returncode == 2 and "model.hidden_units" in done.stderr
    head, _, *rows = done.stdout.splitlines()[-5:]
    assert head.split() == ["job", "changed", "val/acc", "test/acc", "run", "status"]
    cells = [row.split() for row in rows]
    assert [row[:2] for row in cells] == [
        [str(job), f"model.hidden_units=[{size}]"] for job, size in enumerate((8, 64, 0))
    ]
    assert cells[1][-1] == "best" and cells[0][-1] == "finished" and cells[2][2:] == ["refused"]
    assert float(cells[1][2]) > float(cells[0][2])
    runs = re.findall(r"MLflow run\s+(\w+)", done.stdout)
    assert [row[4] for row in cells[:2]] == [run_id[:8] for run_id in dict.fromkeys(runs)]
    assert max(map(len, done.stdout.splitlines()[-5:])) <= 80


def test_one_job_has_no_table(capsys):
    show_summary([Ending(("seed=1",))])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "status"),
    [(UsageError("no"), "refused"), (RuntimeError("no"), "failed"), (Interruption(signal.SIGINT), "stopped")],
)
def test_a_job_that_ends_badly_is_a_row_too(error, status):
    endings = []
    with pytest.raises(type(error)), ending_of(SimpleNamespace(overrides=("seed=1",)), endings):
        raise error
    assert [ending.status for ending in endings] == [status]


def test_what_all_jobs_share_is_not_repeated():
    jobs = [Ending(("model=mlp", "seed=1")), Ending(("model=mlp", "seed=2", "batch_size=8"))]
    assert differing(jobs) == ["seed=1", "seed=2 batch_size=8"]


def test_the_best_is_by_accuracy_then_loss_and_needs_another():
    def job(accuracy: float, loss: float) -> Ending:
        return Ending((), metrics={"val/acc": accuracy, "val/loss": loss})

    assert best_of([job(0.9, 0.3), job(0.9, 0.2), job(0.8, 0.1), Ending(())]) == 1
    assert best_of([job(0.9, 0.3), Ending(())]) is None


@pytest.mark.parametrize("name", ["joblib", "submitit_local", "submitit_slurm"])
def test_a_launcher_that_loses_exit_codes_and_signals_is_refused_with_the_reason(tmp_path, name):
    done = run(tmp_path, "train.py", "-m", "seed=1,2", f"hydra/launcher={name}")
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: hydra/launcher={name} runs each job in a process of its own") and "sbatch" in line
