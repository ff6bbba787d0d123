"""Every shipped dataset configuration composes and brings the keys the code reads."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cnnlab.data import SOURCES
from cnnlab.data.scaling import KINDS
from cnnlab.data.split import METHODS

CONF = Path(__file__).parents[2] / "conf"


def composed(name, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(overrides=[f"+dataset={name}", *overrides])
    return OmegaConf.to_container(config, resolve=True)["dataset"]


def test_there_is_a_configuration_for_every_source():
    assert {path.stem for path in (CONF / "dataset").glob("*.yaml")} == set(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_it_composes(name, monkeypatch):
    monkeypatch.delenv("CNNLAB_DATA", raising=False)
    config = composed(name)
    assert config["name"] == name and config["root"] == "data" and config["download"] is True
    assert config["scaling"] in KINDS and config["validation"]["method"] in METHODS
    assert config["validation"] == {"method": "random", "fraction": 0.1, "seed": 42}
    extra = {"path", "image_size", "channels", "test_fraction", "test_seed"} if name == "image_folder" else set()
    assert config["batch_size"] == (32 if name in ("digits", "image_folder") else 128)
    assert config.keys() == {"name", "batch_size", "root", "download", "scaling", "validation"} | extra


def test_the_environment_moves_the_root(monkeypatch):
    monkeypatch.setenv("CNNLAB_DATA", "/elsewhere")
    assert composed("mnist")["root"] == "/elsewhere"
    assert composed("mnist", "dataset.root=here")["root"] == "here"
