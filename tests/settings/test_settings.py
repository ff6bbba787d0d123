"""The typed settings: what ships fits them, and what does not is one line with what is allowed."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from hydra.errors import ConfigCompositionException
from omegaconf import ListConfig

from cnnlab.compose import composing_error
from cnnlab.data import SOURCES, augmentation
from cnnlab.descent import scheduler_maker
from cnnlab.errors import UsageError
from cnnlab.measures import KINDS
from cnnlab.models import NETWORKS
from cnnlab.models.initializers import INITIALIZERS
from cnnlab.models.layers import ACTIVATIONS, POOLINGS
from cnnlab.optimizers import OPTIMIZERS
from cnnlab.settings import augmentation as augmented
from cnnlab.settings import commands, dataset, description, model, training
from cnnlab.settings.base import Own, Section
from cnnlab.settings.commands import Training
from cnnlab.settings.keys import belongs_to
from cnnlab.settings.read import allowed, examine, names_of, read
from cnnlab.settings.trained import Evaluation, Export, Prediction
from cnnlab.tracking.schema import MEASURES, Measure
from commands import ROOT, composed


def problems(kind: type[Section], values: dict, path: str = "") -> list[str]:
    with pytest.raises(UsageError) as raised:
        read(kind, values, path)
    return raised.value.problems


class TestShipped:
    @pytest.mark.parametrize("group", ["dataset", "model", "regularization", "augmentation", "optimizer", "scheduler"])
    def test_every_file_of_a_group_fits_and_loses_nothing(self, group):
        for file in (ROOT / "conf" / group).glob("*.yaml"):
            code = ["dataset._target_=x.Y"] if (group, file.stem) == ("dataset", "own") else []  # not there yet
            values = composed(f"{group}={file.stem}", *code)
            settings = read(Training, values)
            assert settings.plain()[group] == values[group], file
            assert getattr(settings, group).name == {"torchvision": "resnet18"}.get(file.stem, file.stem)
            assert not isinstance(getattr(settings, group), Own)

    @pytest.mark.parametrize(("kind", "name"), [(Evaluation, "evaluate"), (Prediction, "predict"), (Export, "export")])
    def test_the_other_commands_fit(self, kind, name):
        values = composed("run=abcdef", config_name=name)
        assert read(kind, values).plain()["run"] == "abcdef"

    def test_every_name_has_its_code(self):
        assert set(get_args(model.Activation)) == set(ACTIVATIONS)
        assert set(get_args(model.Initializer)) == set(INITIALIZERS)
        assert set(names_of(model.ConvNet.model_fields["pooling"].annotation)) == set(POOLINGS)
        assert set(model.NETWORKS) == {*NETWORKS, "torchvision"}
        assert set(training.OPTIMIZERS) == set(OPTIMIZERS)
        for name in training.SCHEDULERS:
            assert (scheduler_maker(read(Training, composed(f"scheduler={name}")).scheduler) is None) == (
                name == "none"
            )
        assert (
            set(augmented.AUGMENTATIONS) - {"none", "parts"} == set(augmentation.KINDS) == set(get_args(augmented.Part))
        )
        assert set(dataset.ARCHIVES) == set(names_of(dataset.Archive.model_fields["name"].annotation)) == set(SOURCES)
        assert set(get_args(Measure)) == set(MEASURES) == set(KINDS)

    @pytest.mark.parametrize("module", [augmented, commands, dataset, description, model, training])
    def test_every_field_has_a_sentence(self, module):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Section):
                assert all(field.description for field in kind.model_fields.values()), kind

    def test_the_environment_moves_the_root(self, monkeypatch):
        monkeypatch.setenv("CNNLAB_DATA", "/elsewhere")
        assert composed("dataset=mnist")["dataset"]["root"] == "/elsewhere"
        assert composed("dataset=mnist", "dataset.root=here")["dataset"]["root"] == "here"
        monkeypatch.delenv("CNNLAB_DATA")
        assert composed("dataset=mnist")["dataset"]["root"] == "data"


LIST = "a list of whole numbers of at least 1, such as"
EACH = "a whole number of at least 1, or a list with one for each of model.filters"
EACH_POOL = "a whole number of at least 1, 0 or null, or a list with one for each of model.filters"
SHARE = "a number of at least 0 and below 1"


class TestModel:
    @pytest.mark.parametrize(
        ("changes", "shown", "takes"),
        [
            ({"filters": "abc"}, "filters='abc'", f"{LIST} [32, 64]"),
            ({"filters": 32}, "filters=32", f"{LIST} [32, 64]"),
            ({"filters": []}, "filters=[]", f"{LIST} [32, 64]"),
            ({"filters": None}, "filters=null", f"{LIST} [32, 64]"),
            ({"filters": [0]}, "filters=[0]", f"{LIST} [32, 64]"),
            ({"filters": [8, True]}, "filters=[8, true]", f"{LIST} [32, 64]"),
            ({"hidden_units": -1}, "hidden_units=-1", f"{LIST} [64], or [] for none"),
            ({"hidden_units": ["a"]}, "hidden_units=['a']", f"{LIST} [64], or [] for none"),
            ({"kernel_size": 2.5}, "kernel_size=2.5", EACH),
            ({"kernel_size": None}, "kernel_size=null", EACH),
            ({"kernel_size": [3]}, "kernel_size=[3]", f"{EACH}: 1 given for 4 filters"),
            ({"stride": 0}, "stride=0", EACH),
            ({"stride": "2"}, "stride='2'", EACH),
            ({"pool_size": -2}, "pool_size=-2", EACH_POOL),
            ({"pool_size": [2, 2, 2]}, "pool_size=[2, 2, 2]", f"{EACH_POOL}: 3 given for 4 filters"),
        ],
    )
    def test_a_wrong_value_is_one_line(self, changes, shown, takes):
        values = composed("model=deep_cnn")
        values["model"] |= changes
        key = shown.split("=")[0]
        assert problems(Training, values) == [f"model.{shown} is not allowed; model.{key} takes {takes}"]

    @pytest.mark.parametrize(
        ("key", "value", "nearest"),
        [
            ("activation", "rleu", "relu"),
            ("conv_initializer", "glorot_norm", "glorot_normal"),
            ("dense_initializer", "he_unifrom", "he_uniform"),
            ("padding", "smae", "same"),
            ("pooling", None, "none"),
            ("network", "convent", "convnet"),
        ],
    )
    def test_an_unknown_name_is_told_the_nearest(self, key, value, nearest):
        values = composed("model=deep_cnn")
        values["model"][key] = value
        (line,) = problems(Training, values)
        shown = "null" if value is None else repr(value)
        assert line.startswith(f"model.{key}={shown} is unknown; allowed: ")
        assert line.endswith("; did you mean 'none'?" if value is None else f"; did you mean '{nearest}'?")

    def test_true_is_no_name(self):
        values = composed("model=deep_cnn", "model.normalization=true")
        assert problems(Training, values) == [
            "model.normalization=true is not allowed; model.normalization takes none, batch"
        ]

    def test_a_list_of_omegaconf_reads_like_any_other(self):
        values = composed("model=deep_cnn")
        values["model"]["filters"] = list(ListConfig([8, 8]))
        values["model"]["pool_size"] = [2, None]
        assert read(Training, values).model.pool_size == (2, None)


class TestSections:
    @pytest.mark.parametrize("value", [-0.1, 1, 1.5, "half", None, True, float("nan")])
    @pytest.mark.parametrize("key", ["dataset.validation.fraction", "regularization.dense_dropout"])
    def test_a_share_out_of_range(self, key, value):
        values = composed()
        *path, last = key.split(".")
        section = values
        for part in path:
            section = section[part]
        section[last] = value
        (line,) = problems(Training, values)
        assert line.startswith(f"{key}=") and line.endswith(f"{key} takes {SHARE}")

    @pytest.mark.parametrize(
        ("override", "line"),
        [
            (
                "dataset.scaling=standart",
                "dataset.scaling='standart' is unknown; allowed: raw, unit, standard; did you",
            ),
            ("dataset.name=mnits", "dataset.name='mnits' is unknown; allowed: digits, mnist, fashion_mnist, kmnist, "),
            (
                "optimizer.name=adma",
                "optimizer.name='adma' is unknown; allowed: adam, adamw, rmsprop, sgd; did you mean",
            ),
            (
                "optimizer.betas=[0.9]",
                "optimizer.betas=[0.9] is not allowed; optimizer.betas takes 2 values, each a num",
            ),
            ("optimizer.fused=3", "optimizer.fused=3 is not allowed; optimizer.fused takes true or false, or null"),
            ("seed=1.5", "seed=1.5 is not allowed; seed takes a whole number of at least 0 and at most 4294967295"),
            ("batch_size={a:1}", "batch_size={'a': 1} is not allowed; batch_size takes a whole number of at least 1"),
            ("dataset.root=5", "dataset.root=5 is not allowed; dataset.root takes a text that is not empty"),
            (
                "tracking.run_name=' '",
                "tracking.run_name=' ' is not allowed; tracking.run_name takes a text that is not",
            ),
            (
                "callbacks.early_stopping=5",
                "callbacks.early_stopping=5 is not allowed; callbacks.early_stopping takes a",
            ),
            ("callbacks.checkpoint=null", "callbacks.checkpoint is missing"),
            ("~optimizer.lr", "optimizer.lr is missing"),
            ("+epochs=3", "epochs is no setting; allowed: seed, batch_size, "),
            ("+optimizer.speed=3", "optimizer.speed is no setting; allowed: name, lr, betas, eps, epsilon_placement, "),
            (
                "+callbacks.timer={every: 3}",
                "callbacks.timer is no setting; allowed: checkpoint, early_stopping, ",
            ),
            ("dataset.validation=null", "dataset.validation is missing"),
        ],
    )
    def test_a_wrong_value_is_one_line(self, override, line):
        found = problems(Training, composed(override))
        assert len(found) == 1 and found[0].startswith(line), found

    def test_momentum_is_what_nesterov_needs(self):
        (line,) = problems(Training, composed("optimizer=sgd", "optimizer.nesterov=true"))
        assert line == "optimizer.nesterov=true needs a momentum, but optimizer.momentum=0.0"
        read(Training, composed("optimizer=sgd", "optimizer.nesterov=true", "optimizer.momentum=0.9"))

    def test_all_problems_are_reported_together_with_the_sections_that_have_none(self):
        values = composed("model.filters=abc", "model.kernel_size=2.5", "dataset.validation.method=lats", "seed=-1")
        examined = examine(Training, values)
        assert [line.split("=")[0] for line in examined.problems] == [
            "seed",
            "dataset.validation.method",
            "model.filters",
            "model.kernel_size",
        ]
        assert {"trainer", "tracking", "optimizer"} <= examined.sections.keys()
        assert not {"dataset", "model"} & examined.sections.keys()

    def test_what_a_trainer_takes_beyond_the_named_flags_is_lightnings(self):
        settings = read(Training, composed("+trainer.gradient_clip_val=1"))
        assert settings.trainer.flags["gradient_clip_val"] == 1

    def test_a_users_own_code_keeps_its_arguments(self):
        own = read(Training, composed("+optimizer._target_=torch.optim.Adagrad")).optimizer
        assert isinstance(own, Own) and own.target == "torch.optim.Adagrad"
        assert own.arguments.keys() == {"lr", "betas", "eps", "epsilon_placement", "weight_decay", "fused"}


def test_settings_are_frozen():
    settings = read(Training, composed())
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 3  # type: ignore[misc]


def test_the_digest_knows_settings_and_neither_seed_nor_place():
    def digest(*overrides: str) -> str:
        return read(Training, composed(*overrides)).digest()

    places = ("seed=5", "dataset.root=x", "tracking.run_name=y", "trainer.accelerator=cpu", "figures.enabled=false")
    assert digest(*places) == digest() == digest("optimizer.lr=1e-3")
    assert len({digest(), digest("optimizer.lr=0.002"), digest("model=mlp"), digest("batch_size=64")}) == 4


@pytest.mark.parametrize(
    ("form", "words"),
    [(bool, "true or false"), (float | None, "a number, or null"), (torch.Tensor, "a value"), (str, "a text")],
)
def test_types_in_words(form, words):
    assert allowed(form) == words


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("dataset.path", "dataset.path belongs to dataset=image_folder"),
        ("dataset.channels", "dataset.channels belongs to dataset=image_folder"),
        ("model.filters", "model.filters belongs to model=convnet (or another of model.network=convnet)"),
        ("optimizer.nesterov", "optimizer.nesterov belongs to optimizer=sgd"),
        ("dataset.root", "dataset.root needs dataset=NAME beside it"),
        ("optimizer._target_", ""),
        ("trainer.max_epochs", ""),
        ("model.filterz", ""),
        ("dataset", ""),
    ],
)
def test_a_key_of_another_option_says_whose_it_is(key, line):
    assert belongs_to(Training, key) == line


def test_both_ways_of_giving_a_key_of_another_option_say_whose_it_is():
    for door in ("train", "evaluate"):
        error = ConfigCompositionException("Could not override 'dataset.path'.")
        assert composing_error(error, door) == "dataset.path belongs to dataset=image_folder"
    error = ConfigCompositionException("Could not override 'optimizer.nesterov'.")
    assert composing_error(error, "evaluate").startswith("optimizer.nesterov is no setting")
    (line,) = problems(Training, composed("model=dnn", "+model.filters=[3]"))
    assert line.endswith("; model.filters belongs to model=convnet (or another of model.network=convnet)")
