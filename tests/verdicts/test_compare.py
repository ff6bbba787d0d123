"""What compare.py says and leaves, with real trainings on the digits and a real store."""

from __future__ import annotations

import csv
import json
import subprocess
import time
from pathlib import Path

import mlflow
import pytest

from cnnlab.settings.comparing import Comparing
from cnnlab.settings.read import read, resolve
from cnnlab.verdicts.comparison import definition
from cnnlab.verdicts.sides import is_run, read_sides
from commands import command, environment, job, run
from sweep_commands import finished

pytestmark = pytest.mark.slow  # the trainings that all of them look at take more than ten seconds

TINY = "model=dnn trainer.max_epochs=1"
FOLDS = "dataset.validation.method=fold"
WEAK, STRONG = f"{TINY} optimizer.lr=1e-6", f"{TINY} optimizer.lr=0.01"


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder with one comparison of a setting that learns nothing with one that learns; and what it said."""
    folder = tmp_path_factory.mktemp("compared")
    done = run(folder, "compare.py", f"a={WEAK}", f"b={STRONG}", "compare.max_seeds=5")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def client_of(folder: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")


def runs_of(folder: Path) -> dict[str, list[mlflow.entities.Run]]:
    """Runs by what they are in a comparison."""
    client = client_of(folder)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found: dict[str, list[mlflow.entities.Run]] = {}
    for item in client.search_runs(ids, max_results=1000):
        found.setdefault(item.data.tags.get("sweep.role", ""), []).append(item)
    return found


def verdict_of(folder: Path) -> dict:
    (file,) = folder.glob("outputs/*/*/verdict.json")
    return json.loads(file.read_text())


def test_the_better_one_is_found_and_no_more_is_trained_than_that_takes(compared):
    folder, said = compared
    kept = verdict_of(folder)
    assert kept["gain"]["answer"] == "better" and 3 <= len(kept["pairs"]) < 5
    assert f"verdict       {kept['verdict']}\n" in said
    assert kept["verdict"].startswith("B better by 0.") and "(95 %)" in kept["verdict"]
    contenders = runs_of(folder)["contender"]
    assert len(contenders) == 2 * len(kept["pairs"])
    assert {item.info.status for item in contenders} == {"FINISHED"}


def test_both_sides_have_the_same_seeds_and_splits_and_the_kept_checkpoints_metric_counts(compared):
    folder, _ = compared
    runs = {item.info.run_id: item for item in runs_of(folder)["contender"]}
    for pair in verdict_of(folder)["pairs"]:
        a, b = (runs[item] for item in pair["runs"])
        assert a.data.tags["seed"] == b.data.tags["seed"] == str(pair["seeds"][0])
        assert a.data.tags["images"] == b.data.tags["images"]
        assert pair["values"] == [a.data.metrics["best/val/acc"], b.data.metrics["best/val/acc"]]
        assert (a.data.params["optimizer.lr"], b.data.params["optimizer.lr"]) == ("1e-06", "0.01")
    started = sorted(runs.values(), key=lambda item: item.info.start_time)
    assert [item.info.run_name for item in started[:4]] == ["a-seed0", "b-seed0", "a-seed1", "b-seed1"]


def test_the_verdict_is_kept_in_one_run_above_the_trainings(compared):
    folder, _ = compared
    runs = runs_of(folder)
    (parent,) = runs["comparison"]
    kept = verdict_of(folder)
    assert parent.data.tags["compare.verdict"] == kept["verdict"] and parent.info.status == "FINISHED"
    assert parent.data.metrics["compare/gain"] == pytest.approx(kept["gain"]["mean"])
    assert {item.data.tags["mlflow.parentRunId"] for item in runs["contender"]} == {parent.info.run_id}
    names = {item.path for item in client_of(folder).list_artifacts(parent.info.run_id)}
    assert names == {"verdict.json", "pairs.csv", "flips.png"}
    (table,) = folder.glob("outputs/*/*/pairs.csv")
    rows = list(csv.DictReader(table.open()))
    assert [float(row["difference"]) for row in rows] == pytest.approx(
        [pair["values"][1] - pair["values"][0] for pair in kept["pairs"]]
    )
    images = kept["images"]
    assert images["count"] == 144 and images["difference"][1] == pytest.approx(kept["gain"]["mean"], abs=1e-6)
    assert images["more_b"] > images["more_a"] and images["mcnemar"] < 0.001


def test_what_is_tracked_already_is_taken_by_another_comparison(compared):
    folder, said = compared
    before = len(runs_of(folder)["contender"])
    again = run(folder, "compare.py", f"a={WEAK}", f"b={STRONG}", "compare.max_seeds=4")
    assert again.returncode == 0, again.stderr
    assert f"{before} trainings are tracked already and are taken" in again.stdout
    assert "B better by" in again.stdout and len(runs_of(folder)["contender"]) == before
    # Another number of seeds is another look, whichever side comes first; the same command again is none.
    earlier = next(item for item in runs_of(folder)["comparison"] if item.data.tags["compare.verdict"] in said)
    warned = f"they were compared before, in run {earlier.info.run_id}: {earlier.data.tags['compare.verdict']}; another"
    assert warned in again.stdout and "which the 0.05 does not cover" in again.stdout
    same = run(folder, "compare.py", f"a={WEAK}", f"b={STRONG}", "compare.max_seeds=5")
    assert same.returncode == 0 and "compared before" not in same.stdout + said
    swapped = run(folder, "compare.py", f"a={STRONG}", f"b={WEAK}", "compare.max_seeds=5")
    assert "they were compared before, in run" in swapped.stdout and ", the latest of 2: B better by" in swapped.stdout
    lines = [line.split(";")[0] for line in again.stdout.splitlines() if line.startswith("seed ")]
    assert lines and all(line in said for line in lines)


@pytest.mark.slow
def test_a_killed_comparison_continues_with_the_same_command(tmp_path):
    texts = [f"a={WEAK}", f"b={STRONG}", "compare.min_seeds=4", "compare.max_seeds=4"]
    process = subprocess.Popen(
        command("compare.py", *texts), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
    )
    while finished(tmp_path) < 3 and process.poll() is None:
        time.sleep(0.2)
    process.kill()
    process.wait()
    done = run(tmp_path, "compare.py", *texts)
    assert done.returncode == 0, done.stderr
    assert "trainings are tracked already and are taken" in done.stdout and "B better by" in done.stdout
    runs = runs_of(tmp_path)
    (parent,) = runs["comparison"]
    assert parent.info.status == "FINISHED"
    assert "RUNNING" not in {item.info.status for item in runs["contender"]}
    ended = [item for item in runs["contender"] if item.info.status == "FINISHED"]
    assert sorted(item.info.run_name for item in ended) == [f"{side}-seed{seed}" for side in "ab" for seed in range(4)]


@pytest.mark.slow
def test_a_setting_against_itself_gets_other_seeds_and_is_not_told_apart(tmp_path):
    done = run(tmp_path, "compare.py", f"a={WEAK}", f"b={WEAK}", "compare.max_seeds=3", "compare.delta=0.01")
    assert done.returncode == 0, done.stderr
    assert "A and B are the same setting: B is trained with seeds of its own, from 3 on" in done.stdout
    assert [pair["seeds"] for pair in verdict_of(tmp_path)["pairs"]] == [[0, 3], [1, 4], [2, 5]]
    assert "indistinguishable after 3 seeds" in done.stdout and "would need about" in done.stdout


@pytest.mark.slow
def test_folds_are_compared_one_pair_each_with_the_same_seed(tmp_path):
    small = "model=dnn model.hidden_units=[8] trainer.max_epochs=1 dataset.validation.method=fold"
    sides = f"a={small} dataset.validation.folds=3", f"b={small} dataset.validation.folds=3 model.hidden_units=[9]"
    done = run(tmp_path, "compare.py", *sides, "compare.folds=true", "compare.seed=4")
    assert done.returncode == 0, done.stderr
    kept = verdict_of(tmp_path)
    assert [pair["folds"] for pair in kept["pairs"]] == [[0, 0], [1, 1], [2, 2]]
    runs = {item.info.run_id: item for item in runs_of(tmp_path)["contender"]}
    for pair in kept["pairs"]:
        for place, run_id in enumerate(pair["runs"]):
            found = runs[run_id].data
            assert (found.tags["seed"], found.tags["fold"]) == ("4", str(pair["folds"][0]))
            assert pair["values"][place] == found.metrics["best/val/acc"]
            assert found.tags["overrides"].endswith(f"dataset.validation.fold={pair['folds'][0]} seed=4")
    assert sorted(item.info.run_name for item in runs.values()) == [
        f"{side}-fold{n}" for side in "ab" for n in range(3)
    ]
    # All images there are, each once, and nothing about seeds that could still be trained: there are no more folds.
    assert kept["images"]["count"] == 1437
    assert "3 folds" in kept["verdict"] and "would" not in kept["verdict"]
    assert "in each of 3 folds, seed 4, 3 to 3 pairs" in done.stdout and "fold 2: A 0." in done.stdout
    again = run(tmp_path, "compare.py", *sides, "compare.folds=true", "compare.seed=4", "compare.alpha=0.1")
    assert again.returncode == 0 and "6 trainings are tracked already and are taken" in again.stdout


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        ((), ['give two sides, such as a="model=mlp" b="model=mlp optimizer.lr=0.01", or a=RUN_ID b=RUN_ID']),
        (("a=model=nothing", "b=model=dnn"), ["a: model='nothing' is unknown; allowed: "]),
        (
            ("a=model=dnn optimizer.lr=-1", "b=model=dnn seed=3 trainer.devices=2"),
            ["a: optimizer.lr=-1 is not allowed; ", "b: seed=3: a side does not take seed; the seeds are common"],
        ),
        (("a=model=dnn", "b=model=dnn trainer.devices=2"), ["b: trainer.devices=2: every training is on one device"]),
        (("a=model=dnn 'x", "b=model=dnn"), ["a=", "cannot be read: no closing quotation"]),
        (
            ("a=model=dnn", "b=model=dnn", "metric=val/kappa"),
            ["a: metric='val/kappa' is not measured; add metrics=[kappa]"],
        ),
        (("a=model=dnn", "b=model=dnn", "metric=vall/acc"), ["did you mean 'val/acc'?", "b: "]),
        (
            ("a=model=dnn", "b=model=dnn dataset.validation.fraction=0.2"),
            ["a and b are not measured on the same images: dataset.validation.fraction=0.1 and 0.2"],
        ),
        (("a=model=dnn", "b=model=dnn dataset.validation.fraction=0"), ["b: ", "fraction=0"]),
        (
            ("a=last", "b=model=dnn"),
            ["a='last' is a run and b are settings; compare two runs, or write a=\"like=last\""],
        ),
        (("a=model=dnn", "b=model=mlp", "compare.min_seeds=2"), ["compare.min_seeds=2 is not allowed; ", "at least 3"]),
        (("a=model=dnn", "b=model=mlp", "compare.max_seeds=3", "compare.min_seeds=5"), ["compare.max_seeds=3"]),
        (
            ("a=model=dnn", "b=model=mlp", "compare.storage=mysql://x"),
            ["compare.storage='mysql://x' is not an address"],
        ),
        (("a=model=dnn", "b=model=mlp", "compare.sedes=3"), ["compare.sedes is no setting; did you mean"]),
        (
            ("a=model=dnn", "b=model=dnn", "compare.folds=true", "compare.max_seeds=5", "compare.min_seeds=6"),
            [
                "a: compare.folds=true needs dataset.validation.method='fold', not 'random'",
                "b: compare.folds=true needs",
                "compare.folds=true needs two settings, and a and b are the same one",
                "compare.min_seeds=6 needs as many folds, but dataset.validation.folds=5",
                "compare.max_seeds=5 is of seeds",
            ],
        ),
        (
            ("a=model=dnn", f"b=model=mlp {FOLDS} dataset.validation.fold=1", "compare.folds=true"),
            ["b: dataset.validation.fold=1: a side does not take dataset.validation.fold; compare.folds=true trains"],
        ),
        (
            (f"a=model=dnn {FOLDS}", f"b=model=mlp {FOLDS}", "compare.folds=true", "metric=test/acc"),
            ["compare.folds=true needs a metric of validation, not metric='test/acc'"],
        ),
        (
            (f"a=model=dnn {FOLDS}", f"b=model=mlp {FOLDS} dataset.validation.folds=4", "compare.folds=true"),
            ["a and b are not measured on the same images: dataset.validation.folds=5 and 4"],
        ),
        (("a=last", "b=best", "compare.folds=true"), ["compare.folds=true is of settings that are trained"]),
    ],
)
def test_what_is_wrong_is_told_in_lines_and_nothing_is_written(tmp_path, overrides, lines):
    done = run(tmp_path, "compare.py", *overrides)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    told = done.stderr
    for line in lines:
        assert line in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "meant"),
    [("last", True), ("0123456789abcdef", True), ("model=mlp", False), ("model=mlp seed=1", False), ("+a=1", False)],
)
def test_one_word_is_a_run(text, meant):
    assert is_run(text) == meant


def test_another_fold_is_another_comparison_and_never_taken_for_the_same(tmp_path):
    def asked(fold: int):
        validation = f"dataset.validation.method=fold dataset.validation.folds=3 dataset.validation.fold={fold}"
        made = job("compare", tmp_path, f"a='{WEAK} {validation}'", f"b='{STRONG} {validation}'")
        settings = read(Comparing, resolve(made.config))
        return definition(settings, *read_sides(settings, made))

    assert asked(0) == asked(0) != asked(1)
