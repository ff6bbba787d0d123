"""A whole sweep, as a user runs it, and what can be done with what it leaves."""

from __future__ import annotations

import csv
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time

import pytest
from optuna.trial import TrialState

import warm
from cnnlab.report.leaderboard import make_rows
from cnnlab.report.read import read_store
from cnnlab.sweeps.storage import RUN
from cnnlab.sweeps.study import RESULT, counted
from cnnlab.tracking.tracked_run import rounded
from sweep_commands import ROOT, bare_environment, failures, reported, run, start, study_in, tracked, tracked_runs

SWEEP = ["trainer.max_epochs=2", "pruner=none", "sweep.final_seeds=2", "tracking.log_model=false"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    said = run(folder, *SWEEP, "sweep.n_trials=5", "sweep.n_workers=2")
    assert not failures(folder)
    (output,) = (file.parent for file in folder.glob("outputs/*/*/trials.csv"))
    return folder, output, said


def runs_by_role(folder):
    runs = tracked_runs(folder)
    (parent,) = (found for found in runs if found.data.tags.get("sweep.role") == "sweep")
    finals = [found for found in runs if found.data.tags.get("sweep.role") == "winner"]
    return parent, [found for found in runs if found.data.tags.get("sweep.role") == "trial"], finals


def test_trials_are_children_of_one_run(swept):
    folder, _, _ = swept
    parent, trials, finals = runs_by_role(folder)
    assert {found.data.tags["mlflow.parentRunId"] for found in [*trials, *finals]} == {parent.info.run_id}
    assert sorted(int(found.data.tags["trial.number"]) for found in trials) == [0, 1, 2, 3, 4]
    assert {found.info.status for found in [parent, *trials, *finals]} == {"FINISHED"}
    study = study_in(folder)
    for trial in study.get_trials():
        found = tracked(folder).get_run(trial.user_attrs[RUN])
        assert found.data.params["optimizer.lr"] == str(trial.params["optimizer.lr"])
        assert found.data.tags["trial.state"] == trial.state.name.lower()


def test_the_threads_of_a_worker_are_said_and_stand_in_the_winners_file(swept):
    _, output, said = swept
    share = max(1, warm.cores() // 2)
    assert f"2 workers, CPU threads of each: {share}, " in said
    assert f"\n# Found with threads={share}, which repeats it" in (output / "experiment" / "best.yaml").read_text()


def test_only_the_winner_is_tested_and_by_mean_and_spread(swept):
    folder, _, said = swept
    parent, trials, finals = runs_by_role(folder)
    assert not [name for found in trials for name in found.data.metrics if name.startswith("test/")]
    accuracies = [found.data.metrics["test/acc"] for found in finals]
    assert sorted(found.data.params["seed"] for found in finals) == ["1", "2"]
    assert parent.data.metrics["winner/test/acc_mean"] == pytest.approx(statistics.fmean(accuracies))
    assert parent.data.metrics["winner/test/acc_std"] == pytest.approx(statistics.stdev(accuracies), abs=1e-6)
    assert f"{statistics.fmean(accuracies):.4f} ± {statistics.stdev(accuracies):.4f} (n=2)" in said


def test_the_run_keeps_table_plots_and_winner(swept):
    folder, output, _ = swept
    parent, _, _ = runs_by_role(folder)
    client = tracked(folder)
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} == {
        *("trials.csv", "plots", "experiment", "figures")
    }
    plots = {item.path for item in client.list_artifacts(parent.info.run_id, "plots")}
    names = ("history", "importances", "parallel_coordinate", "slice", "pairs", "intermediate_values")
    tables = {"plots/plots.html", "plots/importances.csv"}
    assert plots == tables | {f"plots/{name}.png" for name in names}
    page = (output / "plots" / "plots.html").read_text()
    # Five trials are too few for importances: a sentence stands there.
    assert page.count("Plotly.newPlot(") >= len(names) - 2 and "fewer than 10" in page
    assert "python train.py --config-dir" in page
    rows = list(csv.DictReader((output / "trials.csv").open()))
    study = study_in(folder)
    assert [row["state"] for row in rows] == [trial.state.name.lower() for trial in study.get_trials()]
    best = max(float(row["val/acc"]) for row in rows if row["state"] == "complete")
    assert float(parent.data.metrics["best_trial/val/acc"]) == pytest.approx(best, abs=1e-6)


def test_in_mlflow_a_sweep_and_its_trials_say_what_came_of_them(swept):
    folder, _, _ = swept
    parent, trials, finals = runs_by_role(folder)
    first, found, again, picture, _ = parent.data.tags["mlflow.note.content"].split("\n\n")
    assert re.fullmatch(r"best is trial \d: val/acc 0\.\d+; 5 trials \(.*\); trained again: test/acc .* \(n=2\)", first)
    assert "optimizer.lr=" in found and "experiment=best" in again and "sweep.py" in again
    assert picture == f"![](get-artifact?path=figures%2Fdescription.png&run_uuid={parent.info.run_id})"
    for run_of in [parent, *trials, *finals]:
        (data,) = run_of.inputs.dataset_inputs
        assert data.dataset.name == "digits"
    for trial in trials:
        state, note = trial.data.tags["trial.state"], trial.data.tags["mlflow.note.content"]
        assert trial.info.run_name.endswith("" if state == "complete" else f", {state}")
        assert re.match(r"(\w+: )?val/acc 0\.\d{4} at epoch \d of \d\n\n```\npython train.py ", note)
        assert trial.data.tags["parameters"] and trial.data.tags["cnnlab.source"]


@pytest.mark.slow
def test_the_winner_runs_as_an_experiment(swept, tmp_path):
    folder, output, _ = swept
    best = study_in(folder).best_trial
    trained(tmp_path, "--config-dir", str(output), "experiment=best")
    (found,) = tracked_runs(tmp_path)
    assert found.data.params["optimizer.lr"] == str(best.params["optimizer.lr"])
    assert found.data.params["model.hidden_units"] == best.params["model.hidden_units"]
    assert found.data.params["trainer.max_epochs"] == "2"
    # The same seed as the trials: the winner's own training again, to the last digit that is kept.
    assert found.data.metrics["val/acc"] == rounded("val/acc", best.user_attrs[RESULT]["val/acc"])


def test_a_changed_space_or_objective_is_refused_with_the_difference(swept):
    folder, _, _ = swept
    change = ["sweep.objective=val/loss", "optimizer.eps=1e-6", '+search.optimizer.weight_decay="choice(0, 0.1)"']
    said = run(folder, *SWEEP, *change, code=2)
    assert "sweep.objective is ['val/loss'], but ['val/acc'] in the study" in said
    assert "search.optimizer.weight_decay is 'choice(0, 0.1)', but absent in the study" in said
    assert "optimizer.eps is 1e-06, but 1e-07 in the study" in said


@pytest.mark.slow
def test_more_trials_continue_the_study(tmp_path):
    run(tmp_path, "sweep.n_trials=2")
    before = [trial.params for trial in study_in(tmp_path).get_trials()]
    said = run(tmp_path, "sweep.n_trials=4")
    assert "continues with 2 of 4 trials" in said
    trials = study_in(tmp_path).get_trials()
    assert [trial.params for trial in trials[:2]] == before
    assert len(trials) == 4
    assert len(runs_by_role(tmp_path)[1]) == 4


@pytest.mark.slow
def test_a_sweep_in_which_no_trial_ran_to_its_end_still_has_a_winner(tmp_path):
    waiting = ["trainer.max_epochs=2", "+pruner.bootstrap_count=9", "sweep.n_trials=3", "sweep.final_seeds=1"]
    said = run(tmp_path, *waiting)
    trials = study_in(tmp_path).get_trials()
    assert {trial.state for trial in trials} == {TrialState.PRUNED}
    best = max(trials, key=lambda trial: trial.values[0])
    assert f"{best.number}: val/acc {best.values[0]:.4g}, pruned after epoch 1" in said
    parent, _, finals = runs_by_role(tmp_path)
    assert parent.data.tags["sweep.best_trial"] == str(best.number)
    assert [found.data.metrics["epochs"] for found in finals] == [2]
    assert [found.data.params["optimizer.lr"] for found in finals] == [str(best.params["optimizer.lr"])]


@pytest.mark.slow
def test_when_every_trial_fails_the_sweep_stops_with_the_reason(tmp_path):
    diverging = ["optimizer=sgd", "search=none", '+search.optimizer.lr="interval(1e30, 2e30)"']
    said = run(tmp_path, *diverging, "sweep.stop_after_failures=3", code=2)
    assert "every trial failed: Diverged: the loss is nan in epoch 1, step " in said
    assert len(study_in(tmp_path).get_trials()) == 3
    parent, trials, _ = runs_by_role(tmp_path)
    assert parent.info.status == "FAILED"
    assert {found.info.status for found in trials} == {"FAILED"}


@pytest.mark.slow
def test_an_interrupted_sweep_ends_its_trials_as_killed_and_writes_its_summary(tmp_path):
    long = ["trainer.max_epochs=200", "callbacks=best_checkpoint", "pruner=none", "sweep.n_trials=3"]
    process = start(tmp_path, *long)
    while process.poll() is None and not reported(tmp_path):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 130, said
    parent, trials, _ = runs_by_role(tmp_path)
    stopped, run_id, command = said.strip().splitlines()[-3:]
    assert stopped == "error: stopped by SIGINT"
    assert run_id == f"MLflow run {parent.info.run_id} is KILLED; the same command continues the sweep:"
    assert command == parent.data.tags["command"] and "sweep.n_trials=3" in command
    assert parent.info.status == "KILLED"
    assert {found.info.status for found in trials} == {"KILLED"}
    assert "trials.csv" in {item.path for item in tracked(tmp_path).list_artifacts(parent.info.run_id)}
    states = [trial.state for trial in study_in(tmp_path).get_trials()]
    assert states == [TrialState.FAIL, TrialState.WAITING]
    assert len(counted(study_in(tmp_path).get_trials())) == 1


def trained(folder, *arguments: str) -> None:
    """Train in a folder, which has to succeed."""
    command = [sys.executable, str(ROOT / "train.py"), *arguments, "figures.enabled=false"]
    subprocess.run(command, cwd=folder, env=bare_environment(), check=True, capture_output=True)


def typed(folder, command: str):
    """Run a command as a report prints it, in an empty folder, and return the runs it leaves."""
    program, door, *arguments = shlex.split(command)
    assert (program, door) == ("python", "train.py")
    trained(folder, *arguments)
    return tracked_runs(folder)


@pytest.mark.slow
def test_the_leaderboard_repeats_the_winner(swept, tmp_path):
    folder, _, _ = swept
    _, _, finals = runs_by_role(folder)
    (row,) = make_rows(read_store(f"sqlite:///{folder}/mlruns/mlflow.db").runs)
    assert set(row.run_ids) == {found.info.run_id for found in finals}
    repeated = typed(tmp_path, row.command)
    assert sorted(run.data.metrics["test/acc"] for run in repeated) == sorted(row.test_accuracy.values)


@pytest.mark.slow
def test_the_leaderboard_repeats_the_best_trial_of_a_sweep_without_a_winner(tmp_path_factory):
    folder, elsewhere = tmp_path_factory.mktemp("sweep"), tmp_path_factory.mktemp("typed")
    lists = ["search=none", '+search.model.hidden_units.1="choice(8, 16)"']
    run(folder, *lists, '+search.optimizer.lr="interval(0.01, 0.02)"', "sweep.n_trials=3", "seed=4")
    best = study_in(folder).best_trial
    (row,) = make_rows(read_store(f"sqlite:///{folder}/mlruns/mlflow.db").runs)
    assert row.run_ids == (best.user_attrs[RUN],)
    assert row.test_accuracy is None
    (repeated,) = typed(elsewhere, row.command)
    assert repeated.data.metrics["best/val/acc"] == rounded("val/acc", best.value)
    assert repeated.data.params["optimizer.lr"] == str(best.params["optimizer.lr"])
