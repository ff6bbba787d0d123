"""What a user types and reads: paths as they are called, and help that fits the screen."""

from __future__ import annotations

import io
import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from rich.console import Console

from cnnlab.console import show_closing
from cnnlab.options import options_first
from cnnlab.quoting import quote_texts
from cnnlab.report.__main__ import main as report
from commands import run

NAMES = [
    "사진/고양이.png",
    "photo (1).png",
    "it's.png",
    'a "b" c.png',
    "[x]{y},z=1.png",
    "back\\slash\\'.png",
    "end\\",
    "12e34",
]


@pytest.mark.parametrize("value", [*NAMES, "plain.png", "/tmp/a-b_c.png", "~/x.png"])
def test_a_path_arrives_as_it_was_typed(value):
    (argument,) = quote_texts([f"image={value}"])
    (override,) = OverridesParser.create().parse_overrides([argument])
    assert override.key_or_group == "image" and override.value() == value
    assert not override.is_sweep_override()


@pytest.mark.parametrize(
    "argument",
    ["image='a b'", 'run="x"', "image=null", "image=${oc.env:HOME}", "model=mlp", "model.filters=[1,2]", "-m"],
)
def test_what_hydra_has_to_read_is_left_alone(argument):
    assert quote_texts([argument]) == [argument]


def test_a_multirun_keeps_its_commas():
    assert quote_texts(["-m", "dataset.path=a b,c"]) == ["-m", "dataset.path=a b,c"]


def test_an_image_of_any_name_is_read(trained, tmp_path):
    path = tmp_path / "사진" / "it's a photo (1).png"
    path.parent.mkdir()
    Image.new("L", (28, 28), 30).save(path)
    done = run(trained.folder, "predict.py", "run=best", f"image={path}")
    assert done.returncode == 0, done.stderr
    assert "it's a photo (1).png" in done.stdout


def test_another_settings_value_is_told_how_to_be_typed(tmp_path):
    done = run(tmp_path, "train.py", "model.name=a (b)")
    assert done.returncode == 2
    assert done.stderr == "error: model.name=a (b) cannot be read; put its value into quotes: \"model.name='a (b)'\"\n"


@pytest.mark.parametrize(
    ("door", "words", "absent"),
    [
        ("train.py", ["optimizer.lr=0.001: learning rate; a number above 0", "augmentation: affine"], "pruner:"),
        ("sweep.py", ["sweep.n_workers=1: ", "pruner: hyperband"], "split="),
        ("evaluate.py", ["split=test: which images are measured; train, val, test"], "optimizer"),
        ("predict.py", ["image=null: an image file of any size"], "optimizer"),
    ],
)
def test_help_lists_what_a_command_takes_in_80_columns(tmp_path, door, words, absent):
    done = run(tmp_path, door, "--help")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    joined = " ".join(done.stdout.split())
    for word in words:
        assert word in joined
    assert absent not in joined
    assert not list(tmp_path.iterdir())


def test_help_follows_the_groups_that_were_chosen(tmp_path):
    said = run(tmp_path, "train.py", "model=mlp", "optimizer=sgd", "--help").stdout
    assert "optimizer.nesterov=false" in said and "model.filters" not in said
    done = run(tmp_path, "train.py", "model=mpl", "--help")
    assert done.returncode == 2 and "did you mean 'mlp'?" in done.stderr


def test_help_lists_a_users_own_options_too(tmp_path):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "tiny.yaml").write_text("defaults: [mlp]\n\nname: tiny\n")
    for own in ([], ["--config-dir=conf"], ["--config-dir", "conf"]):
        said = " ".join(run(tmp_path, "train.py", "seed=1", *own, "model=tiny", "--help").stdout.split())
        assert "simple_cnn, tiny" in said and "model.name=tiny" in said, own


def test_options_stand_anywhere():
    given = ["model=dnn", "-m", "seed=1,2", "--config-dir", "my conf", "--cfg=job", "lr=1"]
    assert options_first(given) == ["-m", "--config-dir", "my conf", "--cfg=job", "model=dnn", "seed=1,2", "lr=1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train.py", "seed=1", "--mutlirun", "seed=2"], "option='--mutlirun' is unknown; allowed: "),
        (["train.py", "--confg-dir=x"], "did you mean '--config-dir'?"),
        (["train.py", "--experimental-rerun=x.pickle"], "option='--experimental-rerun' is unknown"),
    ],
)
def test_a_mistyped_option_is_one_line(tmp_path, arguments, words):
    done = run(tmp_path, *arguments)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and words in line


def test_a_mistyped_option_of_the_report_is_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        report(["--foo"])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --foo; --help lists what there is\n"


def test_epoch_lines_fit_80_columns(trained):
    lines = [line for line in trained.output.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 3 and max(map(len, lines)) <= 80
    assert all("train/loss" in line and "val/loss" in line for line in lines)


def test_on_a_terminal_links_and_commands_are_not_broken(monkeypatch):
    screen = Console(force_terminal=True, width=80, file=io.StringIO(), highlight=False)
    monkeypatch.setattr("cnnlab.console.console", screen)
    link = "make ui, then http://127.0.0.1:5000/#/experiments/1/runs/6d7da29401a1461284dd01bfe6eb2307?workflowType=x"
    show_closing({"test/acc": "0.9833", "open it": link})
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in screen.file.getvalue().splitlines()]
    assert link in lines
    assert max(len(line) for line in lines if line != link) <= 80
    assert any("test/acc" in line and "0.9833" in line for line in lines)
