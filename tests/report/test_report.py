"""python -m cnnlab.report over a real tracking store."""

from __future__ import annotations

import csv
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import mlflow
import pytest

from cnnlab.errors import UsageError
from cnnlab.report.__main__ import main, parse_since
from cnnlab.report.read import read_store
from cnnlab.tracking.schema import Role, Tag
from cnnlab.tracking.store import prepare

COMMON = {"model": "dnn", "regularization": "none", "parameters": "51450", "settings": "s1", "device": "cpu"}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> mlflow.MlflowClient:
    """Three seeds of a recipe, one running, one on another dataset, one deleted, and one of another program."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('tracked')}/mlflow.db"
    prepare(uri, "mnist")
    client = mlflow.MlflowClient(uri)

    def add(dataset, seed, accuracy, status="FINISHED", **tags):
        experiment = prepare(uri, dataset)
        tags = COMMON | {"dataset": dataset, "seed": str(seed), "git.commit": "abc"} | tags
        run_id = client.create_run(experiment, tags=tags).info.run_id
        client.log_metric(run_id, "test/acc", accuracy, step=3)
        client.log_metric(run_id, "train/loss", 0.5, step=3)
        client.log_metric(run_id, "best/val/acc", float("nan"), step=3)
        client.log_param(run_id, "optimizer.lr", 0.001)
        client.update_run(run_id, status)
        return run_id

    recipe = {"experiment": "mnist_dnn", "overrides": "experiment=mnist_dnn"}
    for seed, accuracy in ((1, 0.96), (2, 0.97), (3, 0.98)):
        add("mnist", seed, accuracy, **recipe)
    add("mnist", 4, 0.5, "RUNNING", **recipe)
    add("digits", 1, 0.91, settings="s2")
    client.delete_run(add("mnist", 5, 0.1, **recipe))
    client.create_run(prepare(uri, "mnist"), tags={"somebody": "else"})
    return client


@pytest.fixture
def store(tracked, tmp_path, monkeypatch) -> mlflow.MlflowClient:
    """The store of the environment, seen from a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracked.tracking_uri)
    return tracked


def table(folder) -> list[dict[str, str]]:
    (path,) = (folder / "reports").glob("*.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    path.unlink()
    return rows


def test_prints_and_writes_markdown_and_csv(store, tmp_path, capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "reports" / "leaderboard.md").read_text().strip() == printed.strip()
    (line,) = [line for line in printed.splitlines() if "| mnist_dnn" in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:8] == ["mnist_dnn", "mnist", "dnn", "none", "51,450", "3", "0.9700 ± 0.0248"]
    assert "val acc" not in printed, "a column in which nothing stands"
    assert cells[-2:] == ["0.9631", "yes"]
    assert "`python train.py -m experiment=mnist_dnn seed=1,2,3`" in printed
    digits, mnist = table(tmp_path)
    assert (digits["dataset"], digits["n_seeds"], digits["test_accuracy_std"]) == ("digits", "1", "")
    assert float(mnist["test_accuracy_mean"]) == pytest.approx(0.97)
    assert len(mnist["run_ids"].split()) == 3
    assert mnist["validation_accuracy_mean"] == "", "no number is no number"


def test_the_table_is_markdown(store, tmp_path, capsys):
    main([])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1 and len({len(line) for line in rows}) == 1
    assert set(rows[1]) <= set("| -:")


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        (["--dataset", "digits"], {"digits": "1"}),
        (["--experiment", "mnist"], {"mnist": "3"}),
        (["--experiment", "mnist_dnn"], {"mnist": "3"}),
        (["--recipes"], {"mnist": "3"}),
        (["--status", "running"], {"mnist": "1"}),
        (["--status", "all"], {"digits": "1", "mnist": "4"}),
        (["--since", "1d"], {"digits": "1", "mnist": "3"}),
        (["--since", "2999-01-01"], {}),
    ],
    ids=" ".join,
)
def test_filters(store, tmp_path, options, counts):
    assert main(options) == 0
    assert {row["dataset"]: row["n_seeds"] for row in table(tmp_path)} == counts


def test_another_status_leaves_the_leaderboard_alone(store, tmp_path):
    main([])
    before = (tmp_path / "reports" / "leaderboard.md").read_text()
    main(["--status", "running"])
    assert (tmp_path / "reports" / "leaderboard.md").read_text() == before
    assert {path.name for path in (tmp_path / "reports").iterdir()} == {
        *("leaderboard.md", "leaderboard.csv", "leaderboard-running.md", "leaderboard-running.csv"),
        *("report.html", "report-running.html"),
    }


def test_a_reader_that_goes_away_is_no_error(store, tmp_path):
    command = f"{shlex.quote(sys.executable)} -m cnnlab.report | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""


