"""What the wheel holds."""

from __future__ import annotations

import tomllib
import zipfile

from commands import ROOT
from strangers.conftest import build_wheel


def test_the_wheel_holds_every_module_and_the_whole_configuration(tmp_path):
    with zipfile.ZipFile(build_wheel(tmp_path)) as archive:
        names = set(archive.namelist())
    for here, there in ((ROOT / "src", ""), (ROOT / "conf", "cnnlab/conf/")):
        files = [file for file in here.rglob("*.*") if file.suffix in (".py", ".yaml")]
        assert {f"{there}{file.relative_to(here).as_posix()}" for file in files} <= names
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"cnnlab": "cnnlab.__main__:main"}
