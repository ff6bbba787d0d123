"""What diff.py says of two runs, on a terminal and in a pipe."""

from __future__ import annotations

import mlflow
import pytest
from rich.console import Console

from cnnlab import difference
from cnnlab.difference import as_table, compare
from cnnlab.quoting import name_words
from commands import run

SMALL = (
    "model=dnn",
    "model.hidden_units=[8]",
    "trainer.max_epochs=1",
    "figures.enabled=false",
    "tracking.log_model=false",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with two runs, the ids of which it returns too, the older first."""
    folder = tmp_path_factory.mktemp("two")
    for overrides in (("optimizer.lr=0.001",), ("optimizer.lr=0.01", "dataset.validation.fraction=0.2")):
        done = run(folder, "train.py", *SMALL, *overrides)
        assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    return folder, [item.info.run_id for item in reversed(client.search_runs(["1"]))], client


def test_two_runs_are_told_apart_line_by_line(project):
    folder, (first, second), client = project
    done = run(folder, "diff.py", first[:8], "last")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"A  {first}  dnn-dropout_l2-seed0  FINISHED", f"B  {second}  dnn-dropout_l2-seed0  FINISHED"]
    assert "settings  optimizer.lr: 0.001 -> 0.01" in lines
    assert "settings  dataset.validation.fraction: 0.1 -> 0.2" in lines
    assert "data  images: 1293 train, 144 validation, 360 test -> 1149 train, 288 validation, 360 test" in lines
    accuracies = [f"{client.get_run(item).data.metrics['test/acc']:.4f}" for item in (first, second)]
    assert f"results  test/acc: {accuracies[0]} -> {accuracies[1]}" in lines
    assert len([line for line in lines if line.startswith("settings")]) == 2
    assert lines[-1].startswith("equal: ") and "of settings" in lines[-1] and "of versions" in lines[-1]
    assert run(folder, "diff.py", f"b={second}", f"a={first}").stdout == done.stdout
    assert not list(folder.glob("outputs/*/*/*diff*")) and len(list(folder.glob("outputs/*/*"))) == 2


def test_a_run_is_equal_to_itself(project):
    folder, (first, _), _ = project
    lines = run(folder, "diff.py", first, first).stdout.splitlines()
    assert len(lines) == 3 and lines[2].startswith("equal: ")


def test_on_a_terminal_it_is_a_table_of_80_columns(project, capsys):
    _, ids, client = project
    found = compare(client, *(client.get_run(item) for item in ids))
    Console(width=80, force_terminal=True, no_color=True).print(as_table(found))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[1:])) <= 80  # the heading has codes for bold letters in it
    assert len([line for line in lines if line.startswith("settings")]) == 1
    assert any(line.split()[:3] == ["optimizer.lr", "0.001", "0.01"] for line in lines)


def test_code_packages_and_machine_are_compared(project):
    _, (first, _), client = project
    other = client.create_run("1").info.run_id
    client.set_tag(other, "git.commit", "abc")
    client.set_tag(other, "device.name", "another card")
    client.log_text(other, "torch==9.9.9\nextra==1\n", "environment.txt")
    patch = "diff --git a/x y.py b/x y.py\n--- a/x y.py\n+++ b/x y.py\n@@ -1 +1 @@\n-old\n+new\n"
    client.log_text(other, patch, "uncommitted.diff")
    rows = {
        f"{row.part} {row.name}": (row.a, row.b) for row in compare(client, *map(client.get_run, (first, other))).rows
    }
    assert rows["code git.commit"][1] == "abc"
    assert rows["code uncommitted x y.py"][1].startswith("2 lines (") and rows["code uncommitted x y.py"][0] == "-"
    assert rows["versions torch"][1] == "9.9.9" and rows["versions extra"] == ("-", "1")
    assert rows["machine device.name"][1] == "another card"
    assert rows["results test/acc"][1] == rows["data digest"][1] == "-"
    client.delete_run(other)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give two runs"),
        (("last",), "give two runs"),
        (("last", "best", "third"), "'third' is too many: diff takes KEY=VALUE"),
        (("last", "nothing"), "b='nothing' is unknown; allowed: a run's id, best or last"),
    ],
)
def test_what_is_wrong_is_one_line(project, words, said):
    done = run(project[0], "diff.py", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and said in done.stderr


def test_bare_words_are_runs_and_options_are_not():
    assert name_words(["x", "--config-dir", "conf", "y", "tracking.uri=z"], ("a", "b")) == [
        "a=x",
        "--config-dir",
        "conf",
        "b=y",
        "tracking.uri=z",
    ]
    assert name_words(["b=1", "x"], ("a", "b")) == ["b=1", "a=x"]
    assert name_words(["x"], ()) == ["x"]
    assert set(difference.PARTS) == {"settings", "code", "data", "versions", "machine", "results"}