def test_output_files_can_be_named(store, tmp_path):
    assert main(["--output", "RESULTS.md", "--csv", "deep/er.csv", "--html", "page.html"]) == 0
    assert "--output RESULTS.md" in (tmp_path / "RESULTS.md").read_text()
    assert (tmp_path / "deep" / "er.csv").is_file() and (tmp_path / "page.html").is_file()
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dataset", "mnsit"], ["--dataset='mnsit'", "did you mean 'mnist'?"]),
        (["--experiment", "mnist_dn"], ["did you mean 'mnist_dnn'?"]),
        (["--status", "FINISH"], ["--status='FINISH'", "did you mean 'FINISHED'?"]),
        (["--since", "yesterday"], ["--since='yesterday'", "2026-01-31"]),
        (["--uri", "sqlite:///none.db"], ["holds no runs yet"]),
        (["--output", "/proc/no/RESULTS.md"], ["/proc/no/RESULTS.md cannot be written"]),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_line_and_exit_code_2(store, capsys, options, words):
    assert main(options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and len(error.splitlines()) == 1
    for word in words:
        assert word in error


def test_reads_results_alone(store):
    runs = read_store(store.tracking_uri).runs
    assert len(runs) == 5, "three seeds, one running, one of another dataset; nothing deleted or of another program"
    assert all("best/val/acc" not in run.metrics for run in runs), "no number is no number"
    assert {run.experiment for run in runs} == {"mnist", "digits"}


class TestSweeps:
    """A sweep as it stands in the store: its own run, a trial named the best, and perhaps a winner."""

    @pytest.fixture
    def swept(self, tmp_path, monkeypatch) -> mlflow.MlflowClient:
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        prepare(uri, "digits")
        return mlflow.MlflowClient(uri)

    def add(self, client, role, status="FINISHED", metrics=(), **tags):
        tags = {"dataset": "digits", "model": "dnn", "seed": "0", Tag.ROLE: role, **tags}
        named = {key.replace("__", "."): value for key, value in tags.items()}
        run_id = client.create_run(prepare(client.tracking_uri, "digits"), tags=named).info.run_id
        for name, value in metrics:
            client.log_metric(run_id, name, value)
        client.update_run(run_id, status)
        return run_id

    def sweep(self, client, status="FINISHED"):
        """Add a sweep of two trials; return its run and its best trial's."""
        sweep = self.add(client, Role.SWEEP, status, command="python sweep.py search=mlp")
        trials = [
            self.add(
                client,
                Role.TRIAL,
                metrics=[("best/val/acc", value)],
                overrides=f"model=dnn optimizer.lr={value} seed=0",
                **{Tag.PARENT: sweep},
            )
            for value in (0.5, 0.75)
        ]
        client.set_tag(sweep, Tag.BEST_RUN, trials[1])
        return sweep, trials[1]

    def winner(self, client, sweep, status="FINISHED", **tags):
        known = {Tag.PARENT: sweep, "settings": "s1", "command": "python worker.py"} | tags
        return self.add(client, Role.WINNER, status, [("test/acc", 0.8)], **known)

    def only_row(self, tmp_path, *options):
        assert main(list(options)) == 0
        (row,) = table(tmp_path)
        return row

    @pytest.mark.parametrize("status", ["FINISHED", "KILLED", "RUNNING"])
    def test_the_best_trial_stands_for_a_sweep_however_that_ended(self, swept, tmp_path, status):
        _, best = self.sweep(swept, status)
        row = self.only_row(tmp_path)
        assert (row["run_ids"], row["test_accuracy_mean"], row["validation_accuracy_mean"]) == (best, "", "0.75")
        assert row["command"] == "python train.py model=dnn optimizer.lr=0.75 seed=0"

    def test_a_finished_winner_takes_its_place(self, swept, tmp_path):
        sweep, best = self.sweep(swept)
        repeat = "model=dnn optimizer.lr=0.75 seed=1"
        failed = self.winner(swept, sweep, "FAILED", overrides=repeat)
        assert self.only_row(tmp_path)["run_ids"] == best
        assert self.only_row(tmp_path, "--status", "all")["run_ids"] == failed
        won = self.winner(swept, sweep, overrides=repeat)
        row = self.only_row(tmp_path)
        assert (row["run_ids"], row["command"]) == (won, "python train.py model=dnn optimizer.lr=0.75 seed=0")

    def test_a_worker_is_never_the_command(self, swept, tmp_path):
        sweep, _ = self.sweep(swept, "KILLED")
        self.winner(swept, sweep)
        assert self.only_row(tmp_path)["command"] == "python sweep.py search=mlp"
        swept.delete_run(sweep)
        assert self.only_row(tmp_path)["command"] == ""

    def test_a_deleted_trial_does_not_count(self, swept, tmp_path):
        _, best = self.sweep(swept)
        swept.delete_run(best)
        assert main([]) == 0 and table(tmp_path) == []


def test_since():
    assert parse_since("2026-01-31") == datetime(2026, 1, 31).astimezone()
    assert abs(parse_since("2w") - (datetime.now(UTC) - timedelta(days=14))) < timedelta(minutes=1)
    with pytest.raises(UsageError):
        parse_since("7 days")


class TestFormats:
    def test_a_pipe_gets_markdown_and_an_option_anything(self, store, tmp_path, capsys):
        printed = {}
        for name in (None, "markdown", "csv", "table"):
            assert main(["--format", name] if name else []) == 0
            printed[name] = capsys.readouterr().out
        assert printed[None].splitlines()[3:] == printed["markdown"].splitlines()[3:]
        assert printed["csv"] == (tmp_path / "reports" / "leaderboard.csv").read_text()
        assert printed["table"].splitlines()[1].split()[:3] == ["what", "test", "acc"]

    def test_a_table_of_any_width_keeps_every_number_and_command(self, store, monkeypatch, capsys):
        monkeypatch.setenv("COLUMNS", "80")
        assert main(["--format", "table", "--dataset", "mnist"]) == 0
        lines = capsys.readouterr().out.splitlines()
        command = "1. python train.py -m experiment=mnist_dnn seed=1,2,3"
        assert command in lines and max(len(line) for line in lines if line != command) <= 80
        first, second, third = (line.split() for line in lines[3:6])
        assert first == ["1", "mnist_dnn", "0.9700", "3", "0.9631"]
        assert second == ["mnist", "dnn", "none", "cpu", "±", "0.0248", "yes"]
        assert third == ["51,450", "parameters"]

    def test_a_mistyped_format_is_told_with_the_nearest(self, store, capsys):
        assert main(["--format", "markdwn"]) == 2
        assert "did you mean 'markdown'?" in capsys.readouterr().err
